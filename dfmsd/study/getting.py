"""What the scale ``coco`` needs from elsewhere, where to put it, and what is there already."""

from __future__ import annotations

from pathlib import Path

from dfmsd import checkpoints
from dfmsd.study import paths, zoo

ARCHIVES = {
    "annotations_trainval2017.zip (241 MB)": ("annotations/instances_train2017.json", "annotations/instances_val2017.json"),
    "train2017.zip (18 GB)": ("train2017",),
    "val2017.zip (1 GB)": ("val2017",),
}
"""COCO's archives, and what of each the study reads."""


def lines() -> list[str]:
    """How to get COCO and mmdet's checkpoints, a line each, with what is there.

    Example:
        >>> lines()[0].partition(": unpack")[0]
        'COCO 2017 is at https://cocodataset.org/#download'
    """
    root = paths.coco()
    named = "export DFMSD_COCO=/path/to/coco" if root is None else f"DFMSD_COCO={root}"
    found = [f"COCO 2017 is at https://cocodataset.org/#download: unpack three archives in one folder, and name it ({named})"]
    for archive, parts in ARCHIVES.items():
        for part in parts:
            found.append(f"  {_state(root and root / part)}  {part}, out of {archive}")
    found.append(
        f"mmdet's checkpoints are fetched when runs need them; put by hand into {checkpoints.shelf()}, they are taken from there:"
    )
    for name in zoo.names():
        url = zoo.weights(name).url
        found.append(f"  {_state(checkpoints.shelf() / url.rsplit('/', 1)[1])}  {name}: {url}")
    return found


def _state(place: Path | None) -> str:
    return "here   " if place is not None and place.exists() else "missing"
