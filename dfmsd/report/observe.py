"""Read off trained networks what a page of features shows."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import torch
from mmdet.models.detectors import BaseDetector
from torch import Tensor

from dfmsd import checkpoints
from dfmsd import levels as pyramids
from dfmsd.errors import StudyError
from dfmsd.hyper import DFMSD
from dfmsd.losses import Levels
from dfmsd.report import explore, likeness
from dfmsd.report.likeness import Alignment, Array, ChannelSums, Moments
from dfmsd.study import build, data, provenance
from dfmsd.study import measured as observation
from dfmsd.study import run as train
from dfmsd.study.data import DataRoot, Split
from dfmsd.study.measured import Interval, Observation, Pair, Shown, rounded
from dfmsd.study.pages import FeaturesPage
from dfmsd.study.spec import RunSpec, TeacherSpec

JPEG_QUALITY = 90
"""Of the images in a record."""

Key = tuple[str, int]
"""A network, or a pair of them, and a stride."""


def run(page: FeaturesPage) -> Path:
    """Observe, and keep the record with the published ones; returns its file.

    Raises:
        StudyError: see :func:`observe`.
    """
    observation.write(observe(page), page.observation())
    return page.observation()


@torch.no_grad()
def observe(page: FeaturesPage) -> Observation:
    """Look into the page's networks.

    All of them see the same images, each with its own normalisation. Numbers are taken over the first ``images`` validation images;
    an alignment is chosen on every other one of them and judged on the rest.

    Raises:
        StudyError: if weights are not here, the networks do not share the page's level, or there are too few images.
    """
    runs = page.runs()
    provenance.check_weights(page)
    student = next(run for run in runs.values() if isinstance(run, RunSpec))
    root = data.ensure(student.data)
    measured, shown = chosen(root.val, page.images, page.shown)
    networks = {name: Network.of(run, root) for name, run in runs.items()}
    strides = _shared(page, student, networks)
    first, second = _Measures(page.pairs(), strides), _Again()
    for place, (_, levels, boxes) in enumerate(_seen(student, networks, strides, measured)):
        first.add(levels, boxes, fitting=place % 2 == 0)
    # Bins and alignments are known only now.
    second.begin(first)
    for place, (_, levels, _) in enumerate(_seen(student, networks, strides, measured)):
        second.add(levels, judged=place % 2 == 1)
    ids = provenance.image_ids(root.val)
    own = student.data.source == "shapes"
    drawn = [
        _drawn(ids[index], picture, {name: levels[page.stride] for name, levels in found.items()}, own)
        for index, (picture, found, _) in zip(shown, _seen(student, networks, strides, shown), strict=True)
    ]
    return Observation(
        page=page.page,
        scale=page.scale,
        asked=page.asked(),
        networks=provenance.looked(page),
        ratio=RATIO,
        images=tuple(ids[index] for index in measured),
        shown=tuple(drawn),
        pairs=tuple(_pair(pair, strides, first, second) for pair in page.pairs()),
        objects={name: {stride: tuple(first.objects[name, stride]) for stride in strides} for name in runs},
        values={name: {stride: second.values(name, stride, first) for stride in strides} for name in runs},
        origin=provenance.origin(page, root),
    )


RATIO = DFMSD().spatial_ratio
"""Share of the positions that a mask hides: that of a one-stage student, for all networks alike."""


def chosen(split: Split, images: int, shown: int) -> tuple[list[int], list[int]]:
    """Which images are measured and which are drawn, by their place in the split.

    Measured are the first ones. Drawn are the first of those with an object of each of COCO's size classes; where there are too
    few, those with objects of two sizes follow, and so on.

    Raises:
        StudyError: if the split has fewer images than are to be drawn.
    """
    content = json.loads(split.annotations.read_text())
    sizes: dict[int, set[str]] = defaultdict(set)
    for item in content["annotations"]:
        sizes[item["image_id"]].add(data.size_class(item["area"]))
    classes = [len(sizes[image["id"]]) for image in content["images"]]
    if shown > len(classes):
        raise StudyError(f"shown = {shown}: there are only {len(classes)} validation images")
    order = sorted(range(len(classes)), key=lambda place: (-classes[place], place))
    return list(range(min(images, len(classes)))), sorted(order[:shown])


@dataclass(frozen=True)
class Network:
    """A trained network that only looks."""

    detector: BaseDetector
    strides: tuple[int, ...]

    @classmethod
    def of(cls, run: RunSpec | TeacherSpec, root: DataRoot) -> Network:
        """The network of a run with its weights."""
        # mmengine tells where it loads weights from, and mmdet of what it has renamed.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            detector = build.built(run.network, len(root.classes))
            checkpoints.load(detector, train.weights(run))
        return cls(detector.eval().to("cuda" if torch.cuda.is_available() else "cpu"), pyramids.strides(detector))

    def levels(self, image: Tensor) -> Levels:
        """The maps of an image ``(3, H, W)`` in [0, 255], by stride, without the cells that pad it."""
        views = self.detector.data_preprocessor({"inputs": [image], "data_samples": None}, False)
        feats = self.detector.extract_feat(views["inputs"])
        height, width = image.shape[1:]
        cut = zip(self.strides, feats, strict=True)
        return {stride: feat[:, :, : -(-height // stride), : -(-width // stride)].float() for stride, feat in cut}


def _shared(page: FeaturesPage, student: RunSpec, networks: Mapping[str, Network]) -> list[int]:
    """The levels that all networks have and that are large enough to correlate."""
    common = set.intersection(*(set(network.strides) for network in networks.values()))
    strides = sorted(stride for stride in common if min(student.image_size) // stride >= explore.SMALLEST)
    if page.stride not in strides:
        raise StudyError(f"page {page.page}: stride = {page.stride}: the networks share {', '.join(map(str, strides)) or 'none'}")
    return strides


def _seen(
    student: RunSpec, networks: Mapping[str, Network], strides: Sequence[int], places: Sequence[int]
) -> Iterator[tuple[explore.Picture, dict[str, Levels], Tensor]]:
    for picture in explore.pictures(student, places):
        found = {name: network.levels(picture.image) for name, network in networks.items()}
        yield picture, {name: {stride: levels[stride] for stride in strides} for name, levels in found.items()}, picture.boxes


@dataclass
class _Measures:
    """What one look at all images gives."""

    pairs: list[tuple[str, str]]
    strides: list[int]
    maps: dict[tuple[str, str, int], list[float | None]] = field(default_factory=lambda: defaultdict(list))
    masks: dict[tuple[str, str, int], list[float]] = field(default_factory=lambda: defaultdict(list))
    objects: dict[Key, list[float | None]] = field(default_factory=lambda: defaultdict(list))
    moments: dict[Key, Moments] = field(default_factory=lambda: defaultdict(Moments))
    channels: dict[tuple[str, str, int], ChannelSums] = field(default_factory=lambda: defaultdict(ChannelSums))
    fits: dict[tuple[str, str, int], Alignment] = field(default_factory=lambda: defaultdict(Alignment))

    def add(self, levels: Mapping[str, Levels], boxes: Tensor, *, fitting: bool) -> None:
        """Count an image in."""
        for stride in self.strides:
            feats = {name: found[stride] for name, found in levels.items()}
            maps = {name: likeness.magnitude(feat).cpu() for name, feat in feats.items()}
            for name, feat in feats.items():
                inside = likeness.touched(boxes, stride=stride, size=(feat.shape[2], feat.shape[3]))
                self.objects[name, stride].append(likeness.objectness(maps[name], inside))
                self.moments[name, stride].add(feat)
            for s, t in self.pairs:
                self.maps[s, t, stride].append(likeness.map_correlation(maps[s], maps[t]))
                self.masks[s, t, stride].append(likeness.mask_agreement(maps[s], maps[t], ratio=RATIO))
                if feats[s].shape == feats[t].shape:
                    self.channels[s, t, stride].add(feats[s], feats[t])
                if fitting:
                    self.fits[s, t, stride].add(feats[s], feats[t])


@dataclass
class _Again:
    """What a second look gives, once bins and alignments are known."""

    bins: dict[int, Array] = field(default_factory=dict)
    counts: dict[Key, Array] = field(default_factory=dict)
    weights: dict[tuple[str, str, int], Tensor] = field(default_factory=dict)
    aligned: dict[tuple[str, str, int], ChannelSums] = field(default_factory=lambda: defaultdict(ChannelSums))

    def begin(self, first: _Measures) -> None:
        """Choose them."""
        for stride in first.strides:
            self.bins[stride] = likeness.edges([found for (_, own), found in first.moments.items() if own == stride])
        self.weights = {key: fit.solve() for key, fit in first.fits.items()}

    def add(self, levels: Mapping[str, Levels], *, judged: bool) -> None:
        """Count an image in."""
        for name, found in levels.items():
            for stride, feat in found.items():
                self.counts[name, stride] = self.counts.get((name, stride), 0.0) + likeness.counted(feat, self.bins[stride])
        for (s, t, stride), weights in self.weights.items() if judged else ():
            self.aligned[s, t, stride].add(likeness.align(levels[s][stride], weights), levels[t][stride])

    def values(self, name: str, stride: int, first: _Measures) -> observation.Values:
        """The distribution of a level."""
        return likeness.values(self.counts[name, stride], self.bins[stride], first.moments[name, stride])


def _pair(pair: tuple[str, str], strides: Sequence[int], first: _Measures, second: _Again) -> Pair:
    def intervals(found: Mapping[tuple[str, str, int], ChannelSums]) -> dict[int, Interval]:
        return {stride: found[*pair, stride].interval() for stride in strides if (*pair, stride) in found}

    return Pair(
        first=pair[0],
        second=pair[1],
        maps={stride: tuple(first.maps[*pair, stride]) for stride in strides},
        masks={stride: tuple(first.masks[*pair, stride]) for stride in strides},
        channels=intervals(first.channels),
        aligned=intervals(second.aligned),
    )


def _drawn(identity: int, picture: explore.Picture, feats: Mapping[str, Tensor], own: bool) -> Shown:
    height, width = picture.image.shape[1:]
    jpeg = ""
    if own:
        pixels = picture.image.permute(1, 2, 0).contiguous().numpy()
        jpeg = base64.b64encode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()).decode()
    maps = {name: likeness.magnitude(feat).cpu().tolist() for name, feat in feats.items()}
    return Shown(
        id=identity,
        size=(height, width),
        boxes=tuple((rounded(x1), rounded(y1), rounded(x2), rounded(y2)) for x1, y1, x2, y2 in picture.boxes.tolist()),
        jpeg=jpeg,
        maps={name: tuple(tuple(map(rounded, row)) for row in rows) for name, rows in maps.items()},
    )
