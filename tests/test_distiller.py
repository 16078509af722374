"""The distiller on real, tiny detectors; and in mmdet's own train script, without the study around it."""

from __future__ import annotations

import copy
import os
import runpy
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

import mmdet
import numpy as np
import pytest
import torch
from mmdet.apis import inference_detector, init_detector
from mmdet.datasets import CocoDataset
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import HOOKS, DefaultScope
from mmengine.runner import Runner
from torch import Tensor, nn

from dfmsd import checkpoints
from dfmsd.distiller import Distiller, Memory
from dfmsd.errors import StudyError
from dfmsd.report import families
from dfmsd.study import build, zoo
from tests.fixtures_detectors import batch, checkpoint, detector, network, project

ENHANCE = {"theta": 0.2, "noise_probability": 1.0}
PAIRS = [("retinanet_r50", "gfl_x101"), ("fcos_r50", "gfl_x101"), ("faster_rcnn_r50", "retinanet_r101"), ("gfl_r101", "fcos_r50")]


@pytest.fixture(autouse=True, scope="module")
def mmdets_scope() -> Iterator[None]:
    """Names mean mmdet's, as under its Runner."""
    with DefaultScope.overwrite_default_scope("mmdet"):
        yield


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


def distiller(weights: Path, student: str = "retinanet_r50", teacher: Any = "gfl_x101", *methods: Any, **options: Any) -> Distiller:
    """A student and a teacher of the zoo, or teachers with their checkpoints among the options."""
    torch.manual_seed(0)
    if isinstance(teacher, str):
        options = {"teacher_checkpoint": checkpoint(teacher, weights)} | options
        teacher = network(teacher)
    model = Distiller(network(student), teacher, methods or [{"type": "DFMSD"}], **options)
    model.init_weights()
    return model.train()


@pytest.fixture(scope="module")
def shared(weights: Path) -> Distiller:
    """A RetinaNet taught by a GFL with masking enhancement; not to be changed."""
    return distiller(weights, enhance=ENHANCE)


