"""The zoo's rows as specifications."""

from __future__ import annotations

import re

import pytest

from dfmsd import zoo
from dfmsd.errors import StudyError

TABLE03 = {"retinanet_r50", "retinanet_r101", "retinanet_x101", "gfl_r101", "gfl_x101", "fcos_r50", "faster_rcnn_r50"}


def test_table_3_is_in_the_zoo() -> None:
    assert set(zoo.names()) >= TABLE03


@pytest.mark.parametrize("name", zoo.names())
def test_a_row_has_everything(name: str) -> None:
    weights = zoo.weights(name)
    assert weights.url.startswith("https://")
    assert re.fullmatch(r"[0-9a-f]{8}", weights.sha256_prefix)
    assert 30 < weights.ap < 60
    assert zoo.label(name).split()[-1] == name.rpartition("_")[2].upper()
    family = "two_stage" if "rcnn" in name else "one_stage"
    assert zoo.network(name, "mini").kind == family


@pytest.mark.parametrize("name", zoo.names())
def test_the_papers_own_architectures_are_unchanged_at_full_scale(name: str) -> None:
    """On generated data they start from scratch, with nothing frozen; depth and width are the paper's there, too."""
    assert zoo.network(name, "coco").overrides == {}
    scratch = zoo.network(name, "gpu").overrides
    assert set(scratch) == {"model.backbone"}
    assert set(scratch["model.backbone"]) == {"frozen_stages", "norm_eval", "init_cfg", "norm_cfg"}
    assert zoo.network(name, "mini").overrides


def test_teachers_are_stronger_on_coco_in_the_order_of_the_paper() -> None:
    for family in ("retinanet", "gfl"):
        assert zoo.weights(f"{family}_r101").ap < zoo.weights(f"{family}_x101").ap


@pytest.mark.parametrize(
    ("name", "hint"), [("gfl_r10", "gfl_r101"), ("faster_rcnn_50", "faster_rcnn_r50"), ("retinanet", "retinanet_")]
)
def test_an_unknown_detector_suggests_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(StudyError, match=f"unknown detector '{name}': did you mean '{hint}"):
        zoo.network(name, "mini")
