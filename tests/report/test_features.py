"""How alike features are: every number against one worked out by hand, and once from training to the frame."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor

from dfmsd import study
from dfmsd.errors import StudyError
from dfmsd.losses import standardise
from dfmsd.report import canvas, features
from dfmsd.study import ensure, records
from dfmsd.study.data import Split
from dfmsd.study.pages.networks import FeaturesPage
from tests.fixtures_detectors import detector

MAP = torch.tensor([[1.0, 2.0], [3.0, 6.0]])


def feats(seed: int, channels: int = 3, side: int = 5) -> Tensor:
    return torch.randn(1, channels, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (5 * MAP + 2, 1.0),
        (-MAP, -1.0),
        (torch.full((2, 2), 1e6), float("nan")),
        # Centred: (-2, -1, 0, 3) and (1, -1, -1, 1): products -2 + 1 + 0 + 3 = 2, squares 14 and 4.
        (torch.tensor([[2.0, 0.0], [0.0, 2.0]]), 2 / 56**0.5),
    ],
)
def test_correlation_of_maps(other: Tensor, expected: float) -> None:
    assert features.map_correlation(MAP, other) == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_masks_agree_by_the_share_of_cells_that_both_hide() -> None:
    reverse = torch.tensor([[6.0, 3.0], [2.0, 1.0]])
    assert features.mask_agreement(MAP, MAP, ratio=0.5) == 1.0
    assert features.mask_agreement(MAP, reverse, ratio=0.5) == 0.0
    assert features.mask_agreement(MAP, reverse, ratio=0.75) == pytest.approx(2 / 3)


def test_objectness_is_the_chance_that_an_object_stands_out() -> None:
    inside = torch.tensor([[False, True], [False, True]])
    # 2 and 6 inside, 1 and 3 outside: 2 > 1, 6 > 1, 6 > 3.
    assert features.objectness(MAP, inside) == 0.75
    assert features.objectness(torch.ones(2, 2), inside) == 0.5
    assert features.objectness(-MAP, inside) == 0.25
    assert features.objectness(MAP.exp(), inside) == 0.75, "an increasing function changes nothing"
    assert np.isnan(features.objectness(MAP, torch.ones(2, 2, dtype=torch.bool)))
    assert np.isnan(features.objectness(MAP, torch.zeros(2, 2, dtype=torch.bool)))


@pytest.mark.parametrize(("factor", "expected"), [(3.0, 1.0), (-1.0, -1.0), (0.0, 0.0)])
def test_channels_correlate_with_themselves(factor: float, expected: float) -> None:
    sums = sum(features.channel_sums(factor * feats(seed) + 7, feats(seed)) for seed in range(4))
    assert_allclose(features.channel_correlations(sums), expected, atol=1e-9)


def test_channel_correlation_is_that_of_equation_5_over_all_images() -> None:
    feat_s, feat_t = (torch.cat([feats(seed) for seed in seeds]) for seeds in (range(4), range(4, 8)))
    product = (standardise(feat_s) * standardise(feat_t)).sum(dim=(0, 2, 3)) / (feat_t[:, 0].numel() - 1)
    sums = sum(features.channel_sums(s[None], t[None]) for s, t in zip(feat_s, feat_t, strict=True))
    assert_allclose(features.channel_correlations(sums), product, atol=1e-5)


def test_distance_counts_shifts_in_standard_deviations() -> None:
    values = np.random.default_rng(0).normal(5.0, 2.0, 1000)
    assert features.distance(values, values) == 0.0
    assert features.distance(values + 3, values) == pytest.approx(3 / values.std())
    assert features.distance(values, np.full(10, 5.0)) == pytest.approx(np.abs(values - 5).mean()), "a constant has no deviation"


def test_padding_is_no_part_of_a_level() -> None:
    images = [torch.rand(3, 64, 64) * 255, torch.rand(3, 51, 51) * 255]
    whole, crop = features.levels(detector("retinanet_r101"), images)
    assert list(whole) == [8, 16, 32, 64, 128]
    assert whole[8].shape[2:] == (8, 8)
    assert crop[8].shape[2:] == (7, 7)


def split(folder: Path, *areas: tuple[int, ...]) -> Split:
    """An annotation file of images with objects of such areas."""
    images = [{"id": 10 + place} for place in range(len(areas))]
    objects = [{"image_id": 10 + place, "area": area} for place, own in enumerate(areas) for area in own]
    file = folder / "val.json"
    file.write_text(json.dumps({"images": images, "annotations": objects}))
    return Split(file, folder)


SMALL, MEDIUM, LARGE = 10**2, 50**2, 100**2


def test_the_first_images_with_every_size_are_drawn(tmp_path: Path) -> None:
    found = split(tmp_path, (SMALL,), (SMALL, MEDIUM, LARGE), (), (LARGE, SMALL, SMALL, MEDIUM), (SMALL, MEDIUM, LARGE))
    assert features.chosen(found, 3, 2) == ([0, 1, 2], [1, 3])


def test_where_none_has_every_size_those_with_most_are_drawn(tmp_path: Path) -> None:
    found = split(tmp_path, (SMALL, SMALL), (), (SMALL, LARGE), (MEDIUM,))
    assert features.chosen(found, 9, 2) == ([0, 1, 2, 3], [0, 2])
    with pytest.raises(StudyError, match="shown = 5: there are only 4 validation images"):
        features.chosen(found, 9, 5)


ONE, SAME, OTHER = (
    {"name": name, "network": network} for name, network in (("one", "fcos_r50"), ("same", "fcos_r50"), ("other", "retinanet_r50"))
)


def page(**changes: Any) -> FeaturesPage:
    fields = {"page": "mine", "title": "Mine", "question": "Why?", "scale": "smoke", "view": "masks", "claim": "So."}
    return FeaturesPage.model_validate(fields | {"networks": (ONE, SAME, OTHER), "images": 4, "shown": 2} | changes)


def test_from_training_to_the_frame(folders: Path) -> None:
    found = page()
    study.make(found, measure=features.measure, jobs=2, quiet=True)
    frame, record = study.frame(found), records.measured(found)
    assert record is not None and records.stale_reasons(record, found) == []
    assert set(frame["level"]) == {8, 16} and set(frame["image"]) == {0, 1, 2, 3}
    pairs = frame[frame["beside"].notna()].groupby(["metric", "row", "beside", "kind"])["value"]
    # The same network twice is as two trainings that came out alike.
    assert pairs.get_group(("maps", "one", "same", "twins")).tolist() == [1.0] * 8
    assert pairs.get_group(("masks", "one", "same", "twins")).tolist() == [1.0] * 8
    assert pairs.get_group(("maps", "one", "other", "others")).max() < 0.999
    assert_allclose(pairs.get_group(("maps", "one", "other", "others")), pairs.get_group(("maps", "same", "other", "others")))
    objects = frame[frame["metric"] == "objects"].dropna(subset="value")
    assert set(objects["row"]) == {"one", "same", "other"} and objects["value"].between(0, 1).all()
    for shown in record.pictures["images"]:
        assert canvas.pixels(shown).shape == (3, 64, 64)
        assert {name: np.shape(map_) for name, map_ in shown["maps"].items()} == dict.fromkeys(("one", "same", "other"), (8, 8))

    taught = page(view="distribution", networks=(ONE, OTHER | {"like": "one"}), teacher="fcos_r50", stride=16)
    ensure.ensure(taught.chains(), jobs=2, quiet=True, weights=True)
    frame, pictures = features.measure(taught)
    values = frame[(frame["level"] == 16) & frame["image"].isna()].set_index(["metric", "row", "beside"])
    assert set(values.loc["distance", "kind"]) == {"taught", "like"} and (values.loc["distance", "value"] > 0).all()
    channels = values.loc["channels"]
    assert ((channels["low"] <= channels["value"]) & (channels["value"] <= channels["high"])).all()
    samples = pictures["values"]["one"]["16"]
    width = (samples["high"] - samples["low"]) / len(samples["density"])
    assert sum(samples["density"]) * width == pytest.approx(1.0)

    with pytest.raises(StudyError, match=r"page mine: stride = 4: the networks share 8, 16$"):
        features.measure(page(stride=4))
    with pytest.raises(StudyError, match="has not been trained here"):
        features.measure(page(networks=(ONE, {"name": "new", "network": "gfl_r50"})))
