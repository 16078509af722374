"""Which method gains most: a ranking over the same pairs and seeds, and what it leaves out."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import pandas as pd

from dfmsd.report.choosing import KINDS, NAMES, NEEDS, estimate
from dfmsd.report.tables import plain, signed
from dfmsd.report.words import counted


def told_apart(gained: pd.DataFrame, one: str, other: str) -> bool | None:
    """Whether the interval of two methods' difference, over the pairs that both have, excludes 0; None where there is none."""
    rival = gained.loc[gained["row"] == other, ["pair", "seed", "value", "key"]]
    both = gained[gained["row"] == one].merge(rival, on=["pair", "seed"], suffixes=("", "_other"))
    both = both.assign(gain=both["value"] - both["value_other"], alone_key=both["key_other"])
    found = estimate(both)[1] if len(both) else None
    return None if found is None else not found[0] <= 0 <= found[1]


def best(gained: pd.DataFrame) -> dict[str, Any] | None:
    """The method with the highest mean gain, and which of the others is the cheapest that cannot be told from it.

    Like with like: each method that is compared has all the pairs over which it is (:func:`_whole`).

    Args:
        gained: Of one kind of teacher, or of one pair.

    Returns:
        ``method, gain, interval, pairs``; in how many of them it is ``above`` 0; ``cheapest``, which may be the method itself, or
        None if no step is measured; and ``left``, the mean gain and the number of pairs of each method that is not compared. None
        where there is no choice.
    """
    whole = _whole(gained)
    if whole.empty:
        return None
    by_pair = whole.groupby(["row", "pair"])["gain"].mean()
    method = str(by_pair.groupby("row").mean().idxmax())
    mean, interval = estimate(whole[whole["row"] == method])
    steps = whole.groupby("row")[["cost", "least", "most"]].first()
    cheaper = steps[steps["most"] < steps.loc[method, "least"]]
    same = [row for row in cheaper.index if told_apart(whole, method, row) is False]
    cheapest = str(cheaper.loc[same, "cost"].idxmin()) if same else method
    others = gained[~gained["row"].isin(whole["row"])].groupby(["row", "pair"])["gain"].mean()
    return {
        "method": method,
        "gain": mean,
        "interval": interval,
        "pairs": whole["pair"].nunique(),
        "above": int((by_pair[method] > 0).sum()),
        "cheapest": cheapest if method in steps["cost"].dropna() else None,
        "left": {str(row): (float(own.mean()), len(own)) for row, own in others.groupby("row")},
    }


def _whole(gained: pd.DataFrame) -> pd.DataFrame:
    """The largest table of two methods or more, by pairs and seeds, in which no cell is missing; of two as large, the longer."""
    cells = pd.MultiIndex.from_frame(gained[["pair", "seed"]])
    have = {row: set(cells[gained["row"] == row]) for row in NAMES if (gained["row"] == row).any()}
    sets = [rows for count in range(2, len(have) + 1) for rows in combinations(have, count)]
    if not sets:
        return gained[:0]
    common = [set.intersection(*(have[row] for row in rows)) for rows in sets]
    rows, found = max(zip(sets, common, strict=True), key=lambda table: (len(table[0]) * len(table[1]), len(table[1])))
    return gained[gained["row"].isin(rows) & cells.isin(found)]


def recommended(gained: pd.DataFrame) -> pd.DataFrame:
    """What to take, by what a reader has: :func:`best` of each case, a line each; a case without a choice is there, and empty."""
    return _lines({case: best(own) for case, own in _cases(gained).items()})


def none(lines: pd.DataFrame) -> str:
    """What a line of :func:`recommended` means that begins with none; empty if there is no such line."""
    said = "None: no method gains in the mean; the one in brackets loses least."
    return said * bool(lines["highest gain"].astype(str).str.startswith("none (").any())


