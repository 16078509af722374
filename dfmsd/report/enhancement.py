"""What a teacher attends to in changed versions of an image: its low and high frequencies, or what Eq. (4) makes of it."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from mmdet.models.detectors import BaseDetector
from mmdet.structures import DetDataSample
from torch import Tensor

import dfmsd.quiet  # noqa: F401
from dfmsd import checkpoints
from dfmsd import levels as pyramids
from dfmsd.augment import area_ratio, enhance, random_crop
from dfmsd.errors import StudyError
from dfmsd.hyper import DMKD
from dfmsd.losses import dual_masks, spatial_attention
from dfmsd.report import explore, fourier, live
from dfmsd.report.dataset import generated
from dfmsd.report.spectra import border, images_of
from dfmsd.study import build, data, scales
from dfmsd.study.pages import EnhancementPage
from dfmsd.study.rows import Options

MASKING = DMKD().masking
"""Dual masking as a one-stage student gets it."""

SIZES = ("small", "large")
"""Of objects, by COCO's limits for the area of the box on disk; those between are left out."""

IMAGE, LOW, HIGH, NOISE, CROP = "as it is", "low frequencies", "high frequencies", "with noise", "cropped"


@dataclass(frozen=True)
class Teacher:
    """A detector and its history."""

    detector: BaseDetector
    words: str
    """Which one it is and where its weights come from."""
    grown: bool
    """Whether it was trained as long as the study's are."""


@dataclass(frozen=True)
class Version:
    """A changed image, and where its objects are."""

    image: Tensor
    """``(3, H, W)`` in pixel values."""
    boxes: Tensor
    """``(n, 4)`` as x1, y1, x2, y2 in pixels."""
    window: tuple[int, int, int, int]
    """What of it is measured, likewise: all of it, but of an image that is compared with its crop what the crop shows."""

    @classmethod
    def whole(cls, image: Tensor, boxes: Tensor) -> Version:
        """One that is measured as a whole."""
        return cls(image, boxes, (0, 0, image.shape[2], image.shape[1]))


@dataclass(frozen=True)
class Seen:
    """An image, which objects dominate it, and its versions."""

    index: int
    """Of the validation images."""
    shown: explore.Picture
    found: Tensor
    """The boxes that decide which objects dominate, ``(n, 4)``."""
    ratio: float
    """How much of the image they cover, :func:`~dfmsd.augment.area_ratio`."""
    below: bool
    """Whether that is less than theta: small objects dominate."""
    sizes: tuple[str, ...]
    """COCO's name for the size of each annotated object."""
    versions: Mapping[str, Version]


@dataclass(frozen=True)
class Attended:
    """What was measured on the first validation images."""

    page: EnhancementPage
    weak: Teacher
    watcher: Teacher
    """The one whose attention is shown."""
    judge: str
    """Whose boxes decide which objects dominate: ``teacher`` or ``annotations``."""
    border: float
    """Between low and high frequencies, in cycles per pixel."""
    count: int
    """Of the images."""
    small: Seen
    """The first image that small objects dominate."""
    large: Seen
    """The first other one."""
    numbers: pd.DataFrame
    """A row for each image, version and size of objects: ``below`` (whether small objects dominate the image), ``attention`` (mean
    over the cells of these objects, 1 = the mean of the image) and ``hidden`` (share of these cells)."""

    def values(self, version: str, size: str, column: str, *, below: bool | None = None) -> dict[int, float]:
        """A number of every image that has objects of a size; of those alone that small objects dominate, or of the others."""
        frame = self.numbers
        chosen = (frame["version"] == version) & (frame["size"] == size)
        if below is not None:
            chosen &= frame["below"] == below
        return dict(zip(frame["image"][chosen].tolist(), frame[column][chosen].tolist(), strict=True))


def teacher(page: EnhancementPage, name: str) -> Teacher:
    """A teacher of the study, or one trained here for a short while if the study's own is not on this machine."""
    scale = scales.get(page.scale)
    run = live.teacher_run(name, scale, epochs=page.teacher_epochs)
    file, row = live.teacher_weights(run)
    with redirect_stdout(io.StringIO()):
        detector = build.built(run.network, len(data.ensure(run.data).classes))
        checkpoints.load(detector, file)
    return Teacher(detector.eval(), live.in_words(run, row), grown=run.schedule.max_iters is None)


@torch.no_grad()
def boxes(detector: BaseDetector, image: Tensor, *, score: float) -> Tensor:
    """What a detector finds in an image.

    Args:
        detector: In eval mode.
        image: ``(3, H, W)`` in [0, 255].
        score: From which on a box counts.

    Returns:
        ``(n, 4)`` as x1, y1, x2, y2 in pixels.
    """
    size = tuple(image.shape[1:])
    sample = DetDataSample(metainfo={"img_id": 0, "img_shape": size, "ori_shape": size, "scale_factor": (1.0, 1.0)})
    (result,) = detector.test_step({"inputs": [image], "data_samples": [sample]})
    found: Tensor = result.pred_instances.bboxes
    return found[result.pred_instances.scores >= score]


