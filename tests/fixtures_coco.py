"""A user's own data: three classes of coloured things in COCO's format, in folders and files of other names than COCO's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from dfmsd.study import coco
from dfmsd.study.spec import CocoData

Json = dict[str, Any]

COLOURS = {"cat": (40, 60, 230), "dog": (230, 120, 30), "bird": (60, 210, 60)}
"""Of each class, in the order blue, green, red."""

FILES = {"train": "labels/spring.json", "val": "labels/autumn.json"}

YAML = """\
train: {annotations: labels/spring.json, images: photos/spring}
val: {annotations: labels/autumn.json, images: photos/autumn}
"""


def pets(folder: Path, train: int = 48, val: int = 12) -> Path:
    """Make the data; returns the YAML that names them. Images to learn from lie in folders of two cameras."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        images: list[Json] = []
        objects: list[Json] = []
        for number in range(count):
            name = f"cam{number % 2 + 1}/{number:04d}.jpg" if split == "train" else f"{number:04d}.png"
            file = folder / "photos" / Path(FILES[split]).stem / name
            file.parent.mkdir(parents=True, exist_ok=True)
            images.append({"id": number, "file_name": name, "width": 96, "height": 64})
            pixels = rng.integers(90, 130, (64, 96, 3), dtype=np.uint8)
            for place in range(2):
                label = int(rng.integers(3))
                side = int(rng.integers(20, 40))
                left, top = 48 * place + int(rng.integers(48 - side)), int(rng.integers(64 - side))
                pixels[top : top + side, left : left + side] = list(COLOURS.values())[label]
                box = {"bbox": [left, top, side, side], "area": side * side, "iscrowd": 0}
                objects.append(box | {"id": len(objects) + 1, "image_id": number, "category_id": label + 1})
            cv2.imwrite(str(file), pixels)
        categories = [{"id": n + 1, "name": name} for n, name in enumerate(COLOURS)]
        (folder / "labels").mkdir(exist_ok=True)
        content = {"images": images, "annotations": objects, "categories": categories}
        (folder / FILES[split]).write_text(json.dumps(content))
    (folder / "pets.yaml").write_text(YAML)
    return folder / "pets.yaml"


def change(folder: Path, split: str, by: Callable[[Any], Any]) -> None:
    """Change the content of an annotation file: in place, or to what ``by`` returns."""
    file = folder / FILES[split]
    content = json.loads(file.read_text())
    file.write_text(json.dumps(by(content) or content))


def content(file: Path) -> Any:
    """Of an annotation file."""
    return json.loads(file.read_bytes())


def own(folder: Path) -> CocoData:
    """The data of a folder, checked."""
    return coco.own(folder / "pets.yaml")


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's data of six images to learn from and three to evaluate on; no other data are there."""
    monkeypatch.setenv("DFMSD_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("DFMSD_COCO", raising=False)
    return pets(tmp_path / "mine", train=6, val=3).parent
