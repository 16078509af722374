"""Dense heads opened up: how a feature that left one in the middle goes on through another. One class a family of heads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.models.dense_heads import FCOSHead, GFLHead, RetinaHead
from mmdet.models.losses.iou_loss import giou_loss, iou_loss
from mmdet.structures.bbox import distance2bbox
from mmdet.utils import reduce_mean
from torch import Tensor

from dfmsd.errors import StudyError
from dfmsd.losses.base import widened
from dfmsd.losses.crosskd import crosskd_bins_loss

Prediction = tuple[Tensor, Tensor]
"""Class logits and regression of one level, ``(B, N, K)`` and ``(B, N, ...)`` for N anchors or points."""


class Seen:
    """What was caught of a head during its loss."""

    def __init__(self) -> None:
        self.towers: tuple[list[Tensor], list[Tensor]] = ([], [])
        self.targets: Any = None

    def features(self, level: int) -> list[Tensor]:
        """Both towers' features of a level."""
        return [tower[level] for tower in self.towers]


class DenseHead:
    """One of mmdet's dense heads with a classification and a regression tower.

    Args:
        head: The head; it is looked at and run, never changed.
    """

    def __init__(self, head: Any) -> None:
        self.head = head

    @property
    def strides(self) -> list[int]:
        """The strides of its levels, in pixels."""
        return [stride[0] for stride in self.head.prior_generator.strides]

    @property
    def towers(self) -> tuple[Any, Any]:
        """The convolutions of classification and of regression."""
        return self.head.cls_convs, self.head.reg_convs

    def towers_until(self, feat: Tensor, layer: int, *, before_activation: bool) -> list[Tensor]:
        """The features of both towers after so many convolutions, before or after the activation of the last."""
        outputs = []
        for convs in self.towers:
            inner = feat
            for conv in convs[: layer - 1]:
                inner = conv(inner)
            outputs.append(convs[layer - 1](inner, activate=not before_activation))
        return outputs

    def predict(self, feats: Sequence[Tensor], level: int, layer: int) -> Prediction:
        """The rest of the head, from where :meth:`towers_until` stopped: first an activation, even after another."""
        ends = []
        for convs, inner in zip(self.towers, feats, strict=True):
            inner = F.relu(inner)
            for conv in convs[layer:]:
                inner = conv(inner)
            ends.append(inner)
        feat_cls, feat_reg = ends
        return self.outputs(feat_cls, feat_reg, level)

    def outputs(self, feat_cls: Tensor, feat_reg: Tensor, level: int) -> Prediction:
        """The predictors of one level."""
        raise NotImplementedError

    def flat(self, levels: Sequence[Prediction]) -> Prediction:
        """All levels and images in one row, ``(B * N, ...)``, image by image."""
        cls, reg = (torch.cat(parts, dim=1).flatten(0, 1) for parts in zip(*levels, strict=True))
        return cls, reg

    def targets(self, found: Any, levels: Sequence[int]) -> tuple[Tensor | None, Tensor]:
        """From what the head's ``get_targets`` returned: the weight of each anchor of some levels, or None for 1; the normaliser.

        The normaliser is that of the head's own loss: the number of positives at all levels, as a mean over the processes.
        """
        raise NotImplementedError

    def box_loss(self, reg: Tensor, reg_t: Tensor, *, weight: Tensor, normaliser: Tensor) -> Tensor:
        """Weighted sum of the boxes' losses, normalised."""
        raise NotImplementedError

    @contextmanager
    def watched(self, layer: int, *, before_activation: bool) -> Iterator[Seen]:
        """Catch the towers' features around an activation, level by level, and what ``get_targets`` returns."""
        caught = Seen()
        head, plain = self.head, self.head.get_targets

        def get_targets(*arguments: Any, **options: Any) -> Any:
            caught.targets = plain(*arguments, **options)
            return caught.targets

        with ExitStack() as stack:
            for convs, features in zip(self.towers, caught.towers, strict=True):
                conv = convs[layer - 1]
                if before_activation:  # a copy: the activation works in place
                    handle = conv.activate.register_forward_pre_hook(lambda _, inputs, f=features: f.append(inputs[0].clone()))
                else:
                    handle = conv.register_forward_hook(lambda _, __, output, f=features: f.append(output))
                stack.enter_context(handle)
            # The head of a student with several teachers is watched for each: the inner ones give back what the outer one has set.
            own = vars(head).get("get_targets")
            head.get_targets = get_targets
            stack.callback(lambda: delattr(head, "get_targets") if own is None else setattr(head, "get_targets", own))
            yield caught


def _rows(feat: Tensor, size: int) -> Tensor:
    """``(B, A * size, H, W)`` -> ``(B, H * W * A, size)``, in the order of mmdet's anchors."""
    return feat.permute(0, 2, 3, 1).reshape(feat.shape[0], -1, size)


def _weighed(weights: Sequence[Tensor], levels: Sequence[int], positives: float) -> tuple[Tensor, Tensor]:
    weight = torch.cat([weights[level] for level in levels], dim=1).flatten()
    total: Tensor = reduce_mean(weight.new_tensor(float(positives)))
    return weight, total.clamp(min=1.0)


