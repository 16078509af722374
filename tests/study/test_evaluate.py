"""The metrics against mmdet's own, and the bootstrap against evaluations of resampled data sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.evaluation import CocoMetric

from dfmsd.study import evaluate as module
from dfmsd.study.evaluate import METRICS, evaluate

IMAGES, SIZE = 6, 256
CLASSES = ("disc", "ring", "star")


def truth(rng: np.random.Generator) -> dict[str, Any]:
    annotations = []
    for image in range(IMAGES):
        for side in (20, 50, 120):
            x, y = (float(v) for v in rng.integers(0, SIZE - side, 2))
            annotation = {"id": len(annotations) + 1, "image_id": image, "category_id": int(rng.integers(3)) + 1}
            annotations.append(annotation | {"bbox": [x, y, side, side], "area": side * side, "iscrowd": 0})
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "width": SIZE, "height": SIZE} for i in range(IMAGES)],
        "annotations": annotations,
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)],
    }


def detections(data: dict[str, Any], rng: np.random.Generator) -> list[dict[str, Any]]:
    """Shaken ground truth with some wrong classes, and boxes out of nowhere."""
    found = []
    for annotation in data["annotations"]:
        for _ in range(2):
            box = [float(v) for v in np.array(annotation["bbox"]) + rng.normal(0, annotation["bbox"][2] / 15, 4)]
            wrong = int(rng.integers(3)) + 1
            label = annotation["category_id"] if rng.random() < 0.8 else wrong
            found.append({"image_id": annotation["image_id"], "category_id": label, "bbox": box, "score": float(rng.random())})
    return found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder, rng = tmp_path_factory.mktemp("coco"), np.random.default_rng(0)
    data = truth(rng)
    (folder / "truth.json").write_text(json.dumps(data))
    (folder / "found.json").write_text(json.dumps(detections(data, rng)))
    return folder / "truth.json", folder / "found.json"


def test_metrics_are_mmdets(files: tuple[Path, Path]) -> None:
    found = json.loads(files[1].read_text())
    names = ["mAP", "mAP_50", "mAP_75", "mAP_s", "mAP_m", "mAP_l", "AR@100", "AR_s@1000", "AR_m@1000", "AR_l@1000"]
    metric = CocoMetric(str(files[0]), metric_items=names)
    metric.dataset_meta = {"classes": CLASSES}
    for image in range(IMAGES):
        own = [one for one in found if one["image_id"] == image]
        boxes = torch.tensor([one["bbox"] for one in own])
        predicted = {
            "bboxes": torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1),
            "scores": torch.tensor([one["score"] for one in own]),
            "labels": torch.tensor([one["category_id"] - 1 for one in own]),
        }
        metric.process({}, [{"img_id": image, "ori_shape": (SIZE, SIZE), "pred_instances": predicted}])
    theirs = metric.evaluate(IMAGES)
    ours, _ = evaluate(*files, resamples=0, seed=0)
    # mmdet rounds to a tenth of a percent.
    assert list(ours.values()) == pytest.approx([100 * theirs[f"coco/bbox_{name}"] for name in names], abs=0.051)
    assert list(ours) == list(METRICS)
    assert 10 < ours["AP"] < 90


def test_perfect_detections_are_100_and_absent_size_classes_are_left_out(tmp_path: Path) -> None:
    data = truth(np.random.default_rng(1))
    data["annotations"] = [a for a in data["annotations"] if a["bbox"][2] == 50]
    found = [{key: a[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.9} for a in data["annotations"]]
    (tmp_path / "t.json").write_text(json.dumps(data))
    (tmp_path / "f.json").write_text(json.dumps(found))
    metrics, interval = evaluate(tmp_path / "t.json", tmp_path / "f.json", resamples=20, seed=0)
    assert metrics == pytest.approx(dict.fromkeys(["AP", "AP50", "AP75", "AP_M", "AR", "AR_M"], 100.0))
    assert interval == pytest.approx((100.0, 100.0))


def test_no_detection_at_all_is_zero(files: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "none.json").write_text("[]")
    metrics, interval = evaluate(files[0], tmp_path / "none.json", resamples=10, seed=0)
    assert set(metrics.values()) == {0.0}
    assert interval is None


def test_interval_is_deterministic_by_seed_and_contains_the_point(files: tuple[Path, Path]) -> None:
    metrics, interval = evaluate(*files, resamples=200, seed=0)
    assert interval is not None
    assert interval[0] < metrics["AP"] < interval[1]
    assert evaluate(*files, resamples=200, seed=0)[1] == interval
    assert evaluate(*files, resamples=200, seed=1)[1] != interval


class Chosen:
    """Stands in for numpy's generator: every resample is this one."""

    def __init__(self, images: list[int]) -> None:
        self.images = np.array(images)

    def integers(self, high: int, size: int) -> np.ndarray:
        assert (high, size) == (IMAGES, IMAGES)
        return self.images


@pytest.mark.parametrize("images", [list(range(IMAGES)), [5, 4, 3, 2, 1, 0], [0, 0, 1, 2, 2, 5], [3] * IMAGES])
def test_a_resample_is_the_evaluation_of_the_resampled_data_set(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: list[int]
) -> None:
    """The data set is written anew, an image that is drawn twice as two images."""
    data, found = json.loads(files[0].read_text()), json.loads(files[1].read_text())
    drawn = {"images": [data["images"][i] | {"id": new} for new, i in enumerate(images)], "categories": data["categories"]}
    copies = [(new, a) for new, i in enumerate(images) for a in data["annotations"] if a["image_id"] == i]
    drawn["annotations"] = [a | {"id": n + 1, "image_id": new} for n, (new, a) in enumerate(copies)]
    redone = [d | {"image_id": new} for new, i in enumerate(images) for d in found if d["image_id"] == i]
    (tmp_path / "t.json").write_text(json.dumps(drawn))
    (tmp_path / "f.json").write_text(json.dumps(redone))
    expected, _ = evaluate(tmp_path / "t.json", tmp_path / "f.json", resamples=0, seed=0)
    monkeypatch.setattr(module.np.random, "default_rng", lambda _: Chosen(images))
    _, interval = evaluate(*files, resamples=3, seed=0)
    assert interval == pytest.approx((expected["AP"], expected["AP"]), abs=1e-3)
