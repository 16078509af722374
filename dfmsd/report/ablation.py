"""What each part of DFMSD adds: rows of an ablation that differ in this part alone, set against each other."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean

import pandas as pd
from IPython.display import Markdown
from pandas.io.formats.style import Styler

from dfmsd.report.tables import NONE, signed, spread, stale_mark, styled
from dfmsd.study import stats
from dfmsd.study.frame import Line, by_pair, lines
from dfmsd.study.pages import PageSpec
from dfmsd.study.rows import Options
from dfmsd.study.stats import Estimate

PARTS = {"sal": "stage-wise adaptation", "me": "masking enhancement", "sfa": "semantic alignment"}
"""The switches of :class:`dfmsd.study.rows.Options`, as a table calls them."""

OFF: dict[str, object] = {"sal": False, "me": "none", "sfa": False}


def parts_on(options: Options) -> frozenset[str]:
    """The parts that a row has switched on.

    Example:
        >>> sorted(parts_on(Options(sal=False)))
        ['me', 'sfa']
    """
    return frozenset(part for part in PARTS if getattr(options, part) != OFF[part])


def effects(rows: Iterable[Line]) -> dict[str, dict[frozenset[str], Estimate | None]]:
    """By part and by what else is on: the paired difference in AP between the rows with and without the part; None if not run.

    Rows count that change nothing but these switches.

    Args:
        rows: Of one student and its teachers.
    """
    return {
        part: {rest: stats.difference(on.values("AP"), off.values("AP")) for rest, (on, off) in by_rest.items()}
        for part, by_rest in _pairs(rows).items()
    }


def _pairs(rows: Iterable[Line]) -> dict[str, dict[frozenset[str], tuple[Line, Line]]]:
    """The rows with and without each part, by what else is on."""
    plain = Options()
    known: dict[frozenset[str], Line] = {}
    for line in rows:
        switched = plain.model_copy(update={part: getattr(line.row.options, part) for part in PARTS})
        if line.row.recipe == "dfmsd" and line.row.options == switched and line.row.options.me in ("none", plain.me):
            known[parts_on(line.row.options)] = line
    found: dict[str, dict[frozenset[str], tuple[Line, Line]]] = {part: {} for part in PARTS}
    for on, line in known.items():
        for part in on:
            if (without := known.get(on - {part})) is not None:
                found[part][on - {part}] = line, without
    return {part: by_rest for part, by_rest in found.items() if by_rest}


def table(page: PageSpec) -> Styler | Markdown:
    """What each part adds to nothing, to the two others, and on average over all that else may be on."""
    pairs = by_pair(lines(page))
    rows = []
    for pair, own in pairs.items():
        rows_of = _pairs(own)
        for part, by_rest in effects(own).items():
            stale = any(a.stale or b.stale for a, b in rows_of[part].values() if a.records and b.records)
            others = frozenset(PARTS) - {part}
            run = [difference.mean for difference in by_rest.values() if difference is not None]
            rows.append(
                ({"student and teachers": pair} if len(pairs) > 1 else {})
                | {
                    "part": PARTS[part] + stale_mark(stale=stale),
                    "alone": _shown(by_rest.get(frozenset())),
                    "with the two others": _shown(by_rest.get(others)),
                    "mean": f"{signed(fmean(run))}" if len(run) == len(by_rest) else NONE,
                    "pairs of rows": f"{len(run)} of {len(by_rest)} run",
                }
            )
    if not rows:
        return Markdown("No two rows differ in a part alone.")
    caption = (
        "AP in percent, seed by seed; intervals from three seeds on. Mean: over all pairs of rows that differ in this part alone. "
        f"Scale {page.scale}."
    )
    return styled(pd.DataFrame(rows), "effects", caption).hide(axis="index")


def _shown(found: Estimate | None) -> str:
    return NONE if found is None else signed(found.mean) + spread(found.interval, signed)
