"""Work on a few channels of a map at a time, so that what lies between two steps stays at hand."""

from __future__ import annotations

from torch import Tensor

BLOCK = {"cpu": 2**17, "cuda": 2**22}
"""Elements of a map at a time: half a MiB in float32, a part of a core's cache; or 16 MiB, which keep a large GPU busy for longer
than a launch takes."""


def blocks(feat: Tensor) -> list[slice]:
    """The channels of a map, as many at a time as its device likes.

    Args:
        feat: ``(B, C, H, W)``.

    Example:
        >>> import torch
        >>> blocks(torch.zeros(2, 5, 256, 128))
        [slice(0, 2, None), slice(2, 4, None), slice(4, 6, None)]
    """
    b, c, h, w = feat.shape
    size = max(1, BLOCK.get(feat.device.type, BLOCK["cuda"]) // (b * h * w))
    return [slice(start, start + size) for start in range(0, c, size)]
