"""Attention-guided and non-local distillation, FKD :cite:p:`fkd` (ICLR 2021): its released code is the reference.

The equations are written from what that code computes; their numbers in the paper are not at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfmsd.hyper import Mask
from dfmsd.losses.attention import channel_attention, spatial_attention
from dfmsd.losses.base import Method, widened
from dfmsd.losses.blocks import align
from dfmsd.losses.fgd import weighted_error

Block = Callable[[Tensor], Tensor]

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


class NonLocal(nn.Module):
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
        super().__init__()
        from mmcv.cnn import NonLocal2d

        self.block = NonLocal2d(channels, reduction=-(-channels // width), mode="dot_product", norm_cfg={"type": "BN"})
        self.pool = pool

    def forward(self, feat: Tensor) -> Tensor:
        """From ``(B, C, H, W)`` to the same shape."""
        b, _, h, w = feat.shape
        window = min(self.pool, h), min(self.pool, w)
        theta = self.block.theta(feat).flatten(2)  # (B, D, H * W)
        phi, g = (F.max_pool2d(conv(feat), window).flatten(2) for conv in (self.block.phi, self.block.g))  # (B, D, N)
        related = (g @ (phi / phi.shape[2]).mT @ theta).view(b, -1, h, w)  # (B, D, N) (B, N, D) (B, D, H * W)
        if b * h * w == 1:  # Batch normalisation refuses a single value in training; two equal ones are what it would be.
            return feat + self.block.conv_out(related.expand(2, -1, -1, -1))[:1]  # type: ignore[no-any-return]
        return feat + self.block.conv_out(related)  # type: ignore[no-any-return]


class FKD(Method):
    """Its four terms, each summed over the levels.

    Terms: ``feat`` (:func:`fkd_feature`), ``channel`` (:func:`fkd_channel`), ``spatial`` (:func:`fkd_spatial`), ``nonlocal``
    (:func:`fkd_nonlocal`).

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
    WEIGHTS: ClassVar = {"feat": "alpha", "channel": "beta", "spatial": "beta", "nonlocal": "alpha"}

    def blocks(self, channels_s: int, channels_t: int, *, stride: int) -> nn.Module:
        """See :meth:`Method.blocks`."""
        place = min(sorted(self.strides).index(stride), len(POOLS) - 1)
        block = nn.ModuleDict({"align": align(channels_s, channels_t)})
        if self.on("feat", stride):
            block["adapt_feature"] = nn.Conv2d(channels_t, channels_t, kernel_size=1)
        if self.on("channel", stride):
            block["adapt_channel"] = nn.Linear(channels_t, channels_t)
            block["adapt_spatial"] = nn.Conv2d(1, 1, kernel_size=3, padding=1)
        if self.on("nonlocal", stride):
            block["adapt_nonlocal"] = nn.Conv2d(channels_t, channels_t, kernel_size=1)
            for side in ("relate_s", "relate_t"):
                block[side] = NonLocal(channels_t, width=WIDTHS[place], pool=POOLS[place])
        return block

    def level(self, block: Any, feat_s: Tensor, feat_t: Tensor, *, stride: int, **_: Any) -> dict[str, Tensor]:
        """See :meth:`Method.level`."""
        terms, feat_s = {}, block.align(feat_s)
        if self.on("feat", stride):
            terms["feat"] = fkd_feature(feat_s, feat_t, tau=self.spec.tau, mask=self.spec.mask, adapt=block.adapt_feature)
        if self.on("channel", stride):
            terms["channel"] = fkd_channel(feat_s, feat_t, adapt=block.adapt_channel)
            terms["spatial"] = fkd_spatial(feat_s, feat_t, adapt=block.adapt_spatial)
        if self.on("nonlocal", stride):
            relations = {"relate_s": block.relate_s, "relate_t": block.relate_t}
            terms["nonlocal"] = fkd_nonlocal(feat_s, feat_t, **relations, adapt=block.adapt_nonlocal)
        return terms
