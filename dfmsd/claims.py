"""What the papers claim and a number can settle (``params/claims.yaml``), with the verdict of the records."""

from __future__ import annotations

from functools import cache
from typing import Literal

import pandas as pd
import yaml
from pandas.io.formats.style import Styler

from dfmsd import paths, stats
from dfmsd.errors import StudyError, suggest
from dfmsd.pages import PageSpec, name_of
from dfmsd.results import Line, lines
from dfmsd.spec import Frozen
from dfmsd.tables import signed, styled

Verdict = Literal["holds", "fails", "undecided", "not run"]


class Claim(Frozen):
    """One row of a page against another."""

    id: str
    paper: Literal["dfmsd", "structural"]
    section: str
    text: str
    page: str
    subject: str
    """The name of the row that is claimed to be better."""
    rival: str
    student: str | None = None
    teachers: tuple[str, ...] | None = None
    metric: Literal["AP", "speed"] = "AP"
    least: float = 0.0
    """The difference in AP, or the ratio of speeds, from which on the claim holds."""


@cache
def claims() -> tuple[Claim, ...]:
    """All claims, in the order of the file."""
    return tuple(Claim.model_validate(row) for row in yaml.safe_load((paths.PARAMS / "claims.yaml").read_text())["claims"])


def judge(claim: Claim, page: PageSpec) -> tuple[Verdict, str]:
    """The verdict of a page's records, and the numbers behind it.

    A claim about several pairs holds if it holds for each of them, and fails if it fails for one. With fewer than three seeds a
    difference in AP is undecided, whatever it is; speeds are not a matter of seeds.

    Raises:
        StudyError: if the page has no such rows.
    """
    pairs: dict[str, dict[str, Line]] = {}
    for line in lines(page):
        if claim.student in (None, line.row.student) and claim.teachers in (None, line.row.teachers):
            pairs.setdefault(line.pair, {})[name_of(line.row)] = line
    chosen = [(rows[claim.subject], rows[claim.rival]) for rows in pairs.values() if claim.subject in rows and claim.rival in rows]
    if not chosen:
        names = list(dict.fromkeys(name_of(row) for row in page.rows()))
        wrong = next((name for name in (claim.subject, claim.rival) if name not in names), claim.rival)
        raise StudyError(f"claim {claim.id}: page {page.page} has no such rows: {suggest(wrong, names)}")
    found = [_speed(claim, *pair) if claim.metric == "speed" else _gain(claim, *pair) for pair in chosen]
    numbers = ", ".join(number for _, number in found if number)
    states = [state for state, _ in found]
    for state in ("fails", "undecided", "not run"):
        if state in states:
            return state, numbers
    return "holds", numbers


def _gain(claim: Claim, subject: Line, rival: Line) -> tuple[Verdict, str]:
    found = stats.difference(subject.values("AP"), rival.values("AP"))
    if found is None:
        return "not run", ""
    number = f"{signed(found.mean)} AP"
    if found.interval is None:
        return "undecided", f"{number} ({len(found.values)} seed{'s' * (len(found.values) != 1)})"
    low, high = found.interval
    # At least 0 means more than 0; at least 3.5 is what was measured, and an interval around it does not refute it.
    holds, fails = (low > 0, high <= 0) if claim.least == 0 else (found.mean >= claim.least, high < claim.least)
    return ("holds" if holds else "fails" if fails else "undecided"), f"{number} [{low:.1f}, {high:.1f}]".replace("-", "−")


def _speed(claim: Claim, subject: Line, rival: Line) -> tuple[Verdict, str]:
    speeds = [
        [record.provenance.images_per_second for record in line.records.values() if record.provenance.images_per_second > 0]
        for line in (subject, rival)
    ]
    if not all(speeds):
        return "not run", ""
    ratio = max(speeds[0]) / max(speeds[1])
    return ("holds" if ratio >= claim.least else "fails"), f"{ratio:.2f} of the speed"


def table(page: PageSpec) -> Styler:
    """The claims that a page can settle."""
    rows = []
    for claim in claims():
        if claim.page == page.page:
            verdict, numbers = judge(claim, page)
            rows.append({"claim": claim.text, page.scale: verdict, "numbers": numbers})
    return styled(pd.DataFrame(rows), "claims").hide(axis="index")
