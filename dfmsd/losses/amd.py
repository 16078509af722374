"""Adaptive masked distillation, AMD :cite:p:`amd` (arXiv 2301.13538): our re-implementation, none was released."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from mmdet.models.layers import SELayer
from mmdet.registry import MODELS
from torch import Tensor, nn

from dfmsd.losses._attention import spatial_attention
from dfmsd.losses._blocks import align, generation
from dfmsd.losses._masking import top_mask
from dfmsd.losses.base import Levels, Method, sum_squares, widened


def amd_loss(feat_s: Tensor, feat_t: Tensor, *, tau: float, ratio: float, branch: Callable[[Tensor], Tensor]) -> Tensor:
    r"""Reconstruct the teacher's map from a student's that is hidden where the teacher attends, for one level.

    .. math::
        L_{rec} = \frac{1}{B} \sum_{chw} \big( T - \mathcal{G}(\mathrm{SE}(S \odot M^s)) \big)^2

    Where:
        - :math:`S, T`: ``feat_s``, ``feat_t``
        - :math:`M^s`: 0 at the share ``ratio`` of the positions where the teacher's
          :func:`~dfmsd.losses._attention.spatial_attention` is highest, else 1
        - :math:`\mathcal{G} \circ \mathrm{SE}`: ``branch``

    Args:
        feat_s: Student's map, aligned to the teacher's channels, ``(B, C, H, W)``.
        feat_t: Teacher's map, ``(B, C, H, W)``.
        tau: Temperature of the attention map.
        ratio: Share of the positions to hide.
        branch: SE and generation block.

    Returns:
        Scalar: sum over channels and **all** positions, hidden or not, divided by B.

    Deviations:
        The paper's formulas are not at hand, only that attention instead of chance decides what is hidden of the student, and that
        a module adapts the student's channels. The rest is as in the spatial branch of DMKD, its successor
        (:func:`~dfmsd.losses.dmkd.dmkd_loss`): SE is that module, high attention is hidden, the reduction is MGD's.

    Example:
        Three quarters are hidden, those where the teacher is active, so the student's error counts at one of four positions.

        >>> feat_t, feat_s = torch.tensor([[[[0.0, 1.0, 2.0, 3.0]]]]), torch.full((1, 1, 1, 4), 10.0)
        >>> amd_loss(feat_s, feat_t, tau=0.5, ratio=0.75, branch=torch.nn.Identity()).item()
        114.0
    """
    feat_s, feat_t = widened(feat_s), widened(feat_t.detach())
    hidden = top_mask(spatial_attention(feat_t, tau=tau), ratio=ratio).unsqueeze(1)  # (B, H, W) -> (B, 1, H, W)
    return sum_squares(branch(feat_s.masked_fill(hidden, 0.0)) - feat_t)


@MODELS.register_module()
class AMD(Method):
    """:func:`amd_loss` summed over the levels; fields as in :class:`dfmsd.methods.AMD`.

    Args:
        channels_s: Channels of the student's maps.
        channels_t: Channels of the teacher's maps.
        strides: Levels to work on.
        alpha: Weight of the term ``rec``.
        tau: Temperature of the attention map.
        ratio: Share of the positions to hide.
        se_ratio: Reduction of the SE blocks.
    """

    name = "amd"

    def __init__(
        self, *, channels_s: int, channels_t: int, strides: Sequence[int], alpha: float, tau: float, ratio: float, se_ratio: int
    ) -> None:
        super().__init__(strides, {"rec": alpha})
        self.masking = {"tau": tau, "ratio": ratio}
        self.align = nn.ModuleDict({str(stride): align(channels_s, channels_t) for stride in strides})
        self.branch = nn.ModuleDict(
            {str(stride): nn.Sequential(SELayer(channels_t, ratio=se_ratio), generation(channels_t)) for stride in strides}
        )

    def terms(self, levels_s: Levels, levels_t: Levels, **_: Any) -> dict[str, Tensor]:
        """See :meth:`Method.terms`."""
        total = torch.stack(
            [
                amd_loss(
                    self.align[str(stride)](levels_s[stride]),
                    levels_t[stride],
                    **self.masking,
                    branch=self.branch[str(stride)],
                )
                for stride in self.strides
            ]
        )
        return {"rec": total.sum()}
