"""Spatial frequencies of an image: its power spectrum, the spectrum's radial profile, and a split into low and high frequencies.

Frequencies are in cycles per pixel: 0.5 is the highest that pixels can hold along an axis, and a wave of frequency f is 1/f pixels
long.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn, idctn
from torch import Tensor

from dfmsd.errors import StudyError, suggest

Array = NDArray[np.float64]

NYQUIST = 0.5
"""The highest frequency along an axis, in cycles per pixel; beyond it lie the corners of a spectrum only."""

LUMA = (0.114, 0.587, 0.299)
"""ITU-R BT.601's weights of blue, green and red."""


def luminance(image: Tensor) -> Array:
    r"""How bright the pixels are.

    .. math::
        Y = (0.299 R + 0.587 G + 0.114 B) / 255

    Args:
        image: ``(3, H, W)``, blue, green, red in [0, 255].

    Returns:
        ``(H, W)``, in units of the full range.

    Example:
        >>> import torch
        >>> luminance(torch.full((3, 1, 2), 255.0)).tolist()
        [[1.0, 1.0]]
    """
    return np.tensordot(np.array(LUMA) / 255.0, image.double().numpy(), axes=1)


def taper(name: str, height: int, width: int) -> Array:
    r"""What an image is multiplied by before its spectrum is taken.

    .. math::
        w_{yx} = \sin^2\!\Big(\frac{\pi y}{H - 1}\Big) \sin^2\!\Big(\frac{\pi x}{W - 1}\Big) \quad \text{(hann)},
        \qquad w_{yx} = 1 \quad \text{(none)}

    A discrete Fourier transform takes an image for a tile of an endless pattern. Where its right border meets its left there is a
    step, and a step has power at all frequencies, falling as :math:`1/f^2`: a bright cross that no object made. Hann's window
    brings the borders to zero. It is symmetric: an image and its mirror image are treated alike.

    Args:
        name: ``hann`` or ``none``.
        height: In pixels.
        width: In pixels.

    Returns:
        ``(H, W)``.

    Raises:
        StudyError: if there is no such window.

    Example:
        >>> taper("hann", 3, 3).tolist()
        [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    """
    shapes: dict[str, Callable[[int], Any]] = {"hann": np.hanning, "none": np.ones}
    if name not in shapes:
        raise StudyError(f"unknown window {name!r}: {suggest(name, shapes)}")
    weights: Array = np.outer(shapes[name](height), shapes[name](width))
    return weights


def power(values: Array, weights: Array) -> Array:
    r"""The power spectrum, as a density.

    .. math::
        P_{uv} = \frac{1}{\sum_{yx} w_{yx}^2} \Big| \sum_{yx} w_{yx} (Y_{yx} - \mu)\, e^{-2 \pi i (u y / H + v x / W)} \Big|^2,
        \qquad \mu = \frac{\sum w Y}{\sum w}

    The mean is taken off: it has no frequency, and a window would spread its power over the lowest ones. By Parseval's theorem the
    mean of :math:`P` is the weighted variance :math:`\sum w^2 (Y - \mu)^2 / \sum w^2`, whatever the size, so images of unlike size
    can be compared. White noise of variance :math:`\sigma^2` has :math:`P = \sigma^2` everywhere.

    Args:
        values: ``(H, W)``.
        weights: The window, ``(H, W)``, see :func:`taper`.

    Returns:
        ``(H, W)``, in the order of :func:`numpy.fft.fft2`: frequency 0, which has no power, comes first.

    Example:
        >>> wave = np.tile([1.0, -1.0], (2, 2))  # two pixels long: 0.5 cycles per pixel
        >>> power(wave, np.ones((2, 4))).round().tolist()
        [[0.0, 0.0, 8.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    """
    mean = (weights * values).sum() / weights.sum()
    spectrum: Array = np.abs(np.fft.fft2(weights * (values - mean))) ** 2 / (weights**2).sum()
    return spectrum


def frequencies(height: int, width: int) -> Array:
    r"""The frequency of each coefficient of :func:`power`.

    .. math::
        f_{uv} = \sqrt{(u / H)^2 + (v / W)^2}, \qquad |u| \le H / 2,\ |v| \le W / 2

    Args:
        height: In pixels.
        width: In pixels.

    Returns:
        ``(H, W)``, in cycles per pixel.

    Example:
        >>> frequencies(1, 4).tolist()
        [[0.0, 0.25, 0.5, 0.25]]
    """
    found: Array = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    return found


def radial(spectrum: Array, rings: int) -> Array:
    r"""The mean of a spectrum over each of its rings.

    .. math::
        p_k = \mathrm{mean} \{ P_{uv} : k \le 2 K f_{uv} < k + 1,\ f_{uv} > 0 \}, \qquad k = 0, \dots, K - 1

    Args:
        spectrum: ``(H, W)``, see :func:`power`.
        rings: :math:`K`, of equal width up to :data:`NYQUIST`; the corners beyond are left out.

    Returns:
        ``(K,)``; not a number where an image is too small for a ring to have a coefficient.

    Raises:
        StudyError: if there is no ring.

    Example:
        >>> radial(frequencies(64, 64), 2).round(1).tolist()
        [0.2, 0.4]
    """
    if rings < 1:
        raise StudyError(f"rings = {rings}: at least 1 is needed")
    place = (frequencies(*spectrum.shape) * rings / NYQUIST).astype(int).ravel()
    place[0] = rings  # frequency 0 has no direction
    inside = place < rings
    sums = np.bincount(place[inside], spectrum.ravel()[inside], minlength=rings)
    counts = np.bincount(place[inside], minlength=rings)
    means: Array = np.divide(sums, counts, out=np.full(rings, np.nan), where=counts > 0)
    return means


def centres(rings: int) -> Array:
    """The middle of each ring of :func:`radial` in cycles per pixel, ``(K,)``."""
    return (np.arange(rings) + 0.5) * NYQUIST / rings


def split(values: Array, border: float) -> tuple[Array, Array]:
    r"""An image as the sum of its low and its high frequencies.

    .. math::
        Y = Y_{low} + Y_{high}, \qquad \hat Y_{low} = 2^{-(f / f_b)^2}\, \hat Y

    A Gaussian passes half of the amplitude at the border and makes no ripples beside an edge, as a sharp limit would. The transform
    is that of the image mirrored at its borders (a cosine transform), so that opposite borders do not leak into each other.

    Args:
        values: ``(..., H, W)``.
        border: :math:`f_b` in cycles per pixel.

    Returns:
        Low and high, each of the same shape. The mean belongs to the low frequencies.

    Raises:
        StudyError: if the border is not positive.

    Example:
        >>> low, high = split(np.full((4, 4), 7.0), 0.1)
        >>> low.round(6).max(), np.abs(high).round(6).max()
        (np.float64(7.0), np.float64(0.0))
    """
    if border <= 0:
        raise StudyError(f"border = {border}: take more than 0 cycles per pixel, such as 0.0625")
    height, width = values.shape[-2:]
    # The k-th cosine has k half waves.
    f = np.hypot(np.arange(height)[:, None] / (2 * height), np.arange(width)[None] / (2 * width))
    low: Array = idctn(dctn(values, axes=(-2, -1)) * 2.0 ** -((f / border) ** 2), axes=(-2, -1))
    return low, values - low
