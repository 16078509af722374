"""What a student gains stage by stage: its AP and its learning curve, beside the rows of a single stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import fmean
from typing import Any

import pandas as pd
from IPython.display import Markdown
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from pandas.io.formats.style import Styler

from dfmsd.hyper import METHODS
from dfmsd.report import figures
from dfmsd.report.figures import COLOURS, MISSING, Picture
from dfmsd.report.tables import NONE, STALE, below, grouped, number, signed, stale_mark
from dfmsd.study import records, stats, zoo
from dfmsd.study.frame import Line, between, by_pair, lines
from dfmsd.study.pages import PageSpec, name_of
from dfmsd.study.rows import JOIN
from dfmsd.study.spec import RunSpec

Curve = list[tuple[float, float]]
"""Epochs since the student's first, and its detection loss."""


def rows(page: PageSpec) -> list[Line]:
    """Of each pair its baseline, the student after every stage of the page's subject, and the other rows."""
    found: list[Line] = []
    for known in by_pair(lines(page)).values():
        first = [line for line in known if line.row.recipe == "baseline"]
        staged = [line for line in known if name_of(line.row) == page.subject]
        others = [line for line in known if line not in first + staged]
        found += [*first, *between(staged), *map(_last, staged), *others]
    return found


def _last(line: Line) -> Line:
    stage = len(line.entries[0].runs)
    row = line.row.model_copy(update={"name": f"{name_of(line.row)}, stage {stage}"})
    return replace(line, row=row, stage=stage)


def _path(known: Sequence[Line]) -> list[Line]:
    """The baseline, and the student after every stage."""
    return [line for line in known if line.stage is not None or line.row.recipe == "baseline"]


def added(page: PageSpec) -> Markdown:
    """What every stage added to the AP of the student before it, seed by seed; the first one to the baseline."""
    sentences = []
    for pair, known in by_pair(rows(page)).items():
        steps = [f"stage {after.stage} {_step(before, after)}" for before, after in pairwise(_path(known))]
        sentences.append(f"- {pair}: {', '.join(steps)}.")
    return Markdown("\n".join(["What each stage added, the first one to the baseline:\n", *sentences]))


def _step(before: Line, after: Line) -> str:
    found = stats.difference(after.values("AP"), before.values("AP"))
    if found is None:
        return "**not run**"
    stale = f", *{STALE}*" * (before.stale or after.stale)
    if found.interval is not None:
        return f"**{signed(found.mean)} AP** ({signed(found.interval[0])} to {signed(found.interval[1])}{stale})"
    seeds = len(found.values)
    return f"**{signed(found.mean)} AP** ({'one seed' if seeds == 1 else f'{seeds} seeds'}: no test{stale})"


def figure(page: PageSpec) -> Picture:
    """AP of every row, the student's way through the stages as a line, and its teachers' own AP."""
    known = rows(page)
    drawing = figures.comparison(page, known, _way)
    teachers = [
        f"{pair}: {', '.join(f'{name} {_shown(ap)}' for name, ap in _teachers(found).items())}"
        for pair, found in by_pair(known).items()
    ]
    return replace(drawing, alt=f"{drawing.alt} AP of the teachers themselves: {'; '.join(teachers)}.")


def _way(ax: Axes, known: Sequence[Line], names: Sequence[str]) -> None:
    path = [line for line in _path(known) if line.ap is not None]
    means, places = [line.ap.mean for line in path if line.ap], [names.index(name_of(line.row)) for line in path]
    ax.plot(means, places, color=COLOURS["dfmsd"], linewidth=1.2, alpha=0.5, zorder=2)
    ax.set_title(ax.get_title(), fontsize=9, pad=14)
    run = sorted((ap, name) for name, ap in _teachers(known).items() if ap is not None)
    for ap, name in run if path else ():
        ax.axvline(ap, color="black", linewidth=0.8, linestyle=":", zorder=1)
        # Above the panel, the weakest to the left; the title has the whole names.
        side = "left" if name == run[-1][1] else "right"
        ax.text(ap, 1.02, name.split()[-1], transform=ax.get_xaxis_transform(), ha=side, va="bottom", fontsize=7)


def _teachers(known: Sequence[Line]) -> dict[str, float | None]:
    """The teachers' own AP by their names, in the order of the stages; None where one is not run."""
    stages = [run.stage for line in _path(known) for run in line.entries[0].runs if run.stage]
    found: dict[str, float | None] = {}
    for teacher in (teacher for stage in stages for teacher in stage.teachers):
        record = records.result(teacher.key) if isinstance(teacher, RunSpec) else None
        found[zoo.label(teacher.network.name)] = record.metrics["AP"] if record else None
    return found


def _shown(value: float | None) -> str:
    return "not run" if value is None else number(value)