def losses(model: Distiller, seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return BaseModel.parse_losses(model, model(**model.data_preprocessor(batch(), True), mode="loss"))[1]  # type: ignore[no-any-return]


# The hidden teacher


def test_the_teacher_is_in_no_list_of_parts(shared: Distiller) -> None:
    named = [*dict(shared.named_parameters()), *dict(shared.named_buffers()), *shared.state_dict()]
    parts = {"backbone", "neck", "bbox_head", "distill"}
    assert {name.split(".")[0] for name in named} == parts | {"data_preprocessor"}
    assert {name.split(".")[0] for name in shared.state_dict()} == parts
    inside = {id(module) for module in shared.modules()}
    assert not inside & {id(module) for module in shared.teachers[0].modules()}


def test_the_teacher_follows_every_move(shared: Distiller) -> None:
    model = copy.deepcopy(shared)
    assert model.teachers[0] is not shared.teachers[0]
    model.double()
    assert {p.dtype for p in model.teachers[0].parameters()} == {torch.float64}
    model.to(torch.float32)
    assert {p.dtype for p in model.teachers[0].parameters()} == {torch.float32}
    model.to("meta")
    assert {p.device.type for p in model.teachers[0].parameters()} == {"meta"}
    assert {p.device.type for p in shared.teachers[0].parameters()} == {"cpu"}


def test_the_teacher_stays_in_eval_mode(shared: Distiller) -> None:
    for mode in (True, False, True):
        shared.train(mode)
        assert shared.student.training == mode
        assert not any(module.training for module in shared.teachers[0].modules())


def test_the_teacher_is_neither_trained_nor_changed(weights: Path) -> None:
    model = distiller(weights)
    before = copy.deepcopy(model.teachers[0].state_dict())
    losses(model)["loss"].backward()
    torch.optim.SGD(model.parameters(), 0.1).step()
    assert all(not p.requires_grad and p.grad is None for p in model.teachers[0].parameters())
    for name, value in model.teachers[0].state_dict().items():
        assert torch.equal(value, before[name]), name
        assert torch.equal(value, detector("gfl_x101").state_dict()[name]), name


# Several teachers, several methods, adversarial examples


def test_terms_of_several_teachers_are_averaged(weights: Path) -> None:
    names = ["gfl_x101", "retinanet_r101"]
    files = [checkpoint(name, weights) for name in names]
    method = {"type": "PKD", "levels": None}  # nothing learned, nothing drawn
    both = distiller(weights, "retinanet_r50", [network(name) for name in names], method, teacher_checkpoint=files)
    alone = [distiller(weights, "retinanet_r50", name, method) for name in names]
    for model in alone:
        model.student.load_state_dict(both.student.state_dict())
    expected = sum(losses(model)["loss_pkd_feat"] for model in alone) / 2
    torch.testing.assert_close(losses(both)["loss_pkd_feat"], expected)
    assert len(both.distill) == 2


def test_each_teacher_has_blocks_of_its_own_and_all_are_hidden(weights: Path) -> None:
    names = ["gfl_x101", "retinanet_r101"]
    model = distiller(
        weights,
        "retinanet_r50",
        [network(name) for name in names],
        {"type": "DMKD"},
        teacher_checkpoint=[checkpoint(name, weights) for name in names],
    )
    losses(model)["loss"].backward()
    assert all(parameter.grad is not None for parameter in model.distill.parameters())
    assert {name.split(".")[0] for name in model.state_dict()} == {"backbone", "neck", "bbox_head", "distill"}
    model.train()
    assert not any(module.training for teacher in model.teachers for module in teacher.modules())


def test_methods_add_their_terms(weights: Path) -> None:
    methods = {"type": "PKD", "alpha": 1.0}, {"type": "MSE", "alpha": 2.0}
    both = distiller(weights, "retinanet_r50", "gfl_x101", *methods, factors={"loss_pkd_feat": 3.0, "loss_mse_feat": 1.0})
    pkd = distiller(weights, "retinanet_r50", "gfl_x101", methods[0])
    pkd.student.load_state_dict(both.student.state_dict())
    found = losses(both)
    torch.testing.assert_close(found["loss_pkd_feat"], 3 * losses(pkd)["loss_pkd_feat"])
    terms = [value for name, value in found.items() if name.startswith("loss_") and value.ndim == 0]
    torch.testing.assert_close(found["loss"], torch.stack(terms).sum())


def test_adversarial_examples_reach_eq_8_as_both_networks_see_them(weights: Path) -> None:
    options = {"epsilon": 8 / 255, "step": 2 / 255, "steps": 2, "decay": 1.0, "resize": 0.9, "diversity": 0.5}
    method = {"type": "DFMSD", "adv": 1e-5}
    attacked = distiller(weights, "fcos_r50", "gfl_x101", method, adversarial=options)
    nothing = distiller(weights, "fcos_r50", "gfl_x101", method, adversarial=options | {"epsilon": 0.0})
    found, unchanged = losses(attacked), losses(nothing)
    assert found["loss_dfmsd_adv"] != unchanged["loss_dfmsd_adv"]
    views = nothing.data_preprocessor(batch(), True)
    with torch.no_grad():
        feats_s = nothing.student.extract_feat(views["inputs"])
        feats_t = nothing.teachers[0].extract_feat(views["inputs_t"][0])
    expected = 1e-5 * sum(((s - t) ** 2).sum() / 2 for s, t in zip(feats_s, feats_t, strict=True))
    assert unchanged["loss_dfmsd_adv"].item() == pytest.approx(float(expected), rel=0.02)  # its batch norm saw another batch
    found["loss"].backward()
    assert all(parameter.grad is None for parameter in attacked.teachers[0].parameters())


@pytest.mark.parametrize("teacher", ["mask_rcnn_swint", "cascade_mask_rcnn_r101", "reppoints_r101"])
def test_every_kind_of_teacher_can_be_attacked(weights: Path, teacher: str) -> None:
    """The data have no masks for a mask teacher's loss, and RepPoints' head returns something else in eval mode."""
    options = {"epsilon": 8 / 255, "step": 2 / 255, "steps": 1, "decay": 1.0, "resize": 0.9, "diversity": 0.0}
    model = distiller(weights, "retinanet_r50", teacher, {"type": "DFMSD", "adv": 1e-5}, adversarial=options)
    seen: list[torch.Tensor] = []
    model.student.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    assert losses(model)["loss_dfmsd_adv"] > 0
    plain, attacked = seen
    change = (attacked - plain).abs().max() * 57.12  # the smallest deviation by which a channel was divided
    assert 0 < change <= 2 + 1e-4
    assert not any(module.training for module in model.teachers[0].modules())


# Features


@pytest.mark.parametrize(("enhance", "passes"), [(None, 1), (ENHANCE, 2)])
def test_features_are_computed_once_for_each_set_of_images(weights: Path, enhance: Any, passes: int) -> None:
    model = distiller(weights, enhance=enhance)
    counts = dict.fromkeys(["student", "teacher", "head"], 0)

    def count(name: str) -> Any:
        return lambda *_: counts.update({name: counts[name] + 1})

    model.student.neck.register_forward_hook(count("student"))
    model.teachers[0].neck.register_forward_hook(count("teacher"))
    model.teachers[0].bbox_head.register_forward_hook(count("head"))
    losses(model)
    assert counts == {"student": passes, "teacher": passes, "head": 0}


@pytest.mark.parametrize("teacher", ["gfl_x101", "mask_rcnn_swint"])
def test_remembered_features_are_those_of_the_network_to_the_bit(weights: Path, teacher: str) -> None:
    """Batches that hold new images, known ones and flipped ones, in any order; the network sees each image once, alone."""
    plain, model = (distiller(weights, teacher=teacher, enhance=ENHANCE, remember=remember) for remember in (False, True))
    images = batch(images=6)
    for one in (plain, model):  # the last bits of a batch's features depend on the batch, on some machines
        one.teachers[0].extract_feat = one_at_a_time(one.teachers[0].extract_feat)
    sizes: list[int] = []
    model.teachers[0].neck.register_forward_hook(lambda _, __, feats: sizes.append(len(feats[0])))
    for seed, (places, flipped) in enumerate([((0, 1), 0), ((1, 2), 0), ((2, 0), 0), ((2, 0), 1), ((3, 4, 5), 0), ((5, 0, 3), 0)]):
        chosen: dict[str, Any] = {name: [copy.deepcopy(images[name][place]) for place in places] for name in images}
        for place in range(flipped):
            chosen["inputs"][place] = chosen["inputs"][place].flip(-1)
            chosen["data_samples"][place].set_metainfo({"flip": True, "flip_direction": "horizontal"})
        found = []
        for one in (plain, model):
            torch.manual_seed(seed)
            found.append(one.parse_losses(one(**one.data_preprocessor(copy.deepcopy(chosen), True), mode="loss"))[1])
        assert found[0].keys() == found[1].keys()
        assert all(torch.equal(found[0][name], found[1][name]) for name in found[0]), places
    # Seven images are new; every step has its own enhanced images, which are 14 in all.
    assert sizes == [1] * (7 + 14)
    assert len(model.remembered[0]) == 7  # type: ignore[index]
    assert model.state_dict().keys() == plain.state_dict().keys()


def one_at_a_time(network: Callable[[Tensor], Sequence[Tensor]]) -> Callable[[Tensor], list[Tensor]]:
    return lambda inputs: [torch.cat(level) for level in zip(*map(network, inputs.split(1)), strict=True)]


def test_remembered_features_are_those_of_a_batch_but_for_rounding(shared: Distiller) -> None:
    images, network = torch.rand(3, 3, 64, 64), shared.teachers[0].extract_feat
    for found, expected in zip(Memory()(network, images, range(3)), network(images), strict=True):
        torch.testing.assert_close(found, expected)


def test_what_is_remembered_does_not_depend_on_when_it_was_seen(shared: Distiller) -> None:
    """As after a resume: an image is met alone, in a batch of one, or among others."""
    images, network = torch.rand(3, 3, 64, 64), shared.teachers[0].extract_feat
    alone, among = Memory(), Memory()
    for place in range(3):
        alone(network, images[place : place + 1], [place])
    among(network, images, range(3))
    assert alone.keys() == among.keys()
    assert all(torch.equal(*pair) for key in alone for pair in zip(alone[key], among[key], strict=True))


@pytest.mark.parametrize("method", [{"type": "DMKD"}, {"type": "DFMSD", "beta": 0.0}], ids=str)
def test_a_method_that_compares_no_enhanced_images_spends_nothing_on_them(weights: Path, method: dict[str, Any]) -> None:
    model = distiller(weights, "retinanet_r50", "gfl_x101", method, enhance=ENHANCE)
    calls: list[int] = []
    model.student.neck.register_forward_hook(lambda *_: calls.append(1))
    losses(model)
    assert len(calls) == 1


def plain_error(model: Distiller, pairs: list[tuple[int, int]]) -> float:
    """Half the squared distance of the pairs' features, each network on its own view of the images."""
    views = model.data_preprocessor(batch(), True)
    with torch.no_grad():
        feats_s, feats_t = model.student.extract_feat(views["inputs"]), model.teachers[0].extract_feat(views["inputs_t"][0])
    resized = [nn.functional.interpolate(feats_s[s], feats_t[t].shape[2:], mode="bilinear") for s, t in pairs]
    return sum(float((s - feats_t[t]).double().square().sum()) / 2 for s, (_, t) in zip(resized, pairs, strict=True))


@pytest.mark.parametrize(
    ("student", "matching", "pairs"),
    [
        ("faster_rcnn_r50", "stride", [(1, 0), (2, 1), (3, 2), (4, 3)]),
        ("faster_rcnn_r50", "index", [(i, i) for i in range(5)]),
        ("fcos_r50", "stride", [(i, i) for i in range(5)]),
    ],
)
def test_levels_are_matched_and_seen_by_the_method(
    weights: Path, student: str, matching: str, pairs: list[tuple[int, int]]
) -> None:
    """MGD that hides nothing and generates nothing is the squared error of the matched features."""
    model = distiller(weights, student, "retinanet_x101", {"type": "MGD", "ratio": 0.0, "alpha": 1.0}, matching=matching)
    ((method,),) = model.methods_by_teacher
    for stride in method.strides:
        method.levels[str(stride)].generate = nn.Identity()  # type: ignore[union-attr, operator]
    for module in model.student.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    assert list(model.pairs[0].values()) == pairs
    assert losses(model)["loss_mgd_rec"].item() == pytest.approx(plain_error(model, pairs), rel=1e-4)


def test_the_papers_weights_depend_on_the_kind_of_student(weights: Path) -> None:
    methods = {"type": "MGD"}, {"type": "DMKD", "alpha": 3.0}
    (one,) = distiller(weights, "retinanet_r50", "gfl_x101", *methods).methods_by_teacher
    (two,) = distiller(weights, "faster_rcnn_r50", "gfl_x101", *methods).methods_by_teacher
    assert [one[0].weight("rec").item(), two[0].weight("rec").item()] == pytest.approx([2e-5, 5e-7])
    assert one[1].weight("rec").item() == two[1].weight("rec").item() == 3.0
    assert (one[0].spec.ratio, two[0].spec.ratio) == (0.65, 0.45)


# Training


@pytest.mark.parametrize(("student", "teacher"), PAIRS)
def test_losses_are_the_students_own_and_the_methods(weights: Path, student: str, teacher: str) -> None:
    model = distiller(weights, student, teacher, {"type": "MGD"}, {"type": "DFMSD"}, enhance=ENHANCE)
    found = losses(model)
    own = {name for name in found if not name.startswith(("loss_mgd_", "loss_dfmsd_"))} - {"loss"}
    reference = copy.deepcopy(model.student)
    torch.manual_seed(0)
    expected = reference(**reference.data_preprocessor(batch(), True), mode="loss")
    assert own == set(BaseModel.parse_losses(model, expected)[1]) - {"loss"}
    assert set(found) - own - {"loss"} == {"loss_mgd_rec", "loss_dfmsd_rec", "loss_dfmsd_sfa", "loss_dfmsd_aug"}
    assert all(value.isfinite() for value in found.values())
    total = sum(value.item() for name, value in found.items() if "loss" in name and name != "loss")
    assert found["loss"].item() == pytest.approx(total, rel=1e-5)


def test_enhanced_images_leave_no_trace_in_running_statistics(weights: Path) -> None:
    """What batch normalisation learns is the same with and without them, though the loss is not."""
    plain, enhanced = distiller(weights), distiller(weights, enhance=ENHANCE)
    norms = [m for m in enhanced.student.modules() if isinstance(m, nn.BatchNorm2d)]
    start = norms[0].running_mean.clone()  # type: ignore[union-attr]
    assert "loss_dfmsd_aug" in losses(enhanced)
    losses(plain)
    for (name, one), two in zip(plain.student.named_buffers(), enhanced.student.buffers(), strict=True):
        if "running" in name:
            assert torch.equal(one, two), name
    assert not torch.equal(start, norms[0].running_mean)  # type: ignore[arg-type]
    assert {norm.momentum for norm in norms} == {0.1}


def test_gradients_flow_through_the_second_pass_as_well(weights: Path) -> None:
    model = distiller(weights, enhance=ENHANCE)
    losses(model)["loss_dfmsd_aug"].backward()
    assert model.student.backbone.conv1.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in model.student.bbox_head.parameters())


