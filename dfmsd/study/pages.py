"""Pages: one YAML each in ``params/<notebook>/``, executed by the notebook of that folder's name.

The keys of the YAML are the fields of the notebook's page model (:data:`NOTEBOOKS`) and the parameters of the notebook itself.
"""

from __future__ import annotations

import ast
import contextlib
import os
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import combinations
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, field_validator, model_validator

from dfmsd.errors import StudyError, explained, known, suggest
from dfmsd.hyper import METHODS, MethodSpec, Share, for_pair, weights
from dfmsd.study import machine, params, paths, scales, zoo
from dfmsd.study.rows import (
    JOIN,
    Entry,
    Given,
    Group,
    Impossible,
    Options,
    Row,
    chain,
    check,
    entries,
    in_words,
    name_of,
    teacher_of,
)
from dfmsd.study.spec import Frozen, Run, RunSpec, Seed, StartSpec, TeacherSpec, digest

Network = RunSpec | TeacherSpec
"""The run behind a network, or the published teacher."""

Stride = Literal[4, 8, 16, 32, 64, 128]
"""Of a level that some network of the zoo has, in pixels."""


def _without_html(title: str) -> str:
    if set(title) & set("<>"):
        raise ValueError("a title is in places where a theme takes it for HTML: leave out < and >")
    return title


class Page(Frozen):
    """What every page has: its fields are the keys of its YAML and the parameters of its notebook."""

    AS_TOY: ClassVar[bool] = False
    """Whether the book executes it at the scale smoke: for minutes it would train what no record holds."""

    page: str
    title: Annotated[str, AfterValidator(_without_html)]
    question: str
    scale: Literal["smoke", "mini", "gpu", "coco"] = "mini"

    def chains(self) -> Sequence[tuple[Run, ...]]:
        """The chains of runs that the page shows; none unless its kind says otherwise."""
        return []

    def sources(self) -> Sequence[Page]:
        """The pages whose numbers it shows: its own, unless it is about others."""
        return [self]

    def command(self) -> str:
        """What makes what the page shows, as far as it is missing."""
        return making(self)


def making(*shown: Page) -> str:
    """The command that makes what some pages of one scale show, and no more, as far as it is missing."""
    return f"python -m dfmsd page {' '.join(page.page for page in shown)} --scale {shown[0].scale}"


# Pages whose rows are runs


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

    def rows(self) -> tuple[Row, ...]:
        """All rows, in order."""
        raise NotImplementedError

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


class Pair(Frozen):
    """A student and its teachers, from weak to strong."""

    student: str
    teachers: tuple[str, ...] = Field(min_length=1)


class TuningPage(Page):
    """Which share of the detection loss each method gets at a scale: the same trials for all, on the split kept for it."""

    notes: str
    """What is particular to these trials, as MyST Markdown."""
    pairs: tuple[Pair, ...] = Field(min_length=1)
    """Each share is tried on all of them."""
    methods: dict[str, Annotated[Tried, BeforeValidator(_plain)]] = Field(min_length=1)
    """By the method's name, or the variant's."""
    shares: tuple[float, ...] = Field(min_length=1)
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


# Pages that show what was measured


class MeasuredPage(Page):
    """A page that shows what was measured in images or networks, from a record (:class:`dfmsd.study.records.Measured`)."""

    looks_at_images: ClassVar[bool] = True
    """Of the data of its scale."""

    def runs(self) -> dict[str, Network]:
        """The run behind each network that is looked into, by the page's name for it."""
        return {}

    def chains(self) -> list[tuple[RunSpec, ...]]:
        """Those networks that are trained here, each alone."""
        return [(run,) for run in self.runs().values() if isinstance(run, RunSpec)]

    @abstractmethod
    def asked(self) -> str:
        """Hash of all that decides what the record holds."""

    def keys(self) -> dict[str, str]:
        """The keys of its runs."""
        return {name: run.key for name, run in self.runs().items()}

    def measured_file(self) -> Path:
        """Where the record lies once it is made: among the published ones, but those of tests."""
        home = paths.runs() if self.scale == "smoke" else paths.records()
        return home / "measured" / f"{self.page}-{self.scale}.json"

    def measured_files(self) -> list[Path]:
        """The record, once it is made; of a page about machines, one for each."""
        return [file] if (file := self.measured_file()).exists() else []


