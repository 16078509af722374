"""Claims: every one finds its rows, and verdicts by hand."""

from __future__ import annotations

import pytest

from dfmsd import claims, pages
from dfmsd.claims import Claim, judge
from dfmsd.errors import StudyError
from tests.conftest import WriteRecord

PAGE = pages.spec(
    page="example",
    title="t",
    question="q",
    scale="mini",
    groups=[{"student": "fcos_r50", "teachers": ["gfl_r101", "gfl_x101"], "recipes": ["baseline", "dmkd", "dfmsd"]}],
    seeds=[0, 1, 2],
)


def claim(**changes: object) -> Claim:
    fields = {"id": "x", "paper": "dfmsd", "section": "1", "text": "t", "page": "example", "subject": "DFMSD", "rival": "DMKD"}
    return Claim.model_validate(fields | changes)


def write(write_record: WriteRecord, recipe: str, *aps: float) -> None:
    entries = [entry for entry in PAGE.entries() if entry.row.recipe == recipe]
    for entry, ap in zip(entries, aps, strict=False):
        write_record(entry.runs[-1], ap)


@pytest.mark.parametrize("found", claims.claims(), ids=lambda found: found.id)
def test_every_claim_finds_its_rows(found: Claim) -> None:
    page = pages.get(found.page)
    assert isinstance(page, pages.PageSpec)
    assert judge(found, page)[0] in ("holds", "fails", "undecided", "not run")


def test_ids_are_unique() -> None:
    assert len({found.id for found in claims.claims()}) == len(claims.claims())


@pytest.mark.usefixtures("write_record")
def test_without_records_nothing_is_said() -> None:
    assert judge(claim(), PAGE) == ("not run", "")


@pytest.mark.parametrize(
    ("ours", "theirs", "least", "verdict"),
    [
        ((31.0, 32.0, 33.0), (30.0, 30.0, 30.0), 0.0, "holds"),
        ((29.0, 28.0, 29.5), (30.0, 30.0, 30.0), 0.0, "fails"),
        ((31.0, 29.0, 31.0), (30.0, 30.0, 30.0), 0.0, "undecided"),
        ((31.0, 32.0, 33.0), (30.0, 30.0, 30.0), 1.5, "holds"),
        ((31.0, 32.0, 33.0), (30.0, 30.0, 30.0), 2.5, "undecided"),
        ((31.0, 32.0, 33.0), (30.0, 30.0, 30.0), 3.5, "fails"),
    ],
)
def test_verdicts_of_three_seeds(
    write_record: WriteRecord, ours: tuple[float, ...], theirs: tuple[float, ...], least: float, verdict: str
) -> None:
    write(write_record, "dfmsd", *ours)
    write(write_record, "dmkd", *theirs)
    assert judge(claim(least=least), PAGE)[0] == verdict


def test_one_seed_decides_nothing(write_record: WriteRecord) -> None:
    write(write_record, "dfmsd", 50.0)
    write(write_record, "dmkd", 30.0)
    assert judge(claim(), PAGE) == ("undecided", "+20.0 AP (1 seed)")


def test_a_claim_about_a_row_that_is_not_there() -> None:
    with pytest.raises(StudyError, match="claim x: page example has no such rows: did you mean 'DMKD'"):
        judge(claim(rival="DKMD"), PAGE)
