"""A short distillation in this process: planned from the zoo's names, always trained anew, with its teacher kept."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from dfmsd.errors import StudyError
from dfmsd.report import live
from dfmsd.study import paths
from dfmsd.study.spec import RunSpec


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Runs and data of this module's own."""
    home = tmp_path_factory.mktemp("live")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DFMSD_RUNS", str(home / "runs"))
        patch.setenv("DFMSD_DATA", str(home / "data"))
        yield home


def planned(student: str = "fcos_r50", teacher: str = "gfl_r101", method: str = "dfmsd", **changes: object) -> RunSpec:
    return live.planned(student, teacher, method, **({"scale": "smoke", "teacher_epochs": 0.5, "epochs": 1.0} | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"student": "fcos_r5"}, "did you mean 'fcos_r50'"),
        ({"teacher": "gfl_r11"}, "did you mean 'gfl_r101'"),
        ({"method": "dfmds"}, "did you mean 'dfmsd'"),
        ({"method": "baseline"}, "unknown method 'baseline'"),
        ({"scale": "mimi"}, "did you mean 'mini'"),
        ({"scale": "coco"}, "take smoke, mini or gpu"),
        ({"student": "gfl_r101"}, "its own teacher"),
        ({"method": "crosskd"}, "crosskd cannot teach fcos_r50 by gfl_r101: it needs two dense heads of one type"),
        ({"epochs": 0}, "epochs = 0"),
        ({"teacher_epochs": -1.0}, "teacher_epochs = -1.0"),
    ],
)
def test_a_wrong_choice_is_one_clear_line(changes: dict[str, object], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        planned(**changes)


def test_epochs_are_passes_over_the_training_images() -> None:
    # smoke: 16 images in batches of 4
    run = planned(epochs=1.5, teacher_epochs=0.5)
    assert run.schedule.max_iters == 6
    assert run.stage.teacher.schedule.max_iters == 2


def test_a_teacher_that_the_study_has_trained_is_taken() -> None:
    short = planned()
    full = RunSpec.model_validate(
        {name: getattr(short.stage.teacher, name) for name in RunSpec.model_fields}
        | {"schedule": short.stage.teacher.schedule.model_copy(update={"max_iters": None})}
    )
    weights = paths.runs() / full.key / "student.pth"
    weights.parent.mkdir(parents=True)
    weights.touch()
    record = weights.with_name("record.json")
    record.touch()
    run = planned()
    weights.unlink()
    record.unlink()
    assert run.stage.teacher.key == full.key
    assert run.stage.enhance.weak.key == full.key
    assert run.key != short.key


@pytest.mark.slow
def test_the_student_is_trained_each_time_and_the_young_teacher_once(capfd: pytest.CaptureFixture[str]) -> None:
    run = planned()
    first, second = live.distil(run), live.distil(run)
    # What mmengine logs names folders of this machine.
    assert capfd.readouterr().out == ""
    assert [row["origin"] for row in first.story] == ["trained in this notebook"] * 2
    assert [row["origin"] for row in second.story] == ["kept from an earlier run", "trained in this notebook"]
    assert second.story[0]["finished"] == first.story[0]["finished"]
    assert first.curve[-1]["iteration"] == 4
    weight_before, weight_after = (d.student.bbox_head.conv_cls.weight for d in (first.before, first.after))
    assert not torch.equal(weight_before, weight_after)
    for before, after in zip(first.before.teachers[0].parameters(), first.after.teachers[0].parameters(), strict=True):
        assert torch.equal(before, after)
    # Same seeds, same losses: what the page shows is the study's own training loop.
    assert first.curve == second.curve
    assert {path.name for path in paths.runs().iterdir()} >= {"explore"}
    assert not list(paths.runs().glob("explore-*"))


def test_of_two_that_want_a_file_one_waits(tmp_path: Path) -> None:
    order: list[str] = []

    def second() -> None:
        with live._alone(tmp_path / "teacher.pth"):
            order.append("second")

    with live._alone(tmp_path / "teacher.pth"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(timeout=0.3)
        assert thread.is_alive()
        order.append("first")
    thread.join(timeout=60)
    assert order == ["first", "second"]