def test_the_seed_decides_masks_and_enhancement(weights: Path) -> None:
    model = distiller(weights, "retinanet_r50", "gfl_x101", {"type": "MGD"}, {"type": "DFMSD"}, enhance=ENHANCE)
    for name in ("loss_mgd_rec", "loss_dfmsd_aug"):
        values = [losses(model, seed)[name].item() for seed in (1, 1, 2)]
        assert values[0] == values[1] != values[2]


def test_mixed_precision_is_close_to_float32(weights: Path) -> None:
    """The networks run in bfloat16, the methods in float32: within 5 %."""
    plain = losses(distiller(weights, enhance=ENHANCE))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = losses(distiller(weights, enhance=ENHANCE))
    for name in ("loss_dfmsd_rec", "loss_dfmsd_sfa", "loss_dfmsd_aug"):
        assert mixed[name].dtype == torch.float32
        assert mixed[name].item() == pytest.approx(plain[name].item(), rel=0.05)


# Where the student starts


def test_every_method_starts_from_the_baselines_student(weights: Path) -> None:
    torch.manual_seed(0)
    baseline = build.built(zoo.network("fcos_r50", "smoke"), 10)
    torch.manual_seed(1)
    baseline.init_weights()
    for method in ("MGD", "DMKD"):
        torch.manual_seed(0)
        model = Distiller(
            network("fcos_r50"), network("gfl_x101"), [{"type": method}], teacher_checkpoint=checkpoint("gfl_x101", weights)
        )
        torch.manual_seed(1)
        model.init_weights()
        for name, value in model.student.state_dict().items():
            assert torch.equal(value, baseline.state_dict()[name]), name


