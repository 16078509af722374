"""One method a file: a pure function that carries the equation, and a thin module registered with mmdet."""

import dfmsd.quiet  # noqa: F401
from dfmsd.losses._attention import channel_attention, spatial_attention
from dfmsd.losses._masking import random_mask, top_mask
from dfmsd.losses._pearson import pearson_loss, standardise
from dfmsd.losses.base import Levels, Method
from dfmsd.losses.dfmsd import DFMSD, enhanced_loss
from dfmsd.losses.dmkd import DMKD, dmkd_loss, dmkd_reconstruction, dual_masks
from dfmsd.losses.mgd import MGD, mgd_loss

__all__ = [
    "DFMSD",
    "DMKD",
    "MGD",
    "Levels",
    "Method",
    "channel_attention",
    "dmkd_loss",
    "dmkd_reconstruction",
    "dual_masks",
    "enhanced_loss",
    "mgd_loss",
    "pearson_loss",
    "random_mask",
    "spatial_attention",
    "standardise",
    "top_mask",
]
