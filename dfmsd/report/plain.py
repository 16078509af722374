"""The methods as one would write them down first, where the library's form is another: what the others are compared with.

They give the same numbers (``tests/test_bench.py``); :mod:`dfmsd.report.bench` times both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dfmsd.losses import Levels, Method, pearson_loss
from dfmsd.losses.attention import channel_attention, spatial_attention
from dfmsd.losses.base import sum_squares
from dfmsd.losses.fgd import FGD, fgd_attention
from dfmsd.losses.fkd import FKD, NonLocal
from dfmsd.losses.pkd import PKD
from dfmsd.losses.ssim import C1, C2, SSIM, minmax


class PlainSSIM(SSIM):
    """A depth-wise convolution with the whole window on five maps, differentiated automatically. Only for exponents of 1."""

    def terms(self, levels_s: Levels, levels_t: Levels, **_: Any) -> dict[str, Tensor]:
        """See :meth:`Method.terms`."""
        losses = [self._loss(self.align[str(stride)](levels_s[stride]), levels_t[stride]) for stride in self.strides]
        return {"feat": torch.stack(losses).sum()}

    def _loss(self, feat_s: Tensor, feat_t: Tensor) -> Tensor:
        x, y = minmax(feat_s), minmax(feat_t)
        side, sigma = self.options["window"], self.options["sigma"]
        line = torch.exp(-((torch.arange(side, dtype=x.dtype, device=x.device) - side // 2) ** 2) / (2 * sigma**2))
        window = torch.outer(line, line) / line.sum() ** 2

        def mean(feat: Tensor) -> Tensor:
            channels = feat.shape[1]
            padded = F.pad(feat, (side // 2,) * 4, mode="reflect")
            return F.conv2d(padded, window.expand(channels, 1, side, side), groups=channels)

        mean_x, mean_y = mean(x), mean(y)
        var_x, var_y = (mean(z * z) - mean_z**2 for z, mean_z in ((x, mean_x), (y, mean_y)))
        covariance = mean(x * y) - mean_x * mean_y
        luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
        return (1 - luminance * (2 * covariance + C2) / (var_x + var_y + C2)).mean() / 2


class PlainFGD(FGD):
    """Masks by a loop over images and boxes; features multiplied by the roots of their weights, once for each kind of region."""

    def terms(
        self,
        levels_s: Levels,
        levels_t: Levels,
        *,
        boxes: Sequence[Tensor],
        image_shapes: Sequence[tuple[int, int]],
        **_: Any,
    ) -> dict[str, Tensor]:
        """See :meth:`Method.terms`."""
        total = torch.stack(
            [self._terms_of(stride, levels_s[stride], levels_t[stride], boxes, image_shapes) for stride in self.strides]
        ).sum(dim=0)
        return dict(zip(self.term_names, total.unbind(), strict=True))

    def _terms_of(
        self, stride: int, feat_s: Tensor, feat_t: Tensor, boxes: Sequence[Tensor], shapes: Sequence[tuple[int, int]]
    ) -> Tensor:
        level: Any = self.levels[str(stride)]
        feat_s = level.align(feat_s)
        attn_s, attn_t = (
            (spatial_attention(feat, tau=self.tau), channel_attention(feat, tau=self.tau)) for feat in (feat_s, feat_t)
        )
        fg, bg = self._masks(feat_t, boxes, shapes)
        weight = attn_t[0].unsqueeze(1) * attn_t[1][:, :, None, None]
        roots = [(weight * mask.unsqueeze(1)).sqrt() for mask in (fg, bg)]
        focal = [sum_squares(feat_s * root - feat_t * root) for root in roots]
        whole = sum_squares(feat_t + level.context_t(feat_t) - feat_s - level.context_s(feat_s))
        return torch.stack([*focal, fgd_attention(attn_s, attn_t), whole])

    @staticmethod
    def _masks(feat: Tensor, boxes: Sequence[Tensor], shapes: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        b, _, height, width = feat.shape
        fg, bg = feat.new_zeros(b, height, width), feat.new_ones(b, height, width)
        for image, (own, (rows, columns)) in enumerate(zip(boxes, shapes, strict=True)):
            for x1, y1, x2, y2 in own.tolist():
                left, right = math.floor(x1 / columns * width), math.ceil(x2 / columns * width)
                top, bottom = math.floor(y1 / rows * height), math.ceil(y2 / rows * height)
                inside = slice(top, bottom + 1), slice(left, right + 1)
                area = (bottom + 1 - top) * (right + 1 - left)
                fg[image][inside] = fg[image][inside].clamp(min=1 / area)
                bg[image][inside] = 0
            bg[image] /= max(bg[image].sum().item(), 1.0)
        return fg, bg


class PlainFKD(FKD):
    """Non-local blocks with the matrix of all pairs of positions."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        for module in self.modules():
            if isinstance(module, NonLocal):
                module.forward = _all_pairs.__get__(module)  # type: ignore[method-assign]


def _all_pairs(block: NonLocal, feat: Tensor) -> Tensor:
    b, _, h, w = feat.shape
    window = min(block.pool, h), min(block.pool, w)
    theta = block.theta(feat).flatten(2)  # (B, D, H * W)
    phi, g = (F.max_pool2d(conv(feat), window).flatten(2) for conv in (block.phi, block.g))  # (B, D, N)
    pairs = theta.mT @ phi / phi.shape[2]  # (B, H * W, N)
    return feat + block.conv_out((g @ pairs.mT).view(b, -1, h, w))  # type: ignore[no-any-return]


class PlainPKD(PKD):
    """Both maps standardised whole, differentiated automatically."""

    def terms(self, levels_s: Levels, levels_t: Levels, **_: Any) -> dict[str, Tensor]:
        """See :meth:`Method.terms`."""
        losses = [pearson_loss(self.align[str(stride)](levels_s[stride]), levels_t[stride]) for stride in self.strides]
        return {"feat": torch.stack(losses).sum()}


PLAIN: dict[str, type[Method]] = {"ssim": PlainSSIM, "fgd": PlainFGD, "fkd": PlainFKD, "pkd": PlainPKD}
"""By the method's name in :data:`dfmsd.hyper.METHODS`; the others are written down as they are."""

INSTEAD = {
    "ssim": (
        "Two matrix products filter four maps, as two of the five combine; the gradient is a formula; a few channels at a time go "
        "through all steps, so that what lies between two steps stays in the cache"
    ),
    "fgd": "All boxes of all images at once, without waiting for the device; one error of the maps serves both regions",
    "fkd": "The product of three matrices in the order that never holds a number for each pair of positions",
    "pkd": "The gradient is a formula of five numbers a channel; a few channels at a time go through all steps",
}
"""What the library does in their place."""
