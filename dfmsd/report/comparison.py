"""Rows of recipes, set side by side: what a cell makes of the frame before pandas and seaborn show it.

Every function takes lines of :func:`dfmsd.study.frames.frame` and gives a line for each row of the table, in its order, by ``pair``
(student and teachers in words) and ``row``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import HTML
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from dfmsd.report import choosing, figures, words
from dfmsd.report.figures import COLOURS, MISSING
from dfmsd.report.tables import number, plain, safe, signed, styled
from dfmsd.study import evaluate, frames, stats, zoo
from dfmsd.study.frames import METRICS
from dfmsd.study.pages.base import Page
from dfmsd.study.pages.comparison import PageSpec
from dfmsd.study.plan import duration, plan
from dfmsd.study.published import also
from dfmsd.study.rows import JOIN
from dfmsd.study.stats import Spread

ROW = ["pair", "row"]
"""What tells a row of a table from the others."""

READ = {
    "": "AP in percent. Each seed's AP leads to its record. Intervals come from the spread of all rows of a student over seeds.",
    "Δ": "Δ: difference to the baseline, seed by seed. This study and the paper differ in data and networks, so compare their Δ.",
    "†": "†: no row has two seeds, so the interval is over the validation images of the first, and says nothing about other seeds.",
}
"""How a table of results is read, by the sign that it must have for that."""


def by_seed(frame: pd.DataFrame, metric: str = "AP") -> pd.DataFrame:
    """Our values of a metric, a column for each seed; rows that are not run are there, and empty."""
    ours = frame[(frame["source"] == "ours") & (frame["metric"] == metric)]
    return _in_order(ours.dropna(subset="seed").pivot(index=ROW, columns="seed", values="value"), frame)


def keys(frame: pd.DataFrame) -> pd.DataFrame:
    """The key of the record behind each value of :func:`by_seed`."""
    found = frame[(frame["source"] == "ours") & (frame["metric"] == "AP") & frame["value"].notna()]
    return _in_order(found.pivot(index=ROW, columns="seed", values="key"), frame)


def _in_order(found: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    return found.reindex(pd.MultiIndex.from_frame(frame[ROW].drop_duplicates()))


def gains(values: pd.DataFrame | pd.Series[Any], over: str = "baseline") -> Any:
    """Differences to another row of the same pair, seed by seed: missing where one of the two is, and of that row itself.

    Example:
        >>> index = pd.MultiIndex.from_product([["FCOS taught by GFL"], ["baseline", "MGD"]], names=ROW)
        >>> gains(pd.DataFrame({0: [30.0, 32.0], 200: [31.0, None]}, index=index)).mean(axis="columns").tolist()
        [nan, 2.0]
    """
    rows = values.index.get_level_values("row")
    others = values[rows == over].droplevel("row").reindex(values.index.get_level_values("pair"))
    return (values - others.set_axis(values.index, axis="index"))[rows != over].reindex(values.index)


def seeds_of(line: pd.Series[Any]) -> dict[int, float]:
    """A line of :func:`by_seed` as values by seed, without those that are not run."""
    return {int(str(seed)): float(value) for seed, value in line.dropna().items()}


def spreads(values: pd.DataFrame) -> dict[str, Spread | None]:
    """How far seeds move each student, by its words: over all its lines of :func:`by_seed`, a run in several pairs once."""
    groups = values.groupby(np.array([_student(name) for name in values.index], dtype=object))
    return {str(name): stats.pooled(seeds_of(line) for _, line in own.drop_duplicates().iterrows()) for name, own in groups}


def _student(row: Any) -> str:
    return frames.student_of(str(row[0]))


def over_seeds(values: pd.DataFrame) -> pd.Series[Any]:
    """The 95 % interval of the mean over seeds of each line, by the spread of all lines of its student; None without any."""
    known = spreads(values)
    found = []
    for name, line in values.iterrows():
        seeds, spread = seeds_of(line), known[_student(name)]
        found.append(stats.estimate(seeds, spread).interval if seeds and spread else None)
    return pd.Series(found, index=values.index, dtype=object)


def intervals(frame: pd.DataFrame, by: Sequence[str] = ROW) -> pd.Series[Any]:
    """The 95 % interval of AP over seeds; of the first seed over images where no row tells how far seeds move; None if not run."""
    ours = frame[(frame["source"] == "ours") & (frame["metric"] == "AP")].drop_duplicates([*by, "seed"])
    seeds = over_seeds(_wide(ours, by))
    ours = ours.dropna(subset="seed").sort_values("seed")
    images = ours.dropna(subset="low").drop_duplicates(list(by)).set_index(list(by))[["low", "high"]]
    first = pd.Series(list(images.itertuples(index=False, name=None)), index=images.index, dtype=object)
    found = seeds.map(_possible, na_action="ignore")
    return found.where(found.notna(), first.reindex(found.index)).where(lambda found: found.notna(), None)


def _possible(interval: tuple[float, float]) -> tuple[float, float]:
    """An interval without what no AP can be."""
    return max(0.0, interval[0]), min(100.0, interval[1])


def _wide(ours: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Values of one metric, a column for each seed."""
    rows = pd.MultiIndex.from_frame(ours[list(by)].drop_duplicates())
    return ours.dropna(subset="seed").pivot(index=list(by), columns="seed", values="value").reindex(rows)


