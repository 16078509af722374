"""Images that are decoded once, and flipped as one process would flip them."""

from __future__ import annotations

from typing import Any

from mmcv.transforms import BaseTransform, Compose
from mmdet.datasets.transforms import RandomFlip
from mmdet.registry import TRANSFORMS
from mmengine.dist import get_dist_info


@TRANSFORMS.register_module()
class Once(BaseTransform):
    """Transforms that draw nothing, done once for each image and kept in memory: what comes out is the same to the bit.

    A student sees the few hundred images of its set dozens of times, and decoding takes four fifths of the time to load one.

    Args:
        transforms: Their configs, such as those that read an image and its annotations and resize both.
    """

    def __init__(self, transforms: list[dict[str, Any]]) -> None:
        self.steps = Compose(transforms)
        self.kept: dict[int, dict[str, Any]] = {}

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """A copy of what is kept; boxes are copied deeply, because mmdet's ``RandomFlip`` changes them in place."""
        image = results["img_id"]
        if image not in self.kept:
            self.kept[image] = self.steps(results)
        return self.kept[image] | {"gt_bboxes": self.kept[image]["gt_bboxes"].clone()}


@TRANSFORMS.register_module()
class FlipInTurn(RandomFlip):
    """mmdet's ``RandomFlip``, whose draws do not depend on how many processes share a batch.

    The images of a batch are dealt out in turn: each process draws for every one of a turn, and takes its own.
    """

    def _choose_direction(self) -> Any:
        rank, processes = get_dist_info()
        return [super(FlipInTurn, self)._choose_direction() for _ in range(processes)][rank]
