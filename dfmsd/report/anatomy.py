"""What each method masks or compares, on the features of a real teacher: one drawing a method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import numpy as np
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from dfmsd import hyper as methods
from dfmsd.augment import add_noise, random_crop
from dfmsd.distiller import Distiller
from dfmsd.errors import StudyError
from dfmsd.losses import Levels, amd_mask, channel_attention, dual_masks, random_mask, spatial_attention, standardise
from dfmsd.losses import heads as _heads
from dfmsd.losses.crosskd import cross_standardise
from dfmsd.losses.fgd import attention_maps, fgd_masks, relative_boxes
from dfmsd.losses.fkd import fkd_weights
from dfmsd.losses.ssim import minmax, ssim_map, ssim_parts
from dfmsd.report import explore
from dfmsd.report.canvas import Array, covered, displayed, draw_channels, draw_image, draw_map, energy, grid, mosaic
from dfmsd.report.dataset import PALETTE
from dfmsd.report.figures import Picture
from dfmsd.report.live import Live
from dfmsd.study.rows import Options

SIGNED = "PuOr"
"""Colours of maps whose 0 has a meaning: told apart with any colour vision."""

WHERE = {"highest": "where the teacher attends most", "lowest": "where the teacher attends least", "random": "at random"}

FAINT = 1e-3
"""Weights below are not told apart: their mean is 1."""


@dataclass(frozen=True)
class Scene:
    """An image as two networks see it."""

    distiller: Distiller
    shown: explore.Picture
    stride: int
    """Of the level to look at, in pixels."""
    levels_s: Levels
    levels_t: Levels

    @property
    def feat_s(self) -> Tensor:
        """The student's map, ``(1, C, H, W)``."""
        return self.levels_s[self.stride]

    @property
    def feat_t(self) -> Tensor:
        """The teacher's map, of the same shape."""
        return self.levels_t[self.stride]

    def touched(self) -> Tensor:
        """The cells that a box touches, ``(H, W)``."""
        fg, _ = self.fgd_masks()
        return fg[0] > 0

    def fgd_masks(self) -> tuple[Tensor, Tensor]:
        """FGD's two masks, ``(1, H, W)`` each."""
        height, width = self.shown.image.shape[1:]
        rows, columns = self.feat_t.shape[2:]
        return fgd_masks(relative_boxes([self.shown.boxes], [(height, width)]), size=(rows, columns))


def scene(distiller: Distiller, shown: explore.Picture, stride: int) -> Scene:
    """An image as a distiller's student and teacher see it.

    Raises:
        StudyError: if the two have no level of that stride in common.
    """
    levels_s, levels_t = explore.features(distiller, shown.image)
    if stride not in levels_t:
        raise StudyError(f"stride = {stride}: the levels that student and teacher share are {', '.join(map(str, levels_t))}")
    return Scene(distiller, shown, stride, levels_s, levels_t)


@singledispatch
def draw(method: Any, seen: Scene) -> Picture:
    """What a method masks or compares.

    Args:
        method: Its specification, one of the models of :mod:`dfmsd.hyper`.
        seen: What it looks at.
    """
    raise StudyError(f"{type(method).__name__} has no drawing yet: write one in dfmsd/report/anatomy.py")


def taught(trained: Live, shown: explore.Picture, stride: int) -> Picture:
    """What the method of a distillation just done masks or compares.

    Args:
        trained: The distillation, of one method.
        shown: The image.
        stride: The level.
    """
    return _at_work(trained, trained.after, shown, stride)


def progress(trained: Live, shown: explore.Picture, stride: int) -> Picture:
    """What a distillation changed: the reconstruction of a method that masks; of another, :func:`taught` before it learned.

    Args:
        trained: The distillation, of one method.
        shown: The image.
        stride: The level.
    """
    if explore.hides(explore.pictured(trained.after, stride)):
        return explore.reconstruction_figure(trained.before, trained.after, shown, stride)
    return _at_work(trained, trained.before, shown, stride)


