"""The order of things: which chain of runs a row of a table stands for.

The only place that knows it. A row names student, teachers from weak to strong, and a recipe; its chain is one run for each stage,
each with its predecessor as parent. Stage k starts from stage k-1's student with fresh alignment and generation blocks, optimiser
and schedule, because the teacher changes.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationError

from dfmsd import zoo
from dfmsd.errors import StudyError, suggest
from dfmsd.methods import METHODS, for_student
from dfmsd.scales import Scale
from dfmsd.spec import CocoData, EnhanceSpec, Frozen, NetworkSpec, RunSpec, StageSpec, TeacherSpec

RECIPES = ("baseline", *METHODS, "equal_budget")
"""What a row can ask for. ``equal_budget``: DMKD by the strongest teacher for as many epochs as all stages together."""

SFA_WEIGHT = {"one_stage": 10.0, "two_stage": 6.0}
"""PKD's weight of the correlation term, by the kind of teacher."""


class Options(Frozen):
    """DFMSD's parts, each of which can be switched off, and what Eq. (4) leaves open."""

    sal: bool = True
    """Stage-wise adaptation: one stage a teacher; off: the strongest teacher alone."""
    me: Literal["last", "first", "all", "none"] = "last"
    """The stages with masking enhancement."""
    sfa: bool = True
    """Semantic feature alignment."""
    theta: float = Field(default=0.5, ge=0, le=1)
    score: float = Field(default=0.3, ge=0, le=1)
    """0.3 is mmdet's threshold for showing a box; the paper gives none."""
    sigma: float = Field(default=0.08, ge=0)
    """20.4 of 255: severity 1 of IKD."""
    noise_probability: float = Field(default=0.3, ge=0, le=1)
    crop: float = Field(default=0.8, gt=0, le=1)
    matching: Literal["stride", "index"] = "stride"
    inherit: bool = False
    hyper: dict[str, Any] = Field(default_factory=dict)
    """Changes to the method's hyper-parameters (:mod:`dfmsd.methods`)."""


class Row(Frozen):
    """A row of a table."""

    student: str
    teachers: tuple[str, ...]
    """From weak to strong. A recipe of one stage uses the last."""
    recipe: str
    options: Options = Options()
    any_order: bool = False
    """Allow a teacher to follow one that is stronger on COCO."""


def check(row: Row) -> None:
    """Refuse a row that cannot be trained or cannot be meant.

    Raises:
        StudyError: for an unknown recipe or network, no teacher, a teacher that is the student, or teachers out of order.
    """
    if row.recipe not in RECIPES:
        raise StudyError(f"unknown method {row.recipe!r}: {suggest(row.recipe, RECIPES)}")
    for name in (row.student, *row.teachers):
        zoo.label(name)
    if not row.teachers and row.recipe != "baseline":
        raise StudyError(f"{row.recipe} of {row.student} has an empty list of teachers: name at least one")
    if row.student in row.teachers:
        raise StudyError(f"{row.student} is its own teacher: take another one")
    if len(set(row.teachers)) < len(row.teachers) and not row.any_order:
        raise StudyError(f"the stages {' -> '.join(row.teachers)} name a teacher twice (any_order: true allows it)")
    aps = [zoo.weights(name).ap for name in row.teachers]
    if aps != sorted(aps) and not row.any_order:
        order = sorted(row.teachers, key=lambda name: zoo.weights(name).ap)
        raise StudyError(
            f"the stages {' -> '.join(row.teachers)} are out of order: from weak to strong they are {' -> '.join(order)} "
            "(any_order: true allows it)"
        )


