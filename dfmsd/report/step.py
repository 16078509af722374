"""What a whole training step costs: a student, its teacher and a method, on random images with random weights."""

from __future__ import annotations

import copy
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import Tensor

from dfmsd import configs
from dfmsd.distiller import Distiller
from dfmsd.hyper import METHODS, for_pair
from dfmsd.report import families
from dfmsd.study import build, scales, shapes, zoo
from dfmsd.study.rows import LABELS, Row, chain

NETWORKS = "retinanet_r50", "retinanet_r101"
"""Student and teacher."""

CONFIGS = tuple(f"retinanet/{name}_fpn_2x_coco" for name in NETWORKS)
"""Of mmdet."""

METRICS = ("step ms", "× the baseline", "× MSE", "step peak MiB")

Work = Callable[[], object]

ALONE, ENHANCED = "baseline", "DFMSD, enhanced images"
"""Rows beside the methods: the student alone, and the last stage of DFMSD, which sees each image twice."""


@dataclass(frozen=True)
class Pair:
    """Two networks, and the methods by which one may teach the other."""

    size: str
    student: Mapping[str, Any]
    teacher: Mapping[str, Any]
    methods: Mapping[str, Mapping[str, Any]]
    """By their names in :data:`dfmsd.hyper.METHODS`."""
    most: int
    """How many rounds are timed at most: steps of large networks are long."""


def coco() -> Pair:
    """Mmdet's own networks with the papers' methods."""
    student, teacher = (configs.network(f"{configs.MMDETS}{name}.py", "student") for name in CONFIGS)
    for network in (student, teacher):
        network["backbone"]["init_cfg"] = None
    return Pair("coco", student, teacher, {name: _method(name) for name in METHODS}, 2)


def mini() -> Pair:
    """The networks and the methods of the study's runs."""
    scale = scales.get("mini")
    taught = (Row(student=NETWORKS[0], teachers=NETWORKS[1:], recipe=name) for name in METHODS)
    methods = {row.recipe: stage.methods[0].model_dump(mode="json") for row in taught if (stage := chain(row, scale, 0)[-1].stage)}
    student, teacher = (build.model_config(zoo.network(name, scale.name), len(shapes.CLASSES)) for name in NETWORKS)
    return Pair("mini", student, teacher, methods, 1000)


def slim() -> Pair:
    """At the scale smoke: two methods, and an eighth of the networks' channels, as on :mod:`dfmsd.report.families`."""
    student, teacher = (families.model(families.Family(name)) for name in CONFIGS)
    methods = {name: _method(name) for name in ("mse", "dfmsd")}
    methods["dfmsd"]["se_ratio"] = 4
    return Pair("smoke", student, teacher, methods, 1000)


PAIRS = {"smoke": slim, "mini": mini, "coco": coco}


def _method(name: str) -> dict[str, Any]:
    found: dict[str, Any] = for_pair(name, "one_stage", "one_stage", "retinanet").model_dump()
    return found


def sampled(
    pair: Pair, image: tuple[int, int], boxes: Sequence[Tensor], device: torch.device, *, rounds: int
) -> list[dict[str, Any]]:
    """Forward and backward of a whole step, every row once a round: a line for each of :data:`METRICS`, row and round.

    Args:
        pair: The networks.
        image: Height and width in pixels.
        boxes: Of each image of the batch.
        device: Where it is measured.
        rounds: How many, unless they are more than the pair's most; one more comes before them, in which memory is measured.
    """
    work = works(pair, image, boxes, device)
    found = [(row, "step peak MiB", peak_bytes(call, device) / 2**20) for row, call in work.items()]
    for _ in range(min(rounds, pair.most)):
        took = {row: seconds(call, device) for row, call in work.items()}
        for row, own in took.items():
            found += [
                (row, "step ms", 1e3 * own),
                (row, "× the baseline", own / took[ALONE]),
                (row, "× MSE", own / took[LABELS["mse"]]),
            ]
    return [{"row": row, "size": pair.size, "metric": metric, "value": value} for row, metric, value in found]


def works(pair: Pair, image: tuple[int, int], boxes: Sequence[Tensor], device: torch.device) -> dict[str, Work]:
    """A call for each row that trains a step but for the optimizer's: forward, and backward to all that is learned."""
    student, teacher = dict(pair.student), dict(pair.teacher)
    with (
        families.quiet(),
        DefaultScope.overwrite_default_scope("mmdet"),
        tempfile.TemporaryDirectory(prefix="dfmsd-") as folder,
        torch.random.fork_rng(devices=[]),
    ):
        torch.manual_seed(0)
        alone, strong = (MODELS.build(copy.deepcopy(config)) for config in (student, teacher))
        strong.init_weights()
        torch.save({"state_dict": strong.state_dict()}, file := Path(folder) / "teacher.pth")
        networks: dict[str, Any] = {ALONE: alone}
        for name, method in pair.methods.items():
            networks[LABELS[name]] = Distiller(student, teacher, [method], teacher_checkpoint=file)
            if name == "dfmsd":
                networks[ENHANCED] = Distiller(student, teacher, [method], teacher_checkpoint=file, enhance={})
        for network in networks.values():
            network.init_weights()
    return {row: _training(network.to(device).train(), image, boxes) for row, network in networks.items()}


def _training(network: Any, image: tuple[int, int], boxes: Sequence[Tensor]) -> Work:
    source = torch.Generator().manual_seed(0)
    inputs = [torch.randint(0, 256, (3, *image), generator=source, dtype=torch.uint8) for _ in boxes]
    samples = [DetDataSample(metainfo={"img_id": place, "img_shape": image, "ori_shape": image}) for place in range(len(boxes))]
    for sample, own in zip(samples, boxes, strict=True):
        sample.gt_instances = InstanceData(bboxes=own, labels=torch.zeros(len(own), dtype=torch.long))

    def work() -> None:
        batch = network.data_preprocessor({"inputs": inputs, "data_samples": copy.deepcopy(samples)}, True)
        loss, _ = network.parse_losses(network(**batch, mode="loss"))
        loss.backward()
        network.zero_grad(set_to_none=True)

    return work


def seconds(work: Work, device: torch.device) -> float:
    """How long one call takes that was made before, so that nothing need warm up."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    begun = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def peak_bytes(work: Work, device: torch.device) -> int:
    """The highest amount of memory in a call beyond what was there before.

    Example:
        >>> peak_bytes(lambda: torch.zeros(256) + torch.zeros(256), torch.device("cpu"))
        3072
    """
    if device.type == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    # On a processor only the profiler knows what PyTorch's allocator gave out and took back.
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # it says when it starts and stops otherwise
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        result = work()
    del result
    with tempfile.TemporaryDirectory(prefix="dfmsd-") as folder:
        file = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(file))
        events = [event for event in json.loads(file.read_text())["traceEvents"] if event["name"] == "[memory]"]
    held = pd.Series([event["args"]["Bytes"] for event in sorted(events, key=lambda event: event["ts"])], dtype="int64").cumsum()
    return max(0, int(held.max())) if len(held) else 0
