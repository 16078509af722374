"""The study's hypotheses (``params/claims.yaml``), decided over all pairs of student and teachers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from statistics import fmean
from typing import Any

import pandas as pd
from pydantic import Field

from dfmsd.errors import StudyError, validated
from dfmsd.study import params, paths, stats, zoo
from dfmsd.study.compared import PAIR
from dfmsd.study.spec import Frozen
from dfmsd.study.verdicts import Verdict

LEVEL = 0.05
"""Of all hypotheses together, the chance that one is decided although nothing differs."""


class Hypothesis(Frozen):
    """A question of the study's own, put before its runs: one row is above another over all pairs that have both."""

    id: str
    text: str
    subject: str
    rivals: tuple[str, ...]
    """A pair's rival is the first of these rows that it has."""
    by_type: bool = False
    """Whether the lead is asked to be larger with teachers of another type than with those of the student's own."""


class Hypotheses(Frozen):
    """All of them, and where their pairs are."""

    pages: tuple[str, ...]
    least: int = Field(default=1, ge=1)
    """How many pairs it takes for a verdict: records come pair by pair, and each look is another chance for a small p-value."""
    among: tuple[Hypothesis, ...]


class _File(Frozen):
    hypotheses: Hypotheses
    sections: tuple[Any, ...]
    """For :mod:`dfmsd.study.claims`."""


@cache
def asked() -> Hypotheses:
    """The study's hypotheses."""
    return validated(_File, "params/claims.yaml", params.read(paths.PARAMS / "claims.yaml"), part="field").hypotheses


def judged(frame: pd.DataFrame, among: Hypotheses | None = None) -> pd.DataFrame:
    """What becomes of the study's hypotheses, a line each, for each scale of the frame.

    A pair of student and teachers has one difference, the mean over the seeds that both rows have. Pairs are the replicates, but
    those that share a run are one: all pairs of a student share its baseline. :func:`dfmsd.study.stats.over_pairs` gives the mean
    over pairs and its interval over replicates, an exact sign test over replicates (of two types of teachers a rank test) the
    p-value, Holm's rule allows for the number of hypotheses. A hypothesis is *supported* if it has at least as many replicates as
    :attr:`Hypotheses.least` says, its p-value so adjusted is below 5 % and the interval lies above 0, *contradicted* if it lies
    below, else *not settled*.

    Columns: ``scale, id, text, verdict``; ``estimate, low, high`` in AP; ``pairs``, how many of them are ``above`` 0 (with two
    types of teachers: of each), how many are ``planned``, and how many ``replicates`` they are; ``seeds``, the fewest and most that
    a pair has; ``p``, and ``holm``;
    ``detectable``, the mean difference that this many pairs detect with a power of 80 %, if no other hypothesis is decided, and
    None where they are too few for a verdict; ``stale``.

    Args:
        frame: Of several pages: :func:`dfmsd.study.frames.frame`.
        among: The hypotheses; None: the study's.

    Raises:
        StudyError: if two runs of one pair and seed have one name.
    """
    among = among or asked()
    lines = []
    for scale, own in frame.groupby("scale", sort=False):
        rows = _rows(own[own["page"].isin(among.pages)])
        found = [_hypothesis(one, rows, among) for one in among.among]
        # What cannot be decided yet must not ease what the others have to pass.
        due = [line["p"] is not None and line["replicates"] >= among.least for line in found]
        adjusted = stats.holm([line["p"] if ripe else 1.0 for line, ripe in zip(found, due, strict=True)])
        for one, line, holm, ripe in zip(among.among, found, adjusted, due, strict=True):
            line["holm"] = holm if ripe else None
            low, high = line["low"], line["high"]
            verdict: Verdict = "not settled" if line["pairs"] else "not run"
            if low is not None and high is not None and holm <= LEVEL and not low <= 0 <= high:
                verdict = "supported" if low > 0 else "contradicted"
            lines.append({"scale": scale, "id": one.id, "text": one.text, "verdict": verdict} | line)
    columns = ["scale", "id", "text", "verdict", "estimate", "low", "high", "pairs", "above", "planned", "seeds", "p", "holm"]
    table = pd.DataFrame(lines, columns=[*columns, "replicates", "detectable", "stale"])
    return table.astype(dict.fromkeys(("estimate", "low", "high", "p", "holm", "detectable"), float))


Pair = tuple[str, str]
"""A student, and its teachers."""

Rows = Mapping[Pair, Mapping[str, Mapping[int, float]]]
"""AP by pair, row and seed; a row that is not run has no seeds."""


