"""Which method to take: what each gains at equal length of training, beside what a step of it costs."""

from __future__ import annotations

from statistics import fmean
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from dfmsd.hyper import METHODS
from dfmsd.report import figures
from dfmsd.report.figures import COLOURS, MISSING
from dfmsd.report.tables import pipes, plain, signed
from dfmsd.report.words import counted, ends
from dfmsd.study import hypotheses, stats, zoo
from dfmsd.study.rows import LABELS
from dfmsd.study.stats import Spread

NEEDS = {
    "fgd": "boxes",
    "crosskd": "boxes, and two dense heads of one type",
    "dfmsd": "enhanced images, and a stage for each teacher",
}
"""What a method needs besides the features of student and teacher."""

KINDS = {True: "A teacher of the student's own type", False: "A teacher of another type"}
"""What decides between methods: whether all teachers are of the student's type."""

NAMES = {LABELS[name]: name for name in METHODS}

STEP, SIZE = "× the baseline", "coco"
"""Of the page about cost: the metric (:data:`dfmsd.report.step.METRICS`), and the networks (:data:`dfmsd.report.step.PAIRS`)."""


def gains(frame: pd.DataFrame) -> pd.DataFrame:
    """What each method gained in AP over the baseline that was trained as long, a line for each pair and seed.

    A pair of student and teachers counts once, whichever tables show it. Columns besides those of the frame: ``gain``; ``kind`` of
    teachers; ``cost``, ``least`` and ``most`` as :func:`costs` has them; ``spread`` of a run of the student, over the seeds of all
    its rows; ``alone_key`` of its baseline; ``off``, by how much that baseline is above the mean of all its seeds.

    Args:
        frame: Of the pages whose rows are recipes, and of the one about cost.
    """
    own = frame[(frame["source"] == "ours") & (frame["role"] == "row") & frame["value"].notna()]
    by = ["student", "teachers", "row", "end", "seed"]
    found = own[own["metric"] == "AP"].drop_duplicates(by).reset_index(drop=True)
    same = ["student", "end", "seed"]
    alone = found[found["recipe"] == "baseline"].drop_duplicates(same)
    off = alone["value"] - alone.groupby(same[:-1])["value"].transform("mean")
    alone = alone.rename(columns={name: f"alone_{name}" for name in ("value", "key")}).assign(off=off).set_index(same)
    alone = alone[["alone_value", "alone_key", "off"]]
    taught = found[found["row"] == found["recipe"].map(LABELS)].join(alone, on=same, how="inner")
    taught = taught[taught["recipe"] != "baseline"]
    taught = taught.join(costs(frame), on="row")
    spreads = {student: _spread(own) for student, own in found.drop_duplicates(["key", "seed"]).groupby("student")}
    gain = taught["value"] - taught["alone_value"]
    return taught.assign(gain=gain, kind=kinds(taught), spread=taught["student"].map(spreads).astype(object))


def kinds(rows: pd.DataFrame) -> pd.Series[Any]:
    """What kind of teachers each row has."""
    pairs = zip(rows["student"], rows["teachers"], strict=True)
    return pd.Series([KINDS[hypotheses.alike(*pair)] for pair in pairs], rows.index, dtype=object)


def _by_kind(table: pd.DataFrame) -> pd.DataFrame:
    """Its lines by the first level of their labels, in the order of :data:`KINDS`."""
    order = {kind: place for place, kind in enumerate(KINDS.values())}
    return table.sort_index(level=0, key=lambda kinds: kinds.map(order), sort_remaining=False, kind="stable")


def _spread(rows: pd.DataFrame) -> Spread | None:
    """How far seeds move a student, over all its rows."""
    of = rows.groupby(["teachers", "row", "end"])
    return stats.pooled(dict(zip(own["seed"], own["value"], strict=True)) for _, own in of)


def costs(frame: pd.DataFrame) -> pd.DataFrame:
    """How long a step of COCO's size takes with each method, times one of the student alone, on the first machine that measured it.

    The median over rounds is ``cost``, the ``least`` and the ``most`` stand beside it. Rows that begin with one name are the stages
    of one training: DFMSD's last one sees each image twice. Theirs is the mean.

    Args:
        frame: Of the page about cost among others.
    """
    found = frame[(frame["metric"] == STEP) & ~frame["stale"].eq(True)]
    found = found[found["size"] == SIZE] if len(found) else found
    if len(found):
        found = found[found["beside"] == found["beside"].iloc[0]]
    own = found.set_index("row")[["value", "low", "high"]].set_axis(["cost", "least", "most"], axis="columns").astype(float)
    return own.groupby(lambda row: str(row).partition(",")[0]).mean()


