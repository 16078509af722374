"""A detector on the reader's own data: the runs that the notebook makes of its parameters, and what it reads off their records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dfmsd.errors import StudyError
from dfmsd.report import own
from dfmsd.study import pages, plan, scales
from dfmsd.study.pages.short import OwnPage
from dfmsd.study.spec import RunSpec
from tests.fixtures_study import finish


@pytest.fixture
def here(mine: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data of six images, named as the notebook names its own."""
    (mine / "pets.yaml").rename(mine / "own.yaml")
    monkeypatch.setenv("DFMSD_RUNS", str(mine / "runs"))
    return mine


def page(**changes: Any) -> OwnPage:
    found = pages.page("own", {"page": "own", "title": "", "question": ""} | changes)
    assert isinstance(found, OwnPage)
    return found


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"student": "fcos"}, "did you mean 'fcos_r50'"),
        ({"teachers": ["gfl_r101", "retinanet_r101"]}, "out of order"),
        ({"teachers": []}, "teachers"),
        ({"methods": ["dfmds"]}, "did you mean 'dfmsd'"),
        ({"methods": ["baseline"]}, "unknown method 'baseline'"),
        ({"methods": "dfmsd"}, "methods = 'dfmsd'"),
        ({"epochs": 10**9}, "epochs = 1000000000"),
        ({"epochs": 1.5}, "epochs = 1.5"),
        ({"labelled": float("nan")}, "labelled = nan"),
        ({"images": 1}, "images = 1"),
        ({"seed": -1}, "seed = -1"),
        ({"scale": "gpu"}, "takes mini or smoke"),
        ({"folder": "nowhere"}, "nowhere/own.yaml"),
        ({"folder": __file__}, "test_own.py': that is a file"),
        ({"jobs": 1.5}, "jobs = 1.5"),
    ],
)
def test_a_wrong_choice_is_one_clear_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message) as caught:
        own.planned(page(**changes))
    assert "\n" not in str(caught.value)


def test_rows_are_the_student_alone_and_each_method_at_the_pages_length(here: Path) -> None:
    chains = own.planned(page(folder=str(here), labelled=0.5, epochs=40, teacher_epochs=12))
    assert list(chains) == ["baseline", "DMKD", "DFMSD"] and [len(runs) for runs in chains.values()] == [1, 1, 2]
    for runs in chains.values():
        assert sum(run.schedule.epochs for run in runs) == 40 and {run.images for run in runs} == {3}
    teachers = [one for run in chains["DFMSD"] if run.stage for one in run.stage.teachers]
    assert [one.name for one in teachers] == ["retinanet_r101", "gfl_r101"]
    assert {one.schedule.epochs for one in teachers if isinstance(one, RunSpec)} == {12}
    stage = chains["DFMSD"][-1].stage
    assert stage is not None and 2 * stage.methods[0].beta == scales.get("mini").methods["dfmsd"]["beta"]
    # Backbones that the study has not pretrained here learn from few crops.
    starts = {run.start.data.train for run in plan.order(chains.values()) if isinstance(run, RunSpec) and run.start}
    assert starts == {own.STARTS}


def test_the_studys_starts_are_taken_where_they_are(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfmsd.study.exports.to_be_had", lambda run: True)
    (alone,) = own.planned(page(folder=str(here)))["baseline"]
    assert alone.start is not None and alone.start.data.train > own.STARTS


def test_differences_are_paired_over_the_images(here: Path) -> None:
    chains = own.planned(page(folder=str(here), scale="smoke"))
    assert own.evaluated(chains) == 3
    finish(chains["baseline"][-1], metrics={"AP": 20.0}, ap_interval=(15.0, 25.0), ap_resamples=(16.0, 20.0, 24.0))
    rose = ({"iteration": 1, "loss": 1.0}, {"iteration": 2, "loss": 200.0, "loss_rec": 199.0})
    finish(chains["DFMSD"][-1], metrics={"AP": 23.0}, ap_interval=(18.0, 28.0), ap_resamples=(19.0, 23.0, 27.0), curve=rose)
    found = own.trained(chains, jobs=0)
    assert found["diverged"].dropna().to_dict() == {"DFMSD": "loss_rec rose to 199, where the whole loss was 1 at first"}
    assert found["AP"].tolist()[::2] == [20.0, 23.0] and found.loc["DMKD"].isna().all()
    # Both move alike from resample to resample, so that the difference has no spread.
    assert found.loc["DFMSD", "Δ"] == 3.0 and found.loc["DFMSD", "Δ, 95 %"] == (3.0, 3.0)
    config, weights = own.export(chains, "DFMSD")
    assert weights.is_file() and config.parent.name == chains["DFMSD"][-1].key
    with pytest.raises(StudyError, match="DMKD has not been trained here: set jobs = 2"):
        own.export(chains, "DMKD")


def test_data_of_another_size_have_a_folder_of_their_own(here: Path) -> None:
    assert own.folder(page(images=400)) != own.folder(page(images=800)) and own.counts(page(images=400)) == {
        "train": 400,
        "val": 100,
    }
    assert own.folder(page(folder="~/parts")) == Path.home() / "parts"
