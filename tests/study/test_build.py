"""Every row of the zoo builds from mmdet's own config, at every miniature scale; and a run's config says what its spec says."""

from __future__ import annotations

import dataclasses
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.optim.optimizer import amp_optimizer_wrapper

from dfmsd import checkpoints
from dfmsd import levels as pyramids
from dfmsd.errors import StudyError
from dfmsd.study import build, paths, run, scales, zoo
from dfmsd.study.data import DataRoot, Split
from dfmsd.study.rows import Row, chain
from dfmsd.study.spec import MEAN, STD, NetworkSpec, RunSpec
from tests.fixtures_detectors import CLASSES, batch, checkpoint, detector
from tests.fixtures_study import baseline, folders, smoke  # noqa: F401

FAMILIES = [*{zoo.family(name): name for name in zoo.names()}.values()]
"""One network of each family."""


def has_masks(name: str) -> bool:
    return "mask" in name


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
    if "roi_head" in full:
        assert stages(slim.roi_head) == stages(full.roi_head)
        assert ("mask_head" in slim.roi_head) == ("mask_head" in full.roi_head)
    # A start knows one way to normalise pixels: mmdet's for backbones of PyTorch.
    pixels = {"mean": list(MEAN), "std": list(STD), "bgr_to_rgb": True}
    assert slim.data_preprocessor == full.data_preprocessor | pixels


def stages(roi_head: Any) -> int:
    """Box heads, one after the other."""
    return len(roi_head.bbox_head) if isinstance(roi_head.bbox_head, list) else 1


@pytest.mark.parametrize("name", zoo.names())
def test_a_network_learns_and_predicts_at_smoke_and_builds_at_mini(name: str) -> None:
    torch.manual_seed(0)
    network = build.built(zoo.network(name, "smoke"), CLASSES)
    network.init_weights()
    data = network.data_preprocessor(batch(masks=has_masks(name)), True)
    terms = network(**data, mode="loss")
    assert has_masks(name) == any("loss_mask" in term for term in terms)
    losses, _ = network.parse_losses(terms)
    losses.backward()
    assert losses.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())
    # Untrained, a network is sure of nothing: every box counts, so that there are some.
    config = network.test_cfg.rcnn if "rcnn" in network.test_cfg else network.test_cfg
    config.score_thr = 0.0
    with torch.no_grad():
        predicted = network.eval()(**network.data_preprocessor(batch(), False), mode="predict")
    assert len(predicted) == 2
    for found in (sample.pred_instances for sample in predicted):
        assert len(found) > 0
        assert found.labels.lt(CLASSES).all()
        assert found.bboxes.isfinite().all()
        assert ("masks" in found) == has_masks(name)
    assert parameters(build.built(zoo.network(name, "mini"), CLASSES)) >= parameters(network)


@pytest.mark.parametrize("name", filter(has_masks, FAMILIES))
def test_a_mask_teacher_learns_from_images_without_objects(name: str) -> None:
    data = batch(masks=True)
    for sample in data["data_samples"]:
        sample.gt_instances = sample.gt_instances[torch.zeros(2, dtype=torch.bool)]
    network = build.built(zoo.network(name, "smoke"), CLASSES)
    losses, _ = network.parse_losses(network(**network.data_preprocessor(data, True), mode="loss"))
    assert losses.isfinite()


@pytest.mark.parametrize("name", FAMILIES)
def test_a_network_loads_a_checkpoint_in_the_format_of_mmdets_zoo(name: str, tmp_path: Path) -> None:
    network = build.built(zoo.network(name, "smoke"), CLASSES)
    checkpoints.load(network, checkpoint(name, tmp_path))
    for key, value in detector(name).state_dict().items():
        assert torch.equal(network.state_dict()[key], value), key


@pytest.mark.parametrize("name", FAMILIES)
def test_levels_of_one_stage_lie_at_strides_8_to_128_and_of_two_at_4_to_64(name: str) -> None:
    first = 4 if "rcnn" in name else 8
    assert pyramids.strides(detector(name)) == tuple(first * 2**level for level in range(5))


