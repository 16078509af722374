"""Measure what every method's loss costs: ``python -m dfmsd bench losses``."""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn

from dfmsd.errors import StudyError, suggest
from dfmsd.hyper import METHODS, for_pair
from dfmsd.losses import Levels, Method
from dfmsd.report import floors
from dfmsd.report.plain import PLAIN
from dfmsd.study import benchrecord as record
from dfmsd.study.benchrecord import Bench, Cost, Measured, Sample, Shapes
from dfmsd.study.run import commit, processor

SHAPES = (
    Shapes(
        name="P3 to P7 of 800 x 1344",
        sizes={8: (100, 168), 16: (50, 84), 32: (25, 42), 64: (13, 21), 128: (7, 11)},
        kind="one_stage",
    ),
    Shapes(
        name="P2 to P6 of 800 x 1344",
        sizes={4: (200, 336), 8: (100, 168), 16: (50, 84), 32: (25, 42), 64: (13, 21)},
        kind="two_stage",
    ),
)
"""COCO's usual input, two images a batch."""

COPY_BYTES = 2**29
"""Of the tensor whose copy gives the bandwidth: larger than any cache."""
SEED = 2407
LIBRARIES = ("torch", "onedl-mmcv", "onedl-mmdetection")

CLOCKS = {
    "cpu": "time.perf_counter around the call",
    "cuda": "CUDA events on a stream kept busy beforehand, so that what it takes to launch kernels does not count",
}
MEMORY = {
    "cpu": "highest sum of what PyTorch's allocator gave out and took back, from torch.profiler's memory events of one call",
    "cuda": "torch.cuda.max_memory_allocated in one call, less what was allocated before",
}

Work = Callable[[], object]


def device_of(name: str | None) -> torch.device:
    """A device by its name; None: the GPU if there is one.

    Raises:
        StudyError: if there is no such device.
    """
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in CLOCKS:
        raise StudyError(f"unknown device {name!r}: {suggest(name, CLOCKS)}")
    if name == "cuda" and not torch.cuda.is_available():
        raise StudyError("--device cuda: PyTorch finds no GPU here (`python -m dfmsd doctor` may know why): take --device cpu")
    return torch.device(name)


def run(
    *,
    device: str | None = None,
    threads: int | None = None,
    repeats: int = 10,
    shapes: Sequence[Shapes] = SHAPES,
    copy_bytes: int = COPY_BYTES,
    say: Callable[[str], None] = print,
) -> Path:
    """Measure all methods at all shapes and write the record.

    Args:
        device: ``cpu`` or ``cuda``; None: the GPU if there is one.
        threads: Of PyTorch on the CPU; None: as many as it takes by itself.
        repeats: Rounds; every method is timed once in each.
        shapes: The feature maps.
        copy_bytes: Size of the tensor whose copy gives the bandwidth.
        say: Told how far it has got.

    Returns:
        The record's file.

    Raises:
        StudyError: if there is no such device.
    """
    place = device_of(device)
    with _threads(threads):
        results = tuple(_measured(one, place, repeats, copy_bytes, say) for one in shapes)
        bench = Bench(
            device=place.type,
            hardware=torch.cuda.get_device_name() if place.type == "cuda" else processor(),
            threads=torch.get_num_threads(),
            repeats=repeats,
            clock=CLOCKS[place.type],
            memory=MEMORY[place.type],
            versions={name: version(name) for name in LIBRARIES} | {"python": platform.python_version()},
            tf32=torch.backends.cudnn.allow_tf32,
            commit=commit(),
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            results=results,
            left_out=floors.LEFT_OUT,
        )
    return record.write(bench)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _measured(shapes: Shapes, device: torch.device, repeats: int, copy_bytes: int, say: Callable[[str], None]) -> Measured:
    inputs = Inputs.make(shapes, device)
    subjects = {name: Subject.make(name, inputs) for name in METHODS if name not in floors.LEFT_OUT}
    plain = subjects["mse"].work
    copy = copying(copy_bytes, device)
    say(f"{shapes.name}: warming up")
    for subject in subjects.values():
        for work in (subject.work, subject.plain, *(work for work, _ in subject.convolutions)):
            if work is not None:
                work()
    samples: dict[str, list[Sample]] = {name: [] for name in subjects}
    for number in range(repeats):
        say(f"{shapes.name}: round {number + 1} of {repeats}")
        for name, subject in subjects.items():
            rate = 2 * copy_bytes / seconds(copy, device) / 1e9  # read and written
            mse = seconds(plain, device)
            convolutions = sum(times * seconds(work, device) for work, times in subject.convolutions)
            timings = {"ms": seconds(subject.work, device), "mse_ms": mse, "convolutions_ms": convolutions}
            if subject.plain is not None:
                timings["plain_ms"] = seconds(subject.plain, device)
            in_ms = {key: round(1e3 * value, 4) for key, value in timings.items()}
            samples[name].append(Sample(**in_ms, copy_gb_s=round(rate, 3)))
    costs = {name: subject.cost(samples[name]) for name, subject in subjects.items()}
    return Measured(shapes=shapes, costs=costs)


