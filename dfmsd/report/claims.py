"""What the papers claim and a number can settle (``params/claims.yaml``): what records and the papers' own numbers say of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import pandas as pd
import yaml
from IPython.display import Markdown
from pandas.io.formats.style import Styler
from pydantic import Field, ValidationError, field_validator

from dfmsd import pages, paths
from dfmsd.errors import StudyError, suggest
from dfmsd.pages import PageSpec, name_of
from dfmsd.report import stats
from dfmsd.report.results import Line, between, lines
from dfmsd.report.stats import Estimate
from dfmsd.report.tables import NONE, below, signed, styled
from dfmsd.spec import Frozen

Verdict = Literal["holds", "fails", "undecided", "not run"]
VERDICTS: tuple[Verdict, ...] = ("holds", "undecided", "fails", "not run")

Rows = Mapping[str, Sequence[Line]]
"""The rows of pages, by page."""


class Side(Frozen):
    """A row of a page. What a subject leaves out may be anything; what a rival leaves out is as the subject has it."""

    name: str
    page: str | None = None
    """None: the claim's."""
    student: str | None = None
    teachers: tuple[str, ...] | None = None


class Claim(Frozen):
    """A row that is said to be better than others."""

    id: str
    paper: Literal["dfmsd", "structural"] = "dfmsd"
    section: str
    text: str
    page: str
    subject: Side
    rivals: tuple[Side, ...] | Literal["others"] = Field(min_length=1)
    """``others``: every other row of the subject's pair."""
    metric: Literal["AP", "AP_S", "AP_M", "AP_L", "AR", "speed"] = "AP"
    over: str | None = None
    """The row of each side's own pair that both are measured from; None: from 0."""
    least: float = 0.0
    """The difference, or the ratio of speeds, from which on the claim holds; a difference of 0 is none."""

    @field_validator("subject", mode="before")
    @classmethod
    def _subject(cls, given: Any) -> Any:
        return {"name": given} if isinstance(given, str) else given

    @field_validator("rivals", mode="before")
    @classmethod
    def _rivals(cls, given: Any) -> Any:
        return [{"name": one} if isinstance(one, str) else one for one in given] if isinstance(given, list) else given

    def pages(self) -> list[str]:
        """The pages that its rows are on, its own first."""
        rivals = () if self.rivals == "others" else self.rivals
        return list(dict.fromkeys([self.page, *(side.page or self.page for side in (self.subject, *rivals))]))


@dataclass(frozen=True)
class Judgement:
    """What records say of a claim."""

    verdict: Verdict
    numbers: str = ""
    points_to: Literal["holds", "fails"] | None = None
    """Where the numbers of an undecided claim lie: no test."""

    @property
    def words(self) -> str:
        """The verdict, and where it points.

        Example:
            >>> Judgement("undecided", "+1.0 AP (1 seed)", "holds").words
            'undecided, points to holds'
        """
        return self.verdict + (f", points to {self.points_to}" if self.points_to else "")


@dataclass(frozen=True)
class Quote:
    """What the paper's own numbers say of its claim."""

    numbers: str
    supports: bool | None
    """None where it gives none."""

    @property
    def cell(self) -> str:
        """For a table: the numbers, marked where they contradict the claim."""
        return self.numbers + below("contradicts" if self.supports is False else "", flag=True)


@cache
def claims() -> tuple[Claim, ...]:
    """All claims, in the order of the file.

    Raises:
        StudyError: for one that is not well formed.
    """
    found = []
    for block in yaml.safe_load((paths.PARAMS / "claims.yaml").read_text())["sections"]:
        shared = {name: value for name, value in block.items() if name != "claims"}
        for own in block["claims"]:
            try:
                found.append(Claim.model_validate(shared | own))
            except ValidationError as error:
                first = error.errors()[0]
                place = ".".join(map(str, first["loc"]))
                raise StudyError(f"claims.yaml: claim {own.get('id')}: {place}: {first['msg']}") from None
    return tuple(found)


