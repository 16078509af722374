"""A loss that a notebook defines, trained as the study's methods are: what it ends at, as lines of the study's frame."""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path

import pandas as pd
from mmengine.runner import Runner

from dfmsd.report.explore import Live
from dfmsd.study import build, data, paths
from dfmsd.study.evaluate import basic, evaluate
from dfmsd.study.pages.short import LossPage
from dfmsd.study.rows import in_words
from dfmsd.study.run import RESAMPLES
from dfmsd.study.spec import RunSpec


def lines(page: LossPage, run: RunSpec, live: Live, name: str) -> pd.DataFrame:
    """The metrics of a student, as lines of :func:`dfmsd.study.frames.frame`.

    Args:
        page: Whose row it is.
        run: What was trained.
        live: What came of it.
        name: What a table calls the row.

    Returns:
        A line for each metric, in percent; AP with its 95 % interval over images. No run of the study has their number of
        iterations, so they have no key.
    """
    assert run.stage is not None
    metrics, resampled = _evaluated(run, live)
    low, high = basic(metrics["AP"], resampled) or (None, None)
    teacher = run.stage.teacher.name
    shared = {"page": page.page, "scale": page.scale, "source": "ours", "role": "row", "row": name, "seed": run.seed, "stage": 1}
    shared |= {"pair": in_words(run.name, [teacher]), "student": run.name, "teachers": teacher, "recipe": name.lower()}
    shared |= {"state": "ok", "stale": False, "note": "", "begin": 0, "end": page.epochs}
    found = pd.DataFrame([shared | {"metric": metric, "value": value} for metric, value in metrics.items()])
    return found.assign(low=found["metric"].map({"AP": low}), high=found["metric"].map({"AP": high}))


def _evaluated(run: RunSpec, live: Live) -> tuple[dict[str, float], tuple[float, ...]]:
    """COCO's metrics on the validation images, and AP on resamples of them."""
    with tempfile.TemporaryDirectory(prefix="explore-", dir=paths.runs()) as place, contextlib.redirect_stdout(io.StringIO()):
        settings = build.run_config(run.model_copy(update={"stage": None}), data.ensure(run.data), Path(place))
        names = ("work_dir", "val_dataloader", "val_cfg", "val_evaluator", "visualizer", "env_cfg", "default_scope")
        Runner(model=live.after, log_level="ERROR", **{name: settings[name] for name in names}).val()
        predictions = Path(place) / "predictions.bbox.json"
        return evaluate(Path(settings.val_evaluator.ann_file), predictions, resamples=RESAMPLES)
