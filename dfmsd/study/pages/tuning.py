"""Pages whose rows are trials: which weight a method gets."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from dfmsd.study import scales
from dfmsd.study.pages.base import Page, Pair
from dfmsd.study.rows import Entry, Options, Row, chain, entries
from dfmsd.study.spec import Frozen, RunSpec, Seed


class Tried(Frozen):
    """A method, or a variant of one, whose weights are tried."""

    weights: tuple[str, ...] = Field(min_length=1)
    """The weight of each of its terms, which divide a share equally among them."""
    fixed: dict[str, Any] = Field(default_factory=dict)
    """Its other fields during the trials: what the scale sets in the end must not change what a trial was."""
    shares: tuple[float, ...] = ()
    """Its own, where the best lies at the edge of the page's."""
    variant_of: str = ""
    """The method, if what is tried is one of its variants (:attr:`dfmsd.study.scales.Scale.variants`)."""


def _plain(tried: object) -> object:
    """A list alone is the weights."""
    return {"weights": tried} if isinstance(tried, list) else tried


class TuningPage(Page):
    """Which share of the detection loss each method gets at a scale: the same trials for all, on the split kept for it."""

    notes: str
    """What is particular to these trials, as MyST Markdown."""
    pairs: tuple[Pair, ...] = Field(min_length=1)
    """Each share is tried on all of them."""
    methods: dict[str, Annotated[Tried, BeforeValidator(_plain)]] = Field(min_length=1)
    """By the method's name, or the variant's."""
    shares: tuple[Annotated[float, Field(gt=0, le=10_000)], ...] = Field(min_length=1)
    seed: Seed
    """One that no table uses."""

    @model_validator(mode="after")
    def _check_seed(self) -> TuningPage:
        if self.seed in (used := scales.get(self.scale).seeds):
            raise ValueError(f"seed {self.seed} is one of the tables' at this scale, {', '.join(map(str, used))}: take another")
        return self

    def grid(self, method: str) -> tuple[float, ...]:
        """The shares that a method is tried with; at the scale smoke one, as a trial shows there that its path runs."""
        shares = self.methods[method].shares or self.shares
        return shares[:1] if self.scale == "smoke" else shares

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """For each pair the baseline, then each method with each share, as one stage; planned once."""
        rows = []
        for pair in self.pairs:
            rows.append(Row(student=pair.student, teachers=(), recipe="baseline"))
            for name, tried in self.methods.items():
                recipe, named = (tried.variant_of, name) if tried.variant_of else (name, "")
                for share in self.grid(name):
                    hyper = tried.fixed | dict.fromkeys(tried.weights, share / len(tried.weights))
                    options = Options(me="none", hyper=hyper)
                    rows.append(Row(student=pair.student, teachers=pair.teachers, recipe=recipe, name=named, options=options))
        return entries(rows, scales.get(self.scale), [self.seed], split="tune")

    def pair_of(self, entry: Entry) -> Pair:
        """The pair that a trial, or a baseline, belongs to."""
        return self.pairs[entry.place * len(self.pairs) // len(self.entries)]

    def chains(self) -> list[tuple[RunSpec, ...]]:
        """The chains of runs of all trials."""
        return [entry.runs for entry in self.entries]

    def departures(self, method: str) -> list[str]:
        """The fields of a method that the scale sets otherwise than the trials: if there are any, these did not decide its weights.

        A weight that was fixed in the trials does not count: its term had no effect there. A variant has no other fields.
        """
        if self.methods[method].variant_of:
            return []
        row = Row(student=self.pairs[0].student, teachers=self.pairs[0].teachers, recipe=method)
        stage = chain(row, scales.get(self.scale), self.seed)[-1].stage
        assert stage is not None
        used = {field: value for field, value in stage.methods[0] if not isinstance(value, float)}
        return [field for field, value in self.methods[method].fixed.items() if used.get(field, value) != value]
