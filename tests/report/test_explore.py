"""The explore page: planned from the zoo's names, trained anew each time; its pictures are of what methods really compute."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from dfmsd import losses
from dfmsd.errors import StudyError
from dfmsd.hyper import METHODS
from dfmsd.report import explore
from dfmsd.report.images import pictures
from dfmsd.report.methods import SEED, features
from dfmsd.study import build, exports, pages, paths, scales, zoo
from dfmsd.study.pages.short import ExplorePage
from dfmsd.study.spec import RunSpec

GIVEN = {"page": "explore", "title": "", "question": "", "scale": "smoke", "teacher_epochs": 0.5, "epochs": 2.0}


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Runs and data of this module's own."""
    home = tmp_path_factory.mktemp("explore")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DFMSD_RUNS", str(home / "runs"))
        patch.setenv("DFMSD_DATA", str(home / "data"))
        yield home


def planned(**changes: Any) -> RunSpec:
    page = pages.page("explore", GIVEN | changes)
    assert isinstance(page, ExplorePage)
    (run,) = explore.planned(page)
    return run


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"student": "fcos_r5"}, "did you mean 'fcos_r50'"),
        ({"method": "dfmds"}, "did you mean 'dfmsd'"),
        ({"method": "baseline"}, "unknown method 'baseline'"),
        ({"scale": "gpu"}, "takes mini or smoke"),
        ({"student": "gfl_r50"}, "its own teacher"),
        ({"method": "crosskd"}, "crosskd cannot teach fcos_r50 by gfl_r50: it needs two dense heads of one type"),
        ({"epochs": float("nan")}, "epochs = nan"),
        ({"epochs": 1e9}, r"epochs = 1000000000\.0: .* less than or equal to 100"),
        ({"teacher_epochs": "two"}, "teacher_epochs = 'two'"),
        ({"teacher_epochs": -1.0}, "teacher_epochs = -1.0"),
        ({"image": 2.5}, "image = 2.5"),
        ({"image": 8}, "image = 8: the validation images are 0 to 7"),
        ({"student": 5}, "student = 5"),
        ({"scale": "tiny"}, "scale = 'tiny'"),
        ({"stride": 7}, "stride = 7: dfmsd works on strides 8, 16, 32, 64, 128 of this pair"),
        ({"stride": 4, "method": "mse"}, "stride = 4: mse works on strides 8, 16"),
        ({"ratio": 1.5}, "ratio = 1.5"),
        ({"theta": float("inf")}, "theta = inf"),
        ({"method": "fgd", "ratio": 0.5}, "ratio = 0.5: fgd hides no share of anything"),
    ],
)
def test_a_wrong_choice_is_one_clear_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message) as caught:
        planned(**changes)
    assert "\n" not in str(caught.value)


def test_epochs_are_passes_over_the_training_images() -> None:
    # smoke: 4 images for the student and 16 for the teacher, in batches of 4
    run = planned(epochs=3.0, teacher_epochs=0.5)
    assert run.schedule.max_iters == 3
    assert run.stage is not None and isinstance(run.stage.teacher, RunSpec)
    assert run.stage.teacher.schedule.max_iters == 2


def test_a_teacher_that_the_study_has_trained_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    short = planned()
    monkeypatch.setattr("dfmsd.study.exports.to_be_had", lambda run: True)
    run = planned()
    assert run.stage is not None and isinstance(run.stage.teacher, RunSpec)
    assert run.stage.teacher.schedule.max_iters is None
    assert run.key != short.key


def test_a_start_travels_along_made_of_few_images_unless_the_study_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DFMSD_RECORDS", str(tmp_path))
    full = scales.get("mini").start_of("fcos_r50")
    young = planned(scale="mini").start
    assert full is not None and young is not None
    assert young.data.train < full.data.train and young.backbone == full.backbone
    monkeypatch.setattr("dfmsd.study.exports.to_be_had", lambda run: True)
    assert planned(scale="mini").start == full


@pytest.mark.slow
def test_the_student_is_trained_each_time_and_the_young_teacher_once(capfd: pytest.CaptureFixture[str]) -> None:
    run = planned()
    first, second = explore.distil(run), explore.distil(run)
    # What mmengine logs names folders of this machine.
    assert capfd.readouterr().out == ""
    assert first.story.loc["origin"].tolist() == ["trained in this notebook"] * 2
    assert second.story.loc["origin"].tolist() == ["kept from an earlier training", "trained in this notebook"]
    # Same seeds, same losses: what the page shows is the study's own training loop.
    assert first.curve == second.curve and first.curve[-1]["iteration"] == 2
    assert run.start is not None and exports.are_here(run.start.key)
    before, after = (one.student.bbox_head.conv_cls.weight for one in (first.before, first.after))
    assert not torch.equal(before, after)
    for before, after in zip(first.before.teachers[0].parameters(), first.after.teachers[0].parameters(), strict=True):
        assert torch.equal(before, after)
    assert not list(paths.runs().glob("explore-*"))
    (shown,) = pictures(run, [0])
    levels_s, levels_t = features(first.after, shown.image)
    assert {stride: feat.shape for stride, feat in levels_s.items()} == {stride: feat.shape for stride, feat in levels_t.items()}
    assert not torch.equal(features(first.before, shown.image)[0][8], levels_s[8])
    table = explore.losses(first)
    assert next(iter(table.columns)) == "detection" and "rec" in table
    assert table.sum(axis="columns").tolist() == pytest.approx([point["loss"] for point in first.curve])


