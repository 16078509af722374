"""One method a file: pure functions that carry the equations, and a small module that holds its numbers and what it learns.

The functions need torch alone. The modules build some of their blocks of mmcv's and mmdet's layers, and :mod:`dfmsd.distiller`
registers them with mmdet.
"""

from dfmsd.losses.amd import AMD, amd_loss, amd_mask
from dfmsd.losses.attention import attention_mask, channel_attention, random_mask, spatial_attention, top_mask
from dfmsd.losses.base import Levels, Method
from dfmsd.losses.crosskd import CrossKD, cross_standardise, crosskd_bins_loss, crosskd_cls_loss
from dfmsd.losses.dfmsd import DFMSD, enhanced_loss
from dfmsd.losses.dmkd import DMKD, dmkd_loss, dmkd_reconstruction, dual_masks
from dfmsd.losses.fgd import FGD, attention_maps, fgd_attention, fgd_focal, fgd_global, fgd_masks
from dfmsd.losses.fkd import FKD, fkd_channel, fkd_feature, fkd_nonlocal, fkd_spatial, fkd_weights
from dfmsd.losses.mgd import MGD, mgd_loss
from dfmsd.losses.mse import MSE, mse_loss
from dfmsd.losses.pearson import pearson_loss, standardise
from dfmsd.losses.pkd import PKD, pkd_loss
from dfmsd.losses.ssim import SSIM, minmax, ssim_map, ssim_parts, structural_loss
