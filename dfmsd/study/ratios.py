"""r(x) of Eq. (4) for all training images, by the weak teacher's boxes: predicted once, kept beside the teacher."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from dfmsd import checkpoints
from dfmsd.augment import area_ratio
from dfmsd.study import build, paths, records
from dfmsd.study.data import DataRoot
from dfmsd.study.spec import EnhanceSpec, RunSpec


def ensure(spec: RunSpec, root: DataRoot, folder: Path, checkpoint: str) -> Path:
    """The file of the area ratios of a run with masking enhancement; made if today's code has not made it yet.

    Args:
        spec: The run.
        root: Its data.
        folder: Where the run writes.
        checkpoint: Weights of the weak teacher.
    """
    assert spec.stage is not None and spec.stage.enhance is not None
    enhance = spec.stage.enhance
    home = paths.runs() / enhance.weak.key
    code = records.digest(records.ENHANCEMENT)
    file = home / f"area-ratios-{enhance.score}-{root.fingerprint}-{code}.json"
    if not file.exists():
        home.mkdir(parents=True, exist_ok=True)
        records.write_atomic(file, json.dumps(_predicted(enhance, spec, root, folder, checkpoint), sort_keys=True))
    return file


@torch.no_grad()
def _predicted(enhance: EnhanceSpec, spec: RunSpec, root: DataRoot, folder: Path, checkpoint: str) -> dict[str, float]:
    weak = enhance.weak.network
    plain = build.run_config(spec.model_copy(update={"stage": None, "parent": None, "network": weak}), root, folder)
    loader = plain.val_dataloader
    loader.dataset.ann_file, loader.dataset.data_prefix = str(root.train.annotations), {"img": str(root.train.images)}
    teacher = build.built(weak, len(root.classes))
    checkpoints.load(teacher, checkpoint)
    teacher.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    ratios = {}
    with DefaultScope.overwrite_default_scope("mmdet"):
        batches = Runner.build_dataloader(loader)
    for batch in batches:
        for sample in teacher.test_step(batch):
            height, width = sample.ori_shape[:2]
            found = sample.pred_instances
            ratio = area_ratio(found.bboxes, found.scores, score=enhance.score, height=height, width=width)
            ratios[str(sample.img_id)] = round(ratio, 6)
    return ratios