def load(found: Iterable[Claim], scale: str, own: PageSpec | None = None) -> dict[str, list[Line]]:
    """The rows of every page that some claims name, and the students between their stages.

    Args:
        found: The claims.
        scale: Of the pages.
        own: A page to take as it is.

    Raises:
        StudyError: if a claim names a page that does not exist or has no rows.
    """
    rows: dict[str, list[Line]] = {}
    for claim in found:
        for name in claim.pages():
            if name not in rows:
                known = lines(own if own is not None and name == own.page else _page(claim, name, scale))
                rows[name] = known + between(known)
    return rows


def _page(claim: Claim, name: str, scale: str) -> PageSpec:
    try:
        page = pages.get(name, scale=scale)
    except StudyError as error:
        raise StudyError(f"claim {claim.id}: {error}") from None
    if not isinstance(page, PageSpec):
        raise StudyError(f"claim {claim.id}: page {name} has no rows to compare")
    return page


@dataclass(frozen=True)
class _Value:
    """A row, measured from another of its pair."""

    line: Line
    base: Line | None

    def by_seed(self, metric: str) -> dict[int, float]:
        values = self.line.values(metric)
        if self.base is None:
            return values
        base = self.base.values(metric)
        return {seed: values[seed] - base[seed] for seed in values.keys() & base.keys()}

    def quoted(self, metric: str) -> float | None:
        own = _quoted(self.line, metric)
        if self.base is None:
            return own
        base = _quoted(self.base, metric)
        return None if own is None or base is None else own - base


def _quoted(line: Line, metric: str) -> float | None:
    return line.published.metrics.get(metric) if line.published is not None else None


def _compared(claim: Claim, rows: Rows) -> list[tuple[_Value, _Value]]:
    """The subject's rows, each with each of its rivals.

    A rival that a pair does not have is left out, if another pair has it.
    """
    found = []
    met: set[Side] = set()
    subjects = _matching(claim, claim.subject, rows)
    if not subjects:
        raise _missing(claim, claim.subject, rows)
    for subject in subjects:
        for rival in _rivals(claim, subject.line, rows):
            pair = {"student": rival.student or subject.line.row.student, "teachers": rival.teachers or subject.line.row.teachers}
            others = _matching(claim, rival.model_copy(update=pair), rows)
            found += [(subject, other) for other in others]
            met |= {rival} if others else set()
    for rival in () if claim.rivals == "others" else claim.rivals:
        if rival not in met:
            raise _missing(claim, rival, rows)
    if not found:
        raise StudyError(f"claim {claim.id}: {claim.subject.name!r} has no rivals on page {claim.page}")
    return found


def _rivals(claim: Claim, subject: Line, rows: Rows) -> tuple[Side, ...]:
    if claim.rivals != "others":
        return claim.rivals
    pair = [line for line in rows[claim.page] if line.pair == subject.pair and line.stage is None]
    return tuple(Side(name=name_of(line.row)) for line in pair if line is not subject)


def _matching(claim: Claim, side: Side, rows: Rows) -> list[_Value]:
    known = rows[side.page or claim.page]
    found = []
    for line in known:
        row = line.row
        if name_of(row) == side.name and side.student in (None, row.student) and side.teachers in (None, row.teachers):
            base = next((b for b in known if name_of(b.row) == claim.over and b.pair == line.pair), None)
            if claim.over is not None and base is None:
                raise _missing(claim, side.model_copy(update={"name": claim.over}), rows)
            found.append(_Value(line, base))
    return found


def _missing(claim: Claim, side: Side, rows: Rows) -> StudyError:
    page = side.page or claim.page
    names = list(dict.fromkeys(name_of(line.row) for line in rows[page]))
    if side.name not in names:
        return StudyError(f"claim {claim.id}: page {page} has no row {side.name!r}: {suggest(side.name, names)}")
    pairs = "; ".join(line.pair for line in rows[page] if name_of(line.row) == side.name)
    return StudyError(f"claim {claim.id}: page {page} has {side.name!r} for other students or teachers alone: {pairs}")


