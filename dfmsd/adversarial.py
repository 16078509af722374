"""Adversarial examples, IKD's second augmentation: images changed so that a teacher mistakes its objects, for Eq. (8)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Images = list[Tensor]
Boxes = Sequence[Tensor]


def di2_fgsm(
    images: Sequence[Tensor],
    boxes: Boxes,
    loss: Callable[[Images, Boxes], Tensor],
    *,
    epsilon: float,
    step: float,
    steps: int,
    decay: float,
    resize: float,
    diversity: float,
    generator: torch.Generator,
) -> Images:
    r"""Iterative fast gradient signs with momentum and diverse inputs, DI2-FGSM: how IKD :cite:p:`ikd` attacks its teachers.

    .. math::
        g_{k+1} = \mu g_k + \frac{\nabla_x L(D(x_k))}{\mathrm{mean}\,|\nabla_x L(D(x_k))|}, \qquad
        x_{k+1} = \mathrm{clip}_{\epsilon R}\big( x_k + \eta R\, \mathrm{sign}(g_{k+1}) \big)

    Where:
        - :math:`L`: ``loss``, which is made larger
        - :math:`D`: :func:`diverse` with probability ``diversity``, else nothing
        - :math:`R`: largest minus smallest value of the image
        - :math:`\eta, \epsilon, \mu`: ``step``, ``epsilon``, ``decay``

    Args:
        images: Each ``(3, H, W)``, values in [0, 255]; sizes may differ.
        boxes: Ground truth of each, ``(n, 4)`` as x1, y1, x2, y2 in pixels.
        loss: From images and their boxes to a scalar.
        epsilon: Largest change of a value, in units of :math:`R`.
        step: Change of a value in one step, likewise.
        steps: How many.
        decay: Of the momentum.
        resize: See :func:`diverse`.
        diversity: Probability of a diverse input in each step.
        generator: On the CPU; the only source of randomness.

    Returns:
        The changed images, within ``epsilon`` of the originals and within the range of each of their channels. What does not move
        the loss at all stays as it is.

    Deviations:
        IKD attacks a whole data set beforehand and saves it as JPEG files, whose compression undoes a part of the change; here each
        batch is attacked as it comes, in pixels. Its :math:`R` is of the normalised image, the largest of the channels' own ranges;
        here of the raw one, over all channels. Its diverse inputs are squares, padded with the mean colour, and their boxes stay
        where they were; here they keep the image's size, on black, and boxes go along.

    Example:
        >>> image = torch.tensor([0.0, 100.0]).expand(3, 1, 2)
        >>> options = {"epsilon": 0.1, "step": 0.04, "steps": 2, "decay": 1.0, "resize": 0.9, "diversity": 0.0}
        >>> nothing = [torch.zeros(0, 4)]
        >>> (brighter,) = di2_fgsm([image], nothing, lambda x, _: x[0].sum(), **options, generator=torch.Generator())
        >>> brighter[0].tolist()
        [[8.0, 100.0]]
    """
    originals = [image.float() for image in images]
    spans = [image.max() - image.min() for image in originals]
    lows = [image.amin(dim=(1, 2), keepdim=True) for image in originals]
    highs = [image.amax(dim=(1, 2), keepdim=True) for image in originals]
    changed = originals
    momenta = [torch.zeros_like(image) for image in originals]
    for _ in range(steps):
        leaves = [image.detach().requires_grad_() for image in changed]
        with torch.enable_grad():
            seen, moved = list(leaves), list(boxes)
            if float(torch.rand((), generator=generator)) < diversity:
                pairs = [diverse(*pair, resize=resize, generator=generator) for pair in zip(leaves, boxes, strict=True)]
                seen, moved = [image for image, _ in pairs], [box for _, box in pairs]
            gradients = torch.autograd.grad(loss(seen, moved), leaves)
        changed = []
        for i, (leaf, gradient) in enumerate(zip(leaves, gradients, strict=True)):
            momenta[i] = decay * momenta[i] + gradient / gradient.abs().mean().clamp(min=torch.finfo(gradient.dtype).tiny)
            image = leaf.detach() + step * spans[i] * momenta[i].sign()
            image = image.clamp(originals[i] - epsilon * spans[i], originals[i] + epsilon * spans[i])
            changed.append(image.clamp(lows[i], highs[i]))
    return changed


def diverse(image: Tensor, boxes: Tensor, *, resize: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The image made smaller and put at a random place of a black one of its own size, with its boxes.

    Args:
        image: ``(3, H, W)``.
        boxes: ``(n, 4)`` as x1, y1, x2, y2 in pixels.
        resize: The new height and width are drawn evenly from this share to the whole.
        generator: On the CPU: sizes and offsets are Python numbers.

    Returns:
        Both, changed.
    """
    height, width = image.shape[1:]
    share = resize + (1 - resize) * float(torch.rand((), generator=generator))
    h, w = max(1, round(share * height)), max(1, round(share * width))
    top = int(torch.randint(height - h + 1, (), generator=generator))
    left = int(torch.randint(width - w + 1, (), generator=generator))
    small = F.interpolate(image[None], size=(h, w), mode="bilinear", align_corners=False)[0]
    image = F.pad(small, (left, width - w - left, top, height - h - top))
    return image, boxes * boxes.new_tensor([w / width, h / height] * 2) + boxes.new_tensor([left, top] * 2)
