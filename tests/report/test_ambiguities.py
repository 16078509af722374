"""How far open choices and modules move AP, from records the test has chosen."""

from __future__ import annotations

import re
from typing import Any

import pytest

from dfmsd.report import ambiguities
from dfmsd.study import pages
from dfmsd.study.pages import PageSpec
from tests.conftest import WriteRecord

ROWS: dict[str, dict[str, Any]] = {
    "mean": {"hyper": {"reduction": "mean"}},
    "random": {"hyper": {"hide": "random"}},
    "inside": {"hyper": {"sfa_inside": True}},
    "SAL + ME": {"sfa": False},
    "ME + SFA": {"sal": False},
    "none": {"sal": False, "sfa": False},
}
AP = {"dfmsd": 30.0, "mean": 32.0, "random": 25.0, "inside": 30.5, "SAL + ME": 29.0, "ME + SFA": 33.0, "none": 10.0}


def page(seeds: tuple[int, ...] = (0,)) -> PageSpec:
    recipes: list[Any] = ["baseline", *({"recipe": "dfmsd", "name": name, "options": options} for name, options in ROWS.items())]
    inherited = {"recipe": "dfmsd", "name": "inherited", "options": {"inherit": True}, "impossible": "narrow"}
    index = {"recipe": "dfmsd", "name": "by index", "options": {"matching": "index"}}
    groups = [
        {"student": "fcos_r50", "teachers": ["gfl_r101", "gfl_x101"], "recipes": [*recipes, inherited, "dfmsd"]},
        {"student": "faster_rcnn_r50", "teachers": ["gfl_r101", "gfl_x101"], "recipes": [index, "dfmsd"]},
    ]
    return pages.spec(page="mine", title="Mine", question="Why?", groups=groups, scale="mini", seeds=seeds)


def run(spec: PageSpec, write_record: WriteRecord, *names: str, **steps: float) -> None:
    """Records of rows of FCOS; what a seed adds to a row, by name."""
    for entry in spec.entries():
        if entry.row.student == "fcos_r50" and (name := entry.row.name or entry.row.recipe) in names:
            write_record(entry.runs[-1], AP[name] + entry.seed * steps.get(name, 0.0))


def test_rows_that_lack_one_module_or_make_one_choice_are_sorted(write_record: WriteRecord) -> None:
    run(page(), write_record, *AP)
    found = [(move.name, move.part, move.change.mean) for move in ambiguities.moves(page()) if move.change]
    assert found == [
        ("random", None, -5.0),
        ("without stage-wise adaptation", "sal", 3.0),
        ("mean", None, 2.0),
        ("without semantic alignment", "sfa", -1.0),
        ("inside", None, 0.5),
    ]


def test_changes_against_a_stale_row_are_marked(write_record: WriteRecord) -> None:
    run(page(), write_record, "dfmsd", "mean")
    assert "stale" not in ambiguities.table(page()).to_html()  # type: ignore[union-attr]
    whole = next(e for e in page().entries() if e.row.student == "fcos_r50" and e.row.recipe == "dfmsd" and not e.row.name)
    old = write_record(whole.runs[-1], AP["dfmsd"]).provenance.model_copy(update={"code_digest": "another"})
    write_record(whole.runs[-1], AP["dfmsd"], provenance=old)
    changes = ambiguities.table(page()).data["change of AP"]  # type: ignore[union-attr]
    assert ["stale" in change for change in changes] == [move.change is not None for move in ambiguities.moves(page())]
    assert "mean +2.0 (stale)" in ambiguities.figure(page()).alt


def test_a_row_is_set_against_its_own_student(write_record: WriteRecord) -> None:
    spec = page()
    run(spec, write_record, "dfmsd")
    for entry in spec.entries():
        if entry.row.student == "faster_rcnn_r50":
            write_record(entry.runs[-1], 40.0 if entry.row.name else 38.0)
    (move,) = [move for move in ambiguities.moves(spec) if move.change is not None]
    assert (move.name, move.change.mean) == ("by index (Faster R-CNN R50)", 2.0)  # type: ignore[union-attr]