@dataclass(frozen=True)
class Inputs:
    """What the distiller would hand to a method."""

    shapes: Shapes
    levels_s: dict[int, Tensor]
    levels_t: dict[int, Tensor]
    boxes: tuple[Tensor, ...]
    image_shapes: tuple[tuple[int, int], ...]
    generator: torch.Generator

    @classmethod
    def make(cls, shapes: Shapes, device: torch.device) -> Inputs:
        """Random features and boxes, the same on every machine."""
        source = torch.Generator().manual_seed(SEED)

        def levels() -> dict[int, Tensor]:
            return {
                stride: torch.randn(shapes.batch, shapes.channels, *size, generator=source).to(device)
                for stride, size in shapes.sizes.items()
            }

        levels_s = {stride: feat.requires_grad_() for stride, feat in levels().items()}
        # One more in each second image and one less in the others, since images differ.
        counts = [max(shapes.boxes + (1 if image % 2 else -1), 0) for image in range(shapes.batch)]
        boxes = tuple(random_boxes(count, shapes.image, source).to(device) for count in counts)
        generator = torch.Generator(device).manual_seed(SEED)
        return cls(shapes, levels_s, levels(), boxes, (shapes.image,) * shapes.batch, generator)

    def call(self, method: Method) -> Work:
        """A method's forward and backward on these inputs, to the student's features and the method's own parameters."""
        learned = [parameter for parameter in method.parameters() if parameter.requires_grad]
        wanted: Sequence[Tensor] = [*self.levels_s.values(), *learned]
        levels_s: Levels = self.levels_s

        def work() -> object:
            terms = method(levels_s, self.levels_t, self.boxes, self.image_shapes, generator=self.generator)
            # A method may leave a level out.
            return torch.autograd.grad(torch.stack(list(terms.values())).sum(), wanted, allow_unused=True)

        return work


