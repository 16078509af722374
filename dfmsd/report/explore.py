"""What a distillation looks like from inside: features, attention, masks, reconstructions and enhanced images, as figures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import matplotlib.pyplot as plt
import mmcv
import pandas as pd
import seaborn as sns
import torch
from matplotlib.figure import Figure
from torch import Tensor

from dfmsd.augment import add_noise, area_ratio, random_crop
from dfmsd.distiller import Distiller
from dfmsd.errors import StudyError
from dfmsd.hyper import DMKD as DualDefaults
from dfmsd.losses import AMD, DMKD, MGD, Levels, Method, dual_masks, random_mask, spatial_attention
from dfmsd.report.canvas import PANEL, covered, displayed, draw_image, draw_map, energy, grid
from dfmsd.report.dataset import PALETTE
from dfmsd.report.figures import Picture as Drawn
from dfmsd.study import data, zoo
from dfmsd.study.rows import Options
from dfmsd.study.spec import RunSpec

SEED = 0
"""Of the masks, noise and crops that figures show."""

SMALLEST = 4
"""Cells that a map must have on its shorter side to be worth a panel."""


@dataclass(frozen=True)
class Picture:
    """An image as the networks get it, before normalisation."""

    image: Tensor
    """``(3, H, W)``, blue, green, red in [0, 255]."""
    boxes: Tensor
    """``(n, 4)`` as x1, y1, x2, y2 in pixels."""
    names: tuple[str, ...]
    """Class of each box."""

    @property
    def ratio(self) -> float:
        """The share of the image that its boxes cover, :func:`~dfmsd.augment.area_ratio`."""
        height, width = self.image.shape[1:]
        return area_ratio(self.boxes, torch.ones(len(self.boxes)), score=0.0, height=height, width=width)


@dataclass(frozen=True)
class Masked:
    """What a method hides of a student's level, and what it makes of the rest."""

    spatial: Tensor | None
    """``(1, 1, H, W)``, True where hidden; None: no such mask."""
    channel: Tensor | None
    """``(1, C, 1, 1)``, likewise."""
    reconstruction: Tensor
    """``(1, C, H, W)``."""


def picture(run: RunSpec, index: int) -> Picture:
    """A validation image at a run's input size.

    Raises:
        StudyError: if the data has no image of that index.
    """
    return next(pictures(run, [index]))


def pictures(run: RunSpec, indices: Sequence[int]) -> Iterator[Picture]:
    """Several validation images, see :func:`picture`."""
    split = data.ensure(run.data).val
    content = json.loads(split.annotations.read_text())
    images = content["images"]
    classes = {category["id"]: category["name"] for category in content["categories"]}
    for index in indices:
        if not 0 <= index < len(images):
            raise StudyError(f"image = {index}: the validation images are 0 to {len(images) - 1}")
        pixels = mmcv.imread(str(split.images / images[index]["file_name"]))
        scaled, factor = mmcv.imrescale(pixels, run.image_size, return_scale=True)
        objects = [item for item in content["annotations"] if item["image_id"] == images[index]["id"]]
        corners = torch.tensor([item["bbox"] for item in objects], dtype=torch.float32).reshape(-1, 4) * factor
        corners[:, 2:] += corners[:, :2]
        names = tuple(classes[item["category_id"]] for item in objects)
        yield Picture(torch.from_numpy(scaled).permute(2, 0, 1).contiguous(), corners, names)


@torch.no_grad()
def features(distiller: Distiller, image: Tensor) -> tuple[Levels, Levels]:
    """The student's and the teacher's maps of one image, each network with its own normalisation.

    Args:
        distiller: Holds both; it is put into eval mode.
        image: ``(3, H, W)`` in [0, 255].

    Returns:
        By stride in pixels: maps ``(1, C, H / stride, W / stride)`` of the levels that are matched with the (first) teacher.
    """
    distiller.eval()
    inputs_s, inputs_t = distiller.data_preprocessor.view([image])
    return distiller.levels(distiller.student.extract_feat(inputs_s), inputs_t)[0]


@singledispatch
def reconstruct(method: Method, stride: int, feat_s: Tensor, feat_t: Tensor) -> Masked:
    """What a method hides of a student's level, and how its blocks reconstruct the teacher's from the rest.

    Args:
        method: The method with its learned blocks.
        stride: The level.
        feat_s: Student's map, ``(1, C_s, H, W)``.
        feat_t: Teacher's map, ``(1, C, H, W)``.

    Raises:
        StudyError: if the method hides nothing.
    """
    raise StudyError(f"{type(method).__name__} hides nothing: it has no masks and no reconstruction to show")


