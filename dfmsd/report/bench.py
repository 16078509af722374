"""What every method's loss costs: its time, its memory, how far it is from the least that it could take, and a whole step with it.

Random features of COCO's size are handed to each method as the distiller would; forward and backward are timed. The **floor** is
what a method must move between memory and processor, at the rate of a large copy, and its convolutions, at the rate of a large one.

What a method does to maps is written as **passes**, ``reads -> writes``, one name a map (:data:`PASSES`); the page
(``notebooks/bench.ipynb``) has the rules, the same for all methods. A **map** is one level's features of all channels,
``(B, C, H, W)`` in float32, and fits in no cache.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dfmsd import losses
from dfmsd.hyper import METHODS, Kind, for_pair
from dfmsd.losses import Method
from dfmsd.losses.fkd import WIDTHS
from dfmsd.report import step
from dfmsd.report.step import Work, peak_bytes, seconds
from dfmsd.study import machine
from dfmsd.study.pages.measured import BenchPage
from dfmsd.study.rows import LABELS

# S, T: features of student and teacher; dS: gradient of S, and so on. X, Y: inputs of generation blocks; Q, R: their outputs.
PASSES: dict[str, tuple[str, ...]] = {
    "mse": ("S T ->", "S T -> dS"),
    "ssim": (
        "S T ->",  # the range of each image
        "S T ->",  # windows on the rescaled maps; neighbours are still at hand
        "S T -> dS",  # by way of the range, only two elements of each image change
    ),
    "fkd": (
        # In small letters maps of the non-local blocks' inner channels: t, p, g (student), u, q, h (teacher) are the outputs of the
        # convolutions theta, phi and g; r, v are what their product gives. Z, U come from the blocks' last convolutions, A, B from
        # the adaptations of S and of the student's non-local map N.
        "S T ->",  # attention and both means
        "p g ->",  # pooled
        "q h ->",
        "t -> r",  # times a small matrix
        "u -> v",
        "Z ->",  # statistics of the batch normalisation
        "U ->",
        "S Z -> N",
        "A B T U ->",  # both distances
        "A B T U -> dA dB",
        "dB U -> dU",  # batch normalisation: its sums came with dB
        "dN Z ->",
        "dN Z -> dZ",
        "t dr -> dt",
        "u dv -> du",
        "-> dp dg",  # zero but where the maxima were
        "-> dq dh",
        "dN dS1 dS2 dS3 dS4 -> dS",  # the four convolutions of S give a gradient each
    ),
    "fgd": ("S T ->", "S T ->", "S T -> dS"),  # attention and context; focal and global error, which need them
    "pkd": ("S T ->", "S T -> dS"),
    "mgd": ("S -> X", "R T ->", "R T -> dR", "dX -> dS"),
    "amd": (
        "T ->",  # attention, which decides the mask
        "S ->",  # means of the masked map, for squeeze and excitation
        "S -> X",
        "R T ->",
        "R T -> dR",
        "S dX ->",  # sums for the gradient of the excitation
        "dX -> dS",
    ),
    "dmkd": ("T ->", "S ->", "S -> X Y", "Q R T ->", "Q R T -> dQ dR", "S dX dY ->", "dX dY -> dS"),  # as AMD, for two branches
    "dfmsd": ("S T ->", "S ->", "S -> X Y", "Q R T ->", "Q R T -> dQ dR", "S dX dY ->", "S T dX dY -> dS"),  # and a correlation
}
"""What each method does to the maps of a level, by its name in :data:`dfmsd.hyper.METHODS`; one that is not here has no floor."""

LEFT_OUT = {
    "crosskd": (
        "it compares predictions, not features: most of its work is the detectors' own heads, and its gradient goes through the "
        "student's head together with that of the detection loss, so that it has no cost of its own on features alone"
    ),
}
"""Methods that are not measured, and why."""

SEED = 2407

STEPS = 2
"""Rounds of whole steps, at most: they are long."""


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


def measure(page: BenchPage) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Measure all methods on this machine: the GPU if there is one, else the processor with as many threads as PyTorch takes.

    In every round a method is timed right after plain MSE, a large copy and a large convolution, so that whatever else the machine
    does hits all of them.

    Returns:
        A line for each metric of each method (``row``) at each set of shapes (``size``) on this machine (``beside``): ``value``
        is the median over the rounds, ``low`` and ``high`` are the smallest and the largest. Metrics: ``ms``, forward and
        backward; ``mse ratio``, times plain MSE; ``memory ms`` and ``convolutions ms``, the parts of the floor; ``floor ratio``,
        times the floor; ``peak MiB``, memory beyond features and parameters; of the copy ``GB/s``, read and written; and of whole
        steps :data:`dfmsd.report.step.METRICS`. With the lines come the settings behind them.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    shapes, copied = (TINY, 2**16) if page.scale == "smoke" else (SHAPES, 2**29)
    samples = [line for one in shapes for line in _sampled(one, device, page.repeats, copied)]
    boxes = Inputs(shapes[0], device).boxes
    samples += step.sampled(shapes[0].image, boxes, device, rounds=min(page.repeats, STEPS), slim=page.scale == "smoke")
    known = pd.DataFrame(samples).groupby(["row", "size", "metric"], sort=False)["value"]
    frame = known.agg(value="median", low="min", high="max").reset_index()
    settings = {
        "rounds": page.repeats,
        "float32 matrix products": torch.get_float32_matmul_precision(),
        "TF32 convolutions": device.type == "cuda" and torch.backends.cudnn.allow_tf32,
        "clock": "time.perf_counter around the call",
    }
    return frame.assign(beside=machine.name()), {"settings": settings}


def _sampled(shapes: Shapes, device: torch.device, rounds: int, copied: int) -> list[dict[str, Any]]:
    inputs = Inputs(shapes, device)
    work = {name: inputs.call(inputs.method(name)) for name in METHODS if name not in LEFT_OUT}
    source = torch.ones(copied // 4, device=device)
    target = torch.zeros_like(source)
    convolve = inputs.convolution()
    flops = {name: convolution_flops(call) for name, call in (work | {"": convolve}).items()}
    least = {
        name: least_bytes(name, _spec(name, shapes), shapes.sizes, batch=shapes.batch, channels=shapes.channels)
        for name in work
        if name in PASSES
    }
    found = [(LABELS[name], "peak MiB", peak_bytes(call, device) / 2**20) for name, call in work.items()]
    for _ in range(rounds):
        for name, call in work.items():
            rate = 2 * copied / seconds(lambda: target.copy_(source), device)  # read and written
            convolution_rate = flops[""] / seconds(convolve, device)
            mse, own = seconds(work["mse"], device), seconds(call, device)
            convolutions = flops[name] / convolution_rate
            found += [
                (LABELS[name], "ms", 1e3 * own),
                (LABELS[name], "mse ratio", own / mse),
                (LABELS[name], "convolutions ms", 1e3 * convolutions),
                ("a large copy", "GB/s", rate / 1e9),
            ]
            if name in least:
                memory = least[name] / rate
                found += [(LABELS[name], "memory ms", 1e3 * memory), (LABELS[name], "floor ratio", own / (memory + convolutions))]
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

    def convolution(self) -> Work:
        """A 3 x 3 convolution of the finest map, forward and backward."""
        feat = next(iter(self.levels_s.values()))
        module = torch.nn.Conv2d(self.shapes.channels, self.shapes.channels, 3, padding=1).to(self.device)
        return self._training(lambda: module(feat).sum(), module)

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


def convolution_flops(work: Work) -> int:
    """Floating-point operations of a call's convolutions, forward and backward.

    Example:
        >>> feat, layer = torch.ones(1, 2, 4, 4), torch.nn.Conv2d(2, 3, 1, bias=False)
        >>> convolution_flops(lambda: layer(feat))  # 16 positions, 2 x 3 channels, a product and a sum each
        192
    """
    with FlopCounterMode(display=False) as counter:
        work()
    counts = counter.get_flop_counts().get("Global", {})
    return sum(count for operation, count in counts.items() if "convolution" in str(operation))


def maps(passes: Sequence[str], *, inner: float = 1.0) -> float:
    """How many maps the passes read and write, one in small letters as ``inner`` of a whole map.

    Example:
        >>> maps(["S T ->", "S T -> dS"]), maps(["t -> r", "t dr -> dt"], inner=0.25)
        (5.0, 1.25)
    """
    words = [word for step in passes for word in step.split() if word != "->"]
    return sum(1.0 if word.removeprefix("d")[0].isupper() else inner for word in words)


def least_bytes(name: str, spec: Any, sizes: Mapping[int, tuple[int, int]], *, batch: int, channels: int) -> float:
    """Bytes that a method must move, forward and backward, its convolutions' own aside.

    Example:
        >>> from dfmsd.hyper import MSE
        >>> least_bytes("mse", MSE(), {8: (2, 3)}, batch=2, channels=10)  # 5 maps of 120 numbers of 4 bytes
        2400.0
    """
    total = 0.0
    for place, (stride, (height, width)) in enumerate(sizes.items()):
        passes = PASSES[name]
        if name == "pkd" and spec.levels is not None and place >= spec.levels:
            passes = ()
        if name == "dfmsd" and stride not in spec.sfa_strides:
            passes = PASSES["dmkd"]
        # FKD's non-local blocks have fewer inner channels on fine levels.
        inner = 1 / -(-channels // WIDTHS[min(place, len(WIDTHS) - 1)]) if name == "fkd" else 1.0
        total += maps(passes, inner=inner) * height * width
    return total * batch * channels * 4
