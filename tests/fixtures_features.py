"""Pages of features, and records of them, for tests."""

from __future__ import annotations

import base64
import hashlib
import io
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch

from dfmsd.study import measured as observation
from dfmsd.study import paths, records
from dfmsd.study.measured import Interval, Looked, Observation, Origin, Pair, Shown, Values
from dfmsd.study.pages import FeaturesPage
from dfmsd.study.spec import RunSpec
from tests.fixtures_detectors import detector
from tests.fixtures_study import record

SIDES = {8: 8, 16: 4}
TWINS: tuple[dict[str, Any], ...] = ({"name": "one", "network": "fcos_r50"}, {"name": "other", "network": "fcos_r50", "seed": 1})


def page(**changes: Any) -> FeaturesPage:
    """Two FCOS and their teacher at the scale ``smoke``."""
    fields = {"page": "mine", "title": "Mine", "question": "Why?", "scale": "smoke", "view": "stages", "claim": "So."}
    return FeaturesPage.model_validate(fields | {"networks": TWINS, "teacher": "gfl_x101", "images": 4, "shown": 2} | changes)


def trained(looked: FeaturesPage) -> None:
    """Weights and records for a page's runs: those of the same random detector for all runs of one network."""
    for run in looked.runs().values():
        assert isinstance(run, RunSpec)
        folder = paths.runs() / run.key
        folder.mkdir(parents=True, exist_ok=True)
        stream = io.BytesIO()
        torch.save({"state_dict": detector(run.network.name).state_dict()}, stream)
        (folder / "student.pth").write_bytes(stream.getvalue())
        sha = hashlib.sha256(stream.getvalue()).hexdigest()
        records.write_atomic(folder / "record.json", records.dump(record(run).model_copy(update={"weights_sha256": sha})))


def interval(value: float) -> Interval:
    """An interval of width 0.1."""
    return Interval(value=value, low=round(value - 0.05, 4), high=round(value + 0.05, 4))


def seen(looked: FeaturesPage, *, maps: dict[str, float] | None = None, **changes: Any) -> Observation:
    """A made-up record of a page: every pair is alike by 0.5, or as ``maps`` says of its first network, on each level."""
    names, told = list(looked.runs()), maps or {}
    stream = io.BytesIO()
    plt.imsave(stream, np.full((64, 64, 3), 200, np.uint8), format="jpg")

    def per_image(value: float) -> dict[int, tuple[float | None, ...]]:
        return {stride: (value - 0.01, value, value + 0.01, None) for stride in SIDES}

    pairs = [
        Pair(
            first=first,
            second=second,
            maps=per_image(told.get(first, 0.5)),
            masks=per_image(0.7),
            channels={stride: interval(told.get(first, 0.5) / 2) for stride in SIDES},
            aligned={stride: interval(0.6) for stride in SIDES},
        )
        for first, second in looked.pairs()
    ]
    shown = [
        Shown(
            id=place,
            size=(64, 64),
            boxes=((8.0, 8.0, 30.0, 24.0),),
            jpeg=base64.b64encode(stream.getvalue()).decode(),
            maps={name: tuple(tuple(float(x * y) for x in range(8)) for y in range(8)) for name in names},
        )
        for place in range(looked.shown)
    ]
    flat = Values(mean=0.0, std=1.0, low=-2.0, high=2.0, density=(0.25, 0.25, 0.25, 0.25))
    fields = {
        "page": looked.page,
        "scale": looked.scale,
        "asked": looked.asked(),
        "networks": {name: Looked(key=run.key, weights="") for name, run in looked.runs().items()},
        "ratio": 0.65,
        "images": tuple(range(4)),
        "shown": tuple(shown),
        "pairs": tuple(pairs),
        "objects": {name: per_image(0.8) for name in names},
        "values": {name: dict.fromkeys(SIDES, flat) for name in names},
        "origin": Origin(
            commit="0123456789abcdef",
            versions={"torch": "2.13.0"},
            hardware="a processor",
            finished="2026-01-01T00:00:00+00:00",
            data_fingerprint="f" * 12,
            code_digest=observation.code_digest(),
        ),
    }
    return Observation.model_validate(fields | changes)
