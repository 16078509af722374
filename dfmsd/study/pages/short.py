"""Pages that train whenever they are executed: to play with, with a loss or with data of the reader's own."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Self

from pydantic import Field, model_validator

from dfmsd.errors import StudyError, suggest
from dfmsd.hyper import METHODS, MethodSpec, Share
from dfmsd.study import scales
from dfmsd.study.pages.base import Page
from dfmsd.study.rows import Options, Row, chain, check
from dfmsd.study.spec import Seed


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

    @abstractmethod
    def rows(self) -> tuple[Row, ...]:
        """What is trained."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        scale = scales.get(self.scale)
        for row in self.rows():
            _method(row.recipe)
            chain(row, scale, scale.seeds[0])
        return self


class ExplorePage(ShortPage):
    """A short training to play with, seen from inside."""

    teacher: str = "gfl_r50"
    """Its backbone has the student's start, which is published, so nothing is pretrained before the first picture."""
    method: str = "dfmsd"
    image: int = Field(default=1, ge=0, le=100_000)
    """Of the validation images."""
    stride: int = Field(default=8, gt=0, le=1024)
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
