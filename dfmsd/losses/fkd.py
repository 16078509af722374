"""Attention-guided and non-local distillation, FKD :cite:p:`fkd` (ICLR 2021): its released code is the reference.

The equations are written from what that code computes; their numbers in the paper are not at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from mmcv.cnn import NonLocal2d
from mmdet.registry import MODELS
from torch import Tensor, nn

from dfmsd.losses.attention import channel_attention, spatial_attention
from dfmsd.losses.base import Levels, Method, widened
from dfmsd.losses.blocks import align
from dfmsd.losses.fgd import weighted_error

Block = Callable[[Tensor], Tensor]
Mask = Literal["spatial", "spatial_channel"]

POOLS = (8, 4, 2, 2, 2)
"""Side of the non-local blocks' max-pooling window, from the finest level on; further levels as the last."""
WIDTHS = (64, 64, 128, 128, 128)
"""Inner channels of the non-local blocks, likewise."""


def fkd_weights(feat_s: Tensor, feat_t: Tensor, *, tau: float, mask: Mask) -> tuple[Tensor, Tensor]:
    """The attention of both networks, averaged; a constant to the gradient.

    Args:
        feat_s: Student's map, ``(B, C, H, W)``.
        feat_t: Teacher's map, ``(B, C, H, W)``.
        tau: Temperature of the attention maps.
        mask: ``spatial``: channels count alike.

    Returns:
        Spatial and channel weights, ``(B, H, W)`` and ``(B, C)``, both of mean 1.

    Example:
        >>> feat = torch.ones(1, 2, 1, 2)
        >>> fkd_weights(feat, feat, tau=0.1, mask="spatial_channel")
        (tensor([[[1., 1.]]]), tensor([[1., 1.]]))
    """
    feats = [widened(feat).detach() for feat in (feat_s, feat_t)]
    spatial = [spatial_attention(feat, tau=tau) for feat in feats]
    if mask == "spatial":
        return torch.stack(spatial).mean(dim=0), feats[0].new_ones(feats[0].shape[:2])
    return torch.stack(spatial).mean(dim=0), torch.stack([channel_attention(feat, tau=tau) for feat in feats]).mean(dim=0)


def fkd_feature(feat_s: Tensor, feat_t: Tensor, *, tau: float, mask: Mask, adapt: Block) -> Tensor:
    r"""The distance of the features, weighted by attention.

    .. math::
        L_{feat} = \Big( \sum_{bchw} A^s_{bhw} A^c_{bc} \big( T - \mathcal{A}(S) \big)_{bchw}^2 \Big)^{1/2}

    Where:
        - :math:`A^s, A^c`: :func:`fkd_weights` of :math:`S` before :math:`\mathcal{A}` and of :math:`T`; ``mask="spatial"``
          leaves :math:`A^c` out
        - :math:`\mathcal{A}`: ``adapt``

    Args:
        feat_s: Student's map, of the teacher's channels, ``(B, C, H, W)``.
        feat_t: Teacher's map, ``(B, C, H, W)``.
        tau: Temperature of the attention maps.
        mask: Which attention weighs the features.
        adapt: The 1 x 1 convolution on the student's side.

    Returns:
        Scalar: the root of the sum over the **whole batch**, channels and positions. Its gradient is 0 where it is 0.

    Example:
        >>> feat_t, feat_s = torch.ones(2, 2, 4, 4), torch.zeros(2, 2, 4, 4)
        >>> fkd_feature(feat_s, feat_t, tau=0.1, mask="spatial", adapt=torch.nn.Identity()).item()
        8.0
    """
    attn_sp, attn_ch = fkd_weights(feat_s, feat_t, tau=tau, mask=mask)
    total = (attn_sp * weighted_error(adapt(widened(feat_s)), feat_t, attn_ch=attn_ch)).sum()
    # A root has no finite gradient at 0: take it of 1 there. NaN is not 0 and stays.
    zero = total == 0
    return total.masked_fill(zero, 1.0).sqrt().masked_fill(zero, 0.0)


def fkd_channel(feat_s: Tensor, feat_t: Tensor, *, adapt: Block) -> Tensor:
    r"""The distance of the channels' means.

    .. math::
        L_{channel} = \big\| \mathrm{mean}_{hw}\, T - \mathcal{A}(\mathrm{mean}_{hw}\, S) \big\|_2

    Args:
        feat_s: Student's map, ``(B, C, H, W)``.
        feat_t: Teacher's map, ``(B, C, H, W)``.
        adapt: The linear layer on the student's side, ``(B, C)`` to ``(B, C)``.

    Returns:
        Scalar: the norm over the **whole batch** and channels. Its gradient is 0 where it is 0.

    Example:
        >>> fkd_channel(torch.zeros(1, 4, 2, 2), torch.ones(1, 4, 2, 2), adapt=torch.nn.Identity()).item()
        2.0
    """
    mean_s, mean_t = widened(feat_s).mean(dim=(2, 3)), widened(feat_t).detach().mean(dim=(2, 3))
    return torch.dist(mean_t, adapt(mean_s))


