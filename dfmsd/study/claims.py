"""What the papers claim and a number can settle (``params/claims.yaml``): a claim is a paired difference in the frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from statistics import fmean
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import yaml
from pydantic import BeforeValidator

from dfmsd.errors import StudyError, suggest, validated
from dfmsd.study import paths, stats
from dfmsd.study.spec import Frozen
from dfmsd.study.stats import Estimate

Verdict = Literal["holds", "fails", "undecided", "not run"]

PAIR = ("student", "teachers")
"""What a rival has in common with its subject, unless the claim says otherwise."""

EVERY = ("role", *PAIR, "level", "seed", "image", "hardware")
"""Columns that are asked for, whatever the pages of a frame have."""


def _side(given: object) -> object:
    """A word alone is a row's name; teachers stand in the frame as one text."""
    if isinstance(given, str):
        return {"row": given}
    if isinstance(given, dict) and isinstance(given.get("teachers"), list):
        return given | {"teachers": " → ".join(given["teachers"])}
    return given


Side = Annotated[dict[str, str | float], BeforeValidator(_side)]
"""Lines of the frame: the value of each column that tells them from others. What a subject leaves out may be anything."""


class Claim(Frozen):
    """Something that is said to be larger than others: the subject's lines of the frame than each rival's.

    The two sides are paired by seed or, in what was measured, by image; each student with its teachers, and each level, is compared
    for itself. Several lines of one image count as their mean.
    """

    id: str
    paper: Literal["dfmsd", "structural"] = "dfmsd"
    section: str
    text: str
    page: str
    ours: bool = False
    """Whether it is a comparison that the papers lack."""
    subject: Side
    rivals: tuple[Side, ...] | Literal["others"]
    """``others``: every other row of the subject's pair and recipe. None: the subject's own numbers are judged."""
    metric: str = "AP"
    """Of both sides, unless they name one; ``speed`` is a ratio."""
    over: str | None = None
    """The row of each side's own pair that both are measured from; None: from 0."""
    least: float = 0.0
    """The difference, or the ratio of speeds, from which on the claim holds; a difference of 0 is none."""
    most: float | None = None
    """For a claim that nothing changes: the number up to which it holds, instead of ``least``."""
    unit: str = ""
    """What its numbers are, where they are not AP or AR."""
    tested: bool = True
    """Whether the interval decides: over images it tells nothing of other trainings, where trainings are compared."""

    def reaches(self, value: float) -> bool:
        """Whether a number is what the claim says: at least 0 means more than 0."""
        if self.most is not None:
            return value <= self.most
        return value > 0 if self.least == 0 else value >= self.least

    def pages(self) -> set[str]:
        """The pages that its lines are on."""
        rivals = () if self.rivals == "others" else self.rivals
        return {str(side.get("page", self.page)) for side in (self.subject, *rivals)}


@cache
def claims() -> tuple[Claim, ...]:
    """All claims, in the order of the file.

    Raises:
        StudyError: for one that is not well formed.
    """
    found: list[Claim] = []
    for block in yaml.safe_load((paths.PARAMS / "claims.yaml").read_text())["sections"]:
        shared = {name: value for name, value in block.items() if name != "claims"}
        for own in block["claims"]:
            found.append(validated(Claim, f"claims.yaml: claim {own.get('id')}", shared | own, part="field"))
    return tuple(found)


@dataclass(frozen=True)
class Judgement:
    """What the frame says of a claim."""

    verdict: Verdict
    points_to: Literal["holds", "fails", ""] = ""
    """Where the numbers of an undecided claim lie: no test."""
    numbers: str = ""
    stale: bool = False
    """Whether the code behind one of the numbers has changed since."""
    paper_numbers: str = ""
    paper_supports: bool | None = None
    """What the paper's own numbers say of its claim; None where it gives none."""


