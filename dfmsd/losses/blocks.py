"""The learnable blocks between a student's feature and its reconstruction."""

from __future__ import annotations

from torch import nn

from dfmsd.errors import StudyError


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


def gated_generation(channels: int, *, se_ratio: int) -> nn.Module:
    """Squeeze and excitation by mmdet's layer, then :func:`generation`.

    Raises:
        StudyError: if the squeeze leaves no channel.
    """
    from mmdet.models.layers import SELayer

    if channels < se_ratio:
        raise StudyError(f"se_ratio = {se_ratio} squeezes a map of {channels} channels to none: take at most {channels}")
    return nn.Sequential(SELayer(channels, ratio=se_ratio), generation(channels))
