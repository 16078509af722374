"""Weights as shares of the detection loss: factors by hand-computed ratios, the same in every stage, method and arm of a pair."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.model import BaseModel

from dfmsd.balance import factors
from dfmsd.distiller import Distiller
from dfmsd.errors import StudyError
from dfmsd.study.rows import Options, Row, chain
from dfmsd.study.run import factors_of
from dfmsd.study.spec import RunSpec
from tests.fixtures_detectors import batch, checkpoint, network
from tests.fixtures_study import distilled, smoke

ENHANCE = {"theta": 0.2, "noise_probability": 1.0}


def distiller(folder: Path, *methods: dict[str, Any], student: str = "fcos_r50", **options: Any) -> Distiller:
    torch.manual_seed(0)
    file = checkpoint("gfl_x101", folder)
    model = Distiller(network(student), network("gfl_x101"), methods, teacher_checkpoint=file, **options)
    model.init_weights()
    return model.train()


def losses(model: Distiller, *batches: dict[str, Any]) -> list[dict[str, float]]:
    """Its losses on some batches, with random masks of one seed."""
    torch.manual_seed(3)
    found = [model(**model.data_preprocessor(copy.deepcopy(one), True), mode="loss") for one in batches]
    return [{name: float(value.detach()) for name, value in BaseModel.parse_losses(model, one)[1].items()} for one in found]


def test_the_factor_is_the_ratio_of_the_sums_over_the_batches(tmp_path: Path) -> None:
    """Of an MSE, by hand: with neither a start's nor the teacher's loss in between."""
    batches = [batch(seed=seed) for seed in range(3)]
    model = distiller(tmp_path, {"type": "MSE", "alpha": 0.25})
    with torch.no_grad():
        (align,) = model.methods_by_teacher
        detection, errors = 0.0, 0.0
        for one in copy.deepcopy(batches):
            views = model.data_preprocessor(one, True)
            own = model.student.loss(views["inputs"], views["data_samples"])
            detection += float(BaseModel.parse_losses(model, own)[0])
            feats_s = model.student.extract_feat(views["inputs"])
            feats_t = model.teachers[0].extract_feat(views["inputs_t"][0])
            for block, feat_s, feat_t in zip(align[0].levels.values(), feats_s, feats_t, strict=True):
                errors += float((block.align(feat_s) - feat_t).square().mean())
    assert factors(model, batches)["loss_mse_feat"] == pytest.approx(detection / errors, rel=1e-5)


def test_with_its_factor_a_weight_is_a_share_of_the_detection_loss(tmp_path: Path) -> None:
    method = {"type": "DFMSD", "alpha": 2.0, "sfa": 0.25}
    plain = distiller(tmp_path, method)
    torch.manual_seed(3)
    found = factors(plain, [batch()])
    (shared,) = losses(distiller(tmp_path, method, factors=found), batch())
    own = sum(value for name, value in shared.items() if name != "loss" and "dfmsd" not in name)
    assert shared["loss_dfmsd_rec"] == pytest.approx(2 * own, rel=1e-4)
    assert shared["loss_dfmsd_sfa"] == pytest.approx(own / 4, rel=1e-4)


def test_on_changed_images_the_ratio_of_the_weights_is_the_published_one(tmp_path: Path) -> None:
    """With factors or not: the changed images' sums are as large, beside the reconstruction, as they are without shares."""
    method = {"type": "DFMSD", "alpha": 2.0, "beta": 1.0, "sfa": 0.25}
    plain = distiller(tmp_path, method, enhance=ENHANCE)
    shared = distiller(tmp_path, method, enhance=ENHANCE, factors=factors(plain, [batch()]))
    (one,), (other,) = losses(plain, batch()), losses(shared, batch())
    assert one["loss_dfmsd_aug"] / one["loss_dfmsd_rec"] == pytest.approx(
        other["loss_dfmsd_aug"] / other["loss_dfmsd_rec"], rel=1e-4
    )