def test_a_stage_goes_on_with_the_student_before(weights: Path) -> None:
    model = distiller(weights, student_checkpoint=checkpoint("retinanet_r50", weights))
    for name, value in model.student.state_dict().items():
        assert torch.equal(value, detector("retinanet_r50").state_dict()[name]), name


def test_weights_of_mmdets_own_option_are_the_students(weights: Path) -> None:
    model = distiller(weights, init_cfg={"type": "Pretrained", "checkpoint": checkpoint("retinanet_r50", weights)})
    assert torch.equal(model.backbone.conv1.weight, detector("retinanet_r50").backbone.conv1.weight)


def test_inheriting_takes_the_teachers_neck_and_head(weights: Path) -> None:
    model = distiller(weights, "fcos_r50", "fcos_r101", inherit=True)
    for name, value in model.student.state_dict().items():
        same = torch.equal(value, detector("fcos_r101").state_dict()[name])
        assert same or name.startswith("backbone."), name
    assert not torch.equal(model.student.backbone.conv1.weight, model.teachers[0].backbone.conv1.weight)


# Errors


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher_checkpoint": None}, "the teacher has no weights: set teacher_checkpoint"),
        ({"teacher": [{"type": "RetinaNet"}] * 2}, "the teacher has no weights: set teacher_checkpoint"),
        ({"teacher_checkpoint": ["a.pth", "b.pth"]}, "teacher_checkpoint lists 2 files for 1 teachers: give one for each"),
        ({"teacher_checkpoint": "/nowhere/t.pth"}, "checkpoint /nowhere/t.pth does not exist"),
        ({"methods": [{"type": "DMKDD"}]}, "unknown method 'DMKDD': did you mean 'DMKD'?"),
        ({"methods": [{"type": "DMKD", "alhpa": 1.0}]}, "DMKD has no hyper-parameter 'alhpa': did you mean 'alpha'?"),
        (
            {"methods": [{"type": "MGD", "strides": (4,)}]},
            r"MGD: none of the strides \(4,\) is matched; matched are \[8, 16, 32, 64, 128\]",
        ),
        ({"methods": [{"type": "MGD"}, {"type": "MGD"}]}, "a method is listed twice: loss_mgd_rec"),
        (
            {"methods": []},
            r"the list of methods is empty, so nothing is distilled: name at least one, such as \[dict\(type='DFMSD'\)\]",
        ),
        ({"methods": {"type": "MGD"}}, r"methods = {'type': 'MGD'}: give a list of dicts"),
        ({"methods": "MGD"}, "methods = 'MGD': give a list of dicts"),
        ({"methods": None}, "methods = None: give a list of dicts"),
        ({"student_checkpoint": ["a.pth", "b.pth"]}, "student_checkpoint lists 2 files: give one"),
        ({"inherit": "no"}, "inherit = 'no': it must be True or False"),
        ({"adversarial": True}, r"adversarial = True: give a dict, such as dict\(epsilon=...\)"),
        ({"factors": [1.0]}, r"factors = \[1.0\]: give a dict with a number for each term"),
        ({"factors": {"loss_mgd_rec": float("nan")}}, "factors: loss_mgd_rec = nan: it must be a finite number"),
        ({"factors": {"loss_mgd_rec": "1"}}, "factors: loss_mgd_rec = '1': it must be a finite number"),
        (
            {"student": {"type": "RetinaNett", "data_preprocessor": {"type": "DetDataPreprocessor"}}},
            "the student cannot be built: .* mean 'RetinaNet'",
        ),
        ({"methods": ["MGD"]}, r"methods = \['MGD'\]: give a list of dicts"),
        ({"teacher": []}, "there is no teacher: give the path of its mmdet config, or its model dict"),
        ({"teacher": None}, "there is no teacher"),
        ({"student": {"cfg_path": "mmdet::a/b.py"}}, "give the path itself, student='mmdet::a/b.py'"),
        ({"teacher": {"cfg_path": "mmdet::a/b.py"}}, "give the path itself, teacher='mmdet::a/b.py'"),
        ({"student": None}, "student = None: give the path of an mmdet config"),
        ({"matching": "strides"}, "matching = 'strides': did you mean 'stride'"),
        ({"teachers": "a.py"}, "the distiller has no option 'teachers': did you mean 'teacher'"),
        ({"neck": {"type": "FPN"}}, "the distiller has no option 'neck'"),
        (
            {"backbone": {"type": "ResNet"}, "neck": {"type": "FPN"}, "data_preprocessor": {"type": "DetDataPreprocessor"}},
            r"has backbone, neck besides the distiller's options: .*; write _delete_=True into model=dict\(...\)",
        ),
        ({"student": {"type": "RetinaNet"}}, "the student's config has no data_preprocessor"),
        ({"teacher": {"type": "RetinaNet"}}, "the teacher's config has no data_preprocessor"),
    ],
)
def test_errors_in_plain_words(weights: Path, changes: dict[str, Any], message: str) -> None:
    arguments = {"student": network("retinanet_r50"), "teacher": network("gfl_x101"), "methods": [{"type": "MGD"}]}
    arguments["teacher_checkpoint"] = checkpoint("gfl_x101", weights)
    with pytest.raises(StudyError, match=message) as caught:
        Distiller(**(arguments | changes))
    assert "\n" not in str(caught.value)


