"""Standardised features and their Pearson correlation, Eq. (5)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dfmsd.losses.base import widened

EPS = 1e-6
"""Added to the standard deviation, as in PKD's released code."""

BLOCK = {"cpu": 2**17, "cuda": 2**22}
"""Elements of a map at a time: half a MiB in float32, a part of a core's cache; or 16 MiB, which keep a large GPU busy for longer
than a launch takes."""


def standardise(feat: Tensor) -> Tensor:
    """Zero mean and unit variance for each channel over batch and positions.

    Args:
        feat: ``(B, C, H, W)``.

    Returns:
        The same shape. The standard deviation is the unbiased one plus 1e-6, so a constant channel becomes 0; with a single
        element per channel everything is 0.

    Example:
        >>> standardise(torch.tensor([[[[1.0, 3.0]]]])).flatten().mul(2**0.5).round().tolist()
        [-1.0, 1.0]
    """
    feat = widened(feat)
    centred = feat - feat.mean(dim=(0, 2, 3), keepdim=True)
    if centred[:, 0].numel() < 2:
        return centred
    return centred / (feat.std(dim=(0, 2, 3), keepdim=True) + EPS)


def pearson_loss(feat_s: Tensor, feat_t: Tensor) -> Tensor:
    r"""Half the mean squared error of standardised features: Eq. (5), PKD's Eq. (5) :cite:p:`pkd`.

    .. math::
        L_{SFA} = \frac{1}{2 N} \sum_{bchw} \big( \hat S - \hat T \big)^2 = \frac{n-1}{n} (1 - r),
        \qquad \hat X = \frac{X - \mu_X}{\sigma_X}

    Where:
        - :math:`\hat S, \hat T`: ``feat_s`` and ``feat_t`` after :func:`standardise`: per channel, over batch and positions
        - :math:`N`: all elements, :math:`B C H W`
        - :math:`r`: Pearson's correlation, averaged over the channels
        - :math:`n`: elements per channel, :math:`B H W`

    Args:
        feat_s: Student's map, aligned to the teacher's channels, ``(B, C, H, W)``.
        feat_t: Teacher's map, ``(B, C, H, W)``.

    Returns:
        Scalar in [0, 2]: mean over batch, channels and positions. It can be differentiated once, with respect to the student.

    Example:
        Scale and offset do not matter.

        >>> feat = torch.arange(16.0).reshape(1, 1, 4, 4)
        >>> round(pearson_loss(3 * feat + 7, feat).item(), 5)
        0.0
    """
    feat_s = widened(feat_s)
    return _Correlated.apply(feat_s, feat_t.detach().to(feat_s.dtype))  # type: ignore[no-any-return]


def channel_blocks(feat: Tensor) -> list[slice]:
    """The channels of a map, as many at a time as its device likes, so that what lies between two steps stays at hand.

    Args:
        feat: ``(B, C, H, W)``.

    Example:
        >>> channel_blocks(torch.zeros(2, 5, 256, 128))
        [slice(0, 2, None), slice(2, 4, None), slice(4, 6, None)]
    """
    b, c, h, w = feat.shape
    size = max(1, BLOCK.get(feat.device.type, BLOCK["cuda"]) // (b * h * w))
    return [slice(start, start + size) for start in range(0, c, size)]


class _Correlated(torch.autograd.Function):
    r"""Eq. (5) for a few channels at a time, with its gradient as a formula.

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
        free = max(feat_s[:, 0].numel() - 1, 1)  # of a single element, which its mean leaves at 0, anything will do
        statistics = []
        for block in channel_blocks(feat_s):
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
        return errors.sum() / (2 * feat_s.numel())  # Eq. (5)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        feat_s, feat_t, means_s, means_t, slopes_s, slopes_t = ctx.saved_tensors
        slopes_s, slopes_t = (grad / feat_s.numel() * slopes for slopes in (slopes_s, slopes_t))
        gradient = torch.empty_like(feat_s, memory_format=torch.contiguous_format)
        for block in channel_blocks(feat_s):
            s = (feat_s[:, block] - means_s[:, block]).mul_(slopes_s[:, block])
            t = (feat_t[:, block] - means_t[:, block]).mul_(slopes_t[:, block])
            torch.add(s, t, out=gradient[:, block])
        return gradient, None


def _norms(feat: Tensor) -> Tensor:
    """The norm of each channel over batch and positions, ``(1, C, 1, 1)``."""
    norms = torch.linalg.vector_norm(feat.flatten(2), dim=2)
    return torch.linalg.vector_norm(norms, dim=0)[None, :, None, None]  # type: ignore[no-any-return]
