"""The generator of the ``shapes`` data set: ten classes of objects told apart by their outline alone.

An image is a pure function of (version, seed, split, index). It is made in two steps with a random stream each:

:func:`scene` decides what is where, in integers from end to end, so annotations are equal on every machine. Random
numbers come from ``Generator.integers``. Sine and cosine come from a table in whole degrees, rounded to multiples of
2**-14; none of its values lies near the middle between two multiples, so the last bit of the machine's ``cos`` cannot
matter. Vertices are multiples of 1/16 pixel, and :func:`rasterise` compares integers.

:func:`render` paints it in floating point. Pixels may differ in the last bit between machines and are not part of the
identity.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dfmsd.errors import StudyError, suggest
from dfmsd.study.spec import ShapesData

VERSION = 1
"""Raised with every change that alters a scene or a picture; :attr:`ShapesData.version` must name it."""

SPLITS = ("train", "val", "tune")
KINDS = ("small", "mixed", "large")
KIND_PERCENT = (40, 35, 25)
SMALL_SIDE = 32
LARGE_SIDE = 96
"""COCO's size classes: an area below 32 x 32 pixels is small, one above 96 x 96 large."""

SIDES = {"small": (24, 33), "medium": (44, 88), "large": (144, 188)}
"""Longer side of an object's box in pixels, drawn uniformly; at most :data:`LARGEST_PERCENT` of the image's side."""
COUNTS = {
    "small": {"small": (3, 7), "medium": (0, 1), "large": (0, 0)},
    "mixed": {"small": (1, 2), "medium": (1, 3), "large": (0, 1)},
    "large": {"small": (0, 0), "medium": (0, 1), "large": (1, 2)},
}
"""Objects of each size in an image of each kind, drawn uniformly."""
LARGEST_PERCENT = 75
ASPECT_PERCENT = (85, 100)
TILT = 15
"""Objects stand upright but for a tilt of at most so many degrees either way, as most things in photographs do."""
VISIBLE_PERCENT = 40
"""An object that others hide to a smaller visible share is not in the image."""
VISIBLE_PIXELS = 20
TRIES = 4
"""Places tried for an object before it is given up."""

SUBPIXEL = 16
UNIT = 1 << 14

IntArray = NDArray[np.int64]
Mask = NDArray[np.bool_]
Image = NDArray[np.uint8]
Point = tuple[int, int]
Outline = tuple[tuple[Point, ...], ...]
"""Closed polygons, filled by the even-odd rule, so that one inside another is a hole."""

_COS = tuple(round(math.cos(math.radians(degree)) * UNIT) for degree in range(360))


def _cos(degree: int) -> int:
    return _COS[degree % 360]


def _sin(degree: int) -> int:
    return _COS[(degree - 90) % 360]


def _polar(degree: int, percent: int) -> Point:
    return _cos(degree) * percent // 100, _sin(degree) * percent // 100


def _circle(percent: int) -> tuple[Point, ...]:
    return tuple(_polar(degree, percent) for degree in range(0, 360, 6))


def _upright(points: Sequence[Point]) -> tuple[Point, ...]:
    """Turned from pointing right to pointing up, so that a mirrored object looks like one of its class."""
    return tuple((y, -x) for x, y in points)


def _disc() -> Outline:
    return (_circle(100),)


def _ring() -> Outline:
    return _circle(100), _circle(52)


def _star() -> Outline:
    return (_upright([_polar(36 * k, 42 if k % 2 else 100) for k in range(10)]),)


def _cross() -> Outline:
    far, near = 100, 32
    arm = ((far, -near), (far, near), (near, near))
    turns = ((1, 0), (0, 1), (-1, 0), (0, -1))
    return (tuple((x * cos - y * sin, x * sin + y * cos) for cos, sin in turns for x, y in arm),)


def _gear() -> Outline:
    tooth = ((-10, 100), (10, 100), (15, 58), (30, 58))
    return (tuple(_polar(45 * k + degree, percent) for k in range(8) for degree, percent in tooth),)


def _arrow() -> Outline:
    return (_upright([(100, 0), (5, 85), (5, 32), (-100, 32), (-100, -32), (5, -32), (5, -85)]),)


def _triangle() -> Outline:
    return (_upright([_polar(degree, 100) for degree in (0, 120, 240)]),)


def _square() -> Outline:
    return (((-1, -1), (1, -1), (1, 1), (-1, 1)),)


