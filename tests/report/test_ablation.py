"""What a part adds, from records the test has chosen."""

from __future__ import annotations

from typing import Any

import pytest

from dfmsd.report import ablation as effects
from dfmsd.study import pages
from dfmsd.study.frame import lines
from dfmsd.study.pages import PageSpec
from dfmsd.study.rows import Options
from tests.conftest import WriteRecord

ROWS = {
    "none": {"sal": False, "me": "none", "sfa": False},
    "ME": {"sal": False, "sfa": False},
    "SFA": {"sal": False, "me": "none"},
    "ME + SFA": {"sal": False},
    "other crop": {"sal": False, "crop": (0.5, 1.0)},
    "ME in stage 1": {"me": "first"},
}
ALONE = {"recipe": "dfmsd", "name": "strong teacher alone", "options": {"sal": False}}
AP = {"baseline": 1.0, "none": 20.0, "ME": 21.0, "SFA": 24.0, "ME + SFA": 24.5, "other crop": 50.0, "ME in stage 1": 60.0}


def page(seeds: tuple[int, ...] = (0,)) -> PageSpec:
    recipes: list[Any] = ["baseline", *({"recipe": "dfmsd", "name": name, "options": options} for name, options in ROWS.items())]
    group = {"student": "fcos_r50", "teachers": ["gfl_r101", "gfl_x101"], "recipes": recipes}
    return pages.spec(page="mine", title="Mine", question="Why?", groups=[group], scale="mini", seeds=seeds)


def run(spec: PageSpec, write_record: WriteRecord, *names: str) -> None:
    for entry in spec.entries():
        if (name := entry.row.name or entry.row.recipe) in names:
            write_record(entry.runs[-1], AP[name])


def test_pairs_of_rows_differ_in_the_part_alone(write_record: WriteRecord) -> None:
    run(page(), write_record, *AP)
    found = {
        part: {tuple(sorted(rest)): difference.mean for rest, difference in by_rest.items() if difference}
        for part, by_rest in effects.effects(lines(page())).items()
    }
    assert found == {"me": {(): 1.0, ("sfa",): 0.5}, "sfa": {(): 4.0, ("me",): 3.5}}


def test_the_table_has_the_mean_only_when_all_pairs_are_run(write_record: WriteRecord) -> None:
    run(page(), write_record, "none", "ME", "SFA")
    by_part = effects.table(page()).data.set_index("part")  # type: ignore[union-attr]
    assert by_part.loc["masking enhancement"].tolist() == ["+1.0", "–", "–", "1 of 2 run"]
    run(page(), write_record, "ME + SFA")
    by_part = effects.table(page()).data.set_index("part")  # type: ignore[union-attr]
    assert by_part.loc["semantic alignment"].tolist() == ["+4.0", "–", "+3.8", "2 of 2 run"]


def test_three_seeds_have_an_interval(write_record: WriteRecord) -> None:
    spec = page((0, 1, 2))
    for entry in spec.entries():
        write_record(entry.runs[-1], AP[entry.row.name or entry.row.recipe] + entry.seed * (entry.row.name == "ME"))
    assert "+2.0" in effects.table(spec).to_html()  # type: ignore[union-attr]
    assert "+1.0 to +3.0" in effects.table(spec).to_html()  # type: ignore[union-attr]


def test_pairs_of_rows_have_one_student_and_its_teachers(write_record: WriteRecord) -> None:
    groups = [
        {"student": "fcos_r50", "teachers": [f"{family}_r101", f"{family}_x101"], "recipes": [ALONE, "dfmsd"]}
        for family in ("gfl", "retinanet")
    ]
    spec = pages.spec(page="mine", title="Mine", question="Why?", groups=groups, scale="mini", seeds=(0,))
    for entry, ap in zip(spec.entries(), (20.0, 21.0, 30.0, 33.0), strict=True):
        write_record(entry.runs[-1], ap)
    frame = effects.table(spec).data  # type: ignore[union-attr]
    assert frame["with the two others"].tolist() == ["+1.0", "+3.0"]
    assert frame["student and teachers"].tolist() == [f"FCOS R50 ← {name} R101 → {name} X101" for name in ("GFL", "RetinaNet")]


def test_the_table_says_its_scale_and_which_parts_rest_on_stale_rows(write_record: WriteRecord) -> None:
    run(page(), write_record, "none", "ME", "SFA")
    text = effects.table(page()).to_html()  # type: ignore[union-attr]
    assert "Scale mini" in text and "stale" not in text
    (entry,) = (entry for entry in page().entries() if entry.row.name == "SFA")
    fresh = write_record(entry.runs[-1], AP["SFA"])
    write_record(entry.runs[-1], AP["SFA"], provenance=fresh.provenance.model_copy(update={"code_digest": "another"}))
    parts = effects.table(page()).data["part"].tolist()  # type: ignore[union-attr]
    assert ["stale" in part for part in parts] == [False, True]


def test_a_page_without_such_pairs_says_so() -> None:
    assert effects.table(pages.get("structural")).data == "No two rows differ in a part alone."  # type: ignore[arg-type]


@pytest.mark.parametrize(("options", "on"), [({}, {"sal", "me", "sfa"}), ({"me": "first", "sfa": False}, {"sal", "me"})])
def test_a_part_is_on_whatever_its_stages(options: dict[str, Any], on: set[str]) -> None:
    assert effects.parts_on(Options(**options)) == on