def _at_work(trained: Live, distiller: Distiller, shown: explore.Picture, stride: int) -> Picture:
    assert trained.run.stage is not None
    (method,) = trained.run.stage.methods
    # DFMSD's own drawing is of enhanced images: on an image as it is, it masks as DMKD does.
    kind = methods.DMKD if isinstance(method, methods.DMKD) else type(method)
    return draw.dispatch(kind)(method, scene(distiller, shown, stride))


@draw.register
@torch.no_grad()
def _mse(method: methods.MSE, seen: Scene) -> Picture:
    error = (seen.feat_s - seen.feat_t).square().mean(dim=1)[0]
    share = (error[seen.touched()].sum() / error.sum()).item()
    figure, axes = _panels(seen, "ABCD")
    draw_map(axes[1], energy(seen.feat_t), f"teacher, stride {seen.stride}")
    draw_map(axes[2], energy(seen.feat_s), "student")
    _bar(figure, axes[3], draw_map(axes[3], error.numpy(), "squared error"), "mean over channels")
    covers = seen.touched().float().mean().item()
    return Picture.of(
        figure,
        f"The mean magnitude of the teacher's and of the student's features, and their squared error, as heat maps. "
        f"{share:.0%} of the error lies in the cells that a box touches, which are {covers:.0%} of all.",
    )


@draw.register
@torch.no_grad()
def _ssim(method: methods.SSIM, seen: Scene) -> Picture:
    pair = minmax(seen.feat_s), minmax(seen.feat_t)
    names = ("luminance", "contrast", "structure")
    parts = dict(zip(names, ssim_parts(*pair, window=method.window, sigma=method.sigma), strict=True))
    exponents = {name: getattr(method, name) for name in names}
    parts["similarity"] = ssim_map(*pair, **exponents, window=method.window, sigma=method.sigma)
    figure, axes = _panels(seen, "ABC;DE.")
    maps = {name: part[0].mean(dim=0).numpy() for name, part in parts.items()}
    means = {name: one.mean() for name, one in maps.items()}
    limits = min(0.0, *(one.min() for one in maps.values())), 1.0
    for axis, (name, one) in zip(axes[1:], maps.items(), strict=True):
        shades = draw_map(axis, one, f"{name}\nmean {means[name]:.2f}", limits=limits)
    _bar(figure, axes[-1], shades, "mean over channels")
    words = ", ".join(f"{name} {mean:.2f}" for name, mean in means.items())
    return Picture.of(figure, f"How alike student and teacher are around each position, as heat maps; means: {words}.")


