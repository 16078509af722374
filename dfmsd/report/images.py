"""Validation images as the networks get them: what pages measure on, and how a record keeps them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import torch
from torch import Tensor

from dfmsd.augment import area_ratio
from dfmsd.errors import StudyError
from dfmsd.study import data
from dfmsd.study.scales import Scale
from dfmsd.study.shapes import SMALL_SIDE
from dfmsd.study.spec import RunSpec, ShapesData

SEED = 0
"""Of the noise, crops and samples that are measured."""

JPEG_QUALITY = 90


@dataclass(frozen=True)
class Picture:
    """An image as the networks get it, before normalisation."""

    id: int
    """In the annotations."""
    image: Tensor
    """``(3, H, W)``, blue, green, red in [0, 255]."""
    boxes: Tensor
    """``(n, 4)`` as x1, y1, x2, y2 in pixels."""
    names: tuple[str, ...]
    """Class of each box."""
    sizes: tuple[str, ...]
    """COCO's name for the size of each box on disk."""

    def ratio_of(self, boxes: Tensor) -> float:
        """The share of the image that some boxes ``(n, 4)`` cover, :func:`~dfmsd.augment.area_ratio`."""
        height, width = self.image.shape[1:]
        return area_ratio(boxes, torch.ones(len(boxes)), score=0.0, height=height, width=width)


def pictures(of: RunSpec | Scale, indices: Sequence[int]) -> Iterator[Picture]:
    """Some validation images, by their place among all, at the size at which a run or a scale sees them.

    Raises:
        StudyError: if the data has no image at such a place.
    """
    import mmcv

    split = data.ensure(of.data).val
    content = json.loads(split.annotations.read_text())
    images = content["images"]
    classes = {category["id"]: category["name"] for category in content["categories"]}
    for index in indices:
        if not 0 <= index < len(images):
            raise StudyError(f"image = {index}: the validation images are 0 to {len(images) - 1}")
        pixels = mmcv.imread(str(split.images / images[index]["file_name"]))
        scaled, factor = mmcv.imrescale(pixels, of.image_size, return_scale=True)
        objects = [item for item in content["annotations"] if item["image_id"] == images[index]["id"]]
        corners = torch.tensor([item["bbox"] for item in objects], dtype=torch.float32).reshape(-1, 4)
        sizes = tuple(data.size_class(area) for area in corners[:, 2:].prod(dim=1).tolist())
        corners[:, 2:] += corners[:, :2]
        names = tuple(classes[item["category_id"]] for item in objects)
        image = torch.from_numpy(scaled).permute(2, 0, 1).contiguous()
        yield Picture(images[index]["id"], image, corners * factor, names, sizes)


def first(scale: Scale, count: int) -> list[Picture]:
    """The first validation images of a scale, as many as there are."""
    there = len(json.loads(data.ensure(scale.data).val.annotations.read_text())["images"])
    return list(pictures(scale, range(min(count, there))))


def border(scale: Scale, cycles: float) -> float:
    """The frequency between low and high at a scale of generated data, in cycles per pixel of the image that the networks get.

    At a side of 32 pixels on disk COCO's small objects end. Whatever is smaller holds few waves that are longer than itself, so the
    wave of which ``cycles`` lie on that length parts the two: :math:`f_b = n / 32`, times the side on disk over that at the
    network.

    Raises:
        StudyError: if the scale's data is not generated: COCO's images have no common side.
    """
    if not isinstance(scale.data, ShapesData):
        raise StudyError(
            f"scale = {scale.name}: its images differ in size, so no frequency is that of small objects: take mini or gpu"
        )
    return cycles / SMALL_SIDE * scale.data.size / scale.image_size[0]


def touched(boxes: Tensor, *, stride: int, size: Sequence[int]) -> Tensor:
    """The cells ``(H, W)`` of a level that a box ``(n, 4)``, x1, y1, x2, y2 in pixels, reaches into; one without area into none."""
    rows, columns = (torch.arange(count) * stride for count in size)
    whole = boxes[(boxes[:, 2:] > boxes[:, :2]).all(dim=1)]
    x1, y1, x2, y2 = whole.T[:, :, None]  # (n, 4) -> 4 x (n, 1)
    across, down = (x1 < columns + stride) & (x2 > columns), (y1 < rows + stride) & (y2 > rows)  # (n, W), (n, H)
    inside: Tensor = (down[:, :, None] & across[:, None, :]).any(dim=0)
    return inside


def magnitude(feat: Tensor) -> Tensor:
    r"""Where a feature map is large: the mean magnitude over channels, :math:`E_{hw} = \frac{1}{C} \sum_c |F_{chw}|`.

    Spatial attention, Eq. (3), is a softmax of it, and a mask hides the positions where it is highest: both follow from it.

    Example:
        >>> magnitude(torch.tensor([[[[1.0, -2.0]], [[3.0, 0.0]]]])).tolist()
        [[2.0, 1.0]]
    """
    return feat[0].abs().mean(dim=0)


def jpeg(pixels: Tensor) -> str:
    """An image ``(3, H, W)`` or ``(1, H, W)`` in [0, 255] as a JPEG in base 64."""
    array = pixels.clamp(0, 255).round().byte().permute(1, 2, 0).contiguous().numpy()
    return base64.b64encode(cv2.imencode(".jpg", array, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()).decode()


def kept(image: Tensor, boxes: Tensor, *, own: bool, **maps: Mapping[str, Tensor] | Tensor) -> dict[str, Any]:
    """An image ``(3, H, W)`` for a record, with its boxes ``(n, 4)`` and heat maps; ``own``: its pixels are ours to pass on."""
    return {"size": list(image.shape[1:]), "boxes": boxes, "jpeg": jpeg(image.float()) if own else "", **maps}
