"""Pages: one YAML each in ``params/<notebook>/``, executed by the notebook of that folder's name.

The keys of the YAML are the fields of the notebook's page model (:data:`NOTEBOOKS`) and the parameters of the notebook itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from dfmsd import paths, scales, zoo
from dfmsd.errors import StudyError, suggest
from dfmsd.methods import METHODS
from dfmsd.spec import Frozen, RunSpec, TeacherSpec, _digest
from dfmsd.stages import JOIN, Options, Row, chain, check, teacher_of

LABELS = {"baseline": "baseline", "equal_budget": "DMKD, equal budget"} | {
    name: model.model_fields["type"].default for name, model in METHODS.items()
}


class Variant(Frozen):
    """A recipe under a name of its own, with options besides its group's."""

    recipe: str
    name: str
    options: Options = Options()


class Group(Frozen):
    """Rows that share a student and its teachers."""

    student: str
    teachers: tuple[str, ...]
    recipes: tuple[str | Variant, ...] = Field(min_length=1)
    options: Options = Options()
    any_order: bool = False
    quotes: tuple[str, ...] | None = None
    """The paper's teachers, where these stand in their place."""

    def rows(self) -> tuple[Row, ...]:
        """One row a recipe."""
        fields = {name: value for name, value in self if name not in ("recipes", "options")}
        found = []
        for recipe in self.recipes:
            own = Variant(recipe=recipe, name="") if isinstance(recipe, str) else recipe
            options = self.options.model_copy(update={name: getattr(own.options, name) for name in own.options.model_fields_set})
            found.append(Row(recipe=own.recipe, name=own.name, options=options, **fields))
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


class Page(Frozen):
    """What every page has: its fields are the keys of its YAML and the parameters of its notebook."""

    listed: ClassVar[bool] = True
    """Whether the tables of pages have a row for it."""

    page: str
    title: str
    question: str
    scale: Literal["smoke", "mini", "gpu", "coco"] = "mini"

    def chains(self) -> list[tuple[RunSpec, ...]]:
        """The chains of runs that the page shows; none unless its kind says otherwise."""
        return []

    def files(self) -> list[Path]:
        """Published files that the page shows besides the records of its runs."""
        return []


class DataPage(Page):
    """A look at the data of a scale."""

    images: int = Field(default=4, gt=0)
    """Sample images of each kind."""


class SpectraPage(Page):
    """What augmentations do to the spectra of images (:mod:`dfmsd.spectra`): computed from the images alone."""

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


class EnhancementPage(Page):
    """What a teacher attends to in changed versions of images (:mod:`dfmsd.attending`)."""

    view: Literal["frequencies", "augmentation"]
    """The versions: low and high frequencies as the weak teacher sees them, or Eq. (4)'s changes as the strong one does."""
    weak: str = "retinanet_r101"
    """The teacher whose boxes decide which objects dominate an image."""
    strong: str = "retinanet_x101"
    """The teacher of the last stage."""
    teacher_epochs: float = Field(default=1.0, gt=0)
    """Passes of a teacher over the training images, unless the study has trained it on this machine."""
    images: int = Field(default=100, gt=0)
    """Validation images over which numbers are taken, from the first on."""
    stride: int = 8
    """Of the level to look at, in pixels."""
    cycles: float = Field(default=1.0, gt=0)
    """As on the page of spectra."""
    options: Options = Options()
    """What Eq. (4) leaves open: theta, score, sigma, crop; the rest is not used."""

    @property
    def teachers(self) -> tuple[str, ...]:
        """Those that the page needs: the weak one, and the strong one if its attention is shown."""
        return (self.weak,) if self.view == "frequencies" else (self.weak, self.strong)

    def files(self) -> list[Path]:
        """The records of the teachers."""
        scale = scales.get(self.scale)
        return _published([teacher_of(name, scale) for name in self.teachers])


class PublicCode(Frozen):
    """What the methods' released code was measured to take."""

    where: str
    """The machine and the shapes, in words."""
    times_mse: dict[str, float]
    """By method: how many times plain feature MSE's time."""


class BenchPage(Page):
    """What the losses cost (:mod:`dfmsd.bench`): measured, not trained, and the same at every scale."""

    target_convolutions: float = Field(gt=0)
    """How many times its floor a method may take where convolutions are most of the floor."""
    target_memory: float = Field(gt=0)
    """The same elsewhere."""
    public: PublicCode

    def files(self) -> list[Path]:
        """The records of all measurements."""
        return _measurements()


