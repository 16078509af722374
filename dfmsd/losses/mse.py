"""Plain feature distillation, MSE: Eq. (1) of DFMSD :cite:p:`dfmsd` (arXiv 2407.13147), the control for every masked method."""

from __future__ import annotations

from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from dfmsd.losses.base import Method, widened


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
        >>> import torch
        >>> mse_loss(torch.zeros(2, 3, 4, 4), torch.full((2, 3, 4, 4), 2.0)).item()
        4.0
    """
    feat_s = widened(feat_s)
    return F.mse_loss(feat_s, feat_t.detach().to(feat_s.dtype))  # Eq. (1)


class MSE(Method):
    """Term ``feat``: :func:`mse_loss` summed over the levels."""

    name = "mse"
    WEIGHTS: ClassVar = {"feat": "alpha"}

    def level(self, block: Any, feat_s: Tensor, feat_t: Tensor, **_: Any) -> dict[str, Tensor]:
        """See :meth:`Method.level`."""
        return {"feat": mse_loss(block.align(feat_s), feat_t)}