@torch.no_grad()
def feature(detector: BaseDetector, images: list[Tensor], stride: int) -> list[Tensor]:
    """A detector's level of some images, without the cells that only pad them.

    Args:
        detector: In eval mode.
        images: Each ``(3, H, W)`` in [0, 255].
        stride: Of the level in pixels.

    Returns:
        Of each image ``(1, C, ceil(H / stride), ceil(W / stride))``.

    Raises:
        StudyError: if the detector has no level of that stride.
    """
    strides = pyramids.strides(detector)
    if stride not in strides:
        raise StudyError(f"stride = {stride}: the teacher's levels have strides {', '.join(map(str, strides))}")
    inputs = detector.data_preprocessor({"inputs": images, "data_samples": None}, False)["inputs"]
    level = detector.extract_feat(inputs)[strides.index(stride)]
    return [level[i : i + 1, :, : -(-one.shape[1] // stride), : -(-one.shape[2] // stride)] for i, one in enumerate(images)]


def frequency_versions(shown: explore.Picture, limit: float) -> dict[str, Version]:
    r"""An image, its low and its high frequencies.

    The image is split as :func:`~dfmsd.report.fourier.split` does, channel by channel. High frequencies have the mean 0; to be an
    image for a network, they get the mean of the image's channel.

    Args:
        shown: The image.
        limit: Between low and high, in cycles per pixel.
    """
    values = shown.image.double().numpy()
    low, high = fourier.split(values, limit)
    parts = {IMAGE: values, LOW: low, HIGH: high + values.mean(axis=(1, 2), keepdims=True)}
    return {name: Version.whole(torch.from_numpy(part).float(), shown.boxes) for name, part in parts.items()}


def augmented_versions(shown: explore.Picture, ratio: float, options: Options, *, seed: int) -> dict[str, Version]:
    """An image, and what masking enhancement makes of it: always noise where small objects dominate, a crop elsewhere.

    Args:
        shown: The image.
        ratio: :func:`~dfmsd.augment.area_ratio` of the image.
        options: What Eq. (4) leaves open. The noise comes for sure, whatever its probability in a run.
        seed: Of noise and crop.
    """
    image = shown.image.float()
    chosen = options.model_dump(include={"theta", "sigma", "crop"}) | {"noise_probability": 1.0}
    changed = enhance(image, ratio, **chosen, generator=torch.Generator().manual_seed(seed))
    if ratio < options.theta:
        return {IMAGE: Version.whole(image, shown.boxes), NOISE: Version.whole(changed, shown.boxes)}
    # The same draws on an image of coordinates tell where the crop begins.
    places = torch.stack(torch.meshgrid(*(torch.arange(side) for side in image.shape[1:]), indexing="ij"))
    top, left = random_crop(places, sides=options.crop, generator=torch.Generator().manual_seed(seed))[:, 0, 0].tolist()
    height, width = changed.shape[1:]
    before = Version(image, shown.boxes, (left, top, left + width, top + height))
    return {IMAGE: before, CROP: Version.whole(changed, shown.boxes - torch.tensor([left, top] * 2))}


def touched(found: Tensor, stride: int, height: int, width: int) -> Tensor:
    """The cells of a level that boxes reach into.

    Args:
        found: ``(n, 4)`` as x1, y1, x2, y2 in pixels; those without area touch nothing.
        stride: Of the level in pixels.
        height: Of the level in cells.
        width: Likewise.

    Returns:
        Boolean, ``(height, width)``.

    Example:
        >>> touched(torch.tensor([[7.0, 0.0, 9.0, 8.0]]), 8, 2, 3).tolist()
        [[True, True, False], [False, False, False]]
    """
    cells = torch.zeros(height, width, dtype=torch.bool)
    for x1, y1, x2, y2 in (found / stride).tolist():
        if x2 > x1 and y2 > y1:
            cells[int(y1) : int(np.ceil(y2)), int(x1) : int(np.ceil(x2))] = True
    return cells


def attention(feat: Tensor) -> tuple[Tensor, Tensor]:
    """A teacher's spatial attention, Eq. (3), and what dual masking hides by it.

    Args:
        feat: Its level, ``(1, C, h, w)``, see :func:`feature`.

    Returns:
        ``(h, w)`` with mean 1, and ``(1, 1, h, w)``, True where hidden.
    """
    return spatial_attention(feat, tau=MASKING["tau"])[0], dual_masks(feat, **MASKING)[0]


def on_objects(feat: Tensor, found: Tensor, window: tuple[int, int, int, int], stride: int) -> tuple[float, float] | None:
    r"""How much of a teacher's attention lies on some objects.

    .. math::
        \bar A = \mathrm{mean}_{hw \in \text{objects}}\, A^s_{hw}, \qquad
        \text{hidden} = \mathrm{mean}_{hw \in \text{objects}}\, [M^s_{hw} = 0]

    Args:
        feat: Its level, ``(1, C, h, w)``.
        found: The boxes of the objects, ``(n, 4)`` in pixels.
        window: What is measured, x1, y1, x2, y2 in pixels: the level is cut to its cells before attention is taken.
        stride: Of the level in pixels.

    Returns:
        The mean attention over the cells that the boxes touch, 1 being the mean of the window, and the share of these cells that is
        hidden; None if there is no such cell.
    """
    left, top, right, bottom = window[0] // stride, window[1] // stride, -(-window[2] // stride), -(-window[3] // stride)
    inside = found.clone()
    inside[:, ::2], inside[:, 1::2] = found[:, ::2].clamp(window[0], window[2]), found[:, 1::2].clamp(window[1], window[3])
    cells = touched(inside, stride, *feat.shape[2:])[top:bottom, left:right]
    if not cells.any():
        return None
    heat, hidden = attention(feat[:, :, top:bottom, left:right])
    return heat[cells].mean().item(), hidden[0, 0][cells].float().mean().item()


def _judged(page: EnhancementPage, weak: Teacher, shown: list[explore.Picture]) -> tuple[str, list[tuple[Tensor, float]]]:
    """The boxes that decide, and the ratio, of each image: the weak teacher's, or the annotated ones if it sees no difference."""
    theta = page.options.theta
    by_teacher = [boxes(weak.detector, one.image, score=page.options.score) for one in shown]
    for judge, found in (("teacher", by_teacher), ("annotations", [one.boxes for one in shown])):
        ratios = [_ratio(one, corners) for one, corners in zip(shown, found, strict=True)]
        if any(ratio < theta for ratio in ratios) and any(ratio >= theta for ratio in ratios):
            return judge, list(zip(found, ratios, strict=True))
    raise StudyError(f"theta = {theta}: the first {len(shown)} images lie on one side of it: take more images, or another theta")


def _ratio(shown: explore.Picture, found: Tensor) -> float:
    height, width = shown.image.shape[1:]
    return area_ratio(found, torch.ones(len(found)), score=0.0, height=height, width=width)


def _versions(page: EnhancementPage, shown: explore.Picture, ratio: float, limit: float, index: int) -> dict[str, Version]:
    if page.view == "frequencies":
        return frequency_versions(shown, limit)
    return augmented_versions(shown, ratio, page.options, seed=explore.SEED + index)


def _sizes(shown: explore.Picture, disk: int) -> tuple[str, ...]:
    sides = (shown.boxes[:, 2:] - shown.boxes[:, :2]) * (disk / shown.image.shape[1])
    return tuple(data.size_class(area) for area in sides.prod(dim=1).tolist())


def _rows(page: EnhancementPage, watcher: Teacher, seen: Seen) -> Iterator[dict[str, object]]:
    levels = feature(watcher.detector, [version.image for version in seen.versions.values()], page.stride)
    for (name, version), feat in zip(seen.versions.items(), levels, strict=True):
        for size in SIZES:
            chosen = torch.tensor([one == size for one in seen.sizes], dtype=torch.bool)
            if (found := on_objects(feat, version.boxes[chosen], version.window, page.stride)) is not None:
                about = {"image": seen.index, "below": seen.below, "version": name, "size": size}
                yield about | {"attention": found[0], "hidden": found[1]}


def measure(page: EnhancementPage) -> Attended:
    """Look at the versions of the page's images with the eyes of its teacher.

    Raises:
        StudyError: if the scale's data is not generated, theta parts no images, or the teacher has no such level.
    """
    scale = scales.get(page.scale)
    run, indices = images_of(scale, page.images)
    limit, disk = border(scale, page.cycles), generated(scale.data).size
    shown = list(explore.pictures(run, indices))
    weak = teacher(page, page.weak)
    watcher = weak if page.view == "frequencies" else teacher(page, page.strong)
    judge, judged = _judged(page, weak, shown)
    rows: list[dict[str, object]] = []
    first: dict[bool, Seen] = {}
    for index, one, (found, ratio) in zip(indices, shown, judged, strict=True):
        below = ratio < page.options.theta
        seen = Seen(index, one, found, ratio, below, _sizes(one, disk), _versions(page, one, ratio, limit, index))
        first.setdefault(below, seen)
        rows += _rows(page, watcher, seen)
    return Attended(page, weak, watcher, judge, limit, len(shown), first[True], first[False], pd.DataFrame(rows))
