"""The paper's Figs. 5 and 7: what a teacher attends to in low and high frequencies, and in noisy and cropped images."""

from __future__ import annotations

from statistics import fmean

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from IPython.display import Markdown
from pandas.io.formats.style import Styler
from torch import Tensor

from dfmsd import augment
from dfmsd.report import docstrings, fourier
from dfmsd.report import enhancement as attending
from dfmsd.report.answers import CONTRASTS, change
from dfmsd.report.canvas import covered, displayed, draw_image, draw_map, grid
from dfmsd.report.dataset import PALETTE
from dfmsd.report.enhancement import CROP, HIGH, IMAGE, LOW, MASKING, NOISE, Attended, Seen
from dfmsd.report.figures import Picture
from dfmsd.report.tables import NONE, spread, styled
from dfmsd.study import claims, stats
from dfmsd.study.pages import EnhancementPage
from dfmsd.study.stats import Estimate

VERDICTS = {
    "higher": ("holds", "**As the paper says**"),
    "lower": ("fails", "**Not as the paper says**: it is the other way round"),
    "undecided": ("undecided", "**Undecided**: the interval of the difference holds 0"),
    "no test": ("too few images", "**Too few images** to tell"),
    "young": ("not judged", "**Not judged**: the teacher has hardly begun to learn"),
}
"""In a table, and in a sentence."""

COLUMNS = ("attention", "hidden")

MARKERS, DASHES = "osD^", ("-", "--", "-.", ":")
"""Lines are told apart without colours, too."""

Line = tuple[tuple[str, ...], dict[str, list[Estimate]]]
"""The versions along a line of the chart, and for ``attention`` and ``hidden`` an estimate at each."""


def look(found: Attended, seen: Seen) -> Picture:
    """The versions of an image, the teacher's attention to each, and what dual masking hides of it."""
    stride = found.page.stride
    images = [version.image for version in seen.versions.values()]
    levels = attending.feature(found.watcher.detector, images, stride)
    figure, axes = grid(len(images), 3, widths=(1, 1.25, 1))
    words = []
    for line, (name, version), feat in zip(axes, seen.versions.items(), levels, strict=True):
        heat, hidden = attending.attention(feat)
        pixels = version.image.clamp(0, 255)
        draw_image(line[0], displayed(pixels), boxes=_framed(found, seen) if name == IMAGE else None)
        line[0].set_ylabel(name)
        figure.colorbar(draw_map(line[1], heat.numpy()), ax=line[1], label="1 = mean", shrink=0.8)
        draw_image(line[2], covered(pixels, hidden, stride))
        on = attending.on_objects(feat, version.boxes, version.window, stride)
        seen_on = "no object in it" if on is None else f"{on[0]:.2f} times the mean on objects, {on[1]:.0%} of their cells hidden"
        words.append(f"{name}: {seen_on}")
    for axis, title in zip(axes[0], ("image", f"attention, stride {stride}", "dark: hidden"), strict=True):
        axis.set_title(title)
    return Picture.of(
        figure,
        f"An image that {'small' if seen.below else 'large'} objects dominate. Each of its versions, the teacher's attention to it "
        f"as a heat map, and the cells that dual masking hides. {'; '.join(words)}.",
    )


def _framed(found: Attended, seen: Seen) -> Tensor:
    return seen.found if found.page.view == "augmentation" else seen.shown.boxes


def caption(found: Attended, seen: Seen) -> Markdown:
    """Which image it is and why, in words."""
    theta = found.page.options.theta
    relation = "less than" if seen.below else "not less than"
    whose = "the weaker teacher's boxes" if found.judge == "teacher" else "the annotated boxes"
    frames = whose if found.page.view == "augmentation" else "the annotated boxes"
    change = f"so Eq. (4) {'adds noise' if seen.below else 'crops it'}" if found.page.view == "augmentation" else ""
    return Markdown(
        f"Validation image {seen.index}, the first one of its kind: {whose} cover {seen.ratio:.0%} of it, {relation} "
        f"θ = {theta:.0%}{', ' * bool(change)}{change}. White frames: {frames}."
    )


