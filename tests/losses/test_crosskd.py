"""CrossKD: its equations against NumPy in float64, and mmdet's own heads opened up."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dfmsd.errors import StudyError
from dfmsd.losses import heads
from dfmsd.losses.crosskd import cross_standardise, crosskd_bins_loss, crosskd_cls_loss
from tests.fixtures_detectors import batch, detector
from tests.losses import helpers

STRIDES = (8, 16, 32, 64, 128)
FAMILIES = ("retinanet_r50", "gfl_r101", "fcos_r50")


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


# The equations


@pytest.mark.parametrize("beta", [1.0, 2.0])
def test_class_loss_is_a_cross_entropy_weighed_by_the_difference(beta: float) -> None:
    logits, logits_t, weight = random(6, 3), random(6, 3, seed=1), random(6, seed=2).abs()
    p, t = sigmoid(logits.numpy()), sigmoid(logits_t.numpy())
    entropy = -(t * np.log(p) + (1 - t) * np.log(1 - p))
    expected = (weight.numpy()[:, None] * np.abs(p - t) ** beta * entropy).sum()
    assert crosskd_cls_loss(logits, logits_t, weight=weight, beta=beta).item() == pytest.approx(expected, rel=1e-12)


def test_bins_loss_is_the_divergence_from_the_teachers_distribution() -> None:
    bins, bins_t, weight = random(5, 4, 7), random(5, 4, 7, seed=1), random(5, seed=2).abs()
    p, t = (np.exp(x.numpy()) / np.exp(x.numpy()).sum(2, keepdims=True) for x in (bins, bins_t))
    expected = (weight.numpy() * (t * np.log(t / p)).sum(2).mean(1)).sum()
    assert crosskd_bins_loss(bins, bins_t, weight=weight).item() == pytest.approx(expected, rel=1e-12)


def test_standardised_features_have_the_teachers_statistics() -> None:
    feat_s, feat_t = 5 * random(2, 3, 4, 4) - 7, 0.5 * random(2, 3, 4, 4, seed=1) + 2
    crossed = cross_standardise(feat_s, feat_t)
    (s, mean_s, std_s), (_, mean_t, std_t) = (
        (x, x.mean((0, 2, 3), keepdims=True), x.std((0, 2, 3), keepdims=True, ddof=1)) for x in (feat_s.numpy(), feat_t.numpy())
    )
    np.testing.assert_allclose(crossed.numpy(), (s - mean_s) / (std_s + 1e-6) * std_t + mean_t, rtol=1e-12)


def test_a_single_element_and_a_constant_channel_become_the_teachers_mean() -> None:
    feat_t = random(1, 3, 1, 1)
    torch.testing.assert_close(cross_standardise(random(1, 3, 1, 1, seed=1), feat_t), feat_t)
    constant = cross_standardise(torch.full((2, 3, 4, 4), 5.0), random(2, 3, 4, 4, dtype=torch.float32))
    torch.testing.assert_close(
        constant, random(2, 3, 4, 4, dtype=torch.float32).mean(dim=(0, 2, 3), keepdim=True).expand(2, 3, 4, 4)
    )


def test_gradients() -> None:
    logits, bins = random(3, 2).requires_grad_(), random(2, 4, 3).requires_grad_()
    ones = torch.ones(3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: crosskd_cls_loss(x, random(3, 2, seed=1), weight=ones, beta=1.0), logits)
    assert torch.autograd.gradcheck(lambda x: crosskd_bins_loss(x, random(2, 4, 3, seed=1), weight=ones[:2]), bins)
    assert torch.autograd.gradcheck(lambda x: cross_standardise(x, random(2, 2, 2, 2, seed=1)), random(2, 2, 2, 2).requires_grad_())


# Heads


def method(student: Any, teacher: Any, layer: int = 1, *, before_activation: bool = False, strides: Any = STRIDES) -> Any:
    made = helpers.method("crosskd", strides=strides, layer=layer, before_activation=before_activation)
    made.connect(student, teacher)
    return made


def changed(name: str, amount: float = 0.3) -> Any:
    """A detector of the same type with other weights, in training mode."""
    student = copy.deepcopy(detector(name)).requires_grad_(True).train()
    generator = torch.Generator().manual_seed(0)
    for parameter in student.parameters():
        parameter.data += amount * parameter.data.std(correction=0) * torch.randn(parameter.shape, generator=generator)
    return student


def terms(
    student: Any, teacher: Any, *, before_activation: bool = False, strides: tuple[int, ...] = STRIDES, shift: Any = None
) -> dict[str, Tensor]:
    """Weighted terms on some of the levels; ``shift`` is added to the teacher's maps, by stride."""
    data = teacher.data_preprocessor(batch(), True)
    made = method(student, teacher, before_activation=before_activation, strides=strides)
    with made.watching():
        student.loss(data["inputs"], data["data_samples"])
        feats_s = student.extract_feat(data["inputs"])
    feats_t = teacher.extract_feat(data["inputs"]) if student is not teacher else feats_s
    levels = {stride: feat.detach() + (shift or {}).get(stride, 0.0) for stride, feat in zip(STRIDES, feats_t, strict=True)}
    return helpers.run(made, levels, levels)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("layer", [1, 2])
