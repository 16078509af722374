"""The order of things: which chain of runs a row of a table stands for.

The only place that knows it. A row names student, teachers from weak to strong, and a recipe; its chain is one run for each stage,
each with its predecessor as parent. Stage k starts from stage k-1's student with fresh alignment and generation blocks, optimiser
and schedule, because the teacher changes.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationError

from dfmsd.errors import StudyError, suggest
from dfmsd.hyper import METHODS, for_pair
from dfmsd.study import zoo
from dfmsd.study.scales import Scale
from dfmsd.study.spec import AdversarialSpec, CocoData, EnhanceSpec, Frozen, NetworkSpec, RunSpec, Sides, StageSpec, TeacherSpec

ALONE = ("baseline", "longer_baseline")
"""Recipes without a teacher. ``longer_baseline``: for as many epochs as all stages together."""

RECIPES = (*ALONE, *METHODS, "equal_budget")
"""What a row can ask for. ``equal_budget``: DMKD by the strongest teacher for as many epochs as all stages together."""

JOIN = " + "
"""Between methods in one recipe, and between teachers that teach at the same time."""

ALLOWED = "any_order: true in a params file, or --any-order, allows it"

ADVERSARIAL = AdversarialSpec(epsilon=8 / 255, step=2 / 255, steps=5, decay=1.0, resize=0.9, diversity=0.5)
"""IKD's attack, as its README calls it."""

CROSS_HEADS = ("retinanet", "gfl", "fcos")
"""Families whose dense heads CrossKD's method covers, each with its like only."""


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
    crop: Sides = (0.8, 1.0)
    """Smallest and largest side, drawn for height and width each for itself (IKD's ``relative_range``)."""
    matching: Literal["stride", "index"] = "stride"
    inherit: bool = False
    epochs: Literal["each", "shared"] = "each"
    """Whether each stage has the scale's epochs, or all stages of a chain share them."""
    adversarial: bool = False
    """Adversarial examples in the last stage, beside or instead of masking enhancement, with the weight beta."""
    hyper: dict[str, Any] = Field(default_factory=dict)
    """Changes to the method's hyper-parameters (:mod:`dfmsd.hyper`); of a recipe of several methods, as ``fgd.alpha``."""
    variant: str = ""
    """The variant of the method whose weights the scale has apart from the method's (``variants`` in ``params/scales.yaml``)."""
    times: dict[str, float] = Field(default_factory=dict)
    """Factors on the weights that the scale or the paper sets, of a recipe of one method."""


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
        why = " (it trains for one stage's epochs for each)" if row.recipe in ALONE else ""
        raise StudyError(f"{row.recipe} of {row.student} has an empty list of teachers: name at least one{why}")
    if row.student in names:
        raise StudyError(f"{row.student} is its own teacher: take another one")
    if len(set(names)) < len(names) and not row.any_order:
        raise StudyError(f"the stages {' -> '.join(row.teachers)} name a teacher twice ({ALLOWED})")
    for names_at_once in groups:
        if len({zoo.network(name, "coco").kind for name in names_at_once}) > 1:
            raise StudyError(
                f"{JOIN.join(names_at_once)} cannot teach at the same time: a method's values differ for one and two stages"
            )
    strength = {group: max(zoo.weights(name).ap for name in group.split(JOIN)) for group in row.teachers}
    order = sorted(row.teachers, key=strength.__getitem__)
    if [strength[group] for group in row.teachers] != [strength[group] for group in order] and not row.any_order:
        raise StudyError(
            f"the stages {' -> '.join(row.teachers)} are out of order: from weak to strong they are {' -> '.join(order)} "
            f"({ALLOWED})"
        )
    if "crosskd" in parts:
        for name in groups[-1]:
            _check_heads(row.student, name)


