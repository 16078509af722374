"""Drawings of what was read off trained networks, from its record alone."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from functools import cache

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from torch import Tensor

from dfmsd.losses import top_mask
from dfmsd.report.canvas import PANEL, covered, displayed, draw_image, draw_map, grid
from dfmsd.report.dataset import PALETTE
from dfmsd.report.figures import COLOURS, Picture
from dfmsd.report.likeness import Array, centres
from dfmsd.study import stats
from dfmsd.study.measured import Interval, Observation, Shown, rounded
from dfmsd.study.pages import FeaturesPage
from dfmsd.study.rows import JOIN

TEACHER = "#000000"
FILL = "#CCCCCC"
"""Of the teacher's distribution."""

PALE = 0.6
"""How far the first of several networks of one recipe goes to white; the last has the recipe's own colour."""

MARKERS = "osD^vP*"
LINES = ("-", "--", ":", "-.")

TITLES = {
    "maps": ("where features are large", "correlation of the maps"),
    "masks": ("what masks hide", "share that both hide"),
    "objects": ("objects and background", "area under the ROC curve"),
    "channels": ("channel by channel", "correlation"),
    "aligned": ("after the best 1 × 1 convolution", "correlation, other images"),
}
"""Title and axis of each measure."""

MEASURES: Mapping[str, tuple[str, ...]] = {
    "masks": ("maps", "masks", "objects"),
    "stages": ("maps", "objects"),
    "distribution": ("channels", "aligned", "maps"),
}
"""What a page of each view compares by."""

Series = dict[int, Interval]
"""A number by stride."""


def draw(page: FeaturesPage, seen: Observation) -> Picture:
    """What the page's networks make of its images, or how their values are distributed."""
    with mpl.rc_context({"font.size": 9}):
        return {"masks": _masks, "stages": _stages, "distribution": _distribution}[page.view](page, seen)


def _masks(page: FeaturesPage, seen: Observation) -> Picture:
    figure, axes = grid(2 * len(seen.shown), 1 + len(seen.networks))
    for place, shown in enumerate(seen.shown):
        above, below = axes[2 * place], axes[2 * place + 1]
        image = pixels(shown)
        draw_image(above[0], displayed(image), f"image {shown.id}", boxes=torch.tensor(shown.boxes))
        below[0].set_axis_off()
        below[0].text(0.98, 0.5, f"dark: the {seen.ratio:.0%}\nthat a mask hides", ha="right", va="center")
        for upper, lower, name in zip(above[1:], below[1:], seen.networks, strict=True):
            magnitude = torch.tensor(shown.maps[name])
            draw_map(upper, magnitude.numpy(), name if place == 0 else "")
            hidden = top_mask(magnitude[None], ratio=seen.ratio).unsqueeze(1)
            draw_image(lower, covered(image, hidden, page.stride))
    others = ", ".join(seen.networks)
    return Picture.of(
        figure,
        f"{len(seen.shown)} validation images with their objects, and for each the mean magnitude of the features of {others} on "
        f"stride {page.stride}, as heat maps, above the image with the {seen.ratio:.0%} of the cells dark where it is highest. "
        f"{_words(page, seen, 'maps', page.stride)} {_words(page, seen, 'masks', page.stride)}",
    )


def _stages(page: FeaturesPage, seen: Observation) -> Picture:
    figure, axes = grid(len(seen.shown), 1 + len(seen.networks))
    for place, (line, shown) in enumerate(zip(axes, seen.shown, strict=True)):
        draw_image(line[0], displayed(pixels(shown)), f"image {shown.id}", boxes=torch.tensor(shown.boxes))
        for axis, name in zip(line[1:], seen.networks, strict=True):
            draw_map(axis, np.array(shown.maps[name]), name if place == 0 else "")
    return Picture.of(
        figure,
        f"{len(seen.shown)} validation images with their objects, and for each the mean magnitude of the features on stride "
        f"{page.stride}, as heat maps: {', '.join(seen.networks)}. {_words(page, seen, 'maps', page.stride)} "
        f"{_words(page, seen, 'objects', page.stride)}",
    )