def test_neither_weights_nor_factors_change_what_is_measured_and_nothing_is_left_changed(tmp_path: Path) -> None:
    model = distiller(tmp_path, {"type": "DFMSD", "alpha": 8.0}).eval()
    before = copy.deepcopy(model.state_dict())
    found = []
    for one in (
        model,
        distiller(tmp_path, {"type": "DFMSD"}),
        distiller(tmp_path, {"type": "DFMSD"}, factors=dict.fromkeys(("loss_dfmsd_rec", "loss_dfmsd_sfa"), 5.0)),
    ):
        torch.manual_seed(3)
        found.append(factors(one, [batch()]))
    assert found[1] == pytest.approx(found[0], rel=1e-5)
    assert found[2] == pytest.approx(found[0], rel=1e-5)
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_without_a_batch_or_with_a_loss_that_is_not_finite_there_are_no_factors(tmp_path: Path) -> None:
    model = distiller(tmp_path, {"type": "MSE"})
    with pytest.raises(StudyError, match="at least one batch"):
        factors(model, [])

    for part in model.student.neck.parameters():
        torch.nn.init.constant_(part, torch.nan)
    with pytest.raises(StudyError, match="not finite before any training"):
        factors(model, [batch()])


def test_factors_are_for_every_term_and_for_no_other(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"no method has a term 'loss_mse_fea': .*'loss_mse_feat'"):
        distiller(tmp_path, {"type": "MSE"}, factors={"loss_mse_fea": 1.0})
    with pytest.raises(StudyError, match="a number is missing for loss_dfmsd_sfa"):
        distiller(tmp_path, {"type": "DFMSD"}, factors={"loss_dfmsd_rec": 1.0})


# What a run's specification measures: the same for all stages and arms of a pair

Measured = tuple[dict[str, float], list[RunSpec]]


@pytest.fixture
def measured() -> Callable[..., Measured]:
    """The factors of a run, where each term's stands for the specification that it is measured by; and those specifications."""

    def factors_by_name(run: RunSpec) -> Measured:
        asked: list[RunSpec] = []

        def measure(before: RunSpec) -> dict[str, float]:
            asked.append(before)
            assert before.stage is not None
            name, place = before.stage.methods[0].type.lower(), int(before.key, 16)
            return {f"loss_{name}_{term}": place + i for i, term in enumerate(("rec", "sfa", "aug", "adv", "feat"))}

        return factors_of(run, measure) or {}, asked

    return factors_by_name


def test_one_pair_has_one_factor_for_a_term(measured: Callable[..., Measured]) -> None:
    first, second = distilled()
    usual, (asked,) = measured(first)
    assert asked.stage is not None and asked.stage.teacher.name == "gfl_x101"  # the strongest, in the weaker one's stage, too
    arms: dict[str, RunSpec] = {
        "stage 2": second,
        "no SFA": distilled(sfa=False)[1],
        "no ME": distilled(me="none")[1],
        "no SAL": distilled(sal=False)[0],
        "each stage with all epochs": distilled(epochs="each")[1],
        "another length": distilled(length=2.0)[0],
        "more images": distilled(images=2.0)[0],
        "another seed": distilled(seed=7)[1],
        "other masks": distilled(hyper={"hide": "random"})[0],
        "other weights": distilled(hyper={"alpha": 3.0}, times={"beta": 2.0})[1],
    }
    for name, run in arms.items():
        assert measured(run) == (usual, [asked]), name
    dmkd, _ = measured(distilled(recipe="dmkd")[0])
    assert dmkd == {"loss_dmkd_rec": usual["loss_dfmsd_rec"]}


def test_what_makes_another_quantity_of_a_term_is_measured_for_itself(measured: Callable[..., Measured]) -> None:
    usual, _ = measured(distilled()[0])
    for hyper in ({"reduction": "mean"}, {"sfa_inside": True}):
        assert measured(distilled(hyper=hyper)[0])[0] != usual
    ssim, _ = measured(distilled(recipe="ssim")[0])
    assert measured(distilled(recipe="ssim", hyper={"distance": "l1"})[0])[0] != ssim
    assert measured(distilled(recipe="ssim", hyper={"detach_range": True})[0])[0] == ssim


def test_the_strongest_teacher_is_the_pairs_whatever_the_order_and_the_company() -> None:
    def key(*teachers: str) -> str:
        row = Row(student="fcos_r50", teachers=teachers, recipe="dfmsd", any_order=True, options=Options(me="none"))
        stage = chain(row, smoke(), 0)[-1].stage
        assert stage is not None and stage.balance is not None
        return stage.balance.teacher.key

    weak, strong = key("gfl_r101"), key("gfl_x101")
    assert weak != strong
    assert key("gfl_r101", "gfl_x101") == key("gfl_x101", "gfl_r101") == key("gfl_r101 + gfl_x101") == strong
