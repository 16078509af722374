"""What every method costs: the time and the memory of its loss alone, and a whole step with it.

Random features of COCO's size are handed to each method as the distiller would; forward and backward are timed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from dfmsd import losses
from dfmsd.hyper import METHODS, Kind, for_pair
from dfmsd.losses import Method
from dfmsd.report import step
from dfmsd.report.step import Work, peak_bytes, seconds
from dfmsd.study import machine
from dfmsd.study.pages.measured import BenchPage
from dfmsd.study.rows import LABELS

LEFT_OUT = {
    "crosskd": (
        "it compares predictions, not features: most of its work is the detectors' own heads, and its gradient goes through the "
        "student's head together with that of the detection loss, so that it has no cost of its own on features alone"
    ),
}
"""Methods that are not measured, and why."""

SEED = 2407


@dataclass(frozen=True)
class Shapes:
    """The feature maps that are compared, and the kind of networks that have them."""

    name: str
    sizes: Mapping[int, tuple[int, int]]
    """Height and width of each level's map by its stride in pixels, finest first."""
    kind: Kind
    """Of student and teacher: it decides the hyper-parameters."""
    batch: int = 2
    channels: int = 256
    boxes: int = 8
    """Mean number of boxes in an image."""

    @property
    def image(self) -> tuple[int, int]:
        """Height and width of the network's input in pixels."""
        stride, (height, width) = next(iter(self.sizes.items()))
        return stride * height, stride * width


def _cocos(name: str, strides: Sequence[int], kind: Kind) -> Shapes:
    return Shapes(f"{name} of 800 x 1344", {stride: (-(-800 // stride), -(-1344 // stride)) for stride in strides}, kind)


SHAPES = _cocos("P3 to P7", (8, 16, 32, 64, 128), "one_stage"), _cocos("P2 to P6", (4, 8, 16, 32, 64), "two_stage")
"""COCO's usual input, two images a batch."""

TINY = (Shapes("P3 and P4 of 96 x 128", {8: (12, 16), 16: (6, 8)}, "one_stage", channels=32, boxes=2),)
"""At the scale smoke."""

MINI = Shapes("P3 to P7 of 128 x 128", {8 << level: (16 >> level, 16 >> level) for level in range(5)}, "one_stage", 8, 32, boxes=4)
"""A batch of the scale mini."""

STEPS = {"smoke": TINY[0], "mini": MINI, "coco": SHAPES[0]}
"""What a whole step sees, by the pair of networks (:data:`dfmsd.report.step.PAIRS`)."""


def measure(page: BenchPage) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Measure all methods on this machine: the GPU if there is one, else the processor with as many threads as PyTorch takes.

    In every round a method is timed right after plain MSE, so that whatever else the machine does hits both of them.

    Returns:
        A line for each metric of each method (``row``) at each set of shapes (``size``) on this machine (``beside``): ``value``
        is the median over the rounds, ``low`` and ``high`` are the smallest and the largest. Metrics: ``ms``, forward and
        backward; ``mse ratio``, times plain MSE; ``peak MiB``, memory beyond features and parameters; and of whole steps
        :data:`dfmsd.report.step.METRICS`. With the lines come the settings behind them.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    shapes = TINY if page.scale == "smoke" else SHAPES
    samples = [line for one in shapes for line in _sampled(one, device, page.repeats)]
    for name in ("smoke",) if page.scale == "smoke" else ("mini", "coco"):
        boxes = Inputs(STEPS[name], device).boxes
        samples += step.sampled(step.PAIRS[name](), STEPS[name].image, boxes, device, rounds=page.repeats)
    known = pd.DataFrame(samples).groupby(["row", "size", "metric"], sort=False)["value"]
    frame = known.agg(value="median", low="min", high="max").reset_index()
    settings = {
        "rounds": page.repeats,
        "float32 matrix products": torch.get_float32_matmul_precision(),
        "TF32 convolutions": device.type == "cuda" and torch.backends.cudnn.allow_tf32,
        "clock": "time.perf_counter around the call",
    }
    return frame.assign(beside=machine.name()), {"settings": settings}


def _sampled(shapes: Shapes, device: torch.device, rounds: int) -> list[dict[str, Any]]:
    inputs = Inputs(shapes, device)
    work = {name: inputs.call(inputs.method(name)) for name in METHODS if name not in LEFT_OUT}
    found = [(LABELS[name], "peak MiB", peak_bytes(call, device) / 2**20) for name, call in work.items()]
    for _ in range(rounds):
        for name, call in work.items():
            mse, own = seconds(work["mse"], device), seconds(call, device)
            found += [(LABELS[name], "ms", 1e3 * own), (LABELS[name], "mse ratio", own / mse)]
    return [{"row": row, "size": shapes.name, "metric": metric, "value": value} for row, metric, value in found]


def _spec(name: str, shapes: Shapes) -> Any:
    return for_pair(name, shapes.kind, shapes.kind)


class Inputs:
    """Random features and boxes, the same on every machine: what the distiller would hand to a method."""

    def __init__(self, shapes: Shapes, device: torch.device) -> None:
        self.shapes, self.device = shapes, device
        source = torch.Generator().manual_seed(SEED)
        size = (shapes.batch, shapes.channels)
        self.levels_s, self.levels_t = (
            {stride: torch.randn(*size, *hw, generator=source).to(device) for stride, hw in shapes.sizes.items()} for _ in range(2)
        )
        for feat in self.levels_s.values():
            feat.requires_grad_()
        # One more in each second image and one less in the others, since images differ.
        counts = [max(shapes.boxes + (1 if image % 2 else -1), 0) for image in range(shapes.batch)]
        self.boxes = tuple(_boxes(count, shapes.image, source).to(device) for count in counts)
        self.generator = torch.Generator(device).manual_seed(SEED)

    def method(self, name: str) -> Method:
        """A method with the papers' hyper-parameters for the shapes' kind of networks, as the distiller builds it."""
        sizes = {"strides": list(self.shapes.sizes), "channels_s": self.shapes.channels, "channels_t": self.shapes.channels}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            kind = getattr(losses, METHODS[name].__name__)
            built: Method = kind(**dict(_spec(name, self.shapes)) | sizes)
        return built.to(self.device).train()

    def call(self, method: Method) -> Work:
        """A method's forward and backward, to the student's features and the method's own parameters."""
        images = (self.shapes.image,) * self.shapes.batch

        def loss() -> Tensor:
            terms = method(self.levels_s, self.levels_t, self.boxes, images, generator=self.generator)
            return torch.stack(list(terms.values())).sum()

        return self._training(loss, method)

    def _training(self, loss: Callable[[], Tensor], module: torch.nn.Module) -> Work:
        learned = [*self.levels_s.values(), *module.parameters()]

        def work() -> None:
            loss().backward()
            for one in learned:
                one.grad = None

        return work


def _boxes(count: int, image: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Boxes with sides from a fiftieth to a half of the image's, small ones as often as large ones on a logarithmic scale."""
    whole = torch.tensor([image[1], image[0]], dtype=torch.float32)
    sides = whole * 0.02 * 25 ** torch.rand(count, 2, generator=generator)
    corner = (whole - sides) * torch.rand(count, 2, generator=generator)
    return torch.cat([corner, corner + sides], dim=1)
