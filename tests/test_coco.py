"""Images in COCO's format from the command line: a user's own, and real ones through the scale ``coco``'s own path."""

from __future__ import annotations

import json
import math
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import mmdet
import pytest
from mmengine.config import Config

from dfmsd.__main__ import main
from dfmsd.study import paths, records
from tests.fixtures_coco import YAML, change, pets
from tests.fixtures_study import folders  # noqa: F401

COCO128 = Path(os.environ.get("DFMSD_COCO128", paths.ROOT.parent / "shared/data/coco128"))

README = (paths.ROOT / "README.md").read_text().partition("## Your own images")[2].partition("## ")[0]

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


@pytest.mark.slow
@pytest.mark.usefixtures("folders")
def test_a_users_own_images_go_through_teacher_two_stages_and_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the commands that the README has, on 60 images of three classes."""
    (text,), (block,) = (re.findall(rf"```{kind}\n(.*?)```", README, re.S) for kind in ("yaml", "bash"))
    assert text == YAML
    monkeypatch.chdir(pets(tmp_path / "mine").parent)
    *runs, test = (shlex.split(line) for line in block.splitlines())
    for words in runs:
        assert words[:3] == [".venv/bin/python", "-m", "dfmsd"]
        assert main([*words[3:], "--scale", "smoke", "--jobs", "2"]) == 0
    teacher, *stages = (Path(line.split()[-1]) for line in capsys.readouterr().out.splitlines())
    found = [records.read(folder / "record.json") for folder in (teacher, *stages)]
    assert found[1].spec["stage"]["teacher"] == found[0].key
    assert found[2].spec["parent"] == found[1].key
    assert found[2].spec["stage"]["enhance"] is not None
    config = Config.fromfile(stages[-1] / "student.py")
    assert config.model.bbox_head.num_classes == 3
    script = next(Path(mmdet.__file__).parents[1].glob(test[1].partition("site-packages/")[2]))
    monkeypatch.setattr(sys, "argv", [str(script), *(word.replace("RUN", str(stages[-1])) for word in test[2:])])
    runpy.run_path(str(script), run_name="__main__")
    evaluated = re.findall(r"coco/bbox_mAP: (\S+)", capsys.readouterr().out)
    assert [float(value) for value in evaluated] == [pytest.approx(found[2].metrics["AP"] / 100, abs=5e-4)]


@pytest.mark.usefixtures("folders")
def test_what_is_wrong_with_ones_data_is_listed_before_anything_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = pets(tmp_path / "mine", train=4, val=2)
    change(file.parent, "train", lambda truth: truth["annotations"][0].update(bbox=[1, 2, float("nan"), 4]))
    (file.parent / "photos/autumn/0001.png").write_bytes(b"")
    assert main(["run", "--student", "fcos_r50", "--method", "baseline", "--scale", "smoke", "--data", str(file)]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"error: {file}: 2 things are wrong with the data, and nothing was trained:",
        "  labels/spring.json: annotation 1: its bbox is [1, 2, nan, 4]: "
        "it must be four finite numbers, left, top, width and height in pixels",
        "  labels/autumn.json: image 1: '0001.png' is empty",
    ]
    assert not paths.runs().exists()
