"""Dual masking knowledge distillation, DMKD :cite:p:`dmkd` (arXiv 2309.02719): our re-implementation, none was released."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dfmsd.hyper import Hide, Reduction
from dfmsd.losses.attention import attention_mask, channel_attention, spatial_attention
from dfmsd.losses.base import Method, squared_error, widened
from dfmsd.losses.blocks import align, gated_generation

Block = Callable[[Tensor], Tensor]


def dual_masks(
    feat_t: Tensor,
    *,
    tau: float,
    spatial_ratio: float,
    channel_ratio: float,
    spatial_threshold: float | None = None,
    channel_threshold: float | None = None,
    hide: Hide = "highest",
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """What the teacher attends to most is hidden: the spatial and the channel mask from Eqs. (3) and (2).

    Args:
        feat_t: Teacher's map, ``(B, C, H, W)``.
        tau: Temperature of both attention maps.
        spatial_ratio: Share of the positions to hide.
        channel_ratio: Share of the channels to hide.
        spatial_threshold: Hide the positions whose attention is beyond it instead of a share; 1 is the mean.
        channel_threshold: The same for channels.
        hide: The highest attention, the lowest, or a share at random (:func:`~dfmsd.losses.attention.attention_mask`).
        generator: For masks at random.

    Returns:
        Two boolean masks, ``(B, 1, H, W)`` and ``(B, C, 1, 1)``, True where hidden.

    Deviations:
        The text of the paper has lost how attention becomes a mask. High attention is hidden, because section 3.4 says that
        "low-scored regions are not identifiable for feature masking"; the share is MGD's. As only the order of the attention
        counts for a fixed share, ``tau`` changes nothing short of underflow; it matters for thresholds.

    Example:
        >>> feat_t = torch.zeros(1, 2, 1, 4)
        >>> feat_t[0, 0, 0, 3] = 5.0
        >>> hidden_sp, hidden_ch = dual_masks(feat_t, tau=0.5, spatial_ratio=0.25, channel_ratio=0.5)
        >>> hidden_sp.flatten().tolist(), hidden_ch.flatten().tolist()
        ([False, False, False, True], [True, False])
    """
    feat_t = feat_t.detach()
    attention_sp, attention_ch = spatial_attention(feat_t, tau=tau), channel_attention(feat_t, tau=tau)
    hidden_sp = attention_mask(attention_sp, ratio=spatial_ratio, threshold=spatial_threshold, hide=hide, generator=generator)
    hidden_ch = attention_mask(attention_ch, ratio=channel_ratio, threshold=channel_threshold, hide=hide, generator=generator)
    return hidden_sp.unsqueeze(1), hidden_ch[:, :, None, None]


def dmkd_reconstruction(
    feat_s: Tensor, *, hidden_sp: Tensor, hidden_ch: Tensor, branch_sp: Block, branch_ch: Block, fusion: Tensor
) -> Tensor:
    r"""Two reconstructions of the student's map, fused by learned weights.

    .. math::
        R = w_s\, \mathcal{G}_s(\mathrm{SE}_s(S \odot M^s)) + w_c\, \mathcal{G}_c(\mathrm{SE}_c(S \odot M^c)),
        \qquad (w_s, w_c) = \mathrm{softmax}(\text{fusion})

    Args:
        feat_s: Student's map, aligned to the teacher's channels, ``(B, C, H, W)``.
        hidden_sp: Spatial mask, ``(B, 1, H, W)``, True where hidden.
        hidden_ch: Channel mask, ``(B, C, 1, 1)``, True where hidden.
        branch_sp: SE and generation block of the spatial branch.
        branch_ch: The same of the channel branch.
        fusion: Two learned scalars, ``(2,)``.

    Returns:
        ``(B, C, H, W)``.

    Deviations:
        "Self-adjustable weighting" is all that is known of the fusion; a softmax keeps the weights positive with sum 1. The
        reduction of the SE blocks is not known either: 16, the usual one.
    """
    feat_s, weight = widened(feat_s), widened(fusion).softmax(dim=0)
    return weight[0] * branch_sp(feat_s.masked_fill(hidden_sp, 0.0)) + weight[1] * branch_ch(feat_s.masked_fill(hidden_ch, 0.0))


def dmkd_loss(reconstruction: Tensor, feat_t: Tensor, *, reduction: Reduction = "sum") -> Tensor:
    r"""The error of the reconstruction, Eq. (7) for one stage and one level.

    .. math::
        L_{rec} = \frac{1}{B} \sum_{chw} (R - T)^2

    Args:
        reconstruction: :func:`dmkd_reconstruction`, ``(B, C, H, W)``.
        feat_t: Teacher's map, ``(B, C, H, W)``.
        reduction: ``mean`` divides by :math:`CHW` as well.

    Returns:
        Scalar: sum over channels and positions, divided by B.

    Example:
        Nothing hidden and identity blocks: the plain squared error.

        >>> feat_t, feat_s = torch.ones(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
        >>> hidden_sp, hidden_ch = dual_masks(feat_t, tau=0.5, spatial_ratio=0.0, channel_ratio=0.0)
        >>> same = torch.nn.Identity()
        >>> made = dmkd_reconstruction(feat_s, hidden_sp=hidden_sp, hidden_ch=hidden_ch, branch_sp=same, branch_ch=same,
        ...                            fusion=torch.zeros(2))
        >>> dmkd_loss(made, feat_t).item(), dmkd_loss(made, feat_t, reduction="mean").item()
        (48.0, 1.0)
    """
    return squared_error(reconstruction - widened(feat_t.detach()), reduction)  # Eq. (7)


class DMKD(Method):
    """Term ``rec``: :func:`dmkd_loss` summed over the levels.

    Raises:
        StudyError: if ``se_ratio`` is larger than the number of channels.
    """

    name = "dmkd"
    WEIGHTS: ClassVar = {"rec": "alpha"}

    def blocks(self, channels_s: int, channels_t: int, *, stride: int) -> nn.Module:
        """See :meth:`Method.blocks`."""
        block = nn.ModuleDict({"align": align(channels_s, channels_t)})
        if self.on("rec", stride):
            for branch in ("branch_sp", "branch_ch"):
                block[branch] = gated_generation(channels_t, se_ratio=self.spec.se_ratio)
            block.fusion = nn.Parameter(torch.zeros(2))
        return block

    def masks(self, feat_t: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """:func:`dual_masks` of a teacher's map."""
        return dual_masks(feat_t, **self.spec.masking, generator=generator)

    def reconstruct(self, block: Any, feat_s: Tensor, feat_t: Tensor, generator: torch.Generator) -> Tensor:
        """:func:`dmkd_reconstruction` of a student's aligned map, by the masks of the teacher's."""
        hidden_sp, hidden_ch = self.masks(feat_t, generator)
        branches = {"branch_sp": block.branch_sp, "branch_ch": block.branch_ch, "fusion": block.fusion}
        return dmkd_reconstruction(feat_s, hidden_sp=hidden_sp, hidden_ch=hidden_ch, **branches)

    def level(
        self, block: Any, feat_s: Tensor, feat_t: Tensor, *, stride: int, generator: torch.Generator, **_: Any
    ) -> dict[str, Tensor]:
        """See :meth:`Method.level`."""
        made = self.reconstruct(block, block.align(feat_s), feat_t, generator)
        return {"rec": dmkd_loss(made, feat_t, reduction=self.spec.reduction)}
