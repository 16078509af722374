"""What the papers claim and a number can settle (``params/claims.yaml``): what records and the papers' own numbers say of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

import pandas as pd
import yaml
from IPython.display import Markdown
from pandas.io.formats.style import Styler
from pydantic import Field, ValidationError, field_validator

from dfmsd.errors import StudyError, suggest
from dfmsd.report.tables import NONE, below, signed, stale_mark, styled
from dfmsd.study import findings, pages, paths, stats
from dfmsd.study.findings import Finding
from dfmsd.study.frame import Line, between, lines
from dfmsd.study.pages import ObservedPage, Page, PageSpec, name_of
from dfmsd.study.spec import Frozen
from dfmsd.study.stats import Estimate

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


class Statement(Frozen):
    """What every claim has."""

    id: str
    paper: Literal["dfmsd", "structural"] = "dfmsd"
    section: str
    text: str
    page: str
    ours: bool = False
    """Whether it is a comparison that the papers lack."""
    least: float = 0.0
    """The difference, or the ratio of speeds, from which on the claim holds; a difference of 0 is none."""

    def reaches(self, value: float) -> bool:
        """Whether a number is what the claim says: at least 0 means more than 0."""
        return value > 0 if self.least == 0 else value >= self.least


class FigureClaim(Statement):
    """Something that a figure shows, and its page measures (:mod:`dfmsd.study.findings`)."""

    unit: str
    """What its numbers are."""
    most: float | None = None
    """For a claim that nothing changes: the number up to which it holds, instead of ``least``."""

    def reaches(self, value: float) -> bool:
        """Whether a number is what the claim says."""
        return super().reaches(value) if self.most is None else value <= self.most


class Claim(Statement):
    """A row that is said to be better than others."""

    subject: Side
    rivals: tuple[Side, ...] | Literal["others"] = Field(min_length=1)
    """``others``: every other row of the subject's pair and recipe."""
    metric: Literal["AP", "AP_S", "AP_M", "AP_L", "AR", "speed"] = "AP"
    over: str | None = None
    """The row of each side's own pair that both are measured from; None: from 0."""

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
    stale: bool = False
    """Whether the code behind one of the numbers has changed since."""

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
def claims() -> tuple[Claim | FigureClaim, ...]:
    """All claims, in the order of the file: one with a subject is about rows, any other about a figure.

    Raises:
        StudyError: for one that is not well formed.
    """
    found: list[Claim | FigureClaim] = []
    for block in yaml.safe_load((paths.PARAMS / "claims.yaml").read_text())["sections"]:
        shared = {name: value for name, value in block.items() if name != "claims"}
        for own in block["claims"]:
            given = shared | own
            try:
                found.append(Claim.model_validate(given) if "subject" in given else FigureClaim.model_validate(given))
            except ValidationError as error:
                first = error.errors()[0]
                place = ".".join(map(str, first["loc"]))
                raise StudyError(f"claims.yaml: claim {own.get('id')}: {place}: {first['msg']}") from None
    return tuple(found)


def of_figure(name: str) -> FigureClaim:
    """A claim about a figure by its id.

    Raises:
        StudyError: if there is none; the nearest is suggested.
    """
    known = {claim.id: claim for claim in claims() if isinstance(claim, FigureClaim)}
    if name not in known:
        raise StudyError(f"claims.yaml has no claim {name!r} about a figure: {suggest(name, known)}")
    return known[name]


def load(found: Iterable[Statement], scale: str, own: PageSpec | None = None) -> dict[str, list[Line]]:
    """The rows of every page that some claims name, and the students between their stages.

    Args:
        found: The claims; those about figures have no rows.
        scale: Of the pages.
        own: A page to take as it is.

    Raises:
        StudyError: if a claim names a page that does not exist or has no rows.
    """
    rows: dict[str, list[Line]] = {}
    for claim in found:
        if not isinstance(claim, Claim):
            continue
        for name in claim.pages():
            if name not in rows:
                known = lines(own if own is not None and name == own.page else _page(claim, name, scale))
                rows[name] = known + between(known)
    return rows


def _known(claim: Statement, name: str, scale: str) -> Page:
    try:
        return pages.get(name, scale=scale)
    except StudyError as error:
        raise StudyError(f"claim {claim.id}: {error}") from None


def _page(claim: Claim, name: str, scale: str) -> PageSpec:
    page = _known(claim, name, scale)
    if not isinstance(page, PageSpec):
        raise StudyError(f"claim {claim.id}: page {name} has no rows to compare")
    return page


@dataclass(frozen=True)
class _Value:
    """A row, measured from another of its pair."""

    line: Line
    base: Line | None

    @property
    def stale(self) -> bool:
        return self.line.stale or (self.base is not None and self.base.stale)

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
    others = [line.row for line in pair if line.row.recipe == subject.row.recipe and line is not subject]
    return tuple(Side(name=name_of(row)) for row in others)


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
    difference is undecided, whatever it is. So it is where the interval reaches over the claim's margin, be it 0 or ``least``: it
    may lie on either side. No repetition could confirm a size that a paper gives, such as "+3.5 AP", against that very size as
    margin: half of all repetitions lie below it, and the intervals of most around it. For such a claim ``least`` is the size less
    what still counts as the same. Rows that cannot be run decide nothing.

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
    numbers = _numbers(run, claim.metric) + (f"; {len(differences) - len(run)} not run" if len(run) < len(differences) else "")
    stale = any(a.stale or b.stale for (a, b), found in zip(compared, differences, strict=True) if found is not None)
    return _judged(claim, run, numbers, complete=len(run) == len(differences), stale=stale)