def test_inheriting_from_another_kind_is_refused(weights: Path) -> None:
    with pytest.raises(StudyError, match="inherit: the teacher's neck does not fit the student; switch inherit off"):
        distiller(weights, "retinanet_r50", "gfl_x101", inherit=True)


def test_a_config_may_be_a_file_or_one_of_mmdets(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "student.py").write_text(f"model = {network('fcos_r50').to_dict()!r}")
    for student, kind in ((str(tmp_path / "student.py"), "FCOS"), ("mmdet::retinanet/retinanet_r50_fpn_1x_coco.py", "RetinaNet")):
        model = Distiller(student, network("gfl_x101"), [{"type": "MGD"}], teacher_checkpoint=checkpoint("gfl_x101", weights))
        assert type(model.student).__name__ == kind


def test_what_makes_other_maps_while_it_trains_is_refused(weights: Path) -> None:
    """TridentNet's branches are three images of each; a detector of somebody's may not ask for its features at all."""
    model = distiller(weights)
    loss = model.student.loss

    def tripled(inputs: Tensor, samples: Any) -> Any:
        return model.student.extract_feat(inputs.repeat(3, 1, 1, 1))

    for own, message in (
        (tripled, "RetinaNet makes maps of 6 images out of 2 while it trains"),
        (lambda *_: {}, "RetinaNet does not call its extract_feat for its loss"),
    ):
        model.student.loss = own
        with pytest.raises(StudyError, match=message):
            losses(model)
    model.student.loss = loss
    assert losses(model)["loss"].isfinite()


