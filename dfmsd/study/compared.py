"""The two sides of a claim's comparisons, as lines of a frame, and each comparison as a sum of runs' numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import pandas as pd

from dfmsd.errors import StudyError, suggest
from dfmsd.study import stats
from dfmsd.study.claims import Claim, Side
from dfmsd.study.stats import Spread

PAIR = ("student", "teachers")
"""What a rival has in common with its subject, unless the claim says otherwise."""

Cell = tuple[str, str]
"""A number of a run: the run's key, and the metric."""


@dataclass(frozen=True)
class Contrast:
    """A comparison as a sum of runs' numbers, each times a factor; or the differences of images."""

    least: float
    factors: Mapping[Cell, float]
    seeds: int
    images: Mapping[int, float]
    level: int | None
    stale: bool

    def estimate(
        self, values: Mapping[Cell, float], spreads: Mapping[Cell, Spread | None], signs: Mapping[int, int] | None = None
    ) -> tuple[float, Spread | None]:
        """The mean, and its own variance if it is known, from the numbers of the runs and the spread of each.

        ``signs`` turn the differences of images around, as if their mean were no more than is said.
        """
        if self.factors:
            mean = sum(factor * values[cell] for cell, factor in self.factors.items())
            return mean, stats.combined((factor**2, spreads[cell]) for cell, factor in self.factors.items())
        mean, images = fmean(self.images.values()), self.images
        if signs is not None:
            images = {image: self.least + signs[image] * (value - mean) for image, value in images.items()}
            mean = fmean(images.values())
        one = stats.pooled([images])
        return mean, one and one.times(1 / len(images))


@dataclass(frozen=True)
class Numbers:
    """The numbers of one side: lines of one pair or level, measured from others. A run may lack a metric: it has no lines then."""

    of: Mapping[str, Any]
    """What the lines are of: any line of the same row."""
    lines: pd.DataFrame
    base: pd.DataFrame | None

    @property
    def cannot_be_run(self) -> bool:
        """Whether no seed of it can be run."""
        return set(self.lines.loc[self.lines["source"] == "ours", "state"]) == {"cannot be run"}

    @property
    def stale(self) -> bool:
        """Whether the code behind one of its numbers has changed since."""
        return bool(self.lines["stale"].any()) or (self.base is not None and bool(self.base["stale"].any()))

    def parts(self) -> list[tuple[int, pd.DataFrame]]:
        """Its lines of ours, times 1, and those that they are measured from, times -1."""
        own = [(1, self.lines)] + ([] if self.base is None else [(-1, self.base)])
        return [(sign, lines[lines["source"] == "ours"]) for sign, lines in own]

    def papers(self) -> float | None:
        """The paper's number; None where it gives none."""
        own = _quoted(self.lines)
        base = 0.0 if self.base is None else _quoted(self.base)
        return None if own is None or base is None else own - base


def _quoted(lines: pd.DataFrame) -> float | None:
    values = lines.loc[lines["source"] == "paper", "value"].dropna()
    return None if values.empty else float(values.iloc[0])


def contrast(claim: Claim, subject: Numbers, rival: Numbers) -> Contrast | None:
    """A comparison over the seeds, or the images, that both sides have; None if there are none."""
    parts = subject.parts() + [(-sign, lines) for sign, lines in rival.parts()]
    level, stale = subject.of["level"], subject.stale or rival.stale
    by = next((name for name in ("seed", "image") if any(lines[name].notna().any() for _, lines in parts)), None)
    if by is None:  # a number over all images is one of its own
        parts, by = [(sign, lines.assign(image=-1)) for sign, lines in parts], "image"
    units = [set(lines[by].dropna()) - set(lines.loc[lines["value"].isna(), by]) for _, lines in parts]
    shared = sorted(set.intersection(*units))
    if not shared:
        return None
    if by == "image":
        means = [(sign, lines.astype({"value": float}).groupby(by)["value"].mean()) for sign, lines in parts]
        values = {int(unit): float(sum(sign * mean[unit] for sign, mean in means)) for unit in shared}
        return Contrast(claim.least, {}, 0, values, level, stale)
    factors: dict[Cell, float] = {}
    for sign, lines in parts:
        for _, own in lines[lines["seed"].isin(shared)].groupby("seed"):
            for cell in zip(own["key"], own["metric"], strict=True):
                factors[cell] = factors.get(cell, 0.0) + sign / len(own) / len(shared)
    return Contrast(claim.least, factors, len(shared), {}, level, stale)


def compared(claim: Claim, pages: Mapping[str, pd.DataFrame]) -> Iterator[tuple[Numbers, Numbers]]:
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
        for place, rival in enumerate(rivals):
            for _, other in _groups(claim, group | rival, pages):
                met.add(place)
                yield subject, other
        unmet = [rival for place, rival in enumerate(rivals) if place not in met]
    for rival in unmet:
        raise _missing(claim, rival, pages)


def _is_measured(claim: Claim, side: Mapping[str, Any], pages: Mapping[str, pd.DataFrame]) -> bool:
    """Whether a side's lines must be there: a page of figures may not be measured yet, or was when it measured something else."""
    page = pages[str(side.get("page", claim.page))]
    return "metric" not in side or bool(((page["metric"] == side["metric"]) & ~page["stale"].astype(bool)).any())


def _groups(claim: Claim, side: Mapping[str, Any], pages: Mapping[str, pd.DataFrame]) -> Iterator[tuple[dict[str, Any], Numbers]]:
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
        yield group, Numbers(row, own if "metric" in side else _of_metric(claim, own), base)


def _of_metric(claim: Claim, lines: pd.DataFrame) -> pd.DataFrame:
    """The lines of the claim's metric; a row that is not run stands for each of its metrics."""
    metric = "images_per_second" if claim.metric == "speed" else claim.metric
    return lines[(lines["metric"] == metric) | lines["state"].isin(["not run", "other training", "cannot be run"])]


def _matching(page: pd.DataFrame, wanted: Mapping[str, Any]) -> pd.DataFrame:
    """The lines with these values."""
    fits = page["role"] != "teacher"
    for name, value in wanted.items():
        if name not in page:
            return page.iloc[:0]
        fits &= page[name] == value
    return page[fits]


def _others(claim: Claim, group: dict[str, Any], subject: Numbers, pages: Mapping[str, pd.DataFrame]) -> tuple[Side, ...]:
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
