"""Starts: backbones pretrained on crops of objects, as the papers' backbones are on ImageNet.

A start is a run of its own: with a key, a record and a place in the order of runs. Its images are a set that nothing evaluates. A
network at a scale that has starts begins with the weights of the one whose backbone equals its own
(:class:`dfmsd.study.spec.StartSpec`).
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.registry import MODELS
from mmengine.registry import DefaultScope
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from dfmsd.study import files
from dfmsd.study.data import DataRoot, Split
from dfmsd.study.hooks import POINTS, NaNLoss
from dfmsd.study.spec import MEAN, STD, StartSpec

REACH = (1.1, 2.2)
"""Side of a crop, relative to the longer side of its object's box: objects fill half of it to nearly all."""
SHIFT = 0.1
"""An object's centre lies at most so far from its crop's, relative to the crop's side."""
GROUND = (0.125, 0.375)
"""Side of a crop of background, relative to the image's."""
TRIES = 10
"""Places tried for a crop of background, one in each image; it touches no object's box."""

Crops = tuple[NDArray[np.uint8], NDArray[np.int64]]


def crops(split: Split, side: int, seed: int) -> Crops:
    """Every object of a split, and a piece of background of each image that has room for one, at places drawn from a seed.

    Returns:
        Crops, ``(N, side, side, 3)`` in the order blue, green, red, and their classes, ``(N,)``, background last.
    """
    import cv2

    content = json.loads(split.annotations.read_text())
    labels = {category["id"]: label for label, category in enumerate(content["categories"])}
    objects: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in content["images"]}
    for item in content["annotations"]:
        objects[item["image_id"]].append(item)
    rng = np.random.default_rng(seed)
    found, classes = [], []
    for image in content["images"]:
        pixels = np.asarray(cv2.imread(str(split.images / image["file_name"])))
        boxes = np.array([item["bbox"] for item in objects[image["id"]]]).reshape(-1, 4)
        shape = pixels.shape[0], pixels.shape[1]
        places = [_around(box, shape, rng) for box in boxes]
        classes += [labels[item["category_id"]] for item in objects[image["id"]]]
        if (empty := _beside(boxes, shape, rng)) is not None:
            places.append(empty)
            classes.append(len(labels))
        for left, top, length in places:
            piece = pixels[top : top + length, left : left + length]
            found.append(cv2.resize(piece, (side, side), interpolation=cv2.INTER_AREA if length > side else cv2.INTER_LINEAR))
    return np.stack(found), np.array(classes)


def _around(box: NDArray[np.float64], shape: tuple[int, int], rng: np.random.Generator) -> tuple[int, int, int]:
    """A square with a box in it: left, top and side in whole pixels."""
    length = min(max(1, round(max(box[2:]) * rng.uniform(*REACH))), *shape)
    corner = box[:2] + box[2:] / 2 + length * (rng.uniform(-SHIFT, SHIFT, 2) - 0.5)
    left, top = (int(np.clip(round(value), 0, limit - length)) for value, limit in zip(corner, shape[::-1], strict=True))
    return left, top, length


def _beside(boxes: NDArray[np.float64], shape: tuple[int, int], rng: np.random.Generator) -> tuple[int, int, int] | None:
    """A square that touches no box."""
    for _ in range(TRIES):
        length = round(min(shape) * rng.uniform(*GROUND))
        left, top = (int(rng.integers(limit - length + 1)) for limit in shape[::-1])
        apart = (boxes[:, :2] >= (left + length, top + length)) | (boxes[:, :2] + boxes[:, 2:] <= (left, top))
        if apart.any(axis=1).all():
            return left, top, length
    return None