def test_a_teacher_of_masks_beside_boxes(weights: Path, tmp_path: Path) -> None:
    """CondInst's masks hang at the detector itself; they are neither asked for nor in the way."""
    config = families.model(families.FAMILIES["CondInst"])
    file = tmp_path / "condinst.pth"
    torch.save(MODELS.build(copy.deepcopy(config)).state_dict(), file)
    arguments: dict[str, Any] = {"methods": [{"type": "MSE"}], "teacher_checkpoint": str(file)}
    model = Distiller(network("retinanet_r50"), config, **arguments)
    assert losses(model)["loss_mse_feat"] > 0
    with pytest.raises(StudyError, match="adversarial: the loss of CondInst needs masks: take a teacher of boxes"):
        Distiller(network("retinanet_r50"), config, **arguments, adversarial={})


def test_levels_may_differ_in_channels(weights: Path) -> None:
    """As YOLOv3's do, which also begin with the coarsest: each level has blocks of its own size."""

    def yolov3(feats: Sequence[Tensor]) -> list[Tensor]:
        return [feat.repeat(1, 2**place, 1, 1)[:, : 24 * 2**place] for place, feat in enumerate(feats[:3])][::-1]

    class Yolo(type(detector("gfl_x101"))):  # type: ignore[misc]
        def extract_feat(self, inputs: Tensor) -> list[Tensor]:
            return yolov3(super().extract_feat(inputs))

    config = network("gfl_x101")
    config.type = Yolo
    model = Distiller(network("retinanet_r50"), config, [{"type": "MGD"}], teacher_checkpoint=checkpoint("gfl_x101", weights))
    model.init_weights()
    assert model.pairs == [{8: (0, 2), 16: (1, 1), 32: (2, 0)}]
    ((method,),) = model.methods_by_teacher
    shapes = {stride: tuple(level.align.weight.shape[:2]) for stride, level in method.levels.items()}  # type: ignore[union-attr]
    assert shapes == {"8": (24, 32), "16": (48, 32), "32": (96, 32)}
    assert losses(model.train())["loss_mgd_rec"] > 0


# The student alone