def judge(claim: Claim, rows: Rows) -> Judgement:
    """The verdict of the records, and the numbers behind it.

    A claim about several rows holds if it holds for each of them, and fails if it fails for one. With fewer than three seeds a
    difference is undecided, whatever it is; speeds are not a matter of seeds. Rows that cannot be run decide nothing.

    Args:
        claim: The claim.
        rows: Of its pages, see :func:`load`.

    Raises:
        StudyError: if its pages have no such rows.
    """
    compared = [pair for pair in _compared(claim, rows) if all(side.line.entries for side in pair)]
    if claim.metric == "speed":
        return _speed(claim, [(subject.line, rival.line) for subject, rival in compared])
    differences = [stats.difference(a.by_seed(claim.metric), b.by_seed(claim.metric)) for a, b in compared]
    run = [found for found in differences if found is not None]
    if not run:
        return Judgement("not run")
    verdicts = {_verdict(claim, found) for found in run} | ({"undecided"} if len(run) < len(differences) else set())
    verdict: Verdict = "fails" if "fails" in verdicts else "undecided" if "undecided" in verdicts else "holds"
    numbers = _numbers(run, claim.metric) + (f"; {len(differences) - len(run)} not run" if len(run) < len(differences) else "")
    if verdict != "undecided":
        return Judgement(verdict, numbers)
    return Judgement(verdict, numbers, "holds" if all(_reaches(claim, found.mean) for found in run) else "fails")


def _reaches(claim: Claim, value: float) -> bool:
    """Whether a difference is what the claim says: at least 0 means more than 0."""
    return value > 0 if claim.least == 0 else value >= claim.least


def _verdict(claim: Claim, found: Estimate) -> Verdict:
    if found.interval is None:
        return "undecided"
    low, high = found.interval
    # At least 3.5 is what was measured, and an interval around it does not refute it.
    holds, fails = (low > 0, high <= 0) if claim.least == 0 else (found.mean >= claim.least, high < claim.least)
    return "holds" if holds else "fails" if fails else "undecided"


def _numbers(run: Sequence[Estimate], metric: str) -> str:
    parts = [signed(e.mean) + (f" [{signed(e.interval[0])}, {signed(e.interval[1])}]" if e.interval else "") for e in run]
    seeds = min(len(found.values) for found in run)
    note = f" ({seeds} seed{'s' * (seeds != 1)})" if seeds < stats.MIN_SEEDS else ""
    return f"{', '.join(parts)} {metric}{note}"


def _speed(claim: Claim, compared: Sequence[tuple[Line, Line]]) -> Judgement:
    ratios = []
    for pair in compared:
        speeds = [[s for r in line.records.values() if (s := r.provenance.images_per_second) > 0] for line in pair]
        if all(speeds):
            ratios.append(max(speeds[0]) / max(speeds[1]))
    if len(ratios) < len(compared):
        return Judgement("not run")
    numbers = ", ".join(f"{ratio:.2f}" for ratio in ratios) + " of the speed"
    return Judgement("holds" if min(ratios) >= claim.least else "fails", numbers)


def quote(claim: Claim, rows: Rows) -> Quote:
    """The paper's own numbers for a claim: it contradicts itself if one of them does.

    Args:
        claim: The claim.
        rows: Of its pages, see :func:`load`.
    """
    found: list[float | None] = []
    for subject, rival in _compared(claim, rows):
        ours, theirs = subject.quoted(claim.metric), rival.quoted(claim.metric)
        found.append(None if ours is None or theirs is None else round(ours - theirs, 1) + 0.0)  # no negative zero
    given = [value for value in found if value is not None]
    if not given:
        return Quote(NONE, None)
    return Quote(", ".join(signed(value) for value in found), all(_reaches(claim, value) for value in given))


def table(page: PageSpec) -> Styler | Markdown:
    """The claims that a page's rows settle by themselves."""
    own = [claim for claim in claims() if claim.pages() == [page.page]]
    if not own:
        return Markdown("No claim is about these rows alone.")
    rows = load(own, page.scale, page)
    found = []
    for claim in own:
        judgement = judge(claim, rows)
        shown = {"claim": claim.text, "paper": quote(claim, rows).cell, page.scale: judgement.words, "numbers": judgement.numbers}
        found.append(shown)
    return styled(pd.DataFrame(found), "claims").hide(axis="index")
