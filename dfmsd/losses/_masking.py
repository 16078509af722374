"""Masks: what is hidden from the student before it reconstructs. True means hidden."""

from __future__ import annotations

import torch
from torch import Tensor


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
    """Hide the elements of highest attention, a fixed share of each image's (DMKD, DFMSD).

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
    return hidden.view_as(attention)
