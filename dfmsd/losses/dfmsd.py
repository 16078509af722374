"""One stage of DFMSD :cite:p:`dfmsd` (arXiv 2407.13147): dual masking, semantic alignment, and the loss on enhanced images.

The stages themselves (SAL) are a chain of runs, see :mod:`dfmsd.study.rows`; the enhancement of images (ME) is in :mod:`dfmsd.augment`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.registry import MODELS
from torch import Tensor

from dfmsd.losses.base import Levels, widened
from dfmsd.losses.dmkd import DMKD, Reduction, squared_error
from dfmsd.losses.pearson import pearson_loss, standardise


def enhanced_loss(feat_s: Tensor, feat_t: Tensor, *, hidden: Tensor | None, reduction: Reduction = "sum") -> Tensor:
    r"""The error between the features of an enhanced image, Eq. (8).

    .. math::
        L_{aug} = \frac{1}{B} \sum_{chw} M \odot \big( S(\tilde x) - T(\tilde x) \big)^2

    Args:
        feat_s: Student's map of the enhanced images, aligned to the teacher's channels, ``(B, C, H, W)``.
        feat_t: Teacher's map of the enhanced images, ``(B, C, H, W)``.
        hidden: Where the teacher's masks hide, broadcasts against the maps: only these elements count; None: all of them.
        reduction: ``mean`` divides by :math:`CHW` as well.

    Returns:
        Scalar: sum over channels and positions, divided by B.

    Deviations:
        Eq. (8) divides by the number of elements :math:`N_l`, which leaves nothing of the term at the paper's weight
        (:math:`2.5 \cdot 10^{-7}` times a mean). The sum is the convention of the released code that the weight comes from
        (IKD :cite:p:`ikd`). ``mean`` is the other reading; balanced to a share of the detection loss, it differs by how much
        each level counts.

        The paper calls the maps of both networks "enhanced masking features". IKD's code, whose loss this is, compares plain ones,
        and so does ``hidden=None``. The other reading is ours: given a mask, what it **hides** counts, where the teacher attends.

    Example:
        >>> enhanced_loss(torch.zeros(2, 1, 2, 2), torch.ones(2, 1, 2, 2), hidden=None).item()
        4.0
    """
    difference = feat_s - widened(feat_t.detach())
    difference = difference if hidden is None else difference * hidden
    return squared_error(difference, reduction)  # Eq. (8)


@MODELS.register_module()
class DFMSD(DMKD):
    """The terms of one DFMSD stage, Eqs. (2), (3), (5), (7) and (8); fields as in :class:`dfmsd.hyper.DFMSD`.

    Terms: ``rec`` (weight alpha), ``sfa`` (weight sfa), and Eq. (8) twice: on enhanced images ``aug`` (weight beta) and on
    adversarial examples ``adv`` (weight adv).

    Args:
        beta: Weight of :func:`enhanced_loss`.
        sfa: Weight of :func:`~dfmsd.losses.pearson.pearson_loss`, summed over ``sfa_strides``; 0 leaves it out.
        sfa_strides: Levels to align; those that both pyramids have are used.
        sfa_inside: Standardise inside the reconstruction error; the separate term is then left out.
        enhanced_masked: Count only what the teacher's masks hide in :func:`enhanced_loss`.
        adv: Weight of :func:`enhanced_loss` on adversarial examples; 0 leaves it out.
        **dual: Arguments of :class:`~dfmsd.losses.dmkd.DMKD`.

    Deviations:
        How Eq. (5) enters Eq. (6) is not said: a separate, mean-reduced term by default, ``sfa_inside`` for the other reading.
    """

    name = "dfmsd"
    uses_enhanced = True

    def __init__(
        self,
        *,
        beta: float,
        sfa: float,
        sfa_strides: Sequence[int],
        sfa_inside: bool,
        enhanced_masked: bool,
        adv: float,
        **dual: Any,
    ) -> None:
        weights = {"sfa": sfa, "aug": beta} | ({"adv": adv} if adv else {})
        super().__init__(**(dual | weights))
        self.sfa_strides = tuple(stride for stride in sfa_strides if stride in self.strides)
        self.use_sfa = sfa > 0 and not sfa_inside and bool(self.sfa_strides)
        self.sfa_inside = sfa_inside
        self.enhanced_masked = enhanced_masked

    def terms(self, levels_s: Levels, levels_t: Levels, **context: Any) -> dict[str, Tensor]:
        """See :meth:`~dfmsd.losses.base.Method.terms`."""
        terms = super().terms(levels_s, levels_t, **context)  # Eq. (7)
        if self.use_sfa:
            aligned = [
                pearson_loss(self._align(stride, levels_s), levels_t[stride].detach()) for stride in self.sfa_strides
            ]  # Eq. (5)
            terms["sfa"] = torch.stack(aligned).sum()
        return terms

    def enhanced_term(self, levels_s: Levels, levels_t: Levels) -> Tensor:
        """See :meth:`~dfmsd.losses.base.Method.enhanced_term`."""
        total = [
            enhanced_loss(
                self._align(stride, levels_s), levels_t[stride], hidden=self._counted(levels_t[stride]), reduction=self.reduction
            )
            for stride in self.strides
        ]  # Eq. (8)
        return torch.stack(total).sum()

    def level_loss(self, reconstruction: Tensor, feat_t: Tensor) -> Tensor:
        """The error of one level's reconstruction, of standardised maps with ``sfa_inside``."""
        if self.sfa_inside:
            return squared_error(standardise(reconstruction) - standardise(feat_t.detach()), self.reduction)
        return super().level_loss(reconstruction, feat_t)

    def _align(self, stride: int, levels_s: Levels) -> Tensor:
        return self.levels[str(stride)].align(levels_s[stride])  # type: ignore[operator, no-any-return]

    def _counted(self, feat_t: Tensor) -> Tensor | None:
        if not self.enhanced_masked:
            return None
        hidden_sp, hidden_ch = self.masks(feat_t)
        return hidden_sp | hidden_ch
