"""All methods side by side: what each needs, read from its code; what it costs and what it gained, read from records."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from statistics import median

import pandas as pd
from IPython.display import Markdown
from mmdet.registry import MODELS
from pandas.io.formats.style import Styler

from dfmsd.hyper import METHODS, for_pair
from dfmsd.losses import Method
from dfmsd.report.benchpage import machine
from dfmsd.report.comparison import gain
from dfmsd.report.methods import class_of
from dfmsd.report.tables import NONE, below, grouped, styled
from dfmsd.study import benchrecord as record
from dfmsd.study import scales
from dfmsd.study.frame import Line, lines
from dfmsd.study.pages import LABELS, ChoosingPage, PageSpec
from dfmsd.study.pages.methods import MEASURE
from dfmsd.study.rows import Options, Row, chain

CHANNELS = 256
"""Of the pyramids whose extra parameters are counted: mmdet's own."""

STRIDES = (8, 16, 32, 64, 128)
"""Of the same pyramids."""

NOT_RUN = below("not run")

STUDENT, TEACHERS = "retinanet_r50", ("retinanet_r101", "retinanet_x101")
"""A student and two teachers that every method can work with."""


@dataclass(frozen=True)
class Needs:
    """What a method asks for besides the features of student and teacher."""

    boxes: bool
    """The boxes of the objects."""
    head: bool
    """The teacher's head, and a student's of the same type."""
    images: bool
    """Changed copies of the images, which go through both networks too."""
    trainings: int
    """Of the student, where there are two teachers."""
    parameters: int
    """Trained beside the student and then thrown away."""


def needs(method: str) -> Needs:
    """What a method needs, as its code has it.

    Args:
        method: A key of :data:`dfmsd.hyper.METHODS`.
    """
    found = class_of(method)
    sizes = {"strides": STRIDES, "channels_s": CHANNELS, "channels_t": CHANNELS}
    built: Method = MODELS.build(dict(for_pair(method, "one_stage")) | sizes)
    row = Row(student=STUDENT, teachers=TEACHERS, recipe=method)
    return Needs(
        boxes="boxes" in inspect.signature(found.terms).parameters,
        head=found.connect is not Method.connect,
        images=found.uses_enhanced,
        trainings=len(chain(row, scales.get("mini"), seed=0)),
        parameters=sum(parameter.numel() for parameter in built.parameters()),
    )


def needs_table() -> Styler:
    """What each method needs and costs; its name leads to its page."""
    benches = {f"× MSE{below(machine(bench))}": bench for bench in record.all_records()}
    rows = []
    for method in METHODS:
        found = needs(method)
        ratios = {
            title: f"{median(cost.times_mse()):.1f}" if (cost := bench.results[0].costs.get(method)) else NONE
            for title, bench in benches.items()
        }
        rows.append(
            {"method": f'<a href="{method}.html">{LABELS[method]}</a>'}
            | {"boxes": _yes(found.boxes), "same type of head": _yes(found.head), "changed images": _yes(found.images)}
            | {"trainings": str(found.trainings), "extra parameters": _millions(found.parameters)}
            | (ratios or {"× MSE": "not measured"})
        )
    caption = (
        f"Trainings: of the student, with two teachers. Extra parameters: on {len(STRIDES)} levels of {CHANNELS} channels; they are"
        " thrown away after training, so that every student runs as fast as the baseline. × MSE: time of the loss alone, times that"
        f" of plain feature MSE{'' if benches else f'; to measure it: {MEASURE}'}."
    )
    return styled(pd.DataFrame(rows), "needs", caption).hide(axis="index")


def _millions(count: int) -> str:
    return f"{count / 1e6:.1f} M" if count else NONE


def _yes(needed: bool) -> str:
    return "yes" if needed else NONE


def gains(page: ChoosingPage) -> Styler | Markdown:
    """Each method's gain in AP over the baseline of the same student, seed by seed: a line for each pair of each comparison.

    A pair whose runs an earlier comparison has shown already is left out, and one of which nothing can be told yet is only counted.
    """
    rows, groups, pairs = [], [], []
    waiting = 0
    shown: set[str] = set()
    for comparison in page.comparisons():
        for pair, by_recipe in _by_pair(comparison).items():
            keys = {entry.runs[-1].key for line in by_recipe.values() for entry in line.entries}
            if keys <= shown:
                continue
            shown |= keys
            cells = {LABELS[name]: _cell(by_recipe, name) for name in METHODS}
            if set(cells.values()) <= {NONE, NOT_RUN}:
                waiting += 1
                continue
            rows.append(cells)
            groups.append(f'<a href="{comparison.page}.html#T_results">{comparison.title}</a>')
            student, _, teachers = pair.partition(" ← ")
            pairs.append(student + below(f"← {teachers}"))
    if not rows:
        return Markdown(f"Nothing yet: of {waiting} pairs no method and baseline have both been run at scale {page.scale}.")
    caption = (
        f"AP in percent above the baseline at scale {page.scale}, with its interval where three seeds or more were run. "
        f"{NONE}: not a row of that comparison. Of {waiting} more pairs no method and baseline have both been run."
    )
    return grouped(pd.DataFrame(rows), groups, pairs, "gains", caption)


def _by_pair(comparison: PageSpec) -> dict[str, dict[str, Line]]:
    """The rows of a comparison that can be run and are a method as it stands, by pair of student and teachers."""
    found: dict[str, dict[str, Line]] = {}
    for line in lines(comparison):
        if line.entries and not line.row.name and line.row.options == Options():
            found.setdefault(line.pair, {})[line.row.recipe] = line
    return found


def _cell(by_recipe: dict[str, Line], method: str) -> str:
    if method not in by_recipe:
        return NONE
    text = gain(by_recipe[method], by_recipe.get("baseline"))
    return NOT_RUN if text == NONE else text
