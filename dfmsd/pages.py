"""Pages: one YAML each in ``params/<notebook>/``, executed by the notebook of that folder's name.

The keys of the YAML are the fields of the notebook's page model (:data:`NOTEBOOKS`) and the parameters of the notebook itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from dfmsd import paths, scales, zoo
from dfmsd.errors import StudyError, suggest
from dfmsd.methods import METHODS
from dfmsd.spec import Frozen, RunSpec, TeacherSpec
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
        stems = [file.stem for file in _files() if NOTEBOOKS.get(file.parent.name) is PageSpec]
        found = (get(name, scale=self.scale) for name in stems)
        return [page for page in found if isinstance(page, PageSpec)]

    def files(self) -> list[Path]:
        """The records of all measurements and of the comparisons' results."""
        return [*_published(entry.runs[-1] for page in self.comparisons() for entry in page.entries()), *_measurements()]


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


NOTEBOOKS: dict[str, type[Page]] = {
    "bench": BenchPage,
    "choosing": ChoosingPage,
    "comparison": PageSpec,
    "dataset": DataPage,
    "method": MethodPage,
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
        parts: dict[str, type[Frozen]] = {"groups": Group, "options": Options}
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
        >>> describe(get("table03", seeds=[0]).chains()[1][-1])
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
