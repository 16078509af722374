"""The paper's Figs. 5 and 7: what a teacher attends to in low and high frequencies, and in what Eq. (4) makes of an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from dfmsd.augment import enhance, random_crop
from dfmsd.errors import StudyError
from dfmsd.hyper import DMKD
from dfmsd.losses import dual_masks, spatial_attention
from dfmsd.report import words
from dfmsd.report.features import detector, levels
from dfmsd.report.images import SEED, Picture, border, first, kept, touched
from dfmsd.study import scales
from dfmsd.study.pages.networks import EnhancementPage
from dfmsd.study.rows import Options

if TYPE_CHECKING:
    from mmdet.models.detectors import BaseDetector

MASKING = DMKD().masking
"""Dual masking as a one-stage student gets it."""

SIZES = ("small", "large")
"""Of objects, by COCO's limits for the area of the box on disk; those between are left out."""

IMAGE, LOW, HIGH, NOISE, CROP = "as it is", "low frequencies", "high frequencies", "with noise", "cropped"


@dataclass(frozen=True)
class Version:
    """A changed image, and where its objects are."""

    image: Tensor
    """``(3, H, W)`` in pixel values."""
    boxes: Tensor
    """``(n, 4)`` as x1, y1, x2, y2 in pixels."""
    window: tuple[int, int, int, int]
    """What of it is measured, likewise: all of it, but of an image that is compared with its crop what the crop shows."""


def split(image: Tensor, limit: float) -> tuple[Tensor, Tensor]:
    r"""An image ``(C, H, W)`` as the sum of its low and its high frequencies, channel by channel.

    A Gaussian, :math:`\hat Y_{low} = 2^{-(f / f_b)^2} \hat Y`, passes half of the amplitude at the border ``limit``, :math:`f_b`,
    and makes no ripples beside an edge, as a sharp limit would. In pixels it has the standard deviation :math:`\sqrt{\ln 2 / 2} /
    (\pi f_b)`; for a border beyond about 1/8 cycles per pixel, pixels are too coarse. The image is mirrored at its borders, so that
    opposite ones do not leak into each other. The mean is low.
    """
    values = image.double()
    sigma = (torch.tensor(2.0).log() / 2).sqrt().item() / (torch.pi * limit)
    low = torch.from_numpy(gaussian_filter(values.numpy(), sigma, mode="reflect", axes=(1, 2), truncate=8.0))
    return low.float(), (values - low).float()


def frequency_versions(shown: Picture, limit: float) -> dict[str, Version]:
    """An image, its low and its high frequencies, parted at ``limit`` cycles per pixel.

    High frequencies have the mean 0; to be an image for a network, they get the mean of the image's channel.
    """
    image = shown.image.float()
    low, high = split(image, limit)
    parts = {IMAGE: image, LOW: low, HIGH: high + image.mean(dim=(1, 2), keepdim=True)}
    return {name: Version(part, shown.boxes, (0, 0, image.shape[2], image.shape[1])) for name, part in parts.items()}


def augmented_versions(shown: Picture, ratio: float, options: Options, *, seed: int) -> dict[str, Version]:
    """An image, and what masking enhancement makes of it: a crop, or where small objects dominate (by ``ratio``) noise.

    The noise comes for sure, whatever its probability in a run.
    """
    image, boxes = shown.image.float(), shown.boxes
    whole = (0, 0, image.shape[2], image.shape[1])
    chosen = options.model_dump(include={"theta", "sigma", "crop"}) | {"noise_probability": 1.0}
    changed = enhance(image, ratio, **chosen, generator=torch.Generator().manual_seed(seed))
    if ratio < options.theta:
        return {IMAGE: Version(image, boxes, whole), NOISE: Version(changed, boxes, whole)}
    # The same draws on an image of coordinates tell where the crop begins.
    places = torch.stack(torch.meshgrid(*(torch.arange(side) for side in image.shape[1:]), indexing="ij"))
    top, left = random_crop(places, sides=options.crop, generator=torch.Generator().manual_seed(seed))[:, 0, 0].tolist()
    height, width = changed.shape[1:]
    before = Version(image, boxes, (left, top, left + width, top + height))
    return {IMAGE: before, CROP: Version(changed, boxes - torch.tensor([left, top] * 2), (0, 0, width, height))}