@pytest.mark.parametrize("name", zoo.names())
def test_the_papers_own_architectures_build(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without memory for their weights."""
    # Swin reads the values of its drop path's rates, which are no weights.
    monkeypatch.setattr(torch, "linspace", partial(torch.linspace, device="cpu"))
    with torch.device("meta"):
        full, scratch = (build.built(zoo.network(name, scale), CLASSES) for scale in ("coco", "gpu"))
    assert full.neck.out_channels == 256
    shapes = {key: value.shape for key, value in full.state_dict().items()}
    assert shapes == {key: value.shape for key, value in scratch.state_dict().items()}
    assert all(parameter.requires_grad for parameter in scratch.parameters())


@pytest.mark.parametrize(
    "names", [("retinanet_r50", "retinanet_r101", "retinanet_x101"), ("mask_rcnn_swint", "mask_rcnn_swins")], ids=lambda n: n[-1]
)
def test_at_mini_a_teacher_is_larger_than_a_student_and_a_strong_one_than_a_weak(names: tuple[str, ...]) -> None:
    sizes = [parameters(build.built(zoo.network(name, "mini"), CLASSES)) for name in names]
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
    for spec in (zoo.network(name, "mini") for name in zoo.names()):
        before = spec.model_dump_json()
        build.model_config(spec, 10)
        assert spec.model_dump_json() == zoo.network(spec.name, "mini").model_dump_json() == before


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


def test_a_network_with_masks_is_refused_on_data_without() -> None:
    bare = dataclasses.replace(root(), masks=False)
    assert build.run_config(baseline(), bare, Path("out")).model.type == "FCOS"
    with pytest.raises(StudyError, match=r"^mask_rcnn_swint learns masks, but not every object of the training images has a segm"):
        build.run_config(baseline(student="mask_rcnn_swint"), bare, Path("out"))


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
    assert model.enhance == spec.stage.enhance.model_dump(exclude={"weak"}) | {"ratios": "r.json"}
    assert config.train_cfg.max_epochs == steps.epochs
    assert config.param_scheduler[0].milestones == [round(steps.epochs * 2 / 3), round(steps.epochs * 11 / 12)]
    assert (config.optim_wrapper.optimizer.lr, config.optim_wrapper.clip_grad.max_norm) == (steps.lr, steps.clip)
    # The second stage of seed 3 begins after the first one's epochs.
    seed = 3 + spec.parent.schedule.epochs
    assert (config.train_dataloader.batch_size, config.randomness.seed, config.custom_hooks[0].seed) == (steps.batch, seed, seed)
    assert config.train_dataloader.dataset.indices == spec.images
    assert config.val_dataloader.dataset.indices is None
    assert config.val_evaluator.format_only


@pytest.mark.parametrize(("epochs", "steps"), [(1, []), (2, [1]), (3, [2]), (6, [4, 5]), (24, [16, 22])])
def test_the_rate_goes_down_twice_before_the_end_where_there_is_room(epochs: int, steps: list[int]) -> None:
    spec = spec_of("baseline")
    spec = spec.model_copy(update={"schedule": spec.schedule.model_copy(update={"epochs": epochs})})
    config = build.run_config(spec, root(), Path("out"))
    assert (config.model.type, config.param_scheduler[0].milestones, config.randomness.seed) == ("FCOS", steps, 3)


@pytest.mark.parametrize("name", ["mask_rcnn_swint", "faster_rcnn_r101"])
def test_masks_are_loaded_for_a_mask_teacher_and_only_to_train_it(name: str) -> None:
    config = build.run_config(
        chain(Row(student=name, teachers=(), recipe="baseline"), scales.get("mini"), 0)[0], root(), Path("out")
    )
    assert _annotations(config.train_dataloader).with_mask == has_masks(name)
    assert not _annotations(config.val_dataloader).with_mask
    # A student has no use for its teacher's masks.
    spec = chain(Row(student="retinanet_r50", teachers=(name,), recipe="mgd"), scales.get("mini"), 0)[-1]
    distilled = build.run_config(spec, root(), Path("out"), teacher_checkpoints=["t.pth"])
    assert not _annotations(distilled.train_dataloader).with_mask


def _annotations(loader: Any) -> Any:
    pipeline = loader.dataset.pipeline
    steps = [inner for step in pipeline for inner in step.get("transforms", [step])]
    return next(step for step in steps if step.type == "LoadAnnotations")


@pytest.mark.slow
@pytest.mark.usefixtures("folders")
def test_mixed_precision_is_mmengines_on_a_gpu_and_left_out_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the CPU were a GPU, whose half precision is bfloat16 there: losses within 2 % of float32's."""
    assert {name: scales.get(name).precision for name in scales.SCALES} == {
        **dict.fromkeys(("smoke", "mini"), "float32"),
        **dict.fromkeys(("gpu", "coco"), "amp"),
    }
    scale = smoke(epochs=2).model_copy(update={"start": None, "precision": "amp"})
    taught = chain(Row(student="fcos_r50", teachers=("gfl_r101",), recipe="dmkd"), scale, 0)[-1]
    assert taught.stage is not None and taught.stage.balance is not None and isinstance(taught.stage.teacher, RunSpec)
    run.run(taught.stage.teacher)
    plain = run.run(taught)
    shutil.rmtree(paths.runs() / taught.key)
    with monkeypatch.context() as patch:
        patch.setattr(amp_optimizer_wrapper, "is_cuda_available", lambda: True)
        patch.setattr(build, "has_gpu", lambda: True)
        # oneDNN's bfloat16 gives gradients without sense for the map of one pixel.
        with torch.backends.mkldnn.flags(enabled=False):
            mixed = run.run(taught)
    assert "AmpOptimWrapper" in (paths.runs() / taught.key / "config.py").read_text()
    assert mixed.weights_sha256 != plain.weights_sha256
    for found, wanted in zip(mixed.curve, plain.curve, strict=True):
        assert found == pytest.approx(wanted, rel=0.02)


def test_no_split_to_tune_on() -> None:
    with pytest.raises(StudyError, match="the data of scale 'smoke' have no tune split"):
        build.run_config(spec_of("baseline", "smoke", split="tune"), root(tune=False), Path("out"))