def curves(line: Line) -> dict[int, Curve]:
    """The learning curve of a row's last stage by seed; it goes on at the epoch where the stage before ended."""
    found = {}
    for entry in line.entries:
        if entry.seed in line.records and (points := line.records[entry.seed].curve):
            *before, last = (run.schedule.epochs for run in entry.runs)
            each = last / points[-1]["iteration"]
            found[entry.seed] = [(sum(before) + each * point["iteration"], _own(point)) for point in points]
    return found


def _own(point: dict[str, float]) -> float:
    """The student's detection loss: the whole loss without what distillation adds to it."""
    prefixes = tuple(f"loss_{name}_" for name in METHODS)
    return point["loss"] - sum(value for name, value in point.items() if name.startswith(prefixes))


def learning(page: PageSpec) -> Picture:
    """The student's detection loss over its epochs, a panel for each pair: a line for each row and seed."""
    pairs = by_pair(rows(page))
    with figures.style():
        drawing, axes = figures.panels(pairs, 2.6)
        ticks = sorted({epoch for known in pairs.values() for line in known for epoch in _epochs(line)})
        for ax, known in zip(axes, pairs.values(), strict=True):
            _draw(ax, known)
            ax.set_xticks(ticks)
            ax.set_xlim(-0.04 * ticks[-1], 1.04 * ticks[-1])
        looks = {_label(page, line): _look(line) for known in pairs.values() for line in known}
        handles = [Line2D([], [], label=label, **look) for label, look in looks.items()]
        drawing.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False, fontsize=8)
        drawing.supxlabel("epochs of training, all stages together", fontsize=10)
        drawing.supylabel(f"detection loss, scale {page.scale}", fontsize=10)
        return Picture.of(drawing, _alt(page, pairs))


def _draw(ax: Axes, known: Sequence[Line]) -> None:
    missing = []
    for line in known:
        found = curves(line)
        for curve in found.values():
            ax.plot(*zip(*curve, strict=True), **_look(line))
        if not found:
            missing.append(name_of(line.row))
        if (begin := _epochs(line)[0]) > 0:
            ax.axvline(begin, color="#777777", linewidth=0.8)
    if missing:
        words = "\n".join(["not run:", *missing])
        ax.text(0.98, 0.97, words, transform=ax.transAxes, ha="right", va="top", **MISSING | {"fontsize": 7})


def _label(page: PageSpec, line: Line) -> str:
    return name_of(line.row) if line.stage is None else f"{page.subject}, stage by stage"


def _look(line: Line) -> dict[str, Any]:
    dashed = bool(line.row.name) and line.stage is None
    return {"color": COLOURS[line.row.recipe.split(JOIN)[0]], "linestyle": "--" if dashed else "-", "linewidth": 1.2, "alpha": 0.9}


def _epochs(line: Line) -> tuple[int, int]:
    """Where the last stage of a row begins and ends, in epochs since the student's first."""
    *before, last = (run.schedule.epochs for run in line.entries[0].runs)
    return sum(before), sum(before) + last


def _ends(line: Line) -> tuple[float, float] | None:
    """The detection loss in the first and in the last epoch of a row's last stage, the mean over seeds."""
    begin, end = _epochs(line)
    points = [point for curve in curves(line).values() for point in curve]
    first = [loss for epoch, loss in points if epoch <= begin + 1]
    last = [loss for epoch, loss in points if epoch > end - 1]
    return (fmean(first), fmean(last)) if first and last else None


def _alt(page: PageSpec, pairs: Mapping[str, Sequence[Line]]) -> str:
    parts = [f"Detection loss of the student over the epochs at scale {page.scale}, first and last epoch of each row."]
    for pair, known in pairs.items():
        values = (
            f"{name_of(line.row)} {' to '.join(map(_decimals, ends)) if (ends := _ends(line)) else 'not run'}" for line in known
        )
        parts.append(f"{pair}: {'; '.join(values)}.")
    return " ".join(parts)


def losses(page: PageSpec) -> Styler:
    """What the learning curves begin and end with."""
    known = rows(page)
    found = []
    for line in known:
        first, last = _ends(line) or (None, None)
        epochs = "{} to {}".format(*_epochs(line))
        found.append(
            {"epochs": epochs, "first epoch": _decimals(first), "last epoch": _decimals(last), "seeds": str(len(line.records))}
        )
    caption = (
        "Detection loss of the student on the training images, the mean over an epoch and over the seeds that were run. "
        f"Scale {page.scale}."
    )
    labels = [
        name_of(line.row) + below("" if line.records else "not run", flag=True) + stale_mark(stale=line.stale) for line in known
    ]
    return grouped(pd.DataFrame(found), [line.pair for line in known], labels, "losses", caption)


def _decimals(loss: float | None) -> str:
    return NONE if loss is None else f"{loss:.2f}"
