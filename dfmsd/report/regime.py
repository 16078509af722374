"""How gains change as training or labelled images grow: what the pages of regimes show."""

from __future__ import annotations

from statistics import fmean
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from dfmsd.report import figures
from dfmsd.report.comparison import seeds_of
from dfmsd.report.figures import COLOURS, MISSING
from dfmsd.report.tables import number, signed
from dfmsd.report.words import counted
from dfmsd.study import frames, stats
from dfmsd.study.pages.comparison import RegimePage
from dfmsd.study.rows import LABELS

LABEL = {"length": "epochs, relative to the scale's", "images": "labelled images, relative to the scale's"}
"""Of the axis."""

LINE = ["pair", "recipe"]


CHANGES = {
    "length": "Every row has its epochs times the factor, which its stages share. The labelled images stay the same.",
    "images": (
        "Every student has its images times the factor, and as many iterations as before. With four times the images it has a "
        "quarter of the epochs, so the data change and the length of the training does not. With the same epochs instead, more "
        "images would also mean more steps, and nobody could tell which of the two made a gain fade. The teachers are the same "
        "everywhere."
    ),
}
"""What a factor changes, by what a page varies."""


def by_seed(page: RegimePage, frame: pd.DataFrame, *, gain: bool = False) -> pd.DataFrame:
    """AP by pair, recipe and value, a column for each seed; or its gain over the first recipe at the same value, seed by seed."""
    ours = frame[frame["metric"] == "AP"]
    if gain:
        same, first = ["pair", page.vary, "seed"], ours["recipe"] == page.recipes[0]
        others = ours[first].set_index(same)["value"].reindex(pd.MultiIndex.from_frame(ours[same]))
        ours = ours.assign(value=ours["value"] - others.to_numpy())[~first]
    order = pd.MultiIndex.from_frame(ours[[*LINE, page.vary]].drop_duplicates())
    return ours.pivot(index=[*LINE, page.vary], columns="seed", values="value").reindex(order)


def table(page: RegimePage, frame: pd.DataFrame, *, gain: bool = False) -> pd.DataFrame:
    """Means over seeds of :func:`by_seed`, a column for each value."""
    means = by_seed(page, frame, gain=gain).mean(axis="columns").rename(index=LABELS, level="recipe")
    wide = means.unstack(page.vary).reindex(pd.MultiIndex.from_frame(means.reset_index()[LINE].drop_duplicates()))
    return wide.rename(columns=lambda value: f"{'Δ ' * gain}× {value:g}")


def keys(page: RegimePage, frame: pd.DataFrame) -> pd.DataFrame:
    """The key of the record behind each number of the table of AP, of its first seed."""
    ours = frame[(frame["metric"] == "AP") & frame["value"].notna()].drop_duplicates([*LINE, page.vary])
    found = ours.set_index([*LINE, page.vary])["key"].rename(index=LABELS, level="recipe")
    return found.unstack(page.vary).rename(columns=lambda value: f"× {value:g}")


def lengths(page: RegimePage, frame: pd.DataFrame) -> pd.DataFrame:
    """What each value stands for: the epochs of all stages together."""
    ours = frame[frame["metric"] == "AP"].groupby(page.vary)["end"]
    ends = ours.agg(["min", "max"]).astype(int)
    words = [f"{low}" if low == high else f"{low} to {high}" for low, high in ends.itertuples(index=False)]
    return pd.DataFrame([words], index=["epochs"], columns=[f"× {value:g}" for value in ends.index])


def figure(page: RegimePage, frame: pd.DataFrame, *, gain: bool = False) -> Figure:
    """AP of every recipe over the values, or its gain, a panel for each pair: means as points, intervals over seeds as lines."""
    values = by_seed(page, frame, gain=gain)
    pairs, recipes = dict.fromkeys(frame["pair"].dropna()), page.recipes[1 if gain else 0 :]
    what = "gain in AP over the baseline" if gain else "AP in percent"
    with figures.style():
        drawn, axes = figures.panels(pairs, 2.9)
        for ax, pair in zip(axes, pairs, strict=True):
            missing = []
            for place, recipe in enumerate(recipes):
                own = values.xs((pair, recipe), level=LINE)
                found = {float(str(value)): stats.estimate(seeds) for value, line in own.iterrows() if (seeds := seeds_of(line))}
                missing += [f"{LABELS[recipe]} × {value:g}" for value in own.index if float(value) not in found]
                xs = [value * (1 + 0.03 * (place - 1.5)) for value in found]
                ax.plot(xs, [one.mean for one in found.values()], color=COLOURS[recipe], marker="o", label=LABELS[recipe])
                for x, one in zip(xs, found.values(), strict=True):
                    if one.interval is not None:
                        ax.vlines(x, *one.interval, color=COLOURS[recipe], linewidth=2, alpha=0.6)
            if gain:
                ax.axhline(0, color=COLOURS["baseline"], linewidth=1, linestyle="--")
            if missing:
                words = "not run" if not ax.lines[0].get_xdata().size else f"points not run: {len(missing)}"  # type: ignore[union-attr]
                ax.text(0.98, 0.03, words, transform=ax.transAxes, ha="right", va="bottom", **MISSING)
            ax.set_xscale("log", base=2)
            ax.set_xticks(page.values, [f"{value:g}" for value in page.values])
            ax.minorticks_off()
            ax.set_xlim(min(page.values) / 1.25, max(page.values) * 1.25)
        if values.isna().all(axis=None):
            axes[0].set_yticks([])
        axes[0].set_ylabel(what)
        drawn.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False, fontsize=8)
        drawn.supxlabel(f"{LABEL[page.vary]}, scale {page.scale}", fontsize=10)
    said: pd.Series[Any] = values.mean(axis="columns").rename(index=LABELS, level="recipe")
    said = said.rename(index=lambda value: f"{value:g} times", level=page.vary)
    title = f"{what[0].upper()}{what[1:]} at scale {page.scale} by {LABEL[page.vary].split(',')[0]}"
    return figures.described(drawn, figures.alt(title, said, signed if gain else number))


def left(page: RegimePage, frame: pd.DataFrame) -> str:
    """What is left of each recipe's gain from the smallest value to the largest, as Markdown, for pairs that have both.

    Before that, what the first recipe, which is the baseline, gains itself between the smallest value and the largest that are run.
    """
    gains = by_seed(page, frame, gain=True)
    lines = []
    alone = pd.DataFrame(by_seed(page, frame).xs(page.recipes[0], level="recipe").stack().unstack(page.vary))
    alone = alone.dropna(axis="columns", how="all")
    if len(alone.columns) > 1:
        low, high = min(alone.columns), max(alone.columns)
        change = (alone[high] - alone[low]).dropna()
        students = {frames.student_of(str(pair)) for pair in change.index.unique("pair")}
        if len(change):
            said = f"{counted(len(students), 'student')} without a teacher {'gains' if len(students) == 1 else 'gain'}"
            lines.append(f"- {said} {signed(change.groupby('pair').mean().mean())} AP from × {low:g} to × {high:g}.")
    for recipe in page.recipes[1:]:
        own = pd.DataFrame(gains.mean(axis="columns").unstack(page.vary)).xs(recipe, level="recipe")
        first, last = min(own.columns), max(own.columns)
        ends = own[[first, last]].dropna()
        if len(ends):
            said = " and ".join(f"{signed(fmean(ends[value]))} AP at × {value:g}" for value in (first, last))
            lines.append(f"- {LABELS[recipe]} gains {said} over the baseline ({counted(len(ends), 'pair')}).")
    return "\n".join(lines)
