"""The verdict on each claim of the papers, judged beside all others of its scale."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.special import stdtr

from dfmsd.study import files, frames, pages, paths, scales, stats
from dfmsd.study.claims import Claim, claims
from dfmsd.study.compared import PAIR, Cell, Numbers, compared, contrast
from dfmsd.study.pages.base import Page
from dfmsd.study.spec import digest
from dfmsd.study.stats import Spread

Verdict = Literal["supported", "contradicted", "not settled", "not run"]

VERDICTS: tuple[Verdict, ...] = ("supported", "contradicted", "not settled", "not run")

FALSE = 0.1
"""The share of verdicts on claims that may be chance."""

EVERY = ("role", *PAIR, "recipe", "level", "seed", "image", "hardware")
"""Columns that are asked for, whatever the pages of a frame have."""


@dataclass(frozen=True)
class Judgement:
    """What the frame says of a claim."""

    verdict: Verdict
    numbers: str = ""
    brief: str = ""
    """The same in one line: of three comparisons or more their range, without what a measure is in words."""
    p: float | None = None
    """Of the claim alone, two-sided."""
    adjusted: float | None = None
    """The same with all claims of the scale allowed for."""
    stale: bool = False
    """Whether the code behind one of the numbers has changed since."""
    opposite: bool = False
    """Whether the interval of every comparison that is run lies where the claim denies it, on the other side of 0."""
    paper_numbers: str = ""
    paper_supports: bool | None = None
    """What the paper's own numbers say of its claim; None where it gives none."""


def judged(frame: pd.DataFrame, among: Sequence[Claim] | None = None) -> pd.DataFrame:
    """The verdict on each claim that the frame's pages settle, a line each, for each scale of the frame.

    Columns: ``scale, id, section, text, page, paper, ours, tested``, and the fields of :class:`Judgement`.

    A comparison of rows is a mean over the seeds that all of them have. How far seeds move it is not asked of these few, but of all
    rows of the same student in the frame (:func:`dfmsd.study.stats.pooled`); what images move, of the images. Each
    seed's teachers are trained anew where the scale says so, so that the spread counts their trainings. It cannot as long as no
    row with a teacher has two seeds: nothing about such rows is settled before.

    A claim of several comparisons is *supported* only if each of them is: its p-value is the largest of theirs. It is
    *contradicted* only if it can be ruled out that all are true: the smallest p-value of k comparisons, times k. Twice the smaller
    of the two is the claim's. Those of all claims of a scale are adjusted by Benjamini and Hochberg; below 10 % they are verdicts,
    the rest is *not settled*. Rows that cannot be run decide nothing; a claim with a comparison that is not run is not supported.
    Speeds decide nothing, because no record tells what else the machine did meanwhile.

    Args:
        frame: Of a page, or of several: :func:`dfmsd.study.frames.frame`. The more, the better is known what a seed moves.
        among: The claims; None: all.

    Raises:
        StudyError: if a claim names a row or a metric that its page does not have.
    """
    lines = []
    for scale, own in frame.groupby("scale", sort=False):
        board = _Board(own, claims() if among is None else among)
        for one, judgement in zip(board.asked, board.judged(), strict=True):
            about = one.claim.model_dump(include={"id", "section", "text", "page", "paper", "ours", "tested"})
            lines.append({"scale": scale} | about | vars(judgement))
    columns = ["scale", "id", "section", "text", "page", "paper", "ours", "tested", *Judgement.__dataclass_fields__]
    return pd.DataFrame(lines, columns=columns).astype({"p": float, "adjusted": float})


def under_null(frame: pd.DataFrame, among: Sequence[Claim] | None = None, *, times: int = 200) -> pd.DataFrame:
    """How often each claim would get each verdict if no method did anything: by simulation, through what judges the real numbers.

    Every number of a student is replaced by the mean of all its rows and noise of the size that its seeds have; differences between
    images turn their signs at random. What is not run stays so. A claim that allows for a margin may be true then, or false.

    Returns:
        A line for each claim that :func:`judged` has, in its order: ``scale, id`` and the share of each verdict.
    """
    lines = []
    for scale, own in frame.groupby("scale", sort=False):
        board, rng = _Board(own, claims() if among is None else among), np.random.default_rng(0)
        drawn = [board.simulated(rng) for _ in range(times)]
        for one, verdicts in zip(board.asked, zip(*drawn, strict=True), strict=True):
            lines.append({"scale": scale, "id": one.claim.id} | {word: verdicts.count(word) / times for word in VERDICTS})
    return pd.DataFrame(lines, columns=["scale", "id", *VERDICTS])