def slower(frame: pd.DataFrame) -> str:
    """How long a step takes with each method, as Markdown, the shortest first; nothing where none is measured.

    Args:
        frame: As :func:`costs` takes it.
    """
    found = costs(frame)["cost"].reindex(list(NAMES)).dropna().sort_values()
    said = ", ".join(f"{row} {cost:.2f}" for row, cost in found.items())
    return f"Time of a training step at COCO's size, relative to one without a teacher: {said}." * bool(said)


def estimate(lines: pd.DataFrame) -> tuple[float, tuple[float, float] | None]:
    """The mean of two rows' differences in AP, and its 95 % interval: over pairs, or where these are too few over seeds.

    Pairs that share a run, as those of a student share its baseline, are too few if all of them together are fewer than six.

    Args:
        lines: As :func:`gains` gives them: ``gain`` is the difference of the runs ``key`` and ``alone_key``.

    Returns:
        The mean over pairs, and the two ends of the interval, or None where nothing says how far seeds move.
    """
    pairs = dict(iter(lines.groupby("pair", sort=False)))
    linked = stats.replicates({pair: [*own["key"], *own["alone_key"]] for pair, own in pairs.items()})
    mean, interval = stats.over_pairs([[pairs[pair]["gain"].tolist() for pair in own] for own in linked])
    if interval:
        return mean, interval
    runs = [dict(zip(zip(own["key"], own["alone_key"], strict=True), own["gain"], strict=True)) for own in pairs.values()]
    return stats.over_these([(seeds, own["spread"].iloc[0]) for seeds, own in zip(runs, pairs.values(), strict=True)])


def off_mean(gained: pd.DataFrame) -> str:
    """By how much the baselines that gains are over differ from their means over all seeds, in words; empty where none does.

    Args:
        gained: As :func:`gains` gives it.
    """
    off = gained.reset_index(drop=True).groupby("student")["off"].mean()
    off = off[off.abs() >= 0.05]
    if off.empty:
        return ""
    said = ", ".join(f"{signed(one)} AP for {zoo.label(str(student))}" for student, one in off.items())
    return (
        "Methods have fewer seeds than their baselines so far. The baselines that they are compared with differ from the means "
        f"over all seeds by {said}. Where such a baseline lies below its mean, a part of the gain may be the luck of that seed."
    )


def by_method(gained: pd.DataFrame) -> pd.DataFrame:
    """Each kind of teacher and method: its mean gain with the interval over pairs, in how many it is above 0, and its cost.

    Args:
        gained: As :func:`gains` gives it.
    """
    lines = []
    for kind in KINDS.values():
        for row in NAMES:
            own = gained[(gained["kind"] == kind) & (gained["row"] == row)]
            if own.empty:
                continue
            mean, interval = estimate(own)
            means = own.groupby("pair")["gain"].mean()
            line = {
                "kind": kind,
                "row": row,
                "Δ": mean,
                "95 %": interval,
                "pairs": len(means),
                "above 0 in": int((means > 0).sum()),
            }
            line |= {"× step": own["cost"].iloc[0]}
            line["needs besides features"] = NEEDS.get(NAMES[row], "")
            lines.append(line)
    columns = ["kind", "row", "Δ", "95 %", "pairs", "above 0 in", "× step", "needs besides features"]
    return pd.DataFrame(lines, columns=columns).set_index(["kind", "row"])


def missing(frame: pd.DataFrame, gained: pd.DataFrame) -> pd.DataFrame:
    """Which pairs of student and teachers have no method beside a baseline yet, by kind of teacher: the ``page`` with their rows.

    Args:
        frame: Of the pages whose rows are recipes.
        gained: As :func:`gains` gives it.
    """
    own = frame[(frame["role"] == "row") & (frame["recipe"] != "baseline") & ~frame["pair"].isin(gained["pair"])]
    own = own.drop_duplicates("pair")
    return _by_kind(own.assign(kind=kinds(own)).set_index(["kind", "pair"])[["page"]])


def all_gains(gained: pd.DataFrame) -> pd.DataFrame:
    """The mean gain over seeds of every method in every pair, by kind of teacher."""
    means = gained.groupby(["kind", "pair", "row"], sort=False)["gain"].mean().unstack("row")
    return _by_kind(means).reindex(columns=[row for row in NAMES if row in means])


