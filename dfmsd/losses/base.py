"""What every distillation method is: a module that turns two feature pyramids into weighted loss terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

Levels = Mapping[int, Tensor]
"""A feature pyramid: stride in pixels to map, ``(B, C, H, W)``."""


class Method(nn.Module):
    """A distillation method.

    A subclass owns its learnable blocks, computes its unweighted terms in :meth:`terms`, and loops over the levels. The weight of
    each term is a buffer, so that it travels with the checkpoint.

    Args:
        strides: The levels it works on; the distiller hands it these levels and no others.
        weights: Weight of each term by its name.
    """

    name: ClassVar[str]
    uses_enhanced: ClassVar[bool] = False
    """Whether :meth:`enhanced_term` exists: a loss on changed images."""

    def __init__(self, strides: Sequence[int], weights: Mapping[str, float]) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.term_names = tuple(weights)
        self.active = frozenset(term for term, weight in weights.items() if weight)
        for term, weight in weights.items():
            self.register_buffer(f"weight_{term}", torch.tensor(float(weight)))

    def connect(self, student: Any, teacher: Any) -> None:
        """Look at the two detectors once, before training; a method that needs more than features keeps hold of their heads here.

        Raises:
            StudyError: if the method cannot work with this pair.
        """

    def watching(self) -> AbstractContextManager[None]:
        """Wrapped around the student's own loss; a method that needs more than features listens here."""
        return nullcontext()

    def terms(
        self,
        levels_s: Levels,
        levels_t: Levels,
        *,
        boxes: Sequence[Tensor],
        image_shapes: Sequence[tuple[int, int]],
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Unweighted terms on the training images.

        Args:
            levels_s: Student's levels.
            levels_t: Teacher's levels, of the same strides and sizes.
            boxes: Ground truth of each image, ``(n, 4)`` as x1, y1, x2, y2 in pixels of the network's input.
            image_shapes: Height and width of each image in pixels before padding.
            generator: The only source of randomness.
        """
        raise NotImplementedError

    def enhanced_term(self, levels_s: Levels, levels_t: Levels) -> Tensor:
        """The unweighted term on changed images."""
        raise NotImplementedError

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
        """Weighted terms, each a scalar under ``loss_<method>_<term>``; a term of weight 0 is left out.

        Args:
            levels_s: See :meth:`terms`.
            levels_t: See :meth:`terms`.
            boxes: See :meth:`terms`.
            image_shapes: See :meth:`terms`.
            generator: See :meth:`terms`.
            enhanced: Levels of student and teacher on changed images, by the name of the term that compares them.
        """
        terms = self.terms(levels_s, levels_t, boxes=boxes, image_shapes=image_shapes, generator=generator)
        if self.uses_enhanced:
            terms |= {term: self.enhanced_term(*pair) for term, pair in (enhanced or {}).items()}
        return {f"loss_{self.name}_{term}": self.weight(term) * value for term, value in terms.items() if term in self.active}

    def weight(self, term: str) -> Tensor:
        """The weight of a term."""
        return self.get_buffer(f"weight_{term}")


def widened(feat: Tensor) -> Tensor:
    """Half precision as float32; float32 and float64 as they are.

    Example:
        >>> widened(torch.ones(1, dtype=torch.float16)).dtype, widened(torch.ones(1, dtype=torch.float64)).dtype
        (torch.float32, torch.float64)
    """
    return feat.to(torch.promote_types(feat.dtype, torch.float32))


def sum_squares(difference: Tensor) -> Tensor:
    r"""Sum over everything but the batch, mean over the batch: :math:`\frac{1}{B}\sum_{bchw} x_{bchw}^2`.

    Example:
        >>> sum_squares(torch.ones(2, 3, 4, 5)).item()
        60.0
    """
    return difference.square().sum() / difference.shape[0]
