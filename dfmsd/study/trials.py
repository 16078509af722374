"""Which share of the detection loss is the best of a method's trials, and which methods their trials have not settled."""

from __future__ import annotations

import math

import pandas as pd

from dfmsd.study import frames, pages, scales
from dfmsd.study.pages.tuning import TuningPage
from dfmsd.study.rows import JOIN, Row

BESIDE = {"dfmsd": ("dmkd",)}
"""Methods whose weights are partly those of others: DFMSD's reconstruction is DMKD's."""


def gains(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean over the pairs of AP minus the pair's baseline: a row for each method, a column for each share.

    A share that lacks one of the pairs' trials, or a baseline, has no mean.
    """
    trials = frame[(frame["metric"] == "AP") & (frame["source"] == "ours")]
    alone = trials[trials["share"].isna()].set_index("pair")["value"]
    tried = trials[trials["share"].notna()]
    tried = tried.assign(gain=tried["value"] - tried["pair"].map(alone))
    means = tried.groupby(["row", "share"], sort=False)["gain"].agg(lambda values: values.mean(skipna=False))
    return means.unstack("share").reindex(tried["row"].drop_duplicates()).sort_index(axis="columns")


def in_use(page: TuningPage) -> dict[str, float]:
    """The share that the scale gives each method or variant of a page, where it gives one."""
    scale = scales.get(page.scale)
    given = scale.methods | scale.variants
    tried = {name: one for name, one in page.methods.items() if name in given and not page.departures(name)}
    return {name: sum(given[name][weight] for weight in one.weights) for name, one in tried.items()}


def chosen(frame: pd.DataFrame, page: TuningPage) -> pd.DataFrame:
    """For each method the share with the best mean gain, whether it lies at the edge of the shares tried, and the one in use."""
    used = in_use(page)
    means, names = gains(frame), frame.dropna(subset="share").drop_duplicates("row").set_index("row")["recipe"]
    lines = {}
    for row, line in zip(means.index, means.to_dict("records"), strict=True):
        name = str(names[row])
        own = {share: float(line.get(share, float("nan"))) for share in page.grid(name)}
        # A best of some trials only is none.
        best = None if any(map(math.isnan, own.values())) else max(own, key=own.__getitem__)
        edge = "" if best is None else {min(own): "the smallest", max(own): "the largest"}.get(best, "")
        taken = used.get(name)
        note = "not the best" if None not in (best, taken) and best != taken else ""
        lines[row] = {
            "best": best,
            "Δ": None if best is None else own[best],
            "at the edge": edge and f"{edge} share tried: a better one may lie beyond",
            "in use": taken,
            "note": note if taken is None or taken in own else "not among those of the trials",
        }
    return pd.DataFrame.from_dict(lines, orient="index").astype({"best": float, "Δ": float, "in use": float})


def unsettled(scale: str) -> dict[str, str]:
    """Why the trials at a scale have not settled the share of a method or a variant, by name: some are missing, or another won."""
    found = {}
    for page in (pages.get(name, scale=scale) for name in pages.names()):
        if isinstance(page, TuningPage):
            frame = frames.frame(page)
            best, apart = chosen(frame, page), set(frame.loc[frame["state"] == "other training", "recipe"])
            for name, (label, line) in zip(page.methods, best.iterrows(), strict=True):
                if math.isnan(line["best"]):
                    apart_too = ", or left out, whose records must be deleted first" if apart & {name, "baseline"} else ""
                    found[name] = f"{label} has trials without a record{apart_too}: `{page.command()}` makes them"
                elif line["note"]:
                    found[name] = f"{label}'s best share in its trials is {line['best']:g}: set it in params/scales.yaml"
    return found


def needed(row: Row, *, trial: bool) -> list[str]:
    """The methods and variants whose trials must be settled before a row, or a trial, is trained."""
    parts = [] if row.recipe == "baseline" else row.recipe.split(JOIN)
    own = [] if trial else [row.options.variant or part for part in parts]
    return [*own, *(name for part in parts for name in BESIDE.get(part, ()))]