def feat(seed: int) -> Tensor:
    return torch.randn(1, 16, 6, 6, generator=torch.Generator().manual_seed(seed))


def holding(name: str) -> Any:
    torch.manual_seed(0)
    method = getattr(losses, METHODS[name].__name__)(channels_s=16, channels_t=16, strides=(8,))
    return SimpleNamespace(methods_by_teacher=[[method]])


@pytest.mark.parametrize("name", ["mgd", "amd", "dmkd", "dfmsd"])
def test_the_reconstruction_shown_is_the_one_that_the_loss_compares(name: str) -> None:
    distiller = holding(name)
    made = explore.reconstruction(distiller, feat(1), feat(2), 8)
    assert made is not None
    generator = torch.Generator().manual_seed(SEED)
    terms = distiller.methods_by_teacher[0][0].terms({8: feat(1)}, {8: feat(2)}, boxes=[], image_shapes=[], generator=generator)
    assert (made - feat(2)).square().sum().item() == pytest.approx(terms["rec"].item(), rel=1e-5)


def test_a_method_that_hides_nothing_rebuilds_nothing() -> None:
    assert explore.reconstruction(holding("mse"), feat(1), feat(2), 8) is None


def test_ratio_and_theta_reach_the_method_and_the_enhancement() -> None:
    stage = planned(ratio=0.25, theta=0.125).stage
    assert stage is not None and stage.enhance is not None and stage.enhance.theta == 0.125
    assert (stage.methods[0].spatial_ratio, stage.methods[0].channel_ratio) == (0.25, 0.25)
    own = planned(method="mgd", ratio=0.5).stage
    assert own is not None and own.methods[0].ratio == 0.5


def test_a_method_in_the_place_of_a_runs_is_trained_as_that_is() -> None:
    """Plain MSE in its own place: the same factors, the same losses."""
    run = planned(method="mse")
    assert run.stage is not None
    same = explore.distil(run, method={"type": "MSE", "alpha": 1.0})
    assert same.curve == explore.distil(run).curve
    assert same.after.factors is not None and set(same.after.factors) == {"loss_mse_feat"}


def test_a_teacher_is_looked_at_as_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    page = pages.page("explore", GIVEN | {"method": "amd", "ratio": 0.5, "image": 1})
    assert isinstance(page, ExplorePage)
    (run,) = explore.planned(page)
    pick = explore.Pick(explore.teacher(run), page)
    titles = [axis.get_title() for axis in explore.look(pick.teacher, page).axes]
    assert titles[0].endswith("boxes of the teacher") and titles[1:3] == ["its features, stride 8", "amd hides 50%"]
    pick.picked(method="dmkd", ratio=0.25, stride=16)
    assert (pick.page.method, pick.page.ratio, pick.page.stride) == ("dmkd", 0.25, 16)
    capsys.readouterr()
    # What cannot be is said in a line, and changes nothing.
    pick.picked(stride=7)
    said = capsys.readouterr().out
    assert said.startswith("stride = 7: dmkd works on strides 8") and "picked before still counts (dmkd" in said
    assert pick.page.stride == 16


@pytest.mark.parametrize(("ratio", "label"), [(None, "the method's own"), (0.33, "33%")])
def test_every_picker_shows_what_is_picked_at_first(monkeypatch: pytest.MonkeyPatch, ratio: float | None, label: str) -> None:
    page = pages.page("explore", GIVEN | {"ratio": ratio})
    shown: list[Any] = []
    assert isinstance(page, ExplorePage)
    monkeypatch.setattr(explore, "is_live", lambda: True)
    monkeypatch.setattr(explore, "display", shown.append)
    explore.Pick(build.built(zoo.network("retinanet_r101", "smoke"), 4), page)._ipython_display_()
    assert {one.description: one.label for one in shown[-1].children if hasattr(one, "label")} == {
        "stride": "8",
        "method": "dfmsd",
        "ratio": label,
    }
    (methods,) = (one.options for one in shown[-1].children if getattr(one, "description", "") == "method")
    assert set(METHODS) - set(methods) == {"crosskd"}, "an FCOS and a GFL have other heads"