def look(claim: FigureClaim, scale: str) -> Judgement:
    """The verdict of what a figure's page has measured, and the numbers behind it.

    The intervals are over images. They decide what happens to an image, or what one network sees in its versions. Where trainings
    are compared, of which there is one each, they decide nothing: the claim is undecided as with one seed.

    Args:
        claim: The claim.
        scale: Of the page.

    Raises:
        StudyError: if the page is not there, or measures nothing of the kind.
    """
    page = _known(claim, claim.page, scale)
    if not isinstance(page, ObservedPage):
        raise StudyError(f"claim {claim.id}: page {page.page} measures nothing by itself; a claim about its rows has a subject")
    found = findings.find(page, claim.id)
    return Judgement("not run") if found is None else settle(claim, found)


def settle(claim: FigureClaim, found: Finding) -> Judgement:
    """The verdict of what was measured for a claim: it holds if it does so on each level."""
    if not found.numbers:
        return Judgement("not run")
    parts = [f"{of} {_interval(one, _digits)}".strip() for of, one in found.numbers.items()]
    run = [one if found.tested else replace(one, interval=None) for one in found.numbers.values()]
    return _judged(claim, run, f"{', '.join(parts)} {claim.unit} ({found.about})", complete=True, stale=found.stale)


def _judged(claim: Statement, run: Sequence[Estimate], numbers: str, *, complete: bool, stale: bool) -> Judgement:
    verdicts = {_verdict(claim, found) for found in run} | (set() if complete else {"undecided"})
    verdict: Verdict = "fails" if "fails" in verdicts else "undecided" if "undecided" in verdicts else "holds"
    if verdict != "undecided":
        return Judgement(verdict, numbers, stale=stale)
    return Judgement(verdict, numbers, "holds" if all(claim.reaches(found.mean) for found in run) else "fails", stale)


def _verdict(claim: Statement, found: Estimate) -> Verdict:
    sides = {claim.reaches(end) for end in found.interval} if found.interval else {True, False}
    return "undecided" if len(sides) == 2 else "holds" if True in sides else "fails"


def _numbers(run: Sequence[Estimate], metric: str) -> str:
    parts = [_interval(found, signed) for found in run]
    seeds = min(len(found.values) for found in run)
    note = f" ({seeds} seed{'s' * (seeds != 1)})" if seeds < stats.MIN_SEEDS else ""
    return f"{', '.join(parts)} {metric}{note}"


def _interval(found: Estimate, show: Callable[[float], str]) -> str:
    return show(found.mean) + (f" [{show(found.interval[0])}, {show(found.interval[1])}]" if found.interval else "")


def _digits(value: float) -> str:
    return f"{value:+.2g}".replace("-", "−")


def _speed(claim: Claim, compared: Sequence[tuple[Line, Line]]) -> Judgement:
    """Where speeds on the same hardware point. No record tells what else the machine did meanwhile, so they decide nothing."""
    ratios = []
    for pair in compared:
        ours, theirs = (_speeds(line) for line in pair)
        ratios += [ours[machine] / theirs[machine] for machine in sorted(ours.keys() & theirs.keys())[:1]]
    if len(ratios) < len(compared):
        return Judgement("not run")
    numbers = ", ".join(f"{ratio:.2f}" for ratio in ratios) + " of the speed, measured beside other processes"
    stale = any(line.stale for pair in compared for line in pair)
    return Judgement("undecided", numbers, "holds" if min(ratios) >= claim.least else "fails", stale)


def _speeds(line: Line) -> dict[tuple[str, int], float]:
    """The highest speed of a row, by hardware and threads."""
    found: dict[tuple[str, int], float] = {}
    for provenance in (record.provenance for record in line.records.values()):
        if provenance.images_per_second > 0:
            machine = provenance.hardware, provenance.threads
            found[machine] = max(found.get(machine, 0.0), provenance.images_per_second)
    return found


def quote(claim: Claim | FigureClaim, rows: Rows) -> Quote:
    """The paper's own numbers for a claim: it contradicts itself if one of them does.

    For what its figures show it gives none, nor for comparisons that it lacks.

    Args:
        claim: The claim.
        rows: Of its pages, see :func:`load`.
    """
    if claim.ours:
        return Quote("ours", None)
    if isinstance(claim, FigureClaim):
        return Quote(NONE, None)
    found: list[float | None] = []
    for subject, rival in _compared(claim, rows):
        ours, theirs = subject.quoted(claim.metric), rival.quoted(claim.metric)
        found.append(None if ours is None or theirs is None else round(ours - theirs, 1) + 0.0)  # no negative zero
    given = [value for value in found if value is not None]
    if not given:
        return Quote(NONE, None)
    return Quote(", ".join(signed(value) for value in found), all(claim.reaches(value) for value in given))


def table(page: PageSpec) -> Styler | Markdown:
    """The claims that a page's rows settle by themselves."""
    own = [claim for claim in claims() if isinstance(claim, Claim) and claim.pages() == [page.page]]
    if not own:
        return Markdown("No claim is about these rows alone.")
    rows = load(own, page.scale, page)
    found = []
    for claim in own:
        judgement = judge(claim, rows)
        verdict = judgement.words + stale_mark(stale=judgement.stale)
        shown = {"claim": claim.text, "paper": quote(claim, rows).cell, page.scale: verdict, "numbers": judgement.numbers}
        found.append(shown)
    caption = "Ours: a comparison that the papers lack." if any(claim.ours for claim in own) else ""
    return styled(pd.DataFrame(found), "claims", caption).hide(axis="index")