def gain_intervals(frame: pd.DataFrame) -> pd.Series[Any]:
    """The 95 % interval of each row's mean gain over its baseline: as :func:`intervals` has those of AP, over images in pairs."""
    values, of = by_seed(frame), keys(frame)
    known, found = spreads(values), []
    for (pair, row), line in gains(values).iterrows():
        seeds, spread = seeds_of(line), known[_student((pair, row))]
        if seeds and spread is None:
            first = min(seeds)
            resampled = frames.resampled(of.loc[(pair, row), first], of.loc[(pair, "baseline"), first])
            found.append(evaluate.basic(seeds[first], resampled))
        else:
            found.append(stats.estimate(seeds, spread and spread.times(2)).interval if seeds else None)
    return pd.Series(found, index=values.index, dtype=object)


def quoted(frame: pd.DataFrame) -> pd.DataFrame:
    """The paper's AP, its difference to the paper's baseline, and what is particular to these numbers."""
    paper = frame[(frame["source"] == "paper") & (frame["metric"] == "AP")]
    found = _in_order(paper.set_index(ROW)[["value"]].astype(float), frame)["value"]
    return pd.DataFrame({"AP": found, "Δ": gains(found), "mark": marks(paper).reindex(found.index).replace("", None)})


def marks(paper: pd.DataFrame) -> pd.Series[Any]:
    """Which of the paper's metrics are lost or reconstructed, by row, and where a row is from if not from the table."""
    found = {}
    for name, own in paper.groupby(ROW, sort=False):
        odd = [f"{', '.join(of['metric'])} {state}" for state, of in own.groupby("state", sort=False) if state != "quoted"]
        found[name] = "; ".join([*odd, *own["note"].replace("", None).dropna().unique()])
    return _by_row(found)


def _by_row(found: Mapping[Any, str]) -> pd.Series[Any]:
    index = pd.MultiIndex.from_tuples(list(found), names=ROW)
    return pd.Series(list(found.values()), index=index, dtype=object)


def notes(frame: pd.DataFrame) -> pd.Series[Any]:
    """What a reader must know about our numbers of a row, or why there are none."""
    found, seeds = {}, over_seeds(by_seed(frame)).to_dict()
    for name, lines in frame[frame["source"] == "ours"].groupby(ROW, sort=False):
        own = lines[lines["metric"] == "AP"].drop_duplicates("seed")
        run = own[own["value"].notna()]
        if run.empty:
            impossible = own[own["state"] == "cannot be run"]
            found[name] = f"cannot be run: {impossible['note'].iloc[0]}" if len(impossible) else str(own["state"].iloc[0])
            continue
        said = [f"{len(run)} of {len(own)} seeds"] * (len(run) < len(own)) + ["†"] * (seeds[name] is None)
        said += [state for state in run["state"].unique() if state != "ok"] + ["stale"] * bool(run["stale"].any())
        found[name] = ", ".join(said).replace(", †", " †")
    return _by_row(found)


