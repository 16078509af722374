"""What every distillation method is: a module that turns two feature pyramids into weighted loss terms."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dfmsd import hyper
from dfmsd.errors import known, validated
from dfmsd.losses.blocks import align

Levels = Mapping[int, Tensor]
"""A feature pyramid: stride in pixels to map, ``(B, C, H, W)``."""

CHANGED = ("aug", "adv")
"""Terms on changed images: enhanced ones, and adversarial examples."""


def _names_first(init: Callable[..., None]) -> Callable[..., None]:
    """Tell of a misspelt name before Python tells of those that are missing."""
    arguments = [name for name, one in inspect.signature(init).parameters.items() if one.kind is one.KEYWORD_ONLY]

    @wraps(init)
    def checked(self: Method, *given: Any, **named: Any) -> None:
        known(type(self).__name__, named, {*hyper.METHODS[self.name].model_fields, *arguments}, "hyper-parameter")
        init(self, *given, **named)

    return checked


class Method(nn.Module):
    """A distillation method: its numbers, what it learns on each level, and its terms on one level.

    A subclass names itself and the weight of each term, and computes its unweighted terms in :meth:`level`. The weights are
    buffers, so that they travel with the checkpoint. A term of weight 0 is off, and blocks that no term needs do not exist.

    Args:
        channels_s: Channels of the student's maps, of all or by their level's stride.
        channels_t: Channels of the teacher's maps, likewise.
        strides: Levels to work on, by stride in pixels.
        changed: The terms of :data:`CHANGED` whose images the training will provide; the others are off.
        **fields: Hyper-parameters, the fields of the model of the same name in :mod:`dfmsd.hyper`.

    Raises:
        StudyError: for a hyper-parameter that does not exist or a value that makes no sense.
    """

    name: ClassVar[str]
    """The method's name in a recipe."""
    WEIGHTS: ClassVar[Mapping[str, str]]
    """The hyper-parameter that weighs each term."""

    @_names_first
    def __init__(
        self,
        *,
        channels_s: int | Mapping[int, int],
        channels_t: int | Mapping[int, int],
        strides: Sequence[int],
        changed: Collection[str] = CHANGED,
        **fields: Any,
    ) -> None:
        super().__init__()
        self.spec: Any = validated(
            hyper.METHODS[self.name], type(self).__name__, fields | {"strides": tuple(strides)}, "hyper-parameter"
        )
        self.strides = self.part(tuple(strides))
        weights = {term: getattr(self.spec, field) for term, field in self.WEIGHTS.items()}
        for term, weight in weights.items():
            self.register_buffer(f"weight_{term}", torch.tensor(float(weight)))
        self.active = frozenset(term for term in weights if weights[term] and (term not in CHANGED or term in changed))
        sides = [dict.fromkeys(strides, side) if isinstance(side, int) else side for side in (channels_s, channels_t)]
        self.levels = nn.ModuleDict(
            {
                str(stride): self.blocks(*(side[stride] for side in sides), stride=stride)
                for stride in self.strides
                if any(self.on(term, stride) for term in self.WEIGHTS)
            }
        )

    def part(self, strides: tuple[int, ...]) -> tuple[int, ...]:
        """Which of the levels take part."""
        return strides

    def on(self, term: str, stride: int) -> bool:
        """Whether a term counts on a level."""
        return term in self.active

    def blocks(self, channels_s: int, channels_t: int, *, stride: int) -> nn.Module:
        """What is learned on one level: by default the alignment of the student's channels, under ``align``."""
        return nn.ModuleDict({"align": align(channels_s, channels_t)})

    def connect(self, student: Any, teacher: Any) -> None:
        """Look at the two detectors once, before training; a method that needs more than features keeps hold of their heads here.

        Raises:
            StudyError: if the method cannot work with this pair.
        """

    def watching(self) -> AbstractContextManager[None]:
        """Wrapped around the student's own loss; a method that needs more than features listens here."""
        return nullcontext()

    def level(
        self,
        block: Any,
        feat_s: Tensor,
        feat_t: Tensor,
        *,
        stride: int,
        boxes: Sequence[Tensor],
        image_shapes: Sequence[tuple[int, int]],
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Unweighted terms of one level; those that are off may be among them.

        Args:
            block: What :meth:`blocks` made for it.
            feat_s: Student's map, ``(B, C_s, H, W)``, float32 or wider.
            feat_t: Teacher's map, ``(B, C, H, W)``, likewise.
            stride: Of the level, in pixels.
            boxes: Ground truth of each image, ``(n, 4)`` as x1, y1, x2, y2 in pixels of the network's input.
            image_shapes: Height and width of each image in pixels before padding.
            generator: The only source of randomness.
        """
        raise NotImplementedError

    def enhanced(self, block: Any, feat_s: Tensor, feat_t: Tensor) -> Tensor:
        """The unweighted term of one level on changed images, see :meth:`level`."""
        raise NotImplementedError

    def terms(self, levels_s: Levels, levels_t: Levels, **context: Any) -> dict[str, Tensor]:
        """Unweighted terms: those of :meth:`level`, summed over the levels."""
        found: dict[str, list[Tensor]] = {}
        for stride, block, feat_s, feat_t in self._each(levels_s, levels_t):
            for term, value in self.level(block, feat_s, feat_t, stride=stride, **context).items():
                found.setdefault(term, []).append(value)
        return {term: torch.stack(values).sum() for term, values in found.items()}

    def forward(
        self,
        levels_s: Levels,
        levels_t: Levels,
        boxes: Sequence[Tensor],
        image_shapes: Sequence[tuple[int, int]],
        *,
        generator: torch.Generator,
        enhanced: Mapping[str, tuple[Levels, Levels]] | None = None,
    ) -> dict[str, Tensor]:
        """Weighted terms, each a scalar under ``loss_<method>_<term>``; a term that is off is left out.

        Args:
            levels_s: Student's levels.
            levels_t: Teacher's levels, of the same strides and sizes.
            boxes: See :meth:`level`.
            image_shapes: See :meth:`level`.
            generator: See :meth:`level`.
            enhanced: Levels of student and teacher on changed images, by the name of the term that compares them.
        """
        terms = self.terms(levels_s, levels_t, boxes=boxes, image_shapes=image_shapes, generator=generator)
        for term, pair in (enhanced or {}).items():
            if term in self.active:
                terms[term] = torch.stack([self.enhanced(block, *feats) for _, block, *feats in self._each(*pair)]).sum()
        return {f"loss_{self.name}_{term}": self.weight(term) * value for term, value in terms.items() if term in self.active}

    def weight(self, term: str) -> Tensor:
        """The weight of a term."""
        return self.get_buffer(f"weight_{term}")

    def _each(self, levels_s: Levels, levels_t: Levels) -> Iterator[tuple[int, Any, Tensor, Tensor]]:
        for stride in self.strides:
            if str(stride) in self.levels:
                yield stride, self.levels[str(stride)], widened(levels_s[stride]), widened(levels_t[stride])


def widened(feat: Tensor) -> Tensor:
    """Half precision as float32; float32 and float64 as they are.

    Example:
        >>> widened(torch.ones(1, dtype=torch.float16)).dtype, widened(torch.ones(1, dtype=torch.float64)).dtype
        (torch.float32, torch.float64)
    """
    return feat.to(torch.promote_types(feat.dtype, torch.float32))


def squared_error(difference: Tensor, reduction: hyper.Reduction = "sum") -> Tensor:
    """Squares, summed over channels and positions and divided by B, or averaged.

    Example:
        >>> squared_error(torch.ones(2, 3, 4, 4), "sum").item(), squared_error(torch.ones(2, 3, 4, 4), "mean").item()
        (48.0, 1.0)
    """
    squares = widened(difference).square()
    return squares.mean() if reduction == "mean" else squares.sum() / len(squares)
