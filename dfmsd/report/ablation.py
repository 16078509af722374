"""What each part of DFMSD adds, and how far what the paper leaves open moves AP beside it."""

from __future__ import annotations

from statistics import fmean
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from dfmsd.report import figures
from dfmsd.report.comparison import by_seed, notes, seeds_of, spreads
from dfmsd.report.figures import COLOURS
from dfmsd.report.tables import signed
from dfmsd.study import frames, stats
from dfmsd.study.pages.comparison import PageSpec
from dfmsd.study.rows import Options

PARTS = {"sal": "stage-wise adaptation", "me": "masking enhancement", "sfa": "semantic alignment"}
"""The switches of :class:`dfmsd.study.rows.Options`, as a table calls them."""

OFF: dict[str, object] = {"sal": False, "me": "none", "sfa": False}

CHOICE, MODULE = "an open choice", "a module left out"


def parts_on(options: Options) -> frozenset[str] | None:
    """The parts that a row has switched on; None if it changes anything but these switches.

    Example:
        >>> sorted(parts_on(Options(sal=False))), parts_on(Options(theta=0.3))
        (['me', 'sfa'], None)
    """
    off = {part: value for part, value in OFF.items() if getattr(options, part) == value}
    return frozenset(PARTS.keys() - off.keys()) if options == Options().model_copy(update=off) else None


def _switched(frame: pd.DataFrame, page: PageSpec) -> list[tuple[str, str, frozenset[str] | None]]:
    """Of DFMSD's rows the pair, the name, and which parts they have on."""
    rows = frame[(frame["role"] == "row") & (frame["recipe"] == "dfmsd")].drop_duplicates("place")
    columns = (rows[name].tolist() for name in ("pair", "row", "place"))
    return [(pair, row, parts_on(page.rows()[place].options)) for pair, row, place in zip(*columns, strict=True)]


def _estimates(frame: pd.DataFrame) -> dict[tuple[str, str], dict[int, float]]:
    """AP by seed of every row."""
    values = by_seed(frame[frame["role"] == "row"])
    return {(pair, row): seeds_of(values.loc[(pair, row)]) for pair, row in values.index}


def _spreads(frame: pd.DataFrame) -> dict[str, stats.Spread | None]:
    """How far seeds move each pair's student."""
    rows = frame[frame["role"] == "row"]
    known = spreads(by_seed(rows))
    return {pair: known[frames.student_of(pair)] for pair in rows["pair"].unique()}


def added(frame: pd.DataFrame, page: PageSpec) -> pd.DataFrame:
    """What each part adds to nothing, to the two others, and on average over all that else may be on, by pair and part.

    A part is judged by the rows of one pair that differ in it alone, seed by seed. The mean is there once all of them are run.
    """
    values, seeds = _estimates(frame), _spreads(frame)
    known = {(pair, on): values[pair, row] for pair, row, on in _switched(frame, page) if on is not None}
    lines: dict[tuple[str, str], dict[str, Any]] = {}
    for pair in dict.fromkeys(pair for pair, _ in known):
        for part, name in PARTS.items():
            rests = [on - {part} for of, on in known if of == pair and part in on and (pair, on - {part}) in known]
            found = {rest: stats.difference(known[pair, rest | {part}], known[pair, rest], seeds[pair]) for rest in rests}
            run = [one.mean for one in found.values() if one is not None]
            if rests:
                line: dict[str, Any] = {}
                for words, rest in (("alone", frozenset[str]()), ("with the two others", frozenset(PARTS) - {part})):
                    one = found.get(rest)
                    line |= {f"Δ {words}": one and one.mean, f"95 %, {words}": one and one.interval}
                line["Δ mean"] = fmean(run) if len(run) == len(rests) else None
                lines[pair, name] = line | {"pairs of rows": f"{len(run)} of {len(rests)} run"}
    index = pd.MultiIndex.from_tuples(list(lines), names=["pair", "part"])
    table = pd.DataFrame(list(lines.values()), index=index)
    return table.drop(columns=[name for name in table if str(name).startswith("95 %") and table[name].isna().all()])