class Classifier(nn.Module):
    """A backbone, the mean of its last level over all places, and a linear layer."""

    def __init__(self, backbone: dict[str, Any], side: int, classes: int) -> None:
        super().__init__()
        with DefaultScope.overwrite_default_scope("mmdet"):
            self.backbone = MODELS.build(dict(backbone))
        self.backbone.init_weights()
        self.backbone.eval()
        with torch.no_grad():
            channels = self.backbone(torch.zeros(1, 3, side, side))[-1].shape[1]
        self.last = nn.Linear(channels, classes)
        self.train()

    def forward(self, pixels: Tensor) -> Tensor:
        """Scores of each class, ``(N, classes)``, from images of 0 to 255 in the order blue, green, red, ``(N, H, W, 3)``."""
        images = (pixels.float().flip(-1) - pixels.new_tensor(MEAN, dtype=torch.float)) / pixels.new_tensor(STD, dtype=torch.float)
        scores: Tensor = self.last(self.backbone(images.permute(0, 3, 1, 2).contiguous())[-1].mean((2, 3)))
        return scores


def pretrain(spec: StartSpec, root: DataRoot, folder: Path) -> tuple[dict[str, Tensor], dict[str, float], list[dict[str, float]]]:
    """Pretrain a backbone, from its beginning: it takes minutes, so a start that was interrupted is made anew.

    Returns:
        The weights (``backbone.*``), the accuracy in percent on the validation crops, overall and of each class, and the curve.
    """
    torch.manual_seed(spec.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pixels, classes = (torch.from_numpy(part) for part in crops(root.train, spec.crop, spec.seed))
    model = Classifier(spec.backbone, spec.crop, len(root.classes) + 1).to(device)
    optimizer = _optimizer(model, spec)
    steps = spec.epochs * (len(pixels) // spec.batch)
    curve: list[dict[str, float]] = []
    losses: list[float] = []
    begun = time.monotonic()
    generator = torch.Generator().manual_seed(spec.seed)
    iteration = 0
    for _ in range(spec.epochs):
        order = torch.randperm(len(pixels), generator=generator)
        for chosen in order[: len(order) // spec.batch * spec.batch].split(spec.batch):
            rate = spec.lr * min(1.0, (iteration + 1) / max(1, spec.warmup)) * (1 + math.cos(math.pi * iteration / steps)) / 2
            for group in optimizer.param_groups:
                group["lr"] = rate
            batch = pixels[chosen]
            mirrored = torch.rand(len(batch), generator=generator) < 0.5
            batch[mirrored] = batch[mirrored].flip(2)
            loss = functional.cross_entropy(model(batch.to(device)), classes[chosen].to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            iteration += 1
            losses.append(float(loss.detach()))
            if not math.isfinite(losses[-1]):
                raise NaNLoss(f"loss is not finite at iteration {iteration} of a start: lower its learning rate")
            if len(losses) == max(1, steps // POINTS) or iteration == steps:
                curve.append({"iteration": iteration, "lr": rate, "loss": round(math.fsum(losses) / len(losses), 6)})
                losses.clear()
                progress = {"iteration": iteration, "of": steps, "seconds": round(time.monotonic() - begun, 1)}
                files.write_atomic(folder / "progress.json", json.dumps(progress))
    # As in a detector's checkpoint, and as mmdet's Swin wants it.
    state = {f"backbone.{name}": value.cpu() for name, value in model.backbone.state_dict().items()}
    return state, accuracy(model, crops(root.val, spec.crop, spec.seed), root.classes), curve


def _optimizer(model: nn.Module, spec: StartSpec) -> torch.optim.Optimizer:
    if spec.optimizer == "AdamW":
        return torch.optim.AdamW(model.parameters(), spec.lr, weight_decay=spec.weight_decay)
    return torch.optim.SGD(model.parameters(), spec.lr, momentum=0.9, weight_decay=spec.weight_decay)


@torch.no_grad()
def accuracy(model: Classifier, shown: Crops, names: tuple[str, ...]) -> dict[str, float]:
    """Share of crops told right, in percent: overall, and of each class by its name (``background`` last)."""
    model.eval()
    device = next(model.parameters()).device
    pixels, classes = (torch.from_numpy(part) for part in shown)
    right = torch.cat([model(part.to(device)).argmax(1).cpu() for part in pixels.split(256)]) == classes
    found = {"accuracy": 100 * float(right.float().mean())}
    for label, name in enumerate((*names, "background")):
        if (own := right[classes == label]).numel():
            found[f"accuracy {name}"] = 100 * float(own.float().mean())
    return {name: round(value, 3) for name, value in found.items()}
