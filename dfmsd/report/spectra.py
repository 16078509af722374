"""The paper's Fig. 6: what flips, noise and crops do to the spectra of images.

Frequencies are in cycles per pixel: 0.5 is the highest that pixels can hold along an axis, and a wave of frequency f is 1/f pixels
long.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.signal import windows
from scipy.stats import binned_statistic
from torch import Tensor

from dfmsd.augment import add_noise, random_crop
from dfmsd.report.images import SEED, border, first, jpeg
from dfmsd.study import scales
from dfmsd.study.pages.measured import SpectraPage
from dfmsd.study.rows import Options

Array = NDArray[np.float64]

NYQUIST = 0.5
"""The highest frequency along an axis, in cycles per pixel; beyond it lie the corners of a spectrum only."""

AS_IS, FLIP, NOISE, CROP, ENLARGED = "as it is", "flipped", "noise", "crop", "crop, enlarged"

BAND = (10, 50, 90)
"""Percentiles of the images: a band and its middle."""

DECADES = 7
"""Of power, below the highest, that the picture of a spectrum shows."""


def versions(image: Tensor, options: Options, generator: torch.Generator) -> dict[str, Tensor]:
    """An image ``(3, H, W)`` in [0, 255], and what each augmentation makes of it, by name.

    All have the image's size but the crop; ``crop, enlarged`` is the same crop, interpolated to the image's size.
    """
    image = image.float()
    least, _ = options.crop
    crop = random_crop(image, sides=(least, least), generator=generator)
    return {
        AS_IS: image,
        FLIP: image.flip(2),
        NOISE: add_noise(image, sigma=options.sigma, generator=generator),
        CROP: crop,
        ENLARGED: F.interpolate(crop[None], size=image.shape[1:], mode="bilinear", align_corners=False)[0],
    }


def luminance(image: Tensor) -> Array:
    """How bright the pixels are: ``(3, H, W)``, blue, green, red in [0, 255] -> ``(H, W)`` in [0, 1], by ITU-R BT.601's weights."""
    pixels = image.float().permute(1, 2, 0).contiguous().numpy()
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY).astype(np.float64) / 255.0


def power(values: Array, window: str) -> Array:
    r"""The power spectrum of ``(H, W)`` as a density, in the order of :func:`numpy.fft.fft2`.

    .. math::
        P_{uv} = \frac{1}{\sum_{yx} w_{yx}^2} \Big| \sum_{yx} w_{yx} (Y_{yx} - \mu)\, e^{-2 \pi i (u y / H + v x / W)} \Big|^2,
        \qquad \mu = \frac{\sum w Y}{\sum w}

    A discrete Fourier transform takes an image for a tile of an endless pattern. Where its right border meets its left there is a
    step, and a step has power at all frequencies: a bright cross that no object made. Hann's window brings the borders to zero. The
    mean is taken off: it has no frequency, and a window would spread its power over the lowest ones. By Parseval's theorem the
    mean of :math:`P` is the weighted variance :math:`\sum w^2 (Y - \mu)^2 / \sum w^2`, whatever the size, so images of unlike size
    can be compared. White noise of variance :math:`\sigma^2` has :math:`P = \sigma^2` everywhere.
    """
    shape = {"hann": windows.hann, "none": windows.boxcar}[window]
    weights = np.outer(*(shape(side) for side in values.shape))
    mean = (weights * values).sum() / weights.sum()
    spectrum: Array = np.abs(np.fft.fft2(weights * (values - mean))) ** 2 / (weights**2).sum()
    return spectrum


def frequencies(height: int, width: int) -> Array:
    """The frequency of each coefficient of :func:`power`, ``(H, W)`` in cycles per pixel."""
    found: Array = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    return found


def radial(spectrum: Array, rings: int) -> Array:
    r"""The mean of a spectrum over each of its rings, :math:`k \le 2 K f_{uv} < k + 1` without frequency 0.

    The :math:`K` rings are of equal width up to :data:`NYQUIST`; the corners beyond are left out. Not a number where an image is
    too small for a ring to have a coefficient.
    """
    f = frequencies(*spectrum.shape)
    inside = (f > 0) & (f < NYQUIST)
    means: Array = binned_statistic(f[inside], spectrum[inside], "mean", rings, (0.0, NYQUIST)).statistic
    return means


def summary(spectrum: Array, limit: float) -> dict[str, float]:
    r"""A spectrum in four numbers, parted at ``limit``, :math:`f_b` in cycles per pixel.

    Returns:
        ``low`` and ``high``: the mean density below the border and from it on. ``share``, :math:`100 \sum_{f < f_b} P / \sum P`, in
        percent; ``mean``, :math:`\sum f P / \sum P`, in cycles per pixel.
    """
    f = frequencies(*spectrum.shape)
    below, total = (f > 0) & (f < limit), spectrum[f > 0].sum()
    return {
        "low": spectrum[below].mean(),
        "high": spectrum[f >= limit].mean(),
        "share": 100 * spectrum[below].sum() / total,
        "mean": (f * spectrum).sum() / total,
    }


