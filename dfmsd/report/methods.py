"""All methods side by side: what each needs and costs, and what it looks at in one image."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import singledispatch
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from dfmsd import hyper, losses
from dfmsd.augment import add_noise, random_crop
from dfmsd.errors import StudyError
from dfmsd.hyper import METHODS, MethodSpec, for_pair
from dfmsd.losses import Levels, amd_mask, channel_attention, dual_masks, random_mask, spatial_attention, standardise
from dfmsd.losses.crosskd import cross_standardise
from dfmsd.losses.fgd import attention_maps, fgd_masks, relative_boxes
from dfmsd.losses.fkd import fkd_weights
from dfmsd.losses.ssim import minmax, ssim_map, ssim_parts
from dfmsd.report.canvas import PANEL, covered, displayed, draw_image, draw_map, grid, unpacked
from dfmsd.report.choosing import NEEDS
from dfmsd.report.features import channel_correlations, channel_sums
from dfmsd.report.figures import PALETTE, described
from dfmsd.report.images import jpeg, magnitude, pictures
from dfmsd.report.tables import NONE
from dfmsd.study import data, paths, scales
from dfmsd.study.pages.networks import MethodsPage
from dfmsd.study.rows import LABELS, Options, Row, chain

if TYPE_CHECKING:
    from dfmsd.distiller import Distiller  # who draws what was measured does not wait for mmdet

SIZES: dict[str, Any] = {"strides": [8, 16, 32, 64, 128], "channels_s": 256, "channels_t": 256}
"""Of mmdet's own pyramids, on which parameters are counted."""

SEED = 0
"""Of the masks, noise and crops that figures show."""

SIGNED = "PuOr"
"""Colours of maps whose 0 has a meaning: told apart with any colour vision."""

WHERE = {"highest": "where the teacher attends most", "lowest": "where the teacher attends least", "random": "at random"}


