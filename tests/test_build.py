"""Every row of the zoo builds from mmdet's own config, at every miniature scale; and a run's config says what its spec says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config

from dfmsd import build, scales, zoo
from dfmsd.data import DataRoot, Split
from dfmsd.errors import StudyError
from dfmsd.spec import NetworkSpec, RunSpec
from dfmsd.stages import Row, chain
from tests.fixtures_detectors import CLASSES, batch


def parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("name", zoo.names())
def test_a_slimmed_network_keeps_mmdets_types(name: str) -> None:
    spec = zoo.network(name, "mini")
    full = Config.fromfile(build.CONFIGS / spec.config).model
    slim = build.model_config(spec, CLASSES)
    assert slim.type == full.type
    for part in ("backbone", "neck", "rpn_head", "bbox_head", "roi_head"):
        assert (part in slim) == (part in full)
        if part in full:
            assert slim[part].type == full[part].type
    assert slim.data_preprocessor == full.data_preprocessor


@pytest.mark.parametrize("name", zoo.names())
def test_a_network_learns_and_predicts_at_smoke_and_builds_at_mini(name: str) -> None:
    torch.manual_seed(0)
    network = build.built(zoo.network(name, "smoke"), CLASSES)
    network.init_weights()
    data = network.data_preprocessor(batch(), True)
    losses, _ = network.parse_losses(network(**data, mode="loss"))
    losses.backward()
    assert losses.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())
    with torch.no_grad():
        predicted = network.eval()(**network.data_preprocessor(batch(), False), mode="predict")
    assert len(predicted) == 2
    assert all(sample.pred_instances.labels.lt(CLASSES).all() for sample in predicted)
    assert parameters(build.built(zoo.network(name, "mini"), CLASSES)) >= parameters(network)


def test_at_mini_a_teacher_is_larger_than_a_student_and_x101_than_r101() -> None:
    sizes = [
        parameters(build.built(zoo.network(name, "mini"), CLASSES))
        for name in ("retinanet_r50", "retinanet_r101", "retinanet_x101")
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[1]


def test_heads_have_the_data_sets_number_of_classes() -> None:
    one = build.built(zoo.network("retinanet_r50", "smoke"), 7)
    assert one.bbox_head.num_classes == 7
    two = build.built(zoo.network("faster_rcnn_r50", "smoke"), 7)
    assert two.roi_head.bbox_head.num_classes == 7
    assert two.roi_head.bbox_head.fc_cls.out_features == 8


def test_building_leaves_the_specification_as_it_is() -> None:
    """The zoo's rows are shared by a whole process, and keys are hashes of them."""
    row = Row(student="fcos_r50", teachers=(), recipe="baseline")
    spec = chain(row, scales.get("mini"), 0)[0]
    before = spec.model_dump_json()
    build.model_config(spec.network, 10)
    assert spec.model_dump_json() == before
    assert chain(row, scales.get("mini"), 0)[0].key == spec.key


def network(**changes: Any) -> NetworkSpec:
    plain = zoo.network("retinanet_r50", "coco").model_dump()
    return NetworkSpec(**(plain | changes))


def test_an_override_of_a_part_that_is_not_there() -> None:
    with pytest.raises(StudyError, match=r"retinanet_r50: the override 'model\.roi_head\.num' names 'roi_head', which retinanet/"):
        build.network_config(network(overrides={"model.roi_head.num": 3}))


def test_a_config_that_mmdet_does_not_have() -> None:
    with pytest.raises(StudyError, match=r"retinanet_r50: mmdet has no config 'retinanet/none\.py\'"):
        build.network_config(network(config="retinanet/none.py"))


def root(*, tune: bool = True) -> DataRoot:
    split = Split(annotations=Path("a.json"), images=Path("img"))
    fields: dict[str, Any] = {"train": split, "val": split, "tune": split if tune else None}
    return DataRoot(**fields, classes=("a", "b"), fingerprint="f")


def spec_of(recipe: str, scale: str = "mini", **options: Any) -> RunSpec:
    row = Row(student="fcos_r50", teachers=("gfl_r101", "gfl_x101"), recipe=recipe)
    return chain(row, scales.get(scale), 3, **options)[-1]


def test_a_runs_config_says_what_its_specification_says() -> None:
    spec = spec_of("dfmsd")
    config = build.run_config(
        spec, root(), Path("out"), teacher_checkpoints=["t.pth"], student_checkpoint="s.pth", ratios=Path("r.json")
    )
    model, steps = config.model, spec.schedule
    assert (model.type, model.teacher_checkpoint, model.student_checkpoint) == ("Distiller", ["t.pth"], "s.pth")
    assert model.student.bbox_head.num_classes == model.teacher[0].bbox_head.num_classes == 2
    assert model.enhance == {"theta": 0.5, "sigma": 0.08, "noise_probability": 0.3, "crop": 0.8, "ratios": "r.json"}
    assert config.train_cfg.max_epochs == steps.epochs
    assert config.param_scheduler[0].milestones == [round(steps.epochs * 2 / 3), round(steps.epochs * 11 / 12)]
    assert (config.optim_wrapper.optimizer.lr, config.optim_wrapper.clip_grad.max_norm) == (steps.lr, 35)
    assert (config.train_dataloader.batch_size, config.randomness.seed) == (steps.batch, 3)
    assert config.val_evaluator.format_only


def test_a_baselines_model_is_the_plain_detector() -> None:
    assert build.run_config(spec_of("baseline"), root(), Path("out")).model.type == "FCOS"


def test_no_split_to_tune_on() -> None:
    with pytest.raises(StudyError, match="the data of scale 'smoke' have no tune split"):
        build.run_config(spec_of("baseline", "smoke", split="tune"), root(tune=False), Path("out"))
