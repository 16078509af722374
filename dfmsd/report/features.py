"""The paper's Figs. 1, 4 and 8: how alike the features of trained networks are, and what they tell of objects.

Two networks that were trained apart have no channel in common: channel 5 of one has nothing to do with channel 5 of the other. What
can be compared of any two is *where* their features are large (:func:`map_correlation`, :func:`mask_agreement`). Channel by channel
(:func:`channel_correlations`) a comparison makes sense for a student that was taught to imitate its teacher channel by channel: by
SFA, Eq. (5), or by any method that subtracts features without a projection between them.

Deviations:
    The paper shows one image or two that its authors chose, and gives no number. Here a rule chooses the images, and every number
    is taken over many. How the paper's Fig. 8 pairs the channels of two networks is not said; the alignment that DFMSD trains is
    not part of an exported student, and where both have equally many channels there is none: then channels are paired by their
    place, as the loss pairs them.
"""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu, wasserstein_distance
from torch import Tensor

from dfmsd.errors import StudyError
from dfmsd.hyper import DFMSD
from dfmsd.levels import strides
from dfmsd.losses import top_mask
from dfmsd.report import images
from dfmsd.report.images import SEED, magnitude
from dfmsd.study import data
from dfmsd.study.data import Split
from dfmsd.study.pages.networks import FeaturesPage
from dfmsd.study.spec import RunSpec, TeacherSpec

if TYPE_CHECKING:
    from mmdet.models.detectors import BaseDetector  # who draws what was measured does not wait for mmdet

Array = NDArray[Any]
Levels = dict[int, Tensor]
"""Maps ``(1, C, H, W)`` by stride."""

RATIO = DFMSD().spatial_ratio
"""Share of the positions that a mask hides: that of a one-stage student, for all networks alike."""

SMALLEST = 4
"""Cells that a map must have on its shorter side to be compared."""

SAMPLES = 1000
"""Values of a level that are drawn from each image for its distribution."""

BINS, REACH = 60, 4.0
"""Of a drawn distribution, and how many standard deviations from the mean of the network that goes furthest they reach."""

RESAMPLES = 1000
"""Bootstrap resamples of the images."""

METRICS = {"masks": ("maps", "masks", "objects"), "stages": ("maps", "objects"), "distribution": ("maps", "channels", "distance")}
"""What a page of each view compares by."""


def map_correlation(map_s: Tensor, map_t: Tensor) -> float:
    """Pearson's correlation of two maps of magnitude ``(H, W)`` over positions; not a number where a map is constant.

    Example:
        >>> one = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> round(map_correlation(one, 2 * one + 1), 6), map_correlation(one, torch.ones(2, 2))
        (1.0, nan)
    """
    flat = torch.stack([map_s, map_t]).flatten(1).double().numpy()
    if (np.ptp(flat, axis=1) <= 1e-9 * np.abs(flat).max()).any():
        return float("nan")
    return float(np.corrcoef(flat)[0, 1])


def mask_agreement(map_s: Tensor, map_t: Tensor, *, ratio: float) -> float:
    """The share of the positions that one network's mask hides and the other's hides, too; ``ratio`` by chance.

    Masks hide the positions of highest attention, a share ``ratio`` of them, as DMKD's and DFMSD's spatial branch does.

    Example:
        >>> one = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
        >>> mask_agreement(one, one, ratio=0.5), mask_agreement(one, -one, ratio=0.5)
        (1.0, 0.0)
    """
    hidden_s, hidden_t = (top_mask(one[None], ratio=ratio) for one in (map_s, map_t))
    return (hidden_s & hidden_t).sum().item() / max(1, hidden_s.sum().item())


def objectness(map_: Tensor, inside: Tensor) -> float:
    """How well a map tells objects from background: the area under the ROC curve.

    It is :math:`P(E_{in} > E_{out}) + P(E_{in} = E_{out}) / 2` for one position inside a box and one outside, both drawn at random:
    0.5 is chance, 1 is perfect. It is the same for any increasing function of the map, so it is as true of the attention. Not a
    number where all positions are inside, or none is.

    Example:
        >>> objectness(torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([False, True, False, True]))
        0.75
    """
    within, without = map_[inside].numpy(), map_[~inside].numpy()
    if not within.size or not without.size:
        return float("nan")
    return float(mannwhitneyu(within, without, method="asymptotic").statistic) / (within.size * without.size)


def channel_sums(feat_s: Tensor, feat_t: Tensor) -> Array:
    """What :func:`channel_correlations` needs of an image: over its positions n and the sums of s, t, s², t², s t, ``(6, C)``."""
    s, t = (feat[0].flatten(1).double().numpy() for feat in (feat_s, feat_t))  # (C, H * W)
    sums: Array = np.stack([np.ones_like(s), s, t, s * s, t * t, s * t]).sum(axis=2)
    return sums


