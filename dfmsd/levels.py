"""Which level of one feature pyramid belongs to which level of another."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from dfmsd.errors import StudyError
from dfmsd.stages import Matching


def strides(detector: nn.Module) -> tuple[int, ...]:
    """Strides of a detector's neck outputs in pixels, as its dense head's prior generator states them.

    Raises:
        StudyError: if the detector has no dense head with priors.
    """
    for head in ("bbox_head", "rpn_head"):
        generator = getattr(getattr(detector, head, None), "prior_generator", None)
        if generator is not None:
            return tuple(int(s[0] if isinstance(s, (tuple, list)) else s) for s in generator.strides)
    raise StudyError(f"{type(detector).__name__} has no bbox_head or rpn_head with priors: its levels' strides are unknown")


def match(strides_s: Sequence[int], strides_t: Sequence[int], matching: Matching) -> list[tuple[int, int]]:
    """Pairs of level indices (student, teacher).

    Args:
        strides_s: Student's strides in pixels.
        strides_t: Teacher's strides in pixels.
        matching: ``stride``: levels of equal stride; ``index``: first to first, second to second (PKD's habit).

    Raises:
        StudyError: if no level matches.

    Example:
        >>> match((4, 8, 16, 32, 64), (8, 16, 32, 64, 128), "stride")
        [(1, 0), (2, 1), (3, 2), (4, 3)]
        >>> match((4, 8), (8, 16), "index")
        [(0, 0), (1, 1)]
    """
    if matching == "index":
        return [(i, i) for i in range(min(len(strides_s), len(strides_t)))]
    pairs = [(i, strides_t.index(stride)) for i, stride in enumerate(strides_s) if stride in strides_t]
    if not pairs:
        raise StudyError(f"no level in common: the student has strides {tuple(strides_s)}, the teacher {tuple(strides_t)}")
    return pairs


def resized(feat_s: Tensor, feat_t: Tensor) -> Tensor:
    """The student's map at the teacher's size: bilinear where they differ (index matching), as in PKD's released code."""
    if feat_s.shape[2:] == feat_t.shape[2:]:
        return feat_s
    return F.interpolate(feat_s, size=feat_t.shape[2:], mode="bilinear", align_corners=False)