@reconstruct.register
@torch.no_grad()
def _(method: DMKD, stride: int, feat_s: Tensor, feat_t: Tensor) -> Masked:
    hidden_sp, hidden_ch = method.masks(feat_t, torch.Generator().manual_seed(SEED))
    block = method.levels[str(stride)]
    return Masked(hidden_sp, hidden_ch, block.reconstruct(feat_s, hidden_sp=hidden_sp, hidden_ch=hidden_ch))  # type: ignore[operator]


@reconstruct.register
@torch.no_grad()
def _(method: MGD, stride: int, feat_s: Tensor, feat_t: Tensor) -> Masked:
    hidden = random_mask(feat_t, ratio=method.ratio, generator=torch.Generator().manual_seed(SEED))
    aligned = method.align[str(stride)](feat_s).masked_fill(hidden, 0.0)
    return Masked(hidden, None, method.generation[str(stride)](aligned))


@reconstruct.register
@torch.no_grad()
def _(method: AMD, stride: int, feat_s: Tensor, feat_t: Tensor) -> Masked:
    hidden = method.mask(feat_t, torch.Generator().manual_seed(SEED))
    aligned = method.align[str(stride)](feat_s).masked_fill(hidden, 0.0)
    return Masked(hidden, None, method.branch[str(stride)](aligned))


def hides(method: Method) -> bool:
    """Whether a method masks the student's features, so that :func:`reconstruct` knows it."""
    return isinstance(method, (DMKD, MGD, AMD))


def pictured(distiller: Distiller, stride: int) -> Method:
    """The method of a distiller, if it works on a level.

    Raises:
        StudyError: if it does not.
    """
    (method,) = distiller.methods
    assert isinstance(method, Method)
    if stride not in method.strides:
        raise StudyError(f"stride = {stride}: the method works on strides {', '.join(map(str, method.strides))}")
    return method


def features_figure(before: Distiller, after: Distiller, shown: Picture) -> Figure:
    """Mean magnitudes of the teacher's levels and of the student's, before and after; each panel on its own scale.

    Args:
        before: The distiller as it was before training.
        after: The same after training.
        shown: The image.
    """
    untrained, taught = features(before, shown.image)[0], features(after, shown.image)
    rows = {"teacher": taught[1], "student before": untrained, "student after": taught[0]}
    strides = [stride for stride, feat in taught[1].items() if min(feat.shape[2:]) >= SMALLEST]
    figure, axes = grid(len(rows), 1 + len(strides))
    for line, (title, levels) in zip(axes, rows.items(), strict=True):
        draw_image(line[0], displayed(shown.image), boxes=shown.boxes)
        line[0].set_ylabel(title)
        for axis, stride in zip(line[1:], strides, strict=True):
            draw_map(axis, energy(levels[stride]))
    axes[0, 0].set_title("image")
    for axis, stride in zip(axes[0, 1:], strides, strict=True):
        axis.set_title(f"stride {stride}")
    return figure


def reconstruction_figure(before: Distiller, after: Distiller, shown: Picture, stride: int) -> Drawn:
    """The teacher's level, and what the method's blocks made of the masked student's, before and after, on one scale.

    The error over each panel is the sum of squared differences relative to the teacher's sum of squares.

    Args:
        before: The distiller as it was before training.
        after: The same after training.
        shown: The image.
        stride: The level.
    """
    feat_t = features(after, shown.image)[1][stride]
    panels, errors = {"teacher": feat_t}, {}
    for title, distiller in (("before", before), ("after", after)):
        feat_s = features(distiller, shown.image)[0][stride]
        made = reconstruct(pictured(distiller, stride), stride, feat_s, feat_t).reconstruction
        errors[title] = f"error {((made - feat_t).square().sum() / feat_t.square().sum()).item():.2f}"
        panels[f"reconstruction {title}\n{errors[title]}"] = made
    figure, axes = grid(1, len(panels))
    limits = float(energy(feat_t).min()), float(energy(feat_t).max())
    for axis, (title, feat) in zip(axes[0], panels.items(), strict=True):
        shades = draw_map(axis, energy(feat), title, limits=limits)
    figure.colorbar(shades, ax=axes[0].tolist(), label="mean magnitude", shrink=0.8)
    return Drawn.of(
        figure,
        "Heat maps of the teacher's features and of their reconstruction from the student's masked features, "
        f"{' and '.join(f'{title} training with {error}' for title, error in errors.items())}.",
    )