class MethodPage(Page):
    """What a method does: its idea, its equations, what it looks at, and what it costs."""

    listed: ClassVar[bool] = False  # the page that compares them all leads to each

    method: str
    """A key of :data:`dfmsd.methods.METHODS`."""
    idea: str
    """In three sentences, as MyST Markdown."""
    functions: tuple[str, ...] = Field(min_length=1)
    """The equations, as ``module.function`` below :mod:`dfmsd.losses`, in the order of reading."""
    figure: str
    """What there is to see in the figure, as MyST Markdown."""
    student: str = "retinanet_r50"
    """Of the figure; with the teacher it is a pair that every method can work on."""
    teacher: str = "retinanet_r101"
    """Of the figure."""
    teacher_epochs: float = Field(default=1.0, gt=0)
    """Passes of the teacher over the training images, unless the study has trained it on this machine."""
    image: int = Field(default=3, ge=0)
    """Of the validation images."""
    stride: int = 8
    """Of the level to look at, in pixels."""

    @field_validator("method")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in METHODS:
            raise ValueError(f"there is no such method: {suggest(name, METHODS)}")
        return name

    def files(self) -> list[Path]:
        """The records of all measurements and of the two networks."""
        scale = scales.get(self.scale)
        (alone,) = chain(Row(student=self.student, teachers=(), recipe="baseline"), scale, scale.seeds[0])
        return [*_published([teacher_of(self.teacher, scale), alone]), *_measurements()]


class ChoosingPage(Page):
    """All methods side by side: what they need, what they cost, and what they gained in the comparisons of a scale."""

    def comparisons(self) -> list[PageSpec]:
        """Every comparison, at this page's scale."""
        return _comparisons(self.scale)

    def files(self) -> list[Path]:
        """The records of all measurements and of the comparisons' results."""
        return [*_published(entry.runs[-1] for page in self.comparisons() for entry in page.entries()), *_measurements()]


class ScoreboardPage(Page):
    """What became of every claim of the papers (:mod:`dfmsd.scoreboard`), at each scale that has records."""

    def scales(self) -> tuple[str, ...]:
        """The page's own, then the others."""
        return tuple(dict.fromkeys([self.scale, *scales.PUBLIC]))

    def files(self) -> list[Path]:
        """The records of all comparisons."""
        pages = [page for scale in self.scales() for page in _comparisons(scale)]
        return _published(run for page in pages for entry in page.entries() for run in entry.runs)


def _comparisons(scale: str) -> list[PageSpec]:
    stems = [file.stem for file in _files() if issubclass(NOTEBOOKS.get(file.parent.name, Page), PageSpec)]
    found = (get(name, scale=scale) for name in stems)
    return [page for page in found if isinstance(page, PageSpec)]


def _measurements() -> list[Path]:
    return sorted((paths.records() / "bench").glob("*.json"))


def _published(runs: Iterable[RunSpec | TeacherSpec]) -> list[Path]:
    """The published records among those of some runs, each once."""
    files = dict.fromkeys(paths.records() / f"{run.key}.json" for run in runs)
    return [file for file in files if file.exists()]


class PageSpec(Page):
    """A comparison: rows of one table, each a recipe for a student and its teachers."""

    table: int | str | None = None
    """The table whose numbers stand beside ours (``params/published.yaml``)."""
    groups: tuple[Group, ...] = Field(min_length=1)
    seeds: tuple[int, ...] | None = None
    """None: the scale's."""

    @model_validator(mode="after")
    def _check(self) -> PageSpec:
        for row in self.rows():
            check(row)
        return self

    def rows(self) -> tuple[Row, ...]:
        """All rows, in the order of the table."""
        return tuple(row for group in self.groups for row in group.rows())

    @property
    def subject(self) -> str:
        """The name of the last row, which the verdicts compare with all others."""
        return name_of(self.rows()[-1])

    def entries(self) -> list[Entry]:
        """Each row with each seed."""
        scale = scales.get(self.scale)
        return [
            Entry(place, row, seed, chain(row, scale, seed))
            for place, row in enumerate(self.rows())
            for seed in self.seeds or scale.seeds
        ]

    def chains(self) -> list[tuple[RunSpec, ...]]:
        """The chains of runs of all entries."""
        return [entry.runs for entry in self.entries()]


class SensitivityPage(PageSpec):
    """Rows of one pair that differ in the values of one or two options, drawn over these values."""

    vary: tuple[str, ...] = Field(min_length=1, max_length=2)
    """Fields of :class:`dfmsd.stages.Options`, or weights that its ``times`` multiplies."""

    def values(self, row: Row) -> tuple[float, ...]:
        """A row's values of what is varied; of a weight its factor."""
        return tuple(float(getattr(row.options, name, row.options.times.get(name, 1.0))) for name in self.vary)


class TuningPage(Page):
    """Which share of the detection loss each method gets at a scale: the same trials for all, on the split kept for it."""

    student: str
    teacher: str
    methods: dict[str, tuple[str, ...]]
    """The weight of each of a method's terms, which divide a share equally among them."""
    fixed: dict[str, dict[str, float]] = Field(default_factory=dict)
    """Other weights of a method during the trials: what the scale sets in the end must not change what a trial was."""
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
        _, _, backbone = self.teacher.rpartition("_")
        short = short.model_copy(update={"teacher_epochs": {backbone: scale.schedule_of(self.teacher, teacher=True).epochs}})
        rows = [Row(student=self.student, teachers=(), recipe="baseline")]
        for method, weights in self.methods.items():
            for share in shares:
                options = Options(
                    sal=False, me="none", hyper=self.fixed.get(method, {}) | dict.fromkeys(weights, share / len(weights))
                )
                rows.append(Row(student=self.student, teachers=(self.teacher,), recipe=method, options=options))
        return [Entry(place, row, self.seed, chain(row, short, self.seed, split="tune")) for place, row in enumerate(rows)]

    def chains(self) -> list[tuple[RunSpec, ...]]:
        """The chains of runs of all trials."""
        return [entry.runs for entry in self.entries()]


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
    seed: int | None = None
    """None: the scale's first."""

    def run(self, scale: scales.Scale) -> RunSpec | TeacherSpec:
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


