"""Trials of shares over several pairs: what each share gains on average, and which is the best."""

from __future__ import annotations

import math

import pandas as pd

from dfmsd.report.tables import plain, signed
from dfmsd.study.pages import TuningPage


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


def chosen(frame: pd.DataFrame, page: TuningPage, used: dict[str, float]) -> pd.DataFrame:
    """For each method the share with the best mean gain, whether it lies at the edge of the shares tried, and the one in use.

    ``used`` has the share that the scale gives a method or a variant, where it gives one.
    """
    means, names = gains(frame), frame.dropna(subset="share").drop_duplicates("row").set_index("row")["recipe"]
    lines = {}
    for row, line in zip(means.index, means.to_dict("records"), strict=True):
        name = str(names[row])
        own = {share: float(line.get(share, float("nan"))) for share in page.grid(name)}
        # A best of some trials only is none.
        best = None if any(map(math.isnan, own.values())) else max(own, key=own.__getitem__)
        edge = "" if best is None else {min(own): "the smallest", max(own): "the largest"}.get(best, "")
        taken = used.get(name)
        lines[row] = {
            "best": best,
            "Δ": None if best is None else own[best],
            "at the edge": edge and f"{edge} share tried: a better one may lie beyond",
            "in use": taken,
            "note": "not the best" if None not in (best, taken) and best != taken else "",
        }
    return pd.DataFrame.from_dict(lines, orient="index").astype({"best": float, "Δ": float, "in use": float})


def said(found: pd.DataFrame) -> str:
    """The best share of every method, as :func:`chosen` gives it, as Markdown; empty while none is known."""
    lines = []
    for row, one in found.dropna(subset="best").iterrows():
        said = f"- {plain(str(row))} gains most at a share of {one['best']:g}: {signed(one['Δ'])} AP."
        edge, note = one["at the edge"], one["note"]
        lines.append(said + f" It is {edge}." * bool(edge) + f" The share in use is {note}." * bool(note))
    return "\n".join(lines)
