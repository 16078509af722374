"""The learnable blocks between a student's feature and its reconstruction."""

from __future__ import annotations

from torch import nn


def align(channels_s: int, channels_t: int) -> nn.Module:
    """The linear projection of Eq. (1): a 1 x 1 convolution, or nothing where the channels agree already."""
    return nn.Identity() if channels_s == channels_t else nn.Conv2d(channels_s, channels_t, kernel_size=1)


def generation(channels: int) -> nn.Module:
    """MGD's generation block: two 3 x 3 convolutions with a ReLU between them."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, kernel_size=3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels, channels, kernel_size=3, padding=1),
    )
