"""Tiny real detectors and batches, shared by the tests of the distiller and its parts."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import cv2
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
    """A plain mmdet checkpoint of :func:`detector`, always the same; whether it is made now changes no random number of a test."""
    file = folder / f"{name}.pth"
    if not file.exists():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
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


def project(folder: Path, **teachers: str) -> Path:
    """A user's project: four images in COCO's format, whole mmdet configs of a student and of teachers, these with checkpoints.

    Args:
        folder: Where it lies.
        **teachers: Names of the zoo by what they are called there: ``weak`` becomes ``weak.py`` and ``weak.pth``.

    Returns:
        The student's config, ``my_detector.py``, which trains for two epochs of two iterations.
    """
    rng = np.random.default_rng(0)
    for index in range(4):
        cv2.imwrite(str(folder / f"{index}.png"), rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    box = {"bbox": [8, 8, 32, 32], "area": 1024, "iscrowd": 0}
    coco = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 64, "height": 64} for i in range(4)],
        "annotations": [box | {"id": i + 1, "image_id": i, "category_id": i + 1} for i in range(4)],
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(_classes())],
    }
    (folder / "truth.json").write_text(json.dumps(coco))
    for called, name in teachers.items():
        (folder / f"{called}.py").write_text(_config(name, folder))
        Path(checkpoint(name, folder)).rename(folder / f"{called}.pth")
    (folder / "my_detector.py").write_text(_config("retinanet_r50", folder))
    return folder / "my_detector.py"


def _config(name: str, folder: Path) -> str:
    return f"""
default_scope = "mmdet"
model = {network(name).to_dict()!r}
dataset = dict(
    type="CocoDataset",
    ann_file={str(folder / "truth.json")!r},
    data_prefix=dict(img={str(folder)!r}),
    metainfo=dict(classes={_classes()!r}),
)
resize = dict(type="Resize", scale=(64, 64), keep_ratio=True)
meta = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        **dataset,
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="LoadAnnotations", with_bbox=True),
            resize,
            dict(type="PackDetInputs"),
        ],
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        **dataset,
        test_mode=True,
        pipeline=[dict(type="LoadImageFromFile"), resize, dict(type="PackDetInputs", meta_keys=meta)],
    ),
)
test_dataloader = val_dataloader
test_evaluator = val_evaluator = dict(type="CocoMetric", ann_file={str(folder / "truth.json")!r}, metric="bbox")
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=2)
val_cfg, test_cfg = dict(type="ValLoop"), dict(type="TestLoop")
param_scheduler = [
    dict(type="LinearLR", by_epoch=False, start_factor=0.001, begin=0, end=2),
    dict(type="MultiStepLR", by_epoch=True, milestones=[1]),
]
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.01))
default_hooks = dict(logger=dict(type="LoggerHook", interval=1))
randomness = dict(seed=0)
"""


class Payload:
    """Pickled, it is a call: whoever loads it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return open, (str(self.mark), "w")
