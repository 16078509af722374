"""Levels of two pyramids matched."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dfmsd import levels
from dfmsd.errors import StudyError
from tests.fixtures_detectors import detector

TWO_STAGE, ONE_STAGE = (4, 8, 16, 32, 64), (8, 16, 32, 64, 128)


@pytest.mark.parametrize(
    ("name", "strides"),
    [("retinanet_r50", ONE_STAGE), ("fcos_r50", ONE_STAGE), ("gfl_r101", ONE_STAGE), ("faster_rcnn_r50", TWO_STAGE)],
)
def test_a_pyramid_is_measured_and_leaves_no_trace(name: str, strides: tuple[int, ...]) -> None:
    network = copy.deepcopy(detector(name)).train()
    before, generator = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    assert levels.strides(network) == strides
    assert {level.channels for level in levels.pyramid(network)} == {32}
    assert network.training and network.neck.training
    assert torch.equal(generator, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    with torch.no_grad():
        feats = network.extract_feat(torch.zeros(1, 3, 128, 256))
    assert [tuple(feat.shape[2:]) for feat in feats] == [(128 // s, 256 // s) for s in strides]


class Some(nn.Module):
    """A detector whose features are what a function makes of an image."""

    def __init__(self, extract_feat: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.extract_feat = extract_feat


def test_an_image_that_is_too_small_is_tried_larger() -> None:
    """SSD's last convolutions have no padding: they want an image of 300 pixels."""
    seen: list[int] = []

    def extract_feat(image: Tensor) -> list[Tensor]:
        seen.append(image.shape[2])
        return [nn.functional.conv2d(image, torch.ones(4, 3, 300, 300), stride=170)]

    assert levels.pyramid(Some(extract_feat)) == (levels.Level(stride=213, channels=4),)
    assert seen == [256, 640]


@pytest.mark.parametrize(
    ("extract_feat", "reason"),
    [
        (lambda image: image[0], "it gives no list of maps"),
        (lambda image: [], "it gives no list of maps"),
        (lambda image: [image[0]], "it gives no list of maps"),
        (lambda image: 1 / 0, "division by zero"),
        (None, "'NoneType' object is not callable"),
    ],
)
def test_what_has_no_levels_is_refused_in_a_line(extract_feat: Any, reason: str) -> None:
    with pytest.raises(StudyError, match=f"^Some has no levels to compare: .* of 640 pixels: .*{reason}.*$"):
        levels.pyramid(Some(extract_feat))


def test_by_stride_only_common_levels_meet() -> None:
    assert levels.match(TWO_STAGE, ONE_STAGE, "stride") == [(1, 0), (2, 1), (3, 2), (4, 3)]
    assert levels.match(ONE_STAGE, TWO_STAGE, "stride") == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert levels.match(ONE_STAGE, ONE_STAGE, "stride") == [(i, i) for i in range(5)]
    assert levels.match((32, 16, 8), ONE_STAGE, "stride") == [(2, 0), (1, 1), (0, 2)], "YOLOv3 begins with the coarsest level"
    assert levels.match((4, 4), (4, 8), "stride") == [(1, 0)], "of two hourglasses the second is the result"


def test_by_index_finest_meets_finest() -> None:
    assert levels.match(TWO_STAGE, (8, 16, 32), "index") == [(0, 0), (1, 1), (2, 2)]
    assert levels.match((32, 16, 8), ONE_STAGE, "index") == [(2, 0), (1, 1), (0, 2)]


def test_pyramids_without_a_common_stride_are_refused() -> None:
    with pytest.raises(StudyError, match=r"no level in common: the student has strides \(4, 8\), the teacher \(16, 32\)"):
        levels.match((4, 8), (16, 32), "stride")


def test_another_matching_is_refused() -> None:
    with pytest.raises(StudyError, match=r"matching = 'strides': did you mean 'stride'"):
        levels.match((4, 8), (4, 8), "strides")  # type: ignore[arg-type]


def test_resizing_happens_only_where_sizes_differ() -> None:
    feat = torch.tensor([[[[0.0, 4.0]]]])
    assert levels.resized(feat, torch.zeros(1, 7, 1, 2)) is feat
    # Bilinear with pixel centres: the new pixels lie at -1/4, 1/4, 3/4 and 5/4 of the old ones.
    assert levels.resized(feat, torch.zeros(1, 7, 1, 4)).tolist() == [[[[0.0, 1.0, 3.0, 4.0]]]]
