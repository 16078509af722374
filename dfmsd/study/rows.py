"""The rows of a page's table, and the chain of runs that each stands for.

A row names student, teachers from weak to strong, and a recipe; its chain is one run for each stage that the rule of
:mod:`dfmsd.stages` makes of it, each with its predecessor as parent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from dfmsd.errors import StudyError, suggest
from dfmsd.hyper import METHODS, Kind, weights
from dfmsd.stages import Stage, Switches, stages
from dfmsd.study import zoo
from dfmsd.study.scales import Scale
from dfmsd.study.spec import Balance, EnhanceSpec, Frozen, NetworkSpec, RunSpec, Seeds, StageSpec, TeacherSpec

RECIPES = ("baseline", *METHODS)
"""What a row can ask for; the baseline has no teacher."""

JOIN = " + "
"""Between methods in one recipe, and between teachers that teach at the same time."""

TAUGHT, THEN = " taught by ", ", then "
"""What stands in a pair's words between the student and its teachers, and between one teacher and the next."""

ALLOWED = "any_order: true in a params file, or --any-order, allows it"

LABELS = {"baseline": "baseline"} | {name: model.model_fields["type"].default for name, model in METHODS.items()}
"""What a table calls each recipe."""

CROSS_HEADS = ("retinanet", "gfl", "fcos")
"""Families whose dense heads CrossKD's method covers, each with its like only."""


def in_words(student: str, teachers: Iterable[str] = ()) -> str:
    """A student and its teachers, by their names in the zoo.

    Example:
        >>> in_words("fcos_r50", ("gfl_r101", "gfl_x101")), in_words("fcos_r50")
        ('FCOS R50 taught by GFL R101, then GFL X101', 'FCOS R50')
    """
    learned = THEN.join(JOIN.join(map(zoo.label, group.split(JOIN))) for group in teachers)
    return zoo.label(student) + (TAUGHT + learned) * bool(learned)


class Options(Frozen, Switches):
    """The stages' switches, and changes to the method's numbers."""

    hyper: dict[str, Any] = Field(default_factory=dict)
    """Changes to the method's hyper-parameters (:mod:`dfmsd.hyper`); of a recipe of several methods, as ``fgd.alpha``."""
    variant: str = ""
    """The variant of the method whose weights the scale has apart from the method's (``variants`` in ``params/scales.yaml``)."""
    times: dict[str, float] = Field(default_factory=dict)
    """Factors on the weights that the scale or the paper sets, of a recipe of one method."""
    length: float = Field(default=1.0, gt=0, le=100)
    """Factor on the student's epochs, those of all stages together."""
    images: float = Field(default=1.0, gt=0)
    """Factor on the number of the student's labelled images."""


class Row(Frozen):
    """A row of a table."""

    student: str
    teachers: tuple[str, ...]
    """From weak to strong. A recipe of one stage uses the last. ``a + b`` are two teachers at the same time."""
    recipe: str
    """One of :data:`RECIPES`, or several methods at the same time: ``fgd + pkd``."""
    options: Options = Options()
    any_order: bool = False
    """Allow a teacher to follow one that is stronger on COCO."""
    name: str = ""
    """What a table calls the row, where the recipe does not tell it from another."""
    quotes: tuple[str, ...] | None = None
    """The paper's teachers, where this row has others in their place."""


class Impossible(Row):
    """A row that cannot be run."""

    reason: str


class Variant(Frozen):
    """A recipe under a name of its own, with options besides its group's."""

    recipe: str
    name: str
    options: Options = Options()
    impossible: str = ""
    """Why the row cannot be run, if so: it keeps its place in the table, beside the paper's numbers."""
    possible_at: tuple[str, ...] = ()
    """Scales at which it can be run all the same."""


def _plain(recipe: object) -> object:
    """A word alone is a recipe without a name of its own."""
    return {"recipe": recipe, "name": ""} if isinstance(recipe, str) else recipe


class Group(Frozen):
    """Rows that share a student and its teachers."""

    student: str
    teachers: tuple[str, ...]
    recipes: tuple[Annotated[Variant, BeforeValidator(_plain)], ...] = Field(min_length=1)
    options: Options = Options()
    any_order: bool = False
    quotes: tuple[str, ...] | None = None
    """The paper's teachers, where these stand in their place."""

    def rows(self, scale: str) -> list[Row]:
        """One row a recipe."""
        shared = {name: value for name, value in self if name not in ("recipes", "options")}
        found = []
        for recipe in self.recipes:
            changed = {name: getattr(recipe.options, name) for name in recipe.options.model_fields_set}
            fields = shared | {"recipe": recipe.recipe, "name": recipe.name, "options": self.options.model_copy(update=changed)}
            possible = not recipe.impossible or scale in recipe.possible_at
            found.append(Row(**fields) if possible else Impossible(**fields, reason=recipe.impossible))
        return found