def chart(found: Attended) -> Picture:
    """Attention on objects, and how much of them is hidden, over all images: means with intervals."""
    figure, axes = plt.subplots(2, 1, figsize=(5.2, 5.6), sharex=True, layout="constrained")
    plt.close(figure)
    lines = _lines(found)
    for number, (label, (names, estimates)) in enumerate(lines.items()):
        colour, shift = sns.color_palette(PALETTE)[number], 0.06 * (number - (len(lines) - 1) / 2)
        places = [place + shift for place in range(len(names))]
        for axis, column in zip(axes, COLUMNS, strict=True):
            for place, one in zip(places, estimates[column], strict=True):
                axis.vlines(place, *(one.interval or (one.mean, one.mean)), color=colour, linewidth=1.5, alpha=0.7)
            means = [one.mean for one in estimates[column]]
            axis.plot(places, means, label=label, color=colour, marker=MARKERS[number], linestyle=DASHES[number])
    ticks = [LOW, IMAGE, HIGH] if found.page.view == "frequencies" else [IMAGE, "changed"]
    titles = {"attention on objects\n1 = mean of the image": 1.0, "share of their cells hidden": MASKING["spatial_ratio"]}
    for axis, (title, neutral) in zip(axes, titles.items(), strict=True):
        axis.set_xticks(range(len(ticks)), labels=[tick.replace(" frequencies", "\nfrequencies") for tick in ticks])
        axis.margins(x=0.15)
        axis.set(ylabel=title)
        axis.axhline(neutral, color="black", linewidth=0.8, linestyle=":", zorder=0)
    axes[1].set_xlabel("version of the image")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    sns.despine(figure)
    words = "; ".join(
        f"{label}: " + ", ".join(f"{name} {one.mean:.2f}" for name, one in zip(names, estimates["attention"], strict=True))
        for label, (names, estimates) in lines.items()
    )
    return Picture.of(
        figure,
        f"Two line charts over the versions of the first {found.count} validation images: mean attention on objects, where 1 is "
        f"the image's mean, and the share of their cells that is hidden. Mean attention, {words}.",
    )


def _lines(found: Attended) -> dict[str, Line]:
    """The versions along each line of the chart, and the estimates there; lines without an image are left out."""
    wanted: dict[str, tuple[str, bool | None, tuple[str, ...]]]
    if found.page.view == "frequencies":
        wanted = {f"{size} objects": (size, None, (LOW, IMAGE, HIGH)) for size in attending.SIZES}
    else:
        wanted = {
            f"{size} objects, {change}": (size, below, (IMAGE, change))
            for below, change in ((True, NOISE), (False, CROP))
            for size in attending.SIZES
        }
    lines: dict[str, Line] = {}
    for label, (size, below, names) in wanted.items():
        numbers = {column: [found.values(name, size, column, below=below) for name in names] for column in COLUMNS}
        if all(numbers["attention"]):
            lines[label] = names, {column: [stats.estimate(one) for one in values] for column, values in numbers.items()}
    return lines


def table(found: Attended) -> Styler:
    """The paper's claims with the difference in attention behind each, and the verdict."""
    rows = []
    for claim, contrast in CONTRASTS[found.page.view].items():
        attended, hidden = (change(found, contrast, column) for column in COLUMNS)
        rows.append(
            {
                "the paper says": f'<span class="words">{claims.of_figure(claim).text}</span>',
                "images": "0" if attended is None else str(len(attended.values)),
                "attention, difference": NONE if attended is None else _signed(attended, 1.0, 2),
                "hidden, difference in points": NONE if hidden is None else _signed(hidden, 100.0, 1),
                "here": VERDICTS[_verdict(found, attended)][0],
            }
        )
    text = (
        "Paired differences, image by image, with 95 % bootstrap intervals over the images that have such objects. Attention is in "
        "units of the image's mean. Small and large are COCO's classes, by the area of the box on disk. "
        f"Scale {found.page.scale}."
    )
    if found.page.view == "augmentation":
        text += " Before a crop only the part of the image that it shows is measured, so that objects fill as much of both."
    return styled(pd.DataFrame(rows), "attended", text).hide(axis="index")


