"""What a page of trials shows: every trial, on the split and with the seed that no table uses."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from IPython.display import Markdown
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from dfmsd import records, scales
from dfmsd.pages import LABELS, TuningPage
from dfmsd.report.figures import COLOURS, Picture


def trials(page: TuningPage) -> pd.DataFrame:
    """A line for each trial: ``recipe``, ``share`` of the detection loss, ``AP`` in percent or missing if not run, and ``key``."""
    lines = []
    for entry in page.entries():
        record = records.result(entry.runs[-1].key)
        share = sum(entry.row.options.hyper[weight] for weight in page.methods.get(entry.row.recipe, ()))
        ap = None if record is None else record.metrics["AP"]
        lines.append({"recipe": entry.row.recipe, "share": share, "AP": ap, "key": entry.runs[-1].key})
    return pd.DataFrame(lines).astype({"AP": float})


def table(page: TuningPage) -> Styler:
    """AP of each method (lines) with each share (columns); the best of each line is bold, the baseline has no share."""
    found = trials(page)
    wide = found.pivot(index="recipe", columns="share", values="AP").rename(index=LABELS)
    wide = wide.rename(columns=lambda share: f"{share:g}" if share else "none")
    wide.index.name, wide.columns.name = "method", "share of the detection loss"
    return wide.style.format("{:.1f}", na_rep="–").highlight_max(axis="columns", props="font-weight: bold").set_uuid("trials")


def notes(page: TuningPage) -> Markdown:
    """What is particular to the page's trials."""
    return Markdown(page.notes)


def chosen(page: TuningPage) -> Styler | Markdown:
    """What ``params/scales.yaml`` took from the page's trials: nothing of a method that is used otherwise than it was tried."""
    weighed = scales.get(page.scale).methods
    departures = {method: page.departures(method) for method in page.methods}
    found = trials(page).set_index(["recipe", "share"])["AP"]
    lines = {}
    for method, names in page.methods.items():
        if method in weighed and not departures[method]:
            share = sum(weighed[method][name] for name in names)
            own = {name: weighed[method][name] for name in names}
            lines[LABELS[method]] = {"share": share, "AP": found.get((method, share))} | own
    if not lines:
        otherwise = [f"{LABELS[method]} with another `{'`, `'.join(fields)}`" for method, fields in departures.items() if fields]
        return Markdown(f"Nothing: the scale {page.scale} uses {', '.join(otherwise) or 'the weights of the papers'}.")
    frame = pd.DataFrame(lines).T.astype(float)
    return frame.style.format("{:g}", na_rep="–").format("{:.1f}", subset=["AP"], na_rep="–").set_uuid("chosen")


def figure(page: TuningPage) -> Picture:
    """AP against share, a line for each method, and the baseline."""
    found = trials(page)
    baseline = found.loc[found.recipe == "baseline", "AP"].iloc[0]
    distilled = found[found.recipe != "baseline"]
    with sns.axes_style("whitegrid"):
        drawing = Figure(figsize=(5.5, 3.2), layout="constrained")
        ax = drawing.subplots()
        sns.lineplot(distilled, x="share", y="AP", hue="recipe", palette=COLOURS, marker="o", ax=ax)
        ax.axhline(baseline, color=COLOURS["baseline"], linestyle="--", label="baseline")
        ax.set_xscale("log", base=2)
        ax.set_xticks(page.shares, [f"{share:g}" for share in page.shares])
        ax.set_xlabel("share of the detection loss")
        ax.set_ylabel("AP in percent, tuning split")
        handles, names = ax.get_legend_handles_labels()
        ax.legend(handles, [LABELS[name] for name in names])
    best = distilled.dropna().sort_values("AP").groupby("recipe").last()
    words = ", ".join(f"{LABELS[name]} {row.AP:.1f} at {row.share:g}" for name, row in best.iterrows())
    return Picture.of(drawing, f"AP against the share of each method; baseline {baseline:.1f}; best: {words}.")