def fkd_spatial(feat_s: Tensor, feat_t: Tensor, *, adapt: Block) -> Tensor:
    r"""The distance of the positions' means.

    .. math::
        L_{spatial} = \big\| \mathrm{mean}_{c}\, T - \mathcal{A}(\mathrm{mean}_{c}\, S) \big\|_2

    Args:
        feat_s: Student's map, ``(B, C, H, W)``.
        feat_t: Teacher's map, ``(B, C, H, W)``.
        adapt: The 3 x 3 convolution on the student's side, ``(B, 1, H, W)`` to ``(B, 1, H, W)``.

    Returns:
        Scalar: the norm over the **whole batch** and positions. Its gradient is 0 where it is 0.

    Example:
        >>> fkd_spatial(torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2), adapt=torch.nn.Identity()).item()
        2.0
    """
    mean_s, mean_t = widened(feat_s).mean(dim=1, keepdim=True), widened(feat_t).detach().mean(dim=1, keepdim=True)
    return torch.dist(mean_t, adapt(mean_s))


def fkd_nonlocal(feat_s: Tensor, feat_t: Tensor, *, relate_s: Block, relate_t: Block, adapt: Block) -> Tensor:
    r"""The distance of features that know their relation to all others.

    .. math::
        L_{nonlocal} = \big\| \mathcal{N}_T(T) - \mathcal{A}(\mathcal{N}_S(S)) \big\|_2

    Where:
        - :math:`\mathcal{N}`: ``relate_s``, ``relate_t``, such as :class:`NonLocal`; both learn
        - :math:`\mathcal{A}`: ``adapt``

    Args:
        feat_s: Student's map, ``(B, C, H, W)``.
        feat_t: Teacher's map, ``(B, C, H, W)``.
        relate_s: The student's non-local block.
        relate_t: The teacher's.
        adapt: The 1 x 1 convolution on the student's side.

    Returns:
        Scalar: the norm over the **whole batch**, channels and positions. Its gradient is 0 where it is 0.

    Example:
        >>> same = torch.nn.Identity()
        >>> fkd_nonlocal(torch.zeros(1, 4, 2, 2), torch.ones(1, 4, 2, 2), relate_s=same, relate_t=same, adapt=same).item()
        4.0
    """
    return torch.dist(relate_t(widened(feat_t).detach()), adapt(relate_s(widened(feat_s))))


