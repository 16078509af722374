"""What became of the papers' claims: every verdict counted, drawn and listed; how much of DFMSD's gain is length of training."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from dfmsd.report import comparison, figures
from dfmsd.report.tables import verdict
from dfmsd.study.rows import LABELS

OUTCOMES = {
    "holds": "#0072B2",
    "undecided, points to holds": "#A6D0EC",
    "undecided, points to fails": "#F7C9A4",
    "fails": "#D55E00",
    "not run": "#FFFFFF",
}
"""What can become of a claim, and its colour: Okabe and Ito's blue and vermilion, lighter where nothing is decided."""

WHOSE = {False: "the papers' claims", True: "comparisons of ours"}

CONTROLS = ("baseline", "longer_baseline", "equal_budget")
"""What DFMSD is set against, as recipes: the baseline with one stage's epochs, then what trains for those of all stages."""


def outcomes(judged: pd.DataFrame) -> pd.Series[str]:
    """What became of each claim of :func:`dfmsd.study.claims.judged`: one of :data:`OUTCOMES`."""
    return pd.Series(map(verdict, judged["verdict"], judged["points_to"]), index=judged.index, dtype=object)


def counts(judged: pd.DataFrame, by: pd.Series[str]) -> pd.DataFrame:
    """How often each of :data:`OUTCOMES` came out, a line for each value of ``by`` in the order of the claims."""
    table = pd.crosstab(by, outcomes(judged)).reindex(index=list(dict.fromkeys(by)), columns=list(OUTCOMES), fill_value=0)
    return table.rename_axis(index=None, columns=None)


def figure(counted: pd.DataFrame, scale: str) -> Figure:
    """What :func:`counts` gives, as bars of one line each."""
    with figures.style(), sns.axes_style("white", {"font.size": 9, "hatch.linewidth": 0.6}):
        drawn = Figure(figsize=(8.2, 0.9 + 0.27 * len(counted)), layout="constrained")
        ax = drawn.subplots()
        counted.plot.barh(
            stacked=True, ax=ax, color=list(OUTCOMES.values()), edgecolor="#777777", linewidth=0.6, width=0.8, legend=False
        )
        for outcome, bars in zip(OUTCOMES, ax.containers, strict=True):
            for bar in bars:
                bar.set(hatch="////" if outcome.startswith("undecided") else None, linewidth=0.6 if bar.get_width() else 0)
            inside = "white" if outcome in ("holds", "fails") else "black"
            ax.bar_label(bars, [n or "" for n in counted[outcome]], label_type="center", color=inside, fontsize=8)  # type: ignore[arg-type]
        ax.invert_yaxis()
        ax.margins(y=0.01)
        ax.xaxis.set_visible(False)
        ax.tick_params(length=0)
        sns.despine(ax=ax, bottom=True, left=True)
        legend = drawn.legend(loc="outside upper center", ncols=len(OUTCOMES), frameon=False, fontsize=8, columnspacing=1.2)
        for patch in legend.get_patches():
            patch.set_linewidth(0.6)  # each has that of its first bar, which may be nothing
        drawn.supxlabel(f"claims, scale {scale}", fontsize=9)
    said = counted.apply(lambda line: ", ".join(f"{n} {outcome}" for outcome, n in line.items() if n), axis="columns")
    return figures.described(drawn, figures.alt(f"What became of claims at scale {scale}", said, str))


def board(judged: pd.DataFrame) -> pd.DataFrame:
    """Every claim with the paper's numbers, and the verdict and the numbers at each scale, by section and words of the claim."""
    own = judged.assign(verdict=outcomes(judged) + judged["stale"].map({True: ", stale", False: ""}))
    contradicts = own["paper_supports"].map({False: ", contradicts"}).fillna("")
    own["paper"] = (own["paper_numbers"] + contradicts).mask(own["ours"], "ours")
    index = ["section", "text"]
    found = {("paper", "numbers"): own.drop_duplicates("id").set_index(index)["paper"]}
    for scale, lines in own.groupby("scale", sort=False):
        for column in ("verdict", "numbers"):
            found[str(scale), column] = lines.set_index(index)[column]
    return pd.DataFrame(found).reindex(pd.MultiIndex.from_frame(own[index].drop_duplicates()))


def coloured(label: object) -> str:
    """The colour of a cell with a verdict, as a style."""
    colour = OUTCOMES.get(str(label).removesuffix(", stale"))
    return f"box-shadow: inset 0.4em 0 {colour}; padding-left: 0.8em !important" if colour else ""


def length(frame: pd.DataFrame, subject: str = LABELS["dfmsd"]) -> pd.DataFrame:
    """How much of the subject's gain is length of training: its student is trained once in every stage, the baseline once in all.

    Returns:
        :func:`dfmsd.report.comparison.against` each of :data:`CONTROLS`, over the pairs in which it and all of them have been run.
    """
    names = [*(LABELS[control] for control in CONTROLS), subject]
    ours = frame[(frame["source"] == "ours") & (frame["metric"] == "AP") & (frame["role"] == "row") & frame["row"].isin(names)]
    ours = ours.drop_duplicates([*comparison.ROW, "seed"])
    shared = -comparison.gains(comparison.by_seed(ours), subject)
    run = shared.notna().any(axis="columns").groupby("pair").sum() == len(CONTROLS)
    return comparison.against(ours[ours["pair"].isin(run[run].index)], subject).reindex(names[:-1])