class Look(Frozen):
    """A network to look into: the student of a row, after its last stage or an earlier one, or a teacher."""

    name: str
    """What the page calls it."""
    network: str
    """Of the zoo."""
    teaches: bool = False
    """It is the run that teaches others; nothing else is to be said of it."""
    like: str | None = None
    """The name of a network that it is compared with besides the page's teacher."""
    teachers: tuple[str, ...] = ()
    recipe: str = "baseline"
    options: Options = Options()
    stage: int | None = Field(default=None, ge=1)
    """None: the last."""
    seed: Seed | None = None
    """None: the scale's first."""

    def run(self, scale: scales.Scale) -> Network:
        """The run whose network it is, or the published teacher."""
        return teacher_of(self.network, scale) if self.teaches else self.chain(scale)[-1]

    def chain(self, scale: scales.Scale) -> tuple[RunSpec, ...]:
        """The chain of runs that ends in the network; none for a published teacher.

        Raises:
            StudyError: if the recipe has no such stage, or a teacher has a recipe.
        """
        if self.teaches:
            if given := sorted(self.model_fields_set - {"name", "network", "teaches", "like"}):
                raise StudyError(f"{self.name!r} is a teacher: it has no {given[0]}")
            teacher = teacher_of(self.network, scale)
            return (teacher,) if isinstance(teacher, RunSpec) else ()
        row = Row(student=self.network, teachers=self.teachers, recipe=self.recipe, options=self.options)
        runs = chain(row, scale, scale.seeds[0] if self.seed is None else self.seed)
        if self.stage is not None and self.stage > len(runs):
            raise StudyError(f"{self.name!r}: stage = {self.stage}, but {self.recipe} has {len(runs)} here")
        return runs[: self.stage]


class FeaturesPage(MeasuredPage):
    """A look into trained networks, from a record of what was read off them (:mod:`dfmsd.study.measured`)."""

    TEACHER: ClassVar[str] = "teacher"
    """What the page calls the teacher."""

    view: Literal["masks", "stages", "distribution"]
    """What is drawn: where features are large and what masks hide of it, the same beside the teacher's, or distributions."""
    networks: tuple[Look, ...] = Field(min_length=1)
    teacher: str | None = None
    """A network of the zoo that all are compared with; None: each is compared with each."""
    claim: str
    """What the paper says of its figure, as MyST Markdown."""
    stride: Stride = 8
    """Of the level that is drawn."""
    images: int = Field(default=200, gt=0)
    """Validation images over which numbers are taken, from the first on."""
    shown: int = Field(default=3, gt=0)
    """Images that are drawn: the first ones that have an object of each of COCO's sizes."""

    @model_validator(mode="after")
    def _check(self) -> FeaturesPage:
        names = [look.name for look in self.networks] + [self.TEACHER] * (self.teacher is not None)
        if len(set(names)) < len(names):
            raise StudyError(f"page {self.page!r}: two networks have one name: {', '.join(names)}")
        if len(names) < 2:
            raise StudyError(f"page {self.page!r}: a comparison needs two networks, or one and a teacher")
        for look in self.networks:
            look.chain(scales.get(self.scale))
            if look.like is not None and look.like not in set(names) - {look.name}:
                raise StudyError(f"page {self.page!r}: {look.name!r} is like {look.like!r}: {suggest(look.like, names)}")
        if self.teacher is not None:
            zoo.label(self.teacher)
        return self

    def runs(self) -> dict[str, Network]:
        """The run behind each network, by the page's name for it; the teacher comes last."""
        scale = scales.get(self.scale)
        found = {look.name: look.run(scale) for look in self.networks}
        return found | ({} if self.teacher is None else {self.TEACHER: teacher_of(self.teacher, scale)})

    def pairs(self) -> list[tuple[str, str]]:
        """Which networks are compared: each with the teacher and with what it is like, or each with each."""
        names = [look.name for look in self.networks]
        if self.teacher is None:
            return list(combinations(names, 2))
        likes = [(look.name, look.like) for look in self.networks if look.like is not None]
        return [*((name, self.TEACHER) for name in names), *likes]

    def chains(self) -> list[tuple[RunSpec, ...]]:
        """The chains of runs that end in the networks."""
        scale = scales.get(self.scale)
        teacher = self.runs().get(self.TEACHER)
        chains = [*(look.chain(scale) for look in self.networks), (teacher,) if isinstance(teacher, RunSpec) else ()]
        return [runs for runs in chains if runs]

    def asked(self) -> str:
        """Hash of all that decides what the record holds."""
        return digest([self.keys(), self.pairs(), self.stride, self.images, self.shown])


