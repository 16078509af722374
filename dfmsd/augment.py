"""Images changed for Eq. (8): masking enhancement (ME), Eq. (4), and adversarial examples, IKD's second augmentation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def area_ratio(boxes: Tensor, scores: Tensor, *, score: float, height: int, width: int) -> float:
    r"""How much of an image its detected objects cover.

    .. math::
        r(x) = \min\!\Big(1, \frac{1}{H W} \sum_{b} \mathrm{area}(b)\Big)

    Args:
        boxes: Detections of the weaker teacher, ``(n, 4)`` as x1, y1, x2, y2 in pixels.
        scores: Their scores, ``(n,)``.
        score: Detections count from this score on.
        height: Image height in pixels.
        width: Image width in pixels.

    Returns:
        A share in [0, 1]. Areas are summed, not united, as the paper's text says.

    Example:
        >>> boxes = torch.tensor([[0.0, 0.0, 5.0, 10.0], [0.0, 0.0, 10.0, 10.0]])
        >>> area_ratio(boxes, torch.tensor([0.9, 0.1]), score=0.3, height=10, width=10)
        0.5
    """
    sizes = (boxes[:, 2:] - boxes[:, :2]).float()  # a product of two sides is too large for half precision
    area = sizes.prod(dim=1)[scores >= score].sum()
    return min(1.0, float(area) / (height * width))


@torch.no_grad()
def area_ratios(detector: Any, loader: Iterable[Any], *, score: float) -> dict[str, float]:
    """:func:`area_ratio` of every image of a loader, by a detector's boxes.

    Args:
        detector: An mmdet detector with its weights, the weak teacher; it is put into eval mode.
        loader: As mmengine's ``Runner.build_dataloader`` makes it, of the training images with the pipeline of validation.
        score: Boxes count from this score on.

    Returns:
        By the image's id in the data set, rounded to six digits. Written to a JSON file, it is what
        :class:`~dfmsd.preprocess.DistillPreprocessor` takes for ``ratios``.
    """
    detector.eval()
    ratios = {}
    for batch in loader:
        for sample in detector.test_step(batch):
            height, width = sample.ori_shape[:2]
            found = sample.pred_instances
            ratios[str(sample.img_id)] = round(area_ratio(found.bboxes, found.scores, score=score, height=height, width=width), 6)
    return ratios


def add_noise(image: Tensor, *, sigma: float, generator: torch.Generator) -> Tensor:
    r"""Gaussian noise, which strengthens high frequencies.

    .. math::
        \tilde x = \big\lfloor 255 \cdot \mathrm{clip}( x / 255 + \sigma z, 0, 1 ) \big\rfloor, \qquad z \sim \mathcal N(0, 1)

    Args:
        image: ``(C, H, W)``, values in [0, 255].
        sigma: In units of the full range; IKD's severity 1 is 0.08.
        generator: The only source of randomness, on the image's device.

    Returns:
        Float, the same shape, whole numbers: an image of 8 bits, as IKD's code keeps it.
    """
    noise = torch.randn(image.shape, device=image.device, generator=generator)
    return (image.float() + 255.0 * sigma * noise).clamp(0.0, 255.0).floor()


def random_crop(image: Tensor, *, sides: tuple[float, float], generator: torch.Generator) -> Tensor:
    r"""A window of the image of random size at a random place, which strengthens low frequencies.

    .. math::
        h = \lfloor u_1 H + 1/2 \rfloor, \quad w = \lfloor u_2 W + 1/2 \rfloor, \quad u_1, u_2 \sim \mathcal U(a, b)

    Args:
        image: ``(C, H, W)``.
        sides: :math:`a, b`, the smallest and the largest height and width of the window relative to the image's, in (0, 1]. A
            window has at least one pixel.
        generator: The only source of randomness, **on the CPU**: sizes and offsets are Python numbers.

    Returns:
        ``(C, h, w)``. Height and width are drawn each for itself, as by mmdet's ``RandomCrop`` with ``relative_range``.

    Example:
        >>> random_crop(torch.zeros(3, 10, 20), sides=(0.8, 0.8), generator=torch.Generator()).shape
        torch.Size([3, 8, 16])
    """
    _, height, width = image.shape
    share_h, share_w = (sides[0] + (sides[1] - sides[0]) * torch.rand(2, generator=generator, dtype=torch.float64)).tolist()
    h, w = max(1, int(share_h * height + 0.5)), max(1, int(share_w * width + 0.5))
    top = int(torch.randint(height - h + 1, (), generator=generator))
    left = int(torch.randint(width - w + 1, (), generator=generator))
    return image[:, top : top + h, left : left + w]


def enhance(
    image: Tensor,
    ratio: float,
    *,
    theta: float,
    sigma: float,
    noise_probability: float,
    crop: tuple[float, float],
    generator: torch.Generator,
) -> Tensor:
    r"""Adaptive augmentation of one image, Eq. (4).

    .. math::
        \tilde x = \begin{cases} x + \mathcal N(0, \sigma^2) \text{ with probability } p & r(x) < \theta \\
        \mathrm{crop}(x) & \text{otherwise} \end{cases}

    Args:
        image: ``(C, H, W)``, values in [0, 255].
        ratio: :func:`area_ratio` of the image.
        theta: Below it, an image counts as dominated by small objects.
        sigma: See :func:`add_noise`.
        noise_probability: :math:`p`; otherwise the image stays as it is.
        crop: Smallest and largest side of :func:`random_crop`.
        generator: On the CPU; it decides, and seeds the noise on the image's device.

    Returns:
        The enhanced image; smaller than the original if it was cropped.

    Deviations:
        Sigma, probability and crop are lost from the paper; they are IKD's :cite:p:`ikd`, which the paper follows here. IKD adds
        its noise before the image is resized; here noise and crop change the image as the student gets it.
    """
    if ratio >= theta:  # Eq. (4)
        return random_crop(image, sides=crop, generator=generator)
    if float(torch.rand((), generator=generator)) >= noise_probability:
        return image
    seed = int(torch.randint(2**31, (), generator=generator))
    return add_noise(image, sigma=sigma, generator=torch.Generator(image.device).manual_seed(seed))


def di2_fgsm(
    images: Sequence[Tensor],
    boxes: Sequence[Tensor],
    loss: Callable[[list[Tensor], Sequence[Tensor]], Tensor],
    *,
    epsilon: float,
    step: float,
    steps: int,
    decay: float,
    resize: float,
    diversity: float,
    generator: torch.Generator,
) -> list[Tensor]:
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
        decay: Factor on the momentum in each step.
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
