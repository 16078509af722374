"""Real images through the scale ``coco``'s own path: mmdet's configs, 1333 x 800 pixels, COCO's classes."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from dfmsd.study import paths, records
from tests.fixtures_study import folders  # noqa: F401

COCO128 = Path(os.environ.get("DFMSD_COCO128", paths.ROOT.parent / "shared/data/coco128"))

WORDS = "run --student retinanet_r50 --teachers retinanet_r101 --method dmkd --scale coco --rehearse 2".split()


@pytest.mark.slow
@pytest.mark.usefixtures("folders")
@pytest.mark.skipif(not COCO128.is_dir(), reason="no COCO: name a root of its layout in DFMSD_COCO128")
def test_dmkd_by_a_retinanet_r101_goes_through_on_coco(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DFMSD_COCO", str(COCO128))
    done = subprocess.run([sys.executable, "-m", "dfmsd", *WORDS], cwd=paths.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    files = list(paths.runs().glob("*/record.json"))
    assert len(files) == 2
    teacher, student = sorted(map(records.read, files), key=lambda record: record.spec["stage"] is not None)
    assert student.spec["stage"]["teacher"] == teacher.key
    assert teacher.spec["network"]["config"] == "retinanet/retinanet_r101_fpn_2x_coco.py"
    assert student.spec["network"]["config"] == "retinanet/retinanet_r50_fpn_2x_coco.py"
    assert student.spec["image_size"] == [1333, 800]
    # Random weights after two steps: that it is a number is all that its AP can tell.
    assert 0 <= student.metrics["AP"] <= 100
    assert [point["iteration"] for point in student.curve] == [1, 2]
    for point in student.curve:
        assert point["loss_dmkd_rec"] > 0
        assert all(math.isfinite(value) for value in point.values())
    config = Config.fromfile(paths.runs() / student.key / "config.py")
    assert config.model.student.bbox_head.num_classes == 80
    evaluated = json.loads(Path(config.val_evaluator.ann_file).read_text())
    assert len(evaluated["images"]) == 2
    found = {detection["image_id"] for detection in json.loads((paths.runs() / student.key / "predictions.bbox.json").read_text())}
    assert found
    assert found <= {image["id"] for image in evaluated["images"]}
