"""Standardised features and their Pearson correlation, Eq. (5)."""

from __future__ import annotations

from torch import Tensor

EPS = 1e-6
"""Added to the standard deviation, as in PKD's released code."""


def standardise(feat: Tensor) -> Tensor:
    """Zero mean and unit variance for each channel over batch and positions.

    Args:
        feat: ``(B, C, H, W)``.

    Returns:
        The same shape. The standard deviation is the unbiased one plus 1e-6, so a constant channel becomes 0; with a single
        element per channel everything is 0.

    Example:
        >>> import torch
        >>> standardise(torch.tensor([[[[1.0, 3.0]]]])).flatten().mul(2**0.5).round().tolist()
        [-1.0, 1.0]
    """
    centred = feat - feat.mean(dim=(0, 2, 3), keepdim=True)
    if centred[:, 0].numel() < 2:
        return centred
    return centred / (feat.std(dim=(0, 2, 3), keepdim=True) + EPS)


def pearson_loss(feat_s: Tensor, feat_t: Tensor) -> Tensor:
    r"""Half the mean squared error of standardised features: Eq. (5), PKD's Eq. (5) :cite:p:`pkd`.

    .. math::
        L_{SFA} = \tfrac12\, \mathrm{mean}\big( (\hat S - \hat T)^2 \big) = \frac{n-1}{n} (1 - r),
        \qquad \hat X = \frac{X - \mu_X}{\sigma_X}

    Where:
        - :math:`r`: Pearson's correlation, averaged over the channels
        - :math:`n`: elements per channel, :math:`B H W`

    Args:
        feat_s: Student's map, ``(B, C, H, W)``.
        feat_t: Teacher's map, ``(B, C, H, W)``.

    Returns:
        Scalar in [0, 2]: mean over batch, channels and positions.

    Example:
        Scale and offset do not matter.

        >>> import torch
        >>> feat = torch.arange(16.0).reshape(1, 1, 4, 4)
        >>> round(pearson_loss(3 * feat + 7, feat).item(), 5)
        0.0
    """
    return (standardise(feat_s) - standardise(feat_t)).square().mean() / 2  # Eq. (5)