class Retina(DenseHead):
    """RetinaNet's head: anchors, and boxes coded as changes to them."""

    def outputs(self, feat_cls: Tensor, feat_reg: Tensor, level: int) -> Prediction:
        """See :meth:`DenseHead.outputs`; the regression is decoded: boxes ``(B, N, 4)`` in pixels."""
        height, width = feat_cls.shape[2:]
        generator = self.head.prior_generator
        anchors = generator.single_level_grid_priors((height, width), level, dtype=feat_reg.dtype, device=feat_reg.device)
        changes = _rows(self.head.retina_reg(feat_reg), 4)
        boxes = self.head.bbox_coder.decode(anchors.repeat(len(changes), 1), changes.flatten(0, 1))
        return _rows(self.head.retina_cls(feat_cls), self.head.cls_out_channels), boxes.view_as(changes)

    def targets(self, found: Any, levels: Sequence[int]) -> tuple[Tensor | None, Tensor]:
        """See :meth:`DenseHead.targets`."""
        _, weights, _, _, positives, *_ = found
        return _weighed(weights, levels, positives)

    def box_loss(self, reg: Tensor, reg_t: Tensor, *, weight: Tensor, normaliser: Tensor) -> Tensor:
        """See :meth:`DenseHead.box_loss`: generalised IoU."""
        return giou_loss(reg, reg_t, weight=weight, reduction="sum") / normaliser  # type: ignore[no-any-return]


class Gfl(DenseHead):
    """GFL's head: one anchor a position, and distances to the sides as distributions over bins."""

    def outputs(self, feat_cls: Tensor, feat_reg: Tensor, level: int) -> Prediction:
        """See :meth:`DenseHead.outputs`; the regression is the logits of the bins, ``(B, N, 4, R)``."""
        bins = _rows(widened(self.head.scales[level](self.head.gfl_reg(feat_reg))), 4 * (self.head.reg_max + 1))
        return _rows(self.head.gfl_cls(feat_cls), self.head.cls_out_channels), bins.unflatten(2, (4, -1))

    def targets(self, found: Any, levels: Sequence[int]) -> tuple[Tensor | None, Tensor]:
        """See :meth:`DenseHead.targets`."""
        _, _, weights, _, _, positives = found
        return _weighed(weights, levels, positives)

    def box_loss(self, reg: Tensor, reg_t: Tensor, *, weight: Tensor, normaliser: Tensor) -> Tensor:
        """See :meth:`DenseHead.box_loss`: of the distributions, normalised by the sum of the weights."""
        total: Tensor = reduce_mean(weight.sum())
        return crosskd_bins_loss(reg, reg_t, weight=weight) / total.clamp(min=1e-6)


class Fcos(DenseHead):
    """FCOS's head: points, and distances to the sides."""

    def outputs(self, feat_cls: Tensor, feat_reg: Tensor, level: int) -> Prediction:
        """See :meth:`DenseHead.outputs`; the regression is distances, ``(B, N, 4)``.

        The head cuts normalised distances at 0; here at a thousandth of the stride, as an empty box has no overlap with itself.
        """
        distances = widened(self.head.scales[level](self.head.conv_reg(feat_reg)))
        distances = distances.clamp(min=1e-3) if self.head.norm_on_bbox else distances.exp()
        return _rows(self.head.conv_cls(feat_cls), self.head.cls_out_channels), _rows(distances, 4)

    def targets(self, found: Any, levels: Sequence[int]) -> tuple[Tensor | None, Tensor]:
        """See :meth:`DenseHead.targets`: no weights, and the sum of the positives' centerness instead of their number."""
        labels, distances = (torch.cat(levels) for levels in found)
        positive = (labels >= 0) & (labels < self.head.num_classes)
        pairs = distances.clamp(min=0).view(-1, 2, 2).transpose(1, 2)  # left, top, right, bottom -> (left, right), (top, bottom)
        ratios = pairs.amin(dim=2) / pairs.amax(dim=2).clamp(min=1e-12)
        return None, reduce_mean((ratios.prod(dim=1).sqrt() * positive).sum()).clamp(min=1e-6)

    def box_loss(self, reg: Tensor, reg_t: Tensor, *, weight: Tensor, normaliser: Tensor) -> Tensor:
        """See :meth:`DenseHead.box_loss`: -log IoU. Both boxes of a point share it, so where it lies does not matter."""
        origin = reg.new_zeros(len(reg), 2)
        boxes, boxes_t = distance2bbox(origin, reg), distance2bbox(origin, reg_t)
        return iou_loss(boxes, boxes_t, weight=weight, reduction="sum") / normaliser  # type: ignore[no-any-return]


def of(detector: Any) -> DenseHead:
    """A detector's dense head.

    Raises:
        StudyError: if it has none, or one whose inside is not known here.
    """
    head = getattr(detector, "bbox_head", None)
    for known, model in ((GFLHead, Gfl), (RetinaHead, Retina), (FCOSHead, Fcos)):
        if type(head) is known:
            return model(head)
    found = "no dense head" if head is None else type(head).__name__
    raise StudyError(f"crosskd: {type(detector).__name__} has {found}; it needs a RetinaHead, GFLHead or FCOSHead on both sides")


def check_pair(student: DenseHead, teacher: DenseHead, layer: int) -> None:
    """Refuse a pair whose features cannot cross over.

    Raises:
        StudyError: with the first difference.
    """
    names = type(student.head).__name__, type(teacher.head).__name__
    if names[0] != names[1]:
        raise StudyError(f"crosskd: the student's head is a {names[0]} and the teacher's a {names[1]}: they must be of one type")
    for field in ("feat_channels", "num_classes", "num_base_priors", "strides", "reg_max"):
        pair = tuple(getattr(one.head, field, getattr(one, field, None)) for one in (student, teacher))
        if pair[0] != pair[1]:
            raise StudyError(f"crosskd: {field} of the two heads differ ({pair[0]} and {pair[1]})")
    depth = min(len(one.towers[0]) for one in (student, teacher))
    if layer > depth:
        raise StudyError(f"crosskd: layer = {layer}, but a tower has {depth} convolutions: take at most {depth}")