class SpectraPage(MeasuredPage):
    """What augmentations do to the spectra of images (:mod:`dfmsd.report.spectra`): computed from the images alone."""

    images: int = Field(default=200, gt=0)
    """Validation images, from the first on."""
    rings: int = Field(default=24, gt=0)
    """Of a radial profile."""
    cycles: float = Field(default=1.0, gt=0)
    """Waves on an object at COCO's limit of small ones, which part low from high frequencies."""
    window: Literal["hann", "none"] = "hann"
    """What an image is multiplied by before its spectrum is taken."""
    options: Options = Options()
    """Strength of the noise and size of the crop; the rest is not used."""

    def asked(self) -> str:
        """Hash of all that decides what the record holds."""
        scale = scales.get(self.scale)
        images = [scale.data.model_dump(mode="json"), scale.image_size, self.images]
        return digest([images, self.rings, self.cycles, self.window, self.options.sigma, self.options.crop])


class EnhancementPage(MeasuredPage):
    """What a teacher attends to in changed versions of images (:mod:`dfmsd.report.enhancement`)."""

    view: Literal["frequencies", "augmentation"]
    """The versions: low and high frequencies as both teachers see them, or Eq. (4)'s changes as the strong one does."""
    weak: str = "retinanet_r101"
    """The teacher whose boxes decide which objects dominate an image."""
    strong: str = "retinanet_x101"
    """The teacher of the last stage."""
    images: int = Field(default=100, gt=0)
    """Validation images over which numbers are taken, from the first on."""
    stride: Stride = 8
    """Of the level to look at."""
    cycles: float = Field(default=1.0, gt=0)
    """As on the page of spectra."""
    options: Options = Options()
    """What Eq. (4) leaves open: theta, score, sigma, crop; the rest is not used."""

    @property
    def teachers(self) -> tuple[str, ...]:
        """Both: the weak one decides what dominates an image, and the strong one's attention is compared with its, or shown."""
        return (self.weak, self.strong)

    def runs(self) -> dict[str, Network]:
        """The teachers' runs, by their names in the zoo."""
        scale = scales.get(self.scale)
        return {name: teacher_of(name, scale) for name in self.teachers}

    def asked(self) -> str:
        """Hash of all that decides what the record holds."""
        options = self.options.model_dump(mode="json", include={"theta", "score", "sigma", "crop"})
        return digest([self.keys(), self.view, self.images, self.stride, self.cycles, options])


class CodePage(MeasuredPage):
    """A page about this package's code: it looks at no images, and is the same at all scales but smoke."""

    looks_at_images: ClassVar[bool] = False

    @field_validator("scale")
    @classmethod
    def _same_at_all(cls, scale: str) -> str:
        return scale if scale == "smoke" else "mini"