def on_objects(feat: Tensor, boxes: Tensor, window: tuple[int, int, int, int], stride: int) -> tuple[float, float] | None:
    """How much of a teacher's attention lies on some objects, from a level ``(1, C, h, w)``.

    The level is cut to the cells of ``window`` (x1, y1, x2, y2 in pixels) before attention is taken, whose mean is 1 then.

    Returns:
        Over the cells that the boxes ``(n, 4)`` touch: the mean attention :math:`A^s`, and the share where dual masking hides it,
        :math:`M^s = 0`; None if there is no such cell.
    """
    left, top, right, bottom = window[0] // stride, window[1] // stride, -(-window[2] // stride), -(-window[3] // stride)
    inside = boxes.clamp(torch.tensor(window[:2] * 2), torch.tensor(window[2:] * 2))
    cells = touched(inside, stride=stride, size=feat.shape[2:])[top:bottom, left:right]
    if not cells.any():
        return None
    cut = feat[:, :, top:bottom, left:right]
    heat, hidden = spatial_attention(cut, tau=MASKING["tau"])[0], dual_masks(cut, **MASKING)[0]
    return heat[cells].mean().item(), hidden[0, 0][cells].float().mean().item()


def attended(frame: pd.DataFrame) -> str:
    """What each teacher attends to in high and in low frequencies, as Markdown; empty where images are not split.

    Example:
        >>> lines = [("small", HIGH, 1.65), ("small", LOW, 1.36)]
        >>> frame = pd.DataFrame(lines, columns=["size", "row", "value"]).assign(metric="attention", by="weak teacher")
        >>> attended(frame)
        '- On small objects the weak teacher has 1.65 times its mean attention in high frequencies, and 1.36 times in low ones.'
    """
    own = frame[frame["metric"] == "attention"].groupby(["by", "size", "row"], sort=False)["value"].mean().unstack("row")
    if not {HIGH, LOW} <= set(own):
        return ""
    lines = [
        f"- On {size} objects the {by} has {high:.2f} times its mean attention in high frequencies, "
        f"and {low:.2f} times in low ones."
        for (by, size), high, low in zip(own.index, own[HIGH], own[LOW], strict=True)
    ]
    both = own.index.get_level_values("by").nunique() > 1
    return "\n".join([*lines, *["- One training of each teacher cannot settle how the two differ."] * both])


def explained(page: EnhancementPage) -> str:
    """What the page's pictures show."""
    watcher = "weak" if page.view == "frequencies" else "strong"
    said = (
        "Small objects dominate an image if the boxes of the weak teacher cover less than "
        f"θ = {page.options.theta:g} of it. The pictures show the first image that small objects dominate, and the first one that "
        f"they do not. Beside each version is the {watcher} teacher's attention to it, Eq. (3). On the right, the positions that "
        "dual masking hides are dark. "
    )
    if page.view == "augmentation":
        return (
            f"{said}White frames are the weak teacher's boxes. Noise and crop are those of Eq. (4). A crop shows a part of the "
            "image. We compare it with the same part of the unchanged image, so that objects fill as much of both."
        )
    return (
        f"{said}White frames are the annotated boxes. A Gaussian filter, which halves the amplitude at the border, lets the low "
        "frequencies pass. The high frequencies are the rest, to which we add the image's mean. "
        f"{words.border(page.cycles)}"
    )


