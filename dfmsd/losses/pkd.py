"""Distillation by Pearson's correlation, PKD :cite:p:`pkd` (arXiv 2207.02039)."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from dfmsd.losses.base import Method
from dfmsd.losses.pearson import pearson_loss


def pkd_loss(feat_s: Tensor, feat_t: Tensor) -> Tensor:
    r"""PKD's Eq. (5) for one level, which DFMSD took over: :func:`~dfmsd.losses.pearson.pearson_loss`.

    .. math::
        L = \frac{1}{2 N} \sum_{bchw} \big( \hat S - \hat T \big)^2

    Args:
        feat_s: Student's map, aligned to the teacher's channels, ``(B, C, H, W)``.
        feat_t: Teacher's map, ``(B, C, H, W)``.

    Returns:
        Scalar in [0, 2]: mean over batch, channels and positions. It can be differentiated once, with respect to the student.

    Example:
        Opposite maps have a correlation of -1: twice (n - 1) / n for n = 16.

        >>> import torch
        >>> feat = torch.arange(16.0).reshape(1, 1, 4, 4)
        >>> round(pkd_loss(-feat, feat).item(), 4)
        1.875
    """
    return pearson_loss(feat_s, feat_t)


class PKD(Method):
    """Term ``feat``: :func:`pkd_loss` summed over the finest levels.

    Deviations:
        The paper's pyramids have equal channels; others are aligned by a 1 x 1 convolution on the student's side.
    """

    name = "pkd"
    WEIGHTS: ClassVar = {"feat": "alpha"}

    def part(self, strides: tuple[int, ...]) -> tuple[int, ...]:
        """The finest levels."""
        return tuple(sorted(strides)[: self.spec.levels])

    def level(self, block: Any, feat_s: Tensor, feat_t: Tensor, **_: Any) -> dict[str, Tensor]:
        """See :meth:`Method.level`."""
        return {"feat": pkd_loss(block.align(feat_s), feat_t)}