def of_method(gained: pd.DataFrame, row: str) -> str:
    """What a method did, as Markdown: its mean gains in words, and each pair with the page that has its rows."""
    own = gained[gained["row"] == row]
    if own.empty:
        return f"{row} is not run yet: no pair of student and teachers has it beside its baseline.\n"
    lines = []
    for kind, one in by_method(own).droplevel("row").iterrows():
        gain = ends(f"{kind}: {row}", "the same student without a teacher", one["Δ"], one["95 %"])
        lines.append(f"- {gain}, the mean over {counted(one['pairs'], 'pair')}.\n")
    if not pd.isna(cost := own["cost"].iloc[0]):
        stages = " in the mean of its stages" * (NAMES[row] == "dfmsd")
        step = (
            f"[a training step at COCO's size](../pages/losses.ipynb) takes {cost:.2f} times as long as without a teacher{stages}"
        )
        lines.append(f"- With {row}, {step}.\n")
    means = own.groupby(["pair", "page"], sort=False, as_index=False)["gain"].mean()
    rows = [(plain(pair), signed(gain), f"[{page}](../pages/{page}.ipynb)") for pair, page, gain in means.to_numpy()]
    return f"{''.join(lines)}\n{pipes(['student and teachers', 'gain in AP', 'its rows'], rows)}"


def doubled(gates: pd.DataFrame) -> pd.Series[Any]:
    """What each student gains by twice the training, without a teacher.

    Args:
        gates: The frame of the gates' page.
    """
    alone = gates[(gates["metric"] == "AP") & (gates["recipe"] == "baseline") & (gates["role"] == "row") & gates["value"].notna()]
    values = alone.pivot_table(index=["student", "seed"], columns="length", values="value").reindex(columns=[1.0, 2.0])
    return (values[2.0] - values[1.0]).dropna().groupby("student", sort=False).mean().rename(index=zoo.label)


def longer(gates: pd.DataFrame, length: pd.DataFrame) -> str:
    """What twice the training gives a student without a teacher, and what methods still add to it, as Markdown.

    Args:
        gates: The frame of the gates' page.
        length: The frame of the page about length, a factor in ``length``.
    """
    gained = doubled(gates)
    if gained.empty:
        return ""
    said = ends("A student that trains twice as long without a teacher", "one of the usual length", fmean(gained))
    of = ", ".join(f"{student} {signed(gain)}" for student, gain in gained.items())
    seeds = gates.loc[gates["length"] == 2, "seed"].nunique()
    lines = [f"{said}, the mean over {counted(len(gained), 'student')} with {counted(seeds, 'seed')} ({of})."]
    ours = length[(length["metric"] == "AP") & (length["length"] == 2) & length["value"].notna()]
    found = ours.pivot_table(index=["pair", "seed"], columns="recipe", values="value", sort=False)
    added = {recipe: (found[recipe] - found["baseline"]).dropna() for recipe in found if recipe != "baseline"}
    by_pair = {recipe: gain.groupby("pair").mean() for recipe, gain in added.items() if len(gain)}
    more = ", ".join(
        f"{LABELS[str(one)]} {signed(gain.mean())} AP in {counted(len(gain), 'pair')}" for one, gain in by_pair.items()
    )
    return " ".join([*lines, f"Beside a student that trains twice as long, methods gain: {more}." * bool(more)]).strip()


def figure(methods: pd.DataFrame, scale: str) -> Figure:
    """What :func:`by_method` gives: each method's gain and its interval over pairs, a panel for each kind of teacher."""
    names = list(NAMES)
    with figures.style():
        drawn, axes = figures.panels(KINDS.values(), 0.9 + 0.3 * len(names))
        for ax, kind in zip(axes, KINDS.values(), strict=True):
            ax.axvline(0, color=COLOURS["baseline"], linewidth=1, linestyle="--", zorder=1)
            ax.grid(axis="y", visible=False)
            for y, row in enumerate(names):
                if (kind, row) not in methods.index:
                    ax.text(0.98, y, "not run", transform=ax.get_yaxis_transform(), ha="right", va="center", **MISSING)
                    continue
                line, colour = methods.loc[(kind, row)], COLOURS[NAMES[row]]
                if line["95 %"] is not None:
                    ax.hlines(y, *line["95 %"], color=colour, linewidth=3, alpha=0.6, zorder=2)
                ax.scatter(line["Δ"], y, s=50, color=colour, edgecolor="white", zorder=3)
                cost = "" if pd.isna(line["× step"]) else f"× {line['× step']:.2f}"
                ax.text(1.02, y, cost, transform=ax.get_yaxis_transform(), va="center", fontsize=9)
            ax.set_yticks(range(len(names)), labels=names)
            ax.set_ylim(len(names) - 0.5, -0.5)
        drawn.supxlabel(f"gain in AP over the baseline, 95 % interval, scale {scale}; ×: time of a training step", fontsize=10)
    return figures.described(drawn, figures.alt(f"Gain in AP over the baseline at scale {scale}", methods["Δ"], signed))