def judged(frame: pd.DataFrame, among: Sequence[Claim] | None = None) -> pd.DataFrame:
    """The verdict on each claim that the frame's pages settle, a line each, for each scale of the frame.

    Columns: ``scale, id, section, text, page, paper, ours``; ``verdict`` (holds, fails, undecided, not run) and ``points_to``
    (where the numbers of an undecided claim lie); ``numbers`` in words; ``stale``; ``paper_numbers`` and ``paper_supports``.

    A claim about several rows, rivals or levels holds if it holds for each of them, and fails if it fails for one. With fewer than
    three seeds a difference is undecided, whatever it is. So it is where the interval reaches over the claim's margin, be it 0 or
    ``least``: it may lie on either side. Rows that cannot be run decide nothing. Speeds decide nothing either, because no record
    tells what else the machine did meanwhile.

    Args:
        frame: Of a page, or of several: :func:`dfmsd.study.frames.frame`.
        among: The claims; None: all.

    Raises:
        StudyError: if a claim names a row or a metric that its page does not have.
    """
    lines = []
    for scale, own in frame.groupby("scale", sort=False):
        # Plain Python values, which are quick to compare: there are some thousand comparisons.
        whole = own.reindex(columns=own.columns.union(list(EVERY), sort=False))
        plain = whole.astype(object).where(whole.notna(), None)
        pages = {str(name): lines for name, lines in plain.groupby("page", sort=False)}
        for claim in claims() if among is None else among:
            if claim.pages() <= pages.keys():
                about = claim.model_dump(include={"id", "section", "text", "page", "paper", "ours"})
                lines.append({"scale": scale} | about | vars(_judged(claim, pages)))
    columns = ["scale", "id", "section", "text", "page", "paper", "ours", *Judgement.__dataclass_fields__]
    return pd.DataFrame(lines, columns=columns)


@dataclass(frozen=True)
class _Numbers:
    """The numbers of one side: lines of one pair or level, measured from others. A run may lack a metric: it has no lines then."""

    of: Mapping[str, Any]
    """What the lines are of: any line of the same row."""
    lines: pd.DataFrame
    base: pd.DataFrame | None

    @property
    def cannot_be_run(self) -> bool:
        return bool((self.lines["state"] == "cannot be run").any())

    @property
    def stale(self) -> bool:
        return bool(self.lines["stale"].any()) or (self.base is not None and bool(self.base["stale"].any()))

    def ours(self) -> dict[int, float]:
        """By seed or image; a number over all of them is one of its own."""
        values = _by_unit(self.lines)
        if self.base is None:
            return values
        base = _by_unit(self.base)
        return {unit: values[unit] - base[unit] for unit in values.keys() & base.keys()}

    def papers(self) -> float | None:
        own = _quoted(self.lines)
        base = 0.0 if self.base is None else _quoted(self.base)
        return None if own is None or base is None else own - base


def _by_unit(lines: pd.DataFrame) -> dict[int, float]:
    ours = lines[lines["source"] == "ours"]
    unit = next((name for name in ("seed", "image") if ours[name].notna().any()), None)
    if unit is None:
        return {-1: float(ours["value"].iloc[0])} if ours["value"].notna().any() else {}
    found: dict[int, list[float]] = {}
    for one, value in zip(ours[unit], ours["value"], strict=True):
        found.setdefault(int(one), []).append(np.nan if value is None else value)
    means = {one: fmean(values) for one, values in found.items()}
    return {one: mean for one, mean in means.items() if not np.isnan(mean)}


def _quoted(lines: pd.DataFrame) -> float | None:
    values = lines.loc[lines["source"] == "paper", "value"].dropna()
    return None if values.empty else float(values.iloc[0])


def _judged(claim: Claim, pages: Mapping[str, pd.DataFrame]) -> Judgement:
    compared = list(_compared(claim, pages))
    if not compared:
        return Judgement("not run")
    numbers, supports = _papers(claim, compared)
    run = [(subject, rival) for subject, rival in compared if not any(side.cannot_be_run for side in (subject, rival) if side)]
    found = _speeds(claim, run) if claim.metric == "speed" else _differences(claim, run)
    return replace(found, paper_numbers=numbers, paper_supports=supports)


