"""Masked generative distillation, MGD :cite:p:`mgd` (arXiv 2205.01529)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn

from dfmsd.losses.base import Levels, Method, sum_squares, widened
from dfmsd.losses.blocks import align, generation
from dfmsd.losses.masking import random_mask


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
    return sum_squares(generate(feat_s.masked_fill(hidden, 0.0)) - widened(feat_t.detach()))


@MODELS.register_module()
class MGD(Method):
    """:func:`mgd_loss` summed over the levels, with a random mask for each; fields as in :class:`dfmsd.hyper.MGD`.

    Args:
        channels_s: Channels of the student's maps.
        channels_t: Channels of the teacher's maps.
        strides: Levels to work on.
        alpha: Weight of the term ``rec``.
        ratio: Probability of a position to be hidden.
    """

    name = "mgd"

    def __init__(self, *, channels_s: int, channels_t: int, strides: Sequence[int], alpha: float, ratio: float) -> None:
        super().__init__(strides, {"rec": alpha})
        self.ratio = ratio
        self.align = nn.ModuleDict({str(stride): align(channels_s, channels_t) for stride in strides})
        self.generation = nn.ModuleDict({str(stride): generation(channels_t) for stride in strides})

    def terms(self, levels_s: Levels, levels_t: Levels, *, generator: torch.Generator, **_: Any) -> dict[str, Tensor]:
        """See :meth:`Method.terms`."""
        total = torch.stack(
            [
                mgd_loss(
                    self.align[str(stride)](levels_s[stride]),
                    levels_t[stride],
                    hidden=random_mask(levels_t[stride], ratio=self.ratio, generator=generator),
                    generate=self.generation[str(stride)],
                )
                for stride in self.strides
            ]
        )
        return {"rec": total.sum()}
