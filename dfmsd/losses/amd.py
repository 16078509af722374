"""Adaptive masked distillation, AMD :cite:p:`amd` (arXiv 2301.13538): our re-implementation, none was released."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dfmsd.hyper import Hide
from dfmsd.losses.attention import attention_mask, spatial_attention
from dfmsd.losses.base import Method, squared_error, widened
from dfmsd.losses.blocks import align, gated_generation


def amd_mask(
    feat_t: Tensor,
    *,
    tau: float,
    ratio: float,
    threshold: float | None = None,
    hide: Hide = "highest",
    generator: torch.Generator | None = None,
) -> Tensor:
    """What is hidden of the student, by the teacher's :func:`~dfmsd.losses.attention.spatial_attention`.

    Args:
        feat_t: Teacher's map, ``(B, C, H, W)``.
        tau: Temperature of the attention map.
        ratio: Share of the positions to hide.
        threshold: See :func:`~dfmsd.losses.attention.attention_mask`, as are ``hide`` and ``generator``.
        hide: Which attention is hidden.
        generator: For masks at random.

    Returns:
        Boolean, ``(B, 1, H, W)``, True where hidden.
    """
    attention = spatial_attention(feat_t.detach(), tau=tau)
    return attention_mask(attention, ratio=ratio, threshold=threshold, hide=hide, generator=generator).unsqueeze(1)


def amd_loss(feat_s: Tensor, feat_t: Tensor, *, hidden: Tensor, branch: Callable[[Tensor], Tensor]) -> Tensor:
    r"""Reconstruct the teacher's map from a student's that is hidden where the teacher attends, for one level.

    .. math::
        L_{rec} = \frac{1}{B} \sum_{chw} \big( T - \mathcal{G}(\mathrm{SE}(S \odot M^s)) \big)^2

    Where:
        - :math:`S, T`: ``feat_s``, ``feat_t``
        - :math:`M^s`: 0 where ``hidden``, else 1, see :func:`amd_mask`
        - :math:`\mathcal{G} \circ \mathrm{SE}`: ``branch``

    Args:
        feat_s: Student's map, aligned to the teacher's channels, ``(B, C, H, W)``.
        feat_t: Teacher's map, ``(B, C, H, W)``.
        hidden: Boolean, ``(B, 1, H, W)``.
        branch: SE and generation block.

    Returns:
        Scalar: sum over channels and **all** positions, hidden or not, divided by B.

    Deviations:
        The paper's formulas are not at hand, only that attention instead of chance decides what is hidden of the student, and that
        a module adapts the student's channels. The rest is as in the spatial branch of DMKD, its successor
        (:func:`~dfmsd.losses.dmkd.dmkd_loss`): SE, with a reduction of 16, is that module, high attention is hidden, and the
        errors are summed as by MGD.

    Example:
        Three quarters are hidden, those where the teacher is active, so the student's error counts at one of four positions.

        >>> feat_t, feat_s = torch.tensor([[[[0.0, 1.0, 2.0, 3.0]]]]), torch.full((1, 1, 1, 4), 10.0)
        >>> amd_loss(feat_s, feat_t, hidden=amd_mask(feat_t, tau=0.5, ratio=0.75), branch=torch.nn.Identity()).item()
        114.0
    """
    return squared_error(branch(widened(feat_s).masked_fill(hidden, 0.0)) - widened(feat_t.detach()))


class AMD(Method):
    """Term ``rec``: :func:`amd_loss` summed over the levels.

    Raises:
        StudyError: if ``se_ratio`` is larger than the number of channels.
    """

    name = "amd"
    WEIGHTS: ClassVar = {"rec": "alpha"}

    def blocks(self, channels_s: int, channels_t: int, *, stride: int) -> nn.Module:
        """See :meth:`Method.blocks`."""
        return nn.ModuleDict(
            {"align": align(channels_s, channels_t), "generate": gated_generation(channels_t, se_ratio=self.spec.se_ratio)}
        )

    def mask(self, feat_t: Tensor, generator: torch.Generator) -> Tensor:
        """:func:`amd_mask` of a teacher's map."""
        return amd_mask(feat_t, **self.spec.masking, generator=generator)

    def level(self, block: Any, feat_s: Tensor, feat_t: Tensor, *, generator: torch.Generator, **_: Any) -> dict[str, Tensor]:
        """See :meth:`Method.level`."""
        hidden = self.mask(feat_t, generator)
        return {"rec": amd_loss(block.align(feat_s), feat_t, hidden=hidden, branch=block.generate)}