class BenchPage(CodePage):
    """What the losses cost (:mod:`dfmsd.report.bench`): a record a machine; at the scale smoke of tiny maps."""

    repeats: int = Field(default=5, ge=1)
    """Rounds; every method is timed once in each."""

    def sources(self) -> Sequence[Page]:
        """Itself, and the tables, whose records tell what a whole step took."""
        return [self, *tables(self.scale)]

    def asked(self) -> str:
        """Hash of all that decides what the record holds."""
        return digest([self.repeats])

    def measured_file(self) -> Path:
        """This machine's record."""
        if self.scale == "smoke":
            return super().measured_file()
        words = re.findall(r"[a-z0-9]+", machine.name().lower())
        return paths.records() / "measured" / f"{self.page}-{'-'.join(words)}.json"

    def measured_files(self) -> list[Path]:
        """Those of all machines."""
        if self.scale == "smoke":
            return super().measured_files()
        return sorted((paths.records() / "measured").glob(f"{self.page}-*.json"))


class FamiliesPage(CodePage):
    """Which of mmdet's detector families can be distilled (:mod:`dfmsd.report.families`); at the scale smoke two of them."""

    def asked(self) -> str:
        """Hash of all that decides what the record holds."""
        return digest([])


class MethodsPage(MeasuredPage):
    """All methods side by side (:mod:`dfmsd.report.methods`): what they need, cost, and look at in one image."""

    student: str = "retinanet_r50"
    """With the teacher it is a pair that every method can work on."""
    teacher: str = "retinanet_r101"
    image: int = Field(default=3, ge=0)
    """Of the validation images."""
    stride: Stride = 8
    """Of the level to look at."""

    def runs(self) -> dict[str, Network]:
        """The two networks, each trained alone."""
        scale = scales.get(self.scale)
        (alone,) = chain(Row(student=self.student, teachers=(), recipe="baseline"), scale, scale.seeds[0])
        return {"student": alone, "teacher": teacher_of(self.teacher, scale)}

    def asked(self) -> str:
        """Hash of all that decides what the record holds."""
        return digest([self.keys(), self.image, self.stride])

    def sources(self) -> Sequence[Page]:
        """Itself, and what the losses cost."""
        return [self, get("losses", scale=self.scale)]


# Pages about the scale itself


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
        for page in comparisons(self.scale):
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


class StartsPage(Page):
    """The starts of a scale: backbones pretrained on crops (:mod:`dfmsd.study.start`)."""

    crops: int = Field(default=8, gt=0)
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

    images: int = Field(default=4, gt=0)
    """Sample images of each kind."""


# Others


def _method(name: str) -> type[MethodSpec]:
    if name not in METHODS:
        raise StudyError(f"unknown method {name!r}: {suggest(name.lower(), METHODS)}")
    return METHODS[name]


class ShortPage(Page):
    """Short trainings of one student by one teacher, whenever it is executed (:mod:`dfmsd.report.explore`)."""

    student: str = "fcos_r50"
    teacher: str = "gfl_r101"
    teacher_epochs: float = Field(default=1.0, gt=0, le=100)
    """Passes of the teacher over the training images, unless the study has trained it on this machine."""
    epochs: float = Field(default=1.0, gt=0, le=100)
    """Of the distillation."""

    def rows(self) -> tuple[Row, ...]:
        """What is trained."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _check(self) -> Self:
        scale = scales.get(self.scale)
        for row in self.rows():
            _method(row.recipe)
            chain(row, scale, scale.seeds[0])
        return self


class ExplorePage(ShortPage):
    """A short training to play with, seen from inside."""

    method: str = "dfmsd"
    image: int = Field(default=1, ge=0)
    """Of the validation images."""
    stride: int = Field(default=8, gt=0)
    """Of the level to look at, in pixels."""
    ratio: Share | None = None
    """Share of positions, and of channels, that the method hides; None: the method's own."""
    theta: Share = 0.5
    """Of masking enhancement: the share of an image that objects cover from which on they count as large."""

    def rows(self) -> tuple[Row, ...]:
        """The one that is trained."""
        hides = [name for name in ("ratio", "spatial_ratio", "channel_ratio") if name in _method(self.method).model_fields]
        if self.ratio is not None and not hides:
            raise StudyError(f"ratio = {self.ratio}: {self.method} hides no share of anything, so leave the ratio out")
        options = Options(theta=self.theta, hyper={} if self.ratio is None else dict.fromkeys(hides, self.ratio))
        return (Row(student=self.student, teachers=(self.teacher,), recipe=self.method, options=options),)