def _verdict(found: Attended, changed: Estimate | None) -> str:
    return stats.verdict(changed) if found.watcher.grown else "young"


def _signed(found: Estimate, factor: float, decimals: int) -> str:
    def show(value: float) -> str:
        return f"{factor * value:+.{decimals}f}".replace("-", "−")

    return show(found.mean) + spread(found.interval, show)


def findings(found: Attended) -> Markdown:
    """What there is to see, in computed sentences."""
    return Markdown("\n".join([*_differences(found), *([_overlooked(found)] if found.page.view == "frequencies" else [])]))


def _differences(found: Attended) -> list[str]:
    lines = []
    for claim, contrast in CONTRASTS[found.page.view].items():
        says = f"- The paper: *{claims.of_figure(claim).text}.*"
        changed = change(found, contrast, "attention")
        if changed is None:
            lines.append(f"{says} **No image** here has such objects.")
            continue
        both = (found.values(name, contrast.size, "attention", below=contrast.below) for name in (contrast.rival, contrast.version))
        before, after = (fmean(values[index] for index in changed.values) for values in both)
        _, verdict = VERDICTS[_verdict(found, changed)]
        lines.append(
            f"{says} Here {contrast.size} objects get {before:.2f} times the mean attention {_where(contrast.rival)} "
            f"and {after:.2f} times {_where(contrast.version)}. {verdict}.{_recorded(found, claim)}"
        )
    return lines


def _recorded(found: Attended, claim: str) -> str:
    """What the record says where the teacher here is too young."""
    judged = claims.look(claims.of_figure(claim), found.page.scale)
    if found.watcher.grown or judged.verdict == "not run":
        return ""
    return f" The record, of the study's teacher: *{judged.words}*, {judged.numbers}."


def _where(version: str) -> str:
    return {IMAGE: "in the image as it is", NOISE: "with noise", CROP: "after the crop"}.get(version, f"in its {version}")


def _overlooked(found: Attended) -> str:
    """How many small objects the weaker teacher overlooks in high frequencies."""
    parts = []
    for name in (IMAGE, HIGH):
        values = found.values(name, "small", "attention")
        if values:
            parts.append(f"{sum(value < 1 for value in values.values()) / len(values):.0%} {_where(name)}")
    if not parts:
        return "- **No image** here has small objects."
    return (
        "- The paper: the weaker teacher generates a low attention score in some high-frequency regions of smaller objects. Share "
        f"of the images whose small objects get less than the mean attention: {' and '.join(parts)}."
    )


def setting(found: Attended) -> Markdown:
    """Whose eyes, which images, which split, in words."""
    page = found.page
    weak = f"Weaker teacher: {found.weak.words}."
    strong = "" if found.watcher is found.weak else f" Stronger teacher, whose attention is shown: {found.watcher.words}."
    judge = {
        "teacher": f"The weaker teacher's boxes of a score from {page.options.score:g} on decide",
        "annotations": "The weaker teacher's boxes tell no two images apart, so the annotated boxes decide",
    }[found.judge]
    low = (
        f" The border between low and high is {found.border:.4g} cycles per pixel, as on the [page of spectra](fig06.ipynb)."
        if page.view == "frequencies"
        else f" Noise has σ = {page.options.sigma:g} of the pixel range, a crop keeps {page.options.crop[0]:g} or more of a side."
    )
    return Markdown(
        f"The first **{found.count} validation images** of the scale **{page.scale}**, level of stride {page.stride}. {weak}"
        f"{strong} {judge} which objects dominate an image (θ = {page.options.theta:g}). {MASKING['spatial_ratio']:.0%} of the "
        f"cells are hidden, those of highest attention.{low}"
    )


def equation(page: EnhancementPage) -> Markdown:
    """What the page does to its images: the docstring of the code that does it."""
    if page.view == "augmentation":
        return Markdown(docstrings.read(augment.enhance).text)
    _, _, more = docstrings.read(attending.frequency_versions).text.partition("\n\n")
    return Markdown(f"{docstrings.read(fourier.split).text}\n\n{more}")
