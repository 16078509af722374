"""Levels of two pyramids matched."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dfmsd import levels
from dfmsd.errors import StudyError
from tests.fixtures_detectors import detector

TWO_STAGE, ONE_STAGE = (4, 8, 16, 32, 64), (8, 16, 32, 64, 128)


@pytest.mark.parametrize(
    ("name", "strides"),
    [("retinanet_r50", ONE_STAGE), ("fcos_r50", ONE_STAGE), ("gfl_r101", ONE_STAGE), ("faster_rcnn_r50", TWO_STAGE)],
)
def test_strides_are_those_of_the_features(name: str, strides: tuple[int, ...]) -> None:
    network = detector(name)
    assert levels.strides(network) == strides
    with torch.no_grad():
        feats = network.extract_feat(torch.zeros(1, 3, 128, 256))
    assert [tuple(feat.shape[2:]) for feat in feats] == [(128 // s, 256 // s) for s in strides]


def test_by_stride_only_common_levels_meet() -> None:
    assert levels.match(TWO_STAGE, ONE_STAGE, "stride") == [(1, 0), (2, 1), (3, 2), (4, 3)]
    assert levels.match(ONE_STAGE, TWO_STAGE, "stride") == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert levels.match(ONE_STAGE, ONE_STAGE, "stride") == [(i, i) for i in range(5)]


def test_by_index_first_meets_first() -> None:
    assert levels.match(TWO_STAGE, (8, 16, 32), "index") == [(0, 0), (1, 1), (2, 2)]


def test_pyramids_without_a_common_stride_are_refused() -> None:
    with pytest.raises(StudyError, match=r"no level in common: the student has strides \(4, 8\), the teacher \(16, 32\)"):
        levels.match((4, 8), (16, 32), "stride")


def test_a_detector_without_priors_is_refused() -> None:
    with pytest.raises(StudyError, match="Identity has no bbox_head or rpn_head with priors"):
        levels.strides(nn.Identity())


def test_resizing_happens_only_where_sizes_differ() -> None:
    feat = torch.tensor([[[[0.0, 4.0]]]])
    assert levels.resized(feat, torch.zeros(1, 7, 1, 2)) is feat
    # Bilinear with pixel centres: the new pixels lie at -1/4, 1/4, 3/4 and 5/4 of the old ones.
    assert levels.resized(feat, torch.zeros(1, 7, 1, 4)).tolist() == [[[[0.0, 1.0, 3.0, 4.0]]]]
