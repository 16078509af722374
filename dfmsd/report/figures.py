"""Drawings that carry their own description, the colour of each method, and the figure of a comparison."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dfmsd.report.tables import STALE, number
from dfmsd.study import records
from dfmsd.study.frame import Line, by_pair, lines
from dfmsd.study.pages import PageSpec, name_of
from dfmsd.study.rows import JOIN

COLOURS = {
    "baseline": "#555555",
    "longer_baseline": "#CCCC99",
    "mse": "#000000",
    "ssim": "#999977",
    "fkd": "#333377",
    "fgd": "#993300",
    "pkd": "#DD00FF",
    "crosskd": "#550000",
    "mgd": "#E69F00",
    "amd": "#33DDFF",
    "dmkd": "#56B4E9",
    "equal_budget": "#0072B2",
    "dfmsd": "#D55E00",
}
"""One colour a method on every page: Okabe and Ito's palette, and colours that any colour vision tells from these."""

COLUMNS = 3
"""Panels side by side."""

MISSING: Any = {"fontsize": 8, "color": "#777777", "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1}}
"""How a panel names what was not run."""

IMAGE_DPI = 144
"""Of images inside a drawing; its lines and letters have no resolution."""


@dataclass(frozen=True)
class Picture:
    """A drawing with the words for those who cannot see it; it renders in notebooks and on pages."""

    svg: str
    alt: str

    @classmethod
    def of(cls, drawing: Figure, alt: str) -> Picture:
        """A figure as SVG, the same bytes for the same figure."""
        stream = io.StringIO()
        with mpl.rc_context({"svg.hashsalt": "dfmsd"}):
            drawing.savefig(stream, format="svg", dpi=IMAGE_DPI, metadata={"Date": None, "Creator": None})
        return cls(stream.getvalue(), alt)

    def _repr_html_(self) -> str:
        data = base64.b64encode(self.svg.encode()).decode()
        return f'<img class="figure" src="data:image/svg+xml;base64,{data}" alt="{html.escape(self.alt, quote=True)}">'

    def save(self, file: Path) -> None:
        """Write the drawing, unless the file holds it already."""
        if not file.exists() or file.read_text() != self.svg:
            records.write_atomic(file, self.svg)


def mean_dot(ax: Axes, line: Line, x: float, y: float, colour: str) -> None:
    """A row's mean: a point, hollow if it is stale."""
    fill, edge = ("white", colour) if line.stale else (colour, "white")
    ax.scatter(x, y, s=50, color=fill, edgecolor=edge, zorder=4)


def stale_note(known: Iterable[Line]) -> str:
    """What hollow points are, if there are any."""
    return f"; hollow: {STALE}" if any(line.stale for line in known) else ""


def said(line: Line) -> str:
    """A row's AP in words."""
    return line.missing if line.ap is None else number(line.ap.mean) + f" ({STALE})" * line.stale


def comparison(
    page: PageSpec, known: Sequence[Line] | None = None, beside: Callable[[Axes, Sequence[Line], Sequence[str]], None] | None = None
) -> Picture:
    """AP of every method, a panel for each pair: seeds as small points, means with their intervals, the baseline as a line.

    Args:
        page: The page.
        known: The rows; None: the page's own.
        beside: Draws what else a panel shows, given its axes, its rows and the names along the vertical axis.
    """
    known = lines(page) if known is None else known
    pairs = by_pair(known)
    with style():
        names = list(dict.fromkeys(name_of(line.row) for line in known))
        drawing, axes = panels(pairs, 0.8 + 0.4 * len(names), left=0.3 + 0.08 * max(map(len, names)))
        for ax, rows in zip(axes, pairs.values(), strict=True):
            _panel(ax, rows, names)
            if beside is not None:
                beside(ax, rows, names)
        axes[0].set_yticks(range(len(names)), labels=names)
        axes[0].set_ylim(len(names) - 0.5, -0.5)
        drawing.supxlabel(f"AP in percent, scale {page.scale}{stale_note(known)}", fontsize=10)
        return Picture.of(drawing, _alt(page, pairs))


@contextmanager
def style() -> Iterator[None]:
    """How figures of results look."""
    with mpl.rc_context(), sns.axes_style("whitegrid"), mpl.rc_context({"font.size": 10}):
        yield


def panels(pairs: Iterable[str], height: float, left: float = 1.2) -> tuple[Figure, list[Axes]]:
    """A figure with a panel for each pair; panels are as wide, and as many in a line, on every page.

    Args:
        pairs: Student and teachers in words.
        height: Of a panel with its title, in inches.
        left: Room for what stands along the vertical axis, in inches.
    """
    titles = [pair.replace(" ← ", "\n← ").replace(" → ", "\n→ ") for pair in pairs]
    columns = min(len(titles), COLUMNS)
    count = -(-len(titles) // columns)
    drawing = Figure(figsize=(left + 2.5 * columns, 0.4 + height * count), layout="constrained")
    axes = drawing.subplots(count, columns, sharey=True, squeeze=False).flat
    for ax, title in zip(axes, titles, strict=False):
        ax.set_title(title, fontsize=9)
    for ax in axes[len(titles) :]:
        ax.set_axis_off()
    return drawing, list(axes[: len(titles)])


def _panel(ax: Axes, rows: Sequence[Line], names: Sequence[str]) -> None:
    ax.grid(axis="y", visible=False)
    if all(line.ap is None for line in rows):
        ax.text(0.5, 0.5, "not run", transform=ax.transAxes, ha="center", va="center", color="#777777")
        ax.set_xticks([])
        return
    for line in rows:
        place, colour = names.index(name_of(line.row)), COLOURS[line.row.recipe.split(JOIN)[0]]
        if line.ap is None:
            ax.text(0.98, place, line.missing, transform=ax.get_yaxis_transform(), ha="right", va="center", **MISSING)
            continue
        if line.row.recipe == "baseline":
            ax.axvline(line.ap.mean, color=colour, linewidth=1, linestyle="--", zorder=1)
        interval = line.ap.interval or next(iter(line.records.values())).ap_interval
        if interval is not None:
            # Over images the interval is thin: it is not about seeds.
            ax.hlines(place, *interval, color=colour, linewidth=3 if line.ap.interval else 1, alpha=0.6, zorder=2)
        ax.scatter(list(line.values("AP").values()), [place + 0.22] * len(line.records), s=12, color=colour, alpha=0.7, zorder=3)
        mean_dot(ax, line, line.ap.mean, place, colour)
        ax.annotate(number(line.ap.mean), (line.ap.mean, place), (0, 7), textcoords="offset points", ha="center", fontsize=8)


def _alt(page: PageSpec, pairs: Mapping[str, Sequence[Line]]) -> str:
    parts = [f"Average precision at scale {page.scale}, a panel for each student with its teachers."]
    for pair, rows in pairs.items():
        values = "; ".join(f"{name_of(line.row)} {said(line)}" for line in rows)
        parts.append(f"{pair}: {values}.")
    return " ".join(parts)
