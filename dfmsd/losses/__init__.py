"""One method a file: a pure function that carries the equation, and a thin module registered with mmdet."""

import dfmsd.quiet  # noqa: F401
from dfmsd.losses.amd import AMD, amd_loss, amd_mask
from dfmsd.losses.attention import channel_attention, spatial_attention
from dfmsd.losses.base import Levels, Method
from dfmsd.losses.crosskd import CrossKD, cross_standardise, crosskd_bins_loss, crosskd_cls_loss
from dfmsd.losses.dfmsd import DFMSD, enhanced_loss
from dfmsd.losses.dmkd import DMKD, dmkd_loss, dmkd_reconstruction, dual_masks
from dfmsd.losses.fgd import FGD, attention_maps, fgd_attention, fgd_focal, fgd_global, fgd_masks
from dfmsd.losses.fkd import FKD, fkd_channel, fkd_feature, fkd_nonlocal, fkd_spatial, fkd_weights
from dfmsd.losses.masking import attention_mask, random_mask, top_mask
from dfmsd.losses.mgd import MGD, mgd_loss
from dfmsd.losses.mse import MSE, mse_loss
from dfmsd.losses.pearson import pearson_loss, standardise
from dfmsd.losses.pkd import PKD, pkd_loss
from dfmsd.losses.ssim import SSIM, minmax, ssim_map, ssim_parts, structural_loss

__all__ = [
    "AMD",
    "DFMSD",
    "DMKD",
    "FGD",
    "FKD",
    "MGD",
    "MSE",
    "PKD",
    "SSIM",
    "CrossKD",
    "Levels",
    "Method",
    "amd_loss",
    "amd_mask",
    "attention_maps",
    "attention_mask",
    "channel_attention",
    "cross_standardise",
    "crosskd_bins_loss",
    "crosskd_cls_loss",
    "dmkd_loss",
    "dmkd_reconstruction",
    "dual_masks",
    "enhanced_loss",
    "fgd_attention",
    "fgd_focal",
    "fgd_global",
    "fgd_masks",
    "fkd_channel",
    "fkd_feature",
    "fkd_nonlocal",
    "fkd_spatial",
    "fkd_weights",
    "mgd_loss",
    "minmax",
    "mse_loss",
    "pearson_loss",
    "pkd_loss",
    "random_mask",
    "spatial_attention",
    "ssim_map",
    "ssim_parts",
    "standardise",
    "structural_loss",
    "top_mask",
]