def channel_correlations(sums: Array) -> Array:
    r"""Pearson's correlation channel by channel, over positions and images: what SFA, Eq. (5), raises.

    Eq. (5) takes it over a batch, :math:`\mathrm{corr}_{bhw}(S_{bchw}, T_{bchw})`; here it runs over all images. For two networks
    trained apart it is about 0, however alike they are: their channels come in any order.

    Args:
        sums: :func:`channel_sums` added over images, ``(..., 6, C)``.

    Returns:
        ``(..., C)``; 0 for a constant channel.
    """
    n, s, t, ss, tt, st = np.moveaxis(sums, -2, 0)
    variances = (ss - s * s / n) * (tt - t * t / n)
    floor = 1e-12 * np.maximum(ss * tt, 1e-30)  # below is rounding
    return np.where(variances > floor, (st - s * t / n) / np.sqrt(np.maximum(variances, floor)), 0.0)


def distance(values_s: Array, values_t: Array) -> float:
    r"""The Wasserstein distance of two distributions, from a sample of each, in standard deviations of the second.

    It is :math:`W_1 = \int |P_S(x) - P_T(x)| dx / \sigma_T` with the cumulative distributions: a shift of all values by one
    standard deviation is a distance of 1.

    Example:
        >>> distance(np.array([2.0, 4.0]), np.array([0.0, 2.0]))
        2.0
    """
    return float(wasserstein_distance(values_s, values_t)) / float(values_t.std() or 1.0)


def detector(run: RunSpec | TeacherSpec) -> BaseDetector:
    """A network with its trained weights, in eval mode; these must be here, and those of the run's record."""
    from dfmsd import checkpoints
    from dfmsd.study import build
    from dfmsd.study import run as running

    place = running.weights(run)
    trained = isinstance(run, RunSpec)
    config = Path(place).with_name("student.py") if trained else build.network_config(run.network)
    file = place if trained else checkpoints.fetched(place)
    # mmdet tells of packages that it lacks and of what it has renamed, mmengine where it loads weights from.
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mmdet.apis import init_detector

        return init_detector(config, str(file), "random", "cuda" if torch.cuda.is_available() else "cpu")


