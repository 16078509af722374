"""The least that a method must move between memory and processor.

A **map** is one level's features of all channels, ``(B, C, H, W)`` in float32; it fits in no cache. What a method does to maps is
written as **passes**, ``reads -> writes``, one name a map. The rules, the same for all methods:

- Within a pass, whatever is done to each element is free, and so is any number of sums. A pass ends where a sum over the map must
  be known before its elements can be used again.
- Forward and backward are separate calls: the factor of a loss is known in the backward pass only, which therefore reads again
  what it needs. To keep a difference would cost the same: written once more, read once less.
- Every step gets the true gradient of the step after it, as automatic differentiation has it, and the student's gradient is
  written once, all terms together.
- A convolution between many channels is the library's: it is timed alone, forward and backward (:mod:`dfmsd.report.bench`). The
  passes hold only what prepares its input, uses its output, and does the same to their gradients.
- Masks, attention, means, parameters and pooled maps are small beside a map and count nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

BYTES = 4
"""Of a float32."""

# S, T: features of student and teacher; dS: gradient of S, and so on. X, Y: inputs of generation blocks; Q, R: their outputs.
PASSES: dict[str, tuple[str, ...]] = {
    "mse": (
        "S T ->",  # the loss
        "S T -> dS",
    ),
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
    "fgd": (
        "S T ->",  # attention and context of both
        "S T ->",  # focal and global error, which need them
        "S T -> dS",
    ),
    "pkd": (
        "S T ->",  # the sums behind Pearson's correlation
        "S T -> dS",
    ),
    "mgd": (
        "S -> X",  # masked
        "R T ->",
        "R T -> dR",
        "dX -> dS",
    ),
    "amd": (
        "T ->",  # attention, which decides the mask
        "S ->",  # means of the masked map, for squeeze and excitation
        "S -> X",
        "R T ->",
        "R T -> dR",
        "S dX ->",  # sums for the gradient of the excitation
        "dX -> dS",
    ),
    "dmkd": (
        "T ->",  # as AMD, for two branches
        "S ->",
        "S -> X Y",
        "Q R T ->",
        "Q R T -> dQ dR",
        "S dX dY ->",
        "dX dY -> dS",
    ),
    "dfmsd": (
        "S T ->",  # as DMKD, with the sums behind Pearson's correlation
        "S ->",
        "S -> X Y",
        "Q R T ->",
        "Q R T -> dQ dR",
        "S dX dY ->",
        "S T dX dY -> dS",
    ),
}
"""What each method does to the maps of a level, by its name in :data:`dfmsd.hyper.METHODS`."""

LEFT_OUT = {
    "crosskd": (
        "it compares predictions, not features: most of its work is the detectors' own heads, and its gradient goes through the "
        "student's head together with that of the detection loss, so that it has no cost of its own on features alone"
    ),
}
"""Methods that are not measured, and why."""


def maps(passes: Sequence[str], *, inner: float = 1.0) -> float:
    """How many maps the passes read and write.

    Args:
        passes: See :data:`PASSES`.
        inner: Size of a map in small letters, as a share of a whole map.

    Example:
        >>> maps(["S T ->", "S T -> dS"])
        5.0
        >>> maps(["t -> r", "t dr -> dt"], inner=0.25)
        1.25
    """
    words = [word for step in passes for word in step.split() if word != "->"]
    return sum(1.0 if word.removeprefix("d")[0].isupper() else inner for word in words)


def passes_at(name: str, spec: Any, strides: Sequence[int], stride: int) -> tuple[str, ...]:
    """The passes of a method on one of its levels; none where it leaves the level out.

    Args:
        name: The method, a key of :data:`PASSES`.
        spec: Its hyper-parameters, a model of :mod:`dfmsd.hyper`.
        strides: The levels, finest first.
        stride: One of them.
    """
    if name == "pkd" and stride not in tuple(strides)[: spec.levels]:
        return ()
    if name == "dfmsd" and stride not in spec.sfa_strides:
        return PASSES["dmkd"]
    return PASSES[name]


def least_bytes(name: str, spec: Any, sizes: dict[int, tuple[int, int]], *, batch: int, channels: int) -> float:
    """Bytes that a method must move, forward and backward, its convolutions' own aside.

    Args:
        name: The method, a key of :data:`PASSES`.
        spec: Its hyper-parameters, a model of :mod:`dfmsd.hyper`.
        sizes: Height and width of each level's map by its stride, finest first.
        batch: Images.
        channels: Of both networks' maps.

    Example:
        >>> from dfmsd.hyper import MSE
        >>> least_bytes("mse", MSE(), {8: (2, 3)}, batch=2, channels=10)  # 5 maps of 120 numbers of 4 bytes
        2400.0
    """
    strides = list(sizes)
    total = 0.0
    for place, (stride, (height, width)) in enumerate(sizes.items()):
        inner = _inner_share(place, channels) if name == "fkd" else 1.0
        total += maps(passes_at(name, spec, strides, stride), inner=inner) * height * width
    return total * batch * channels * BYTES


def _inner_share(place: int, channels: int) -> float:
    """Inner channels of FKD's non-local block on a level, counted from the finest, as a share of all."""
    from dfmsd.losses.fkd import WIDTHS

    width = WIDTHS[min(place, len(WIDTHS) - 1)]
    return 1 / -(-channels // width)
