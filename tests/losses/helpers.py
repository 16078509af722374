"""What the tests of the methods share: random maps, a method from its specification, and its terms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfmsd import losses
from dfmsd.hyper import METHODS
from dfmsd.losses import Levels

IMAGE = (40, 48)
"""Height and width of an image; a map at stride 8 is 5 x 6."""

LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "channels-last": lambda feat: feat.contiguous(memory_format=torch.channels_last),
    "cropped": lambda feat: F.pad(feat, (1, 2, 2, 1))[..., 2:-1, 1:-2],
    "transposed": lambda feat: feat.mT.contiguous().mT,
}
"""How a map can lie in memory other than row by row."""


def maps(*, shape: tuple[int, ...] = (2, 4, 5, 6), dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Two random maps, the student's and the teacher's."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator, dtype=dtype), torch.randn(shape, generator=generator, dtype=dtype)


def method(name: str, *, channels_s: int = 4, channels_t: int = 4, learnt: bool = False, **changes: Any) -> Any:
    """A method with its specification's values, then the changes; the same weights at each call.

    Args:
        name: As in a recipe.
        channels_s: Of the student's maps.
        channels_t: Of the teacher's maps.
        learnt: Random parameters all over: blocks that start as the identity have an effect.
        **changes: Hyper-parameters and their values.
    """
    torch.manual_seed(0)
    kind = getattr(losses, METHODS[name].__name__)
    module = kind(channels_s=channels_s, channels_t=channels_t, **{"strides": (8, 16)} | changes)
    for parameter in module.parameters() if learnt else ():
        nn.init.normal_(parameter)
    return module


def run(
    module: Any,
    feats_s: Tensor | Levels,
    feats_t: Tensor | Levels,
    *,
    boxes: Sequence[Tensor] | None = None,
    shapes: Sequence[tuple[int, int]] | None = None,
    seed: int = 0,
    **options: Any,
) -> dict[str, Tensor]:
    """A method's weighted terms by their short names; one map stands for every level, and images have no boxes unless given."""
    levels_s, levels_t = (
        dict.fromkeys(module.strides, feats) if isinstance(feats, Tensor) else feats for feats in (feats_s, feats_t)
    )
    images = len(levels_t[module.strides[0]])
    boxes = [torch.zeros(0, 4)] * images if boxes is None else boxes
    shapes = [IMAGE] * images if shapes is None else shapes
    terms = module(levels_s, levels_t, boxes, shapes, generator=torch.Generator().manual_seed(seed), **options)
    return {name.removeprefix(f"loss_{module.name}_"): value for name, value in terms.items()}