def _compared(claim: Claim, pages: Mapping[str, pd.DataFrame]) -> Iterator[tuple[_Numbers, _Numbers | None]]:
    """The subject's lines of each pair and level, with those of each rival.

    A rival that a pair does not have is left out, if another pair has it.
    """
    met: set[int] = set()
    unmet: list[Side] = []
    subjects = list(_groups(claim, claim.subject, pages))
    if not subjects and _is_measured(claim, claim.subject, pages):
        raise _missing(claim, claim.subject, pages)
    for group, subject in subjects:
        rivals = _others(claim, group, subject, pages) if claim.rivals == "others" else claim.rivals
        if not rivals:
            yield subject, None
        for place, rival in enumerate(rivals):
            for _, other in _groups(claim, group | rival, pages):
                met.add(place)
                yield subject, other
        unmet = [rival for place, rival in enumerate(rivals) if place not in met]
    for rival in unmet:
        raise _missing(claim, rival, pages)


def _is_measured(claim: Claim, side: Mapping[str, Any], pages: Mapping[str, pd.DataFrame]) -> bool:
    """Whether there is anything that a side's lines could be of: a page of figures may not be measured yet, or lack a metric."""
    metrics = pages[str(side.get("page", claim.page))]["metric"]
    return "metric" not in side or bool((metrics == side["metric"]).any())


def _groups(claim: Claim, side: Mapping[str, Any], pages: Mapping[str, pd.DataFrame]) -> Iterator[tuple[dict[str, Any], _Numbers]]:
    """The lines of a side, by pair and level."""
    page = pages[str(side.get("page", claim.page))]
    lines = _matching(page, {name: value for name, value in side.items() if name != "page"})
    if lines.empty:
        return
    by = [name for name in (*PAIR, "level") if lines[name].notna().any()]
    for key, own in lines.groupby(by, sort=False) if by else [((), lines)]:
        group = dict(zip(by, key, strict=True))
        base = None
        if claim.over is not None:
            base = _matching(page, group | {"row": claim.over})
            if base.empty:
                raise _missing(claim, {"row": claim.over}, pages)
            base = _of_metric(claim, base)
        row = {str(name): value for name, value in own.iloc[0].items()}
        yield group, _Numbers(row, own if "metric" in side else _of_metric(claim, own), base)


def _of_metric(claim: Claim, lines: pd.DataFrame) -> pd.DataFrame:
    """The lines of the claim's metric; a row that is not run stands for each of its metrics."""
    metric = "images_per_second" if claim.metric == "speed" else claim.metric
    return lines[(lines["metric"] == metric) | lines["state"].isin(["not run", "cannot be run"])]


def _matching(page: pd.DataFrame, wanted: Mapping[str, Any]) -> pd.DataFrame:
    """The lines with these values."""
    fits = page["role"] != "teacher"
    for name, value in wanted.items():
        if name not in page:
            return page.iloc[:0]
        fits &= page[name] == value
    return page[fits]


def _others(claim: Claim, group: dict[str, Any], subject: _Numbers, pages: Mapping[str, pd.DataFrame]) -> tuple[Side, ...]:
    """Every other row of the subject's pair and recipe."""
    rows = _matching(pages[claim.page], group | {"recipe": subject.of["recipe"], "role": "row"})["row"]
    found: tuple[Side, ...] = tuple({"row": row} for row in dict.fromkeys(rows) if row != subject.of["row"])
    if not found:
        raise StudyError(f"claim {claim.id}: {subject.of['row']!r} has no rivals on page {claim.page}")
    return found


def _missing(claim: Claim, side: Mapping[str, Any], pages: Mapping[str, pd.DataFrame]) -> StudyError:
    name = str(side.get("page", claim.page))
    page = pages[name]
    for column in (column for column in side if column != "page"):
        if column not in page:
            return StudyError(f"claim {claim.id}: page {name} has no {column!r}: {suggest(column, map(str, page.columns))}")
        known, value = list(dict.fromkeys(map(str, page[column].dropna()))), str(side[column])
        if value not in known:
            return StudyError(f"claim {claim.id}: page {name} has no {column} {value!r}: {suggest(value, known)}")
    if "pair" in page:
        pairs = "; ".join(page.loc[page["row"] == side.get("row"), "pair"].drop_duplicates())
        return StudyError(f"claim {claim.id}: page {name} has {side.get('row')!r} for other students or teachers alone: {pairs}")
    return StudyError(f"claim {claim.id}: page {name} has no line with {dict(side)}")