def _distribution(page: FeaturesPage, seen: Observation) -> Picture:
    with sns.axes_style("ticks"):
        figure, axes = grid(2, len(seen.strides), widths=[1.3] * len(seen.strides))
    chosen = colours(page)
    for column, stride in zip(axes.T, seen.strides, strict=True):
        for axis, standardised in zip(column, (False, True), strict=True):
            for name, style in zip(seen.networks, (*LINES, *LINES), strict=False):
                found = seen.values[name][stride]
                places, heights = centres(found), np.array(found.density)
                if standardised:
                    unit = found.std or 1.0
                    places, heights = (places - found.mean) / unit, heights * unit
                if name == page.TEACHER:
                    axis.fill_between(places, heights, step="mid", color=FILL, label=name, zorder=1)
                else:
                    axis.step(places, heights, where="mid", color=chosen[name], linestyle=style, label=name, zorder=2)
            axis.set(ylim=(0, None), xlabel="standard deviations from the mean" if standardised else "value of a feature")
            sns.despine(ax=axis)
        column[0].set_title(f"stride {stride}")
        column[1].set_xlim(-4, 4)
    for axis, title in zip(axes[:, 0], ("density", "density, standardised"), strict=True):
        axis.set_ylabel(title)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(seen.networks), frameon=False)
    words = "; ".join(
        f"stride {stride}: " + ", ".join(f"{name} {found[stride].std:.2g}" for name, found in seen.values.items())
        for stride in seen.strides
    )
    return Picture.of(
        figure,
        f"Distributions of the feature values of {', '.join(seen.networks)}, a column for each level, as they are and below "
        f"standardised. Their standard deviations on {words}.",
    )


def measures(page: FeaturesPage, seen: Observation) -> Picture:
    """The page's measures on each level, with 95 % intervals over images."""
    kinds = MEASURES[page.view]
    with mpl.rc_context(), sns.axes_style("whitegrid"), mpl.rc_context({"font.size": 9}):
        figure = Figure(figsize=(1.3 * PANEL * len(kinds) + 0.4, 1.5 * PANEL), layout="constrained")
        axes = figure.subplots(1, len(kinds), squeeze=False)[0]
        for axis, kind in zip(axes, kinds, strict=True):
            _points(axis, series(page, seen, kind), seen.strides, _series_colours(page, seen))
            title, label = TITLES[kind]
            axis.set(title=title, ylabel=label)
            if (chance := {"masks": seen.ratio, "objects": 0.5}.get(kind)) is not None:
                axis.axhline(chance, color="black", linewidth=0.8, linestyle="--", label="chance")
        handles = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
        figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=3, frameon=False)
        words = " ".join(_words(page, seen, kind, stride) for kind in kinds for stride in seen.strides)
        return Picture.of(figure, f"{len(kinds)} panels of points with intervals over images, by level. {words}")


def _points(axis: Axes, found: Mapping[str, Series], strides: Sequence[int], chosen: Mapping[str, str]) -> None:
    for place, (label, own) in enumerate(found.items()):
        shift = 0.12 * (place - (len(found) - 1) / 2)
        places = [strides.index(stride) + shift for stride in own]
        centre = [one.value for one in own.values()]
        reach = [[one.value - one.low for one in own.values()], [one.high - one.value for one in own.values()]]
        axis.errorbar(
            places,
            centre,
            yerr=np.maximum(reach, 0),
            label=label,
            color=chosen[label],
            marker=MARKERS[place % len(MARKERS)],
            markersize=5,
            linestyle="none",
            elinewidth=1.2,
        )
    axis.set_xticks(range(len(strides)), labels=[str(stride) for stride in strides])
    axis.set(xlabel="stride in pixels", xlim=(-0.5, len(strides) - 0.5))
    axis.grid(axis="x", visible=False)
    low, high = axis.get_ylim()
    axis.set_ylim(min(low, 0.0), max(high, 1.03))


