"""The scales of ``params/scales.yaml``."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import yaml
from pydantic import Field

from dfmsd.errors import StudyError, suggest
from dfmsd.study import paths, zoo
from dfmsd.study.spec import CocoData, DataSpec, Frozen, ScheduleSpec, ShapesData, StartSpec

SCALES = ("smoke", "mini", "gpu", "coco")

PUBLIC = ("mini", "gpu", "coco")
"""Scales whose numbers mean something; ``smoke`` is for tests."""


class _Schedule(Frozen):
    epochs: int
    batch: int
    warmup: int


class _Student(Frozen):
    """What students of a family have of their own."""

    images: int | None = None
    epochs: int | None = None


class _Start(Frozen):
    """What all starts of a scale have in common."""

    data: ShapesData
    crop: int
    epochs: int
    batch: int
    lr: float
    warmup: int
    seed: int
    optimizers: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Changes for a type of backbone."""


class _Balance(Frozen):
    """Weights are shares; of :class:`dfmsd.study.spec.Balance`, what all pairs of a scale have in common."""

    iterations: int
    seed: int


class Scale(Frozen):
    """Everything that a scale fixes."""

    name: Literal["smoke", "mini", "gpu", "coco"]
    data: DataSpec
    image_size: tuple[int, int]
    schedule: _Schedule
    optimizers: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """The optimiser of a family that has another than SGD, with its weight decay: fields of the schedule."""
    teacher_epochs: dict[str, int] = Field(default_factory=dict)
    """Epochs of teachers that train longer than students, by a network's name or, for all others that have it, by backbone."""
    images: int | None = None
    """Labelled images of a student; all training images if None."""
    students: dict[str, _Student] = Field(default_factory=dict)
    """Families whose students have another number of images or epochs."""
    teacher_images: int | None = None
    """Labelled images of a teacher, likewise."""
    start: _Start | None = None
    """How backbones are pretrained; None: they begin with random weights or mmdet's."""
    seeds: tuple[int, ...]
    teacher_seed: int
    rehearsal: int | None = None
    """Try every run out with this many iterations, see :meth:`rehearse`."""
    balance: _Balance | None = None
    methods: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Changes to the methods' hyper-parameters."""
    variants: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Changes for variants of a method in place of the method's own, by the name that a row's option ``variant`` has."""

    def changes(self, method: str, variant: str = "") -> dict[str, Any]:
        """What the scale changes of a method's hyper-parameters.

        Args:
            method: Its name.
            variant: The name of one of its variants: the changes are this one's, if the scale has changes of any method.

        Raises:
            StudyError: if the scale lacks the variant.
        """
        if not variant or not self.methods:
            return self.methods.get(method, {})
        if variant not in self.variants:
            raise StudyError(f"params/scales.yaml: {self.name}: variants has no {variant!r}: {suggest(variant, self.variants)}")
        return self.variants[variant]

    def schedule_of(self, network: str, *, teacher: bool = False, length: float = 1.0) -> ScheduleSpec:
        """The schedule of a network.

        Args:
            network: Its name in the zoo.
            teacher: Whether it trains to teach.
            length: Factor on the epochs.

        Raises:
            StudyError: see :func:`dfmsd.study.zoo.learning_rate`.
        """
        family, _, backbone = network.rpartition("_")
        epochs = self.schedule.epochs
        if teacher:
            epochs = self.teacher_epochs.get(network, self.teacher_epochs.get(backbone, epochs))
        elif family in self.students:
            epochs = self.students[family].epochs or epochs
        plain = self.schedule.model_dump() | {"epochs": max(1, round(length * epochs))}
        return ScheduleSpec(
            **plain, **self.optimizers.get(family, {}), lr=zoo.learning_rate(network, self.name), max_iters=self.rehearsal
        )

    def images_of(self, student: str) -> int | None:
        """Labelled images of a student, by its network's name; None: all that there are."""
        own = self.students.get(zoo.family(student))
        return own.images if own and own.images else self.images

    def start_of(self, network: str) -> StartSpec | None:
        """The start of a network's backbone, the same for all networks that have an equal one.

        Raises:
            StudyError: if the scale has starts, but changes this backbone instead of replacing it.
        """
        if self.start is None:
            return None
        backbone = zoo.backbone(network, self.name)
        if backbone is None:
            raise StudyError(f"dfmsd/study/zoo.yaml: {network}: {self.name} has starts: replace model.backbone as a whole")
        plain = {name: getattr(self.start, name) for name in type(self.start).model_fields if name != "optimizers"}
        return StartSpec(scale=self.name, backbone=backbone, **plain | self.start.optimizers.get(backbone["type"], {}))

    def rehearse(self, iterations: int, *, images: int = 2) -> Scale:
        """This scale's own path, tried out: a few iterations of small batches, and an evaluation on a few images.

        Networks start from random weights, teachers too, so that nothing need be fetched. Teachers get one image.

        Args:
            iterations: Of every student's run.
            images: To train on, all in one batch, and to evaluate on.
        """
        return self.model_copy(
            update={
                "rehearsal": iterations,
                "images": None,
                "teacher_images": None,
                "students": {},
                "start": None,
                "schedule": self.schedule.model_copy(update={"batch": images, "warmup": 0}),
                "data": self.data.model_copy(update={"train": images, "val": images}),
            }
        )


@cache
def _rows() -> dict[str, Any]:
    return yaml.safe_load((paths.PARAMS / "scales.yaml").read_text())  # type: ignore[no-any-return]


def get(name: str) -> Scale:
    """A scale by its name.

    Raises:
        StudyError: if there is none of that name, or it trains teachers longer that the zoo has not; the nearest is suggested.

    Example:
        >>> get("mini").image_size
        (128, 128)
    """
    rows = _rows()
    if name not in rows:
        raise StudyError(f"unknown scale {name!r}: {suggest(name, rows)}")
    row = dict(rows[name])
    known = {part for network in zoo.names() for part in (network, network.rpartition("_")[2])}
    if unknown := sorted(set(row.get("teacher_epochs", {})) - known):
        raise StudyError(
            f"params/scales.yaml: {name}: teacher_epochs: no network or backbone {unknown[0]!r}: {suggest(unknown[0], known)}"
        )
    if row["data"]["source"] == "coco":
        from dfmsd.study.data import coco_digest

        row["data"] = CocoData(digest=coco_digest(), **{k: v for k, v in row["data"].items() if k != "source"})
    return Scale(name=name, **row)