@pytest.mark.parametrize("before_activation", [False, True])
def test_the_opened_head_predicts_what_the_closed_one_does(name: str, layer: int, before_activation: bool) -> None:
    """The head as mmdet runs it is the reference; every level, in mmdet's order of anchors."""
    teacher = detector(name)
    feats = teacher.extract_feat(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    opened = heads.of(teacher)
    teacher.bbox_head.train()  # FCOS multiplies by the stride in eval mode
    with torch.no_grad():
        scores, regressions, *_ = teacher.bbox_head(feats)
        for level, feat in enumerate(feats):
            cls, reg = opened.predict(opened.towers_until(feat, layer, before_activation=before_activation), level, layer)
            torch.testing.assert_close(cls, scores[level].permute(0, 2, 3, 1).reshape(2, -1, 10))
            own = regressions[level].permute(0, 2, 3, 1).reshape(2, -1, 4)
            if isinstance(opened, heads.Retina):
                anchors = teacher.bbox_head.prior_generator.grid_priors([f.shape[2:] for f in feats], device="cpu")[level]
                own = torch.stack([teacher.bbox_head.bbox_coder.decode(anchors, changes) for changes in own])
            elif isinstance(opened, heads.Gfl):
                own = regressions[level].permute(0, 2, 3, 1).reshape(2, -1, 4, 17)
            else:
                own = own.clamp(min=1e-3)
            torch.testing.assert_close(reg, own)
    teacher.bbox_head.eval()


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("before_activation", [False, True])
def test_a_student_that_is_its_teacher_has_nothing_to_learn(name: str, before_activation: bool) -> None:
    teacher = copy.deepcopy(detector(name))
    found = terms(teacher, teacher, before_activation=before_activation)
    assert found["cls"].item() == pytest.approx(0.0, abs=1e-4)
    assert found["reg"].item() == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_teacher_that_differs_at_one_level_is_seen_there_and_only_there(name: str) -> None:
    """Student and teacher are one network; noise is added to the map at stride 32, the third of the head's five."""
    teacher = copy.deepcopy(detector(name))
    noise = {32: random(2, 1, 1, 1, dtype=torch.float32) * 5 + random(1, 1, 2, 2, dtype=torch.float32)}
    silent = terms(teacher, teacher, strides=(16, 64), shift=noise)
    assert {term: value.item() for term, value in silent.items()} == pytest.approx({"cls": 0.0, "reg": 0.0}, abs=1e-4)
    heard = terms(teacher, teacher, strides=(16, 32), shift=noise)
    assert min(heard.values()) > 1e-3


@pytest.mark.parametrize("name", FAMILIES)
def test_levels_add_up(name: str) -> None:
    """The normaliser is of all levels; GFL's boxes are divided by their own weights instead."""
    student, teacher = changed(name), detector(name).requires_grad_(False)
    whole, parts = terms(student, teacher), [terms(student, teacher, strides=part) for part in ((8, 128), (16, 32), (64,))]
    for term in ("cls",) if name == "gfl_r101" else ("cls", "reg"):
        torch.testing.assert_close(torch.stack([part[term] for part in parts]).sum(), whole[term], rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("before_activation", [False, True])
def test_the_features_that_cross_are_those_around_the_activation(name: str, before_activation: bool) -> None:
    """Mmdet's own convolution, run by hand; what lies below zero tells on which side of its ReLU a feature was taken."""
    student = changed(name).eval()
    opened = heads.of(student)
    data = student.data_preprocessor(batch(), True)
    with opened.watched(1, before_activation=before_activation) as seen, torch.no_grad():
        student.loss(data["inputs"], data["data_samples"])
        feats = student.extract_feat(data["inputs"])
    for level, feat in enumerate(feats):
        for conv, found in zip((student.bbox_head.cls_convs[0], student.bbox_head.reg_convs[0]), seen.features(level), strict=True):
            with torch.no_grad():
                expected = conv(feat, activate=not before_activation)
            torch.testing.assert_close(found, expected)
            assert (found < 0).any() == before_activation


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("before_activation", [False, True])
def test_gradient_reaches_the_students_tower_but_neither_its_predictors_nor_the_teacher(name: str, before_activation: bool) -> None:
    student, teacher = changed(name), detector(name).requires_grad_(False)
    found = terms(student, teacher, before_activation=before_activation)
    assert all(value.isfinite() and value > 0 for value in found.values())
    sum(found.values()).backward()  # type: ignore[union-attr]
    head = student.bbox_head
    assert head.cls_convs[0].conv.weight.grad.abs().sum() > 0
    assert head.reg_convs[0].conv.weight.grad.abs().sum() > 0
    assert head.cls_convs[1].conv.weight.grad is None, "after the crossing the teacher's head goes on"
    assert all(parameter.grad is None for parameter in teacher.parameters())


@pytest.mark.parametrize("name", FAMILIES)
def test_watching_leaves_the_students_loss_and_head_as_they_are(name: str) -> None:
    student, teacher = changed(name).eval(), detector(name)
    data = teacher.data_preprocessor(batch(), True)
    plain = student.loss(data["inputs"], data["data_samples"])
    made = method(student, teacher)
    with made.watching():
        watched = student.loss(data["inputs"], data["data_samples"])
    for key, value in plain.items():
        torch.testing.assert_close(watched[key], value, rtol=0, atol=0)
    assert "get_targets" not in vars(student.bbox_head)
    assert not student.bbox_head.cls_convs[0].activate._forward_pre_hooks
    assert not student.bbox_head.cls_convs[0]._forward_hooks


@pytest.mark.parametrize("name", FAMILIES)
def test_the_normaliser_is_the_heads_own(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What mmdet divides its own losses by is caught from its loss functions."""
    student = detector(name)
    data = student.data_preprocessor(batch(), True)
    factors: list[float] = []
    loss = "loss_bbox" if name == "fcos_r50" else "loss_cls"
    plain = getattr(student.bbox_head, loss).forward

    def spy(*arguments: Any, avg_factor: Any = None, **options: Any) -> Any:
        factors.append(float(avg_factor))
        return plain(*arguments, avg_factor=avg_factor, **options)

    monkeypatch.setattr(getattr(student.bbox_head, loss), "forward", spy)
    opened = heads.of(student)
    with opened.watched(1, before_activation=False) as seen:
        student.loss(data["inputs"], data["data_samples"])
    assert opened.targets(seen.targets, range(5))[1].item() == pytest.approx(factors[0], rel=1e-5)


def test_a_head_can_be_watched_for_two_teachers_at_once() -> None:
    student = detector("retinanet_r50")
    data = student.data_preprocessor(batch(), True)
    opened = heads.of(student)
    with opened.watched(1, before_activation=True) as outer, opened.watched(1, before_activation=True) as inner:
        student.loss(data["inputs"], data["data_samples"])
    assert outer.targets is inner.targets is not None
    for one, other in zip(outer.features(0), inner.features(0), strict=True):
        assert torch.equal(one, other)
    assert "get_targets" not in vars(student.bbox_head)


@pytest.mark.parametrize(
    ("student", "teacher", "layer", "message"),
    [
        (
            "retinanet_r50",
            "gfl_r101",
            1,
            "the student's head is a RetinaHead and the teacher's a GFLHead: they must be of one type",
        ),
        ("faster_rcnn_r50", "retinanet_r101", 1, "FasterRCNN has no dense head"),
        ("retinanet_r50", "retinanet_r101", 3, "layer = 3, but a tower has 2 convolutions: take at most 2"),
    ],
)
def test_pairs_that_cannot_cross_are_refused(student: str, teacher: str, layer: int, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        method(detector(student), detector(teacher), layer)


def test_heads_of_other_layouts_are_refused() -> None:
    teacher = copy.deepcopy(detector("gfl_r101"))
    teacher.bbox_head.reg_max = 8
    with pytest.raises(StudyError, match=r"reg_max of the two heads differ \(16 and 8\)"):
        method(detector("gfl_x101"), teacher)
