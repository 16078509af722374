"""The four scales, each whole, none mixed with another."""

from __future__ import annotations

from typing import Any

import pytest

from dfmsd.errors import StudyError
from dfmsd.hyper import METHODS
from dfmsd.study import scales, zoo
from dfmsd.study.rows import Options, Row, chain, teacher_of
from dfmsd.study.spec import CocoData, RunSpec


@pytest.mark.parametrize("name", scales.SCALES)
def test_every_scale_trains_every_network_of_the_zoo(name: str) -> None:
    scale = scales.get(name)
    for network in zoo.names():
        schedule = scale.schedule_of(network)
        assert schedule.lr > 0
        assert schedule.max_iters is None
    assert not set(scale.teacher_seeds) & set(scale.seeds)
    for method, changes in scale.methods.items():
        assert set(changes) <= set(METHODS[method].model_fields)


def test_a_variant_has_its_own_changes_and_the_papers_where_no_method_is_changed() -> None:
    mini = scales.get("mini").model_copy(update={"methods": {"ssim": {"alpha": 4.0}}, "variants": {"adapter": {"alpha": 2.0}}})
    assert (mini.changes("ssim"), mini.changes("ssim", "adapter"), mini.changes("mgd")) == ({"alpha": 4.0}, {"alpha": 2.0}, {})
    assert scales.get("coco").changes("ssim", "adapter") == {}
    with pytest.raises(StudyError, match=r"^params/scales.yaml: mini: variants has no 'adaptor': did you mean 'adapter'"):
        mini.changes("ssim", "adaptor")


@pytest.mark.parametrize("name", ["smoke", "mini", "gpu"])
def test_swins_have_their_own_optimiser_and_the_others_keys_do_not_know_of_it(name: str) -> None:
    scale = scales.get(name)
    swin, other = (scale.schedule_of(network) for network in ("mask_rcnn_swint", "gfl_r101"))
    assert (swin.optimizer, swin.weight_decay) == ("AdamW", 0.05)
    assert (other.optimizer, other.weight_decay) == ("SGD", 1e-4)
    assert "optimizer" in swin.model_dump()
    assert "optimizer" not in other.model_dump()


@pytest.mark.parametrize(("name", "taught"), [("smoke", 35), ("mini", 10), ("gpu", 35), ("coco", 35)])
def test_at_mini_the_gradient_of_every_taught_student_is_clipped_at_ten_in_every_stage(name: str, taught: float) -> None:
    scale = scales.get(name)
    for recipe in METHODS:
        row = Row(student="gfl_r50", teachers=("gfl_r101", "gfl_x101"), recipe=recipe)
        assert {run.schedule.clip for run in chain(row, scale, 0)} == {taught}
    assert [run.schedule.clip for run in chain(Row(student="gfl_r50", teachers=(), recipe="baseline"), scale, 0)] == [35]
    if name != "coco":
        assert teacher_of("gfl_r101", scale).schedule.clip == 35


def test_a_family_without_a_learning_rate_is_told_where_it_belongs() -> None:
    with pytest.raises(StudyError, match=r"^dfmsd/study/zoo.yaml: families: fcos: lr has none for the scale tiny"):
        zoo.learning_rate("fcos_r50", "tiny")


def test_teachers_may_train_longer_than_students_and_see_more_images() -> None:
    own = {"x101": scales.Own(epochs=99), "fcos_x101": scales.Own(epochs=100), "gfl_x101": scales.Own(images=7)}
    longer = scales.get("mini").model_copy(update={"teachers": own, "teacher_images": 50})
    assert [longer.teacher_images_of(name) for name in ("gfl_x101", "fcos_x101")] == [7, 50]
    assert longer.schedule_of("gfl_x101", teacher=True).epochs == 99
    assert longer.schedule_of("fcos_x101", teacher=True).epochs == 100
    assert longer.schedule_of("gfl_x101").epochs == longer.schedule.epochs
    assert longer.schedule_of("gfl_r101", teacher=True).epochs == longer.schedule.epochs


def test_a_teacher_that_the_zoo_has_not_is_refused_with_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = scales._rows()
    monkeypatch.setattr(scales, "_rows", lambda: rows | {"mini": rows["mini"] | {"teachers": {"fcos_x11": {"epochs": 24}}}})
    with pytest.raises(
        StudyError, match=r"^params/scales.yaml: mini: teachers: no network .* 'fcos_x11': did you mean 'fcos_x101'"
    ):
        scales.get("mini")


def test_a_rehearsal_keeps_the_path_and_cuts_the_work() -> None:
    coco = scales.get("coco")
    tried = coco.rehearse(2)
    assert (tried.image_size, tried.name) == (coco.image_size, coco.name)
    assert (tried.data.train, tried.data.val) == (2, 2)
    schedule = tried.schedule_of("retinanet_r50")
    assert (schedule.max_iters, schedule.batch, schedule.warmup) == (2, 2, 0)


