"""How much a result moves with one or two options: a line over one, a map over two."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from dfmsd.report.figures import COLOURS, Picture, mean_dot, said, stale_note
from dfmsd.report.tables import STALE, number
from dfmsd.study.frame import Line, lines
from dfmsd.study.pages import SensitivityPage

LABELS = {"theta": "theta (share of the image's area)"}
"""What is varied, with its unit; weights have none."""


def points(page: SensitivityPage) -> dict[tuple[float, ...], Line]:
    """The rows of the page but the baseline, by their values of what is varied."""
    return {page.values(line.row): line for line in lines(page) if line.row.recipe != "baseline"}


def figure(page: SensitivityPage) -> Picture:
    """AP over the values: a line with the interval of each point, or a map with a number in each field."""
    known = points(page)
    with mpl.rc_context(), sns.axes_style("whitegrid" if len(page.vary) == 1 else "white"), mpl.rc_context({"font.size": 10}):
        drawing = Figure(figsize=(5.5, 3.4), layout="constrained")
        _line(drawing, page, known) if len(page.vary) == 1 else _map(drawing, page, known)
        return Picture.of(drawing, _alt(page, known))


def _line(drawing: Figure, page: SensitivityPage, known: dict[tuple[float, ...], Line]) -> None:
    ax = drawing.subplots()
    run = {value: line for (value,), line in sorted(known.items()) if line.ap is not None}
    ax.plot(list(run), [line.ap.mean for line in run.values() if line.ap], color=COLOURS["dfmsd"])
    for value, line in run.items():
        if line.ap:
            mean_dot(ax, line, value, line.ap.mean, COLOURS["dfmsd"])
        if line.ap and (interval := line.ap.interval or next(iter(line.records.values())).ap_interval):
            ax.vlines(value, *interval, color=COLOURS["dfmsd"], linewidth=3 if line.ap.interval else 1, alpha=0.6)
    baseline = next(line for line in lines(page) if line.row.recipe == "baseline")
    if baseline.ap is not None:
        ax.axhline(baseline.ap.mean, color=COLOURS["baseline"], linestyle="--", label="baseline")
        ax.legend()
    if not run:
        ax.text(0.5, 0.5, "not run", transform=ax.transAxes, ha="center", va="center", color="#777777")
    ax.set_xticks(sorted(value for (value,) in known))
    ax.set_xlabel(LABELS.get(page.vary[0], page.vary[0]))
    ax.set_ylabel(f"AP in percent, scale {page.scale}{stale_note(run.values())}")


def _map(drawing: Figure, page: SensitivityPage, known: dict[tuple[float, ...], Line]) -> None:
    ax = drawing.subplots()
    columns, rows = (sorted({values[axis] for values in known}) for axis in (0, 1))
    found = np.array([[line.ap.mean if (line := known.get((x, y))) and line.ap else np.nan for x in columns] for y in rows])
    texts = np.array([[text(known.get((x, y))) for x in columns] for y in rows])
    run = found[~np.isnan(found)]
    bounds = {"vmin": run.min(initial=100.0), "vmax": run.max(initial=0.0)} if len(run) else {"vmin": 0.0, "vmax": 100.0}
    label = {"label": f"AP in percent, scale {page.scale}"}
    sns.heatmap(found, ax=ax, annot=texts, fmt="", cmap="cividis", cbar_kws=label, **bounds)
    for place in np.argwhere(np.isnan(found)):
        ax.text(place[1] + 0.5, place[0] + 0.5, "not run", ha="center", va="center", color="#777777")
    ax.set_xticks(np.arange(len(columns)) + 0.5, labels=[f"{value:g}" for value in columns])
    ax.set_yticks(np.arange(len(rows)) + 0.5, labels=[f"{value:g}" for value in rows], rotation=0)
    ax.set_xlabel(f"{page.vary[0]}, times its value here")
    ax.set_ylabel(f"{page.vary[1]}, times its value here")


def text(line: Line | None) -> str:
    """AP; on lines below its interval over seeds, if there is one, and whether it is stale."""
    if line is None or line.ap is None:
        return "not run"
    interval = [" to ".join(map(number, line.ap.interval))] if line.ap.interval else []
    return "\n".join([number(line.ap.mean), *interval, *[STALE] * line.stale])


def _alt(page: SensitivityPage, known: dict[tuple[float, ...], Line]) -> str:
    what = " and ".join(page.vary)
    values = ", ".join(f"{' and '.join(f'{value:g}' for value in place)}: {said(line)}" for place, line in sorted(known.items()))
    return f"Average precision over {what} at scale {page.scale}. {values}."
