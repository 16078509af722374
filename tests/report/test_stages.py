"""The way through the stages, from records the test has chosen."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from dfmsd.report import stages
from dfmsd.study import pages
from dfmsd.study.frame import Line
from dfmsd.study.pages import PageSpec, name_of
from dfmsd.study.records import Record
from dfmsd.study.spec import RunSpec
from tests.conftest import WriteRecord

RECIPES = ("baseline", "dmkd", {"recipe": "dfmsd", "name": "alone", "options": {"sal": False}}, "equal_budget", "dfmsd")
GROUP = {"student": "fcos_r50", "teachers": ["gfl_r101", "gfl_x101"], "recipes": RECIPES}


def page(seeds: tuple[int, ...] = (0,)) -> PageSpec:
    return pages.spec(page="mine", title="Mine", question="Why?", table=(1, 3), groups=[GROUP], scale="mini", seeds=seeds)


def rows(spec: PageSpec) -> dict[str, Line]:
    return {name_of(line.row): line for line in stages.rows(spec)}


def write(spec: PageSpec, write_record: WriteRecord, aps: dict[str, tuple[float, ...]], **fields: Any) -> None:
    """A record for each of some rows, an AP for each seed from 0 on."""
    for name, values in aps.items():
        for entry in rows(spec)[name].entries:
            if entry.seed < len(values):
                write_record(entry.runs[-1], values[entry.seed], **fields)


def teachers(spec: PageSpec) -> list[RunSpec]:
    found = [run.stage.teacher for run in rows(spec)["DFMSD, stage 2"].entries[0].runs if run.stage]
    return [teacher for teacher in found if isinstance(teacher, RunSpec)]


@pytest.mark.usefixtures("write_record")
def test_the_stages_stand_between_the_baseline_and_the_rows_of_one_stage() -> None:
    found = rows(page())
    assert list(found) == ["baseline", "DFMSD, stage 1", "DFMSD, stage 2", "DMKD", "alone", "DMKD, equal budget"]
    assert [len(line.entries[0].runs) for line in found.values()] == [1, 1, 2, 1, 1, 1]
    assert found["DFMSD, stage 2"].entries[0].runs[:1] == found["DFMSD, stage 1"].entries[0].runs


@pytest.mark.usefixtures("write_record")
def test_the_figure_of_the_paper_has_the_numbers_of_its_section() -> None:
    # Section 3.3: from 38.4 to 42.2, and by 0.9 to 43.1; Swin-S alone gives 42.3.
    spec = pages.get("fig03")
    assert isinstance(spec, PageSpec)
    known = [line for line in stages.rows(spec) if line.row.teachers == ("mask_rcnn_swint", "mask_rcnn_swins")]
    quoted = {name_of(line.row): line.published.metrics["AP"] for line in known if line.published}
    assert quoted == {"baseline": 38.4, "DFMSD, stage 1": 42.2, "DFMSD, stage 2": 43.1, "DMKD": 42.3}


def test_what_is_missing_reads_not_run(write_record: WriteRecord) -> None:
    spec = page()
    assert "stage 1 **not run**, stage 2 **not run**." in stages.added(spec).data
    assert stages.figure(spec).alt.count("not run") == len(rows(spec)) + len(teachers(spec))
    assert stages.learning(spec).alt.count("not run") == len(rows(spec))
    write(spec, write_record, {"baseline": (20.0,), "DFMSD, stage 1": (24.0,)})
    assert "stage 1 **+4.0 AP** (one seed: no test), stage 2 **not run**." in stages.added(spec).data
    assert stages.figure(spec).alt.count("not run") == len(rows(spec)) - 2 + len(teachers(spec))


def test_a_step_from_or_to_a_stale_student_says_so(write_record: WriteRecord) -> None:
    spec = page()
    write(spec, write_record, {"baseline": (20.0,), "DFMSD, stage 1": (24.0,)})
    (entry,) = rows(spec)["baseline"].entries
    old = write_record(entry.runs[-1], 20.0).provenance.model_copy(update={"code_digest": "another"})
    write_record(entry.runs[-1], 20.0, provenance=old)
    assert "stage 1 **+4.0 AP** (one seed: no test, *stale*)" in stages.added(spec).data


@pytest.mark.parametrize(
    ("seeds", "words"),
    [(2, "stage 2 **−0.5 AP** (2 seeds: no test)"), (3, "stage 2 **+0.3 AP** (−2.0 to +2.0)")],
)
def test_a_stage_is_measured_from_the_one_before_seed_by_seed(seeds: int, words: str, write_record: WriteRecord) -> None:
    spec = page(tuple(range(seeds)))
    write(spec, write_record, {"baseline": (0.0,) * 3, "DFMSD, stage 1": (20.0, 22.0, 30.0), "DFMSD, stage 2": (21.0, 20.0, 32.0)})
    assert words in stages.added(spec).data


def test_the_figure_tells_the_teachers_own_ap_and_is_the_same_each_time(write_record: WriteRecord) -> None:
    spec = page()
    strong = teachers(spec)[-1]
    write(spec, write_record, {"baseline": (20.0,), "DFMSD, stage 1": (24.0,), "DFMSD, stage 2": (26.0,)})
    write_record(strong, 33.0)
    first, second = stages.figure(spec), stages.figure(spec)
    assert first.svg == second.svg
    assert "DFMSD, stage 1 24.0; DFMSD, stage 2 26.0; DMKD not run" in first.alt
    assert first.alt.endswith("GFL R101 not run, GFL X101 33.0.")


def curve(run: RunSpec, write_record: WriteRecord, *losses: float) -> Record:
    """A record with a curve of so many points, two thirds of the loss the student's own."""
    points = [
        {"iteration": 10.0 * place, "lr": 0.1, "loss": loss, "loss_dfmsd_rec": loss / 6, "loss_dmkd_rec": loss / 6, "loss_cls": 1.0}
        for place, loss in enumerate(losses, start=1)
    ]
    return write_record(run, 20.0, curve=points)