def enhancement_figure(distiller: Distiller, shown: Picture, stride: int, options: Options) -> Figure:
    """An image, with noise, and cropped; the teacher's attention to each, and what dual masking would hide of it.

    Args:
        distiller: Holds the teacher.
        shown: The image.
        stride: The level.
        options: Strength of the enhancement, and theta, which decides between noise and crop.
    """
    masking = _masking(pictured(distiller, stride))
    generator = torch.Generator().manual_seed(SEED)
    noisy, (least, _) = options.theta > shown.ratio, options.crop
    images = {
        "as it is": shown.image,
        f"noise, σ = {options.sigma}": add_noise(shown.image, sigma=options.sigma, generator=generator),
        f"crop, side × {least}": random_crop(shown.image, sides=(least, least), generator=generator),
    }
    figure, axes = grid(len(images), 3)
    for line, (title, image) in zip(axes, images.items(), strict=True):
        feat_t = features(distiller, image)[1][stride]
        height, width = (-(-side // stride) for side in image.shape[1:])
        hidden, _ = dual_masks(feat_t, **masking, generator=generator)
        draw_image(line[0], displayed(image))
        line[0].set_ylabel(title)
        draw_map(line[1], spatial_attention(feat_t, tau=masking["tau"])[0, :height, :width].numpy())
        draw_image(line[2], covered(image, hidden, stride))
    for axis, title in zip(axes[0], ("image", "spatial attention", "hidden"), strict=True):
        axis.set_title(title)
    relation, choice = ("below", "noise") if noisy else ("not below", "a crop")
    figure.suptitle(f"The boxes cover {shown.ratio:.0%}: {relation} θ = {options.theta:.0%}, so Eq. (4) takes {choice}")
    return figure


def _masking(method: Method) -> dict[str, Any]:
    """The method's dual masking; DMKD's own where it has none."""
    return method.masking if isinstance(method, DMKD) else DualDefaults().masking


def curve_table(curve: Sequence[Mapping[str, float]], prefix: str) -> pd.DataFrame:
    """A learning curve with a column a part: the detection loss, and each term of the method.

    Args:
        curve: Points with ``iteration``, ``loss`` and its parts.
        prefix: How the method's terms begin.

    Example:
        >>> curve_table([{"iteration": 5, "loss": 3.0, "loss_cls": 2.0, "loss_mgd_rec": 1.0}], "loss_mgd_").to_dict("list")
        {'detection': [2.0], 'rec': [1.0]}
    """
    frame = pd.DataFrame(curve).set_index("iteration")
    terms = frame.filter(regex=f"^{prefix}").rename(columns=lambda name: str(name).removeprefix(prefix))
    return pd.concat([(frame["loss"] - terms.sum(axis=1)).rename("detection"), terms], axis=1)


def curve_figure(curve: Sequence[Mapping[str, float]], method: Method) -> Figure:
    """The student's loss while it learned: its parts, and each term of the method relative to the detection loss.

    Args:
        curve: The student's curve.
        method: Names the terms.
    """
    table = curve_table(curve, f"loss_{method.name}_")
    shares = table.drop(columns="detection").div(table["detection"], axis=0)
    figure, axes = plt.subplots(1, 2, figsize=(4 * PANEL, 1.3 * PANEL), layout="constrained")
    colours = dict(zip(table.columns, sns.color_palette(PALETTE), strict=False))
    for axis, lines, title in ((axes[0], table, "loss"), (axes[1], shares, "share of the detection loss")):
        sns.lineplot(lines, palette=colours, dashes=False, ax=axis, legend=lines is table)
        axis.set(xlabel="iteration", ylabel=title, ylim=(0, None))
    names = axes[0].get_legend_handles_labels()
    axes[0].get_legend().remove()
    figure.legend(*names, loc="outside right upper", frameon=False)
    sns.despine(figure)
    plt.close(figure)
    return figure


def title_of(run: RunSpec) -> str:
    """The student, its teacher and the method in words."""
    assert run.stage is not None
    student, teacher = zoo.label(run.network.name), zoo.label(run.stage.teacher.network.name)
    return f"{student} learns from {teacher} by {run.stage.methods[0].type}"
