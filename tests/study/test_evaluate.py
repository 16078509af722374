"""The metrics against mmdet's own, and the bootstrap against evaluations of resampled data sets and a known AP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.evaluation import CocoMetric

from dfmsd.study import evaluate as module
from dfmsd.study.evaluate import METRICS, basic, evaluate

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
    ours, _ = evaluate(*files, resamples=0)
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
    metrics, resampled = evaluate(tmp_path / "t.json", tmp_path / "f.json", resamples=20)
    assert metrics == pytest.approx(dict.fromkeys(["AP", "AP50", "AP75", "AP_M", "AR", "AR_M"], 100.0))
    assert resampled == pytest.approx([100.0] * 20) and basic(100.0, resampled) == pytest.approx((100.0, 100.0))


def test_no_detection_at_all_is_zero(files: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "none.json").write_text("[]")
    metrics, resampled = evaluate(files[0], tmp_path / "none.json", resamples=10)
    assert set(metrics.values()) == {0.0}
    assert resampled == () and basic(0.0, resampled) is None


def world(
    folder: Path, rng: np.random.Generator, false_scores: tuple[float, float] = (1, 2), images: int = 50
) -> tuple[Path, Path]:
    """Images of three objects, each found exactly, and three detections out of nowhere; right scores are of Beta(2, 1)."""
    annotations: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for image in range(images):
        for place in range(3):
            box = [40.0 * place, 0.0, 30.0, 30.0]
            annotation = {"id": len(annotations) + 1, "image_id": image, "category_id": 1, "bbox": box, "area": 900.0, "iscrowd": 0}
            annotations.append(annotation)
            right, wrong = rng.beta(2, 1), rng.beta(*false_scores)
            found.append({"image_id": image, "category_id": 1, "bbox": box, "score": float(right)})
            found.append({"image_id": image, "category_id": 1, "bbox": [40.0 * place, 99.0, 30.0, 30.0], "score": float(wrong)})
    listed = [{"id": image, "file_name": "", "width": SIZE, "height": SIZE} for image in range(images)]
    data = {"images": listed, "annotations": annotations, "categories": [{"id": 1, "name": "disc"}]}
    (folder / "t.json").write_text(json.dumps(data))
    (folder / "f.json").write_text(json.dumps(found))
    return folder / "t.json", folder / "f.json"


RECALL = np.linspace(0, 1, 101)
TRUE = {
    # Above a score s there are 1 - s^2 right detections an object, and (1 - s)^2 or, of even scores, 1 - s wrong ones.
    (1, 2): 100 * float(np.mean((1 + np.sqrt(1 - RECALL)) / 2)),
    (1, 1): 100 * float(np.mean((1 + np.sqrt(1 - RECALL)) / (2 + np.sqrt(1 - RECALL)))),
}
"""AP in endless images, by the wrong detections' scores: precision at COCO's 101 recalls."""


def test_the_interval_is_less_biased_than_percentiles_and_pairs_hardly_at_all(tmp_path: Path) -> None:
    """On data whose AP is known: precision's envelope makes AP of few images too high, duplicates make resamples higher still."""
    rng, rounds = np.random.default_rng(0), 20
    middles, percentiles, pairs, within = [], [], [], 0
    for _ in range(rounds):
        one, other = (evaluate(*world(tmp_path, rng, scores), resamples=60) for scores in TRUE)
        ends = basic(one[0]["AP"], one[1])
        apart = basic(one[0]["AP"] - other[0]["AP"], np.subtract(one[1], other[1]))
        assert ends and apart
        middles.append(sum(ends) / 2 - TRUE[1, 2])
        percentiles.append(float(np.quantile(one[1], [0.025, 0.975]).mean()) - TRUE[1, 2])
        difference = TRUE[1, 2] - TRUE[1, 1]
        pairs.append(sum(apart) / 2 - difference)
        within += apart[0] <= difference <= apart[1]
    assert abs(np.mean(middles)) < 0.75 * abs(np.mean(percentiles))
    assert abs(np.mean(pairs)) < 2 * np.std(pairs, ddof=1) / np.sqrt(rounds)
    assert within >= 16, "95 % of 20, less three standard deviations"


def test_the_interval_turns_the_resamples_around() -> None:
    # Resamples from 1 below the value to 3 above it: the interval reaches from 3 below to 1 above.
    assert basic(50.0, np.linspace(49.0, 53.0, 4001).tolist()) == pytest.approx((50 - 2.9, 50 + 0.9), abs=0.001)


def test_runs_on_one_split_have_the_same_resamples(files: tuple[Path, Path], tmp_path: Path) -> None:
    _, resampled = evaluate(*files, resamples=20)
    assert evaluate(*files, resamples=20)[1] == resampled and len(set(resampled)) > 10
    found = json.loads(files[1].read_text())
    (tmp_path / "f.json").write_text(json.dumps([one | {"score": one["score"] / 2} for one in found]))
    assert evaluate(files[0], tmp_path / "f.json", resamples=20)[1] == resampled, "scores have the same order"


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
    expected, _ = evaluate(tmp_path / "t.json", tmp_path / "f.json", resamples=0)
    monkeypatch.setattr(module.np.random, "default_rng", lambda _: Chosen(images))
    _, resampled = evaluate(*files, resamples=2)
    assert resampled == pytest.approx([expected["AP"]] * 2, abs=1e-3)
