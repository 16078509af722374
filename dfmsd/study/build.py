"""From a specification to an mmengine config: mmdet's own, with the changes that the specification states."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import mmdet
from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.device import is_cuda_available as has_gpu
from mmengine.registry import DefaultScope

import dfmsd.study.loading  # noqa: F401  (registers a transform)
from dfmsd.errors import StudyError
from dfmsd.study.coco import LEAST_SIDE
from dfmsd.study.data import DataRoot, Split
from dfmsd.study.spec import MEAN, STD, NetworkSpec, RunSpec

CONFIGS = Path(mmdet.__file__).parent / ".mim" / "configs"
META_KEYS = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor", "flip", "flip_direction")


def network_config(network: NetworkSpec) -> Config:
    """The mmdet config of a network with the overrides applied.

    Raises:
        StudyError: if mmdet has no such config, or an override names a part that the config does not have.
    """
    if not (CONFIGS / network.config).is_file():
        raise StudyError(f"{network.name}: mmdet has no config {network.config!r}")
    config = copy.deepcopy(_parsed(network.config))
    for key in network.overrides:
        _check_key(network, config, key)
    config.merge_from_dict(dict(network.overrides))
    return config


@cache
def _parsed(config: str) -> Config:
    """One of mmdet's configs, which take long to read: once a process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Config.fromfile(CONFIGS / config)


def _check_key(network: NetworkSpec, config: Config, key: str) -> None:
    *parents, _ = key.split(".")
    node: Any = config
    for parent in parents:
        if parent not in node:
            raise StudyError(f"{network.name}: the override {key!r} names {parent!r}, which {network.config} does not have")
        node = node[parent]


def model_config(network: NetworkSpec, num_classes: int) -> ConfigDict:
    """The ``model`` part, for as many classes."""
    model = network_config(network).model
    head = model.roi_head if "roi_head" in model else model
    for part in ("bbox_head", "mask_head"):
        for one in head[part] if isinstance(head.get(part), list) else [head.get(part)]:
            if one is not None:
                one.num_classes = num_classes
    return model


def built(network: NetworkSpec, num_classes: int) -> BaseDetector:
    """The detector itself, with random weights."""
    with DefaultScope.overwrite_default_scope("mmdet"):
        return MODELS.build(model_config(network, num_classes))


def _pipeline(spec: RunSpec, *, training: bool, masks: bool, once: bool) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = [
        {"type": "LoadImageFromFile"},
        {"type": "LoadAnnotations", "with_bbox": True, "with_mask": masks and training},
        {"type": "Resize", "scale": spec.image_size, "keep_ratio": True},
    ]
    if once:
        steps = [{"type": "Once", "transforms": steps}]
    if training:
        steps.append({"type": "FlipInTurn", "prob": spec.flip})
    return [*steps, {"type": "PackDetInputs", "meta_keys": META_KEYS if training else META_KEYS[:5]}]


def _loader(spec: RunSpec, split: Split, classes: tuple[str, ...], *, training: bool, masks: bool, workers: int) -> dict[str, Any]:
    # Processes that load images end with an epoch: they would keep them for nothing. And COCO's are too many.
    once = training and workers == 0 and spec.data.source == "shapes"
    return {
        # Photographs differ in shape: padded together, they would not be evaluated as mmdet evaluates them.
        "batch_size": spec.schedule.batch if training else min(16, spec.schedule.batch) if spec.data.source == "shapes" else 1,
        "num_workers": workers,
        "persistent_workers": False,
        "worker_init_fn": {"type": "seed_worker"},
        "sampler": {"type": "DefaultSampler", "shuffle": training},
        "batch_sampler": {"type": "AspectRatioBatchSampler"} if training else None,
        "dataset": {
            "type": "CocoDataset",
            "ann_file": str(split.annotations),
            "data_prefix": {"img": str(split.images)},
            "metainfo": {"classes": classes},
            "test_mode": not training,
            "indices": spec.images if training else None,
            # Processes that load images share what is serialised; where there are none, it costs a pass over all of memory.
            "serialize_data": workers > 0,
            # Images without objects stay in generated data, as background; COCO's protocol drops them.
            "filter_cfg": {"filter_empty_gt": spec.data.source != "shapes", "min_size": LEAST_SIDE} if training else None,
            "pipeline": _pipeline(spec, training=training, masks=masks, once=once),
        },
    }


