"""What a detector's feature pyramid is, measured; and which level of one pyramid belongs to which level of another."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfmsd.errors import StudyError, suggest
from dfmsd.stages import Matching

SIDES = (256, 640)
"""Sides in pixels of the empty image that a pyramid is measured with: the second where the first is too small, as for SSD's."""


class Level(NamedTuple):
    """One map of a pyramid."""

    stride: int
    """In pixels: the image's side by the map's."""
    channels: int


def pyramid(detector: nn.Module) -> tuple[Level, ...]:
    """The maps that a detector's ``extract_feat`` gives, measured on an empty image.

    Raises:
        StudyError: if it cannot be measured, or gives something else than maps.
    """
    home = next(detector.parameters(), torch.empty(0)).device
    devices = [home] + [torch.device("cuda")] * torch.cuda.is_available()  # some layers have no code for a processor
    failed = Exception("it has no levels")
    for device, side in product(devices, SIDES):
        try:
            feats = _maps(detector.to(device), torch.zeros(1, 3, side, side, device=device))
        except Exception as error:  # whatever a network of anybody's raises
            failed = error
            continue
        finally:
            detector.to(home)
        if not isinstance(feats, (list, tuple)) or not feats or not all(isinstance(f, Tensor) and f.ndim == 4 for f in feats):
            failed = TypeError("it gives no list of maps (B, C, H, W)")
            break
        return tuple(Level(round(side / feat.shape[2]), feat.shape[1]) for feat in feats)
    name, reason = type(detector).__name__, (str(failed).strip().splitlines() or [type(failed).__name__])[0]
    raise StudyError(f"{name} has no levels to compare: its extract_feat fails on an empty image of {SIDES[-1]} pixels: {reason}")


@torch.no_grad()
def _maps(detector: Any, image: Tensor) -> Any:
    training = detector.training
    try:
        return detector.eval().extract_feat(image)
    finally:
        detector.train(training)


def strides(detector: nn.Module) -> tuple[int, ...]:
    """Strides in pixels of the maps of :func:`pyramid`."""
    return tuple(level.stride for level in pyramid(detector))


def match(strides_s: Sequence[int], strides_t: Sequence[int], matching: Matching) -> list[tuple[int, int]]:
    """Pairs of level indices (student, teacher), the finest level first.

    Args:
        strides_s: Student's strides in pixels.
        strides_t: Teacher's strides in pixels.
        matching: ``stride``: levels of equal stride, of several the last; ``index``: finest to finest, the next to the next
            (PKD's habit).

    Raises:
        StudyError: if no level matches.

    Example:
        >>> match((4, 8, 16, 32, 64), (8, 16, 32, 64, 128), "stride")
        [(1, 0), (2, 1), (3, 2), (4, 3)]
        >>> match((4, 8), (16, 8), "index")
        [(0, 1), (1, 0)]
    """
    if matching not in get_args(Matching):
        raise StudyError(f"matching = {matching!r}: {suggest(str(matching), get_args(Matching))}")
    if matching == "index":
        return list(zip(*(sorted(range(len(one)), key=one.__getitem__) for one in (strides_s, strides_t)), strict=False))
    places_s, places_t = ({stride: place for place, stride in enumerate(one)} for one in (strides_s, strides_t))
    pairs = [(places_s[stride], places_t[stride]) for stride in sorted(places_s.keys() & places_t.keys())]
    if not pairs:
        raise StudyError(
            f"no level in common: the student has strides {tuple(strides_s)}, the teacher {tuple(strides_t)}: take another "
            "teacher, or matching='index'"
        )
    return pairs


def resized(feat_s: Tensor, feat_t: Tensor) -> Tensor:
    """The student's map at the teacher's size: bilinear where they differ (index matching), as in PKD's released code."""
    if feat_s.shape[2:] == feat_t.shape[2:]:
        return feat_s
    return F.interpolate(feat_s, size=feat_t.shape[2:], mode="bilinear", align_corners=False)