@dataclass(frozen=True)
class Entry:
    """A row with one seed, and the chain of runs behind it."""

    place: int
    """Of the row in the table, from 0."""
    row: Row
    seed: int
    runs: tuple[RunSpec, ...]


def _listed(seeds: object) -> object:
    """One seed alone, or several as a text, as papermill's ``-p`` hands them on: ``0``, ``[0, 200]``, ``0, 200``."""
    if isinstance(seeds, str):
        words = [word.strip() for word in seeds.strip("[]() ").split(",")]
        return tuple(int(word) if word.isdecimal() else word for word in words if word)
    return (seeds,) if isinstance(seeds, int) and not isinstance(seeds, bool) else seeds


Given = Annotated[Seeds, BeforeValidator(_listed)]
"""Seeds as a page or papermill gives them."""


def name_of(row: Row) -> str:
    """What a table calls a row, such as ``FGD + PKD``."""
    return row.name or JOIN.join(LABELS[part] for part in row.recipe.split(JOIN))


def check(row: Row) -> None:
    """Refuse a row that cannot be trained or cannot be meant.

    Raises:
        StudyError: for an unknown recipe or network, no teacher, a teacher that is the student, or teachers out of order.
    """
    for part in (parts := row.recipe.split(JOIN)):
        if part not in RECIPES:
            raise StudyError(f"unknown method {part!r}: {suggest(part, RECIPES)}")
        if part not in METHODS and len(parts) > 1:
            raise StudyError(f"recipe {row.recipe!r}: {part} is a recipe of its own, only methods can be joined")
    groups = [group.split(JOIN) for group in row.teachers]
    names = [name for group in groups for name in group]
    for name in (row.student, *names):
        zoo.label(name)
    if not row.teachers and row.recipe != "baseline":
        raise StudyError(f"{row.recipe} of {row.student} has an empty list of teachers: name at least one")
    if row.student in names:
        raise StudyError(f"{row.student} is its own teacher: take another one")
    if len(set(names)) < len(names) and not row.any_order:
        raise StudyError(f"the stages {' -> '.join(row.teachers)} name a teacher twice ({ALLOWED})")
    for names_at_once in groups:
        if len({zoo.network(name, "coco").kind for name in names_at_once}) > 1:
            raise StudyError(
                f"{JOIN.join(names_at_once)} cannot teach at the same time: a method's values differ for one and two stages"
            )
    strength = {group: max(map(_strength, group.split(JOIN))) for group in row.teachers}
    order = sorted(row.teachers, key=strength.__getitem__)
    if [strength[group] for group in row.teachers] != [strength[group] for group in order] and not row.any_order:
        raise StudyError(
            f"the stages {' -> '.join(row.teachers)} are out of order: from weak to strong they are {' -> '.join(order)} "
            f"({ALLOWED})"
        )
    if "crosskd" in parts:
        for name in groups[-1]:
            _check_heads(row.student, name)


def _strength(teacher: str) -> float:
    """AP on COCO."""
    return zoo.weights(teacher).ap


def _strongest(row: Row) -> str:
    """The strongest of a row's teachers, whatever their order; of equals the last."""
    return max((name for group in reversed(row.teachers) for name in group.split(JOIN)), key=_strength)


def _check_heads(student: str, teacher: str) -> None:
    """CrossKD runs the student's features through the teacher's head: both must be dense heads of one type."""
    families = zoo.family(student), zoo.family(teacher)
    if families[0] != families[1] or families[0] not in CROSS_HEADS:
        raise StudyError(
            f"crosskd cannot teach {student} by {teacher}: it needs two dense heads of one type, out of {', '.join(CROSS_HEADS)}; "
            f"these are {families[0]} and {families[1]}"
        )


def chain(row: Row, scale: Scale, seed: int, *, split: Literal["val", "tune"] = "val") -> tuple[RunSpec, ...]:
    """The runs of a row, in order; the last one's result on a split is the row's.

    The seed is the student's; its teachers have the one that the scale gives them beside it (:attr:`Scale.teacher_seeds`), so that
    what a row gains is known over trainings of both. A weight is the same for all seeds: the first training of the strongest
    teacher measures its factor.

    Raises:
        StudyError: see :func:`check`.

    Example:
        >>> from dfmsd.study import scales
        >>> row = Row(student="fcos_r50", teachers=("gfl_r101", "gfl_x101"), recipe="dfmsd")
        >>> [run.stage.teacher.network.name for run in chain(row, scales.get("mini"), seed=0)]
        ['gfl_r101', 'gfl_x101']
    """
    check(row)
    if row.recipe == "baseline":
        return (_run(row, scale, seed, split),)
    runs: list[RunSpec] = []
    done = 0.0
    balance = None if scale.balance is None else Balance(teacher=teacher_of(_strongest(row), scale), **dict(scale.balance))
    for stage in stages(len(row.teachers), row.recipe, row.options):
        names = row.teachers[stage.teacher].split(JOIN)
        first, *others = (teacher_of(name, scale, seed) for name in names)
        enhance = None
        if stage.enhance is not None:
            enhance = EnhanceSpec(weak=teacher_of(row.teachers[0].split(JOIN)[0], scale, seed), **dict(stage.enhance))
        spec = StageSpec(
            index=stage.index,
            teacher=first,
            beside=tuple(others),
            methods=tuple(_method(row, part, stage, first.network.kind, scale) for part in row.recipe.split(JOIN)),
            matching=stage.matching,
            balance=balance,
            enhance=enhance,
            adversarial=stage.adversarial,
            inherit=stage.inherit,
        )
        parent = runs[-1] if runs else None
        runs.append(_run(row, scale, seed, split, stage=spec, parent=parent, done=done, share=stage.share))
        done += stage.share
    return tuple(runs)


