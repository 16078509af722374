"""Distillation by Pearson's correlation, PKD :cite:p:`pkd` (arXiv 2207.02039)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dfmsd.losses.base import Levels, Method, widened
from dfmsd.losses.blocks import align
from dfmsd.losses.channels import blocks
from dfmsd.losses.pearson import EPS, pearson_loss


def pkd_loss(feat_s: Tensor, feat_t: Tensor) -> Tensor:
    r"""Half the mean squared error of standardised maps, PKD's Eq. (5), for one level.

    .. math::
        L = \frac{1}{2 N} \sum_{bchw} \big( \hat S - \hat T \big)^2 = \frac{n-1}{n} (1 - r)

    Where:
        - :math:`\hat S, \hat T`: ``feat_s`` and ``feat_t`` after :func:`~dfmsd.losses.pearson.standardise`: per channel, over
          batch and positions
        - :math:`N`: all elements, :math:`B C H W`
        - :math:`n`: elements per channel, :math:`B H W`
        - :math:`r`: Pearson's correlation, averaged over the channels

    Args:
        feat_s: Student's map, aligned to the teacher's channels, ``(B, C, H, W)``.
        feat_t: Teacher's map, ``(B, C, H, W)``.

    Returns:
        Scalar in [0, 2]: mean over batch, channels and positions. It can be differentiated once, with respect to the student.

    Example:
        Opposite maps have a correlation of -1, and n is 16.

        >>> feat = torch.arange(16.0).reshape(1, 1, 4, 4)
        >>> round(pkd_loss(-feat, feat).item(), 4)
        1.875
    """
    feat_s = widened(feat_s)
    feat_t = feat_t.detach().to(feat_s.dtype)
    if feat_s[:, 0].numel() < 2:
        return pearson_loss(feat_s, feat_t)
    return _Correlated.apply(feat_s, feat_t)  # type: ignore[no-any-return]


class _Correlated(torch.autograd.Function):
    r"""The loss of :func:`~dfmsd.losses.pearson.pearson_loss`, a few channels at a time, with its gradient as a formula.

    With the centred maps :math:`s, t`, their deviations :math:`\sigma`, :math:`a = 1 / (\sigma_S + \epsilon)`,
    :math:`b = 1 / (\sigma_T + \epsilon)` and :math:`d = a s - b t`, a channel's gradient is

    .. math::
        \frac{\partial L}{\partial S} =
        \frac{1}{N} \Big( a^2 \Big( 1 - \frac{\sum d\, s}{(n - 1)\, \sigma_S} \Big) s - a b\, t \Big),
        \qquad a \sum d\, s = \tfrac12 \Big( \sum d^2 + a^2 \sum s^2 - b^2 \sum t^2 \Big)

    without the fraction where a channel is constant. Either map is read twice, and the gradient is written once.
    """

    @staticmethod
    def forward(ctx: Any, feat_s: Tensor, feat_t: Tensor) -> Tensor:
        free = feat_s[:, 0].numel() - 1
        statistics = []
        for block in blocks(feat_s):
            means = [feat[:, block].mean(dim=(0, 2, 3), keepdim=True) for feat in (feat_s, feat_t)]
            s, t = feat_s[:, block] - means[0], feat_t[:, block] - means[1]
            sigma_s, sigma_t = (_norms(x) / free**0.5 for x in (s, t))
            a, b = 1 / (sigma_s + EPS), 1 / (sigma_t + EPS)
            error = _norms(s.mul_(a).sub_(t.mul_(b))) ** 2
            shrinking = (error + free * ((a * sigma_s) ** 2 - (b * sigma_t) ** 2)) / (2 * free * a * sigma_s)
            slopes = [a**2 * (1 - shrinking.where(sigma_s > 0, 0.0)), -a * b]
            statistics.append(torch.cat([error, *means, *slopes]))
        errors, *found = torch.cat(statistics, dim=1).unsqueeze(1).unbind()
        ctx.save_for_backward(feat_s, feat_t, *found)
        return errors.sum() / (2 * feat_s.numel())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        feat_s, feat_t, means_s, means_t, slopes_s, slopes_t = ctx.saved_tensors
        slopes_s, slopes_t = (grad / feat_s.numel() * slopes for slopes in (slopes_s, slopes_t))
        gradient = torch.empty_like(feat_s)
        for block in blocks(feat_s):
            s = (feat_s[:, block] - means_s[:, block]).mul_(slopes_s[:, block])
            t = (feat_t[:, block] - means_t[:, block]).mul_(slopes_t[:, block])
            torch.add(s, t, out=gradient[:, block])
        return gradient, None


def _norms(feat: Tensor) -> Tensor:
    """Of each channel over batch and positions, ``(1, C, 1, 1)``."""
    norms = torch.linalg.vector_norm(feat.flatten(2), dim=2)
    return torch.linalg.vector_norm(norms, dim=0)[None, :, None, None]  # type: ignore[no-any-return]


@MODELS.register_module()
class PKD(Method):
    """:func:`pkd_loss` summed over the finest levels; fields as in :class:`dfmsd.hyper.PKD`.

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