def caption(page: PageSpec, frame: pd.DataFrame, signs: str) -> str:
    """How a page's table of results is read, as far as it has these signs; remarks on the paper's numbers, what else it reports."""
    parts = "; ".join(frame["remark"].dropna()).split("; ") if "remark" in frame else []  # several rows have one in common
    remarks = "; ".join(dict.fromkeys(filter(None, parts)))
    more = also(page.table) if page.table is not None else []
    read = [text for sign, text in READ.items() if sign in signs]
    run = frame[(frame["source"] == "ours") & (frame["metric"] == "AP") & frame["value"].notna()]
    read += [words.one_seed(run[run["recipe"] != "baseline"])] * any(spreads(by_seed(frame)).values())
    read += [f"Paper: {remarks}." * bool(remarks), f"The paper also has: {'; '.join(more)}." * bool(more)]
    return " ".join(filter(None, read))


AGAINST = ["Δ mean", "95 %", "pairs", "run", "above in", "higher", "lower", "not settled", "by pair"]


def against(frame: pd.DataFrame, subject: str, kind: str | None = None) -> pd.DataFrame:
    """The subject's paired differences in AP to every other row: how many pairs of student and teachers say what.

    Args:
        frame: The page's rows, all of which tell how far seeds move a student.
        subject: The row.
        kind: Of teachers (:data:`dfmsd.report.choosing.KINDS`), whose pairs alone count; None: all pairs.

    Returns:
        By the other row: the pairs that both can be run in, in how many they are, in how many the subject is above, what the
        intervals over seeds say, the mean difference over these pairs with its interval over seeds, and each pair's.
    """
    possible = frame[(frame["source"] == "ours") & (frame["state"] != "cannot be run")]
    values, runs = by_seed(possible), keys(possible)
    known = spreads(values)
    differences = -gains(values, subject).drop(index=subject, level="row", errors="ignore")
    if kind is not None:
        differences = differences[differences.index.get_level_values("pair").isin(_of_kind(frame, kind)["pair"])]
    lines: dict[str, dict[str, Any]] = {}
    for rival, own in differences.groupby("row", sort=False):
        found, pairs = [], []
        for (pair, _), line in own.iterrows():
            if seeds := seeds_of(line):
                spread = known[frames.student_of(pair)]
                found.append(stats.estimate(seeds, spread and spread.times(2)))
                both = runs.loc[(pair, subject)], runs.loc[(pair, rival)]
                pairs.append(({(both[0][seed], both[1][seed]): value for seed, value in seeds.items()}, spread))
        means, said = [one.mean for one in found], [stats.verdict(one) for one in found]
        mean, interval = stats.over_these(pairs) if pairs else (None, None)
        lines[rival] = {"Δ mean": mean, "95 %": interval}
        lines[rival] |= {"pairs": len(own), "run": len(found), "above in": sum(mean > 0 for mean in means)}
        lines[rival] |= {verdict: said.count(verdict) for verdict in ("higher", "lower", "not settled")}
        lines[rival] |= {"by pair": ", ".join(map(signed, means))}
    return pd.DataFrame.from_dict(lines, orient="index").reindex(columns=AGAINST)


def _of_kind(rows: pd.DataFrame, kind: str) -> pd.DataFrame:
    """The rows whose teachers are of this kind."""
    return rows[choosing.kinds(rows) == kind]


def findings(frame: pd.DataFrame, subject: str) -> str:
    """What a page found, as Markdown: the subject beside every other row, the paper, and the teachers. Empty if nothing is run.

    A page whose pairs have teachers of both kinds has a finding for each, as methods do not gain alike from them.

    Args:
        frame: The page's, with its teachers.
        subject: The row of the question.
    """
    rows = frame[frame["role"] == "row"]
    by_kind = {kind: lines for kind in choosing.KINDS.values() if (lines := _found(rows, subject, kind))}
    if not by_kind:
        return _without(rows, subject)
    passed = [line for line in [_passed(frame)] if line]
    if len(by_kind) == 1:
        return "\n".join(f"- {line}" for line in [*next(iter(by_kind.values())), *passed])
    said = [f"- {kind}:\n" + "\n".join(f"  - {line}" for line in lines) for kind, lines in by_kind.items()]
    return "\n".join([*said, *(f"- {line}" for line in passed)])