def _cases(gained: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """What a reader may have, with the gains that count for it; without boxes where a method that needs them is ranked."""
    boxes = [row for row, name in NAMES.items() if "boxes" in NEEDS.get(name, "")]
    found = {}
    for kind in KINDS.values():
        found[kind] = own = gained[gained["kind"] == kind]
        if _whole(own)["row"].isin(boxes).any():
            found[f"{kind}, no boxes used"] = own[~own["row"].isin(boxes)]
    return found


def out(gained: pd.DataFrame) -> str:
    """Which pairs a line of :func:`recommended` leaves out, because runs are missing, and what their methods gain, as Markdown."""
    means = gained.groupby(["pair", "row"], sort=False)["gain"].mean()
    lines = []
    for case, own in _cases(gained).items():
        whole = set(_whole(own)["pair"])
        pairs = {pair: means[pair].items() for pair in own["pair"].unique() if whole and pair not in whole}
        said = [f"{plain(pair)} ({', '.join(f'{row} {signed(gain)}' for row, gain in gains)})" for pair, gains in pairs.items()]
        if said:
            lines.append(
                f"The line “{case}” leaves out pairs where a run of its methods is missing, with these gains: {'; '.join(said)}."
            )
    return " ".join(lines)


def nothing_gains(gained: pd.DataFrame) -> str:
    """The pairs in which no method that is run ends above the baseline, with the method that comes nearest, as Markdown."""
    means = gained.groupby(["pair", "row"], sort=False, as_index=False)["gain"].mean()
    best = means.loc[means.groupby("pair", sort=False)["gain"].idxmax()]
    said = [f"{plain(pair)} ({row} {signed(gain)})" for pair, row, gain in best[best["gain"] <= 0].to_numpy()]
    start = f"In {len(said)} of {counted(len(best), 'pair')} no method gains. These are, with the method that loses least: "
    return f"{start}{'; '.join(said)}." * bool(said)


def by_pair(gained: pd.DataFrame) -> pd.DataFrame:
    """What to take for each pair of student and teachers in which there is a choice, by kind of teacher."""
    pairs = gained.groupby("pair", sort=False)
    lines = {(kind, str(pair)): best(own) for kind in KINDS.values() for pair, own in pairs if own["kind"].iloc[0] == kind}
    found = {place: line for place, line in lines.items() if line}
    return _lines(found).drop(columns=["pairs", "above 0 in"])


def _lines(found: Mapping[Any, dict[str, Any] | None]) -> pd.DataFrame:
    """What :func:`best` gives, a line each."""
    lines = []
    for one in found.values():
        own: dict[str, Any] = {"cheaper and perhaps as good": "", "not ranked": ""}
        if one:
            own |= {"highest gain": one["method"], "Δ": one["gain"], "95 %": one["interval"]}
            own |= {"above 0 in": one["above"], "pairs": one["pairs"]}
            if one["gain"] <= 0:
                own["highest gain"] = f"none ({one['method']})"
                cheaper = ""
            elif one["interval"] is None:
                cheaper = "not known: no second seed"
            elif one["cheapest"] is None:
                cheaper = "not known: no step is measured"
            else:
                cheaper = one["cheapest"] if one["cheapest"] != one["method"] else "none"
            left = [f"{row} {signed(gain)} in {counted(pairs, 'pair')}" for row, (gain, pairs) in one["left"].items()]
            own |= {"cheaper and perhaps as good": cheaper, "not ranked": ", ".join(left)}
        lines.append(own)
    columns = ["highest gain", "Δ", "95 %", "above 0 in", "pairs", "cheaper and perhaps as good", "not ranked"]
    index = (
        pd.MultiIndex.from_tuples(list(found)) if isinstance(next(iter(found), ""), tuple) else pd.Index(list(found), dtype=object)
    )
    return pd.DataFrame(lines, columns=columns, index=index).astype({"pairs": "Int64", "above 0 in": "Int64", "Δ": float})