def shares(frame: pd.DataFrame) -> str:
    """What each version makes of the share of low frequencies, as Markdown.

    Example:
        >>> lines = [(AS_IS, 69.44), (FLIP, 69.44), (CROP, 67.15), (ENLARGED, 76.79)]
        >>> print(shares(pd.DataFrame(lines, columns=["row", "value"]).assign(metric="share", image=0)))
        The low frequencies of an unchanged image have 69.4 % of its power. Those of its changed versions have:
        <BLANKLINE>
        - flipped: 69.4 %, as much.
        - crop: 67.2 %, which is less.
        - crop, enlarged: 76.8 %, which is more.
    """
    means = frame[(frame["metric"] == "share") & frame["image"].notna()].groupby("row", sort=False)["value"].mean().round(1)
    said = f"The low frequencies of an unchanged image have {means[AS_IS]:.1f} % of its power. Those of its changed versions have:"
    lines = [said, ""]
    for name, share in means.drop(AS_IS).items():
        than = "as much" if share == means[AS_IS] else f"which is {'more' if share > means[AS_IS] else 'less'}"
        lines.append(f"- {name}: {share:.1f} %, {than}.")
    return "\n".join(lines)


def measure(page: SpectraPage) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Take the spectra of every version of the page's images.

    Returns:
        A frame with the version as ``row`` and these metrics, a line an image: ``share`` and ``mean`` as :func:`summary` has them;
        ``low`` and ``high``, by how many decibels the power below and above the border departs from that of the image as it is;
        ``change``, the largest relative change of a ring's power. Over all images, by ``frequency``: ``power``, the radial profile,
        and ``ratio``, the profile relative to the image as it is, each a median between two percentiles. The pictures are the
        first image in all versions with its spectra.

    Raises:
        StudyError: if the scale's data is not generated.
    """
    scale = scales.get(page.scale)
    limit = border(scale, page.cycles)
    generator = torch.Generator().manual_seed(SEED)
    lines: list[dict[str, Any]] = []
    profiles: dict[str, list[Array]] = {}
    shown: dict[str, tuple[Array, Array]] = {}
    for picture in first(scale, page.images):
        before: dict[str, float] = {}
        for name, changed in versions(picture.image, page.options, generator).items():
            bright = luminance(changed)
            spectrum = power(bright, page.window)
            shown.setdefault(name, (bright, spectrum))
            profiles.setdefault(name, []).append(radial(spectrum, page.rings))
            found = summary(spectrum, limit)
            before = before or found
            numbers = {"share": found["share"], "mean": found["mean"]}
            if name != AS_IS:
                numbers |= {side: 10 * np.log10(found[side] / before[side]) for side in ("low", "high")}
                numbers["change"] = np.nanmax(np.abs(profiles[name][-1] / profiles[AS_IS][-1] - 1))
            lines += [{"row": name, "image": picture.id, "metric": metric, "value": value} for metric, value in numbers.items()]
    centres = (np.arange(page.rings) + 0.5) * NYQUIST / page.rings
    stacked = {name: np.stack(found) for name, found in profiles.items()}
    for name, own in stacked.items():
        for metric, curves in (("power", own), ("ratio", own / stacked[AS_IS])):
            there = ~np.isnan(curves).all(axis=0)
            bands = np.nanpercentile(curves[:, there], BAND, axis=0).T
            lines += [
                {"row": name, "frequency": frequency, "metric": metric, "value": value, "low": low, "high": high}
                for frequency, (low, value, high) in zip(centres[there], bands, strict=True)
            ]
    return pd.DataFrame(lines).astype({"image": "Int64"}), {"border": limit, **_kept(shown)}


def _kept(shown: dict[str, tuple[Array, Array]]) -> dict[str, Any]:
    """Brightness and spectra as JPEGs: grey goes over as many decades of power as are shown, up to the highest."""
    top = np.log10(max(spectrum.max() for _, spectrum in shown.values()))
    kept = {}
    for name, (bright, spectrum) in shown.items():
        decades = np.fft.fftshift(np.log10(np.maximum(spectrum, 10.0 ** (top - DECADES)))) - (top - DECADES)
        grey = {"image": 255 * bright, "spectrum": 255 * decades / DECADES}
        kept[name] = {part: jpeg(torch.from_numpy(pixels)[None]) for part, pixels in grey.items()}
    return {"versions": kept, "decades": [top - DECADES, top]}
