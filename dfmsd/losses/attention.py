"""Attention maps of a feature map, Eqs. (2) and (3)."""

from __future__ import annotations

from torch import Tensor


def spatial_attention(feat: Tensor, *, tau: float) -> Tensor:
    r"""Where a feature map is active: Eq. (3), in FGD's form.

    .. math::
        A^s = H W \cdot \mathrm{softmax}_{hw}\!\left(\frac{1}{\tau C} \sum_c |T_c|\right)

    Args:
        feat: Feature map :math:`T`, ``(B, C, H, W)``.
        tau: Temperature, > 0.

    Returns:
        ``(B, H, W)``, with mean 1 over the positions of each image.

    Deviations:
        The paper's text has lost the formula and gives no temperature; the form and 0.5 are FGD's :cite:p:`fgd`.

    Example:
        >>> import torch
        >>> spatial_attention(torch.zeros(1, 8, 2, 2), tau=0.5)
        tensor([[[1., 1.],
                 [1., 1.]]])
    """
    b, _, h, w = feat.shape
    energy = feat.abs().mean(dim=1).view(b, -1)  # (B, C, H, W) -> (B, H * W)
    return (energy / tau).softmax(dim=1).view(b, h, w) * (h * w)  # Eq. (3)


def channel_attention(feat: Tensor, *, tau: float) -> Tensor:
    r"""Which channels of a feature map are active: Eq. (2), in FGD's form.

    .. math::
        A^c = C \cdot \mathrm{softmax}_c\!\left(\frac{1}{\tau H W} \sum_{hw} |T_{hw}|\right)

    Args:
        feat: Feature map :math:`T`, ``(B, C, H, W)``.
        tau: Temperature, > 0.

    Returns:
        ``(B, C)``, with mean 1 over the channels of each image.

    Example:
        >>> import torch
        >>> channel_attention(torch.ones(1, 3, 4, 4), tau=0.5)
        tensor([[1., 1., 1.]])
    """
    energy = feat.abs().mean(dim=(2, 3))  # (B, C, H, W) -> (B, C)
    return (energy / tau).softmax(dim=1) * feat.shape[1]  # Eq. (2)