def random_boxes(count: int, image: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Boxes with sides from a fiftieth to a half of the image's, small ones as often as large ones on a logarithmic scale.

    Args:
        count: How many.
        image: Height and width in pixels.
        generator: The only source of randomness.

    Returns:
        ``(count, 4)`` as x1, y1, x2, y2 in pixels, inside of the image.
    """
    whole = torch.tensor([image[1], image[0]], dtype=torch.float32)
    sides = whole * 0.02 * 25 ** torch.rand(count, 2, generator=generator)
    corner = (whole - sides) * torch.rand(count, 2, generator=generator)
    return torch.cat([corner, corner + sides], dim=1)


@dataclass(frozen=True)
class Subject:
    """A method with everything that is timed for it."""

    name: str
    spec: Any
    method: Method
    work: Work
    plain: Work | None
    """The straightforward version, where there is one (:mod:`dfmsd.report.plain`)."""
    units: Counter[Unit]
    """Its convolutions, and how often it uses each."""
    convolutions: tuple[tuple[Work, int], ...]
    """The same as calls."""
    inputs: Inputs

    @classmethod
    def make(cls, name: str, inputs: Inputs) -> Subject:
        """A method with the papers' hyper-parameters for the shapes' kind of networks, as the distiller builds it."""
        shapes = inputs.shapes
        spec = for_pair(name, shapes.kind, shapes.kind)
        fields = dict(spec) | {"strides": list(shapes.sizes), "channels_s": shapes.channels, "channels_t": shapes.channels}
        device = inputs.generator.device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            method: Method = MODELS.build(fields).to(device).train()
        work, plain = inputs.call(method), None
        if name in PLAIN:
            same = PLAIN[name](**{key: value for key, value in fields.items() if key != "type"}).to(device).train()
            same.load_state_dict(method.state_dict())
            plain = inputs.call(same)
        units = convolutions_of(method, work)
        convolutions = tuple((unit.alone(), times) for unit, times in units.items())
        return cls(name, spec, method, work, plain, units, convolutions, inputs)

    def cost(self, samples: Sequence[Sample]) -> Cost:
        """What the record says of it."""
        shapes = self.inputs.shapes
        least = floors.least_bytes(self.name, self.spec, shapes.sizes, batch=shapes.batch, channels=shapes.channels)
        return Cost(
            spec=self.spec.model_dump(mode="json"),
            least_mb=least / 1e6,
            convolutions={str(unit): times for unit, times in self.units.items()},
            peak_mb=_peak_mb(self.work, self.inputs.generator.device),
            plain_peak_mb=None if self.plain is None else _peak_mb(self.plain, self.inputs.generator.device),
            samples=tuple(samples),
            code=record.code_digest(self.name),
        )


class Unit:
    """A convolution between maps, or a generation block, at the size at which a method uses it; equal ones are one.

    Args:
        module: The very module.
        feat: An input of it.
        target: What it made of the input.
    """

    def __init__(self, module: nn.Module, feat: Tensor, target: Tensor) -> None:
        self.module = module
        self.shape, self.target_shape, self.device = tuple(feat.shape), tuple(target.shape), feat.device
        self.needs_gradient = feat.requires_grad

    def __str__(self) -> str:
        """The module's convolutions, and its input."""
        kinds = [
            f"{'x'.join(map(str, part.kernel_size))} {part.in_channels} to {part.out_channels}"
            for part in self.module.modules()
            if isinstance(part, nn.Conv2d)
        ]
        gradient = "" if self.needs_gradient else ", no gradient to the input"
        return f"{', '.join(kinds)} at {'x'.join(map(str, self.shape))}{gradient}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unit) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def alone(self) -> Work:
        """Its forward and backward on random numbers."""
        feat = torch.randn(self.shape, device=self.device, requires_grad=self.needs_gradient)
        gradient = torch.randn(self.target_shape, device=self.device)
        wanted = [*([feat] if self.needs_gradient else []), *self.module.parameters()]
        return lambda: torch.autograd.grad(self.module(feat), wanted, gradient)


def convolutions_of(method: nn.Module, work: Work) -> Counter[Unit]:
    """The convolutions between maps that a call of a method uses, and how often.

    A convolution of one position (squeeze and excitation) or with one channel on a side (a sum over channels) is none between maps.
    """
    found: Counter[Unit] = Counter()

    def catch(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        one_position = inputs[0].shape[2:].numel() == 1
        if not one_position and inputs[0].shape[1] > 1 and output.shape[1] > 1:
            found[Unit(module, inputs[0], output)] += 1

    handles = [module.register_forward_hook(catch) for module in _candidates(method)]
    work()
    for handle in handles:
        handle.remove()
    return found


def _candidates(module: nn.Module) -> Iterator[nn.Module]:
    """Generation blocks whole, other convolutions one by one."""
    parts = list(module.children())
    block = isinstance(module, nn.Sequential) and {type(part) for part in parts} == {nn.Conv2d, nn.ReLU}
    if isinstance(module, nn.Conv2d) or block:
        yield module
    else:
        for part in parts:
            yield from _candidates(part)


def copying(size: int, device: torch.device) -> Work:
    """A copy of so many bytes, between tensors that exist."""
    source = torch.ones(size // 4, device=device)
    target = torch.zeros_like(source)
    return lambda: target.copy_(source)


def seconds(work: Work, device: torch.device) -> float:
    """How long a call takes; its results are thrown away afterwards."""
    if device.type == "cpu":
        start = time.perf_counter()
        result = work()
        elapsed = time.perf_counter() - start
        del result
        return elapsed
    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    launching = time.perf_counter() - start
    torch.cuda.synchronize()
    before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    # The GPU first waits for twice the time that launching takes, at up to 2 * 10**9 cycles a second.
    torch.cuda._sleep(int(4e9 * launching))
    before.record()
    work()
    after.record()
    torch.cuda.synchronize()
    return float(before.elapsed_time(after)) / 1e3


def _peak_mb(work: Work, device: torch.device) -> float:
    return round(peak_bytes(work, device) / 2**20, 3)


def peak_bytes(work: Work, device: torch.device) -> int:
    """The highest amount of memory in a call beyond what was there before; see :data:`MEMORY`.

    Example:
        >>> peak_bytes(lambda: torch.zeros(256) + torch.zeros(256), torch.device("cpu"))
        3072
    """
    if device.type == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # it says when it starts and stops otherwise
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        result = work()
    del result
    with tempfile.TemporaryDirectory(prefix="dfmsd-") as folder:
        file = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(file))
        events = [event for event in json.loads(file.read_text())["traceEvents"] if event["name"] == "[memory]"]
    peak = held = 0
    for event in sorted(events, key=lambda event: event["ts"]):
        held += event["args"]["Bytes"]
        peak = max(peak, held)
    return peak
