"""What a page of trials shows: every trial, on the split and with the seed that no table uses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from IPython.display import Markdown
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from dfmsd.report.figures import COLOURS, Picture
from dfmsd.report.tables import NONE, STALE, number, record_link, stale_mark, styled
from dfmsd.study import records, scales
from dfmsd.study.pages import LABELS, TuningPage


def label(name: object) -> str:
    """What a reader calls a method; a variant has no other name."""
    return str(LABELS.get(str(name), name))


def trials(page: TuningPage) -> pd.DataFrame:
    """A line for each trial.

    Columns: ``recipe`` or variant, ``share`` of the detection loss, ``AP`` in percent or missing if not run, ``key``, ``stale``.
    """
    lines = []
    for entry in page.entries():
        run = entry.runs[-1]
        record = records.result(run.key)
        name = entry.row.name or entry.row.recipe
        share = sum(entry.row.options.hyper[weight] for weight in page.methods[name].weights) if name in page.methods else 0.0
        ap = None if record is None else record.metrics["AP"]
        stale = record is not None and records.is_stale(record, run)
        lines.append({"recipe": name, "share": share, "AP": ap, "key": run.key, "stale": stale})
    return pd.DataFrame(lines).astype({"AP": float})


def table(page: TuningPage) -> Styler:
    """AP of each method (lines) with each share (columns); the best of each line is bold, the baseline has no share."""
    found = trials(page)
    found["shown"] = [
        NONE if np.isnan(ap) else record_link(key, number(ap)) + stale_mark(stale=stale)
        for ap, key, stale in zip(found["AP"], found["key"], found["stale"], strict=True)
    ]
    order = list(dict.fromkeys(found["recipe"]))
    aps = found.pivot(index="recipe", columns="share", values="AP").loc[order]
    best = aps.eq(aps.max(axis="columns"), axis="index")
    wide = found.pivot(index="recipe", columns="share", values="shown").loc[order].fillna(NONE)
    caption = f"AP in percent on the split tune, scale {page.scale}, by share of the detection loss; each leads to its record."
    styler = styled(_named(wide), "trials", caption)
    return styler.apply(lambda _: _named(best.replace({True: "font-weight: bold", False: ""})), axis=None)


def _named(wide: pd.DataFrame) -> pd.DataFrame:
    shares = wide.rename(columns=lambda share: f"{share:g}" if share else "none")
    return shares.rename(index=label).rename_axis(index=None, columns=None)


def notes(page: TuningPage) -> Markdown:
    """What is particular to the page's trials."""
    return Markdown(page.notes)


def chosen(page: TuningPage) -> Styler | Markdown:
    """What ``params/scales.yaml`` took from the page's trials: nothing of a method that is used otherwise than it was tried."""
    scale = scales.get(page.scale)
    weighed = scale.methods | scale.variants
    departures = {method: page.departures(method) for method in page.methods}
    found = trials(page).set_index(["recipe", "share"])["AP"]
    lines = {}
    for method, tried in page.methods.items():
        if method in weighed and not departures[method]:
            share = sum(weighed[method][name] for name in tried.weights)
            own = {name: weighed[method][name] for name in tried.weights}
            lines[label(method)] = {"share": share, "AP": found.get((method, share))} | own
    if not lines:
        otherwise = [f"{label(method)} with another `{'`, `'.join(fields)}`" for method, fields in departures.items() if fields]
        return Markdown(f"Nothing: the scale {page.scale} uses {', '.join(otherwise) or 'the weights of the papers'}.")
    frame = pd.DataFrame(lines).T.astype(float)
    caption = f"Scale {page.scale}. AP in percent on the split tune. {NONE}: the method has no such weight."
    if edges := [name for name, line in lines.items() if line["share"] in (min(page.shares), max(page.shares))]:
        caption += f" Of {', '.join(edges)} the best share is the smallest or the largest that was tried: one beyond may be better."
    return styled(frame, "chosen", caption).format("{:g}", na_rep=NONE).format("{:.1f}", subset=["AP"], na_rep=NONE)


def figure(page: TuningPage) -> Picture:
    """AP against share, a line for each method, and the baseline."""
    found = trials(page)
    baseline = found.loc[found.recipe == "baseline", "AP"].iloc[0]
    distilled = found[found.recipe != "baseline"]
    palette = {name: COLOURS[tried.variant_of or name] for name, tried in page.methods.items()}
    variants = any(tried.variant_of for tried in page.methods.values())
    looks: dict[str, Any] = {"style": "recipe", "markers": True} if variants else {"marker": "o"}
    with sns.axes_style("whitegrid"):
        drawing = Figure(figsize=(6.5, 3.2), layout="constrained")
        ax = drawing.subplots()
        ax.set_xscale("log", base=2)
        ax.set_xlim(min(page.shares) / 1.2, max(page.shares) * 1.2)  # there may be no trial yet
        sns.lineplot(distilled, x="share", y="AP", hue="recipe", palette=palette, ax=ax, **looks)
        stale = distilled[distilled["stale"]]
        ax.scatter(stale["share"], stale["AP"], s=20, color="white", edgecolors=stale["recipe"].map(palette).tolist(), zorder=4)
        ax.axhline(baseline, color=COLOURS["baseline"], linestyle="--", label="baseline")
        ax.set_xticks(page.shares, [f"{share:g}" for share in page.shares])
        note = f"; hollow: {STALE}" if len(stale) else ""
        ax.set_xlabel(f"share of the detection loss, scale {page.scale}{note}")
        ax.set_ylabel("AP in percent, tuning split")
        handles, names = ax.get_legend_handles_labels()
        ax.legend().remove()
        drawing.legend(handles, [label(name) for name in names], loc="outside right upper", frameon=False)
    best = distilled.dropna().sort_values("AP").groupby("recipe").last()
    words = ", ".join(f"{label(name)} {row.AP:.1f} at {row.share:g}{f' ({STALE})' * row.stale}" for name, row in best.iterrows())
    reached = "not run" if np.isnan(baseline) else number(baseline)
    return Picture.of(drawing, f"AP against the share of each method; baseline {reached}; best: {words or 'no trial is run'}.")