def of(page: Page) -> pd.DataFrame:
    """The verdicts on a page's claims, judged beside those of all pages of its scale, so that one claim has one verdict."""
    if all(page.page != claim.page for claim in claims()):
        return judged(pd.DataFrame({"scale": []}))
    found = _of_scale(page.scale)
    return found[found["page"] == page.page]


def _of_scale(scale: str) -> pd.DataFrame:
    """:func:`judged` of all pages of a scale; it takes seconds, so the last is kept beside the executed notebooks."""
    file, state = paths.pages() / f"verdicts-{scale}.json", _state(scale)
    with contextlib.suppress(OSError, ValueError, KeyError):
        kept = json.loads(file.read_text())
        if kept.pop("state") == state:
            return pd.DataFrame(**kept)
    sources = [one for one in pages.get("scoreboard", scale=scale).sources() if one.scale == scale]
    found = judged(pd.concat([frames.frame(one) for one in sources], ignore_index=True))
    with contextlib.suppress(OSError):
        files.write_atomic(file, json.dumps({"state": state} | found.to_dict("split")))
    return found


def _state(scale: str) -> str:
    """Hash of all that verdicts follow from: data, code, parameters and records."""
    runs, records = paths.runs(), paths.records()
    own = [*paths.PACKAGE.rglob("*.py"), *paths.PACKAGE.rglob("*.yaml"), *paths.PARAMS.rglob("*.yaml")]
    kept = [*records.glob("*.json"), *records.glob("measured/*.json"), *runs.glob("*/record.json"), *runs.glob("measured/*.json")]
    found = {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted({*own, *kept}) if file.is_file()}
    return digest([scales.get(scale).data.model_dump(mode="json"), found])


def _p(mean: float, of_mean: Spread | None, least: float) -> tuple[float, float]:
    """P-values of a one-sided t test: that the mean is above ``least``, and that it is below."""
    if of_mean is None:
        return 1.0, 1.0
    if of_mean.variance == 0:
        return float(mean <= least), float(mean >= least)
    t = (mean - least) / sqrt(of_mean.variance)
    return float(stdtr(of_mean.dof, -t)), float(stdtr(of_mean.dof, t))


class _Asked:
    """A claim with what a frame has of its comparisons; one that is not run is None."""

    def __init__(self, claim: Claim, pages: Mapping[str, pd.DataFrame], scale: str) -> None:
        self.claim = claim
        found = [(one, *sides) for one in claim.comparisons() for sides in compared(one, pages)]
        possible = found if claim.at is None or scale in claim.at else []
        self.run = [(one, a, b) for one, a, b in possible if not (a.cannot_be_run or b.cannot_be_run)]
        self.contrasts = [] if claim.metric == "speed" else [contrast(one, a, b) for one, a, b in self.run]
        self.papers = _papers(claim, found)

    def p(
        self, values: Mapping[Cell, float], spreads: Mapping[Cell, Spread | None], signs: Mapping[int, int] | None
    ) -> tuple[float, float] | None:
        """P-values that it is true, and that it is not; None where nothing tells."""
        found = [one.estimate(values, spreads, signs) if one else None for one in self.contrasts]
        if not self.claim.tested or not any(one and one[1] for one in found):
            return None
        both = [_p(*one, of.least) for one, of in zip(found, self.contrasts, strict=True) if one and of]
        supports = 1.0 if None in found else max(above for above, _ in both)
        return supports, min(1.0, len(found) * min(below for _, below in both))

    def opposite(self, values: Mapping[Cell, float], spreads: Mapping[Cell, Spread | None]) -> bool:
        """Whether the interval of every comparison that is run lies below 0, and below what the claim asks for."""
        run = [one for one in self.contrasts if one]
        ends = [(stats.t_interval(*one.estimate(values, spreads)), one.least) for one in run]
        return bool(run) and all(found is not None and found[1] < min(0.0, least) for found, least in ends)

    def numbers(self, values: Mapping[Cell, float], spreads: Mapping[Cell, Spread | None]) -> tuple[str, str]:
        """Its comparisons in words, and in one line."""
        found = [one for one in self.contrasts if one]
        if not found:
            return "", ""
        show, unit = _digits if self.claim.unit else signed, self.claim.unit or self.claim.metric
        means, parts = [], []
        for one in found:
            mean, of_mean = one.estimate(values, spreads)
            ends = stats.t_interval(mean, of_mean)
            stride = f"stride {one.level} " if one.level is not None else ""
            means.append(mean)
            parts.append(stride + show(mean) + (f" [{show(ends[0])}, {show(ends[1])}]" if ends else ""))
        over = ""
        if (images := min(len(one.images) for one in found)) > 1:
            over = f" ({images} images)"
        elif seeds := min(one.seeds for one in found):
            over = f" ({seeds} seed{'s' * (seeds != 1)})"
        left = len(self.contrasts) - len(found)
        over += f"; {left} not run" * bool(left)
        whole = f"{', '.join(parts)} {unit}{over}"
        return whole, _brief(whole, means, show, f" {unit.partition(' (')[0]}", over)