@torch.no_grad()
def levels(network: BaseDetector, pictures: Sequence[Tensor]) -> list[Levels]:
    """A network's maps of some images ``(3, H, W)`` in [0, 255], by stride, without the cells that pad them."""
    feats = network.extract_feat(network.data_preprocessor({"inputs": list(pictures), "data_samples": None}, False)["inputs"])
    found: list[Levels] = [{} for _ in pictures]
    for (stride, feat), (place, image) in product(zip(strides(network), feats, strict=True), enumerate(pictures)):
        height, width = (-(-side // stride) for side in image.shape[1:])
        found[place][stride] = feat[place : place + 1, :, :height, :width].float().cpu()
    return found


def chosen(split: Split, measured: int, shown: int) -> tuple[list[int], list[int]]:
    """The places in the split of the images that are measured, and of those that are drawn.

    Measured are the first ones. Drawn are the first of those with an object of each of COCO's size classes; where there are too
    few, those with objects of two sizes follow, and so on.
    """
    content = json.loads(split.annotations.read_text())
    sizes: dict[int, set[str]] = defaultdict(set)
    for item in content["annotations"]:
        sizes[item["image_id"]].add(data.size_class(item["area"]))
    classes = [len(sizes[image["id"]]) for image in content["images"]]
    if shown > len(classes):
        raise StudyError(f"shown = {shown}: there are only {len(classes)} validation images")
    order = sorted(range(len(classes)), key=lambda place: (-classes[place], place))
    return list(range(min(measured, len(classes)))), sorted(order[:shown])


def measure(page: FeaturesPage) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Look into the page's networks; all of them see the same images, each with its own normalisation.

    Returns:
        A frame with a network as ``row``, the one that it is compared with as ``beside``, and the stride as ``level``. Metrics, as
        far as the page's view has them: ``maps`` (:func:`map_correlation`), ``masks`` (:func:`mask_agreement`) and ``objects``
        (:func:`objectness`, of a network alone), a line an image; ``channels`` (the mean of :func:`channel_correlations`, between
        the ends of its bootstrap interval over images) and ``distance`` (:func:`distance` of the values), a line over all images.
        ``kind`` tells pairs apart: ``twins`` are two trainings of one network, ``others`` are networks of different type,
        ``taught`` a network and the page's teacher, ``like`` a network and what it is said to be like. The pictures are the images
        that are drawn, with every network's map on the page's level, and the distributions of the values.

    Raises:
        StudyError: if weights are not here, the networks do not share the page's level, or there are too few images.
    """
    runs, wanted = page.runs(), METRICS[page.view]
    student = next(run for run in runs.values() if isinstance(run, RunSpec))
    measured, drawn = chosen(data.ensure(student.data).val, page.images, page.shown)
    networks = {name: detector(run) for name, run in runs.items()}
    common = _shared(page, student, networks)
    pairs = {(s, t): {"row": s, "beside": t, "kind": _kind(page, s, t)} for s, t in page.pairs()}
    lines: list[dict[str, Any]] = []
    shown: list[dict[str, Any]] = []
    sums: dict[tuple[str, str, int], list[Array]] = defaultdict(list)
    values: dict[tuple[str, int], list[Tensor]] = defaultdict(list)
    generator = torch.Generator().manual_seed(SEED)
    places = sorted({*measured, *drawn})
    for place, picture in zip(places, images.pictures(student, places), strict=True):
        seen = {name: levels(network, [picture.image])[0] for name, network in networks.items()}
        if place in drawn:
            maps = {name: magnitude(found[page.stride]) for name, found in seen.items()}
            kept = images.kept(picture.image, picture.boxes, own=student.data.source == "shapes", maps=maps)
            shown.append(kept | {"id": picture.id})
        for stride in common if place in measured else ():
            feats = {name: found[stride] for name, found in seen.items()}
            maps = {name: magnitude(feat) for name, feat in feats.items()}
            about = {"level": stride, "image": picture.id}
            if "objects" in wanted:
                for name, map_ in maps.items():
                    inside = images.touched(picture.boxes, stride=stride, size=map_.shape)
                    lines.append(about | {"row": name, "metric": "objects", "value": objectness(map_, inside)})
            for (s, t), pair in pairs.items():
                lines.append(pair | about | {"metric": "maps", "value": map_correlation(maps[s], maps[t])})
                if "masks" in wanted:
                    lines.append(pair | about | {"metric": "masks", "value": mask_agreement(maps[s], maps[t], ratio=RATIO)})
                if "channels" in wanted and feats[s].shape == feats[t].shape:
                    sums[s, t, stride].append(channel_sums(feats[s], feats[t]))
            if "distance" in wanted:
                for name, feat in feats.items():
                    values[name, stride].append(feat.flatten()[torch.randint(feat.numel(), (SAMPLES,), generator=generator)])
    for (s, t, stride), rows in sums.items():
        lines.append(pairs[s, t] | {"level": stride, "metric": "channels"} | _over_images(np.stack(rows)))
    samples = {key: torch.cat(found).double().numpy() for key, found in values.items()}
    for ((s, t), pair), stride in product(pairs.items() if samples else (), common):
        lines.append(pair | {"level": stride, "metric": "distance", "value": distance(samples[s, stride], samples[t, stride])})
    frame = pd.DataFrame(lines, columns=["row", "beside", "kind", "level", "image", "metric", "value", "low", "high"])
    return frame.astype({"image": "Int64"}), {"images": shown, "values": _densities(samples, list(runs), common)}


def _kind(page: FeaturesPage, first: str, second: str) -> str:
    if page.teacher is not None:
        return "taught" if second == page.TEACHER else "like"
    names = {look.name: look.network for look in page.networks}
    return "twins" if names[first] == names[second] else "others"


def _shared(page: FeaturesPage, student: RunSpec, networks: Mapping[str, BaseDetector]) -> list[int]:
    """The levels that all networks have and that are large enough to correlate."""
    common = set.intersection(*(set(strides(network)) for network in networks.values()))
    found = sorted(stride for stride in common if min(student.image_size) // stride >= SMALLEST)
    if page.stride not in found:
        raise StudyError(f"page {page.page}: stride = {page.stride}: the networks share {', '.join(map(str, found)) or 'none'}")
    return found


def _over_images(rows: Array) -> dict[str, float]:
    """The mean correlation over channels, and its bootstrap interval over images, from the sums of each image ``(N, 6, C)``."""
    count = len(rows)
    draws = np.random.default_rng(SEED).multinomial(count, [1 / count] * count, size=RESAMPLES)
    found = channel_correlations(np.tensordot(draws.astype(float), rows, axes=1)).mean(axis=1)
    low, high = np.quantile(found, [0.025, 0.975])
    return {"value": channel_correlations(rows.sum(axis=0)).mean(), "low": low, "high": high}


def _densities(samples: Mapping[tuple[str, int], Array], names: Sequence[str], common: Sequence[int]) -> dict[str, dict[str, Any]]:
    """Each network's distribution by level; bins are the same for all networks, and the outermost ones count what lies beyond."""
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    for stride in common if samples else ():
        own = {name: samples[name, stride] for name in names}
        low = min(one.mean() - REACH * (one.std() or 1.0) for one in own.values())
        high = max(one.mean() + REACH * (one.std() or 1.0) for one in own.values())
        for name, one in own.items():
            density, _ = np.histogram(one.clip(low, high), BINS, (low, high), density=True)
            found[name][str(stride)] = {"mean": one.mean(), "std": one.std(), "low": low, "high": high, "density": density}
    return dict(found)