class NonLocal(NonLocal2d):
    r"""The dot-product non-local block: mmcv's, with a pooling window of any side and without the matrix of all pairs.

    .. math::
        y_i = x_i + \mathrm{BN}\Big( W \frac{1}{N} \sum_{j=1}^N (\theta_i \cdot \phi_j)\, g_j \Big)

    Where:
        - :math:`\theta`: a 1 x 1 convolution of the map, at position :math:`i`
        - :math:`\phi, g`: 1 x 1 convolutions of the map, max-pooled to :math:`N` positions

    A product of three matrices may be taken in any order: :math:`(g \phi^\top) \theta` needs the square of the inner channels
    where :math:`g (\phi^\top \theta)` needs :math:`H W N` numbers, four times the feature map at 200 x 336. The batch
    normalisation starts at 0, so the block starts as the identity.

    Args:
        channels: Of the map.
        width: Inner channels at most: the largest whole division of ``channels``.
        pool: Side of the pooling window; cut to the map.
    """

    def __init__(self, channels: int, *, width: int, pool: int) -> None:
        super().__init__(channels, reduction=-(-channels // width), mode="dot_product", norm_cfg={"type": "BN"})
        self.pool = pool

    def forward(self, feat: Tensor) -> Tensor:
        """From ``(B, C, H, W)`` to the same shape."""
        b, _, h, w = feat.shape
        window = min(self.pool, h), min(self.pool, w)
        theta = self.theta(feat).flatten(2)  # (B, D, H * W)
        phi, g = (F.max_pool2d(conv(feat), window).flatten(2) for conv in (self.phi, self.g))  # (B, D, N)
        related = (g @ (phi / phi.shape[2]).mT @ theta).view(b, -1, h, w)  # (B, D, N) (B, N, D) (B, D, H * W)
        if b * h * w == 1:  # Batch normalisation refuses a single value in training; two equal ones are what it would be.
            return feat + self.conv_out(related.expand(2, -1, -1, -1))[:1]  # type: ignore[no-any-return]
        return feat + self.conv_out(related)  # type: ignore[no-any-return]


class AttentionNonLocal(nn.Module):
    """The learnable part of one level: alignment, an adaptation for each term, and a non-local block for either network."""

    def __init__(self, channels_s: int, channels_t: int, *, width: int, pool: int) -> None:
        super().__init__()
        self.align = align(channels_s, channels_t)
        self.adapt_feature = nn.Conv2d(channels_t, channels_t, kernel_size=1)
        self.adapt_channel = nn.Linear(channels_t, channels_t)
        self.adapt_spatial = nn.Conv2d(1, 1, kernel_size=3, padding=1)
        self.adapt_nonlocal = nn.Conv2d(channels_t, channels_t, kernel_size=1)
        self.relate_s = NonLocal(channels_t, width=width, pool=pool)
        self.relate_t = NonLocal(channels_t, width=width, pool=pool)

    def forward(self, feat_s: Tensor, feat_t: Tensor, *, tau: float, mask: Mask) -> Tensor:
        """The four terms of this level, features, channel, spatial and non-local, ``(4,)``."""
        feat_s = self.align(widened(feat_s))
        return torch.stack(
            [
                fkd_feature(feat_s, feat_t, tau=tau, mask=mask, adapt=self.adapt_feature),
                fkd_channel(feat_s, feat_t, adapt=self.adapt_channel),
                fkd_spatial(feat_s, feat_t, adapt=self.adapt_spatial),
                fkd_nonlocal(feat_s, feat_t, relate_s=self.relate_s, relate_t=self.relate_t, adapt=self.adapt_nonlocal),
            ]
        )


@MODELS.register_module()
class FKD(Method):
    """Its terms summed over the levels; fields as in :class:`dfmsd.hyper.FKD`.

    Terms: ``feat`` (:func:`fkd_feature`), ``channel`` (:func:`fkd_channel`), ``spatial`` (:func:`fkd_spatial`), ``nonlocal``
    (:func:`fkd_nonlocal`).

    Args:
        channels_s: Channels of the student's maps.
        channels_t: Channels of the teacher's maps.
        strides: Levels to work on.
        tau: Temperature of the attention maps.
        alpha: Weight of the features and of the non-local relation.
        beta: Weight of the channel and of the spatial means.
        mask: Which attention weighs the features.

    Note:
        Verified in released code (mmrazor's, and copies of the authors' for one-stage students): the four terms and their
        adaptations, which exist even where the channels agree; norms over the whole batch, so that they depend on its size;
        weights constant to the gradient; windows and inner widths of the non-local blocks as the authors have them (mmrazor's pool
        twice), dividing by the number of pooled positions, and the batch normalisation that starts at 0.

    Deviations:
        The released code has students and teachers of 256 channels. Where they differ, a 1 x 1 convolution aligns the student
        before everything else. A level's place among the method's own levels, finest first, chooses its window and width. The
        window is cut to small maps; the inner width is mmcv's, a whole division of the channels: exact for 256. The non-local
        blocks' first weights are mmcv's too. For one-stage students the weights and the temperature are those of the copies; the
        paper, not at hand, is said to give rounder weights, 4e-4 and 2e-2. Where a norm is 0 its gradient is 0. Half precision is
        computed in float32.
    """

    name = "fkd"

    def __init__(
        self,
        *,
        channels_s: int,
        channels_t: int,
        strides: Sequence[int],
        tau: float,
        alpha: float,
        beta: float,
        mask: Mask,
    ) -> None:
        super().__init__(strides, {"feat": alpha, "channel": beta, "spatial": beta, "nonlocal": alpha})
        self.tau = tau
        self.mask = mask
        places = {stride: min(place, len(POOLS) - 1) for place, stride in enumerate(sorted(strides))}
        self.levels = nn.ModuleDict(
            {
                str(stride): AttentionNonLocal(channels_s, channels_t, width=WIDTHS[place], pool=POOLS[place])
                for stride, place in places.items()
            }
        )

    def terms(self, levels_s: Levels, levels_t: Levels, **_: Any) -> dict[str, Tensor]:
        """See :meth:`Method.terms`."""
        total = torch.stack(
            [self.levels[str(stride)](levels_s[stride], levels_t[stride], tau=self.tau, mask=self.mask) for stride in self.strides]
        ).sum(dim=0)  # (4,)
        return dict(zip(self.term_names, total.unbind(), strict=True))