class _Board:
    """The claims that a frame of one scale settles, and the numbers of its runs."""

    def __init__(self, frame: pd.DataFrame, among: Sequence[Claim]) -> None:
        # Plain Python values, which are quick to compare: there are some thousand comparisons.
        whole = frame.reindex(columns=frame.columns.union([*EVERY, "key", "value"], sort=False))
        plain = whole.astype(object).where(whole.notna(), None)
        pages = {str(name): lines for name, lines in plain.groupby("page", sort=False)}
        scale = str(frame["scale"].iloc[0])
        about = [one for one in among if one.pages() <= pages.keys()]
        self.asked = [_Asked(one, pages, scale) for one in about]
        own = plain[(plain["source"] == "ours") & plain["role"].isin(["row", "stage"])]
        own = own[own["seed"].notna() & own["value"].notna() & own["page"].isin({name for one in about for name in one.pages()})]
        own = own.drop_duplicates(["key", "metric"])
        cells = list(zip(own["key"], own["metric"], strict=True))
        self.values: dict[Cell, float] = dict(zip(cells, own["value"], strict=True))
        # What has the same spread as a cell, and within it what differs by seed alone; students between stages are no rows.
        self.alike: dict[Cell, tuple[str, str]] = dict(zip(cells, zip(own["student"], own["metric"], strict=True), strict=True))
        self.rows: dict[tuple[str, str], dict[Any, list[Cell]]] = {}
        names = own[[*PAIR, "row"]].itertuples(index=False, name=None)
        for cell, name, role in zip(cells, names, own["role"], strict=True):
            if role == "row":
                self.rows.setdefault(self.alike[cell], {}).setdefault(name, []).append(cell)
        self.taught = {cell for cell, recipe in zip(cells, own["recipe"], strict=True) if recipe != "baseline"}
        several = {cells[0] for rows in self.rows.values() for cells in rows.values() if len(cells) > 1}
        self.known = {self.alike[cell] for cell in several & self.taught}

    def spreads(self, values: Mapping[Cell, float]) -> dict[Cell, Spread | None]:
        """How far seeds move each number; that of a taught student is not known from untaught ones alone."""
        own = {
            alike: stats.pooled({cell: values[cell] for cell in cells} for cells in rows.values())
            for alike, rows in self.rows.items()
        }
        return {
            cell: own.get(alike) if cell not in self.taught or alike in self.known else None for cell, alike in self.alike.items()
        }

    def verdicts(
        self, values: Mapping[Cell, float], spreads: Mapping[Cell, Spread | None], signs: Mapping[int, int] | None = None
    ) -> list[tuple[Verdict, float | None, float | None]]:
        """Of each claim the verdict, its p-value, and the same adjusted for their number."""
        both = [one.p(values, spreads, signs) for one in self.asked]
        p = [None if own is None else min(1.0, 2 * min(own)) for own in both]
        adjusted = iter(stats.false_discovery([own for own in p if own is not None]))
        found: list[tuple[Verdict, float | None, float | None]] = []
        for one, own, alone in zip(self.asked, both, p, strict=True):
            if own is None:
                verdict: Verdict = "not settled" if any(one.contrasts) else "not run"
                found.append((verdict, None, None))
                continue
            among_all = next(adjusted)
            verdict = "not settled" if among_all > FALSE else "supported" if own[0] < own[1] else "contradicted"
            found.append((verdict, alone, among_all))
        return found

    def judged(self) -> list[Judgement]:
        """What the real numbers say."""
        found, spreads = [], self.spreads(self.values)
        for one, (verdict, p, adjusted) in zip(self.asked, self.verdicts(self.values, spreads), strict=True):
            numbers, stale = one.numbers(self.values, spreads), any(own.stale for own in one.contrasts if own)
            if one.claim.metric == "speed":
                verdict, numbers, stale = _speeds(one.run)
            found.append(Judgement(verdict, *numbers, p, adjusted, stale, one.opposite(self.values, spreads), *one.papers))
        return found

    def simulated(self, rng: np.random.Generator) -> list[Verdict]:
        """What numbers would say in which no method does anything."""
        spreads = self.spreads(self.values)
        means = {alike: fmean(self.values[cell] for cells in rows.values() for cell in cells) for alike, rows in self.rows.items()}
        noise = dict(zip(self.values, rng.standard_normal(len(self.values)).tolist(), strict=True))
        values = {}
        for cell, alike in self.alike.items():
            spread = spreads[cell]
            values[cell] = means.get(alike, 0.0) + (noise[cell] * sqrt(spread.variance) if spread else 0.0)
        images = sorted({image for one in self.asked for own in one.contrasts if own for image in own.images})
        signs = dict(zip(images, rng.choice([-1, 1], size=len(images)).tolist(), strict=True))
        return [verdict for verdict, *_ in self.verdicts(values, self.spreads(values), signs)]


