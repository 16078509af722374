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
from dfmsd.study import pages, paths, plan, scales
from dfmsd.study.pages import ExplorePage
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
    return explore.planned(page)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"student": "fcos_r5"}, "did you mean 'fcos_r50'"),
        ({"method": "dfmds"}, "did you mean 'dfmsd'"),
        ({"method": "baseline"}, "unknown method 'baseline'"),
        ({"scale": "gpu"}, "takes mini or smoke"),
        ({"student": "gfl_r101"}, "its own teacher"),
        ({"method": "crosskd"}, "crosskd cannot teach fcos_r50 by gfl_r101: it needs two dense heads of one type"),
        ({"epochs": float("nan")}, "epochs = nan"),
        ({"teacher_epochs": -1.0}, "teacher_epochs = -1.0"),
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
    monkeypatch.setattr("dfmsd.study.plan.has_weights", lambda run: True)
    run = planned()
    assert run.stage is not None and isinstance(run.stage.teacher, RunSpec)
    assert run.stage.teacher.schedule.max_iters is None
    assert run.key != short.key


def test_a_start_travels_along_made_of_few_images_unless_the_study_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    full = scales.get("mini").start_of("fcos_r50")
    young = planned(scale="mini").start
    assert full is not None and young is not None
    assert young.data.train < full.data.train and young.backbone == full.backbone
    monkeypatch.setattr("dfmsd.study.plan.has_weights", lambda run: True)
    assert planned(scale="mini").start == full


@pytest.mark.slow
def test_the_student_is_trained_each_time_and_the_young_teacher_once(capfd: pytest.CaptureFixture[str]) -> None:
    run = planned()
    first, second = explore.distil(run), explore.distil(run)
    # What mmengine logs names folders of this machine.
    assert capfd.readouterr().out == ""
    assert first.story.loc["origin"].tolist() == ["trained in this notebook"] * 2
    assert second.story.loc["origin"].tolist() == ["kept from an earlier time", "trained in this notebook"]
    # Same seeds, same losses: what the page shows is the study's own training loop.
    assert first.curve == second.curve and first.curve[-1]["iteration"] == 2
    assert run.start is not None and plan.has_weights(run.start)
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
    with pytest.raises(StudyError, match="stride = 4: the method works on strides 8"):
        explore.reconstruction(holding("mgd"), feat(1), feat(2), 4)
