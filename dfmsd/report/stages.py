"""What a student gains stage by stage: its AP and its learning curve, beside the rows of a single stage."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from IPython.display import HTML
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from pandas.io.formats.style import Styler

from dfmsd.report import comparison, figures
from dfmsd.report.comparison import ROW, by_seed, over_seeds
from dfmsd.report.figures import COLOURS, MISSING
from dfmsd.report.tables import number
from dfmsd.study.pages.comparison import PageSpec
from dfmsd.study.rows import JOIN


def path(frame: pd.DataFrame, subject: str) -> pd.DataFrame:
    """Of each pair its baseline, the subject's student after every stage, as rows of their own, and the other rows.

    The subject is the row with several stages; the frame may be one of learning curves. Another row's curve has all its stages.
    """
    staged = (frame["row"] == subject) | frame["row"].str.startswith(f"{subject}, stage ")
    found = frame[(frame["role"] == "row") | ((frame["role"] == "stage") & (staged | ("epoch" in frame)))].copy()
    staged, last = staged[found.index], found["row"] == subject
    found["row"] = found["row"].where(staged, found["row"].str.replace(r", stage \d+$", "", regex=True))
    found["begin"] = found["begin"].where(staged, 0.0)
    found["end"] = found["end"].where(staged, found.groupby(ROW)["end"].transform("max"))
    found["stage"] = found["stage"].fillna(found.groupby("place")["stage"].transform("max"))
    found.loc[last, "row"] = [f"{subject}, stage {stage}" for stage in found.loc[last, "stage"]]
    found["first"] = found.groupby("pair")["place"].transform("min")
    found["rank"] = found["stage"].where(staged, found["place"] + 100).where(found["recipe"] != "baseline", 0)
    return found.sort_values(["first", "rank"], kind="stable").drop(columns=["first", "rank"]).reset_index(drop=True)


def _way(rows: pd.DataFrame, subject: str) -> pd.DataFrame:
    """Lines of the baseline and of the subject after every stage."""
    return rows[(rows["recipe"] == "baseline") | rows["row"].str.startswith(f"{subject}, stage ")]


def steps(rows: pd.DataFrame, subject: str) -> pd.DataFrame:
    """What every stage adds to the AP of the student before it, a column for each seed; the first one to the baseline."""
    return by_seed(_way(rows, subject)).groupby("pair", sort=False).diff().drop(index="baseline", level="row", errors="ignore")


def added(page: PageSpec, rows: pd.DataFrame) -> Styler | HTML:
    """:func:`steps` in the mean over seeds, a line for each stage that is run."""
    found = steps(rows, page.subject)
    table = pd.DataFrame({"Δ": found.mean(axis="columns"), "seeds": found.count(axis="columns"), "95 %": over_seeds(found)})
    read = f"AP in percent, seed by seed, scale {page.scale}; intervals from the spread of all seeds of a student."
    return comparison.folded(page, table, table["seeds"] > 0, read, noun="stage", name="stages")


def figure(rows: pd.DataFrame, subject: str, teachers: pd.DataFrame) -> Figure:
    """AP of every row, the student's way through the stages as a line, and its teachers' own AP."""
    drawn, names = comparison.figure(rows), comparison.drawn_rows(rows)
    way = by_seed(_way(rows, subject)).mean(axis="columns").dropna()
    own = teachers[teachers["metric"] == "AP"].drop_duplicates(ROW).set_index(ROW)["value"]
    for ax, pair in zip(drawn.axes, dict.fromkeys(rows["pair"]), strict=False):
        known = way[way.index.get_level_values("pair") == pair].droplevel("pair")
        ax.plot(known, [names.index(row) for row in known.index], color=COLOURS["dfmsd"], linewidth=1.2, alpha=0.5, zorder=2)
        ax.set_title(ax.get_title(), fontsize=9, pad=18)
        reached = own[own.index.get_level_values("pair") == pair].droplevel("pair").dropna().sort_values()
        for ap in reached if len(known) else ():
            ax.axvline(ap, color="black", linewidth=0.8, linestyle=":", zorder=1)
        # Above the panel, from weak to strong; the title has the whole names.
        names_of = ", ".join(f"{str(name).split()[-1]} {number(ap)}" for name, ap in reached.items())
        ax.annotate(names_of, (1, 1), (0, 2), ha="right", va="bottom", xycoords="axes fraction", textcoords="offset points")
    return figures.described(drawn, f"{drawn.get_label()} {figures.alt('AP of the teachers', own)}")


def ends(rows: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """The detection loss in the first and in the last epoch of each row, or stage, the mean over points and seeds.

    Where a curve has its first point after the first epoch, that point counts.
    """
    first = curves.groupby([*ROW, "seed"])["epoch"].transform("min").clip(lower=curves["begin"] + 1)
    ours = rows[rows["source"] == "ours"].dropna(subset="end").drop_duplicates([*ROW, "seed"])
    table = ours.groupby(ROW, sort=False).agg(begin=("begin", "first"), end=("end", "first"))
    table["first epoch"] = curves[curves["epoch"] <= first].groupby(ROW)["loss"].mean()
    table["last epoch"] = curves[curves["epoch"] > curves["end"] - 1].groupby(ROW)["loss"].mean()
    table["seeds"] = ours[ours["value"].notna()].groupby(ROW)["seed"].nunique()
    table["seeds"] = table["seeds"].fillna(0)
    return table.astype({"begin": int, "end": int, "seeds": int})


def learning(rows: pd.DataFrame, curves: pd.DataFrame, subject: str) -> Figure:
    """The student's detection loss over its epochs, a panel for each pair: a line for each row and seed, all stages together."""
    one = f"{subject}, stage by stage"
    lines = curves.assign(line=curves["row"].mask(curves["row"].str.startswith(f"{subject}, stage "), one))
    lines["colour"] = lines["recipe"].str.split(JOIN, regex=False).str[0].map(COLOURS)
    palette = {str(line): str(colour) for line, colour in lines.drop_duplicates("line").set_index("line")["colour"].items()}
    # A row that its recipe alone does not name looks like the recipe, but dashed.
    named = lines.loc[(lines["recipe"] == "dfmsd") & (lines["line"] != one), "line"].unique()
    dashes = {line: (4, 2) if line in named else "" for line in palette}
    found, ours = ends(rows, curves), rows[rows["source"] == "ours"].dropna(subset="end")
    with figures.style():
        drawn, axes = figures.panels(dict.fromkeys(rows["pair"]), 2.6)
        for ax, (pair, own) in zip(axes, ours.groupby("pair", sort=False), strict=True):
            points, last = lines[lines["pair"] == pair], own["end"].max()
            look = {"hue": "line", "style": "line", "units": "key", "palette": palette, "dashes": dashes, "linewidth": 1.2}
            if len(points):
                sns.lineplot(points, x="epoch", y="loss", estimator=None, legend=False, ax=ax, **look)
            for begin in points.loc[points["begin"] > 0, "begin"].unique():
                ax.axvline(begin, color="#777777", linewidth=0.8)
            if missing := [row for row in own["row"].unique() if pd.isna(found.loc[(pair, row), "last epoch"])]:
                words = "\n".join(["not run:", *missing])
                ax.text(0.98, 0.97, words, transform=ax.transAxes, ha="right", va="top", **MISSING | {"fontsize": 7})
            ax.set(xlabel="", ylabel="", xticks=sorted({0, *own["end"]}), xlim=(-0.04 * last, 1.04 * last))
        handles = [Line2D([], [], color=palette[one], linestyle="--" if one in named else "-", label=one) for one in palette]
        drawn.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False, fontsize=8)
        drawn.supxlabel("epochs of training, all stages together", fontsize=10)
        scale = rows["scale"].iloc[0]
        drawn.supylabel(f"detection loss, scale {scale}", fontsize=10)
    epochs = found[["first epoch", "last epoch"]].map("{:.2f}".format).agg(" to ".join, axis="columns")
    title = f"Detection loss of the student over the epochs at scale {scale}, first and last epoch of each row"
    return figures.described(drawn, figures.alt(title, epochs.where(found["last epoch"].notna()), str))
