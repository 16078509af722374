"""All methods side by side: what they looked at, what they gained, and what belongs to each."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from mmengine.registry import init_default_scope
from torch import Tensor

from dfmsd import hyper, losses
from dfmsd.distiller import Distiller
from dfmsd.errors import StudyError
from dfmsd.hyper import METHODS
from dfmsd.report import methods
from dfmsd.report.methods import Scene
from dfmsd.study import paths
from dfmsd.study.rows import LABELS
from tests.fixtures_detectors import checkpoint, network

IMAGE = (torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0)) * 255).round()
BOXES = torch.tensor([[17.0, 9.0, 30.0, 14.0]])  # two cells wide, one high; FGD's borders make it three by two


def levels(seed: int) -> dict[int, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {stride: torch.randn(1, 16, 64 // stride, 64 // stride, generator=generator) for stride in (8, 16, 32, 64)}


def scene(levels_s: Mapping[int, Tensor], levels_t: Mapping[int, Tensor]) -> Scene:
    return Scene(IMAGE, BOXES, 8, levels_s, levels_t)


def words(method: Any, seen: Scene) -> str:
    return str(methods.draw(method, seen).get_label())


@pytest.fixture(scope="module")
def distiller(tmp_path_factory: pytest.TempPathFactory) -> Distiller:
    init_default_scope("mmdet")
    file = checkpoint("retinanet_r101", tmp_path_factory.mktemp("methods"))
    built = Distiller(network("retinanet_r50"), network("retinanet_r101"), [{"type": "DFMSD"}], teacher_checkpoint=file)
    return built.eval()


@pytest.fixture(scope="module")
def seen(distiller: Distiller) -> Scene:
    return methods.scene(distiller, IMAGE, BOXES, 8)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_drawing_with_words_also_from_a_record(name: str, seen: Scene) -> None:
    again = Scene.from_json(json.loads(json.dumps(seen.to_json())))
    drawn = words(methods.specification(name, "smoke"), again)
    assert drawn.endswith(".") and len(drawn) > 80


def test_a_record_keeps_a_scene_to_half_precision(seen: Scene) -> None:
    again = Scene.from_json(seen.to_json())
    assert again.image.shape == seen.image.shape and torch.equal(again.boxes, seen.boxes)
    for kept, feats in ((again.levels_s, seen.levels_s), (again.levels_t, seen.levels_t)):
        assert kept.keys() == feats.keys()
        for stride, feat in feats.items():
            torch.testing.assert_close(kept[stride], feat, rtol=1e-3, atol=1e-4)


def test_a_stride_that_is_not_shared_is_refused(distiller: Distiller) -> None:
    with pytest.raises(StudyError, match="stride = 4: the levels that student and teacher share are 8, 16, 32, 64, 128"):
        methods.scene(distiller, IMAGE, BOXES, 4)


def test_an_error_inside_a_box_is_counted_there() -> None:
    levels_t = levels(1)
    feat_s = levels_t[8].clone()
    feat_s[..., 1, 2] += 3.0
    drawn = words(hyper.MSE(), scene({8: feat_s}, levels_t))
    assert "100% of the error lies in the cells that a box touches, which are 9% of all" in drawn  # 6 of 64


def test_equal_features_are_alike_in_every_respect() -> None:
    same = scene(levels(1), levels(1))
    assert "luminance 1.00, contrast 1.00, structure 1.00, similarity 1.00" in words(hyper.SSIM(), same)
    assert "8: 1.00, 16: 1.00, 32: 1.00, 64: 0.00" in words(hyper.PKD(), same), "one position has no correlation"
    opposite = scene({stride: -feat for stride, feat in levels(1).items()}, levels(1))
    assert "(8: -1.00, 16: -1.00)" in words(hyper.PKD(levels=2), opposite)


def test_even_features_have_even_attention() -> None:
    even = {8: torch.ones(1, 16, 8, 8)}
    assert "hold 9% of the teacher's attention" in words(hyper.FGD(), scene(levels(1), even))
    assert "the highest weight holds 9% of it" in words(hyper.FKD(), scene(even, even))


def test_attention_hides_more_of_the_teacher_than_chance() -> None:
    levels_t = {8: levels(1)[8] * torch.linspace(0, 4, 8)}
    held = {}
    for method in (hyper.MGD(ratio=0.5), hyper.AMD(ratio=0.5)):
        said = words(method, scene(levels(2), levels_t))
        held[method.type] = int(said.split("The hidden cells hold ")[1].split("%")[0])
    assert held["AMD"] > 70 > 60 > held["MGD"]


def test_dual_masks_hide_the_shares_that_they_are_told() -> None:
    drawn = words(hyper.DMKD(spatial_ratio=0.25, channel_ratio=0.75), scene(levels(1), levels(2)))
    assert "25% of the cells and 75% of the channels" in drawn


def test_a_student_that_is_its_teacher_predicts_the_same_across(tmp_path: Path) -> None:
    file, twin = checkpoint("retinanet_r101", tmp_path), network("retinanet_r101")
    pair = Distiller(twin, twin, [{"type": "MSE"}], teacher_checkpoint=file)
    (teacher,) = pair.teachers
    pair.student.load_state_dict(teacher.state_dict())
    seen = methods.scene(pair, IMAGE, BOXES, 8)
    with torch.no_grad():
        expected = teacher.bbox_head(teacher.extract_feat(pair.data_preprocessor.view([IMAGE])[0]))[0][0].sigmoid().amax(dim=1)[0]
    for scores in seen.scores.values():
        torch.testing.assert_close(scores, expected, rtol=0, atol=1e-4)
    assert len(seen.scores) == 3
    other = Distiller(network("fcos_r50"), twin, [{"type": "MSE"}], teacher_checkpoint=file)
    assert methods.scene(other, IMAGE, BOXES, 8).scores == {}, "heads of different type"


def test_costs_stand_beside_needs_for_every_machine() -> None:
    costs = pd.DataFrame(
        {"row": ["MGD", "MGD"], "metric": "mse ratio", "size": "P3", "beside": ["one", "two"], "value": [2.0, 3.0]}
        | {"stale": [False, True]}
    )
    found = methods.needs(pd.DataFrame(), costs)
    assert list(found.index) == [LABELS[name] for name in METHODS]
    assert found.loc["MGD", ["loss, × MSE, P3, one", "loss, × MSE, P3, two, stale"]].tolist() == [2.0, 3.0]


def documented(file: Path) -> set[str]:
    return set(re.findall(r"^\.\. auto\w+:: (\S+)$", file.read_text(), re.MULTILINE))


def test_all_that_the_losses_export_is_documented_once() -> None:
    pages = [documented(file) for file in sorted((paths.ROOT / "book" / "methods").glob("*.md"))]
    found = [name for page in pages for name in page if name.startswith("dfmsd.losses.")]
    assert sorted(set(found)) == sorted(found)
    exported = [value for value in vars(losses).values() if inspect.isfunction(value) or inspect.isclass(value)]
    public = {f"{value.__module__}.{value.__name__}" for value in exported}
    assert public <= set(found)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_has_all_that_belongs_to_it(name: str) -> None:
    """The five places of book/extend.md; a method that lacks a part is told which."""
    module = import_module(f"dfmsd.losses.{name}")
    assert re.search(r"arXiv \d{4}\.\d{5}|[A-Z]{2,} \d{4}", module.__doc__ or ""), (
        "its docstring names no source: arXiv id or venue"
    )
    keys = re.findall(r":cite:[pt]:`(\w+)", module.__doc__ or "")
    assert keys, "its docstring cites nothing"
    known = re.findall(r"^@\w+\{(\w+),", (paths.ROOT / "book" / "references.bib").read_text(), re.MULTILINE)
    assert set(keys) <= set(known), "book/references.bib lacks a source"
    own = [value for value in vars(module).values() if inspect.isfunction(value) and value.__module__ == module.__name__]
    assert any(".. math::" in (function.__doc__ or "") for function in own), "no function carries its equation"
    kind = METHODS[name].__name__
    page = documented(paths.ROOT / "book" / "methods" / f"{name}.md")
    assert {f"dfmsd.losses.{name}.{kind}", f"dfmsd.hyper.{kind}"} <= page
    assert (paths.ROOT / f"tests/losses/test_{name}.py").exists()
    weights = set(getattr(module, kind).WEIGHTS.values()) - {"adv"}
    for scale, content in yaml.safe_load((paths.PARAMS / "scales.yaml").read_text()).items():
        if "balance" in content:
            assert weights <= set(content["methods"].get(name, {})), f"no shares at {scale} in params/scales.yaml"