@dataclass(frozen=True)
class _Rows:
    values: Rows
    keys: Mapping[tuple[str, str, str], frozenset[str]]
    """Of the runs behind the values of a pair's row."""
    stale: frozenset[tuple[str, str, str]]


def _rows(frame: pd.DataFrame) -> _Rows:
    """AP of every row, a pair counted once whichever pages show it."""
    if "role" not in frame:
        return _Rows({}, {}, frozenset())
    own = frame[(frame["role"] == "row") & (frame["source"] == "ours") & (frame["metric"] == "AP") & frame["seed"].notna()]
    own = own.drop_duplicates([*PAIR, "row", "key"])
    same = own[own.duplicated([*PAIR, "row", "seed"])]
    if len(same):
        line = same.iloc[0]
        raise StudyError(f"two runs of {line['pair']} are called {line['row']!r} (page {line['page']}): name one otherwise")
    found: dict[Pair, dict[str, dict[int, float]]] = {}
    run = own[own["value"].notna()]
    keys: dict[tuple[str, str, str], frozenset[str]] = {}
    for student, teachers, row, key in run[[*PAIR, "row", "key"]].itertuples(index=False):
        keys[student, teachers, row] = keys.get((student, teachers, row), frozenset()) | {key}
    stale = set()
    for student, teachers, row, seed, value, old in own[[*PAIR, "row", "seed", "value", "stale"]].itertuples(index=False):
        seeds = found.setdefault((student, teachers), {}).setdefault(row, {})
        if not pd.isna(value):
            seeds[int(seed)] = float(value)
            stale |= {(student, teachers, row)} if old else set()
    return _Rows(found, keys, frozenset(stale))


def fewest(among: Hypotheses | None = None) -> int:
    """How many pairs it takes to decide the first of all hypotheses, if all of them lie on one side."""
    count, pairs = len((among or asked()).among), (among or asked()).least
    while count * stats.smallest_p(pairs) > LEVEL:
        pairs += 1
    return pairs


def _hypothesis(asked: Hypothesis, rows: _Rows, among: Hypotheses) -> dict[str, Any]:
    differences: dict[Pair, list[float]] = {}
    runs: dict[Pair, frozenset[str]] = {}
    stale, planned = False, 0
    for pair, own in rows.values.items():
        rival = next((row for row in asked.rivals if row in own), None)
        if rival is None or asked.subject not in own:
            continue
        planned += 1
        if difference := stats.difference(own[asked.subject], own[rival]):
            differences[pair] = list(difference.values.values())
            runs[pair] = rows.keys[(*pair, asked.subject)] | rows.keys[(*pair, rival)]
            stale |= bool({(*pair, asked.subject), (*pair, rival)} & rows.stale)
    sides = [list(differences)]
    if asked.by_type:
        sides = [[pair for pair in differences if alike(*pair) == own_type] for own_type in (False, True)]
    linked = [stats.replicates({pair: runs[pair] for pair in side}) for side in sides]
    groups = [[[differences[pair] for pair in own] for own in side] for side in linked]
    mean = {pair: fmean(seeds) for pair, seeds in differences.items()}
    means = [[mean[pair] for pair in side] for side in sides]
    replicates = [[fmean(mean[pair] for pair in own) for own in side] for side in linked]
    count = sum(map(len, replicates))
    found: dict[str, Any] = dict.fromkeys(("estimate", "low", "high", "p", "detectable"))
    if all(groups):
        estimate, interval = stats.over_pairs(*groups)
        low, high = interval or (None, None)
        p = stats.rank_test(*replicates) if asked.by_type else stats.sign_test(replicates[0])
        detectable = stats.detectable(*means, among=len(among.among)) if count >= among.least else None
        found = {"estimate": estimate, "low": low, "high": high, "p": p, "detectable": detectable}
    counts = sorted({len(seeds) for seeds in differences.values()})
    return found | {
        "pairs": len(differences) if all(groups) else 0,
        "above": ", ".join(f"{sum(mean > 0 for mean in group)} of {len(group)}" for group in means),
        "planned": planned,
        "replicates": count,
        "seeds": " to ".join(map(str, dict.fromkeys(counts[:1] + counts[-1:]))),
        "stale": stale,
    }


def alike(student: str, teachers: str) -> bool:
    """Whether all teachers are of the student's type."""
    return {zoo.family(name) for name in named(teachers)} == {zoo.family(student)}


def named(teachers: str) -> list[str]:
    """The teachers of a frame's cell, the first stage's first."""
    return teachers.split(" → ")
