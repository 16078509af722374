"""The four scales, each whole, none mixed with another."""

from __future__ import annotations

import pytest

from dfmsd.errors import StudyError
from dfmsd.hyper import METHODS
from dfmsd.study import scales, zoo


@pytest.mark.parametrize("name", scales.SCALES)
def test_every_scale_trains_every_network_of_the_zoo(name: str) -> None:
    scale = scales.get(name)
    for network in zoo.names():
        schedule = scale.schedule_of(network)
        assert schedule.lr > 0
        assert schedule.max_iters is None
    assert scale.teacher_seed not in scale.seeds
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


def test_a_family_without_a_learning_rate_is_told_where_it_belongs() -> None:
    with pytest.raises(StudyError, match=r"^dfmsd/study/zoo.yaml: families: fcos: lr has none for the scale tiny"):
        zoo.learning_rate("fcos_r50", "tiny")


def test_teachers_may_train_longer_than_students() -> None:
    longer = scales.get("mini").model_copy(update={"teacher_epochs": {"x101": 99, "fcos_x101": 100}})
    assert longer.schedule_of("gfl_x101", teacher=True).epochs == 99
    assert longer.schedule_of("fcos_x101", teacher=True).epochs == 100
    assert longer.schedule_of("gfl_x101").epochs == longer.schedule.epochs
    assert longer.schedule_of("gfl_r101", teacher=True).epochs == longer.schedule.epochs


def test_a_teacher_that_the_zoo_has_not_is_refused_with_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = scales._rows()
    monkeypatch.setattr(scales, "_rows", lambda: rows | {"mini": rows["mini"] | {"teacher_epochs": {"fcos_x11": 24}}})
    with pytest.raises(
        StudyError, match=r"^params/scales.yaml: mini: teacher_epochs: no network .* 'fcos_x11': did you mean 'fcos_x101'"
    ):
        scales.get("mini")


def test_a_rehearsal_keeps_the_path_and_cuts_the_work() -> None:
    coco = scales.get("coco")
    tried = coco.rehearse(2)
    assert (tried.image_size, tried.name) == (coco.image_size, coco.name)
    assert (tried.data.train, tried.data.val) == (2, 2)
    schedule = tried.schedule_of("retinanet_r50")
    assert (schedule.max_iters, schedule.batch, schedule.warmup) == (2, 2, 0)
