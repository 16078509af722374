"""Tiny real detectors and batches, shared by the tests of the distiller and its parts."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.models.detectors import BaseDetector
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData

from dfmsd.study import build, zoo

CLASSES = 10


def network(name: str) -> Any:
    """A model dict of the zoo at the scale ``smoke``."""
    return build.model_config(zoo.network(name, "smoke"), CLASSES)


@cache
def detector(name: str) -> BaseDetector:
    """A detector in eval mode with weights of its own seed; shared, so leave it as it is."""
    torch.manual_seed(sum(map(ord, name)))
    return build.built(zoo.network(name, "smoke"), CLASSES).eval()


def checkpoint(name: str, folder: Path) -> str:
    """A plain mmdet checkpoint of :func:`detector`."""
    file = folder / f"{name}.pth"
    if not file.exists():
        torch.save({"state_dict": detector(name).state_dict(), "meta": {"dataset_meta": {"classes": _classes()}}}, file)
    return str(file)


def _classes() -> tuple[str, ...]:
    return tuple(f"class {i}" for i in range(CLASSES))


def batch(images: int = 2, size: int = 64, seed: int = 0, *, masks: bool = False) -> dict[str, Any]:
    """Raw images and their boxes, as mmdet's loader hands them to a data preprocessor; a mask fills the middle of its box."""
    generator = torch.Generator().manual_seed(seed)
    samples, inputs = [], []
    for index in range(images):
        inputs.append(torch.randint(0, 256, (3, size, size), generator=generator, dtype=torch.uint8))
        corner = torch.randint(0, size // 2, (2, 2), generator=generator).float()
        sample = DetDataSample(
            metainfo={"img_id": index, "img_shape": (size, size), "ori_shape": (size, size), "scale_factor": (1.0, 1.0)}
        )
        sample.gt_instances = InstanceData(bboxes=torch.cat([corner, corner + size / 3], dim=1), labels=torch.tensor([1, 4]))
        if masks:
            sample.gt_instances.masks = _masks(sample.gt_instances.bboxes, size)
        samples.append(sample)
    return {"inputs": inputs, "data_samples": samples}


def _masks(boxes: torch.Tensor, size: int) -> BitmapMasks:
    filled = np.zeros((len(boxes), size, size), dtype=np.uint8)
    for mask, (left, top, right, bottom) in zip(filled, boxes.int().tolist(), strict=True):
        mask[top + 3 : bottom - 3, left + 3 : right - 3] = 1
    return BitmapMasks(filled, size, size)
