"""Pages whose rows are recipes: comparisons, ablations, sensitivity, and the trials of tuning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from dfmsd.errors import StudyError
from dfmsd.hyper import METHODS
from dfmsd.study import scales, zoo
from dfmsd.study.pages.base import Page
from dfmsd.study.rows import JOIN, Options, Row, chain, check
from dfmsd.study.spec import Frozen, RunSpec

LABELS = {"baseline": "baseline", "longer_baseline": "baseline, equal budget", "equal_budget": "DMKD, equal budget"} | {
    name: model.model_fields["type"].default for name, model in METHODS.items()
}


class Variant(Frozen):
    """A recipe under a name of its own, with options besides its group's."""

    recipe: str
    name: str
    options: Options = Options()
    impossible: str = ""
    """Why the row cannot be run, if so: it keeps its place in the table, beside the paper's numbers."""
    possible_at: tuple[str, ...] = ()
    """Scales at which it can be run all the same."""


class Impossible(Row):
    """A row that cannot be run."""

    reason: str


def _named(recipe: object) -> object:
    """A recipe alone is one without a name of its own."""
    return {"recipe": recipe, "name": ""} if isinstance(recipe, str) else recipe


def _unlike(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("a seed stands there twice: the same run would count twice")
    return seeds


Seeds = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1), AfterValidator(_unlike)]


class Group(Frozen):
    """Rows that share a student and its teachers."""

    student: str
    teachers: tuple[str, ...]
    recipes: tuple[Annotated[Variant, BeforeValidator(_named)], ...] = Field(min_length=1)
    options: Options = Options()
    any_order: bool = False
    quotes: tuple[str, ...] | None = None
    """The paper's teachers, where these stand in their place."""

    def rows(self) -> tuple[Row, ...]:
        """One row a recipe."""
        fields = {name: value for name, value in self if name not in ("recipes", "options")}
        found = []
        for recipe in self.recipes:
            changed = {name: getattr(recipe.options, name) for name in recipe.options.model_fields_set}
            options = self.options.model_copy(update=changed)
            found.append(Row(recipe=recipe.recipe, name=recipe.name, options=options, **fields))
        return tuple(found)


def name_of(row: Row) -> str:
    """What a table calls a row.

    Example:
        >>> name_of(Row(student="fcos_r50", teachers=("gfl_x101",), recipe="fgd + pkd"))
        'FGD + PKD'
    """
    return row.name or JOIN.join(LABELS[part] for part in row.recipe.split(JOIN))


@dataclass(frozen=True)
class Entry:
    """A row with one seed, and the chain of runs behind it."""

    place: int
    """Of the row in the table, from 0."""
    row: Row
    seed: int
    runs: tuple[RunSpec, ...]


class PageSpec(Page):
    """A comparison: rows of one table, each a recipe for a student and its teachers."""

    table: int | str | tuple[int, ...] | None = None
    """The table, or tables, whose numbers stand beside ours (``params/published.yaml``)."""
    groups: tuple[Group, ...] = Field(min_length=1)
    seeds: Seeds | None = None
    """None: the scale's."""

    @model_validator(mode="after")
    def _check(self) -> PageSpec:
        for row in self.rows():
            if not isinstance(row, Impossible):
                check(row)
                _check_matching(row, self.scale)
        return self

    def rows(self) -> tuple[Row, ...]:
        """All rows, in the order of the table."""
        found = []
        for group in self.groups:
            for recipe, row in zip(group.recipes, group.rows(), strict=True):
                if recipe.impossible and self.scale not in recipe.possible_at:
                    row = Impossible(**dict(row), reason=recipe.impossible)
                found.append(row)
        return tuple(found)

    @property
    def subject(self) -> str:
        """The name of the last row, which the verdicts compare with all others."""
        return name_of(self.rows()[-1])

    def entries(self) -> list[Entry]:
        """Each row that can be run, with each seed."""
        scale = scales.get(self.scale)
        return [
            Entry(place, row, seed, chain(row, scale, seed))
            for place, row in enumerate(self.rows())
            if not isinstance(row, Impossible)
            for seed in self.seeds or scale.seeds
        ]

    def chains(self) -> list[tuple[RunSpec, ...]]:
        """The chains of runs of all entries."""
        return [entry.runs for entry in self.entries()]