@dataclass(frozen=True)
class Scene:
    """An image as two networks see it."""

    image: Tensor
    """``(3, H, W)``, blue, green, red in [0, 255]."""
    boxes: Tensor
    """``(n, 4)`` as x1, y1, x2, y2 in pixels."""
    stride: int
    """Of the level to look at, in pixels."""
    levels_s: Levels
    levels_t: Levels
    changed: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """The image with noise and cropped, by the name of the change; with the teacher's map of it on that level."""
    scores: Mapping[str, Tensor] = field(default_factory=dict)
    """The highest class score at each position of the level, ``(H, W)``, of CrossKD's three ways; empty where there are none."""

    @property
    def feat_s(self) -> Tensor:
        """The student's map, ``(1, C, H, W)``."""
        return self.levels_s[self.stride]

    @property
    def feat_t(self) -> Tensor:
        """The teacher's map, of the same shape."""
        return self.levels_t[self.stride]

    def masks(self) -> tuple[Tensor, Tensor]:
        """FGD's two masks, ``(1, H, W)`` each: cells that a box touches, and the others."""
        height, width = self.image.shape[1:]
        rows, columns = self.feat_t.shape[2:]
        return fgd_masks(relative_boxes([self.boxes], [(height, width)]), size=(rows, columns))

    def touched(self) -> Tensor:
        """The cells that a box touches, ``(H, W)``."""
        return self.masks()[0][0] > 0

    def to_json(self) -> dict[str, Any]:
        """As a record holds it: features in half precision, images as JPEGs."""
        return {
            "image": jpeg(self.image),
            "boxes": self.boxes.tolist(),
            "stride": self.stride,
            "student": {str(stride): _packed(feat) for stride, feat in self.levels_s.items()},
            "teacher": {str(stride): _packed(feat) for stride, feat in self.levels_t.items()},
            "changed": {name: [jpeg(image), _packed(feat)] for name, (image, feat) in self.changed.items()},
            "scores": {name: _packed(score) for name, score in self.scores.items()},
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Scene:
        """From what a record holds."""
        return cls(
            image=unpacked(kept["image"]),
            boxes=torch.tensor(kept["boxes"]).reshape(-1, 4),
            stride=kept["stride"],
            levels_s={int(stride): _restored(feat) for stride, feat in kept["student"].items()},
            levels_t={int(stride): _restored(feat) for stride, feat in kept["teacher"].items()},
            changed={name: (unpacked(image), _restored(feat)) for name, (image, feat) in kept["changed"].items()},
            scores={name: _restored(score) for name, score in kept["scores"].items()},
        )


def _packed(values: Tensor) -> dict[str, Any]:
    array = values.numpy().astype("float16")
    return {"shape": list(array.shape), "base64": base64.b64encode(array.tobytes()).decode()}


def _restored(kept: Mapping[str, Any]) -> Tensor:
    flat = np.frombuffer(base64.b64decode(kept["base64"]), dtype="float16")
    return torch.from_numpy(flat.astype("float32").reshape(kept["shape"]))


def measure(page: MethodsPage) -> tuple[pd.DataFrame, dict[str, Any]]:
    """What every method learns beside its student, and one image as the study's networks see it.

    Returns:
        A line for each method (``row``) with the metric ``extra parameters``; and the picture ``scene``, a :class:`Scene`.

    Raises:
        StudyError: at the scale coco, whose images are not ours to pass on.
    """
    if page.scale == "coco":
        raise StudyError("the record of this page holds an image, and COCO's are not ours to pass on: take mini or gpu")
    lines = []
    for name, label in LABELS.items():
        if name in METHODS:
            built = getattr(losses, METHODS[name].__name__)(**dict(for_pair(name, "one_stage")) | SIZES)
            lines.append({"row": label, "metric": "extra parameters", "value": sum(one.numel() for one in built.parameters())})
    (shown,) = pictures(scales.get(page.scale), [page.image])
    layer = specification("crosskd", page.scale).layer
    seen = scene(_distiller(page), shown.image, shown.boxes, page.stride, layer=layer)
    return pd.DataFrame(lines), {"scene": seen.to_json()}


def _distiller(page: MethodsPage) -> Distiller:
    """The page's two networks, as the study trained each alone, side by side."""
    from mmdet.registry import MODELS
    from mmengine.registry import DefaultScope

    import dfmsd.distiller  # noqa: F401  (registers it)
    from dfmsd import checkpoints
    from dfmsd.study import build, run

    (pair,) = chain(Row(student=page.student, teachers=(page.teacher,), recipe="mse"), scales.get(page.scale), seed=0)
    files = {name: run.weights(one) for name, one in page.runs().items()}
    config = build.run_config(pair, data.ensure(pair.data), paths.runs(), teacher_checkpoints=[files["teacher"]])
    with DefaultScope.overwrite_default_scope("mmdet"):
        distiller: Distiller = MODELS.build(config.model)
    checkpoints.load(distiller.student, files["student"])
    return distiller


@torch.no_grad()
def features(distiller: Distiller, image: Tensor) -> tuple[Levels, Levels]:
    """The maps of student and (first) teacher by stride of an image ``(3, H, W)`` in [0, 255], each with its own normalisation.

    The networks stay in eval mode.
    """
    distiller.eval()
    inputs_s, inputs_t = distiller.data_preprocessor.view([image])
    return distiller.levels(distiller.student.extract_feat(inputs_s), inputs_t)[0]


def scene(distiller: Distiller, image: Tensor, boxes: Tensor, stride: int, *, layer: int = 1) -> Scene:
    """An image ``(3, H, W)`` in [0, 255] with boxes ``(n, 4)`` as a distiller's student and teacher see it.

    CrossKD's features cross over after ``layer`` convolutions of a head.

    Raises:
        StudyError: if the two have no level of that stride in common.
    """
    levels_s, levels_t = features(distiller, image)
    if stride not in levels_t:
        raise StudyError(f"stride = {stride}: the levels that student and teacher share are {', '.join(map(str, levels_t))}")
    options, generator = Options(), _seeded()
    least, _ = options.crop
    images = {
        f"noise, σ = {options.sigma}": add_noise(image, sigma=options.sigma, generator=generator),
        f"crop, side × {least}": random_crop(image, sides=(least, least), generator=generator),
    }
    changed = {name: (other, features(distiller, other)[1][stride]) for name, other in images.items()}
    scores = _cross_scores(distiller, levels_s[stride], levels_t[stride], stride, layer)
    return Scene(image, boxes, stride, levels_s, levels_t, changed, scores)


@torch.no_grad()
def _cross_scores(distiller: Distiller, feat_s: Tensor, feat_t: Tensor, stride: int, layer: int) -> dict[str, Tensor]:
    from dfmsd.losses import heads

    try:
        student, teacher = heads.of(distiller.student), heads.of(distiller.teachers[0])
        heads.check_pair(student, teacher, layer)
    except StudyError:
        return {}
    feats_s = student.towers_until(feat_s, layer, before_activation=False)
    feats_t = teacher.towers_until(feat_t, layer, before_activation=False)
    crossed = [cross_standardise(own, target) for own, target in zip(feats_s, feats_t, strict=True)]
    predictions = {
        "teacher's scores": teacher.predict(feats_t, teacher.strides.index(stride), layer),
        "student's own head": student.predict(feats_s, student.strides.index(stride), layer),
        "through the teacher's": teacher.predict(crossed, teacher.strides.index(stride), layer),
    }
    height, width = feat_t.shape[2:]
    # (1, H * W * A, K) -> (H, W)
    return {name: cls.sigmoid().view(height, width, -1).amax(dim=2) for name, (cls, _) in predictions.items()}


def needs(measured: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """What each method needs besides features, what it learns beside the student, and what its loss takes on each machine."""
    labels = {label: name for name, label in LABELS.items() if name in METHODS}
    found = pd.DataFrame({"needs besides features": {label: NEEDS.get(name, NONE) for label, name in labels.items()}})
    if len(measured):
        found["extra parameters"] = measured.query("metric == 'extra parameters'").set_index("row")["value"]
    measured_costs = costs.assign(**{name: "" for name in ("size", "beside", "stale") if name not in costs})
    for (size, machine), lines in measured_costs.query("metric == 'mse ratio'").groupby(["size", "beside"], sort=False):
        old = ", stale" * bool(lines["stale"].any())
        found[f"loss, × MSE, {size}, {machine}{old}"] = lines.set_index("row")["value"]
    return found


# ---------------------------------------------------------------------------------------------------------- what a method looks at


def specification(name: str, scale: str) -> Any:
    """A method with the numbers that one-stage networks have at a scale."""
    return for_pair(name, "one_stage", "one_stage", **scales.get(scale).methods.get(name, {}))


@singledispatch
@torch.no_grad()
def draw(method: MethodSpec, seen: Scene) -> Figure:
    """What a method hides or compares; the features and their squared error for one that has no drawing of its own."""
    error = (seen.feat_s - seen.feat_t).square().mean(dim=1)[0]
    touched = seen.touched()
    share, covers = (error[touched].sum() / error.sum()).item(), touched.float().mean().item()
    figure, axes = _panels(seen, "ABCD")
    draw_map(axes[1], magnitude(seen.feat_t), f"teacher, stride {seen.stride}")
    draw_map(axes[2], magnitude(seen.feat_s), "student")
    draw_map(axes[3], error, "squared error", bar="mean over channels")
    return described(
        figure,
        "The mean magnitude of the teacher's and of the student's features, and their squared error, as heat maps. "
        f"{share:.0%} of the error lies in the cells that a box touches, which are {covers:.0%} of all.",
    )


@draw.register
@torch.no_grad()
def _ssim(method: hyper.SSIM, seen: Scene) -> Figure:
    pair, names = (minmax(seen.feat_s), minmax(seen.feat_t)), ("luminance", "contrast", "structure")
    parts = dict(zip(names, ssim_parts(*pair, window=method.window, sigma=method.sigma), strict=True))
    exponents = {name: getattr(method, name) for name in names}
    parts["similarity"] = ssim_map(*pair, **exponents, window=method.window, sigma=method.sigma)
    maps = {name: part[0].mean(dim=0) for name, part in parts.items()}
    figure, axes = _panels(seen, "ABC;DE.")
    lowest = min(0.0, *(one.min().item() for one in maps.values()))
    titles = {f"{name}\nmean {one.mean():.2f}": one for name, one in maps.items()}
    _on_one_scale(axes[1:], titles, "mean over channels", lowest=lowest, highest=1.0)
    words = ", ".join(f"{name} {one.mean():.2f}" for name, one in maps.items())
    return described(figure, f"How alike student and teacher are around each position, as heat maps; means: {words}.")


@draw.register
@torch.no_grad()
def _fkd(method: hyper.FKD, seen: Scene) -> Figure:
    weights = fkd_weights(seen.feat_s, seen.feat_t, tau=method.tau, mask=method.mask)
    feats = {"teacher": seen.feat_t, "student": seen.feat_s}
    maps = {f"{name}'s attention": spatial_attention(feat, tau=method.tau)[0] for name, feat in feats.items()}
    lines = {name: channel_attention(feat, tau=method.tau)[0] for name, feat in feats.items()}
    figure, axes = _panels(seen, "ABC;DEE")
    _on_one_scale(axes[1:], maps | {"mean: the weight": weights[0][0]}, "1 = mean")
    for colour, (label, line) in zip(sns.color_palette(PALETTE), (lines | {"weight": weights[1][0]}).items(), strict=False):
        axes[4].plot(line.sort(descending=True).values.numpy(), color=colour, label=label)
    axes[4].set(title="channels, 1 = mean", xlabel="channel, each line in its own order", yscale="log")
    axes[4].set_ylim(bottom=1e-3)  # what is fainter cannot be told apart
    axes[4].legend(frameon=False)
    hottest = weights[0].flatten().topk(max(1, weights[0].numel() // 10)).values.sum() / weights[0].sum()
    return described(
        figure,
        "The spatial attention of teacher and student and their mean as heat maps, and the same of the channels as lines. "
        f"The tenth of the cells with the highest weight holds {hottest.item():.0%} of it.",
    )


@draw.register
@torch.no_grad()
def _fgd(method: hyper.FGD, seen: Scene) -> Figure:
    attn_s, attn_t = (attention_maps(feat, tau=method.tau)[0][0] for feat in (seen.feat_s, seen.feat_t))
    difference = attn_s - attn_t
    reach = difference.abs().max().item()
    figure, axes = _panels(seen, "ABC;DE.")
    draw_map(axes[1], attn_t, "teacher's attention", bar="1 = mean")
    for axis, mask, title in zip(axes[2:], seen.masks(), ("× foreground", "× background"), strict=False):
        draw_map(axis, attn_t * mask[0], title, bar="")
    draw_map(axes[4], difference, "student's − teacher's", limits=(-reach, reach), colours=SIGNED, bar="")
    inside = (attn_t[seen.touched()].sum() / attn_t.sum()).item()
    return described(
        figure,
        "The teacher's spatial attention, what is left of it on the foreground and on the background, and how the student's "
        f"differs, as heat maps. The cells that a box touches hold {inside:.0%} of the teacher's attention.",
    )


@draw.register
@torch.no_grad()
def _pkd(method: hyper.PKD, seen: Scene) -> Figure:
    correlations = {
        stride: channel_correlations(channel_sums(feat_s, seen.levels_t[stride])) for stride, feat_s in seen.levels_s.items()
    }
    by_level = {str(stride): correlations[stride].mean() for stride in sorted(correlations)[: method.levels]}
    own = correlations[seen.stride]
    typical = int(np.abs(own - own.mean()).argmin())
    figure, axes = _panels(seen, "ABC;DEE")
    for axis, feat, name in ((axes[1], seen.feat_t, "teacher"), (axes[2], seen.feat_s, "student")):
        title, bar = f"{name}, channel {typical}\nstandardised", "deviations from the mean" if name == "student" else None
        draw_map(axis, standardise(feat)[0, typical], title, limits=(-3, 3), colours=SIGNED, bar=bar)
    colour = sns.color_palette(PALETTE)[0]
    axes[3].bar(list(by_level), list(by_level.values()), color=colour)
    axes[3].set(title="correlation", xlabel="stride", ylim=(min(0.0, *by_level.values()), 1))
    axes[4].bar(range(len(own)), np.sort(own)[::-1], width=1.0, color=colour)
    axes[4].set(title=f"its channels, stride {seen.stride}", xlabel="channel, in order")
    words = ", ".join(f"{stride}: {value:.2f}" for stride, value in by_level.items())
    return described(
        figure,
        "One channel of teacher and student, standardised, as heat maps; bars of the correlation of student and teacher: its mean "
        f"over the channels, by stride ({words}), and that of each channel.",
    )


@draw.register
def _crosskd(method: hyper.CrossKD, seen: Scene) -> Figure:
    if not seen.scores:
        raise StudyError("CrossKD needs two dense heads of one type: there is nothing to draw for these networks")
    figure, axes = _panels(seen, "ABCD")
    _on_one_scale(axes[1:], seen.scores, "highest class score")
    words = ", ".join(f"{name} {one.max().item():.2f}" for name, one in seen.scores.items())
    return described(
        figure,
        "The highest class score at each position, as heat maps: of the teacher, of the student, and of the student's features "
        f"that go on through the teacher's head. The highest of each: {words}.",
    )


@draw.register
def _mgd(method: hyper.MGD, seen: Scene) -> Figure:
    hidden = random_mask(seen.feat_t, ratio=method.ratio, generator=_seeded())
    figure, axes = _panels(seen, "ABCD")
    return _masked(figure, axes[1:], seen, hidden, WHERE["random"])


@draw.register
def _amd(method: hyper.AMD, seen: Scene) -> Figure:
    figure, axes = _panels(seen, "ABC;DE.")
    draw_map(axes[1], spatial_attention(seen.feat_t, tau=method.tau)[0], "teacher's attention", bar="1 = mean")
    hidden = amd_mask(seen.feat_t, **method.masking, generator=_seeded())
    return _masked(figure, axes[2:], seen, hidden, WHERE[method.hide])


def _masked(figure: Figure, axes: Sequence[Axes], seen: Scene, hidden: Tensor, where: str) -> Figure:
    """The image with what is hidden, what is left of the student's features, and the teacher's, which must be rebuilt."""
    size = magnitude(seen.feat_t)
    share, held = hidden.float().mean().item(), (size[hidden[0, 0]].sum() / size.sum()).item()
    draw_image(axes[0], covered(seen.image, hidden, seen.stride), f"hidden: {share:.0%}")
    draw_map(axes[1], magnitude(seen.feat_s).masked_fill(hidden[0, 0], torch.nan), "what is left")
    draw_map(axes[2], size, "the teacher's, to rebuild")
    return described(
        figure,
        f"An image on which {share:.0%} of the cells are hidden, {where}; the student's features without them, and the teacher's, "
        f"as heat maps. The hidden cells hold {held:.0%} of the magnitude of the teacher's features.",
    )


@draw.register
def _dmkd(method: hyper.DMKD, seen: Scene) -> Figure:
    """Also DFMSD's, which masks in the same way: a line for the image as it is, and for DFMSD one for each change."""
    images = {"as it is": (seen.image, seen.feat_t)} | (dict(seen.changed) if isinstance(method, hyper.DFMSD) else {})
    figure, axes = grid(len(images), 4, widths=(1.15, 1.15, 1.15, 2.3))
    words = []
    for (plain, attention, masked, channels), (name, (image, feat_t)) in zip(axes, images.items(), strict=True):
        draw_image(plain, displayed(image), name, boxes=seen.boxes if image is seen.image else None)
        hidden_sp, hidden_ch = dual_masks(feat_t, **method.masking, generator=_seeded())
        height, width = (-(-side // seen.stride) for side in image.shape[1:])
        heat = spatial_attention(feat_t, tau=method.tau)[0, :height, :width]
        draw_map(attention, heat, "spatial attention", bar="1 = mean")
        share_sp, share_ch = hidden_sp.float().mean().item(), hidden_ch.float().mean().item()
        draw_image(masked, covered(image, hidden_sp, seen.stride), f"hidden: {share_sp:.0%}")
        _channels(channels, channel_attention(feat_t, tau=method.tau)[0], hidden_ch[0, :, 0, 0])
        words.append(f"{name}: {share_sp:.0%} of the cells and {share_ch:.0%} of the channels")
    return described(
        figure,
        "The teacher's attention in space, as a heat map, and over channels, as bars, and an image with its hidden cells dark. "
        f"Hidden: {'; '.join(words)}.",
    )


def _channels(axis: Axes, attention: Tensor, hidden: Tensor) -> None:
    """Channels from high attention to low, with the hidden ones in another colour; both are ``(C,)``."""
    order = attention.argsort(descending=True)
    shades = sns.color_palette(PALETTE)
    axis.bar(range(len(order)), attention[order].numpy(), width=1.0, color=[shades[int(one)] for one in hidden[order]])
    for colour, label in zip(shades, ("kept", "hidden"), strict=False):
        axis.bar(0, 0, color=colour, label=label)
    axis.set(title="channel attention", xlabel="channel, in order of attention", ylabel="1 = mean", yscale="log")
    axis.legend(frameon=False)


def _panels(seen: Scene, layout: str) -> tuple[Figure, list[Axes]]:
    """Panels, a letter a cell and ``;`` between rows, of which the first shows the image with its boxes."""
    rows = layout.split(";")
    figure, by_letter = plt.subplot_mosaic(
        layout, figsize=(1.15 * PANEL * len(rows[0]), PANEL * len(rows) + 0.6), layout="constrained"
    )
    axes = [by_letter[letter] for letter in sorted(by_letter)]
    draw_image(axes[0], displayed(seen.image), "image", boxes=seen.boxes)
    return figure, axes


def _on_one_scale(
    axes: Sequence[Axes], maps: Mapping[str, Tensor], bar: str, lowest: float = 0.0, highest: float | None = None
) -> None:
    """Maps by their titles, from ``lowest`` to the highest of all, with a bar of the colours under the last."""
    top = max(one.max().item() for one in maps.values()) if highest is None else highest
    for place, (axis, (title, one)) in enumerate(zip(axes, maps.items(), strict=False), start=1):
        draw_map(axis, one, title, limits=(lowest, top), bar=bar if place == len(maps) else None)


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(SEED)
