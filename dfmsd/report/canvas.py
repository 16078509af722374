"""Panels, images and heat maps: what figures of features are drawn with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from torch import Tensor

from dfmsd.report.dataset import PALETTE

Array = NDArray[Any]

DIM = 0.15
"""Brightness that is left where an image is covered."""

PANEL = 2.3
"""Side of a panel in inches."""

WIDE = 1.15
"""Width of a panel that may have a colour bar beside it, relative to its side."""


def energy(feat: Tensor) -> Array:
    """The mean magnitude over the channels of one map, ``(1, C, H, W)`` -> ``(H, W)``.

    Example:
        >>> import torch
        >>> energy(torch.tensor([[[[1.0, -2.0]], [[3.0, 0.0]]]])).tolist()
        [[2.0, 1.0]]
    """
    return feat[0].abs().mean(dim=0).numpy()


def displayed(image: Tensor) -> Array:
    """An image for matplotlib: ``(3, H, W)``, blue-green-red in [0, 255] -> ``(H, W, 3)``, red-green-blue in [0, 1]."""
    return image.flip(0).permute(1, 2, 0).numpy() / 255.0


def covered(image: Tensor, hidden: Tensor, stride: int) -> Array:
    """An image, dark where a mask hides it.

    Args:
        image: ``(3, H, W)``, blue-green-red in [0, 255].
        hidden: ``(1, 1, h, w)``, True where hidden; a cell covers ``stride`` x ``stride`` pixels, those beyond the image pad it.
        stride: In pixels.

    Returns:
        ``(H, W, 3)``, red-green-blue in [0, 1].
    """
    pixels = displayed(image)
    mask = hidden[0, 0].repeat_interleave(stride, 0).repeat_interleave(stride, 1)[: pixels.shape[0], : pixels.shape[1]]
    return np.where(mask.numpy()[..., None], DIM * pixels, pixels)


def grid(rows: int, columns: int, widths: Sequence[float] | None = None) -> tuple[Figure, Array]:
    """A figure with its axes, ``(rows, columns)``.

    Args:
        rows: Of square panels.
        columns: Of panels.
        widths: Of the columns, relative to a panel's side.
    """
    size = PANEL * sum(widths or [1.0] * columns), PANEL * rows + 0.3
    figure, axes = plt.subplots(rows, columns, figsize=size, width_ratios=widths, squeeze=False, layout="constrained")
    plt.close(figure)
    return figure, axes


def mosaic(layout: str) -> tuple[Figure, list[Axes]]:
    """A figure with panels of more than one size.

    Args:
        layout: A letter a cell and ``;`` between rows: ``"ABC;DEE"`` has three panels above two, the last twice as wide.

    Returns:
        The figure, and its axes in the order of their letters.
    """
    rows = layout.split(";")
    size = WIDE * PANEL * len(rows[0]), PANEL * len(rows) + 0.3
    figure, axes = plt.subplot_mosaic(layout, figsize=size, layout="constrained")
    plt.close(figure)
    return figure, [axes[letter] for letter in sorted(axes)]


def draw_image(axis: Axes, pixels: Array, title: str = "", *, boxes: Tensor | None = None) -> None:
    """An image from :func:`displayed` or :func:`covered`, with boxes ``(n, 4)`` as x1, y1, x2, y2 in pixels."""
    axis.imshow(pixels, interpolation="none")
    _bare(axis, title)
    for x1, y1, x2, y2 in () if boxes is None else boxes.tolist():
        axis.add_patch(Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, edgecolor="white", linewidth=1.2))


def draw_map(
    axis: Axes, values: Array, title: str = "", *, limits: tuple[float, float] | None = None, colours: str = "viridis"
) -> Any:
    """A heat map ``(H, W)``, from its own lowest to its own highest value or between limits; returns what a colour bar needs."""
    low, high = limits or (None, None)
    shades = axis.imshow(values, cmap=colours, vmin=low, vmax=high, interpolation="none")
    _bare(axis, title)
    return shades


def draw_channels(axis: Axes, attention: Tensor, hidden: Tensor) -> None:
    """Channels from high attention to low, with the hidden ones in another colour; both arguments are ``(C,)``."""
    order = attention.argsort(descending=True)
    kept, out = sns.color_palette(PALETTE)[:2]
    places = np.arange(len(order))
    for chosen, colour, label in ((hidden[order], out, "hidden"), (~hidden[order], kept, "kept")):
        if chosen.any():
            axis.bar(places[chosen.numpy()], attention[order][chosen].numpy(), color=colour, width=1.0, label=label)
    axis.set(title="channel attention", xlabel="channel, in order of attention", ylabel="1 = mean", yscale="log")
    axis.legend(frameon=False)
    sns.despine(ax=axis)


def _bare(axis: Axes, title: str) -> None:
    axis.set(xticks=[], yticks=[], title=title)
    axis.spines[:].set_visible(False)