def signed(value: float) -> str:
    """A difference in percent with its sign.

    Example:
        >>> signed(1.26), signed(-0.04)
        ('+1.3', '−0.0')
    """
    return f"{value:+.1f}".replace("-", "−")


def _ratio(value: float) -> str:
    return f"{value:.2f}"


def _digits(value: float) -> str:
    return f"{round(value, 9) + 0:+.2g}".replace("-", "−")  # no rounding errors, no negative zero


def _brief(whole: str, values: Sequence[float], show: Callable[[float], str], unit: str = "", rest: str = "") -> str:
    """The range of the numbers of three comparisons or more; of fewer what says them all."""
    if len(values) < 3:
        return whole
    return f"{show(min(values))} to {show(max(values))}{unit} in {len(values)} comparisons{rest}"


def _speeds(compared: Sequence[tuple[Claim, Numbers, Numbers]]) -> tuple[Verdict, tuple[str, str], bool]:
    """Speeds on the same hardware, which decide nothing."""
    ratios = []
    for _, subject, rival in compared:
        ours, theirs = (side.lines.groupby("hardware")["value"].max() for side in (subject, rival))
        ratios += [float(ours[machine] / theirs[machine]) for machine in sorted(set(ours.index) & set(theirs.index))[:1]]
    if not compared or len(ratios) < len(compared):
        return "not run", ("", ""), False
    unit, rest = " of the speed", ", measured beside other processes"
    whole = ", ".join(map(_ratio, ratios)) + unit + rest
    stale = any(subject.stale or rival.stale for _, subject, rival in compared)
    return "not settled", (whole, _brief(whole, ratios, _ratio, unit, rest)), stale


def _papers(claim: Claim, compared: Sequence[tuple[Claim, Numbers, Numbers]]) -> tuple[str, bool | None]:
    """The paper's own numbers for a claim in one line, beside the sentence's own where these differ; whether they support it."""
    if claim.ours or claim.metric == "speed":
        return "", None
    if claim.says is not None and claim.prints is not None:
        return f"{claim.subject['row']}: {claim.prints:.1f} {claim.metric} in the tables, {claim.says:.1f} in the text", None
    found: list[tuple[Claim, float]] = []
    parts = []
    for one, subject, rival in compared:
        ours, theirs = subject.papers(), rival.papers()
        if ours is None or theirs is None:
            parts.append("–")
            continue
        found.append((one, round(ours - theirs, 1) + 0.0))  # no negative zero
        parts.append(signed(found[-1][1]))
    if not found:
        return "", None
    words = _brief(", ".join(parts), [value for _, value in found], signed)
    if claim.says is not None:
        words = f"{parts[0]} in the table, {signed(claim.says)} in the text"
    return words, all(value > one.least if one.least == 0 else value >= one.least for one, value in found)