def _differences(claim: Claim, compared: Sequence[tuple[_Numbers, _Numbers | None]]) -> Judgement:
    found = [_difference(subject, rival) for subject, rival in compared]
    run = [one for one in found if one is not None]
    if not run:
        return Judgement("not run")
    show = _digits if claim.unit else signed
    parts = []
    for (subject, _), one in zip(compared, found, strict=True):
        if one is not None:
            level = subject.of["level"]
            parts.append((f"stride {level} " if level is not None else "") + _interval(one, show))
    numbers = f"{', '.join(parts)} {claim.unit or claim.metric}"
    units = min(len(one.values) for one in run)
    if any(subject.lines["seed"].notna().any() for subject, _ in compared):
        if units < stats.MIN_SEEDS:
            numbers += f" ({units} seed{'s' * (units != 1)})"
    elif units > 1:
        numbers += f" ({units} images)"
    if len(run) < len(found):
        numbers += f"; {len(found) - len(run)} not run"
    stale = any(side.stale for pair, one in zip(compared, found, strict=True) if one is not None for side in pair if side)
    tested = [one if claim.tested else replace(one, interval=None) for one in run]
    verdicts = {_verdict(claim, one) for one in tested} | ({"undecided"} if len(run) < len(found) else set())
    verdict: Verdict = "fails" if "fails" in verdicts else "undecided" if "undecided" in verdicts else "holds"
    if verdict != "undecided":
        return Judgement(verdict, "", numbers, stale)
    return Judgement(verdict, "holds" if all(claim.reaches(one.mean) for one in run) else "fails", numbers, stale)


def _difference(subject: _Numbers, rival: _Numbers | None) -> Estimate | None:
    values = subject.ours()
    if rival is not None:
        return stats.difference(values, rival.ours())
    return stats.estimate(values) if values else None


def _verdict(claim: Claim, found: Estimate) -> Verdict:
    sides = {claim.reaches(end) for end in found.interval} if found.interval else {True, False}
    return "undecided" if len(sides) == 2 else "holds" if True in sides else "fails"


def _interval(found: Estimate, show: Callable[[float], str]) -> str:
    return show(found.mean) + (f" [{show(found.interval[0])}, {show(found.interval[1])}]" if found.interval else "")


def signed(value: float) -> str:
    """A difference in percent with its sign.

    Example:
        >>> signed(1.26), signed(-0.04)
        ('+1.3', '−0.0')
    """
    return f"{value:+.1f}".replace("-", "−")


def _digits(value: float) -> str:
    return f"{value:+.2g}".replace("-", "−")


def _speeds(claim: Claim, compared: Sequence[tuple[_Numbers, _Numbers | None]]) -> Judgement:
    """Where speeds on the same hardware point."""
    ratios = []
    for subject, rival in compared:
        assert rival is not None
        ours, theirs = (side.lines.groupby("hardware")["value"].max() for side in (subject, rival))
        ratios += [float(ours[machine] / theirs[machine]) for machine in sorted(set(ours.index) & set(theirs.index))[:1]]
    if not compared or len(ratios) < len(compared):
        return Judgement("not run")
    numbers = ", ".join(f"{ratio:.2f}" for ratio in ratios) + " of the speed, measured beside other processes"
    stale = any(side.stale for pair in compared for side in pair if side)
    return Judgement("undecided", "holds" if min(ratios) >= claim.least else "fails", numbers, stale)


def _papers(claim: Claim, compared: Sequence[tuple[_Numbers, _Numbers | None]]) -> tuple[str, bool | None]:
    """The paper's own numbers for a claim: it contradicts itself if one of them does."""
    if claim.ours or claim.metric == "speed":
        return "", None
    found: list[float | None] = []
    for subject, rival in compared:
        ours, theirs = subject.papers(), rival.papers() if rival else None
        found.append(None if ours is None or theirs is None else round(ours - theirs, 1) + 0.0)  # no negative zero
    given = [value for value in found if value is not None]
    if not given:
        return "", None
    return ", ".join("–" if value is None else signed(value) for value in found), all(map(claim.reaches, given))