def entries(rows: Iterable[Row], scale: Scale, seeds: Iterable[int], *, split: Literal["val", "tune"] = "val") -> tuple[Entry, ...]:
    """Each row that can be run, with each seed."""
    return tuple(
        Entry(place, row, seed, chain(row, scale, seed, split=split))
        for place, row in enumerate(rows)
        if not isinstance(row, Impossible)
        for seed in seeds
    )


def teacher_of(name: str, scale: Scale, student: int | None = None) -> RunSpec | TeacherSpec:
    """A teacher for a student of some seed, or the first training: mmdet's published checkpoint on COCO, else a run of ours."""
    network = _network(name, scale)
    if scale.rehearsal is not None:
        scale = scale.rehearse(1, images=1)
    elif scale.data.source == "coco":
        return TeacherSpec(network=network, weights=zoo.weights(name))
    return RunSpec(
        scale=scale.name,
        network=network,
        data=scale.data,
        image_size=scale.image_size,
        schedule=scale.schedule_of(name, teacher=True),
        precision=scale.precision,
        seed=scale.teacher_seeds[0] if student is None else scale.teacher_seed(student),
        images=scale.teacher_images_of(name),
        start=scale.start_of(name),
    )


def _network(name: str, scale: Scale) -> NetworkSpec:
    """A network at a scale; rehearsed, its backbone starts from random weights and every box counts, so that there are some."""
    network = zoo.network(name, scale.name)
    if scale.rehearsal is None:
        return network
    threshold = "model.test_cfg.rcnn.score_thr" if network.kind == "two_stage" else "model.test_cfg.score_thr"
    return network.model_copy(update={"overrides": network.overrides | {"model.backbone.init_cfg": None, threshold: 0.0}})


def _run(
    row: Row, scale: Scale, seed: int, split: Literal["val", "tune"], *, done: float = 0.0, share: float = 1.0, **links: Any
) -> RunSpec:
    whole = scale.schedule_of(row.student, taught=links.get("stage") is not None, length=row.options.length)
    # Cumulated, so that the stages' epochs add up to the row's.
    epochs = max(1, round((done + share) * whole.epochs) - round(done * whole.epochs))
    return RunSpec(
        scale=scale.name,
        network=_network(row.student, scale),
        data=scale.data,
        eval_split=split,
        image_size=scale.image_size,
        schedule=whole.model_copy(update={"epochs": epochs}),
        precision=scale.precision,
        seed=seed,
        images=_images(row, scale),
        start=scale.start_of(row.student) if links.get("parent") is None else None,
        **links,
    )


def _images(row: Row, scale: Scale) -> int | None:
    """Labelled images of a row's student; None: all that there are."""
    whole = scale.images_of(row.student)
    if row.options.images == 1:
        return whole
    whole = whole or scale.data.train
    if whole is None:
        raise StudyError(f"images: {row.options.images}: the number of training images of {scale.name} is not known")
    return max(1, round(row.options.images * whole))


def _method(row: Row, part: str, stage: Stage, teacher: Kind, scale: Scale) -> Any:
    changes = scale.changes(part, row.options.variant) | _hyper(row, part)
    if scale.balance is not None and (absent := [name for name in weights(part) if name not in changes]):
        raise StudyError(
            f"params/scales.yaml: {scale.name}: methods has no {absent[0]} for {part}, whose published weight would be read as a "
            "share of the detection loss: add it"
        )
    student = zoo.network(row.student, scale.name).kind
    return stage.method(part, student, teacher, zoo.family(row.student), changes, row.options.times)


def _hyper(row: Row, name: str) -> dict[str, Any]:
    """The row's changes to one method: all of them if the recipe has no other."""
    if JOIN not in row.recipe:
        return dict(row.options.hyper)
    parts = row.recipe.split(JOIN)
    for key in row.options.hyper:
        if key.partition(".")[0] not in parts:
            raise StudyError(
                f"hyper-parameter {key!r} of {row.recipe!r}: say whose it is, such as {parts[0]}.{key.rpartition('.')[2]}"
            )
    return {key.partition(".")[2]: value for key, value in row.options.hyper.items() if key.startswith(f"{name}.")}