def chain(row: Row, scale: Scale, seed: int, *, split: Literal["val", "tune"] = "val") -> tuple[RunSpec, ...]:
    """The runs of a row, in order; the last one's result is the row's.

    Args:
        row: The row.
        scale: The scale.
        seed: The student's seed. Teachers have the scale's own, the same for every student.
        split: What the student is judged on.

    Raises:
        StudyError: see :func:`check`.

    Example:
        >>> from dfmsd import scales
        >>> row = Row(student="fcos_r50", teachers=("gfl_r101", "gfl_x101"), recipe="dfmsd")
        >>> [run.stage.teacher.network.name for run in chain(row, scales.get("mini"), seed=0)]
        ['gfl_r101', 'gfl_x101']
    """
    check(row)
    if row.recipe == "baseline":
        return (_run(row, scale, seed, split),)
    staged = row.recipe == "dfmsd" and row.options.sal
    teachers = row.teachers if staged else row.teachers[-1:]
    schedule_stages = len(row.teachers) if row.recipe == "equal_budget" else 1
    runs: list[RunSpec] = []
    for index, teacher in enumerate(teachers, start=1):
        stage = StageSpec(
            index=index,
            teacher=teacher_of(teacher, scale),
            methods=(_method(row, teacher, scale),),
            matching=row.options.matching,
            balance=scale.balance,
            enhance=_enhance(row, index, len(teachers), scale),
            inherit=row.options.inherit and index == 1,
        )
        runs.append(_run(row, scale, seed, split, stage=stage, parent=runs[-1] if runs else None, stages=schedule_stages))
    return tuple(runs)


def teacher_of(name: str, scale: Scale) -> RunSpec | TeacherSpec:
    """A teacher: mmdet's published checkpoint at the scale ``coco``, a run of ours elsewhere."""
    network = _network(name, scale)
    if scale.rehearsal is not None:
        scale = scale.rehearse(1, batch=1, images=1)
    elif isinstance(scale.data, CocoData):
        return TeacherSpec(network=network, weights=zoo.weights(name))
    return RunSpec(
        scale=scale.name,
        network=network,
        data=scale.data,
        image_size=scale.image_size,
        schedule=scale.schedule_of(name, teacher=True),
        seed=scale.teacher_seed,
    )


def _network(name: str, scale: Scale) -> NetworkSpec:
    """A network at a scale; rehearsed, its backbone starts from random weights and every box counts, so that there are some."""
    network = zoo.network(name, scale.name)
    if scale.rehearsal is None:
        return network
    threshold = "model.test_cfg.rcnn.score_thr" if network.kind == "two_stage" else "model.test_cfg.score_thr"
    return network.model_copy(update={"overrides": network.overrides | {"model.backbone.init_cfg": None, threshold: 0.0}})


def _run(row: Row, scale: Scale, seed: int, split: Literal["val", "tune"], *, stages: int = 1, **links: Any) -> RunSpec:
    return RunSpec(
        scale=scale.name,
        network=_network(row.student, scale),
        data=scale.data,
        eval_split=split,
        image_size=scale.image_size,
        schedule=scale.schedule_of(row.student, stages=stages),
        seed=seed,
        **links,
    )


def _method(row: Row, teacher: str, scale: Scale) -> Any:
    name = "dmkd" if row.recipe == "equal_budget" else row.recipe
    changes: dict[str, Any] = {}
    if name == "dfmsd":
        changes["sfa"] = SFA_WEIGHT[zoo.network(teacher, scale.name).kind]
    changes |= scale.methods.get(name, {}) | row.options.hyper
    if name == "dfmsd" and not row.options.sfa:
        changes["sfa"] = 0.0
    unknown = set(changes) - set(METHODS[name].model_fields)
    if unknown:
        first = sorted(unknown)[0]
        raise StudyError(f"{name} has no hyper-parameter {first!r}: {suggest(first, METHODS[name].model_fields)}")
    try:
        return for_student(name, zoo.network(row.student, scale.name).kind, **changes)
    except ValidationError as error:
        problem = error.errors()[0]
        raise StudyError(f"{name}: {problem['loc'][-1]} = {problem['input']!r}: {problem['msg']}") from None


def _enhance(row: Row, index: int, stages: int, scale: Scale) -> EnhanceSpec | None:
    if row.recipe != "dfmsd":
        return None
    on = {"last": index == stages, "first": index == 1, "all": True, "none": False}[row.options.me]
    if not on:
        return None
    chosen = row.options.model_dump(include={"theta", "score", "sigma", "noise_probability", "crop"})
    return EnhanceSpec(weak=teacher_of(row.teachers[0], scale), **chosen)
