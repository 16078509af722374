"""Focal and global distillation, FGD :cite:p:`fgd` (arXiv 2111.11837): its released code is the reference.

The equations are written from what that code computes; their numbers in the paper are not at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from dfmsd.losses.attention import channel_attention, spatial_attention
from dfmsd.losses.base import Method, widened
from dfmsd.losses.blocks import align

Maps = tuple[Tensor, Tensor]
"""Spatial attention ``(B, H, W)`` and channel attention ``(B, C)``."""


def attention_maps(feat: Tensor, *, tau: float) -> Maps:
    """:func:`~dfmsd.losses.attention.spatial_attention` and :func:`~dfmsd.losses.attention.channel_attention` of a map."""
    return spatial_attention(feat, tau=tau), channel_attention(feat, tau=tau)


def relative_boxes(boxes_xyxy: Sequence[Tensor], image_shapes: Sequence[tuple[int, int]]) -> Tensor:
    """Boxes as shares of their own image, as many for each image.

    Args:
        boxes_xyxy: Boxes of each image, ``(n, 4)`` in pixels; n may be 0 and differ between images.
        image_shapes: Height and width of each image in pixels, before padding.

    Returns:
        ``(B, N + 1, 4)``, N the largest n; what fills up lies outside of the image, at -1.

    Example:
        >>> boxes = [torch.tensor([[0.0, 8.0, 16.0, 32.0]]), torch.zeros(0, 4)]
        >>> relative_boxes(boxes, [(32, 64), (32, 64)])[:, 0].tolist()
        [[0.0, 0.25, 0.25, 1.0], [-1.0, -1.0, -1.0, -1.0]]
    """
    boxes = F.pad(
        pad_sequence([widened(own) for own in boxes_xyxy], batch_first=True, padding_value=torch.nan), (0, 0, 0, 1), value=torch.nan
    )
    sides = boxes.new_tensor(image_shapes).flip(1).repeat(1, 2).unsqueeze(1)  # (B, 2) -> (B, 1, 4): width, height, twice
    return torch.where(boxes.isnan(), -1.0, boxes / sides)


def fgd_masks(boxes: Tensor, *, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    r"""What a position counts as foreground and as background.

    .. math::
        M^{fg}_{ij} = \max_{k \,\ni\, (i, j)} \frac{1}{h_k w_k},
        \qquad
        M^{bg}_{ij} = \frac{[M^{fg}_{ij} = 0]}{\sum_{ij} [M^{fg}_{ij} = 0]}

    Where:
        - :math:`k`: the boxes that cover the position
        - :math:`h_k, w_k`: the box's number of rows and columns

    Args:
        boxes: From :func:`relative_boxes`, ``(B, N, 4)`` as x1, y1, x2, y2.
        size: Height and width of the map.

    Returns:
        Two maps, ``(B, H, W)``. The background sums to 1 for each image, or is 0 where boxes cover everything.

    Note:
        As released: a box is scaled by **its own image's size before padding**, hence stretched over the whole padded map; it
        covers the rows from :math:`\lfloor y_1 \rfloor` to :math:`\lceil y_2 \rceil`, both included, likewise the columns; its
        rows and columns are counted before the map cuts them, so that a box that ends on the border counts one outside.

    Example:
        The box covers columns 0 and 1 of rows 1 and 2.

        >>> fg, bg = fgd_masks(torch.tensor([[[0.0, 0.25, 0.2, 0.5]]]), size=(4, 4))
        >>> fg[0].tolist()
        [[0.0, 0.0, 0.0, 0.0], [0.25, 0.25, 0.0, 0.0], [0.25, 0.25, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
        >>> round(1 / bg.max().item())
        12
    """
    height, width = size
    boxes = widened(boxes)
    columns, in_columns = _cover(boxes[..., 0] * width, boxes[..., 2] * width, width)
    rows, in_rows = _cover(boxes[..., 1] * height, boxes[..., 3] * height, height)
    value = in_rows / (rows * columns).unsqueeze(2)  # (B, N, H)
    fg = (value.unsqueeze(3) * in_columns.unsqueeze(2)).amax(dim=1)  # (B, N, H, W) -> (B, H, W)
    bg = (fg == 0).to(fg.dtype)
    return fg, bg / bg.sum(dim=(1, 2), keepdim=True).clamp(min=1)


def _cover(low: Tensor, high: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """How many cells each interval touches, ``(B, N)``, and which of the axis; one that ends before it starts touches none."""
    first, last = low.floor(), high.ceil()
    cells = torch.arange(length, device=low.device)
    return (last - first + 1).clamp(min=1), (cells >= first.unsqueeze(2)) & (cells <= last.unsqueeze(2))


def weighted_error(feat_s: Tensor, feat_t: Tensor, *, attn_ch: Tensor) -> Tensor:
    r"""Squared error, weighted and summed over channels: :math:`\sum_c A_c (T_c - S_c)^2`.

    Args:
        feat_s: Student's map, ``(B, C, H, W)``.
        feat_t: Teacher's map, ``(B, C, H, W)``; gets no gradient.
        attn_ch: Weight of each channel, ``(B, C)``.

    Returns:
        ``(B, H, W)``, float32 or wider.
    """
    # One read of both features; its backward pass is one kernel too.
    error = F.mse_loss(widened(feat_s), widened(feat_t).detach(), reduction="none")
    with torch.autocast(error.device.type, enabled=False):  # a square may be too large for float16
        return torch.einsum("bc,bchw->bhw", widened(attn_ch), error)


def fgd_focal(feat_s: Tensor, feat_t: Tensor, *, attn_t: Maps, masks: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    r"""The features' error on the foreground and on the background, where the teacher attends.

    .. math::
        L_m = \frac{1}{B} \sum_{chw} M^m_{hw} A^s_{hw} A^c_c (T_{chw} - S_{chw})^2, \qquad m \in \{fg, bg\}

    Where:
        - :math:`S, T`: ``feat_s``, ``feat_t``
        - :math:`A^s, A^c`: the **teacher's** spatial and channel attention, ``attn_t``
        - :math:`M^{fg}, M^{bg}`: ``masks``

    Args:
        feat_s: Student's map, aligned to the teacher's channels, ``(B, C, H, W)``.
        feat_t: Teacher's map, ``(B, C, H, W)``.
        attn_t: From :func:`attention_maps` of the teacher's map; constants to the gradient.
        masks: From :func:`fgd_masks`, two of ``(B, H, W)``.

    Returns:
        Two scalars, foreground and background: sums over channels and positions, divided by B.

    Deviations:
        The released code multiplies both features by the roots of the weights, which is the same sum; here both terms share one
        reduction over the channels.

    Example:
        >>> feat_t, feat_s = torch.ones(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
        >>> masks = fgd_masks(-torch.ones(2, 1, 4), size=(4, 4))
        >>> [term.item() for term in fgd_focal(feat_s, feat_t, attn_t=attention_maps(feat_t, tau=0.5), masks=masks)]
        [0.0, 3.0]
    """
    attn_sp, attn_ch = (widened(attn).detach() for attn in attn_t)
    error = attn_sp * weighted_error(feat_s, feat_t, attn_ch=attn_ch)  # (B, H, W)
    fg, bg = ((widened(mask) * error).sum() / len(error) for mask in masks)
    return fg, bg


def fgd_attention(attn_s: Maps, attn_t: Maps) -> Tensor:
    r"""The difference of the attention maps.

    .. math::
        L_{att} = \frac{1}{B} \Big( \sum_{hw} |A^s_S - A^s_T| + \sum_c |A^c_S - A^c_T| \Big)

    Args:
        attn_s: From :func:`attention_maps` of the student's map.
        attn_t: The same of the teacher's; gets no gradient.

    Returns:
        Scalar in [0, 2 (H W + C)]: sums over positions and over channels, divided by B.

    Example:
        >>> one, other = torch.tensor([[[[0.0, 1e3]]]]), torch.tensor([[[[1e3, 0.0]]]])
        >>> fgd_attention(attention_maps(one, tau=0.5), attention_maps(other, tau=0.5)).item()
        4.0
    """
    spatial, channel = (F.l1_loss(widened(s), widened(t).detach(), reduction="sum") for s, t in zip(attn_s, attn_t, strict=True))
    return (spatial + channel) / len(attn_s[0])


def fgd_global(
    feat_s: Tensor, feat_t: Tensor, *, context_s: Callable[[Tensor], Tensor], context_t: Callable[[Tensor], Tensor]
) -> Tensor:
    r"""The error of features that know the whole image.

    .. math::
        L_{global} = \frac{1}{B} \sum_{chw} \big( \mathcal{R}_T(T) - \mathcal{R}_S(S) \big)^2, \qquad
        \mathcal{R}(F) = F + W_2\, \mathrm{ReLU}\Big( \mathrm{LN}\Big( W_1 \sum_j
        \frac{e^{w F_j}}{\sum_m e^{w F_m}} F_j \Big)\Big)

    Where:
        - :math:`\mathcal{R} - F`: ``context_s``, ``context_t``, such as :class:`Context`; both learn
        - :math:`j, m`: positions

    Args:
        feat_s: Student's map, aligned to the teacher's channels, ``(B, C, H, W)``.
        feat_t: Teacher's map, ``(B, C, H, W)``.
        context_s: From a map to what is added at every position, ``(B, C, 1, 1)``.
        context_t: The same for the teacher's map.

    Returns:
        Scalar: sum over channels and positions, divided by B.

    Example:
        >>> feat_t, feat_s = torch.ones(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
        >>> mean = torch.nn.AdaptiveAvgPool2d(1)
        >>> fgd_global(feat_s, feat_t, context_s=mean, context_t=mean).item()
        192.0
    """
    feat_s, feat_t = widened(feat_s), widened(feat_t).detach()
    # Both additions are made on the student's side: the teacher's map is not copied.
    return F.mse_loss(feat_s + (context_s(feat_s) - context_t(feat_t)), feat_t, reduction="sum") / len(feat_s)


class Context(nn.Module):
    """What GCNet's global context block adds to a map: mmcv's block, without the sum.

    A bottleneck of half the channels, with a layer norm; the last convolution starts at 0, so the block starts as the identity.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        from mmcv.cnn import ContextBlock

        self.block = ContextBlock(channels, ratio=0.5, pooling_type="att", fusion_types=("channel_add",))

    def forward(self, feat: Tensor) -> Tensor:
        """From ``(B, C, H, W)`` to ``(B, C, 1, 1)``."""
        return self.block.channel_add_conv(self.block.spatial_pool(feat.contiguous()))  # type: ignore[no-any-return]


class FGD(Method):
    """Terms ``fg`` and ``bg`` (:func:`fgd_focal`), ``att`` (:func:`fgd_attention`), ``glob`` (:func:`fgd_global`), over the levels.

    Note:
        Verified in the released code: the attention maps, the masks and how boxes are scaled and rounded, that the teacher's
        attention alone weighs the features, every reduction, both context blocks and that both learn, weights and temperatures;
        where the channels differ, a 1 x 1 convolution aligns the student before everything else.

    Deviations:
        We know of none but two choices of ours: a box that lies outside of its image covers nothing (the released code would index
        from the other end), and half precision is computed in float32.
    """

    name = "fgd"
    WEIGHTS: ClassVar = {"fg": "alpha", "bg": "beta", "att": "gamma", "glob": "lam"}

    def blocks(self, channels_s: int, channels_t: int, *, stride: int) -> nn.Module:
        """See :meth:`Method.blocks`."""
        block = nn.ModuleDict({"align": align(channels_s, channels_t)})
        if self.on("glob", stride):
            block["context_s"] = Context(channels_t)
            block["context_t"] = Context(channels_t)
        return block

    def level(
        self,
        block: Any,
        feat_s: Tensor,
        feat_t: Tensor,
        *,
        stride: int,
        boxes: Sequence[Tensor],
        image_shapes: Sequence[tuple[int, int]],
        **_: Any,
    ) -> dict[str, Tensor]:
        """See :meth:`Method.level`."""
        feat_s = block.align(feat_s)
        attn_s, attn_t = attention_maps(feat_s, tau=self.spec.tau), attention_maps(feat_t, tau=self.spec.tau)
        height, width = feat_t.shape[2:]
        masks = fgd_masks(relative_boxes(boxes, image_shapes), size=(height, width))
        fg, bg = fgd_focal(feat_s, feat_t, attn_t=attn_t, masks=masks)
        terms = {"fg": fg, "bg": bg, "att": fgd_attention(attn_s, attn_t)}
        if self.on("glob", stride):
            terms["glob"] = fgd_global(feat_s, feat_t, context_s=block.context_s, context_t=block.context_t)
        return terms
