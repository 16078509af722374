"""Pages that show what was measured in images or of the package itself, from a record."""

from __future__ import annotations

import re
from abc import abstractmethod
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from dfmsd.study import machine, paths, scales
from dfmsd.study.pages.base import Page
from dfmsd.study.rows import Options
from dfmsd.study.spec import RunSpec, TeacherSpec, digest

Network = RunSpec | TeacherSpec
"""The run behind a network, or the published teacher."""


class MeasuredPage(Page):
    """A page that shows what was measured in images or networks, from a record (:class:`dfmsd.study.records.Measured`)."""

    looks_at_images: ClassVar[bool] = True
    """Of the data of its scale."""

    def runs(self) -> dict[str, Network]:
        """The run behind each network that is looked into, by the page's name for it."""
        return {}

    def chains(self) -> list[tuple[RunSpec, ...]]:
        """Those networks that are trained here, each alone."""
        return [(run,) for run in self.runs().values() if isinstance(run, RunSpec)]

    @abstractmethod
    def asked(self) -> str:
        """Hash of all that decides what the record holds."""

    def keys(self) -> dict[str, str]:
        """The keys of its runs."""
        return {name: run.key for name, run in self.runs().items()}

    def measured_file(self) -> Path:
        """Where the record lies once it is made: among the published ones, but those of tests."""
        home = paths.runs() if self.scale == "smoke" else paths.records()
        return home / "measured" / f"{self.page}-{self.scale}.json"

    def measured_files(self) -> list[Path]:
        """The record, once it is made; of a page about machines, one for each."""
        return [file] if (file := self.measured_file()).exists() else []


class SpectraPage(MeasuredPage):
    """What augmentations do to the spectra of images (:mod:`dfmsd.report.spectra`): computed from the images alone."""

    images: int = Field(default=200, gt=0, le=100_000)
    """Validation images, from the first on."""
    rings: int = Field(default=24, gt=0, le=1000)
    """Of a radial profile."""
    cycles: float = Field(default=1.0, gt=0, le=32)
    """Waves on an object at COCO's limit of small ones, which part low from high frequencies."""
    window: Literal["hann", "none"] = "hann"
    """What an image is multiplied by before its spectrum is taken."""
    options: Options = Options()
    """Strength of the noise and size of the crop; the rest is not used."""

    def asked(self) -> str:
        """Hash of all that decides what the record holds."""
        scale = scales.get(self.scale)
        images = [scale.data.model_dump(mode="json"), scale.image_size, self.images]
        return digest([images, self.rings, self.cycles, self.window, self.options.sigma, self.options.crop])


class CodePage(MeasuredPage):
    """A page about this package's code: it looks at no images, and is the same at all scales but smoke."""

    looks_at_images: ClassVar[bool] = False

    @field_validator("scale")
    @classmethod
    def _same_at_all(cls, scale: str) -> str:
        return scale if scale == "smoke" else "mini"


class BenchPage(CodePage):
    """What the losses cost (:mod:`dfmsd.report.bench`): a record a machine; at the scale smoke of tiny maps."""

    repeats: int = Field(default=5, ge=1, le=1000)
    """Rounds; every method is timed once in each."""

    def asked(self) -> str:
        """Hash of all that decides what the record holds."""
        return digest([self.repeats])

    def measured_file(self) -> Path:
        """This machine's record."""
        if self.scale == "smoke":
            return super().measured_file()
        words = re.findall(r"[a-z0-9]+", machine.name().lower())
        return paths.records() / "measured" / f"{self.page}-{'-'.join(words)}.json"

    def measured_files(self) -> list[Path]:
        """Those of all machines."""
        if self.scale == "smoke":
            return super().measured_files()
        return sorted((paths.records() / "measured").glob(f"{self.page}-*.json"))


class FamiliesPage(CodePage):
    """Which of mmdet's detector families can be distilled (:mod:`dfmsd.report.families`); at the scale smoke two of them."""

    def asked(self) -> str:
        """Hash of all that decides what the record holds."""
        return digest([])