def moves(frame: pd.DataFrame, page: PageSpec) -> pd.DataFrame:
    """How far AP moves where DFMSD's row of a pair makes an open choice otherwise, or leaves out one of the paper's modules.

    By name, from the row that moves AP most to those that are not run; empty unless the page has both kinds.
    """
    values, said, switched = _estimates(frame), notes(frame[frame["role"] == "row"]), _switched(frame, page)
    seeds = _spreads(frame)
    wholes = {pair: values[pair, row] for pair, row, on in switched if on == PARTS.keys()}
    changed = [(pair, row, on) for pair, row, on in switched if pair in wholes and (on is None or len(on) == len(PARTS) - 1)]
    lines = []
    for pair, row, on in changed:
        part = None if on is None else next(iter(PARTS.keys() - on))
        student = frames.student_of(pair)
        beside = [f"without {PARTS[part]}"] if part else []
        beside += [student] * (not switched[0][0].startswith(student))
        name = f"{row} ({', '.join(beside)})" if beside else row
        line = {"name": name, "pair": pair, "part": part, "is": MODULE if part else CHOICE, "note": said[pair, row]}
        lines.append(line | {"change": stats.difference(values[pair, row], wholes[pair], seeds[pair])})
    if len({line["is"] for line in lines}) < 2:
        return pd.DataFrame(columns=["is", "Δ", "95 %", "seeds", "moves AP more than", "note"])
    for line in lines:
        change, smaller = line["change"], []
        for other in lines if change is not None else ():
            of = other["change"]
            if other["part"] and other["pair"] == line["pair"] and of is not None and abs(of.mean) < abs(change.mean):
                smaller.append(other["part"].upper() + "?" * (not _beyond(change, of, seeds[line["pair"]])))
        line |= {"Δ": change and change.mean, "95 %": change and change.interval, "moves AP more than": ", ".join(smaller)}
        line["seeds"] = ", ".join(map(signed, change.values.values())) if change else ""
    found = pd.DataFrame(lines).set_index("name").astype({"Δ": float})
    found = found.sort_values("Δ", key=abs, ascending=False, kind="stable")
    return found[["is", "Δ", "95 %", "seeds", "moves AP more than", "note"]]


def _beyond(change: stats.Estimate, other: stats.Estimate, spread: stats.Spread | None) -> bool:
    """Whether one change is larger than another whatever their signs: the whole is in both, and cancels if these are the same."""
    signs = [1 if one.mean > 0 else -1 for one in (change, other)]
    shared = change.values.keys() & other.values.keys()
    apart = {seed: signs[0] * change.values[seed] - signs[1] * other.values[seed] for seed in shared}
    factor = 2 if signs[0] == signs[1] else 6
    both = spread and stats.Spread(factor * spread.variance, spread.dof)
    return bool(apart) and stats.verdict(stats.estimate(apart, both)) == "higher"


def figure(moved: pd.DataFrame, scale: str) -> Figure | None:
    """Each change of :func:`moves` that is run, with its interval: open choices as rings, modules as squares; None without any."""
    moved = moved[moved["Δ"].notna()]
    if moved.empty:
        return None
    with figures.style():
        drawn = Figure(figsize=(7.5, 1.2 + 0.36 * len(moved)), layout="constrained")
        ax = drawn.subplots()
        ax.grid(axis="y", visible=False)
        look = {
            "hue": "is",
            "style": "is",
            "markers": {CHOICE: "o", MODULE: "s"},
            "palette": {CHOICE: "white", MODULE: COLOURS["dfmsd"]},
        }
        ax.axvline(0, color="#777777", linewidth=1, zorder=1)
        sns.scatterplot(moved, x="Δ", y=moved.index, s=50, edgecolor=COLOURS["dfmsd"], linewidth=1, zorder=3, ax=ax, **look)
        for y, (change, interval) in enumerate(zip(moved["Δ"], moved["95 %"], strict=True)):
            if interval is not None:
                ax.hlines(y, *interval, color=COLOURS["dfmsd"], linewidth=3, alpha=0.6)
            ax.annotate(signed(change), (change, y), (0, 6), textcoords="offset points", ha="center", fontsize=8)
        ax.set(ylim=(len(moved) - 0.5, -0.7), ylabel="")
        ax.set_xlabel(f"AP minus that of the DFMSD row, 95 % interval, scale {scale}")
        sns.move_legend(ax, "lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False, title=None)
    return figures.described(drawn, figures.alt(f"AP minus that of the DFMSD row, at scale {scale}", moved["Δ"], signed))
