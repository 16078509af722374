"""The scales of ``params/scales.yaml``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from dfmsd.errors import StudyError, explained, suggest
from dfmsd.hyper import METHODS, for_pair
from dfmsd.study import coco, params, paths, zoo
from dfmsd.study.spec import CocoData, DataSpec, Frozen, Precision, ScheduleSpec, Seed, Seeds, ShapesData, StartSpec

SCALES = ("smoke", "mini", "gpu", "coco")

PUBLIC = ("mini", "gpu", "coco")
"""Scales whose numbers mean something; ``smoke`` is for tests."""

GATED = "mini"
"""The scale at which methods wait for the page of gates, and rows for the trials of their weights."""


Side = Annotated[int, Field(ge=32)]
"""Of an image in pixels."""


class _Schedule(Frozen):
    epochs: int = Field(gt=0)
    batch: int = Field(gt=0)
    warmup: int = Field(ge=0)
    taught_clip: float = Field(default=ScheduleSpec.model_fields["clip"].default, gt=0)
    """Maximum norm of the gradient of a student that has a teacher; all other networks have mmdet's."""


class Own(Frozen):
    """What some students or teachers have of their own."""

    images: int | None = Field(default=None, gt=0)
    epochs: int | None = Field(default=None, gt=0)


class _Start(Frozen):
    """What all starts of a scale have in common."""

    data: ShapesData
    crop: int = Field(ge=32)
    epochs: int = Field(gt=0)
    batch: int = Field(gt=0)
    lr: float = Field(gt=0)
    warmup: int = Field(ge=0)
    seed: Seed
    optimizers: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Changes for a type of backbone."""


class _Balance(Frozen):
    """Weights are shares; of :class:`dfmsd.study.spec.Balance`, what all pairs of a scale have in common."""

    iterations: int = Field(gt=0)
    seed: Seed


class Scale(Frozen):
    """Everything that a scale fixes."""

    name: Literal["smoke", "mini", "gpu", "coco"]
    data: DataSpec
    image_size: tuple[Side, Side]
    schedule: _Schedule
    precision: Precision = "float32"
    optimizers: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """The optimiser of a family that has another than SGD, with its weight decay: fields of the schedule."""
    images: int | None = Field(default=None, gt=0)
    """Labelled images of a student; all training images if None."""
    students: dict[str, Own] = Field(default_factory=dict)
    """Families whose students have another number of images or epochs."""
    teacher_images: int | None = Field(default=None, gt=0)
    """Labelled images of a teacher, likewise."""
    teachers: dict[str, Own] = Field(default_factory=dict)
    """Teachers that have another number of images or epochs, by a network's name or, for all others that have it, by backbone."""
    start: _Start | None = None
    """How backbones are pretrained; None: they begin with random weights or mmdet's."""
    seeds: Seeds
    teacher_seeds: Seeds
    """Of the teachers' trainings: the first for students of the first seed, the next for those of the second, and round again."""
    rehearsal: int | None = Field(default=None, gt=0)
    """Try every run out with this many iterations, see :meth:`rehearse`."""
    balance: _Balance | None = None
    methods: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Changes to the methods' hyper-parameters."""
    variants: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Changes for variants of a method in place of the method's own, by the name that a row's option ``variant`` has."""

    def changes(self, method: str, variant: str = "") -> dict[str, Any]:
        """What the scale changes of a method's hyper-parameters, or of a variant of it if the scale changes those of any method."""
        if not variant or not self.methods:
            return self.methods.get(method, {})
        if variant not in self.variants:
            raise StudyError(f"params/scales.yaml: {self.name}: variants has no {variant!r}: {suggest(variant, self.variants)}")
        return self.variants[variant]

    def schedule_of(self, network: str, *, teacher: bool = False, taught: bool = False, length: float = 1.0) -> ScheduleSpec:
        """The schedule of a network, by its name in the zoo.

        Args:
            network: Its name.
            teacher: It will teach.
            taught: It has a teacher.
            length: A factor on the epochs.
        """
        family = zoo.family(network)
        own = self._teacher(network) if teacher else self.students.get(family, Own())
        epochs = own.epochs or self.schedule.epochs
        plain = self.schedule.model_dump(exclude={"taught_clip"}) | {"epochs": max(1, round(length * epochs))}
        if taught:
            plain["clip"] = self.schedule.taught_clip
        return ScheduleSpec(
            **plain, **self.optimizers.get(family, {}), lr=zoo.learning_rate(network, self.name), max_iters=self.rehearsal
        )

    def images_of(self, student: str) -> int | None:
        """Labelled images of a student, by its network's name; None: all that there are."""
        return self.students.get(zoo.family(student), Own()).images or self.images

    def teacher_images_of(self, teacher: str) -> int | None:
        """Labelled images of a teacher, likewise."""
        return self._teacher(teacher).images or self.teacher_images

    def _teacher(self, network: str) -> Own:
        """What a teacher has of its own: by its name, the rest by its backbone."""
        named, others = (self.teachers.get(name, Own()) for name in (network, network.rpartition("_")[2]))
        return Own(images=named.images or others.images, epochs=named.epochs or others.epochs)

    def teacher_seed(self, student: int) -> int:
        """The seed of the teachers of a student that has a seed; the first for a seed that is none of the scale's."""
        place = self.seeds.index(student) if student in self.seeds else 0
        return self.teacher_seeds[place % len(self.teacher_seeds)]

    def start_of(self, network: str) -> StartSpec | None:
        """The start of a network's backbone, the same for all networks that have an equal one."""
        if self.start is None:
            return None
        backbone = zoo.backbone(network, self.name)
        if backbone is None:
            raise StudyError(f"dfmsd/study/zoo.yaml: {network}: {self.name} has starts: replace model.backbone as a whole")
        plain = {name: getattr(self.start, name) for name in type(self.start).model_fields if name != "optimizers"}
        return StartSpec(scale=self.name, backbone=backbone, **plain | self.start.optimizers.get(backbone["type"], {}))

    def on(self, data: CocoData) -> Scale:
        """This scale's path on a user's own data, all of whose images are labelled.

        Teachers train as students do, with the first seed, so that a network trained alone can teach. A length that a scale states
        for generated images is one of iterations: the epochs change so that these stay. The warm-up is at most a tenth of them.
        """
        own, of_scale = data.train or 1, self.images or self.data.train
        epochs = self.schedule.epochs if of_scale is None else max(1, round(self.schedule.epochs * of_scale / own))
        warmup = min(self.schedule.warmup, epochs * -(-own // self.schedule.batch) // 10)
        return self.model_copy(
            update={
                "data": data,
                "images": None,
                "teacher_images": None,
                "teachers": {},
                "teacher_seeds": self.seeds[:1],
                "students": {},
                "schedule": self.schedule.model_copy(update={"epochs": epochs, "warmup": warmup}),
            }
        )

    def rehearse(self, iterations: int, *, images: int = 2) -> Scale:
        """This scale's own path, tried out: a few iterations of one batch of a few images, and an evaluation on as many.

        Networks start from random weights, teachers too, so that nothing need be fetched. Teachers get one image.
        """
        return self.model_copy(
            update={
                "rehearsal": iterations,
                "images": None,
                "teacher_images": None,
                "teachers": {},
                "students": {},
                "start": None,
                "schedule": self.schedule.model_copy(update={"batch": images, "warmup": 0}),
                "data": self.data.model_copy(update={"train": images, "val": images}),
            }
        )


def _rows() -> dict[str, Any]:
    return params.read(paths.PARAMS / "scales.yaml")


def get(name: str, *, data: Path | None = None) -> Scale:
    """A scale by its name.

    Args:
        name: Of the scale.
        data: A YAML that names a user's own data, which take the place of the scale's (:meth:`Scale.on`).

    Raises:
        StudyError: if there is none of that name, it names a network, family, backbone or method that there is not (the nearest is
            suggested), or a value makes no sense. With own data see :func:`dfmsd.study.coco.own`.

    Example:
        >>> get("mini").image_size
        (128, 128)
    """
    rows = _rows()
    if name not in rows:
        raise StudyError(f"unknown scale {name!r}: {suggest(name, map(str, rows))}")
    row = rows[name]
    if isinstance(row, dict) and isinstance(row.get("data"), dict) and row["data"].get("source") == "coco":
        row = row | {"data": row["data"] | {"digest": coco.coco_digest() if data is None else coco.ABSENT}}
    scale = _checked(name, json.dumps(row, default=str))
    return scale if data is None else scale.on(coco.own(data))


@cache
def _checked(name: str, row: str) -> Scale:
    """A scale, whose row is checked once a process."""
    where, values = f"params/scales.yaml: {name}", json.loads(row)
    if not isinstance(values, dict):
        raise StudyError(f"{where} must hold lines of 'parameter: value'")
    try:
        scale = Scale.model_validate(values | {"name": name})
    except ValidationError as error:
        raise StudyError(f"{where}: {explained(error, Scale)}") from None
    networks = zoo.names()
    families, backbones = ({network.rpartition("_")[part] for network in networks} for part in (0, 2))
    known = {
        "teachers": ("network or backbone", {*networks, *backbones}),
        "students": ("family", families),
        "optimizers": ("family", families),
        "methods": ("method", METHODS),
    }
    for field, (kind, valid) in known.items():
        for unknown in sorted(getattr(scale, field).keys() - valid):
            raise StudyError(f"{where}: {field}: no {kind} {unknown!r}: {suggest(unknown, valid)}")
    try:
        for method, changes in scale.methods.items():
            _check_changes(f"methods: {method}", changes, [method])
        for variant, changes in scale.variants.items():
            _check_changes(f"variants: {variant}", changes, METHODS)  # which method it is of, its rows say
        for network in networks:
            scale.schedule_of(network)
            scale.start_of(network)
    except StudyError as error:
        raise StudyError(f"{where}: {error}".replace(f"{where}: params/scales.yaml: {name}", where)) from None
    except ValidationError as error:
        raise StudyError(f"{where}: optimizers: {explained(error, ScheduleSpec)}") from None
    return scale


def _check_changes(what: str, changes: dict[str, Any], methods: Iterable[str]) -> None:
    """Refuse changes that none of some methods takes."""
    fields = {field for method in methods for field in METHODS[method].model_fields}
    if unknown := sorted(changes.keys() - fields):
        raise StudyError(f"{what}: there is no {unknown[0]!r}: {suggest(unknown[0], fields)}")
    refused = ["no method has all of these"]
    for method in methods:
        if changes.keys() <= METHODS[method].model_fields.keys():
            try:
                for_pair(method, "one_stage", **changes)
                return
            except StudyError as error:
                refused.append(str(error))
    raise StudyError(f"{what}: {refused[-1]}")
