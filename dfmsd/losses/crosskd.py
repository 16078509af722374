"""Cross-head knowledge distillation, CrossKD :cite:p:`crosskd` (arXiv 2306.11369)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfmsd.losses.base import Levels, Method, widened

EPS = 1e-6
"""Added to the standard deviation of the student's feature."""


def cross_standardise(feat_s: Tensor, feat_t: Tensor) -> Tensor:
    r"""Give each channel of the student's feature the mean and the standard deviation of the teacher's.

    .. math::
        \hat S = \frac{S - \mu_S}{\sigma_S + 10^{-6}}\, \sigma_T + \mu_T

    Args:
        feat_s: Student's feature, ``(B, C, H, W)``.
        feat_t: Teacher's, likewise.

    Returns:
        ``(B, C, H, W)``. Mean and unbiased standard deviation are taken over batch and positions; with one element per channel
        the result is the teacher's feature.

    Example:
        >>> feat = torch.arange(8.0).reshape(2, 1, 2, 2)
        >>> cross_standardise(3 * feat - 5, feat).flatten().round().tolist()
        [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    """
    feat_s, feat_t, over = widened(feat_s), widened(feat_t), (0, 2, 3)
    centred = feat_s - feat_s.mean(dim=over, keepdim=True)
    if centred[:, 0].numel() > 1:
        centred = centred / (feat_s.std(dim=over, keepdim=True) + EPS) * feat_t.std(dim=over, keepdim=True)
    return centred + feat_t.mean(dim=over, keepdim=True)


def crosskd_cls_loss(logits: Tensor, logits_t: Tensor, *, weight: Tensor, beta: float) -> Tensor:
    r"""Quality focal loss between the cross-head's and the teacher's class scores, before normalisation.

    .. math::
        L_{cls} = \sum_{n} w_n \sum_k \left| \sigma(\hat p_{nk}) - \sigma(t_{nk}) \right|^\beta
        \mathrm{BCE}\big( \hat p_{nk}, \sigma(t_{nk}) \big)

    Args:
        logits: Cross-head's predictions, ``(N, K)`` for N anchors or points and K classes.
        logits_t: Teacher's, ``(N, K)``.
        weight: Of each anchor, ``(N,)``.
        beta: Focus on what differs; the paper's is 1.

    Returns:
        Scalar: the sum; divide it by the number of positives.

    Example:
        >>> crosskd_cls_loss(torch.zeros(1, 1), torch.full((1, 1), 20.0), weight=torch.ones(1), beta=1.0).item()  # ln(2) / 2
        0.34657...
    """
    logits, target = widened(logits), widened(logits_t).detach().sigmoid()
    focus = (logits.sigmoid() - target).abs().pow(beta)
    return (F.binary_cross_entropy_with_logits(logits, target, reduction="none") * focus).sum(dim=1).mul(widened(weight)).sum()


def crosskd_bins_loss(bins: Tensor, bins_t: Tensor, *, weight: Tensor) -> Tensor:
    r"""Divergence of the distributions over a box's four distances (GFL), before normalisation.

    .. math::
        L_{reg} = \sum_n w_n \frac14 \sum_{side} \mathrm{KL}\big( \mathrm{softmax}(t) \,\|\, \mathrm{softmax}(\hat p) \big)

    Args:
        bins: Cross-head's logits, ``(N, 4, R)`` for R bins.
        bins_t: Teacher's, likewise.
        weight: Of each anchor, ``(N,)``.

    Returns:
        Scalar: the sum; divide it by the sum of the weights.

    Example:
        >>> bins = torch.randn(3, 4, 17)
        >>> crosskd_bins_loss(bins + 5, bins, weight=torch.ones(3)).abs().item() < 1e-5
        True
    """
    bins, bins_t = widened(bins), widened(bins_t).detach()
    divergence = F.kl_div(bins.log_softmax(dim=2), bins_t.log_softmax(dim=2), reduction="none", log_target=True)
    return divergence.sum(dim=2).mean(dim=1).mul(widened(weight)).sum()


class CrossKD(Method):
    """The student's head features go on through the teacher's frozen head, and what comes out is compared with the teacher.

    Terms: ``cls``, :func:`crosskd_cls_loss` over all positions, divided by the student's number of positives (FCOS: the sum of
    their centerness); ``reg``, GIoU (RetinaNet) or IoU (FCOS) of the decoded boxes, divided by the same, or
    :func:`crosskd_bins_loss` (GFL), divided by the sum of its weights. A position's weight in ``reg`` is the teacher's highest
    class score. With some of the levels only, the positives are still those of all.

    Nothing is learned here, so channels do not matter. :meth:`~dfmsd.losses.base.Method.connect` refuses two heads that are
    not dense heads of one type with the same layout.

    Deviations:
        By default there are none: it computes what the released code does. The paper's text has the features before the ReLU
        (``before_activation=True``); in its code, whose ReLU works in place, they are those after it, and its numbers come from
        these. As there, anchors that the student's assigner ignores count in neither term, and GFL's four sides are averaged.
    """

    name = "crosskd"
    WEIGHTS: ClassVar = {"cls": "cls", "reg": "reg"}

    def blocks(self, channels_s: int, channels_t: int, *, stride: int) -> nn.Module:
        """Nothing is learned."""
        return nn.ModuleDict()

    def connect(self, student: Any, teacher: Any) -> None:
        """See :meth:`Method.connect`."""
        from dfmsd.losses import heads

        # In a tuple: the heads belong to the detectors, not to this module.
        self._heads = (heads.of(student), heads.of(teacher))
        heads.check_pair(*self._heads, self.spec.layer)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Catch the student's head features and its targets."""
        with self._heads[0].watched(self.spec.layer, before_activation=self.spec.before_activation) as self._seen:
            yield

    def terms(self, levels_s: Levels, levels_t: Levels, **_: Any) -> dict[str, Tensor]:
        """See :meth:`Method.terms`."""
        seen = self._seen
        del self._seen  # it holds the student's graph
        with torch.autocast(next(iter(levels_t.values())).device.type, enabled=False):  # areas of boxes overflow half precision
            return self._compared(seen, levels_t)

    def _compared(self, seen: Any, levels_t: Levels) -> dict[str, Tensor]:
        student, teacher = self._heads
        layer, places = self.spec.layer, [teacher.strides.index(stride) for stride in self.strides]
        crossed, taught = [], []
        for stride, place in zip(self.strides, places, strict=True):
            with torch.no_grad():
                feat_t = widened(levels_t[stride])
                feats_t = teacher.towers_until(feat_t, layer, before_activation=self.spec.before_activation)
                taught.append(teacher.predict(feats_t, place, layer))
            feats = [cross_standardise(own, target) for own, target in zip(seen.features(place), feats_t, strict=True)]
            crossed.append(teacher.predict(feats, place, layer))
        (cls, reg), (cls_t, reg_t) = teacher.flat(crossed), teacher.flat(taught)
        weight, normaliser = student.targets(seen.targets, places)
        weight = torch.ones_like(cls_t[:, 0]) if weight is None else weight
        certainty = cls_t.sigmoid().amax(dim=1) * (weight > 0)
        return {
            "cls": crosskd_cls_loss(cls, cls_t, weight=weight, beta=self.spec.beta) / normaliser,
            "reg": teacher.box_loss(reg, reg_t, weight=certainty, normaliser=normaliser),
        }
