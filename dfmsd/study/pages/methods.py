"""Pages about methods: each on its own, and what the losses cost."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field, field_validator

from dfmsd.errors import suggest
from dfmsd.hyper import METHODS
from dfmsd.study import scales
from dfmsd.study.pages.base import Page, measurements, published
from dfmsd.study.rows import Row, chain, teacher_of
from dfmsd.study.spec import Frozen


class PublicCode(Frozen):
    """What the methods' released code was measured to take."""

    where: str
    """The machine and the shapes, in words."""
    times_mse: dict[str, float]
    """By method: how many times plain feature MSE's time."""


MEASURE = "python -m dfmsd bench losses"
"""What makes the records of :mod:`dfmsd.bench`."""


class BenchPage(Page):
    """What the losses cost (:mod:`dfmsd.bench`): measured, not trained, and the same at every scale."""

    target_convolutions: float = Field(gt=0)
    """How many times its floor a method may take where convolutions are most of the floor."""
    target_memory: float = Field(gt=0)
    """The same elsewhere."""
    public: PublicCode

    def command(self) -> str:
        """What measures."""
        return MEASURE

    def files(self) -> list[Path]:
        """The records of all measurements."""
        return measurements()


class MethodPage(Page):
    """What a method does: its idea, its equations, what it looks at, and what it costs."""

    listed: ClassVar[bool] = False  # the page that compares them all leads to each

    method: str
    """A key of :data:`dfmsd.hyper.METHODS`."""
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
        return [*published([teacher_of(self.teacher, scale), alone]), *measurements()]
