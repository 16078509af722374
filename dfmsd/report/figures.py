"""Drawings that carry their own description, the colour of each method, and the figure of a comparison."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dfmsd import records
from dfmsd.pages import PageSpec, name_of
from dfmsd.report.results import Line, lines
from dfmsd.report.tables import number
from dfmsd.stages import JOIN

COLOURS = {
    "baseline": "#555555",
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


def comparison(page: PageSpec) -> Picture:
    """AP of every method, a panel for each pair: seeds as small points, means with their intervals, the baseline as a line."""
    known = lines(page)
    by_pair: dict[str, list[Line]] = {}
    for line in known:
        by_pair.setdefault(line.pair, []).append(line)
    with mpl.rc_context(), sns.axes_style("whitegrid"), mpl.rc_context({"font.size": 10}):
        names = list(dict.fromkeys(name_of(line.row) for line in known))
        columns = min(len(by_pair), COLUMNS)
        lines_of_panels = -(-len(by_pair) // columns)
        size = 1.2 + 2.5 * columns, 0.4 + (0.8 + 0.4 * len(names)) * lines_of_panels
        drawing = Figure(figsize=size, layout="constrained")
        axes = drawing.subplots(lines_of_panels, columns, sharey=True, squeeze=False)
        for ax, (pair, rows) in zip(axes.flat, by_pair.items(), strict=False):
            _panel(ax, pair, rows, names)
        for ax in axes.flat[len(by_pair) :]:
            ax.set_axis_off()
        axes[0, 0].set_yticks(range(len(names)), labels=names)
        axes[0, 0].set_ylim(len(names) - 0.5, -0.5)
        drawing.supxlabel(f"AP in percent, scale {page.scale}", fontsize=10)
        return Picture.of(drawing, _alt(page, by_pair))


def _panel(ax: Axes, pair: str, rows: Sequence[Line], names: Sequence[str]) -> None:
    ax.set_title(pair.replace(" ← ", "\n← ").replace(" → ", "\n→ "), fontsize=9)
    ax.grid(axis="y", visible=False)
    for line in rows:
        if line.ap is None:
            continue
        place, colour = names.index(name_of(line.row)), COLOURS[line.row.recipe.split(JOIN)[0]]
        if line.row.recipe == "baseline":
            ax.axvline(line.ap.mean, color=colour, linewidth=1, linestyle="--", zorder=1)
        interval = line.ap.interval or next(iter(line.records.values())).ap_interval
        if interval is not None:
            # Over images the interval is thin: it is not about seeds.
            ax.hlines(place, *interval, color=colour, linewidth=3 if line.ap.interval else 1, alpha=0.6, zorder=2)
        ax.scatter(list(line.values("AP").values()), [place + 0.22] * len(line.records), s=12, color=colour, alpha=0.7, zorder=3)
        ax.scatter(line.ap.mean, place, s=50, color=colour, edgecolor="white", zorder=4)
        ax.annotate(number(line.ap.mean), (line.ap.mean, place), (0, 7), textcoords="offset points", ha="center", fontsize=8)
    if all(line.ap is None for line in rows):
        ax.text(0.5, 0.5, "not run", transform=ax.transAxes, ha="center", va="center", color="#777777")
        ax.set_xticks([])


def _alt(page: PageSpec, by_pair: Mapping[str, Sequence[Line]]) -> str:
    parts = [f"Average precision at scale {page.scale}, a panel for each student with its teachers."]
    for pair, rows in by_pair.items():
        values = ", ".join(f"{name_of(line.row)} {number(line.ap.mean) if line.ap else 'not run'}" for line in rows)
        parts.append(f"{pair}: {values}.")
    return " ".join(parts)