def _found(rows: pd.DataFrame, subject: str, kind: str) -> list[str]:
    """The subject beside every other row, and beside the paper, in the pairs with one kind of teacher; nothing if it is not run."""
    found = {str(rival): one for rival, one in against(rows, subject, kind).to_dict("index").items() if one["run"]}
    if not found:
        return []
    lines = []
    if one := found.get("baseline"):
        said = words.ends(subject, "the baseline", one["Δ mean"], one["95 %"])
        over = "the mean over " * (one["run"] > 1) + words.counted(one["run"], "pair")
        lines.append(f"**{said}** ({over} of student and teachers{_above(one)}).")
    most = max(one["run"] for one in found.values())
    mean = "In the mean over pairs " * (most > 1)
    above, below, between = mean + "{} ends above", mean + "{} ends below", "It is not settled whether {} ends above or below"
    groups: dict[str, list[str]] = {above: [], below: [], between: []}
    for rival, one in found.items():
        low, high = one["95 %"] or (-np.inf, np.inf)
        group = above if low > 0 else below if high < 0 else between
        if rival != "baseline":
            groups[group].append(f"{plain(rival)} ({signed(one['Δ mean'])}{words.bracketed(one['95 %'])}{_above(one)})")
    lines += [f"{group.format(subject)} {'; '.join(own)}." for group, own in groups.items() if own]
    differences = {rival: float(one["Δ mean"]) for rival, one in found.items()}
    best = min((rival for rival, one in found.items() if one["run"] == most), key=differences.__getitem__)
    if differences[best] < 0:
        highest = "the baseline" if best == "baseline" else plain(best)
        lines.append(f"The highest row is {highest}: it ends {number(-differences[best])} AP above {subject}.")
    return [*lines, *filter(None, [_contradicted(_of_kind(rows, kind), differences, subject)])]


def _above(one: Mapping[Any, Any]) -> str:
    """In how many pairs the subject of a line of :func:`against` is above the other row; of one alone nothing."""
    return f", above in {one['above in']} of {one['run']}" if one["run"] > 1 else ""


def _without(rows: pd.DataFrame, subject: str) -> str:
    """What the other rows do beside the baseline, as long as the subject is not run."""
    others = against(rows[rows["row"] != subject], "baseline")
    said = [
        f"{plain(str(rival))} ({signed(-one['Δ mean'])}{words.bracketed(one['95 %'] and tuple(-end for end in one['95 %'][::-1]))})"
        for rival, one in others.to_dict("index").items()
        if one["run"]
    ]
    return f"- {plain(subject)} is not run beside another row yet. Gains over the baseline: {', '.join(said)} AP." * bool(said)


def _contradicted(rows: pd.DataFrame, ours: Mapping[str, float], subject: str) -> str:
    """Where the paper's mean difference, over the same pairs, has another sign than ours."""
    run = by_seed(rows).notna().any(axis="columns")
    theirs = -gains(quoted(rows)["AP"].where(run), subject).dropna().groupby("row", sort=False).mean()
    other = [rival for rival in theirs.index if theirs[rival] * ours.get(rival, 0.0) < 0]
    said = [f"{plain(rival)} is {signed(ours[rival])} AP here and {signed(theirs[rival])} there" for rival in other]
    return f"**The paper finds the opposite sign**: {subject} minus {'; minus '.join(said)}." if said else ""


def _passed(frame: pd.DataFrame) -> str:
    """Which students end above their strongest teacher."""
    means = by_seed(frame[frame["role"] == "row"]).mean(axis="columns").dropna()
    teachers = frame[(frame["role"] == "teacher") & (frame["metric"] == "AP")].drop_duplicates(["pair", "student", "seed"])
    top = teachers.groupby(["pair", "student"])["value"].mean().groupby("pair").max()
    passed = means[means > top.reindex(means.index.get_level_values("pair")).to_numpy()]
    said = []
    for pair, own in passed.groupby("pair", sort=False):
        row, ap = own.idxmax()[1], own.max()  # type: ignore[index]
        of = means.xs(pair, level="pair").size
        said.append(
            f"{plain(str(pair))} in {own.size} of {of} rows, of which {plain(row)} is the highest "
            f"({number(ap)} AP, teacher {number(top[pair])})"
        )
    return f"**Students that end above their strongest teacher**: {'; '.join(said)}." if said else ""


