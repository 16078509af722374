"""Distillation by Pearson's correlation, PKD :cite:p:`pkd` (arXiv 2207.02039)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn

from dfmsd.losses._blocks import align
from dfmsd.losses._pearson import pearson_loss
from dfmsd.losses.base import Levels, Method, widened


def pkd_loss(feat_s: Tensor, feat_t: Tensor) -> Tensor:
    r"""Half the mean squared error of standardised maps, PKD's Eq. (5), for one level.

    .. math::
        L = \frac{1}{2 N} \sum_{bchw} \big( \hat S - \hat T \big)^2 = \frac{n-1}{n} (1 - r)

    Where:
        - :math:`\hat S, \hat T`: ``feat_s`` and ``feat_t`` after :func:`~dfmsd.losses._pearson.standardise`: per channel, over
          batch and positions
        - :math:`N`: all elements, :math:`B C H W`
        - :math:`n`: elements per channel, :math:`B H W`
        - :math:`r`: Pearson's correlation, averaged over the channels

    Args:
        feat_s: Student's map, aligned to the teacher's channels, ``(B, C, H, W)``.
        feat_t: Teacher's map, ``(B, C, H, W)``.

    Returns:
        Scalar in [0, 2]: mean over batch, channels and positions.

    Example:
        Opposite maps have a correlation of -1, and n is 16.

        >>> feat = torch.arange(16.0).reshape(1, 1, 4, 4)
        >>> round(pkd_loss(-feat, feat).item(), 4)
        1.875
    """
    feat_s = widened(feat_s)
    return pearson_loss(feat_s, feat_t.detach().to(feat_s.dtype))


@MODELS.register_module()
class PKD(Method):
    """:func:`pkd_loss` summed over the finest levels; fields as in :class:`dfmsd.methods.PKD`.

    Args:
        channels_s: Channels of the student's maps.
        channels_t: Channels of the teacher's maps.
        strides: Levels that the two pyramids have in common.
        alpha: Weight of the term ``feat``.
        levels: How many of them take part, finest first; None: all.

    Deviations:
        The paper's pyramids have equal channels; others are aligned by a 1 x 1 convolution on the student's side.
    """

    name = "pkd"

    def __init__(self, *, channels_s: int, channels_t: int, strides: Sequence[int], alpha: float, levels: int | None) -> None:
        super().__init__(sorted(strides)[:levels], {"feat": alpha})
        self.align = nn.ModuleDict({str(stride): align(channels_s, channels_t) for stride in self.strides})

    def terms(self, levels_s: Levels, levels_t: Levels, **_: Any) -> dict[str, Tensor]:
        """See :meth:`Method.terms`."""
        total = torch.stack([pkd_loss(self.align[str(stride)](levels_s[stride]), levels_t[stride]) for stride in self.strides])
        return {"feat": total.sum()}
