"""COCO's metrics of a run's predictions, by pycocotools, and how sure they are."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

METRICS = {"AP": 0, "AP50": 1, "AP75": 2, "AP_S": 3, "AP_M": 4, "AP_L": 5, "AR": 8, "AR_S": 9, "AR_M": 10, "AR_L": 11}
"""COCO's summary numbers that the paper prints, by their place in ``COCOeval.stats``."""


def evaluate(
    annotations: Path, predictions: Path, *, resamples: int, seed: int
) -> tuple[dict[str, float], tuple[float, float] | None]:
    """Metrics in percent, and a bootstrap interval of AP over images.

    Args:
        annotations: Ground truth, COCO's JSON.
        predictions: Detections, COCO's results JSON.
        resamples: Number of bootstrap resamples of the images; 0: no interval.
        seed: Of the resampling.

    Returns:
        The metrics by name, and the 95 % percentile interval of AP. Without a single detection every metric is 0.
    """
    if not json.loads(predictions.read_text()):
        return dict.fromkeys(METRICS, 0.0), None
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        evaluation = COCOeval(truth, truth.loadRes(str(predictions)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        # COCO marks what has no object by -1.
        metrics = {name: round(100 * float(evaluation.stats[i]), 3) for name, i in METRICS.items() if evaluation.stats[i] >= 0}
        interval = _interval(evaluation, resamples, seed) if resamples else None
    return metrics, interval


def _interval(evaluation: COCOeval, resamples: int, seed: int) -> tuple[float, float]:
    """Percentile bootstrap over images: pycocotools accumulates resampled images anew, matching is done once."""
    params = evaluation.params
    images = len(params.imgIds)
    # evalImgs is ordered by class, area range, image; keep the range "all" and 100 detections.
    by_image = np.array(evaluation.evalImgs, dtype=object).reshape(len(params.catIds), len(params.areaRng), images)[:, 0]
    params.areaRng, params.areaRngLbl, params.maxDets = params.areaRng[:1], params.areaRngLbl[:1], [100]
    params.imgIds = list(range(images))
    evaluation._paramsEval = params
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(resamples):
        evaluation.evalImgs = list(by_image[:, rng.integers(images, size=images)].reshape(-1))
        evaluation.accumulate()
        precision = evaluation.eval["precision"]
        if (found := precision[precision > -1]).size:
            values.append(100 * float(found.mean()))
    low, high = np.percentile(values, [2.5, 97.5])
    return round(float(low), 3), round(float(high), 3)
