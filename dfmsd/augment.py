"""Masking enhancement (ME), Eq. (4): images changed so that the teacher's masks find their objects better."""

from __future__ import annotations

import torch
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
    size = boxes[:, 2:] - boxes[:, :2]
    area = (size[:, 0] * size[:, 1])[scores >= score].sum()
    return min(1.0, float(area) / (height * width))


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
