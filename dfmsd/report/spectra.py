"""What flips, noise and crops do to the spectra of images: measured over many, and the paper's Fig. 6 drawn from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
import torch.nn.functional as F
from IPython.display import Markdown
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter
from pandas.io.formats.style import Styler
from torch import Tensor

from dfmsd.augment import add_noise, random_crop
from dfmsd.report import docstrings, explore, fourier
from dfmsd.report.dataset import PALETTE, generated
from dfmsd.report.figures import Picture
from dfmsd.report.fourier import Array
from dfmsd.report.tables import spread, styled
from dfmsd.study import claims, scales, stats
from dfmsd.study.pages import SpectraPage
from dfmsd.study.rows import Options, Row, chain
from dfmsd.study.scales import Scale
from dfmsd.study.shapes import SMALL_SIDE
from dfmsd.study.spec import RunSpec
from dfmsd.study.stats import Estimate

AS_IS, FLIP, NOISE, CROP, ENLARGED = "as it is", "flipped", "noise", "crop", "crop, enlarged"

STYLES = {AS_IS: "-", FLIP: (0, (1, 3)), NOISE: "--", CROP: "-.", ENLARGED: (0, (5, 1, 1, 1, 1, 1))}
"""Lines that are told apart without colours, too."""

BAND = 10, 90
"""Percentiles of the images between which a band lies."""

DECADES = 7
"""Of power, below the highest, that a drawn spectrum shows."""


@dataclass(frozen=True)
class Spectra:
    """What was measured on the first validation images."""

    page: SpectraPage
    border: float
    """Between low and high frequencies, in cycles per pixel."""
    size: tuple[int, int]
    """Height and width of the first image in pixels."""
    first: Mapping[str, tuple[Array, Array]]
    """Of the first image: luminance and spectrum of each version."""
    profiles: Mapping[str, Array]
    """Of each version: the radial profiles of all images, ``(N, K)``."""
    numbers: pd.DataFrame
    """A row for each image and version, with the numbers of :func:`summary`."""

    @property
    def count(self) -> int:
        """Of the images."""
        return len(self.profiles[AS_IS])

    def values(self, version: str, column: str) -> dict[int, float]:
        """One number of every image."""
        chosen = self.numbers[self.numbers["version"] == version]
        return dict(zip(chosen["image"].tolist(), chosen[column].tolist(), strict=True))

    def times(self, version: str, column: str) -> Estimate:
        """The same relative to the image as it is: the geometric mean over the images, and its interval."""
        pairs = zip(self.values(version, column).items(), self.values(AS_IS, column).values(), strict=True)
        logs = stats.estimate({index: float(np.log(value / before)) for (index, value), before in pairs})
        interval = logs.interval and (float(np.exp(logs.interval[0])), float(np.exp(logs.interval[1])))
        return Estimate({index: float(np.exp(value)) for index, value in logs.values.items()}, float(np.exp(logs.mean)), interval)

    def change(self, version: str) -> Estimate:
        """What a version does to the share of low frequencies: the mean over the images, and its interval."""
        found = stats.difference(self.values(version, "share"), self.values(AS_IS, "share"))
        assert found is not None
        return found


def border(scale: Scale, cycles: float) -> float:
    r"""The frequency between low and high at a scale of generated data.

    .. math::
        f_b = \frac{n}{32} \cdot \frac{\text{side on disk}}{\text{side at the network}}

    At a side of 32 pixels on disk COCO's small objects end. Whatever is smaller holds few waves that are longer than itself, so the
    wave of that length parts the two.

    Args:
        scale: Gives both sides.
        cycles: :math:`n`, waves on an object of that size.

    Returns:
        Cycles per pixel of the image that the networks get.

    Raises:
        StudyError: if the scale's data is not generated.

    Example:
        >>> border(scales.get("mini"), 1.0)  # images of 256 pixels, seen at 128
        0.0625
    """
    return cycles / SMALL_SIDE * generated(scale.data).size / scale.image_size[0]


def images_of(scale: Scale, count: int) -> tuple[RunSpec, range]:
    """A run whose images are the scale's own, and the indices of the first validation images, as many as there are."""
    (run,) = chain(Row(student="retinanet_r50", teachers=(), recipe="baseline"), scale, scale.seeds[0])
    return run, range(min(count, generated(scale.data).val))


