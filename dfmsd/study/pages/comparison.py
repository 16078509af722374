"""Pages whose rows are runs: tables, ablations, and how a gain changes with one factor."""

from __future__ import annotations

import os
from abc import abstractmethod
from functools import cached_property
from typing import Literal, Self

from pydantic import Field, model_validator

from dfmsd.errors import StudyError, known
from dfmsd.hyper import METHODS, weights
from dfmsd.study import paths, scales, zoo
from dfmsd.study.pages.base import Page, Pair
from dfmsd.study.rows import JOIN, Entry, Given, Group, Impossible, Options, Row, check, entries, in_words, name_of
from dfmsd.study.spec import RunSpec


class RowsPage(Page):
    """Rows with seeds, which a kind of page lists."""

    seeds: Given | None = None
    """None: the scale's."""
    data: str | None = None
    """A YAML that names a user's own data (:func:`dfmsd.study.coco.named`), relative to the repository; None: the scale's."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for row in self.rows():
            if not isinstance(row, Impossible):
                check(row)
                _check_matching(row, self.scale)
        return self

    @abstractmethod
    def rows(self) -> tuple[Row, ...]:
        """All rows, in order."""

    @cached_property
    def trained_at(self) -> scales.Scale:
        """The scale, on the page's data."""
        return scales.get(self.scale, data=None if self.data is None else paths.ROOT / os.path.expanduser(self.data))

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """Each row that can be run, with each seed; planned once."""
        return entries(self.rows(), self.trained_at, self.seeds or self.trained_at.seeds)

    def chains(self) -> list[tuple[RunSpec, ...]]:
        """The chains of runs of all entries."""
        return [entry.runs for entry in self.entries]


class PageSpec(RowsPage):
    """A comparison: rows of one table, each a recipe for a student and its teachers."""

    table: int | str | tuple[int, ...] | None = None
    """The table, or tables, whose numbers stand beside ours (``params/published.yaml``)."""
    groups: tuple[Group, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check_table(self) -> Self:
        if self.table is not None:
            from dfmsd.study.published import published  # not above: runs' processes do without it

            published(self.table)
        return self

    def rows(self) -> tuple[Row, ...]:
        """All rows, in the order of the table."""
        return tuple(row for group in self.groups for row in group.rows(self.scale))

    @property
    def subject(self) -> str:
        """The name of the last row, which the verdicts compare with all others."""
        return name_of(self.rows()[-1])


def _check_matching(row: Row, scale: str) -> None:
    """Refuse levels matched by index where that is matching by stride: networks of one kind have the same strides."""
    names = [row.student, *(name for group in row.teachers for name in group.split(JOIN))]
    if row.options.matching == "index" and len({zoo.network(name, scale).kind for name in names}) == 1:
        raise StudyError(
            f"matching: index changes nothing for {in_words(row.student, row.teachers)}, whose levels have the same "
            "strides: take a one-stage and a two-stage network"
        )


class SensitivityPage(PageSpec):
    """Rows of one pair that differ in the values of one or two options, drawn over these values."""

    vary: tuple[str, ...] = Field(min_length=1, max_length=2)
    """Fields of :class:`dfmsd.study.rows.Options`, or weights that its ``times`` multiplies."""

    @model_validator(mode="after")
    def _check_vary(self) -> Self:
        known("a row", self.vary, {*Options.model_fields, *(weight for name in METHODS for weight in weights(name))}, "option")
        return self

    def values(self, row: Row) -> tuple[float, ...]:
        """A row's values of what is varied; of a weight its factor."""
        return tuple(float(getattr(row.options, name, row.options.times.get(name, 1.0))) for name in self.vary)


class RegimePage(RowsPage):
    """How the gain of some methods changes as training or labelled images grow: an ablation of ours."""

    vary: Literal["length", "images"]
    """A field of :class:`dfmsd.study.rows.Options`. With other images the epochs change so that the iterations stay."""
    values: tuple[float, ...] = Field(min_length=1)
    """Its values, as factors on what the scale has."""
    recipes: tuple[str, ...] = Field(min_length=1)
    """The first one is what the others are compared with."""
    pairs: tuple[Pair, ...] = Field(min_length=1)

    def rows(self) -> tuple[Row, ...]:
        """By pair, recipe and value; without values for which the data have too few images. At smoke two show the path."""
        values = self.values[:2] if self.scale == "smoke" else self.values
        return tuple(
            Row(student=pair.student, teachers=pair.teachers, recipe=recipe, options=self._options(value))
            for pair in self.pairs
            for recipe in self.recipes
            for value in values
            if self._possible(pair.student, value)
        )

    def _possible(self, student: str, value: float) -> bool:
        if self.vary == "length" or value == 1:
            return True
        known = self.trained_at.data.train
        return known is not None and value * (self.trained_at.images_of(student) or known) <= known

    def _options(self, value: float) -> Options:
        return Options(length=value) if self.vary == "length" else Options(images=value, length=1 / value)
