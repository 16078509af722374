"""What a measurement leaves behind: one JSON file for each machine, with every single timing in it."""

from __future__ import annotations

import re
from pathlib import Path
from statistics import median
from typing import Any, Literal

from pydantic import Field, ValidationError

from dfmsd.errors import StudyError
from dfmsd.hyper import METHODS, Kind
from dfmsd.study import paths, records
from dfmsd.study.pages.methods import MEASURE
from dfmsd.study.spec import Frozen


class Shapes(Frozen):
    """The feature maps that are compared, and the kind of networks that have them."""

    name: str
    sizes: dict[int, tuple[int, int]]
    """Height and width of each level's map by its stride in pixels, finest first."""
    kind: Kind
    """Of student and teacher: it decides the hyper-parameters."""
    batch: int = Field(default=2, gt=0)
    channels: int = Field(default=256, gt=0)
    boxes: int = Field(default=8, ge=0)
    """Mean number of boxes in an image."""

    @property
    def image(self) -> tuple[int, int]:
        """Height and width of the network's input in pixels."""
        stride, (height, width) = next(iter(self.sizes.items()))
        return stride * height, stride * width


class Sample(Frozen):
    """One round of one method: timings that were taken right after each other, so that whatever else the machine did hit all."""

    ms: float
    """Forward and backward."""
    mse_ms: float
    """The same of plain feature MSE."""
    convolutions_ms: float
    """The method's convolutions alone, forward and backward."""
    copy_gb_s: float
    """What a large copy reads and writes, in 10⁹ bytes a second."""
    plain_ms: float | None = None
    """The straightforward version, where there is one (:mod:`dfmsd.report.plain`)."""


class Cost(Frozen):
    """What one method costs at one set of shapes."""

    spec: dict[str, Any]
    """Its hyper-parameters."""
    least_mb: float
    """What it must move, in 10⁶ bytes (:mod:`dfmsd.report.floors`)."""
    convolutions: dict[str, int]
    """What was timed alone: each convolution or generation block with its input, and how often it is used."""
    peak_mb: float
    """Memory beyond the features and the parameters at its highest, in 2²⁰ bytes; the gradients are part of it."""
    plain_peak_mb: float | None = None
    """The same of the straightforward version."""
    samples: tuple[Sample, ...] = Field(min_length=1)
    code: str
    """:func:`code_digest` when it was measured."""

    @property
    def ms(self) -> float:
        """Median over the rounds."""
        return median(sample.ms for sample in self.samples)

    def memory_ms(self, sample: Sample) -> float:
        """The part of the floor that a round's copy gives."""
        return self.least_mb / sample.copy_gb_s

    def times_mse(self) -> list[float]:
        """How many times plain MSE's time, in each round."""
        return [sample.ms / sample.mse_ms for sample in self.samples]

    def plain_times(self) -> list[float]:
        """How many times this method's time its straightforward version takes, in each round; empty if there is none."""
        return [sample.plain_ms / sample.ms for sample in self.samples if sample.plain_ms is not None]

    def times_floor(self) -> list[float]:
        """How many times the floor, in each round: what it must move at the copy's rate, plus its convolutions."""
        return [sample.ms / (self.memory_ms(sample) + sample.convolutions_ms) for sample in self.samples]

    @property
    def convolutions_share(self) -> float:
        """Share of the floor that is convolutions."""
        return median(s.convolutions_ms / (self.memory_ms(s) + s.convolutions_ms) for s in self.samples)


class Measured(Frozen):
    """All methods at one set of shapes."""

    shapes: Shapes
    costs: dict[str, Cost]
    """By the method's name in :data:`dfmsd.hyper.METHODS`."""


class Bench(Frozen):
    """A measurement on one machine."""

    device: Literal["cpu", "cuda"]
    hardware: str
    threads: int
    repeats: int
    clock: str
    """How time was taken."""
    memory: str
    """How memory was taken."""
    versions: dict[str, str]
    tf32: bool
    """Whether convolutions on a GPU may round their inputs to 10 bits, PyTorch's own setting."""
    commit: str
    finished: str
    results: tuple[Measured, ...]
    left_out: dict[str, str]
    """Methods that were not measured, and why."""

    @property
    def name(self) -> str:
        """The stem of its file.

        Example:
            >>> fields = {name: "" for name in Bench.model_fields}
            >>> Bench.model_construct(**fields | {"device": "cpu", "hardware": "A (R) 7 @ 2.1GHz", "threads": 2}).name
            'cpu-a-r-7-2-1ghz-2-threads'
        """
        words = [self.device, *re.findall(r"[a-z0-9]+", self.hardware.lower())]
        return "-".join(words + [f"{self.threads}-thread{'s' * (self.threads != 1)}"] * (self.device == "cpu"))


def folder() -> Path:
    """Where the records of measurements lie."""
    return paths.records() / "bench"


def write(bench: Bench) -> Path:
    """Write a record in place of the one that this machine had; returns its file."""
    file = folder() / f"{bench.name}.json"
    records.write_atomic(file, bench.model_dump_json(indent=1) + "\n")
    return file


def read(file: Path) -> Bench:
    """A record from its file.

    Raises:
        StudyError: if it is damaged or was renamed.
    """
    mend = f"delete it and run `{MEASURE}` on that machine again"
    try:
        bench = Bench.model_validate_json(file.read_text())
    except (ValidationError, OSError, UnicodeDecodeError) as error:
        raise StudyError(f"record {file} is damaged ({str(error).splitlines()[0]}): {mend}") from None
    if bench.name != file.stem:
        raise StudyError(f"record {file} is of {bench.name}: it was renamed or edited; {mend}")
    return bench


def all_records() -> list[Bench]:
    """Every record there is, by name."""
    return [read(file) for file in sorted(folder().glob("*.json"))]


def code_digest(name: str) -> str:
    """Hash of the code that a method's cost comes from; comments and docstrings do not count."""
    shared = records.SHARED.get(METHODS[name].__name__, ())
    stems = ("base", "_blocks", "mse", name, *shared)
    modules = [f"losses/{stem}" for stem in dict.fromkeys(stems)] + ["bench/floors", "bench/measure", "bench/plain"]
    return records.digest(modules)