class FeaturesPage(Page):
    """A look into trained networks, from a record of what was read off them (:mod:`dfmsd.observation`)."""

    TEACHER: ClassVar[str] = "teacher"
    """What the page calls the teacher."""

    view: Literal["masks", "stages", "distribution"]
    """What is drawn: where features are large and what masks hide of it, the same beside the teacher's, or distributions."""
    networks: tuple[Look, ...] = Field(min_length=1)
    teacher: str | None = None
    """A network of the zoo that all are compared with; None: each is compared with each."""
    claim: str
    """What the paper says of its figure, as MyST Markdown."""
    stride: int = 8
    """Of the level that is drawn, in pixels."""
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

    def runs(self) -> dict[str, RunSpec | TeacherSpec]:
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

    def observation(self) -> Path:
        """Where the record lies once it is made."""
        return paths.records() / "observations" / f"{self.page}-{self.scale}.json"

    def files(self) -> list[Path]:
        """The record, once it is made."""
        return [file] if (file := self.observation()).exists() else []

    def asked(self) -> str:
        """Hash of all that decides what the record holds."""
        keys = {name: run.key for name, run in self.runs().items()}
        return _digest([keys, self.pairs(), self.stride, self.images, self.shown])

    def command(self) -> str:
        """What makes the record."""
        return f"python -m dfmsd observe {self.page} --scale {self.scale}"


NOTEBOOKS: dict[str, type[Page]] = {
    "ablation": PageSpec,
    "bench": BenchPage,
    "choosing": ChoosingPage,
    "comparison": PageSpec,
    "dataset": DataPage,
    "enhancement": EnhancementPage,
    "features": FeaturesPage,
    "method": MethodPage,
    "scoreboard": ScoreboardPage,
    "sensitivity": SensitivityPage,
    "spectra": SpectraPage,
    "tuning": TuningPage,
}
"""The page model of each folder of ``params/``, which is also the name of its notebook."""

AnyPage = TypeVar("AnyPage", bound=Page)


def spec(**parameters: Any) -> PageSpec:
    """A comparison from parameters, as its notebook has them; see :func:`validate`."""
    return validate(PageSpec, parameters)


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
        raise StudyError(f"page {parameters.get('page', '?')!r}: {_explain(error, model)}") from None


def _explain(error: ValidationError, model: type[Page]) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        parts: dict[str, type[Frozen]] = {"groups": Group, "networks": Look, "options": Options}
        inside = [part for part in first["loc"][:-1] if isinstance(part, str)]
        known = parts[inside[-1]] if inside else model
        return f"unknown parameter {place!r}: {suggest(str(first['loc'][-1]), known.model_fields)}"
    if first["type"] == "missing":
        return f"the parameter {place!r} is missing"
    return f"{place} = {first['input']!r}: {first['msg'].removeprefix('Value error, ')}"


def names() -> list[str]:
    """All pages that have a params file, by notebook and name."""
    return [file.stem for file in _files()]


def _files() -> list[Path]:
    return sorted(paths.PARAMS.glob("*/*.yaml"))


def file_of(page: str) -> Path:
    """The params file of a page.

    Raises:
        StudyError: if there is none; the nearest page is suggested.
    """
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
    try:
        parameters = yaml.safe_load(file.read_text())
    except yaml.YAMLError as error:
        raise StudyError(f"{file.name} is not YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(parameters, dict) or not all(isinstance(name, str) for name in parameters):
        raise StudyError(f"{file.name} must hold lines of 'parameter: value'")
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


def describe(run: RunSpec) -> str:
    """A run in words, for plans and logs.

    Example:
        >>> describe(get("table03", seeds=[0]).chains()[2][-1])
        'Faster R-CNN R50 <- RetinaNet X101, MGD, 12 epochs, seed 0'
    """
    text = zoo.label(run.network.name)
    if run.stage is not None:
        methods = " + ".join(method.type for method in run.stage.methods)
        stage = f", stage {run.stage.index}" if run.parent or run.stage.enhance or methods == "DFMSD" else ""
        teachers = " + ".join(zoo.label(teacher.network.name) for teacher in run.stage.teachers)
        text += f" <- {teachers}, {methods}{stage}"
    unit, length = ("iteration", run.schedule.max_iters) if run.schedule.max_iters else ("epoch", run.schedule.epochs)
    return f"{text}, {length} {unit}{'s' * (length != 1)}, seed {run.seed}"