def test_a_curve_goes_on_where_the_stage_before_ended(write_record: WriteRecord) -> None:
    spec = page()
    for run in rows(spec)["DFMSD, stage 2"].entries[0].runs:
        curve(run, write_record, 6.0, 3.0)
    epochs = rows(spec)["DFMSD, stage 1"].entries[0].runs[0].schedule.epochs
    found = rows(spec)
    assert stages.curves(found["DFMSD, stage 1"])[0] == [(epochs / 2, pytest.approx(4.0)), (epochs, pytest.approx(2.0))]
    assert [epoch for epoch, _ in stages.curves(found["DFMSD, stage 2"])[0]] == [1.5 * epochs, 2.0 * epochs]
    assert stages.curves(found["DMKD"]) == {}


def test_the_learning_curves_have_their_ends_in_words_and_in_a_table(write_record: WriteRecord) -> None:
    spec = page((0, 1))
    line = rows(spec)["DMKD, equal budget"]
    for entry, first in zip(line.entries, (3.0, 6.0), strict=True):
        epochs = entry.runs[-1].schedule.epochs
        curve(entry.runs[-1], write_record, first, *[9.0] * (epochs - 2), 1.5)
    drawing = stages.learning(spec)
    assert drawing.svg == stages.learning(spec).svg
    assert "DMKD, equal budget 3.00 to 1.00." in drawing.alt
    frame = stages.losses(spec).data
    assert isinstance(frame, pd.DataFrame)
    single = line.entries[0].runs[-1].schedule.epochs // 2
    assert frame.loc["DMKD, equal budget"].tolist() == [f"0 to {2 * single}", "3.00", "1.00", "2"]
    missing = next(place for place in frame.index if place.startswith("DFMSD, stage 2"))
    assert "not run" in missing
    assert frame.loc[missing].tolist() == [f"{single} to {2 * single}", "–", "–", "0"]