@pytest.mark.parametrize(("name", "epochs", "warmup"), [("smoke", 1, 0), ("mini", 293, 100), ("gpu", 1000, 400), ("coco", 24, 9)])
def test_on_ones_own_data_who_trains_alone_can_teach(name: str, epochs: int, warmup: int) -> None:
    """For as many iterations as the scale has on generated images, or for its epochs."""
    scale = scales.get(name).on(CocoData(source="own", digest="0", train=60))
    teacher = teacher_of("gfl_r101", scale)
    assert isinstance(teacher, RunSpec)
    assert (teacher,) == chain(Row(student="gfl_r101", teachers=(), recipe="baseline"), scale, 0)
    assert (teacher.schedule.epochs, teacher.schedule.warmup, teacher.images) == (epochs, warmup, None)


def _changed(rows: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    first, _, rest = place.partition(".")
    return rows | {first: _changed(rows.get(first, {}), rest, value) if rest else value}


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("teacher", {}, "unknown parameter 'teacher': did you mean 'teachers'?"),
        ("shedule", {}, "unknown parameter 'shedule': did you mean 'schedule'?"),
        ("schedule", None, "schedule = None: Input should be a valid dictionary"),
        ("schedule.epochs", 0, "schedule.epochs = 0: Input should be greater than 0"),
        ("schedule.batch", -8, "schedule.batch = -8: Input should be greater than 0"),
        ("schedule.epoch", 3, "unknown parameter 'schedule.epoch': did you mean 'epochs'?"),
        ("image_size", [0, 0], "image_size.0 = 0: Input should be greater than or equal to 32"),
        ("image_size", [128], "image_size"),
        ("seeds", [], "seeds = []: Tuple should have at least 1 item"),
        ("seeds", [1, 1], "a seed stands there twice"),
        ("seeds", [2**32], "seeds.0 = 4294967296: Input should be less than 4294967296"),
        ("teacher_seeds", [-1], "teacher_seeds.0 = -1"),
        ("images", 0, "images = 0"),
        ("data.train", -5, "data.shapes.train = -5"),
        ("data.trian", 5, "unknown parameter 'data.shapes.trian': did you mean 'train'?"),
        ("data", "coco", "data = 'coco'"),
        ("balance.iterations", 0, "balance.iterations = 0"),
        ("start.lr", 0.0, "start.lr = 0.0"),
        ("students.faster_rcn", {"images": 100}, "students: no family 'faster_rcn': did you mean 'faster_rcnn'?"),
        ("students.faster_rcnn.images", 0, "students.faster_rcnn.images = 0"),
        ("students.faster_rcnn.imags", 1, "unknown parameter 'students.faster_rcnn.imags': did you mean 'images'?"),
        ("optimizers.maskrcnn", {}, "optimizers: no family 'maskrcnn': did you mean 'mask_rcnn'?"),
        ("optimizers.mask_rcnn.optimizer", "Adam", "optimizer = 'Adam': Input should be 'SGD' or 'AdamW'"),
        ("optimizers.mask_rcnn.wight_decay", 1.0, "unknown parameter 'wight_decay': did you mean 'weight_decay'?"),
        ("teachers.r50.epochs", 0, "teachers.r50.epochs = 0"),
        ("methods.mdg", {"alpha": 1.0}, "methods: no method 'mdg': did you mean 'mgd'?"),
        ("methods.mgd", {"alfa": 1.0}, "methods: mgd: there is no 'alfa': did you mean 'alpha'?"),
        ("methods.mgd.alpha", -1.0, "methods: mgd: MGD: alpha = -1.0: Input should be greater than or equal to 0"),
        ("methods.mgd.alpha", float("inf"), "methods: mgd: MGD: alpha = inf: Input should be a finite number"),
        ("variants.l1", {"alfa": 1.0}, "variants: l1: there is no 'alfa': did you mean 'alpha'?"),
        ("variants.l1.alpha", -1.0, "alpha = -1.0"),
    ],
)
def test_a_wrong_scale_is_refused_in_one_line(place: str, value: Any, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = _changed(scales._rows(), f"mini.{place}", value)
    monkeypatch.setattr(scales, "_rows", lambda: rows)
    with pytest.raises(StudyError) as caught:
        scales.get("mini")
    assert message in str(caught.value)
    assert str(caught.value).startswith("params/scales.yaml: mini: ")
    assert "\n" not in str(caught.value)


def test_no_published_weight_is_taken_for_a_share(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = scales._rows()
    left = {name: changes for name, changes in rows["smoke"]["methods"].items() if name != "mgd"}
    monkeypatch.setattr(scales, "_rows", lambda: _changed(rows, "smoke.methods", left))
    row = Row(student="fcos_r50", teachers=("gfl_r101",), recipe="mgd")
    with pytest.raises(StudyError, match=r"^params/scales.yaml: smoke: methods has no alpha for mgd, whose published weight"):
        chain(row, scales.get("smoke"), 0)
    tried = row.model_copy(update={"options": Options(hyper={"alpha": 2.0})})
    assert chain(tried, scales.get("smoke"), 0), "a trial says its own"
