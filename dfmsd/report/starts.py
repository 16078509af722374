"""Starts: what pretrained backbones have learnt, and the crops that they learn from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dfmsd.report import canvas, figures
from dfmsd.report.figures import MISSING, PALETTE
from dfmsd.study import data, records
from dfmsd.study.pages.scale import StartsPage

IMAGES = 48
"""Validation images that the crops of the mosaic are cut from: the first ones of the set."""


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """Each start by the networks that begin with it: its accuracy on crops of other images, overall and of the hardest class."""
    lines = {}
    for networks, own in frame.groupby("networks", sort=False):
        values = own.set_index("metric")["value"].dropna()
        classes = values[values.index.str.startswith("accuracy ")]
        worst = f"{str(classes.idxmin()).removeprefix('accuracy ')}, {classes.min():.1f}" if len(classes) else None
        lines[networks] = {
            "backbone": own["row"].iloc[0].removeprefix("start of a "),
            "accuracy": values.get("accuracy"),
            "hardest class": worst,
            "state": ", ".join([own["state"].iloc[0], *["stale"] * bool(own["stale"].any())]),
        }
    return pd.DataFrame.from_dict(lines, orient="index")


def learnt(table: pd.DataFrame) -> str:
    """How well starts tell crops apart, in words, from :func:`table`; nothing where none is run."""
    known = table["accuracy"].dropna().astype(float) if len(table) else pd.Series(dtype=float)
    if known.empty:
        return ""
    lowest = str(known.idxmin()).split(", ")[0]
    said = f"The start of {lowest} tells {known.min():.1f} % of the crops of other images right"
    return f"{said}, the best start {known.max():.1f} %." if len(known) > 1 else f"{said}."


def keys(frame: pd.DataFrame) -> pd.Series[Any]:
    """The key of the record behind each accuracy."""
    found = frame[(frame["metric"] == "accuracy") & frame["value"].notna()]
    return found.set_index("networks")["key"].rename("accuracy")


def learning(page: StartsPage) -> Figure:
    """The loss of each start over its epochs."""
    last: dict[str, float] = {}
    colours = sns.color_palette(PALETTE, max(1, len(page.starts)))
    with figures.style():
        drawn = Figure(figsize=(6.5, 3.2), layout="constrained")
        ax = drawn.subplots()
        for place, ((start, networks), colour) in enumerate(zip(page.starts, colours, strict=False)):
            name = f"{start.name.removeprefix('start of a ')} ({len(networks)} network{'s' * (len(networks) != 1)})"
            label, number = name, 2
            while label in last:
                label, number = f"{name}, {number}", number + 1
            record = records.result(start.key)
            last[label] = record.curve[-1]["loss"] if record else float("nan")
            if record is None:
                ax.text(0.98, 0.95 - 0.09 * place, f"not run: {label}", transform=ax.transAxes, ha="right", va="top", **MISSING)
                continue
            steps = [point["iteration"] / record.curve[-1]["iteration"] * start.epochs for point in record.curve]
            ax.plot(steps, [point["loss"] for point in record.curve], color=colour, label=label)
        ax.set(xlabel="epoch", ylabel=f"cross-entropy, scale {page.scale}")
        if ax.lines:
            ax.set_ylim(0, None)
            ax.legend(frameon=False, fontsize=8)
    words = f"Loss of each start over its epochs at scale {page.scale}, with its last value"
    return figures.described(drawn, figures.alt(words, pd.Series(last, dtype=float), "{:.2f}".format))


def crops(page: StartsPage) -> dict[str, list[NDArray[np.uint8]]]:
    """Some crops of each class as a start sees them, red, green, blue, from the first validation images of its set."""
    from dfmsd.study.start import crops as cut

    if not page.starts:
        return {}
    start = page.starts[0][0]
    # An image depends on its place in the set, not on the size of the set.
    few = start.data.model_copy(update={"train": 1, "val": min(IMAGES, start.data.val), "tune": 0})
    root = data.ensure(few, progress=False)
    pixels, classes = cut(root.val, start.crop, start.seed)
    return {
        name: [crop[..., ::-1] for crop in pixels[classes == label][: page.crops]]
        for label, name in enumerate((*root.classes, "background"))
    }


def mosaic(shown: dict[str, list[NDArray[np.uint8]]], scale: str) -> Figure:
    """The crops, a row for each class."""
    count = max(map(len, shown.values()), default=1)
    drawn, axes = canvas.grid(max(1, len(shown)), max(1, count))
    drawn.set_size_inches(0.9 + 0.75 * count, 0.1 + 0.75 * max(1, len(shown)))
    for line in axes:
        for ax in line:
            ax.set_axis_off()
    for line, (name, own) in zip(axes, shown.items(), strict=False):
        for ax, crop in zip(line, own, strict=False):
            ax.imshow(crop)
        line[0].text(-0.08, 0.5, name, transform=line[0].transAxes, ha="right", va="center", fontsize=8)
    words = f"Crops from which the starts of scale {scale} learn to tell classes apart, a row for each class, with their number"
    return figures.described(drawn, figures.alt(words, pd.Series({name: len(own) for name, own in shown.items()}), str))