def versions(image: Tensor, options: Options, generator: torch.Generator) -> dict[str, Tensor]:
    """An image, and what each augmentation makes of it.

    Args:
        image: ``(3, H, W)`` in [0, 255].
        options: Strength of the noise and size of the crop.
        generator: The only source of randomness.

    Returns:
        By name; all of the image's size but the crop. ``crop, enlarged`` is the same crop, interpolated to the image's size.

    Example:
        >>> made = versions(torch.zeros(3, 10, 20), Options(), torch.Generator())
        >>> {name: tuple(one.shape[1:]) for name, one in made.items()}
        {'as it is': (10, 20), 'flipped': (10, 20), 'noise': (10, 20), 'crop': (8, 16), 'crop, enlarged': (10, 20)}
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


def summary(spectrum: Array, border: float) -> dict[str, float]:
    r"""A spectrum in four numbers.

    .. math::
        \text{share} = \frac{\sum_{f < f_b} P}{\sum P}, \qquad \text{mean} = \frac{\sum f P}{\sum P}

    Args:
        spectrum: ``(H, W)``, see :func:`~dfmsd.report.fourier.power`.
        border: :math:`f_b` in cycles per pixel.

    Returns:
        ``low`` and ``high``: the mean density below the border and from it on. ``share``. ``mean``, in cycles per pixel.

    Example:
        >>> {name: round(float(value), 2) for name, value in summary(np.ones((64, 64)), 0.25).items()}
        {'low': 1.0, 'high': 1.0, 'share': 0.19, 'mean': 0.38}
    """
    f = fourier.frequencies(*spectrum.shape)
    below, total = (f > 0) & (f < border), spectrum[f > 0].sum()
    return {
        "low": spectrum[below].mean(),
        "high": spectrum[f >= border].mean(),
        "share": spectrum[below].sum() / total,
        "mean": (f * spectrum).sum() / total,
    }


def measure(page: SpectraPage) -> Spectra:
    """Take the spectra of every version of the page's images.

    Raises:
        StudyError: if the scale's data is not generated, or there is no such window.
    """
    scale = scales.get(page.scale)
    run, indices = images_of(scale, page.images)
    limit = border(scale, page.cycles)
    generator = torch.Generator().manual_seed(explore.SEED)
    profiles: dict[str, list[Array]] = {}
    first: dict[str, tuple[Array, Array]] = {}
    rows = []
    for index, shown in zip(indices, explore.pictures(run, indices), strict=True):
        for name, changed in versions(shown.image, page.options, generator).items():
            luminance = fourier.luminance(changed)
            spectrum = fourier.power(luminance, fourier.taper(page.window, *luminance.shape))
            first.setdefault(name, (luminance, spectrum))
            profiles.setdefault(name, []).append(fourier.radial(spectrum, page.rings))
            rows.append({"image": index, "version": name} | summary(spectrum, limit))
    height, width = first[AS_IS][0].shape
    stacked = {name: np.stack(found) for name, found in profiles.items()}
    return Spectra(page, limit, (height, width), first, stacked, pd.DataFrame(rows))


def gallery(found: Spectra) -> Picture:
    """The first image in all versions, each beside its spectrum; all spectra on one scale."""
    figure, axes = plt.subplots(len(found.first), 2, figsize=(4.2, 1.75 * len(found.first) + 0.8), layout="constrained")
    plt.close(figure)
    high = np.log10(max(spectrum.max() for _, spectrum in found.first.values()))
    for (left, right), (name, (luminance, spectrum)) in zip(axes, found.first.items(), strict=True):
        left.imshow(luminance, cmap="gray", vmin=0, vmax=1, interpolation="none")
        # On one scale: a crop is smaller than its image.
        left.set(xticks=[], yticks=[], title=name, xlim=(-0.5, found.size[1] - 0.5), ylim=(found.size[0] - 0.5, -0.5))
        left.set_frame_on(False)
        centred = np.fft.fftshift(np.log10(np.maximum(spectrum, 10.0 ** (high - DECADES))))
        reach = (-fourier.NYQUIST, fourier.NYQUIST) * 2
        shades = right.imshow(centred, extent=reach, cmap="viridis", vmin=high - DECADES, vmax=high, interpolation="none")
        for along in (right.xaxis, right.yaxis):
            along.set_ticks((-fourier.NYQUIST, 0, fourier.NYQUIST), (f"−{fourier.NYQUIST}", "0", f"{fourier.NYQUIST}"), fontsize=8)
            along.set_label_text("cycles per pixel", fontsize=8)
    label = "power density, log₁₀ of range² pixel²"
    figure.colorbar(shades, ax=axes, location="bottom", shrink=0.8, aspect=30, label=label)
    numbers = found.numbers[found.numbers["image"] == found.numbers["image"].min()].set_index("version")
    words = ", ".join(f"{name} {numbers.loc[name, 'share']:.1%}" for name in found.first)
    return Picture.of(
        figure,
        "The brightness of one image as it is, flipped, with noise, cropped, and cropped and enlarged, each beside its power "
        "spectrum: a bright centre that falls off to all sides, mirrored by the flip, lifted far from the centre by the noise. "
        f"Share of the power below {found.border:g} cycles per pixel: {words}.",
    )


def profile(found: Spectra) -> Picture:
    """The radial profile of each version over all images, and what remains of it relative to the images as they are."""
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(5.2, 6.6), sharex=True, layout="constrained")
    plt.close(figure)
    colours = dict(zip(found.profiles, sns.color_palette(PALETTE), strict=False))
    for name, lines in found.profiles.items():
        _line(upper, lines, colours[name], name, band=name == AS_IS)
        if name != AS_IS:
            _line(lower, lines / found.profiles[AS_IS], colours[name], name, band=True)
    upper.set(ylabel="power density of the brightness, range² pixel²", yscale="log", xscale="log")
    lower.set(ylabel="× that of the image as it is", xlabel="frequency in cycles per pixel", yscale="log")
    lower.axhline(1.0, color="black", linewidth=0.8, zorder=0)
    ticks = [tick for tick in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if tick >= fourier.centres(found.page.rings)[0]]
    lower.set_xticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    lower.xaxis.set_minor_formatter(NullFormatter())
    lower.yaxis.set_major_formatter("{x:g}")
    for axis in (upper, lower):
        axis.axvline(found.border, color="#777777", linewidth=0.8, linestyle=":")
    for text, side, offset in (("low", "right", -5), ("high", "left", 5)):
        place = (found.border, 0.97)
        upper.annotate(text, place, (offset, 0), upper.get_xaxis_transform(), "offset points", ha=side, va="top", color="#555555")
    upper.legend(frameon=False, loc="lower left", handlelength=4)
    sns.despine(figure)
    words = "; ".join(
        f"{name}: × {found.times(name, 'low').mean:.2f} below and × {found.times(name, 'high').mean:.2f} above"
        for name in found.profiles
        if name != AS_IS
    )
    return Picture.of(
        figure,
        f"Two line charts over the frequency: the power of {found.count} images in each version, which falls with the frequency, "
        f"and its ratio to the images as they are. Mean ratios below and above {found.border:g} cycles per pixel: {words}.",
    )


def _line(axis: Axes, lines: Array, colour: tuple[float, float, float], name: str, *, band: bool) -> None:
    there = ~np.isnan(lines).all(axis=0)
    places = fourier.centres(lines.shape[1])[there]
    low, middle, high = np.percentile(lines[:, there], (BAND[0], 50, BAND[1]), axis=0)
    if band:
        axis.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)
    # A flip lies upon what it does not change.
    axis.plot(places, middle, color=colour, linestyle=STYLES[name], linewidth=2, label=name, zorder=4 if name == FLIP else 3)


def table(found: Spectra) -> Styler:
    """What each version does, as means over the images with their intervals."""
    rows = []
    for name in found.profiles:
        share = stats.estimate(found.values(name, "share"))
        rows.append(
            {
                "": name,
                "share of low frequencies, %": _estimate(share, 100.0, ".1f"),
                "power of low frequencies, ×": "1" if name == AS_IS else _estimate(found.times(name, "low"), 1.0, ".2f"),
                "power of high frequencies, ×": "1" if name == AS_IS else _estimate(found.times(name, "high"), 1.0, ".2f"),
                "mean frequency, cycles per pixel": _estimate(stats.estimate(found.values(name, "mean")), 1.0, ".4f"),
            }
        )
    caption = (
        f"Means over {found.count} images with 95 % bootstrap intervals over the images; × is relative to the same image as it is "
        f"(geometric mean). Low: below {found.border:g} cycles per pixel. Scale {found.page.scale}."
    )
    return styled(pd.DataFrame(rows), "spectra", caption).hide(axis="index")


def _estimate(found: Estimate, factor: float, form: str) -> str:
    return f"{factor * found.mean:{form}}" + spread(found.interval, lambda value: f"{factor * value:{form}}")


def setting(found: Spectra) -> Markdown:
    """What was measured, in words."""
    page, (height, width) = found.page, found.size
    step = {
        "hann": "tapered by Hann's window, without which the step from one border to the other would draw a bright cross",
        "none": "without a window, so that the steps between opposite borders draw a cross",
    }[page.window]
    return Markdown(
        f"The first **{found.count} validation images** of the scale **{page.scale}**, {width} × {height} pixels as the networks "
        f"get them; their brightness, {step}. Noise has σ = {page.options.sigma:g} of the pixel range, a crop keeps "
        f"{page.options.crop[0]:g} of each side, the least that training does. Low frequencies are those below "
        f"**{found.border:.4g} cycles per pixel**, waves longer than {1 / found.border:.3g} pixels: of this "
        f"wave an object at COCO's limit of small ones holds {page.cycles:g}."
    )


def findings(found: Spectra) -> Markdown:
    """What each augmentation does, against what the paper says, in computed sentences."""
    crop = f"{_crop(found, CROP, 'as the networks get it', 'f6-crop')} It holds no wave that is longer than itself."
    enlarged = (
        f"{_crop(found, ENLARGED, 'enlarged to the size of its image', 'f6-crop-enlarged')} Enlarging makes each wave longer by "
        f"1 / {found.page.options.crop[0]:g}, and interpolation makes no short ones anew."
    )
    return Markdown("\n".join([_flip(found), _noise(found), crop, enlarged]))


def _flip(found: Spectra) -> str:
    before, after = found.profiles[AS_IS], found.profiles[FLIP]
    worst = float(np.nanmax(np.abs(after / before - 1)))
    claim = claims.of_figure("f6-flip")
    same = claim.reaches(worst)
    effect = "mirrors the spectrum and moves no power between frequencies" if same else "moves power between frequencies"
    largest = f"the largest relative change is {worst:.0e}{', which is rounding' * same}"
    verdict = "**As the paper says**" if same else "**Not as the paper says**"
    return f"- **A flip** {effect}: over all rings of all images {largest}. The paper: *{claim.text}.* {verdict}."


def _noise(found: Spectra) -> str:
    absolute = stats.verdict(_logs(found.times(NOISE, "low")))
    effect = {
        "lower": "falls in absolute terms, too: values are clipped at the ends of the range, which costs contrast",
        "higher": "rises in absolute terms: white noise adds the same to all frequencies",
        "undecided": "does not measurably change in absolute terms: white noise shows where there was least",
        "no test": "is measured on too few images to tell more",
    }[absolute]
    judged = _judged(stats.verdict(found.change(NOISE)), "lower")
    claim = claims.of_figure("f6-noise")
    return f"- **Noise** {_moves(found, NOISE)}. The paper: *{claim.text}.* {judged} of their *share*; their power {effect}."


def _crop(found: Spectra, name: str, how: str, claim: str) -> str:
    ask = stats.verdict(found.change(name))
    said = claims.of_figure(claim).text
    return f"- **A crop**, {how}, {_moves(found, name)}. The paper: *{said}.* {_judged(ask, 'higher')}."


def _moves(found: Spectra, name: str) -> str:
    low, high = found.times(name, "low"), found.times(name, "high")
    before, after = (stats.estimate(found.values(version, "share")).mean for version in (AS_IS, name))
    return (
        f"multiplies the power of low frequencies by {low.mean:.3f}{_between(low)} and that of high ones by "
        f"{high.mean:.2f}{_between(high, 2)}; the share of low ones goes from {before:.1%} to {after:.1%}"
    )


def _between(found: Estimate, decimals: int = 3) -> str:
    return f" ({found.interval[0]:.{decimals}f} to {found.interval[1]:.{decimals}f})" if found.interval else ""


def _logs(found: Estimate) -> Estimate:
    interval = found.interval and (float(np.log(found.interval[0])), float(np.log(found.interval[1])))
    return Estimate(found.values, float(np.log(found.mean)), interval)


def _judged(verdict: stats.Verdict, claimed: stats.Verdict) -> str:
    if verdict in ("undecided", "no test"):
        return "**Undecided** here" if verdict == "undecided" else "**Too few images** to tell"
    return "**As the paper says**" if verdict == claimed else "**Not as the paper says**"


def equations() -> Markdown:
    """How a spectrum is taken: the docstrings of the code that takes it."""
    parts = (fourier.luminance, fourier.taper, fourier.power, fourier.radial, border)
    return Markdown("\n\n".join(f"**`{part.__name__}`.** {docstrings.read(part).text}" for part in parts))
