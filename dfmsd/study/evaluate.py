"""COCO's metrics of a run's predictions, by pycocotools, and how much they owe to the choice of images."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

METRICS = {"AP": 0, "AP50": 1, "AP75": 2, "AP_S": 3, "AP_M": 4, "AP_L": 5, "AR": 8, "AR_S": 9, "AR_M": 10, "AR_L": 11}
"""COCO's summary numbers that the paper prints, by their place in ``COCOeval.stats``."""


def evaluate(annotations: Path, predictions: Path, *, resamples: int) -> tuple[dict[str, float], tuple[float, ...]]:
    """COCO's metrics of a results JSON in percent, by name, and AP on bootstrap resamples of the images.

    The resamples depend on the number of images alone: the n-th of two runs that are evaluated on one split holds the same images,
    so that the difference of the two is that of a paired bootstrap. What to make of them, :func:`basic` says. Without a single
    detection every metric is 0, and there are no resamples.
    """
    if not json.loads(predictions.read_text()):
        return dict.fromkeys(METRICS, 0.0), ()
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        evaluation = COCOeval(truth, truth.loadRes(str(predictions)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        # COCO marks what has no object by -1.
        metrics = {name: round(100 * float(evaluation.stats[i]), 3) for name, i in METRICS.items() if evaluation.stats[i] >= 0}
        return metrics, tuple(_resampled(evaluation, resamples))


def _resampled(evaluation: COCOeval, resamples: int) -> Iterator[float]:
    """AP on resamples of the images: pycocotools accumulates them anew, matching is done once."""
    params = evaluation.params
    images = len(params.imgIds)
    # evalImgs is ordered by class, area range, image; keep the range "all" and 100 detections.
    by_image = np.array(evaluation.evalImgs, dtype=object).reshape(len(params.catIds), len(params.areaRng), images)[:, 0]
    params.areaRng, params.areaRngLbl, params.maxDets = params.areaRng[:1], params.areaRngLbl[:1], [100]
    params.imgIds = list(range(images))
    evaluation._paramsEval = params
    rng = np.random.default_rng(0)
    for _ in range(resamples):
        evaluation.evalImgs = list(by_image[:, rng.integers(images, size=images)].reshape(-1))
        evaluation.accumulate()
        precision = evaluation.eval["precision"]
        found = precision[precision > -1]
        yield round(100 * float(found.mean()), 3) if found.size else 0.0


def basic(value: float, resampled: Sequence[float]) -> tuple[float, float] | None:
    r"""The 95 % basic bootstrap interval, :math:`[2v - q_{0.975},\; 2v - q_{0.025}]`, over images; None without resamples.

    A resample holds some images twice, which raises AP: resamples lie above the value that they are taken of, and so would an
    interval from their percentiles. The basic interval takes their distances from the value, and turns them around. It holds of the
    difference of two runs, too, from the differences of their resamples, one by one.

    Example:
        >>> basic(50.0, [50.0, 51.0, 52.0])
        (48.05, 49.95)
    """
    if not len(resampled):
        return None
    low, high = np.quantile(resampled, [0.025, 0.975])
    return round(2 * value - float(high), 3), round(2 * value - float(low), 3)
