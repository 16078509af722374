"""Ablations of length and of labelled images: what a value changes of a run, and gains over the student of the same value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from dfmsd.errors import StudyError
from dfmsd.report import regime
from dfmsd.study import frames, pages, scales
from dfmsd.study.pages.comparison import RegimePage
from dfmsd.study.spec import RunSpec
from tests.conftest import WriteRecord
from tests.report.conftest import run

PAIR = {"student": "fcos_r50", "teachers": ["gfl_r101", "gfl_x101"]}
GIVEN = {
    "page": "example",
    "title": "t",
    "question": "q",
    "pairs": [PAIR],
    "recipes": ["baseline", "mse", "dfmsd"],
    "seeds": [0, 1],
}


def page(vary: str, values: list[float], **changes: Any) -> RegimePage:
    return pages.validate(RegimePage, GIVEN | {"vary": vary, "values": values} | changes)


@pytest.mark.parametrize("vary", ["length", "images"])
def test_length_changes_epochs_and_images_leave_the_iterations(vary: str) -> None:
    scale = scales.get("mini")
    assert scale.images is not None
    for entry in page(vary, [0.5, 1, 2]).entries:
        value = getattr(entry.row.options, vary)
        epochs = sum(one.schedule.epochs for one in entry.runs)
        images = {one.images for one in entry.runs}
        if vary == "length":
            assert (epochs, images) == (value * scale.schedule.epochs, {scale.images})
        else:
            assert images == {value * scale.images} and epochs * value == scale.schedule.epochs
        # Teachers are the same everywhere.
        for teacher in (teacher for one in entry.runs if one.stage for teacher in one.stage.teachers):
            assert isinstance(teacher, RunSpec) and teacher.images == scale.teacher_images_of(teacher.network.name)


def test_more_images_than_there_are_are_left_out_and_two_values_do_at_smoke() -> None:
    found = {scale: {row.options.images for row in page("images", [0.5, 1, 2, 100], scale=scale).rows()} for scale in scales.SCALES}
    assert found == {"smoke": {0.5, 1}, "mini": {0.5, 1, 2}, "gpu": {0.5, 1}, "coco": {1}}


def test_a_gain_is_over_the_student_of_the_same_value_and_seed(write_record: WriteRecord) -> None:
    known = page("length", [1, 2])
    for entry in known.entries:
        ap = 30.0 + 5 * entry.row.options.length + entry.seed
        write_record(entry.runs[-1], ap + {"baseline": 0.0, "mse": 4.0, "dfmsd": 6.0}[entry.row.recipe] / entry.row.options.length)
    frame = frames.frame(known)
    assert regime.table(known, frame).to_numpy().tolist() == [[35.5, 40.5], [39.5, 42.5], [41.5, 43.5]]
    assert regime.table(known, frame, gain=True).to_numpy().tolist() == [[4.0, 2.0], [6.0, 3.0]]
    assert "MSE gains +4.0 AP at × 1 and +2.0 AP at × 2 over the baseline (1 pair)" in regime.left(known, frame)
    assert regime.left(known, frame).startswith("- 1 student without a teacher gains +5.0 AP from × 1 to × 2.\n")
    lacking = frame.assign(value=frame["value"].mask((frame["length"] == 2) & (frame["seed"] == 1)))
    assert "gains +5.0 AP" in regime.left(known, lacking), "seeds are 1 AP apart, and one of them has no run at × 2"
    assert "MSE: 1 times +4.0; 2 times +2.0" in regime.figure(known, frame, gain=True).get_label()  # type: ignore[operator]


def test_without_records_the_page_says_so(folders: Path) -> None:
    shown = run("regime", **GIVEN | {"vary": "images", "values": [0.5, 1], "scale": "smoke"})
    assert shown["finding"].data.strip().startswith("0 of ")
    drawn = [value for value in shown.values() if isinstance(value, Figure)]
    assert len(drawn) == 2 and all("not run" in str(figure.get_label()) for figure in drawn)


def test_a_wrong_pair_is_refused() -> None:
    with pytest.raises(StudyError, match=r"unknown parameter 'pairs.0.teacher': did you mean 'teachers'\?"):
        page("length", [1], pairs=[PAIR | {"teacher": "gfl_r101"}])
