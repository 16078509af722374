"""A call of every public function of :mod:`dfmsd.losses`, on maps that the caller makes. No test imports more than torch here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dfmsd import losses

Make = Callable[..., Tensor]
"""Random numbers of a shape, in the dtype and the memory layout under test."""


def same(feat: Tensor) -> Tensor:
    return feat


def masks(make: Make) -> dict[str, Tensor]:
    return {"hidden_sp": make(2, 1, 5, 6) > 0, "hidden_ch": make(2, 4, 1, 1) > 0}


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


SSIM: dict[str, Any] = {"window": 11, "sigma": 1.5}
POWERS: dict[str, Any] = {"luminance": 1, "contrast": 1, "structure": 1}
DUAL: dict[str, Any] = {"tau": 0.5, "spatial_threshold": 1.1, "channel_threshold": 0.9, "spatial_ratio": 0.0, "channel_ratio": 0.0}

# Student's and teacher's maps are s and t, and make(...) makes more.
CALLS: dict[str, Callable[[Tensor, Tensor, Make], Any]] = {
    "amd_loss": lambda s, t, make: losses.amd_loss(s, t, hidden=make(2, 1, 5, 6) > 0, branch=same),
    "amd_mask": lambda s, t, make: losses.amd_mask(t, tau=0.5, ratio=0.5),
    "attention_maps": lambda s, t, make: losses.attention_maps(s, tau=0.5),
    "attention_mask": lambda s, t, make: losses.attention_mask(t, ratio=0.5, threshold=0.5),
    "channel_attention": lambda s, t, make: losses.channel_attention(s, tau=0.5),
    "cross_standardise": lambda s, t, make: losses.cross_standardise(s, t),
    "crosskd_bins_loss": lambda s, t, make: losses.crosskd_bins_loss(s[0], t[0], weight=make(4)),
    "crosskd_cls_loss": lambda s, t, make: losses.crosskd_cls_loss(s[0, 0], t[0, 0], weight=make(5), beta=1.0),
    "dmkd_loss": lambda s, t, make: losses.dmkd_loss(s, t),
    "dmkd_reconstruction": lambda s, t, make: losses.dmkd_reconstruction(
        s, **masks(make), branch_sp=same, branch_ch=same, fusion=make(2)
    ),
    "dual_masks": lambda s, t, make: losses.dual_masks(t, **DUAL),
    "enhanced_loss": lambda s, t, make: losses.enhanced_loss(s, t, hidden=make(2, 4, 5, 6) > 0),
    "fgd_attention": lambda s, t, make: losses.fgd_attention((s[:, 0], s[:, 0, 0]), (t[:, 0], t[:, 0, 0])),
    "fgd_focal": lambda s, t, make: losses.fgd_focal(
        s, t, attn_t=(make(2, 5, 6), make(2, 4)), masks=(make(2, 5, 6), make(2, 5, 6))
    ),
    "fgd_global": lambda s, t, make: losses.fgd_global(s, t, context_s=torch.sin, context_t=torch.cos),
    "fgd_masks": lambda s, t, make: losses.fgd_masks(make(2, 3, 4), size=(5, 6)),
    "fkd_channel": lambda s, t, make: losses.fkd_channel(s, t, adapt=same),
    "fkd_feature": lambda s, t, make: losses.fkd_feature(s, t, tau=0.5, mask="spatial_channel", adapt=same),
    "fkd_nonlocal": lambda s, t, make: losses.fkd_nonlocal(s, t, relate_s=same, relate_t=same, adapt=same),
    "fkd_spatial": lambda s, t, make: losses.fkd_spatial(s, t, adapt=same),
    "fkd_weights": lambda s, t, make: losses.fkd_weights(s, t, tau=0.5, mask="spatial_channel"),
    "mgd_loss": lambda s, t, make: losses.mgd_loss(s, t, hidden=make(2, 1, 5, 6) > 0, generate=same),
    "minmax": lambda s, t, make: losses.minmax(s),
    "mse_loss": lambda s, t, make: losses.mse_loss(s, t),
    "pearson_loss": lambda s, t, make: losses.pearson_loss(s, t),
    "pkd_loss": lambda s, t, make: losses.pkd_loss(s, t),
    "random_mask": lambda s, t, make: losses.random_mask(t, ratio=0.5, generator=generator()),
    "spatial_attention": lambda s, t, make: losses.spatial_attention(s, tau=0.5),
    "ssim_map": lambda s, t, make: losses.ssim_map(s, t, **POWERS, **SSIM),
    "ssim_parts": lambda s, t, make: losses.ssim_parts(s, t, **SSIM),
    "standardise": lambda s, t, make: losses.standardise(s),
    "structural_loss": lambda s, t, make: losses.structural_loss(s, t, distance="ssim", **POWERS, **SSIM, detach_range=False),
    "top_mask": lambda s, t, make: losses.top_mask(t, ratio=0.5),
}


def maker(change: Callable[[Tensor], Tensor] = same) -> Make:
    """Random numbers that are the same for every change of dtype or layout."""
    source = torch.Generator().manual_seed(0)
    return lambda *shape: change(torch.randn(shape, generator=source).bfloat16().float())


def outputs(name: str, change: Callable[[Tensor], Tensor] = same) -> tuple[list[Tensor], Tensor]:
    """What a function returns for changed maps, and the gradient of the sum by the student's, 0 where there is none."""
    make = maker(change)
    feat_s, feat_t = make(2, 4, 5, 6).requires_grad_(), make(2, 4, 5, 6)
    found = CALLS[name](feat_s, feat_t, make)
    values = [found] if isinstance(found, Tensor) else list(found)
    total = torch.stack([0 * feat_s.sum(), *(value.sum() for value in values if value.requires_grad)]).sum()
    return values, torch.autograd.grad(total, feat_s)[0]


def modules_without_mmdet() -> None:
    """What a machine without mmcv, mmdet and mmengine can do: all functions, and the modules without their layers."""
    for name in CALLS:
        values, gradient = outputs(name)
        assert all(value.isfinite().all() for value in [*values, gradient]), name
    module: nn.Module = losses.MGD(channels_s=4, channels_t=4, strides=(8,))
    feat = torch.zeros(1, 4, 2, 2)
    module({8: feat}, {8: feat}, [torch.zeros(0, 4)], [(16, 16)], generator=generator())
