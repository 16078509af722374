"""The gates: what they ask, of whom, and what they say of records made by hand."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dfmsd.errors import StudyError
from dfmsd.report import gates, tables
from dfmsd.study import ensure, frames, pages, scales
from dfmsd.study.pages.comparison import PageSpec
from dfmsd.study.pages.scale import GatesPage
from dfmsd.study.rows import JOIN, Impossible, Row, chain
from dfmsd.study.spec import CocoData, RunSpec
from tests.conftest import WriteRecord
from tests.fixtures_study import baseline
from tests.report.conftest import html, run

SEEDS = scales.get("mini").seeds
BASE = 40.0


@pytest.fixture
def page() -> GatesPage:
    found = pages.get("gates", scale="mini")
    assert isinstance(found, GatesPage)
    return found


def write(page: GatesPage, write_record: WriteRecord, **changes: float) -> None:
    """A record of every run, such that each gate is passed, but for what is changed.

    Students have 39.5, 40 and 40.5 AP with three seeds, so a standard deviation of 0.5.
    """
    strength = {"r50": 47.0, "r101": 48.0, "x101": 51.0, "swint": 50.0, "swins": 52.0} | changes
    for entry in page.entries:
        ap = BASE + 0.5 * (SEEDS.index(entry.seed) - 1) * changes.get("spread", 1.0)
        if entry.row.options.length == 2:
            ap += changes.get("longer", 2.0)
        if entry.row.recipe == "mse":
            ap += changes.get("gain", 2.0)
        write_record(entry.runs[-1], ap)
    for name, one in page.runs().items():
        write_record(one, strength[name.rpartition("_")[2]])


def verdicts(page: GatesPage, cost: float = 50.0) -> dict[str, set[str]]:
    found = gates.judged(page, frames.frame(page), cost)
    return {str(gate): set(own["verdict"]) for gate, own in found.groupby("gate")}


def lines(page: GatesPage, **wanted: str) -> pd.DataFrame:
    found = gates.judged(page, frames.frame(page), 50.0)
    for name, value in wanted.items():
        found = found[found[name] == value]
    return found


def test_without_records_nothing_is_measured(page: GatesPage, folders: Path) -> None:
    assert verdicts(page) == {gate: {gates.UNMEASURED} for gate in gates.GATES}
    assert set(gates.counts(gates.judged(page, frames.frame(page), 50.0))["verdict"]) == {gates.UNMEASURED}


def test_values_are_differences_of_aps(page: GatesPage, write_record: WriteRecord) -> None:
    write(page, write_record)
    length = lines(page, gate="length")
    assert length["value"].tolist() == pytest.approx([2.0] * len(page.students)) and set(length["high"]) == {2.5}
    teachers = lines(page, gate="teachers", about="FCOS R50 taught by RetinaNet R101, then RetinaNet X101")
    # The untaught student of twice the epochs has 39.5 + 2 with the first seed.
    assert teachers["value"].tolist() == pytest.approx([48.0 - 41.5, 51.0 - 48.0, 51.0 - 41.5])
    assert teachers[["low", "high"]].fillna(0).to_numpy().tolist() == [[4.0, 0.0], [1.5, 0.0], [0.0, 20.0]]
    (alone,) = lines(page, gate="teachers", about="Faster R-CNN R50 taught by Faster R-CNN R101").to_dict("records")
    assert (alone["low"], alone["high"]) == (4.0, 20.0)
    assert lines(page, gate="noise")["value"].item() == pytest.approx(0.5)
    room = lines(page, gate="room")
    assert len(room) == 3 and room["value"].tolist() == pytest.approx([2.0] * 3)
    assert room["low"].tolist() == pytest.approx([3 * 0.5] * 3)


@pytest.mark.parametrize(
    ("gate", "changes", "cost"),
    [
        ("length", {"longer": 2.6}, 50.0),
        ("noise", {"spread": 2.1, "gain": 20.0, "longer": 3.0}, 50.0),
        ("room", {"gain": 1.4}, 50.0),
        ("teachers", {"x101": 49.0}, 50.0),
        ("teachers", {"swins": 80.0}, 50.0),
        ("cost", {}, 60.1),
    ],
)
def test_a_gate_fails_beyond_its_bound(
    page: GatesPage, write_record: WriteRecord, gate: str, changes: dict[str, float], cost: float
) -> None:
    write(page, write_record, **changes)
    found = verdicts(page, cost)
    assert gates.FAILED in found[gate]
    table = gates.counts(gates.judged(page, frames.frame(page), cost))
    assert table.loc[gates.GATES[gate], "verdict"] == gates.FAILED
    said = gates.consequences(gates.judged(page, frames.frame(page), cost), page)
    assert page.touches[gate] in said  # type: ignore[index]
    failed = gates.judged(page, frames.frame(page), cost).query("verdict == 'failed'")
    assert all(
        f"{one['measured']}: {tables.number(one['value'])}, where {gates.bound(one)} is asked" in said
        for _, one in failed.iterrows()
    )


def test_a_bound_itself_passes(page: GatesPage, write_record: WriteRecord) -> None:
    # 39.5 + 2.5 + 4 = 46, and 46 + 1.5 = 47.5, up to 62 = 42 + 20; a gain of 3 x 0.5.
    ends = {"longer": 2.5, "r50": 46.0, "r101": 47.5, "x101": 49.0, "swint": 60.5, "swins": 62.0, "gain": 1.5}
    write(page, write_record, **ends)
    found = gates.judged(page, frames.frame(page), 60.0)
    # Teachers of several types may stand in any order.
    mixed = found["about"].str.contains("Cascade") & found["about"].str.contains("FCOS X101|RetinaNet X101|Swin")
    assert set(found.loc[~mixed, "verdict"]) == {gates.PASSED}


def test_one_missing_run_leaves_open_what_needs_it(page: GatesPage, write_record: WriteRecord) -> None:
    for entry in page.entries:
        if entry.row.student != "gfl_r50" or entry.seed != SEEDS[1]:
            write_record(entry.runs[-1], BASE)
    found = verdicts(page)
    assert found["length"] == {gates.PASSED}
    assert found["noise"] == found["room"] == found["cost"] == {gates.UNMEASURED}


def test_every_pair_of_every_table_is_asked(page: GatesPage) -> None:
    asked = {(pair.student, frozenset(pair.teachers)) for pair in page.pairs}
    wanted = set()
    for table in pages.comparisons("mini"):
        for row in table.rows():
            if not isinstance(row, Impossible):
                wanted.add((row.student, frozenset(name for group in row.teachers for name in group.split(JOIN))))
    assert asked == wanted and len(asked) >= 20
    planned = {runs[-1].key for runs in page.chains()}
    students, teachers = {student for student, _ in wanted}, {name for _, names in wanted for name in names}
    first = (entry.runs for table in pages.comparisons("mini") for entry in table.entries if entry.seed == SEEDS[0])
    for one in itertools.chain.from_iterable(first):
        assert one.stage is None or all(teacher.key in planned for teacher in one.stage.teachers)
    for student in students:
        own = [entry for entry in page.entries if entry.row.student == student and entry.row.recipe == "baseline"]
        assert sorted((entry.row.options.length, entry.seed) for entry in own) == [
            *((1.0, seed) for seed in SEEDS),
            (2.0, SEEDS[0]),
        ]
    assert set(page.runs()) == teachers


METHOD = "2 runs of methods at mini must wait: {} of the {} runs that measure its gates have no record"


def method() -> tuple[RunSpec, ...]:
    """A chain of two runs, whose teachers and students the gates measure as well."""
    table = pages.get("table03", scale="mini", seeds=[0])
    assert isinstance(table, PageSpec)
    return next(entry.runs for entry in table.entries if entry.row.recipe == "dfmsd")


def test_methods_wait_for_the_gates(page: GatesPage, write_record: WriteRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    class Begun(Exception):
        """Training would begin now."""

    def begin(*_: Any, **__: Any) -> None:
        raise Begun

    monkeypatch.setattr("dfmsd.study.data.ensure", begin)
    count = len({runs[-1].key for runs in page.chains()})
    with pytest.raises(StudyError) as caught:
        ensure.ensure([method()], quiet=True)
    assert str(caught.value) == f"{METHOD.format(count, count)}; make them by `python -m dfmsd page gates --scale mini`"
    # What the gates measure, trials, untaught students, other scales and other data need not wait.
    trials = next(runs for runs in pages.get("shares", scale="mini").chains() if runs[-1].stage)  # type: ignore[union-attr]
    own = scales.get("mini").on(CocoData(source="own", digest="0", train=60))
    taught = chain(Row(student="fcos_r50", teachers=("gfl_r101",), recipe="mgd"), own, 0)
    others = [
        taught,
        page.entries[-1].runs,
        trials,
        (baseline(scales.get("mini")),),
        pages.get("table03", scale="smoke").chains()[-1],
    ]
    for runs in others:
        with pytest.raises(Begun):
            ensure.ensure([runs], quiet=True)
    # A record counts, whatever the gate says of it.
    write(page, write_record, longer=20.0)
    with pytest.raises(Begun):
        ensure.ensure([method()], quiet=True)


def test_reading_records_is_never_refused(folders: Path) -> None:
    assert ensure.make(pages.get("table03", scale="mini"), jobs=0).complaints() == []


def test_the_page_shows_every_number_of_the_gates(page: GatesPage, write_record: WriteRecord) -> None:
    write(page, write_record, longer=3.0)
    parameters = {name: value for name, value in page.model_dump(mode="json").items() if name != "seeds"}
    found = run("gates", **parameters)
    assert "failed" in html(found["gates"] if "gates" in found else found["verdicts"])
    assert page.touches["length"] in found["finding"].data
    assert str(found["figure"].get_label()).startswith("AP in percent at scale mini")
    values = found["numbers"].data["value"].dropna()
    assert len(values) >= len(lines(page)) - 1