def _crescent() -> Outline:
    outer = [_polar(degree, 100) for degree in range(46, 315, 4)]
    inner = [(x + UNIT * 66 // 100, y) for x, y in (_polar(degree, 72) for degree in range(268, 90, -4))]
    return (_upright(outer + inner),)


def _heart() -> Outline:
    def point(t: int) -> Point:
        x = 16 * _sin(t) ** 3 // UNIT**2
        return x, 5 * _cos(2 * t) + 2 * _cos(3 * t) + _cos(4 * t) - 13 * _cos(t)

    return (tuple(point(degree) for degree in range(0, 360, 6)),)


_OUTLINES: dict[str, Callable[[], Outline]] = {
    "disc": _disc,
    "ring": _ring,
    "star": _star,
    "cross": _cross,
    "gear": _gear,
    "arrow": _arrow,
    "triangle": _triangle,
    "square": _square,
    "crescent": _crescent,
    "heart": _heart,
}
CLASSES: tuple[str, ...] = tuple(_OUTLINES)
_TEMPLATES = tuple(make() for make in _OUTLINES.values())


@dataclass(frozen=True)
class Shape:
    """An object in a scene."""

    label: int
    """Index into :data:`CLASSES`."""
    mask: Mask
    """Its visible pixels, ``(H, W)``; the masks of a scene are disjoint and none is empty."""

    @property
    def box(self) -> tuple[int, int, int, int]:
        """The bounding box of the visible pixels: left, top, width and height in pixels."""
        columns = np.flatnonzero(self.mask.any(axis=0))
        rows = np.flatnonzero(self.mask.any(axis=1))
        left, top = int(columns[0]), int(rows[0])
        return left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1

    @property
    def area(self) -> int:
        """Number of visible pixels."""
        return int(np.count_nonzero(self.mask))


@dataclass(frozen=True)
class Scene:
    """What an image shows: its kind (one of :data:`KINDS`) and its objects."""

    kind: str
    objects: tuple[Shape, ...]


def pose(label: int, degrees: int, aspect: int, side: int) -> list[IntArray]:
    """An outline squeezed to a height of ``aspect`` per cent, then turned, then scaled to the longer side of its box in pixels.

    Returns:
        Polygons, each ``(N, 2)`` as x, y in 1/16 pixel, in a box whose left top corner is (0, 0).
    """
    rings = [np.array(ring, dtype=np.int64) for ring in _TEMPLATES[label]]
    turn = np.array([[_cos(degrees), _sin(degrees)], [-_sin(degrees), _cos(degrees)]], dtype=np.int64)
    turned = [(ring * (100, aspect)) @ turn for ring in rings]
    corners = np.concatenate(turned)
    low = corners.min(axis=0)
    extent = int((corners.max(axis=0) - low).max())
    return [(ring - low) * (SUBPIXEL * side) // extent for ring in turned]


def rasterise(rings: Sequence[IntArray], size: int) -> Mask:
    """The pixels, ``(size, size)``, whose centre lies inside polygons ``(N, 2)`` in 1/16 pixel by the even-odd rule, exactly.

    A pixel (x, y) is the square from (x, y) to (x + 1, y + 1), so a square of side n on whole pixels has n x n of them.
    (OpenCV's ``fillPoly`` adds the pixels that the border touches, which fattens small objects and fills small holes.)
    """
    starts = np.concatenate(list(rings))
    ends = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    upward = starts[:, 1] > ends[:, 1]
    starts, ends = np.where(upward[:, None], ends, starts), np.where(upward[:, None], starts, ends)
    x, y = starts[:, :1], starts[:, 1:]
    dx, dy = np.hsplit(ends - starts, 2)
    centres = SUBPIXEL * np.arange(size) + SUBPIXEL // 2
    edge, row = np.nonzero((y <= centres) & (centres < y + dy))
    x, y, dx, dy = (part[edge, 0] for part in (x, y, dx, dy))
    # The first column whose centre is not left of the crossing: ceil(crossing - 1/2) with one exact division.
    column = -((SUBPIXEL // 2 * dy - x * dy - (centres[row] - y) * dx) // (SUBPIXEL * dy))
    crossings = np.zeros((size, size + 1), dtype=np.int64)
    np.add.at(crossings, (row, column.clip(0, size)), 1)
    return (crossings.cumsum(axis=1)[:, :size] % 2).astype(bool)


def scene(spec: ShapesData, split: str, index: int) -> Scene:
    """What one image of a split shows, without painting it.

    Objects are placed from the front to the back: each gets what the objects before it have left uncovered, and is
    given up if that is too little of it.
    """
    draw = _stream(spec, split, index, 0).integers
    kind = KINDS[int(np.searchsorted(np.cumsum(KIND_PERCENT), draw(100), side="right"))]
    sizes = [name for name, (low, high) in COUNTS[kind].items() for _ in range(draw(low, high + 1))]
    free = np.ones((spec.size, spec.size), dtype=bool)
    objects = []
    for name in sizes:
        low, high = (min(side, spec.size * LARGEST_PERCENT // 100) for side in SIDES[name])
        label, degrees = int(draw(len(CLASSES))), int(draw(-TILT, TILT + 1))
        aspect, side = int(draw(ASPECT_PERCENT[0], ASPECT_PERCENT[1] + 1)), int(draw(low, high + 1))
        rings = pose(label, degrees, aspect, side)
        room = SUBPIXEL * spec.size - np.concatenate(rings).max(axis=0)
        for _ in range(TRIES):
            corner = draw(room + 1)
            whole = rasterise([ring + corner for ring in rings], spec.size)
            visible = whole & free
            area = np.count_nonzero(visible)
            if area >= VISIBLE_PIXELS and 100 * area >= VISIBLE_PERCENT * np.count_nonzero(whole):
                free &= ~whole
                objects.append(Shape(label, visible))
                break
    return Scene(kind, tuple(objects))


def generate(spec: ShapesData, split: str, index: int) -> tuple[Image, Scene]:
    """One image, ``(H, W, 3)`` uint8 in the order blue, green, red, and what it shows: see :func:`scene`.

    Example:
        >>> spec = ShapesData(version=VERSION, seed=0, train=1, val=1, tune=0, size=64)
        >>> image, shown = generate(spec, "train", 0)
        >>> image.shape, shown.kind in KINDS
        ((64, 64, 3), True)
    """
    shown = scene(spec, split, index)
    return render(shown, spec.size, _stream(spec, split, index, 1)), shown


def render(shown: Scene, size: int, rng: np.random.Generator) -> Image:
    """Paint a scene: ``(size, size, 3)`` uint8 in the order blue, green, red; ``rng`` draws ground, colours and textures."""
    import cv2

    ground = rng.uniform(60, 195) + rng.uniform(-35, 35, 3)
    image = ground + rng.uniform(10, 20) * (_pink(size, 1, rng) + 0.5 * _pink(size, 3, rng))
    for item in shown.objects:
        left, top, width, height = item.box
        pad = 2
        area = np.s_[max(top - pad, 0) : top + height + pad, max(left - pad, 0) : left + width + pad]
        colours = _colours(ground, rng)
        pattern = _texture(item.mask[area].shape, max(width, height), rng)[..., None]
        paint = colours[0] * (1 - pattern) + colours[1] * pattern
        alpha = cv2.GaussianBlur(item.mask[area].astype(np.float64), (3, 3), 0.5)[..., None]
        image[area] += alpha * (paint - image[area])
    image += rng.normal(0, 3, image.shape)
    return image.clip(0, 255).round().astype(np.uint8)


def _stream(spec: ShapesData, split: str, index: int, purpose: int) -> np.random.Generator:
    if split not in SPLITS:
        raise StudyError(f"unknown split {split!r}: {suggest(split, SPLITS)}")
    if spec.version != VERSION:
        raise StudyError(f"shapes version {spec.version} was asked for, but this generator makes version {VERSION}")
    entropy = [spec.version, spec.seed, SPLITS.index(split), index, purpose]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))


def _pink(size: int, channels: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Noise with an amplitude spectrum of 1/f, mean 0 and standard deviation 1: ``(size, size, channels)``."""
    white = np.fft.rfft2(rng.normal(size=(channels, size, size)))
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = np.inf
    noise = np.fft.irfft2(white / frequency, s=(size, size))
    return np.moveaxis(noise / noise.std(axis=(1, 2), keepdims=True), 0, -1)


def _colours(ground: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Two colours such that they and all their mixtures stand out from the ground: ``(2, 3)``."""
    offsets = rng.uniform(0, 255, (64, 3)) - ground
    distances = np.linalg.norm(offsets, axis=1)
    first = int(np.argmax(distances > 110))
    along = offsets @ offsets[first] / distances[first]
    along[first] = 0
    return ground + offsets[[first, int(np.argmax(along > 70))]]


def _texture(shape: tuple[int, ...], side: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """The share of the second colour in each pixel, 0 to 1."""
    import cv2

    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
    angle = float(rng.uniform(0, 2 * np.pi))
    u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    period = max(6.0, side / float(rng.uniform(2, 5)))
    across, along = np.sin(2 * np.pi * u / period), np.sin(2 * np.pi * v / period)
    coarse = rng.uniform(0, 1, (max(2, shape[0] // 4), max(2, shape[1] // 4)))
    patterns: dict[str, Callable[[], NDArray[np.float64]]] = {
        "flat": lambda: np.zeros(shape),
        "stripes": lambda: (across > 0).astype(np.float64),
        "checker": lambda: (across * along > 0).astype(np.float64),
        "gradient": lambda: (u - u.min()) / max(float(np.ptp(u)), 1.0),
        "noise": lambda: cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC).clip(0, 1),
    }
    pattern = patterns[str(rng.choice(list(patterns)))]()
    return float(rng.uniform(0.4, 0.9)) * min(1.0, side / 48) * pattern
