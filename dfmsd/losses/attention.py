"""Attention maps of a feature map, Eqs. (2) and (3), and masks: what is hidden from the student before it reconstructs.

In a mask, True means hidden.
"""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from dfmsd.hyper import Hide
from dfmsd.losses.base import widened


def spatial_attention(feat: Tensor, *, tau: float) -> Tensor:
    r"""Where a feature map is active: Eq. (3), in FGD's form.

    .. math::
        A^s = H W \cdot \mathrm{softmax}_{hw}\!\left(\frac{1}{\tau C} \sum_c |T_c|\right)

    Args:
        feat: Feature map :math:`T`, ``(B, C, H, W)``.
        tau: Temperature, > 0.

    Returns:
        ``(B, H, W)``, with mean 1 over the positions of each image.

    Deviations:
        The paper's text has lost the formula and gives no temperature; the form and 0.5 are FGD's :cite:p:`fgd`.

    Example:
        >>> spatial_attention(torch.zeros(1, 8, 2, 2), tau=0.5)
        tensor([[[1., 1.],
                 [1., 1.]]])
    """
    b, _, h, w = feat.shape
    energy = widened(feat).abs().mean(dim=1).reshape(b, -1)  # (B, C, H, W) -> (B, H * W)
    return (energy / tau).softmax(dim=1).view(b, h, w) * (h * w)  # Eq. (3)


def channel_attention(feat: Tensor, *, tau: float) -> Tensor:
    r"""Which channels of a feature map are active: Eq. (2), in FGD's form.

    .. math::
        A^c = C \cdot \mathrm{softmax}_c\!\left(\frac{1}{\tau H W} \sum_{hw} |T_{hw}|\right)

    Args:
        feat: Feature map :math:`T`, ``(B, C, H, W)``.
        tau: Temperature, > 0.

    Returns:
        ``(B, C)``, with mean 1 over the channels of each image.

    Example:
        >>> channel_attention(torch.ones(1, 3, 4, 4), tau=0.5)
        tensor([[1., 1., 1.]])
    """
    energy = widened(feat).abs().mean(dim=(2, 3))  # (B, C, H, W) -> (B, C)
    return (energy / tau).softmax(dim=1) * feat.shape[1]  # Eq. (2)


def random_mask(feat: Tensor, *, ratio: float, generator: torch.Generator) -> Tensor:
    """Hide each position with probability ``ratio``, the same for all channels (MGD).

    Args:
        feat: Gives batch, size and device, ``(B, C, H, W)``.
        ratio: Probability in [0, 1].
        generator: On the feature's device; the only source of randomness.

    Returns:
        Boolean, ``(B, 1, H, W)``.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> random_mask(torch.zeros(1, 4, 2, 2), ratio=1.0, generator=generator).all().item()
        True
    """
    b, _, h, w = feat.shape
    # A draw lies in [0, 1): `draw >= 1 - ratio` is never true for ratio 0 and always for ratio 1.
    return torch.rand(b, 1, h, w, device=feat.device, generator=generator) >= 1 - ratio


def top_mask(attention: Tensor, *, ratio: float) -> Tensor:
    """Hide the elements of highest attention, a fixed share of each image's.

    Args:
        attention: ``(B, ...)``.
        ratio: Share in [0, 1]; the count is rounded to the nearest integer, halves up.

    Returns:
        Boolean, of attention's shape. Among equal values the choice is :func:`torch.topk`'s.

    Example:
        >>> top_mask(torch.tensor([[0.1, 0.9, 0.5, 0.7]]), ratio=0.5)
        tensor([[False,  True, False,  True]])
    """
    flat = attention.flatten(1)  # (B, N)
    count = int(ratio * flat.shape[1] + 0.5)
    hidden = torch.zeros_like(flat, dtype=torch.bool)
    hidden.scatter_(1, flat.topk(count, dim=1).indices, True)
    return hidden.reshape(attention.shape)


def attention_mask(
    attention: Tensor,
    *,
    ratio: float,
    threshold: float | None = None,
    hide: Hide = "highest",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Hide elements by their attention: a fixed share of each image's, or those beyond a threshold (AMD, DMKD, DFMSD).

    Args:
        attention: ``(B, ...)``, with mean 1 over each image.
        ratio: Share in [0, 1], see :func:`top_mask`; without effect beside a threshold.
        threshold: Hide what is at least this, or with "lowest" at most this; 1 is the mean.
        hide: The highest attention, the lowest, or a share drawn at random.
        generator: For masks at random: the only source of randomness, on the attention's device.

    Returns:
        Boolean, of attention's shape.

    Raises:
        ValueError: for another ``hide``, and for random masks without a generator or by a threshold.

    Example:
        >>> attention = torch.tensor([[0.2, 1.8, 0.8, 1.2]])
        >>> attention_mask(attention, ratio=0.25), attention_mask(attention, ratio=0.25, threshold=1.0)
        (tensor([[False,  True, False, False]]), tensor([[False,  True, False,  True]]))
        >>> attention_mask(attention, ratio=0.25, hide="lowest")
        tensor([[ True, False, False, False]])
    """
    if hide not in get_args(Hide):
        raise ValueError(f"hide is {hide!r}, not one of {', '.join(get_args(Hide))}")
    if hide == "random":
        if threshold is not None or generator is None:
            raise ValueError("masks at random have a ratio, no threshold, and need a generator")
        attention = torch.rand(attention.shape, device=attention.device, generator=generator)
    elif threshold is not None:
        return attention <= threshold if hide == "lowest" else attention >= threshold
    return top_mask(-attention if hide == "lowest" else attention, ratio=ratio)