@draw.register
@torch.no_grad()
def _fkd(method: methods.FKD, seen: Scene) -> Picture:
    weights = fkd_weights(seen.feat_s, seen.feat_t, tau=method.tau, mask=method.mask)
    figure, axes = _panels(seen, "ABC;DEE")
    maps = {
        "teacher's attention": spatial_attention(seen.feat_t, tau=method.tau),
        "student's attention": spatial_attention(seen.feat_s, tau=method.tau),
        "mean: the weight": weights[0],
    }
    limits = 0.0, max(one.max().item() for one in maps.values())
    for axis, (title, one) in zip(axes[1:], maps.items(), strict=False):
        shades = draw_map(axis, one[0].numpy(), title, limits=limits)
    _bar(figure, axes[3], shades, "1 = mean")
    lines = {
        "teacher": channel_attention(seen.feat_t, tau=method.tau)[0],
        "student": channel_attention(seen.feat_s, tau=method.tau)[0],
        "weight": weights[1][0],
    }
    for colour, (label, line) in zip(sns.color_palette(PALETTE), lines.items(), strict=False):
        axes[4].plot(line.sort(descending=True).values.numpy(), color=colour, label=label)
    axes[4].set(title="channels", xlabel="channel, each line in its own order", ylabel="1 = mean", yscale="log")
    axes[4].set_ylim(bottom=FAINT)
    axes[4].legend(frameon=False)
    sns.despine(ax=axes[4])
    hottest = weights[0].flatten().topk(max(1, weights[0].numel() // 10)).values.sum() / weights[0].sum()
    return Picture.of(
        figure,
        "The spatial attention of teacher and student and their mean as heat maps, and the same of the channels as lines. "
        f"The tenth of the cells with the highest weight holds {hottest.item():.0%} of it.",
    )


@draw.register
@torch.no_grad()
def _fgd(method: methods.FGD, seen: Scene) -> Picture:
    attn_s, attn_t = attention_maps(seen.feat_s, tau=method.tau), attention_maps(seen.feat_t, tau=method.tau)
    weights = [attn_t[0] * mask for mask in seen.fgd_masks()]
    figure, axes = _panels(seen, "ABC;DE.")
    _bar(figure, axes[1], draw_map(axes[1], attn_t[0][0].numpy(), "teacher's attention"), "1 = mean")
    for axis, weight, title in zip(axes[2:], weights, ("× foreground", "× background"), strict=False):
        _bar(figure, axis, draw_map(axis, weight[0].numpy(), title), "")
    difference = (attn_s[0] - attn_t[0])[0]
    reach = difference.abs().max().item()
    shades = draw_map(axes[4], difference.numpy(), "student's − teacher's", limits=(-reach, reach), colours=SIGNED)
    _bar(figure, axes[4], shades, "")
    inside = (attn_t[0][0][seen.touched()].sum() / attn_t[0].sum()).item()
    return Picture.of(
        figure,
        "The teacher's spatial attention, what is left of it on the foreground and on the background, and how the student's "
        f"differs, as heat maps. The cells that a box touches hold {inside:.0%} of the teacher's attention.",
    )


@draw.register
@torch.no_grad()
def _pkd(method: methods.PKD, seen: Scene) -> Picture:
    chosen = sorted(seen.levels_t)[: method.levels]
    by_level = {stride: correlations(seen.levels_s[stride], seen.levels_t[stride]) for stride in chosen}
    own = correlations(seen.feat_s, seen.feat_t)
    typical = int((own - own.mean()).abs().argmin())
    figure, axes = _panels(seen, "ABC;DEE")
    for axis, feat, name in ((axes[1], seen.feat_t, "teacher"), (axes[2], seen.feat_s, "student")):
        values = standardise(feat)[0, typical].numpy()
        shades = draw_map(axis, values, f"{name}, channel {typical}\nstandardised", limits=(-3, 3), colours=SIGNED)
    _bar(figure, axes[2], shades, "deviations from the mean")
    colour = sns.color_palette(PALETTE)[0]
    axes[3].bar([str(stride) for stride in chosen], [r.mean().item() for r in by_level.values()], color=colour)
    axes[3].set(title="correlation", xlabel="stride", ylim=(min(0.0, *(r.mean().item() for r in by_level.values())), 1))
    axes[4].bar(range(len(own)), own.sort(descending=True).values.numpy(), width=1.0, color=colour)
    axes[4].set(title=f"its channels, stride {seen.stride}", xlabel="channel, in order")
    for axis in axes[3:]:
        axis.axhline(0, color="black", linewidth=0.8)
        sns.despine(ax=axis)
    words = ", ".join(f"{stride}: {r.mean().item():.2f}" for stride, r in by_level.items())
    return Picture.of(
        figure,
        "One channel of teacher and student, standardised, as heat maps; bars of the correlation of student and teacher: its mean "
        f"over the channels, by stride ({words}), and that of each channel.",
    )


def correlations(feat_s: Tensor, feat_t: Tensor) -> Tensor:
    """Pearson's correlation of each channel over batch and positions, ``(C,)``; 0 where a channel is constant.

    Example:
        >>> feat = torch.arange(8.0).reshape(1, 2, 2, 2)
        >>> correlations(torch.cat([2 * feat[:, :1] + 1, -feat[:, 1:]], dim=1), feat).round().tolist()
        [1.0, -1.0]
    """
    product = (standardise(feat_s) * standardise(feat_t)).sum(dim=(0, 2, 3))
    return product / max(1, feat_t[:, 0].numel() - 1)


@draw.register
@torch.no_grad()
def _crosskd(method: methods.CrossKD, seen: Scene) -> Picture:
    scores = cross_scores(seen, method.layer, before_activation=method.before_activation)
    figure, axes = _panels(seen, "ABCD")
    limits = 0.0, max(one.max() for one in scores.values())
    titles = ("teacher's scores", "student's own head", "through the teacher's")
    for axis, title, one in zip(axes[1:], titles, scores.values(), strict=True):
        shades = draw_map(axis, one, title, limits=limits)
    _bar(figure, axes[-1], shades, "highest class score")
    words = ", ".join(f"{name} {one.max():.2f}" for name, one in scores.items())
    return Picture.of(
        figure,
        "The highest class score at each position, as heat maps: of the teacher, of the student, and of the student's features "
        f"that go on through the teacher's head. Their highest scores: {words}.",
    )


def cross_scores(seen: Scene, layer: int, *, before_activation: bool) -> dict[str, Array]:
    """The highest class score at each position, ``(H, W)``: ``teacher``, ``student``, and ``cross``, what CrossKD compares.

    Args:
        seen: The scene; its networks have dense heads of one type.
        layer: Convolutions of the student's head before its feature crosses over.
        before_activation: As in :class:`dfmsd.hyper.CrossKD`.

    Raises:
        StudyError: if the heads are not of one type.
    """
    student, teacher = _heads.of(seen.distiller.student), _heads.of(seen.distiller.teachers[0])
    _heads.check_pair(student, teacher, layer)
    level = list(seen.levels_t).index(seen.stride)
    feats_s, feats_t = (
        head.towers_until(feat, layer, before_activation=before_activation)
        for head, feat in ((student, seen.feat_s), (teacher, seen.feat_t))
    )
    crossed = [cross_standardise(own, target) for own, target in zip(feats_s, feats_t, strict=True)]
    predictions = {
        "teacher": teacher.predict(feats_t, level, layer),
        "student": student.predict(feats_s, level, layer),
        "cross": teacher.predict(crossed, level, layer),
    }
    height, width = seen.feat_t.shape[2:]
    # (1, H * W * A, K) -> (H, W)
    return {name: cls.sigmoid().view(height, width, -1).amax(dim=2).numpy() for name, (cls, _) in predictions.items()}


@draw.register
@torch.no_grad()
def _mgd(method: methods.MGD, seen: Scene) -> Picture:
    hidden = random_mask(seen.feat_t, ratio=method.ratio, generator=_seeded())
    figure, axes = _panels(seen, "ABCD")
    return _masked(figure, axes[1:], seen, hidden, WHERE["random"])


@draw.register
@torch.no_grad()
def _amd(method: methods.AMD, seen: Scene) -> Picture:
    attention = spatial_attention(seen.feat_t, tau=method.tau)
    hidden = amd_mask(seen.feat_t, **method.masking, generator=_seeded())
    figure, axes = _panels(seen, "ABC;DE.")
    _bar(figure, axes[1], draw_map(axes[1], attention[0].numpy(), "teacher's attention"), "1 = mean")
    return _masked(figure, axes[2:], seen, hidden, WHERE[method.hide])


def _masked(figure: Figure, axes: Sequence[Axes], seen: Scene, hidden: Tensor, where: str) -> Picture:
    """The image with what is hidden, what is left of the student's features, and the teacher's, which are to be made of it."""
    share, held = hidden.float().mean().item(), _held(seen, hidden)
    draw_image(axes[0], covered(seen.shown.image, hidden, seen.stride), f"hidden: {share:.0%}")
    left: Array = np.where(hidden[0, 0].numpy(), np.nan, energy(seen.feat_s))
    draw_map(axes[1], left, "what is left")
    draw_map(axes[2], energy(seen.feat_t), "the teacher's, to be made")
    return Picture.of(
        figure,
        f"An image on which {share:.0%} of the cells are hidden, {where}; the student's features without them, and the teacher's, "
        f"as heat maps. The hidden cells hold {held:.0%} of the magnitude of the teacher's features.",
    )


def _held(seen: Scene, hidden: Tensor) -> float:
    """The share of the teacher's magnitude that lies in hidden cells."""
    magnitude = seen.feat_t.abs().sum(dim=1, keepdim=True)
    return ((magnitude * hidden).sum() / magnitude.sum()).item()


@draw.register
@torch.no_grad()
def _dmkd(method: methods.DMKD, seen: Scene) -> Picture:
    figure, axes = _panels(seen, "ABCDD")
    words = _dual(figure, axes[1:], method, seen, seen.shown.image)
    return Picture.of(
        figure, f"The teacher's attention in space, as a heat map, and over channels, as bars, and what is hidden: {words}."
    )


@draw.register
@torch.no_grad()
def _dfmsd(method: methods.DFMSD, seen: Scene) -> Picture:
    options, image = Options(), seen.shown.image
    least, _ = options.crop
    generator = _seeded()
    images = {
        "as it is": image,
        f"noise, σ = {options.sigma}": add_noise(image, sigma=options.sigma, generator=generator),
        f"crop, side × {least}": random_crop(image, sides=(least, least), generator=generator),
    }
    figure, axes = grid(len(images), 4, widths=(1, 1.2, 1, 1.6))
    words = []
    for line, (name, changed) in zip(axes, images.items(), strict=True):
        draw_image(line[0], displayed(changed), boxes=seen.shown.boxes if changed is image else None)
        line[0].set_ylabel(name)
        words.append(f"{name}: {_dual(figure, line[1:], method, seen, changed)}")
    for axis in axes[1:, 1:].flat:
        axis.set_title("")
    return Picture.of(
        figure,
        "An image as it is, with noise, and cropped, as masking enhancement makes them; for each the teacher's attention in space, "
        f"as a heat map, and over channels, as bars, and what is hidden. {'; '.join(words)}.",
    )


def _dual(figure: Figure, axes: Sequence[Axes], method: methods.DMKD, seen: Scene, image: Tensor) -> str:
    """Spatial attention, the hidden cells and the channels of an image; returns what is hidden in words."""
    feat_t = seen.feat_t if image is seen.shown.image else explore.features(seen.distiller, image)[1][seen.stride]
    hidden_sp, hidden_ch = dual_masks(feat_t, **method.masking, generator=_seeded())
    height, width = (-(-side // seen.stride) for side in image.shape[1:])
    shades = draw_map(axes[0], spatial_attention(feat_t, tau=method.tau)[0, :height, :width].numpy(), "spatial attention")
    _bar(figure, axes[0], shades, "1 = mean")
    draw_image(axes[1], covered(image, hidden_sp, seen.stride), f"hidden: {hidden_sp.float().mean().item():.0%}")
    draw_channels(axes[2], channel_attention(feat_t, tau=method.tau)[0], hidden_ch[0, :, 0, 0])
    return f"{hidden_sp.float().mean().item():.0%} of the cells and {hidden_ch.float().mean().item():.0%} of the channels"


def _panels(seen: Scene, layout: str) -> tuple[Figure, list[Axes]]:
    """Panels as :func:`~dfmsd.report.canvas.mosaic` lays them out; the first shows the image with its boxes."""
    figure, axes = mosaic(layout)
    draw_image(axes[0], displayed(seen.shown.image), "image", boxes=seen.shown.boxes)
    return figure, axes


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(explore.SEED)


def _bar(figure: Figure, axis: Axes, shades: Any, label: str) -> None:
    figure.colorbar(shades, ax=axis, label=label, shrink=0.8)