def test_a_choice_is_compared_with_the_modules_of_its_own_student_alone(write_record: WriteRecord) -> None:
    spec = pages.get("ambiguities", seeds=[0])
    assert isinstance(spec, PageSpec)
    by_row = {"errors averaged over a level": 32.0, "levels matched by index": 45.0, "SAL + ME": 29.0, "": 30.0}
    for entry in spec.entries():
        if entry.row.recipe == "dfmsd" and entry.row.name in by_row:
            write_record(entry.runs[-1], by_row[entry.row.name])
    table = ambiguities.table(spec)
    shown = table.data.set_index("row")["moves AP more than"]  # type: ignore[union-attr]
    assert (shown["levels matched by index (Faster R-CNN R50)"], shown["errors averaged over a level"]) == ("SFA?", "SFA?")
    assert ambiguities.answer(spec).data.splitlines()[:2] == [
        "- **1 of 1** open choices that were run move AP more than semantic alignment does (−1.0 without it): "
        "errors averaged over a level (+2.0, no test).",
        "- **1 of 1** open choices that were run move AP more than semantic alignment does (Faster R-CNN R50) (−1.0 without it): "
        "levels matched by index (Faster R-CNN R50) (+15.0, no test).",
    ]


def test_sentences_say_which_choices_move_ap_more_than_each_module(write_record: WriteRecord) -> None:
    run(page(), write_record, "dfmsd", "mean", "random", "inside", "SAL + ME", "ME + SFA")
    assert ambiguities.answer(page()).data.splitlines() == [
        "- **1 of 3** open choices that were run move AP more than stage-wise adaptation does (+3.0 without it): "
        "random (−5.0, no test).",
        "- **2 of 3** open choices that were run move AP more than semantic alignment does (−1.0 without it): "
        "random (−5.0, no test), mean (+2.0, no test).",
        "- 1 of 5 open choices: **not run** (by index (Faster R-CNN R50)).",
        "- inherited: cannot be run: narrow.",
    ]


@pytest.mark.usefixtures("write_record")
def test_without_records_nothing_is_compared() -> None:
    assert [line.partition(": **not run**")[0] for line in ambiguities.answer(page()).data.splitlines()] == [
        "- 4 of 5 open choices",
        "- 2 of 2 modules",
        "- inherited: cannot be run: narrow.",
    ]
    assert "cannot be run: narrow" in ambiguities.table(page()).to_html()  # type: ignore[union-attr]
    assert ambiguities.figure(page()).alt.count("not run") == 6


@pytest.mark.usefixtures("write_record")
def test_smoke_is_no_evidence() -> None:
    assert "mean nothing" in ambiguities.answer(page().model_copy(update={"scale": "smoke"})).data
    assert "mean nothing" not in ambiguities.answer(page()).data


@pytest.mark.parametrize(("step", "shown", "doubt"), [(0.1, "SFA", ""), (-0.9, "SFA?", ", undecided")])
def test_three_seeds_decide_or_not(write_record: WriteRecord, step: float, shown: str, doubt: str) -> None:
    """The mean lies 2 above DFMSD, SFA 1: with steps of -0.9 a seed the third is not beyond it."""
    spec = page((0, 1, 2))
    run(spec, write_record, "dfmsd", "mean", "SAL + ME", mean=step)
    frame = ambiguities.table(spec).data  # type: ignore[union-attr]
    assert frame["moves AP more than"].tolist()[:2] == [shown, "–"]
    change = 2.0 + step
    assert f"mean (+{change:.1f}{doubt})" in ambiguities.answer(spec).data
    assert re.sub(r"<[^>]*>", " ", frame["change of AP"][0]).split()[0] == f"+{change:.1f}"


def test_the_figure_is_the_same_each_time_and_has_words(write_record: WriteRecord) -> None:
    run(page(), write_record, *AP)
    first, second = ambiguities.figure(page()), ambiguities.figure(page())
    assert first.svg == second.svg
    assert "largest first. random −5.0, without stage-wise adaptation +3.0, mean +2.0" in first.alt
    assert first.alt.endswith("inherited cannot be run, by index (Faster R-CNN R50) not run.")


@pytest.mark.parametrize(("interval", "size"), [((1.0, 3.0), (1.0, 3.0)), ((-3.0, -1.0), (1.0, 3.0)), ((-1.0, 3.0), (0.0, 3.0))])
def test_an_interval_over_zero_reaches_down_to_it(interval: tuple[float, float], size: tuple[float, float]) -> None:
    assert ambiguities.sized(interval) == size


def test_a_page_without_such_rows_says_so() -> None:
    structural = pages.get("structural")
    assert isinstance(structural, PageSpec)
    assert ambiguities.table(structural).data == "No row differs from DFMSD as it is."
