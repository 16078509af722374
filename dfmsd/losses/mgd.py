"""Masked generative distillation, MGD :cite:p:`mgd` (arXiv 2205.01529)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dfmsd.losses.attention import random_mask
from dfmsd.losses.base import Method, squared_error, widened
from dfmsd.losses.blocks import align, generation


def mgd_loss(feat_s: Tensor, feat_t: Tensor, *, hidden: Tensor, generate: Callable[[Tensor], Tensor]) -> Tensor:
    r"""Reconstruct the teacher's feature map from a masked student's.

    .. math::
        L_{rec} = \frac{1}{B} \sum_{chw} \left( T - \mathcal{G}(S \odot M) \right)^2
        \qquad \text{MGD, Eqs. (3) and (4)}

    Where:
        - :math:`S, T`: ``feat_s``, ``feat_t``
        - :math:`M`: 0 where ``hidden``, else 1
        - :math:`\mathcal{G}`: ``generate``

    Args:
        feat_s: Student's map, aligned to the teacher's channels, ``(B, C, H, W)``.
        feat_t: Teacher's map, ``(B, C, H, W)``.
        hidden: Boolean, broadcasts against ``feat_s``.
        generate: The generation block.

    Returns:
        Scalar: sum over channels and **all** positions, hidden or not, divided by B.

    Example:
        >>> feat_t, feat_s = torch.ones(2, 1, 2, 2), torch.zeros(2, 1, 2, 2)
        >>> mgd_loss(feat_s, feat_t, hidden=torch.zeros(2, 1, 2, 2, dtype=torch.bool), generate=lambda x: x).item()
        4.0
    """
    return squared_error(generate(widened(feat_s).masked_fill(hidden, 0.0)) - widened(feat_t.detach()))


class MGD(Method):
    """Term ``rec``: :func:`mgd_loss` summed over the levels, with a random mask for each."""

    name = "mgd"
    WEIGHTS: ClassVar = {"rec": "alpha"}

    def blocks(self, channels_s: int, channels_t: int, *, stride: int) -> nn.Module:
        """See :meth:`Method.blocks`."""
        return nn.ModuleDict({"align": align(channels_s, channels_t), "generate": generation(channels_t)})

    def mask(self, feat_t: Tensor, generator: torch.Generator) -> Tensor:
        """What is hidden of the student, ``(B, 1, H, W)``."""
        return random_mask(feat_t, ratio=self.spec.ratio, generator=generator)

    def level(self, block: Any, feat_s: Tensor, feat_t: Tensor, *, generator: torch.Generator, **_: Any) -> dict[str, Tensor]:
        """See :meth:`Method.level`."""
        hidden = self.mask(feat_t, generator)
        return {"rec": mgd_loss(block.align(feat_s), feat_t, hidden=hidden, generate=block.generate)}