def series(page: FeaturesPage, seen: Observation, kind: str) -> dict[str, Series]:
    """A measure on each level where it is defined: of each pair, or ``objects`` of each network."""
    if kind == "objects":
        return {name: _means(found) for name, found in seen.objects.items()}
    found: dict[str, Series] = {}
    for pair in seen.pairs:
        values = getattr(pair, kind)
        found[label(page, pair.first, pair.second)] = dict(values) if kind in ("channels", "aligned") else _means(values)
    return found


def label(page: FeaturesPage, first: str, second: str) -> str:
    """What a pair is called: with the page's teacher, by the other one."""
    return first if second == page.TEACHER else f"{first} and {second}"


def _means(found: Mapping[int, tuple[float | None, ...]]) -> Series:
    means = {stride: mean(values) for stride, values in found.items()}
    return {stride: one for stride, one in means.items() if one is not None}


@cache
def mean(found: tuple[float | None, ...]) -> Interval | None:
    """The mean over the images where a number is defined, with its bootstrap interval from three images on; None without any.

    Example:
        >>> mean((1.0, None, 2.0, 3.0))
        Interval(value=2.0, low=1.0, high=3.0)
    """
    values = {place: value for place, value in enumerate(found) if value is not None}
    if not values:
        return None
    estimate = stats.estimate(values)
    low, high = estimate.interval or (estimate.mean, estimate.mean)
    return Interval(value=rounded(estimate.mean), low=rounded(low), high=rounded(high))


def colours(page: FeaturesPage) -> dict[str, str]:
    """The colour of each network: its recipe's, or black for teachers; of several with one recipe the first are paler.

    Example:
        >>> from dfmsd import pages
        >>> list(colours(pages.get("fig04")).values())
        ['#555555', '#eebf99', '#d55e00', '#999999', '#000000']
    """
    names: dict[str, list[str]] = {}
    for look in page.networks:
        names.setdefault(TEACHER if look.teaches else COLOURS[look.recipe.split(JOIN)[0]], []).append(look.name)
    if page.teacher is not None:
        names.setdefault(TEACHER, []).append(page.TEACHER)
    found = {}
    for colour, alike in names.items():
        own = np.array(to_rgb(colour))
        for place, name in enumerate(alike, start=1):
            pale = PALE * (len(alike) - place) / max(1, len(alike) - 1)
            found[name] = to_hex(tuple(own + pale * (1 - own)))
    return {name: found[name] for name in page.runs()}


def _series_colours(page: FeaturesPage, seen: Observation) -> dict[str, str]:
    """With a teacher a pair has the colour of its first network; without one every network and every pair has its own."""
    if page.teacher is not None:
        chosen = colours(page)
        return chosen | {label(page, pair.first, pair.second): chosen[pair.first] for pair in seen.pairs}
    labels = [*seen.networks, *(label(page, pair.first, pair.second) for pair in seen.pairs)]
    return {name: to_hex(colour) for name, colour in zip(labels, sns.color_palette(PALETTE, len(labels)), strict=True)}


def _words(page: FeaturesPage, seen: Observation, kind: str, stride: int) -> str:
    found = {name: own[stride].value for name, own in series(page, seen, kind).items() if stride in own}
    title, _ = TITLES[kind]
    values = ", ".join(f"{name} {value:.2f}" for name, value in found.items()) or "not defined"
    return f"{title[0].upper()}{title[1:]}, stride {stride}: {values}."


def pixels(shown: Shown) -> Tensor:
    """An image of a record, ``(3, H, W)``, blue-green-red in [0, 255]; grey where the record has no pixels."""
    if not shown.jpeg:
        return torch.full((3, *shown.size), 127.0)
    decoded: Array = plt.imread(io.BytesIO(base64.b64decode(shown.jpeg)), format="jpg")
    return torch.from_numpy(decoded.copy()).permute(2, 0, 1).flip(0).float()
