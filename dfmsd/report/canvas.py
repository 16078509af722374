"""Panels, images and heat maps: what figures of features are drawn with; means over images."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from torch import Tensor

from dfmsd.study import stats

Array = NDArray[Any]

DIM = 0.15
"""Brightness that is left where an image is covered."""

DECIMALS = 9
"""That means have: what is smaller is rounding."""

PANEL = 2.3
"""Side of a panel in inches."""


def pixels(kept: Mapping[str, Any]) -> Tensor:
    """The image of a record, see :func:`dfmsd.report.images.kept`: ``(3, H, W)`` as ever; grey where the record has no pixels."""
    return unpacked(kept["jpeg"]) if kept["jpeg"] else torch.full((3, *kept["size"]), 127.0)


def unpacked(jpeg: str) -> Tensor:
    """What :func:`dfmsd.report.images.jpeg` has packed: ``(3, H, W)``, blue, green, red in [0, 255]."""
    return torch.from_numpy(decoded(jpeg)).permute(2, 0, 1).float()


def decoded(jpeg: str) -> Array:
    """A JPEG in base 64: ``(H, W, 3)``, blue, green, red in [0, 255]."""
    found = cv2.imdecode(np.frombuffer(base64.b64decode(jpeg), np.uint8), cv2.IMREAD_COLOR)
    assert found is not None
    return found


def means(frame: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Means over images with 95 % t intervals, by these columns; a line over all images keeps its own.

    Returns:
        ``value, low, high`` and the number of ``images``; what has no number is left out.
    """
    found = {}
    for key, own in frame.dropna(subset="value").groupby(by, sort=False, dropna=False):
        whole = own.iloc[0][["value", "low", "high"]].tolist()
        if own["image"].notna().all():
            estimate = stats.estimate(dict(zip(own["image"].tolist(), own["value"].tolist(), strict=True)))
            whole = [estimate.mean, *(estimate.interval or (np.nan, np.nan))]
        found[key] = [*whole, own["image"].nunique() or None]
    index = pd.MultiIndex.from_tuples(list(found), names=by)
    table = pd.DataFrame(list(found.values()), index, ["value", "low", "high", "images"]).round(DECIMALS) + 0  # no negative zero
    return table.astype({"images": "Int64"})


def displayed(image: Tensor) -> Array:
    """An image for matplotlib: ``(3, H, W)``, blue, green, red in [0, 255] -> ``(H, W, 3)``, red, green, blue in [0, 1]."""
    return image.flip(0).permute(1, 2, 0).numpy() / 255.0


def covered(image: Tensor, hidden: Tensor, stride: int) -> Array:
    """An image ``(3, H, W)``, dark where a mask ``(1, 1, h, w)`` hides it; see :func:`displayed`.

    A cell of the mask covers ``stride`` x ``stride`` pixels; those beyond the image pad it.
    """
    shown = displayed(image)
    mask = hidden[0, 0].repeat_interleave(stride, 0).repeat_interleave(stride, 1)[: shown.shape[0], : shown.shape[1]]
    return np.where(mask.numpy()[..., None], DIM * shown, shown)


def grid(rows: int, columns: int, widths: Sequence[float] | None = None) -> tuple[Figure, Array]:
    """A figure with its square panels ``(rows, columns)``; ``widths`` of the columns are relative to a panel's side."""
    size = PANEL * sum(widths or [1.0] * columns), PANEL * rows + 0.3
    figure, axes = plt.subplots(rows, columns, figsize=size, width_ratios=widths, squeeze=False, layout="constrained")
    plt.close(figure)
    return figure, axes


def draw_image(axis: Axes, shown: Array, title: str = "", *, boxes: Iterable[Any] | None = None) -> None:
    """An image ``(H, W, 3)`` with boxes ``(n, 4)`` as x1, y1, x2, y2 in pixels."""
    draw_map(axis, shown, title)
    for x1, y1, x2, y2 in () if boxes is None else boxes:
        axis.add_patch(Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, edgecolor="white", linewidth=1.2))


def draw_map(
    axis: Axes,
    values: Array | Tensor,
    title: str = "",
    *,
    limits: tuple[float, float] | None = None,
    colours: str = "viridis",
    bar: str | None = None,
) -> Any:
    """A heat map ``(H, W)``; returns what a bar for several maps needs.

    mmengine's ``Visualizer.draw_featmap`` smooths cells, and its colours make edges that are not there.

    Args:
        axis: Where it is drawn.
        values: From their lowest to their highest, unless there are ``limits``.
        title: Above it.
        limits: Of the colours.
        colours: Their name in matplotlib.
        bar: What a bar of the colours says; none without.
    """
    low, high = limits or (None, None)
    shades = axis.imshow(np.asarray(values), cmap=colours, vmin=low, vmax=high, interpolation="none")
    axis.set(xticks=[], yticks=[], title=title)
    axis.spines[:].set_visible(False)
    if bar is not None:
        axis.figure.colorbar(shades, ax=axis, label=bar, location="bottom", shrink=0.8, panchor=False)
    return shades