def folded(page: Page, table: pd.DataFrame, run: pd.Series[bool], caption: str, *, noun: str = "row", **look: Any) -> Styler | HTML:
    """A table without the lines that nothing is run for; before its caption stands how many they are, and what makes them.

    Args:
        page: Whose table it is.
        table: With those lines.
        run: Which lines are shown, by the table's index.
        caption: Of the lines that are shown.
        noun: What the table calls a line.
        look: As :func:`dfmsd.report.tables.styled` takes it.
    """
    said = ""
    if not run.all():
        left = words.left(plan(page.chains()))
        lacking, lacks = (~run).sum(), words.counted(len(left), "run")
        said = (
            f"{lacking} of {words.counted(len(run), noun)} {'is' if lacking == 1 else 'are'} not run yet. {page.command()} makes "
        )
        said += f"all {lacks} that this page lacks, among them those of teachers and of other seeds, in about "
        said += f"{duration(sum(left))}, one at a time."
    if not run.any():
        return HTML(f"<p>{safe(said)}</p>")
    return styled(table[run], " ".join(filter(None, [said, caption])), **look)


def verdicts(page: PageSpec, frame: pd.DataFrame) -> Styler | HTML:
    """What :func:`against` gives for the page's subject, a line for each comparison that is run."""
    table = against(frame, page.subject)
    said = (
        f"{page.subject} minus each row: paired differences in AP, scale {page.scale}. Pairs: pairs of student and teachers that "
        "can have both rows. Run: pairs that are run. Above in: pairs in which the first of the two rows is higher. Higher, "
        "lower, not settled: what the 95 % intervals of single pairs say, which come from the spread of all rows of a student over "
        "seeds. The column 95 % is about the mean over these pairs, comes from the same spread, and tells nothing of other pairs."
    )
    said += " At the scale smoke no number means anything." * (page.scale == "smoke")
    return folded(page, table, table["run"] > 0, said, noun="comparison", name="verdicts")


def results(page: PageSpec, frame: pd.DataFrame) -> Styler | HTML:
    """Ours first, the paper's beside it, a line for each row that is run, cannot be or is left out; how many the others are.

    Args:
        page: The page.
        frame: Its rows, which may be of single stages.
    """
    aps, state = by_seed(frame), notes(frame)
    shown = aps.notna().any(axis="columns") | state.reindex(aps.index).fillna("not run").ne("not run")
    mean, paper = aps.mean(axis="columns"), quoted(frame)
    gained = gains(aps).mean(axis="columns")
    ours = pd.DataFrame({"AP": mean, "95 %": intervals(frame), "Δ": gained, "Δ, 95 %": gain_intervals(frame)})
    said = [[state.get(row), f"paper: {mark}" if isinstance(mark, str) else ""] for row, mark in paper["mark"].items()]
    note = pd.DataFrame({"note": ["; ".join(filter(None, own)) for own in said]}, index=aps.index).replace("", None)
    halves = {f"this study, {page.scale}": ours, "AP by seed": aps, "paper, COCO": paper[["AP", "Δ"]], "": note}
    table = pd.concat(halves, axis="columns")
    table = table.loc[:, table[shown].notna().any()]
    links = pd.concat({"AP by seed": keys(frame)}, axis="columns")[shown]
    signs = " ".join(map(str, [*table.columns.get_level_values(1), *state.reindex(table.index).dropna()]))
    return folded(page, table, shown, caption(page, frame, signs), name="results", links=links)


def metrics(frame: pd.DataFrame) -> Styler:
    """All of the paper's metrics, ours above the paper's; a row that is not run has the paper's alone."""
    every = frame[frame["metric"].isin(METRICS)]
    means = every.groupby([*ROW, "source", "metric"], sort=False)["value"].mean().unstack("metric")
    means = means.reindex(columns=list(METRICS)).dropna(how="all")
    order = every[ROW].drop_duplicates().itertuples(index=False, name=None)
    means = means.reindex([line for row in order for line in ((*row, "ours"), (*row, "paper")) if line in means.index])
    mark = marks(every[every["source"] == "paper"])
    marked = [mark.get(line[:-1]) if line[-1] == "paper" else None for line in means.index]
    if any(marked):
        means["mark"] = marked
    scale = frame["scale"].iloc[0]
    return styled(means.rename(index={"ours": scale}, level="source"), f"Paper: on COCO. Ours: scale {scale}.", name="metrics")