def _check_matching(row: Row, scale: str) -> None:
    """Refuse levels matched by index where that is matching by stride: networks of one kind have the same strides."""
    names = [row.student, *(name for group in row.teachers for name in group.split(JOIN))]
    if row.options.matching == "index" and len({zoo.network(name, scale).kind for name in names}) == 1:
        raise StudyError(
            f"matching: index changes nothing for {row.student} <- {' -> '.join(row.teachers)}, whose levels have the same "
            "strides: take a one-stage and a two-stage network"
        )


class SensitivityPage(PageSpec):
    """Rows of one pair that differ in the values of one or two options, drawn over these values."""

    vary: tuple[str, ...] = Field(min_length=1, max_length=2)
    """Fields of :class:`dfmsd.study.rows.Options`, or weights that its ``times`` multiplies."""

    def values(self, row: Row) -> tuple[float, ...]:
        """A row's values of what is varied; of a weight its factor."""
        return tuple(float(getattr(row.options, name, row.options.times.get(name, 1.0))) for name in self.vary)


class Tried(Frozen):
    """A method, or a variant of one, whose weights are tried."""

    weights: tuple[str, ...] = Field(min_length=1)
    """The weight of each of its terms, which divide a share equally among them."""
    fixed: dict[str, Any] = Field(default_factory=dict)
    """Its other fields during the trials: what the scale sets in the end must not change what a trial was."""
    variant_of: str = ""
    """The method, if what is tried is one of its variants (:attr:`dfmsd.study.scales.Scale.variants`)."""


def _plain(tried: object) -> object:
    """A list alone is the weights."""
    return {"weights": tried} if isinstance(tried, list) else tried


class TuningPage(Page):
    """Which share of the detection loss each method gets at a scale: the same trials for all, on the split kept for it."""

    notes: str
    """What is particular to these trials, as MyST Markdown."""
    student: str
    teacher: str
    methods: dict[str, Annotated[Tried, BeforeValidator(_plain)]] = Field(min_length=1)
    """By the method's name, or the variant's."""
    shares: tuple[float, ...] = Field(min_length=1)
    epochs: int = Field(gt=0)
    seed: int
    """One that no table uses."""

    def entries(self) -> list[Entry]:
        """The baseline, then each method with each share, as one stage."""
        scale = scales.get(self.scale)
        # At the scale smoke a trial shows that its path runs, whatever the share.
        shares = self.shares[:1] if self.scale == "smoke" else self.shares
        short = scale.model_copy(update={"schedule": scale.schedule.model_copy(update={"epochs": self.epochs})})
        # Teachers train as long as in the tables: they are the same runs.
        short = short.model_copy(update={"teacher_epochs": {self.teacher: scale.schedule_of(self.teacher, teacher=True).epochs}})
        rows = [Row(student=self.student, teachers=(), recipe="baseline")]
        for name, tried in self.methods.items():
            recipe = tried.variant_of or name
            for share in shares:
                hyper = tried.fixed | dict.fromkeys(tried.weights, share / len(tried.weights))
                options = Options(sal=False, me="none", hyper=hyper)
                named = name if tried.variant_of else ""
                rows.append(Row(student=self.student, teachers=(self.teacher,), recipe=recipe, name=named, options=options))
        return [Entry(place, row, self.seed, chain(row, short, self.seed, split="tune")) for place, row in enumerate(rows)]

    def departures(self, method: str) -> list[str]:
        """The fields of a method that the scale sets otherwise than the trials: if there are any, these did not decide its weights.

        A weight that was fixed in the trials does not count: its term had no effect there. A variant has no other fields.
        """
        if self.methods[method].variant_of:
            return []
        row = Row(student=self.student, teachers=(self.teacher,), recipe=method)
        stage = chain(row, scales.get(self.scale), self.seed)[-1].stage
        assert stage is not None
        used = {field: value for field, value in stage.methods[0] if not isinstance(value, float)}
        return [field for field, value in self.methods[method].fixed.items() if used.get(field, value) != value]

    def chains(self) -> list[tuple[RunSpec, ...]]:
        """The chains of runs of all trials."""
        return [entry.runs for entry in self.entries()]