def _check_heads(student: str, teacher: str) -> None:
    """CrossKD runs the student's features through the teacher's head: both must be dense heads of one type."""
    families = zoo.family(student), zoo.family(teacher)
    if families[0] != families[1] or families[0] not in CROSS_HEADS:
        raise StudyError(
            f"crosskd cannot teach {student} by {teacher}: it needs two dense heads of one type, out of {', '.join(CROSS_HEADS)}; "
            f"these are {families[0]} and {families[1]}"
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
    stages = len(row.teachers) if row.recipe in ("longer_baseline", "equal_budget") else 1
    if row.recipe in ALONE:
        return (_run(row, scale, seed, split, budget=stages),)
    staged = row.recipe == "dfmsd" and row.options.sal
    teachers = row.teachers if staged else row.teachers[-1:]
    budget = stages / len(teachers) if row.options.epochs == "shared" else stages
    runs: list[RunSpec] = []
    for index, group in enumerate(teachers, start=1):
        names = group.split(JOIN)
        attacked = row.recipe == "dfmsd" and row.options.adversarial and index == len(teachers)
        enhance = _enhance(row, index, len(teachers), scale)
        first, *others = (teacher_of(name, scale) for name in names)
        stage = StageSpec(
            index=index,
            teacher=first,
            beside=tuple(others),
            methods=tuple(
                _method(row, part, names[0], scale, enhanced=enhance is not None, attacked=attacked)
                for part in row.recipe.split(JOIN)
            ),
            matching=row.options.matching,
            balance=scale.balance,
            enhance=enhance,
            adversarial=ADVERSARIAL if attacked else None,
            inherit=row.options.inherit and index == 1,
        )
        runs.append(_run(row, scale, seed, split, stage=stage, parent=runs[-1] if runs else None, budget=budget))
    return tuple(runs)


def teacher_of(name: str, scale: Scale) -> RunSpec | TeacherSpec:
    """A teacher: mmdet's published checkpoint at the scale ``coco``, a run of ours elsewhere."""
    network = _network(name, scale)
    if scale.rehearsal is not None:
        scale = scale.rehearse(1, images=1)
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


def _run(row: Row, scale: Scale, seed: int, split: Literal["val", "tune"], *, budget: float = 1.0, **links: Any) -> RunSpec:
    return RunSpec(
        scale=scale.name,
        network=_network(row.student, scale),
        data=scale.data,
        eval_split=split,
        image_size=scale.image_size,
        schedule=scale.schedule_of(row.student, budget=budget),
        seed=seed,
        **links,
    )


def _method(row: Row, part: str, teacher: str, scale: Scale, *, enhanced: bool, attacked: bool) -> Any:
    name = "dmkd" if part == "equal_budget" else part
    changes = scale.changes(name, row.options.variant) | _hyper(row, name)
    if name == "dfmsd" and not row.options.sfa:
        changes["sfa"] = 0.0
    times = dict(row.options.times)
    if name == "dfmsd" and not (enhanced or attacked):
        # Without changed images these decide nothing: rows that differ in them alone share their first stage.
        times.pop("beta", None)
        changes.pop("enhanced_masked", None)
    if unknown := sorted(set(changes) - set(METHODS[name].model_fields)):
        raise StudyError(f"{name} has no hyper-parameter {unknown[0]!r}: {suggest(unknown[0], METHODS[name].model_fields)}")
    kinds = zoo.network(row.student, scale.name).kind, zoo.network(teacher, scale.name).kind
    try:
        method = for_pair(name, *kinds, zoo.family(row.student), **changes)
    except ValidationError as error:
        problem = error.errors()[0]
        raise StudyError(f"{name}: {problem['loc'][-1]} = {problem['input']!r}: {problem['msg']}") from None
    if unknown := sorted(set(row.options.times) - set(METHODS[name].model_fields)):
        raise StudyError(f"{name} has no weight {unknown[0]!r} to multiply: {suggest(unknown[0], METHODS[name].model_fields)}")
    method = method.model_copy(update={weight: factor * getattr(method, weight) for weight, factor in times.items()})
    return method.model_copy(update={"adv": method.beta}) if attacked else method


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


def _enhance(row: Row, index: int, stages: int, scale: Scale) -> EnhanceSpec | None:
    if row.recipe != "dfmsd":
        return None
    on = {"last": index == stages, "first": index == 1, "all": True, "none": False}[row.options.me]
    if not on:
        return None
    chosen = row.options.model_dump(include={"theta", "score", "sigma", "noise_probability", "crop"})
    return EnhanceSpec(weak=teacher_of(row.teachers[0].split(JOIN)[0], scale), **chosen)
