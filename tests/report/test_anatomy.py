"""Drawings of what methods look at: the numbers beside them are those of the features."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from dfmsd import hyper as methods
from dfmsd.distiller import Distiller
from dfmsd.errors import StudyError
from dfmsd.hyper import METHODS
from dfmsd.report import anatomy, explore
from dfmsd.report.anatomy import Scene
from tests.fixtures_detectors import checkpoint, detector, network

SHOWN = explore.Picture(
    image=torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0)) * 255,
    boxes=torch.tensor([[17.0, 9.0, 30.0, 14.0]]),  # two cells wide, one high; FGD's borders make it three by two
    names=("disc",),
)


def levels(seed: int) -> dict[int, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {stride: torch.randn(1, 16, 64 // stride, 64 // stride, generator=generator) for stride in (8, 16, 32, 64)}


def scene(levels_s: Mapping[int, Tensor], levels_t: Mapping[int, Tensor], distiller: Any = None) -> Scene:
    return Scene(distiller, SHOWN, 8, levels_s, levels_t)


@pytest.fixture(scope="module")
def distiller(tmp_path_factory: pytest.TempPathFactory) -> Distiller:
    file = checkpoint("retinanet_r101", tmp_path_factory.mktemp("anatomy"))
    built = Distiller(network("retinanet_r50"), network("retinanet_r101"), [{"type": "DFMSD"}], teacher_checkpoint=file)
    return built.eval()


@pytest.fixture(scope="module")
def seen(distiller: Distiller) -> Scene:
    return anatomy.scene(distiller, SHOWN, 8)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_drawing_with_words(name: str, seen: Scene) -> None:
    method = METHODS[name](layer=1) if name == "crosskd" else METHODS[name]()
    drawn = anatomy.draw(method, seen)
    assert drawn.svg.startswith("<?xml")
    assert drawn.alt.endswith(".") and len(drawn.alt) > 80


def test_a_method_without_a_drawing_says_where_to_write_one(seen: Scene) -> None:
    with pytest.raises(StudyError, match=r"Fancy has no drawing yet: write one in dfmsd/report/anatomy\.py"):
        anatomy.draw(type("Fancy", (), {})(), seen)


def test_a_stride_that_is_not_shared_is_refused(distiller: Distiller) -> None:
    with pytest.raises(StudyError, match="stride = 4: the levels that student and teacher share are 8, 16, 32, 64, 128"):
        anatomy.scene(distiller, SHOWN, 4)


def test_an_error_inside_a_box_is_counted_there() -> None:
    levels_t = levels(1)
    feat_s = levels_t[8].clone()
    feat_s[..., 1, 2] += 3.0
    alt = anatomy.draw(methods.MSE(), scene({8: feat_s}, levels_t)).alt
    assert "100% of the error lies in the cells that a box touches, which are 9% of all" in alt  # 6 of 64


def test_equal_features_are_alike_in_every_respect() -> None:
    same = scene(levels(1), levels(1))
    assert "luminance 1.00, contrast 1.00, structure 1.00, similarity 1.00" in anatomy.draw(methods.SSIM(), same).alt
    assert "8: 1.00, 16: 1.00, 32: 1.00, 64: 0.00" in anatomy.draw(methods.PKD(), same).alt, "one position has no correlation"
    opposite = scene({stride: -feat for stride, feat in levels(1).items()}, levels(1))
    assert "(8: -1.00, 16: -1.00)" in anatomy.draw(methods.PKD(levels=2), opposite).alt


def test_even_features_have_even_attention() -> None:
    even = scene(levels(1), {8: torch.ones(1, 16, 8, 8)})
    assert "hold 9% of the teacher's attention" in anatomy.draw(methods.FGD(), even).alt
    both = scene({8: torch.ones(1, 16, 8, 8)}, {8: torch.ones(1, 16, 8, 8)})
    assert "the highest weight holds 9% of it" in anatomy.draw(methods.FKD(), both).alt


def test_attention_hides_more_of_the_teacher_than_chance() -> None:
    levels_t = {8: levels(1)[8] * torch.linspace(0, 4, 8)}
    held = {}
    for method in (methods.MGD(ratio=0.5), methods.AMD(ratio=0.5)):
        alt = anatomy.draw(method, scene(levels(2), levels_t)).alt
        held[method.type] = int(alt.split("The hidden cells hold ")[1].split("%")[0])
    assert held["AMD"] > 70 > 60 > held["MGD"]


def test_dual_masks_hide_the_shares_that_they_are_told() -> None:
    alt = anatomy.draw(methods.DMKD(spatial_ratio=0.25, channel_ratio=0.75), scene(levels(1), levels(2))).alt
    assert "25% of the cells and 75% of the channels" in alt


def test_a_student_that_is_its_teacher_predicts_the_same_across() -> None:
    twin = detector("retinanet_r101")
    with torch.no_grad():
        feats = twin.extract_feat(SHOWN.image[None] / 255)
        expected = [cls.sigmoid().amax(dim=1)[0].numpy() for cls in twin.bbox_head(feats)[0]]
    found = dict(zip((8, 16, 32, 64, 128), feats, strict=True))
    pair = scene(found, found, SimpleNamespace(student=twin, teachers=(twin,)))
    with torch.no_grad():
        scores = anatomy.cross_scores(pair, layer=1, before_activation=False)
    for name in ("teacher", "student"):
        assert scores[name] == pytest.approx(expected[0], abs=1e-5)
    assert scores["cross"] == pytest.approx(expected[0], abs=1e-4)


def test_heads_of_two_types_do_not_cross(tmp_path: Path) -> None:
    pair = SimpleNamespace(student=detector("retinanet_r50"), teachers=(detector("gfl_r101"),))
    with pytest.raises(StudyError, match="must be of one type"):
        anatomy.cross_scores(scene(levels(1), levels(2), pair), layer=1, before_activation=False)
