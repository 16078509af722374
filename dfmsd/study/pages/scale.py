"""Pages about a scale itself: its gates, its starts and its data."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

from pydantic import Field

from dfmsd.study import pages, scales, zoo
from dfmsd.study.pages.base import Page, Pair
from dfmsd.study.rows import JOIN, Entry, Impossible, Options, Row, entries, teacher_of
from dfmsd.study.spec import Frozen, RunSpec, StartSpec


class Bounds(Frozen):
    """What a scale must keep so that its methods can be compared; AP in percent."""

    length: float
    """An untaught student may gain so much by twice the epochs."""
    above: float
    """A weak teacher is so far above its untaught student of twice the epochs."""
    step: float
    """Each further teacher is so far above the one before."""
    most: float
    """A strong teacher is at most so far above its untaught student of twice the epochs."""
    noise: float
    """Largest standard deviation over seeds, pooled over the students."""
    room: float
    """Plain feature MSE gains so many of these standard deviations."""
    cost: float
    """Core-hours of all pages together, at all seeds of the scale."""


class GatesPage(Page):
    """Whether a scale can settle anything: its untaught students, its teachers, and plain feature MSE on the tuning pairs.

    Students and teachers are those of all tables. Methods wait at ``mini`` until the runs of this page have records
    (:func:`dfmsd.study.ensure.ensure`).
    """

    tuning: tuple[Pair, ...] = Field(min_length=1)
    """The pairs on which shares are tuned."""
    bounds: Bounds
    touches: dict[Literal["length", "teachers", "noise", "room", "cost"], str]
    """By gate: which conclusions its failure touches."""

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """Every student of a table with its teachers, each once, from weak to strong on COCO, whatever the row's order."""
        found: dict[tuple[str, tuple[str, ...]], None] = {}
        for page in pages.comparisons(self.scale):
            for row in page.rows():
                names = {name for group in row.teachers for name in group.split(JOIN)}
                if names and not isinstance(row, Impossible):
                    found[row.student, tuple(sorted(names, key=lambda name: (zoo.weights(name).ap, name)))] = None
        return tuple(Pair(student=student, teachers=teachers) for student, teachers in found)

    @property
    def students(self) -> tuple[str, ...]:
        """Those of all pairs."""
        return tuple(dict.fromkeys(pair.student for pair in self.pairs))

    @property
    def teachers(self) -> tuple[str, ...]:
        """Those of all pairs."""
        return tuple(dict.fromkeys(name for pair in self.pairs for name in pair.teachers))

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """Untaught students with all seeds; with the first, these for twice the epochs, and MSE on the tuning pairs."""
        scale = scales.get(self.scale)
        alone = [Row(student=name, teachers=(), recipe="baseline") for name in self.students]
        twice = [row.model_copy(update={"name": "baseline, twice the epochs", "options": Options(length=2)}) for row in alone]
        taught = [Row(student=pair.student, teachers=pair.teachers, recipe="mse") for pair in self.tuning]
        planned = entries([*alone, *twice, *taught], scale, scale.seeds)
        return tuple(entry for entry in planned if entry.place < len(alone) or entry.seed == scale.seeds[0])

    def runs(self) -> dict[str, RunSpec]:
        """The run of each teacher; published ones have none."""
        found = {name: teacher_of(name, scales.get(self.scale)) for name in self.teachers}
        return {name: run for name, run in found.items() if isinstance(run, RunSpec)}

    def chains(self) -> list[tuple[RunSpec, ...]]:
        """The chains of runs of all entries, and each teacher's own run."""
        return [*(entry.runs for entry in self.entries), *((run,) for run in self.runs().values())]


class StartsPage(Page):
    """The starts of a scale: backbones pretrained on crops (:mod:`dfmsd.study.start`)."""

    crops: int = Field(default=8, gt=0, le=100)
    """Crops of each class that are shown."""

    @cached_property
    def starts(self) -> tuple[tuple[StartSpec, tuple[str, ...]], ...]:
        """Each start with the networks of the zoo that begin with it; none at a scale without starts."""
        scale = scales.get(self.scale)
        found: dict[str, tuple[StartSpec, list[str]]] = {}
        for name in zoo.names():
            if (start := scale.start_of(name)) is not None:
                found.setdefault(start.key, (start, []))[1].append(name)
        return tuple((start, tuple(names)) for start, names in found.values())

    def chains(self) -> list[tuple[StartSpec, ...]]:
        """Each start alone."""
        return [(start,) for start, _ in self.starts]


class DataPage(Page):
    """A look at the data of a scale."""

    images: int = Field(default=4, gt=0, le=50)
    """Sample images of each kind."""