def ladder(frame: pd.DataFrame) -> pd.DataFrame:
    """Teachers and the students they teach, from weak to strong, each on its own and after every method."""
    alone = (frame["role"] == "teacher") | ((frame["role"] == "row") & (frame["recipe"] == "baseline"))
    own = frame[alone & (frame["source"] == "ours")].drop_duplicates(["student", "end", "seed", "metric"])
    by = ["student", "end"]
    found = own.groupby([*by, "metric"])["value"].mean().unstack("metric").reindex(columns=list(METRICS[:5]))
    found.insert(1, "95 %", intervals(own, by))
    by_images = found["95 %"].notna() & over_seeds(_wide(own[own["metric"] == "AP"], by)).isna()
    found["note"] = by_images.map({True: "†", False: ""})
    found["images/s"] = own[own["metric"] == "images_per_second"].groupby(by)["value"].median()
    found["role"] = own.groupby(by)["role"].first().replace("row", "student")
    found = found.reset_index().rename(columns={"end": "epochs"}).astype({"epochs": int})
    found["mmdet"] = [zoo.weights(name).ap for name in found["student"]]
    found["family"] = found["student"].map(zoo.family)
    found = found.sort_values(["family", "mmdet", "epochs"])
    found.index = pd.Index(found["student"].map(zoo.label) + ", " + found["epochs"].astype(str) + " epochs")
    return found[["role", "AP", "95 %", *METRICS[1:5], "images/s", "mmdet", "note"]]


def drawn_rows(frame: pd.DataFrame) -> list[str]:
    """The names of the rows that are run in any pair."""
    run = set(frame.loc[(frame["source"] == "ours") & (frame["metric"] == "AP") & frame["value"].notna(), "row"])
    return [str(row) for row in frame["row"].unique() if row in run]


def figure(frame: pd.DataFrame) -> Figure:
    """AP of :func:`drawn_rows`, a panel for each pair: seeds as small points, means with intervals, the baseline as a line."""
    values, ends, names = by_seed(frame), intervals(frame), drawn_rows(frame)
    known = over_seeds(values)
    first = frame[frame["source"] == "ours"].drop_duplicates(ROW).set_index(ROW)
    scale, pairs = frame["scale"].iloc[0], dict.fromkeys(frame["pair"])
    with figures.style():
        drawn, axes = figures.panels(pairs, 0.8 + 0.4 * len(names), 0.3 + 0.08 * max(map(len, names)))
        for ax, pair in zip(axes, pairs, strict=True):
            ax.grid(axis="y", visible=False)
            for row, line in values.loc[pair].reindex(names).iterrows():
                y, seeds = names.index(str(row)), seeds_of(line)
                ours = first.loc[(pair, row)] if (pair, row) in first.index else pd.Series({"state": "no such row"})
                if not seeds:
                    ax.text(0.98, y, ours["state"], transform=ax.get_yaxis_transform(), ha="right", va="center", **MISSING)
                    continue
                mean, colour = fmean(seeds.values()), COLOURS[ours["recipe"].split(JOIN)[0]]
                if ends[pair, row] is not None:  # over images the interval is thin: it is not about seeds
                    wide = 3 if known[pair, row] is not None else 1
                    ax.hlines(y, *ends[pair, row], color=colour, linewidth=wide, alpha=0.6, zorder=2)
                if row == "baseline":
                    ax.axvline(mean, color=colour, linewidth=1, linestyle="--", zorder=1)
                ax.scatter(list(seeds.values()), [y + 0.22] * len(seeds), s=12, color=colour, alpha=0.7, zorder=3)
                ax.scatter(mean, y, s=50, color=colour, edgecolor="white", zorder=4)
                look: Any = {"ha": "center", "bbox": MISSING["bbox"] | {"pad": 0}}  # the baseline's line ends beside a number
                ax.annotate(number(mean), (mean, y), (0, 7), textcoords="offset points", **look)
            if values.loc[pair].isna().all(axis=None):
                ax.set_xticks([])
        axes[0].set_yticks(range(len(names)), labels=names)
        axes[0].set_ylim(len(names) - 0.5, -0.5)
        drawn.supxlabel(f"AP in percent, scale {scale}", fontsize=10)
    means = values[values.index.get_level_values("row").isin(names)].mean(axis="columns")
    said = means.map(number).where(means.notna(), first["state"])
    words = figures.alt(f"AP in percent at scale {scale}, a panel for each student with its teachers", said, str)
    return figures.described(drawn, words)