def measure(page: EnhancementPage) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Look at the versions of the page's images with the eyes of its teachers.

    Returns:
        A frame with the version of an image as ``row``, the teacher that sees it as ``by``, ``size`` of its objects, what dominates
        the image (``small objects`` or ``large objects``) as ``kind``, and the metrics of :func:`on_objects`: ``attention``, and
        ``hidden`` in percent; a line an image, without a value where it has no such objects. The pictures are the first image of
        each kind in all versions, with the attention of the first teacher to each.

    Raises:
        StudyError: if theta parts no images, the teacher has no such level, or frequencies of COCO's images are asked for.
    """
    scale = scales.get(page.scale)
    networks = {name: detector(run) for name, run in page.runs().items()}
    watchers = {"strong teacher": networks[page.strong]}
    if page.view == "frequencies":
        watchers = {"weak teacher": networks[page.weak]} | watchers
    shown = first(scale, page.images)
    found_by_teacher = [_boxes(networks[page.weak], one, page.options.score) for one in shown]
    judge, boxes = judged(found_by_teacher, shown, page.options.theta)
    lines: list[dict[str, Any]] = []
    pictures: dict[str, Any] = {}
    for place, (one, found) in enumerate(zip(shown, boxes, strict=True)):
        ratio = one.ratio_of(found)
        kind = f"{'small' if ratio < page.options.theta else 'large'} objects"
        if page.view == "frequencies":
            versions = frequency_versions(one, border(scale, page.cycles))
        else:
            versions = augmented_versions(one, ratio, page.options, seed=SEED + place)
        seen = {by: _level(watcher, versions, page.stride) for by, watcher in watchers.items()}
        for by, name, size in product(seen, versions, SIZES):
            version = versions[name]
            chosen = version.boxes[torch.tensor([own == size for own in one.sizes], dtype=torch.bool)]
            numbers = on_objects(seen[by][name], chosen, version.window, page.stride)
            about = {"row": name, "kind": kind, "size": size, "image": one.id, "by": by}
            lines.append(about | {"metric": "attention", "value": numbers and numbers[0]})
            lines.append(about | {"metric": "hidden", "value": numbers and 100 * numbers[1]})
        if kind not in pictures:
            framed = found if page.view == "augmentation" else one.boxes
            drawn = {}
            for name, version in versions.items():
                heat = spatial_attention(next(iter(seen.values()))[name], tau=MASKING["tau"])[0]
                drawn[name] = kept(version.image, version.boxes, own=scale.data.source == "shapes", attention=heat)
            pictures[kind] = {"id": one.id, "ratio": ratio, "judge": judge, "boxes": framed, "versions": drawn}
    return pd.DataFrame(lines).astype({"image": "Int64", "value": float}), pictures


def judged(by_teacher: Sequence[Tensor], shown: Sequence[Picture], theta: float) -> tuple[str, list[Tensor]]:
    """Whose boxes decide which objects dominate an image, and these boxes of each image.

    The weak teacher's do, unless by them all images lie on one side of theta: then the annotated ones do.

    Raises:
        StudyError: if by neither some images lie below theta, and others do not.
    """
    for judge, boxes in (("teacher", by_teacher), ("annotations", [one.boxes for one in shown])):
        if len({one.ratio_of(own) < theta for one, own in zip(shown, boxes, strict=True)}) == 2:
            return judge, list(boxes)
    raise StudyError(f"theta = {theta}: the first {len(shown)} images lie on one side of it: take more images, or another theta")


def _boxes(weak: BaseDetector, one: Picture, score: float) -> Tensor:
    from mmdet.apis import inference_detector  # not above, where it would talk before it is silenced

    found = inference_detector(weak, one.image.permute(1, 2, 0).contiguous().numpy()).pred_instances.cpu()
    boxes: Tensor = found.bboxes[found.scores >= score]
    return boxes


def _level(watcher: BaseDetector, versions: Mapping[str, Version], stride: int) -> dict[str, Tensor]:
    found = levels(watcher, [version.image for version in versions.values()])
    if stride not in found[0]:
        raise StudyError(f"stride = {stride}: the teacher's levels have strides {', '.join(map(str, found[0]))}")
    return {name: own[stride] for name, own in zip(versions, found, strict=True)}
