"""Pages about images: the data, their spectra, and what teachers attend to in changed versions of them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from dfmsd.study import scales
from dfmsd.study.pages.base import ObservedPage, Page, published
from dfmsd.study.rows import Options, teacher_of
from dfmsd.study.spec import RunSpec, TeacherSpec, _digest


class DataPage(Page):
    """A look at the data of a scale."""

    images: int = Field(default=4, gt=0)
    """Sample images of each kind."""


class SpectraPage(ObservedPage):
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
        return _digest([images, self.rings, self.cycles, self.window, self.options.sigma, self.options.crop])


class EnhancementPage(ObservedPage):
    """What a teacher attends to in changed versions of images (:mod:`dfmsd.report.enhancement`)."""

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

    def runs(self) -> dict[str, RunSpec | TeacherSpec]:
        """The teachers' runs, by their names in the zoo."""
        scale = scales.get(self.scale)
        return {name: teacher_of(name, scale) for name in self.teachers}

    def files(self) -> list[Path]:
        """The record, once it is made, and those of the teachers."""
        return [*super().files(), *published(self.runs().values())]

    def asked(self) -> str:
        """Hash of all that decides what the record holds."""
        keys = {name: run.key for name, run in self.runs().items()}
        options = self.options.model_dump(mode="json", include={"theta", "score", "sigma", "crop"})
        return _digest([keys, self.view, self.images, self.stride, self.cycles, options])