class LossPage(ShortPage):
    """A loss that its notebook defines, against methods of the study (:mod:`dfmsd.report.loss`)."""

    AS_TOY: ClassVar[bool] = True

    rivals: tuple[str, ...] = Field(default=("mse", "dmkd"), min_length=1)
    """Methods that are trained likewise."""

    def rows(self) -> tuple[Row, ...]:
        """The rivals; the first's stands for the new loss, too, until that is put in its method's place."""
        return tuple(Row(student=self.student, teachers=(self.teacher,), recipe=name) for name in self.rivals)


class OwnPage(Page):
    """A detector on the reader's own data, distilled in several ways (:mod:`dfmsd.report.own`)."""

    AS_TOY: ClassVar[bool] = True

    folder: str | None = None
    """Where the data are made, and looked for; None: beside the generated data sets."""
    images: int = Field(default=400, ge=16, le=100_000)
    """That teachers learn from; a quarter as many are evaluated on. 16 at the scale smoke."""
    labelled: float = Field(default=0.25, gt=0, le=1)
    """The share of them that a student learns from."""
    student: str = "fcos_r50"
    teachers: tuple[str, ...] = Field(default=("retinanet_r101", "gfl_r101"), min_length=1)
    """From weak to strong."""
    methods: tuple[str, ...] = Field(default=("dmkd", "dfmsd"), min_length=1)
    """That teach the student; it is also trained without any."""
    epochs: int = Field(default=40, gt=0, le=1000)
    """Of students, over their images, all stages together; 1 at the scale smoke."""
    teacher_epochs: int = Field(default=12, gt=0, le=1000)
    """Of teachers, over all images; 1 at the scale smoke."""
    seed: Seed = 0

    def rows(self) -> tuple[Row, ...]:
        """The student alone, and by each method."""
        options = Options(images=self.labelled)
        plain = Row(student=self.student, teachers=(), recipe="baseline", options=options)
        taught = (Row(student=self.student, teachers=self.teachers, recipe=name, options=options) for name in self.methods)
        return (plain, *taught)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for row in self.rows():
            check(row)
        for name in self.methods:
            _method(name)
        return self


class ChoosingPage(Page):
    """Which method to take (:mod:`dfmsd.report.choosing`), from the pages of tables and the one about length."""

    def sources(self) -> Sequence[Page]:
        """The tables, and the page about length."""
        return [*tables(self.scale), get("length", scale=self.scale)]

    def command(self) -> str:
        """What makes those pages, too: it has no runs of its own."""
        return making(*self.sources(), self)


class ScoreboardPage(Page):
    """What became of every claim of the papers (:mod:`dfmsd.report.scoreboard`), at each scale that has records."""

    def scales(self) -> tuple[str, ...]:
        """The page's own, then the others."""
        return tuple(dict.fromkeys([self.scale, *scales.PUBLIC]))

    def sources(self) -> Sequence[Page]:
        """Every page that a claim may be about: comparisons, and what was measured for figures."""
        measured = [name for name in names() if issubclass(NOTEBOOKS[file_of(name).parent.name], MeasuredPage)]
        return [page for scale in self.scales() for page in (*comparisons(scale), *(get(name, scale=scale) for name in measured))]

    def command(self) -> str:
        """What makes the pages that it counts, too: all."""
        return f"python -m dfmsd page --all --scale {self.scale}"


