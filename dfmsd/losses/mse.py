"""Plain feature distillation, MSE: Eq. (1) of DFMSD :cite:p:`dfmsd` (arXiv 2407.13147), the control for every masked method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from torch import Tensor, nn

from dfmsd.losses.base import Levels, Method, widened
from dfmsd.losses.blocks import align


def mse_loss(feat_s: Tensor, feat_t: Tensor) -> Tensor:
    r"""Mean squared error between the teacher's map and the student's, Eq. (1) for one level.

    .. math::
        L_{feat} = \frac{1}{N_l} \sum_{bchw} \big( T_l - \phi(S_l) \big)^2

    Where:
        - :math:`\phi(S_l), T_l`: ``feat_s``, ``feat_t``
        - :math:`N_l`: all elements, :math:`B C_l H_l W_l`

    Args:
        feat_s: Student's map, linearly projected to the teacher's channels, ``(B, C, H, W)``.
        feat_t: Teacher's map, ``(B, C, H, W)``.

    Returns:
        Scalar: mean over batch, channels and positions.

    Deviations:
        The paper calls :math:`N_l` the "feature size" of a level and has one image in mind; over a batch this is the mean of
        the images' errors.

    Example:
        >>> mse_loss(torch.zeros(2, 3, 4, 4), torch.full((2, 3, 4, 4), 2.0)).item()
        4.0
    """
    feat_s = widened(feat_s)
    return F.mse_loss(feat_s, feat_t.detach().to(feat_s.dtype))  # Eq. (1)


@MODELS.register_module()
class MSE(Method):
    """:func:`mse_loss` summed over the levels; fields as in :class:`dfmsd.hyper.MSE`.

    Args:
        channels_s: Channels of the student's maps.
        channels_t: Channels of the teacher's maps.
        strides: Levels to work on.
        alpha: Weight of the term ``feat``.
    """

    name = "mse"

    def __init__(self, *, channels_s: int, channels_t: int, strides: Sequence[int], alpha: float) -> None:
        super().__init__(strides, {"feat": alpha})
        self.align = nn.ModuleDict({str(stride): align(channels_s, channels_t) for stride in strides})

    def terms(self, levels_s: Levels, levels_t: Levels, **_: Any) -> dict[str, Tensor]:
        """See :meth:`Method.terms`."""
        total = torch.stack([mse_loss(self.align[str(stride)](levels_s[stride]), levels_t[stride]) for stride in self.strides])
        return {"feat": total.sum()}
