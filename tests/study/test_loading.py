"""Images are decoded once, and what a run sees is what it saw before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS
from mmengine.registry import DefaultScope

from dfmsd.study import build, data
from tests.fixtures_study import baseline, folders  # noqa: F401

pytestmark = pytest.mark.usefixtures("folders")


def dataset(workers: int) -> Any:
    spec = baseline(student="mask_rcnn_swint")
    config = build.run_config(spec, data.ensure(spec.data), Path("out"), workers=workers)
    with DefaultScope.overwrite_default_scope("mmdet"):
        return DATASETS.build(config.train_dataloader.dataset)


def seen(images: Any, epochs: int) -> list[Any]:
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  (mmcv's transforms draw from the legacy generator)
    return [images[index] for _ in range(epochs) for index in range(len(images))]


def test_every_epoch_sees_what_it_would_see_if_images_were_read_anew() -> None:
    for kept, read in zip(seen(dataset(workers=0), epochs=3), seen(dataset(workers=1), epochs=3), strict=True):
        assert torch.equal(kept["inputs"], read["inputs"])
        ours, others = kept["data_samples"], read["data_samples"]
        assert ours.metainfo == others.metainfo
        assert torch.equal(ours.gt_instances.bboxes.tensor, others.gt_instances.bboxes.tensor)
        assert torch.equal(ours.gt_instances.labels, others.gt_instances.labels)
        assert (ours.gt_instances.masks.masks == others.gt_instances.masks.masks).all()


def test_files_are_read_in_the_first_epoch_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    images = dataset(workers=0)
    seen(images, epochs=1)
    monkeypatch.setattr("mmcv.transforms.LoadImageFromFile.transform", lambda *_: pytest.fail("read again"))
    seen(images, epochs=2)