NOTEBOOKS: dict[str, type[Page]] = {
    "ablation": PageSpec,
    "bench": BenchPage,
    "choosing": ChoosingPage,
    "comparison": PageSpec,
    "dataset": DataPage,
    "enhancement": EnhancementPage,
    "explore": ExplorePage,
    "families": FamiliesPage,
    "features": FeaturesPage,
    "gates": GatesPage,
    "loss": LossPage,
    "methods": MethodsPage,
    "own": OwnPage,
    "regime": RegimePage,
    "scoreboard": ScoreboardPage,
    "sensitivity": SensitivityPage,
    "spectra": SpectraPage,
    "stages": PageSpec,
    "starts": StartsPage,
    "tuning": TuningPage,
}
"""The page model of each folder of ``params/``, which is also the name of its notebook."""

AnyPage = TypeVar("AnyPage", bound=Page)


def validate(model: type[AnyPage], parameters: Mapping[str, Any]) -> AnyPage:
    """A page of some kind from parameters, as a notebook or a YAML has them.

    Raises:
        StudyError: for a parameter that such a page does not have (the nearest is suggested) or a value that makes no sense.

    Example:
        >>> validate(DataPage, {"page": "shapes", "title": "Shapes", "question": "What is in it?"}).images
        4
    """
    try:
        return model.model_validate(parameters)
    except ValidationError as error:
        raise StudyError(f"page {parameters.get('page', '?')!r}: {explained(error, model)}") from None


def _stated(cells: Sequence[str]) -> set[str]:
    r"""What the cell of parameters that was run last assigns, and what papermill injects after it, out of IPython's history.

    Example:
        >>> sorted(_stated(["page = 1\nsede = 2", "spec = 3", "page = 4\nseeds = 5", "# Parameters\njobs = 6", "frame = 7"]))
        ['jobs', 'page', 'seeds']
    """
    found: set[str] = set()
    for cell in cells:
        with contextlib.suppress(SyntaxError):  # of a magic
            lines = [line for line in ast.parse(cell).body if isinstance(line, ast.Assign)]
            names = {target.id for line in lines for target in line.targets if isinstance(target, ast.Name)}
            if cell.startswith("# Parameters"):
                found |= names
            elif "page" in names:
                found = names
    return found


def page(notebook: str, given: Mapping[str, Any]) -> Page:
    """A page from the variables of its notebook, ``globals()``: the cell of parameters, and what papermill injects.

    Modules, functions, names with ``_`` and ``jobs`` are none of its fields; a scale that is None is the page's own. Where cells
    have been run before, in Jupyter, their variables are no parameters.

    Raises:
        StudyError: for a parameter that the page does not have, or that is another notebook's; see :func:`validate`.

    Example:
        >>> words = {"page": "shapes", "title": "Shapes", "question": "What is in it?", "scale": None, "jobs": 0}
        >>> page("dataset", words).scale
        'mini'
    """
    model = NOTEBOOKS[notebook]
    stated = _stated(given.get("In", ()))
    parameters = {
        name: value
        for name, value in given.items()
        if not (name.startswith("_") or name in ("In", "Out", "jobs") or isinstance(value, ModuleType) or callable(value))
        if not stated or name in stated or name in model.model_fields
    }
    name = parameters.get("page")
    file = next((file for file in _files() if file.stem == name), None)
    if file is not None and file.parent.name != notebook:
        raise StudyError(f"page {name!r} is of notebooks/{file.parent.name}.ipynb, not of {notebook}.ipynb: execute that one")
    jobs = given.get("jobs", 0)
    if isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 0:
        raise StudyError(f"jobs = {jobs!r}: 0 reads records, n = 1, 2, ... trains what is missing, n runs at a time")
    for unknown in (name for name in parameters if name not in model.model_fields):
        raise StudyError(f"{notebook}.ipynb has no parameter {unknown!r}: {suggest(unknown, [*model.model_fields, 'jobs'])}")
    return validate(model, {field: value for field, value in parameters.items() if field != "scale" or value is not None})


def names() -> list[str]:
    """All pages that have a params file, by notebook and name."""
    return [file.stem for file in _files()]


