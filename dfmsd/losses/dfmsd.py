"""One stage of DFMSD :cite:p:`dfmsd` (arXiv 2407.13147): dual masking, semantic alignment, and the loss on enhanced images.

The stages themselves (SAL) are a chain of runs; the enhancement of images (ME) is in :mod:`dfmsd.augment`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from dfmsd.hyper import Reduction
from dfmsd.losses.base import squared_error, widened
from dfmsd.losses.dmkd import DMKD, dmkd_loss
from dfmsd.losses.pearson import pearson_loss, standardise


def enhanced_loss(feat_s: Tensor, feat_t: Tensor, *, hidden: Tensor | None, reduction: Reduction = "sum") -> Tensor:
    r"""The error between the features of an enhanced image, Eq. (8).

    .. math::
        L_{aug} = \frac{1}{B} \sum_{chw} \big( S(\tilde x) - T(\tilde x) \big)^2

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


class DFMSD(DMKD):
    """The terms of one DFMSD stage, Eqs. (2), (3), (5), (7) and (8).

    Terms: ``rec``, :func:`~dfmsd.losses.dmkd.dmkd_loss`; ``sfa``, :func:`~dfmsd.losses.pearson.pearson_loss`, on its own levels;
    and :func:`enhanced_loss` twice: on enhanced images ``aug``, on adversarial examples ``adv``. Each is summed over the levels.

    Raises:
        StudyError: if ``se_ratio`` is larger than the number of channels.

    Deviations:
        How Eq. (5) enters Eq. (6) is not said: a separate, mean-reduced term by default, ``sfa_inside`` for the other reading.
    """

    name = "dfmsd"
    WEIGHTS: ClassVar = {"rec": "alpha", "sfa": "sfa", "aug": "beta", "adv": "adv"}

    def on(self, term: str, stride: int) -> bool:
        """See :meth:`Method.on`."""
        aligned = stride in self.spec.sfa_strides and not self.spec.sfa_inside
        return super().on(term, stride) and (term != "sfa" or aligned)

    def level(
        self, block: Any, feat_s: Tensor, feat_t: Tensor, *, stride: int, generator: torch.Generator, **_: Any
    ) -> dict[str, Tensor]:
        """See :meth:`Method.level`."""
        terms, feat_s = {}, block.align(feat_s)
        if self.on("rec", stride):
            made = self.reconstruct(block, feat_s, feat_t, generator)
            if self.spec.sfa_inside:
                terms["rec"] = squared_error(standardise(made) - standardise(feat_t.detach()), self.spec.reduction)
            else:
                terms["rec"] = dmkd_loss(made, feat_t, reduction=self.spec.reduction)
        if self.on("sfa", stride):
            terms["sfa"] = pearson_loss(feat_s, feat_t)
        return terms

    def enhanced(self, block: Any, feat_s: Tensor, feat_t: Tensor) -> Tensor:
        """See :meth:`Method.enhanced`."""
        hidden = None
        if self.spec.enhanced_masked:
            hidden_sp, hidden_ch = self.masks(feat_t)
            hidden = hidden_sp | hidden_ch
        return enhanced_loss(block.align(feat_s), feat_t, hidden=hidden, reduction=self.spec.reduction)