def run_config(
    spec: RunSpec,
    data: DataRoot,
    folder: Path,
    *,
    teacher_checkpoints: Sequence[str] = (),
    student_checkpoint: str | None = None,
    start_checkpoint: str | None = None,
    ratios: Path | None = None,
    factors: dict[str, float] | None = None,
    workers: int = 0,
) -> Config:
    """The complete config of a run for ``mmengine.runner.Runner.from_cfg``.

    Args:
        spec: The run.
        data: Where its data set lies.
        folder: Where the run writes.
        teacher_checkpoints: Weights of each of the stage's teachers.
        student_checkpoint: Weights of a whole student to start from.
        start_checkpoint: Weights of its backbone to start from.
        ratios: Area ratios of the training images by the weak teacher, for masking enhancement.
        factors: Of the methods' terms, that make their weights shares of the detection loss.
        workers: Processes that load images.
    """
    base = network_config(spec.network)
    student = model_config(spec.network, len(data.classes))
    if start_checkpoint is not None:
        _check_pixels(spec.network, student.data_preprocessor)
        student.backbone.init_cfg = {"type": "Pretrained", "checkpoint": start_checkpoint, "prefix": "backbone."}
    masks = "mask_head" in student.get("roi_head", {})
    if masks and not data.masks:
        raise StudyError(f"{spec.network.name} learns masks, but not every object of the training images has a segmentation")
    evaluated = data.tune if spec.eval_split == "tune" else data.val
    if evaluated is None:
        raise StudyError(f"the data of scale {spec.scale!r} have no {spec.eval_split} split")
    epochs, steps = spec.schedule.epochs, spec.schedule
    val_loader = _loader(spec, evaluated, data.classes, training=False, masks=False, workers=workers)
    evaluator = {
        "type": "CocoMetric",
        "ann_file": str(evaluated.annotations),
        "metric": "bbox",
        "format_only": True,
        "outfile_prefix": str(folder / "predictions"),
    }
    model: Any = student
    if spec.stage is not None:
        enhance = None
        if spec.stage.enhance is not None:
            enhance = spec.stage.enhance.model_dump(exclude={"weak"}) | {"ratios": ratios and str(ratios)}
        model = {
            "type": "Distiller",
            "student": student,
            "teacher": [model_config(teacher.network, len(data.classes)) for teacher in spec.stage.teachers],
            "methods": [method.model_dump(mode="json") for method in spec.stage.methods],
            "teacher_checkpoint": list(teacher_checkpoints),
            "student_checkpoint": student_checkpoint,
            "matching": spec.stage.matching,
            "factors": factors,
            "enhance": enhance,
            "adversarial": spec.stage.adversarial.model_dump() if spec.stage.adversarial else None,
            "inherit": spec.stage.inherit,
            # A few labelled images come back often, as they were or flipped.
            "remember": spec.images is not None,
        }
    train_cfg: dict[str, Any] = {"type": "EpochBasedTrainLoop", "max_epochs": epochs, "val_begin": epochs + 1}
    if steps.max_iters is not None:
        train_cfg = {"type": "IterBasedTrainLoop", "max_iters": steps.max_iters, "val_begin": steps.max_iters + 1}
    # mmengine orders the images of an epoch by seed + epoch: a later stage goes on where the one before ended.
    seed = spec.seed + _epochs_before(spec)
    steps_down = {round(epochs * 2 / 3), min(round(epochs * 11 / 12), epochs - 1)}
    schedulers: list[dict[str, Any]] = [
        {"type": "MultiStepLR", "by_epoch": True, "milestones": sorted(steps_down - {0, epochs})},
    ]
    if steps.warmup:
        schedulers.append({"type": "LinearLR", "by_epoch": False, "start_factor": 0.001, "begin": 0, "end": steps.warmup})
    return Config(
        {
            "default_scope": "mmdet",
            "custom_imports": {
                "imports": ["dfmsd.distiller", "dfmsd.study.hooks", "dfmsd.study.loading"],
                "allow_failed_imports": False,
            },
            "experiment_name": spec.key,
            "work_dir": str(folder),
            "model": model,
            "train_dataloader": _loader(spec, data.train, data.classes, training=True, masks=masks, workers=workers),
            "val_dataloader": val_loader,
            "val_evaluator": evaluator,
            "train_cfg": train_cfg,
            "val_cfg": {"type": "ValLoop"},
            "param_scheduler": schedulers,
            "optim_wrapper": {
                "type": "AmpOptimWrapper" if spec.precision == "amp" and has_gpu() else "OptimWrapper",
                "optimizer": {"type": steps.optimizer, "lr": steps.lr, "weight_decay": steps.weight_decay}
                | ({"momentum": steps.momentum} if steps.optimizer == "SGD" else {}),
                "clip_grad": {"max_norm": steps.clip, "norm_type": 2},
                "paramwise_cfg": base.optim_wrapper.get("paramwise_cfg"),
            },
            "default_hooks": {
                "checkpoint": {"type": "CheckpointHook", "interval": 1, "max_keep_ckpts": 2, "save_best": None},
                "logger": {"type": "LoggerHook", "interval": 50, "log_metric_by_epoch": steps.max_iters is None},
            },
            "custom_hooks": [
                {"type": "SeedHook", "seed": seed, "priority": "VERY_HIGH"},
                {"type": "MeanLosses"},
                {"type": "LossGuard", "priority": "VERY_HIGH"},
                {"type": "CurveHook", "folder": str(folder), "priority": "NORMAL"},
            ],
            "visualizer": {"type": "DetLocalVisualizer", "vis_backends": []},
            "randomness": {"seed": seed},
            "env_cfg": {"cudnn_benchmark": False, "mp_cfg": {"mp_start_method": "fork", "opencv_num_threads": 0}},
            "log_level": "INFO",
            "resume": False,
            "load_from": None,
        },
        # As it is: to lay it out, as often as mmengine prints it, takes as long as a run at the scale ``smoke``.
        format_python_code=False,
    )


def _check_pixels(network: NetworkSpec, preprocessor: ConfigDict) -> None:
    """A start knows pixels of one kind."""
    if (*preprocessor.mean, *preprocessor.std, preprocessor.bgr_to_rgb) != (*MEAN, *STD, True):
        raise StudyError(
            f"{network.name} normalises its images in another way than starts do: its zoo row must say mean {MEAN}, std {STD}"
        )


def _epochs_before(spec: RunSpec) -> int:
    """Of the stages before a run's own."""
    return 0 if spec.parent is None else _epochs_before(spec.parent) + spec.parent.schedule.epochs