def test_predictions_are_the_students(shared: Distiller) -> None:
    data = shared.data_preprocessor(batch(), False)
    shared.eval()
    with torch.no_grad():
        ours = shared(**data, mode="predict")
        theirs = shared.student(**shared.student.data_preprocessor(batch(), False), mode="predict")
        for one, two in zip(shared(data["inputs"], mode="tensor"), shared.student(data["inputs"], mode="tensor"), strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    shared.train()
    for one, two in zip(ours, theirs, strict=True):
        assert torch.equal(one.pred_instances.bboxes, two.pred_instances.bboxes)


def test_state_and_parameters_have_the_students_names_and_order(shared: Distiller) -> None:
    """So whatever goes by names or by order (optimizers, averages, clipped gradients) does with it as with the student."""
    for kind in ("named_parameters", "named_buffers", "state_dict"):
        own, plain = (list(dict(getattr(one, kind)())) for one in (shared, shared.student))
        assert [name for name in own if not name.startswith(("distill.", "data_preprocessor."))] == [
            name for name in plain if not name.startswith("data_preprocessor.")
        ]
        assert {name.split(".")[0] for name in set(own) - set(plain)} <= {"distill", "data_preprocessor"}


def test_a_students_own_parameters_follow_every_move(weights: Path, tmp_path: Path) -> None:
    """Deformable DETR has one beside its parts; on ``meta`` parameters are replaced, not moved."""
    config = families.model(families.FAMILIES["Deformable DETR"])
    arguments: dict[str, Any] = {"teacher": network("gfl_x101"), "teacher_checkpoint": checkpoint("gfl_x101", weights)}
    model = copy.deepcopy(Distiller(config, methods=[{"type": "MSE"}], **arguments))
    assert "level_embed" in model.state_dict()
    for move in ("cpu", "meta"):
        model.to(move)
        assert model.level_embed is model.student.level_embed and model.level_embed.device.type == move
        assert {parameter.device.type for parameter in model.student.parameters()} == {move}


def test_what_is_not_the_distillers_is_the_students(shared: Distiller) -> None:
    assert shared.bbox_head is shared.student.bbox_head and shared.with_bbox and shared.with_neck
    neck, shared.neck = shared.neck, nn.Identity()
    assert shared.student.neck is shared.neck is not neck, "what is trained is what is saved"
    shared.neck = neck
    shared.student.set_epoch = seen = []  # type: ignore[assignment]
    assert shared.set_epoch is seen
    del shared.student.set_epoch
    with pytest.raises(AttributeError, match="'RetinaNet' object has no attribute 'detector'"):
        shared.detector  # noqa: B018


# The package


def _python(*arguments: str, **environment: str) -> str:
    path = os.pathsep.join([str(Path(build.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""} | environment,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.mark.parametrize(
    ("before", "module"),
    [("import dfmsd, dfmsd.stages", "dfmsd.distiller"), ("import mmengine", "dfmsd.distiller"), ("import mmengine", "dfmsd")],
)
def test_a_config_registers_everything_quietly_whatever_was_imported_before(before: str, module: str, tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text(f"custom_imports = dict(imports=[{module!r}])")
    code = f"""
        {before}
        from mmengine.config import Config
        Config.fromfile({str(tmp_path / "config.py")!r})
        from mmdet.registry import MODELS
        print([MODELS.get(name).__name__ for name in ("Distiller", "DistillPreprocessor", "MGD", "DMKD", "DFMSD")])
    """
    assert _python("-c", textwrap.dedent(code)).strip() == "['Distiller', 'DistillPreprocessor', 'MGD', 'DMKD', 'DFMSD']"


# mmdet's own train script


@pytest.fixture(scope="module")
def users_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's config on top of their detector's, as README has it."""
    folder = tmp_path_factory.mktemp("project")
    project(folder, strong="gfl_x101")
    (folder / "train.py").write_text(
        f"""
_base_ = "my_detector.py"
custom_imports = dict(imports=["dfmsd.distiller"])
model = dict(
    _delete_=True,
    type="Distiller",
    student={str(folder / "my_detector.py")!r},
    teacher={str(folder / "strong.py")!r},
    teacher_checkpoint={str(folder / "strong.pth")!r},
    methods=[dict(type="DFMSD")],
    factors=dict(loss_dfmsd_rec=1.0, loss_dfmsd_sfa=2.0, loss_dfmsd_aug=1.0),
    enhance=dict(theta=0.5),
)
train_dataloader = dict(batch_size=1)
train_cfg = dict(_delete_=True, type="IterBasedTrainLoop", max_iters=2)
val_cfg = val_dataloader = val_evaluator = None
default_hooks = dict(checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=2))
env_cfg = dict(dist_cfg=dict(backend="gloo"))
# Two processes on the CPU: mmengine would name CUDA devices.
model_wrapper_cfg = dict(type="MMDistributedDataParallel", device_ids=None, broadcast_buffers=False)
"""
    )
    return folder / "train.py"


@HOOKS.register_module()
class Starts(Hook):
    """Keeps the model's state before the first step, and gives it an epoch as TOOD's hook does."""

    states: ClassVar[list[dict[str, Tensor]]] = []

    def before_train(self, runner: Runner) -> None:
        self.states.append(copy.deepcopy(runner.model.state_dict()))


def trained(config: Path, folder: Path, **changes: Any) -> dict[str, Tensor]:
    """The state that a training starts with."""
    loaded = Config.fromfile(config)
    loaded.merge_from_dict(changes | {"work_dir": str(folder), "experiment_name": folder.name, "log_level": "ERROR"})
    Runner.from_cfg(loaded).train()
    return Starts.states.pop()


@pytest.fixture(scope="module")
def own_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A distillation with mmdet's and mmengine's hooks that reach into the model, and configs named from where they lie."""
    folder = tmp_path_factory.mktemp("own")
    project(folder, strong="gfl_x101")
    (folder / "distiller.py").write_text(
        """
_base_ = "my_detector.py"
custom_imports = dict(imports=["dfmsd.distiller"])
model = dict(
    _delete_=True,
    type="Distiller",
    student="my_detector.py",
    teacher="strong.py",
    teacher_checkpoint="strong.pth",
    methods=[dict(type="DFMSD")],
)
train_cfg = dict(_delete_=True, type="EpochBasedTrainLoop", max_epochs=1)
val_cfg = val_dataloader = val_evaluator = None
default_hooks = dict(checkpoint=dict(type="CheckpointHook", interval=1))
custom_hooks = [
    dict(type="Starts"),
    dict(type="NumClassCheckHook"),
    dict(type="CheckInvalidLossHook"),
    dict(type="SyncNormHook"),
    dict(type="YOLOXModeSwitchHook", num_last_epochs=1),
    dict(type="EMAHook", ema_type="ExpMomentumEMA", momentum=0.5, update_buffers=True),
]
"""
    )
    with patch.object(CocoDataset, "update_skip_type_keys", create=True):  # of the dataset that stands around YOLOX's
        trained(folder / "distiller.py", folder / "work")
    return folder


def test_hooks_find_the_students_parts(own_run: Path) -> None:
    content = checkpoints.read(own_run / "work" / "epoch_1.pth")
    averaged = {name.removeprefix("module.") for name in content["ema_state_dict"] if name != "steps"}
    assert averaged == set(content["state_dict"])
    assert {name.split(".")[0] for name in averaged} == {"backbone", "neck", "bbox_head", "distill"}


def test_mmdet_opens_a_distillers_checkpoint_as_its_student(own_run: Path) -> None:
    """By the student's own config and by the distiller's, from any folder: one detector."""
    file = own_run / "work" / "epoch_1.pth"
    state = checkpoints.read(file)["state_dict"]
    student, distilled = (
        init_detector(str(own_run / name), str(file), device="cpu") for name in ("my_detector.py", "distiller.py")
    )
    assert {name: None for name in state if not name.startswith("distill.")}.keys() == student.state_dict().keys()
    for name, value in student.state_dict().items():
        assert torch.equal(value, state[name]) and torch.equal(value, distilled.state_dict()[name]), name
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    one, two = (inference_detector(model, image).pred_instances for model in (student, distilled))
    assert torch.equal(one.bboxes, two.bboxes) and torch.equal(one.scores, two.scores)


@pytest.mark.parametrize("option", ["load_from", "student_checkpoint", "resume"])
def test_a_training_starts_from_a_checkpoint(own_run: Path, tmp_path: Path, option: str) -> None:
    """A plain student's, that of another distiller, or one's own."""
    if option == "load_from":
        file, before = checkpoint("retinanet_r50", tmp_path), detector("retinanet_r50").state_dict()
    else:
        file = str(own_run / "work" / "epoch_1.pth")
        before = checkpoints.read(file)["state_dict"]
    chosen: dict[str, Any] = {"model.student_checkpoint": file} if option == "student_checkpoint" else {"load_from": file}
    resumed = {"resume": True, "train_cfg.max_epochs": 2} if option == "resume" else {}
    start = trained(own_run / "distiller.py", tmp_path, **chosen, **resumed, custom_hooks=[{"type": "Starts"}])
    same = {name for name, value in start.items() if name in before and torch.equal(value, before[name])}
    if option == "resume":
        assert same == set(start)
    else:
        assert {name for name in start if not name.startswith("distill.")} <= same


def test_a_distillers_checkpoint_teaches(own_run: Path) -> None:
    file = own_run / "work" / "epoch_1.pth"
    state = checkpoints.read(file)["state_dict"]
    for config in ("my_detector.py", "distiller.py"):
        model = Distiller(network("fcos_r50"), str(own_run / config), [{"type": "MSE"}], teacher_checkpoint=file)
        assert all(torch.equal(value, state[name]) for name, value in model.teachers[0].state_dict().items())


def test_a_checkpoint_of_old_names_is_resumed(shared: Distiller) -> None:
    """As an interrupted run of before may have left it; alone, and inside of a wrapper."""
    state = {name: torch.rand_like(value.float()).to(value.dtype) for name, value in shared.state_dict().items()}
    old = {(f"methods.{name[8:]}" if name.startswith("distill.") else f"student.{name}"): value for name, value in state.items()}
    for prefix in ("", "module."):
        model = copy.deepcopy(shared)
        whole = model if not prefix else nn.ModuleDict({"module": model})
        assert (
            str(whole.load_state_dict({prefix + name: value for name, value in old.items()})) == "<All keys matched successfully>"
        )
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_a_plain_students_checkpoint_leaves_the_blocks(shared: Distiller) -> None:
    model = copy.deepcopy(shared)
    assert str(model.load_state_dict(detector("retinanet_r50").state_dict())) == "<All keys matched successfully>"
    for name, value in model.state_dict().items():
        expected = shared if name.startswith("distill.") else detector("retinanet_r50")
        assert torch.equal(value, expected.state_dict()[name]), name
    broken = dict(model.state_dict())
    del broken["distill.0.0.levels.8.branch_sp.1.0.bias"]
    assert model.load_state_dict(broken, strict=False).missing_keys == ["distill.0.0.levels.8.branch_sp.1.0.bias"]


def test_what_a_config_inherits_of_its_students_model_is_refused(own_run: Path) -> None:
    (own_run / "undeleted.py").write_text((own_run / "distiller.py").read_text().replace("_delete_=True,\n    type", "type"))
    with pytest.raises(StudyError, match=r"backbone, bbox_head, neck, .* besides the distiller's options: .* write _delete_=True"):
        init_detector(str(own_run / "undeleted.py"), device="cpu", palette="random")


SCRIPT = Path(mmdet.__file__).parent / ".mim" / "tools" / "train.py"


def check_trained(folder: Path, output: str) -> None:
    state = torch.load(folder / "iter_2.pth", weights_only=False)["state_dict"]
    assert all(value.isfinite().all() for value in state.values() if value.is_floating_point())
    assert not any("teacher" in name for name in state)
    for term in ("loss_cls", "loss_dfmsd_rec", "loss_dfmsd_sfa", "loss_dfmsd_aug"):
        assert f"{term}: " in output
    checkpoints.load(copy.deepcopy(detector("retinanet_r50")), folder / "iter_2.pth")


@pytest.mark.slow
def test_a_users_config_trains_under_mmdets_own_script(
    users_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")  # as the script sets it
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(users_config), "--work-dir", str(tmp_path)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    check_trained(tmp_path, capsys.readouterr().out)


@pytest.mark.slow
def test_a_users_config_trains_on_two_processes(users_config: Path, tmp_path: Path) -> None:
    """With gloo on the CPU. mmengine selects a CUDA device whether there is one or not: that one call is taken out."""
    launched = tmp_path / "cpu.py"
    launched.write_text(
        f"import runpy, sys, torch\ntorch.cuda.set_device = lambda *_: None\nrunpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
    )
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    output = _python(*launcher, str(launched), str(users_config), "--work-dir", str(tmp_path), "--launcher", "pytorch")
    assert "GPU number: 2" in output  # so mmengine counts processes
    check_trained(tmp_path, output)
