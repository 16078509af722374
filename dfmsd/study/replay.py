"""Run the beginning of a recorded run again with today's code, to know whether a change of the code changed its numbers."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from dfmsd.errors import StudyError
from dfmsd.study import build, data, paths, plan, records
from dfmsd.study import run as train
from dfmsd.study.evaluate import evaluate
from dfmsd.study.hooks import POINTS, read_curve
from dfmsd.study.records import Record, Replay
from dfmsd.study.spec import RunSpec

FIRST = 3
"""Points of the learning curve that are run again: beyond the iterations over which shares are balanced."""


class _Enough(Exception):
    """Raised out of the training loop."""


@HOOKS.register_module()
class StopAfter(Hook):
    """Leave training after so many iterations, once all other hooks have seen them."""

    priority = "VERY_LOW"

    def __init__(self, iterations: int) -> None:
        self.iterations = iterations

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Stop."""
        if runner.iter + 1 >= self.iterations:
            raise _Enough


def replay(run: RunSpec, record: Record) -> Replay:
    """Compare a record with what today's code does: its first points of the learning curve, and the metrics of its weights.

    Both must be equal to the last digit that a record keeps, which can be expected on the same kind of processor only.

    Raises:
        StudyError: with the first difference, or if the weights of the run or of those it needs are not here.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(record.provenance.threads)
    try:
        # pycocotools prints what it does.
        with contextlib.redirect_stdout(io.StringIO()):
            iterations = _train_again(run, record)
            _evaluate_again(run, record)
    finally:
        torch.set_num_threads(threads)
    return Replay(
        key=run.key,
        code_digest=records.code_digest(run),
        commit=train.commit(),
        hardware=train.hardware(),
        iterations=iterations,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _train_again(run: RunSpec, record: Record) -> int:
    iterations = FIRST * max(1, plan.iterations(run) // POINTS)
    with tempfile.TemporaryDirectory(prefix="dfmsd-replay-") as place:
        config = train.config(run, Path(place))
        config.log_level = "ERROR"
        config.custom_hooks.append({"type": "StopAfter", "iterations": iterations})
        with contextlib.suppress(_Enough):
            Runner.from_cfg(config).train()
        again = read_curve(Path(place) / "curve.jsonl")
    for before, after in zip(record.curve[:FIRST], again, strict=True):
        _compare(run, f"at iteration {int(before['iteration'])}", before, after)
    return iterations


def _evaluate_again(run: RunSpec, record: Record) -> None:
    root = data.ensure(run.data)
    weights, _ = train.exported(run)
    with tempfile.TemporaryDirectory(prefix="dfmsd-replay-") as place:
        made = build.run_config(run.model_copy(update={"stage": None, "parent": None}), root, Path(place))
        config = train.unformatted(made.to_dict())
        config.load_from, config.log_level = str(weights), "ERROR"
        Runner.from_cfg(config).val()
        metrics, _ = evaluate(
            train.evaluated_split(run, root).annotations, Path(place) / "predictions.bbox.json", resamples=1, seed=run.seed
        )
    _compare(run, "in the evaluation", record.metrics, metrics)


def _compare(run: RunSpec, place: str, before: Mapping[str, float], after: Mapping[str, float]) -> None:
    for name in before.keys() | after.keys():
        if before.get(name) != after.get(name):
            raise StudyError(
                f"{run.key} differs {place}: {name} was {before.get(name)} and is {after.get(name)}: today's code, or this "
                "machine, does not make this record again"
            )


def write(confirmed: Replay) -> Path:
    """Keep a confirmation beside the published records."""
    file = paths.records() / "replays" / f"{confirmed.key}.json"
    records.write_atomic(file, confirmed.model_dump_json(indent=1) + "\n")
    return file