def _files() -> list[Path]:
    found: dict[str, Path] = {}
    for file in sorted(paths.PARAMS.glob("*/*.yaml")):
        if (other := found.setdefault(file.stem, file)) is not file:
            raise StudyError(f"params/{other.parent.name} and params/{file.parent.name} both have a page {file.stem}: rename one")
    return list(found.values())


def file_of(page: str) -> Path:
    """The params file of a page; the nearest page is suggested if there is none."""
    for file in _files():
        if file.stem == page:
            return file
    raise StudyError(f"unknown page {page!r}: {suggest(page, names())}")


def get(page: str, *, scale: str | None = None, seeds: Sequence[int] | None = None) -> Page:
    """A page by its name, at another scale or, where it has seeds, with others if they are given.

    Raises:
        StudyError: if its params file is missing or wrong.
    """
    file = file_of(page)
    parameters = params.read(file)
    if not all(isinstance(name, str) for name in parameters):
        raise StudyError(f"{file.name} must hold lines of 'parameter: value'")
    parameters = dict(parameters)
    if scale is not None:
        scales.get(scale)
        parameters["scale"] = scale
    notebook = file.parent.name
    if notebook not in NOTEBOOKS:
        raise StudyError(f"{file.name} lies in params/{notebook}, which has no notebook: {suggest(notebook, NOTEBOOKS)}")
    model = NOTEBOOKS[notebook]
    if seeds is not None and "seeds" in model.model_fields:
        parameters["seeds"] = tuple(seeds)
    found = validate(model, parameters)
    if found.page != page:
        raise StudyError(f"{file.name} says page: {found.page}; it must be {page}")
    return found


def describe(run: Run) -> str:
    """A run in words, with its student's teachers so far, for plans and logs."""
    if isinstance(run, StartSpec):
        return f"{run.name}, {run.epochs} epoch{'s' * (run.epochs != 1)}, seed {run.seed}"
    runs = [run]
    while runs[0].parent is not None:
        runs.insert(0, runs[0].parent)
    stages = [one.stage.teachers for one in runs if one.stage is not None]
    text = in_words(run.name, [JOIN.join(teacher.name for teacher in teachers) for teachers in stages])
    if run.stage is not None:
        methods = " + ".join(method.type + _changes(run, method) for method in run.stage.methods)
        stage = f", stage {run.stage.index}" if run.parent or run.stage.enhance or methods.startswith("DFMSD") else ""
        enhanced = " with ME" if run.stage.enhance else ""
        text += f": {methods}{stage}{enhanced}"
    unit, length = ("iteration", run.schedule.max_iters) if run.schedule.max_iters else ("epoch", run.schedule.epochs)
    return f"{text}, {length} {unit}{'s' * (length != 1)}, seed {run.seed}"


def _changes(run: RunSpec, method: MethodSpec) -> str:
    """Where a method departs from what its scale gives it, so that the runs of an ablation have different names."""
    assert run.stage is not None
    name, kinds = method.type.lower(), (run.network.kind, run.stage.teacher.network.kind)
    usual = for_pair(name, *kinds, zoo.family(run.network.name), **scales.get(run.scale).methods.get(name, {}))
    changed = [f"{field} {value}" for field, value in method if value != getattr(usual, field)]
    return f" ({', '.join(changed)})" if changed else ""


def comparisons(scale: str) -> list[PageSpec]:
    """Every page whose rows are recipes, at a scale; without those on a user's own data, of which the papers say nothing."""
    stems = [file.stem for file in _files() if issubclass(NOTEBOOKS.get(file.parent.name, Page), PageSpec)]
    found = (get(name, scale=scale) for name in stems)
    return [page for page in found if isinstance(page, PageSpec) and page.data is None]


def tables(scale: str) -> list[PageSpec]:
    """The comparisons of methods among them, which are no ablations."""
    return [page for page in comparisons(scale) if file_of(page.page).parent.name == "comparison"]
