"""What a run adds to mmengine's training loop: seeds that survive a resume, a guard against NaN, and the learning curve."""

from __future__ import annotations

import json
import math
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce_dict, get_rank, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import FUNCTIONS, HOOKS

from dfmsd.errors import StudyError
from dfmsd.hyper import METHODS
from dfmsd.study import files, plan

POINTS = 100
"""About as many points has a learning curve."""


class NaNLoss(StudyError):
    """A loss stopped being finite."""


@HOOKS.register_module()
class SeedHook(Hook):
    """Draw all randomness from (seed, iteration), so that a run resumed at an epoch's end equals one that was never interrupted."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def before_run(self, runner: Any) -> None:
        """Weights are initialised after this point: with one seed, every method starts from the same student."""
        self._draw_from(0)

    def before_train_epoch(self, runner: Any) -> None:
        """The first batch of an epoch is loaded after this point."""
        self._draw_from(runner.iter)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """The step and the loading of the next batch."""
        self._draw_from(runner.iter)

    def _draw_from(self, iteration: int) -> None:
        # Of several processes all load images by the first one's numbers, see FlipInTurn; masks each draws by its own.
        first, own = (np.random.SeedSequence([self.seed, iteration, rank]).generate_state(3) for rank in (0, get_rank()))
        random.seed(int(first[0]))
        np.random.seed(int(first[1]))  # noqa: NPY002  (mmcv's transforms draw from the legacy generator)
        torch.manual_seed(int(own[2]))


@FUNCTIONS.register_module()
def seed_worker(worker_id: int, **_: Any) -> None:
    """Seed a process that loads images from torch's own seed for it, which :class:`SeedHook` has fixed for this epoch."""
    words = np.random.SeedSequence(torch.initial_seed()).generate_state(2)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))  # noqa: NPY002


@HOOKS.register_module()
class MeanLosses(Hook):
    """Give the hooks behind it the mean of the losses over all processes, which is the loss of the whole batch."""

    priority = "HIGHEST"

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Take the mean; of one process it is what it was."""
        if outputs:
            all_reduce_dict(outputs, "mean")


@HOOKS.register_module()
class LossGuard(Hook):
    """Stop a run whose loss is no longer finite, before its next checkpoint is written.

    Args:
        interval: Look every so many iterations and before each checkpoint; a look waits for the device.
    """

    def __init__(self, interval: int = 10) -> None:
        self.interval = interval

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Look at the loss."""
        last = batch_idx + 1 == len(runner.train_dataloader)
        if outputs is None or not (last or self.every_n_train_iters(runner, self.interval)):
            return
        bad = sorted(name for name, value in outputs.items() if "loss" in name and not torch.isfinite(value).all())
        if bad:
            place = f"at iteration {runner.iter + 1} ({', '.join(bad)})"
            raise NaNLoss(f"loss is not finite {place}: lower the learning rate or the method's weight")


@HOOKS.register_module()
class CurveHook(Hook):
    """Write the learning curve and the progress of a run into its folder, so that both outlive its process.

    ``curve.jsonl`` holds a line of losses, averaged over the iterations since the last line; ``progress.json`` the iterations
    done and the seconds that the run has taken, those before an interruption too.
    """

    def __init__(self, folder: str) -> None:
        self.curve = Path(folder) / "curve.jsonl"
        self.progress = Path(folder) / "progress.json"
        self._sums: dict[str, float] = {}
        self._count = 0

    def before_train(self, runner: Any) -> None:
        """Drop the points behind the checkpoint that the run resumes from."""
        self._every = max(1, runner.max_iters // POINTS)
        self._start = time.monotonic() - plan.seconds_so_far(self.progress.parent)
        if not is_main_process():
            return
        points = [point for point in read_curve(self.curve) if point["iteration"] <= runner.iter]
        wanted = [done for done in range(1, runner.iter + 1) if done % self._every == 0 or done == runner.max_iters]
        if [point["iteration"] for point in points] != wanted:
            raise StudyError(f"{self.curve} lacks points up to iteration {runner.iter}: {way_out(self.curve)}")
        kept = self.curve.with_suffix(".kept")
        kept.write_text("".join(json.dumps(point) + "\n" for point in points))
        kept.replace(self.curve)

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """The sums since the last point travel with the checkpoint: a resumed curve is the uninterrupted one. So does its run."""
        checkpoint["curve_window"] = self._sums, self._count
        checkpoint["run"] = self.curve.parent.name.removesuffix(".partial")

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Go on with the sums."""
        self._sums, self._count = checkpoint.get("curve_window", ({}, 0))

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Add this iteration."""
        for name, value in (outputs or {}).items():
            if "loss" in name:
                self._sums[name] = self._sums.get(name, 0.0) + value.detach()
        self._count += 1
        iteration = runner.iter + 1
        if iteration % self._every == 0 or iteration == runner.max_iters:
            point = {"iteration": iteration, "lr": runner.optim_wrapper.get_lr()["lr"][0]}
            point |= {name: round(float(total) / self._count, 6) for name, total in self._sums.items()}
            self._sums, self._count = {}, 0
            if not is_main_process():
                return
            with self.curve.open("a") as file:
                file.write(json.dumps(point) + "\n")
            seconds = round(time.monotonic() - self._start, 1)
            files.write_atomic(self.progress, json.dumps({"iteration": iteration, "of": runner.max_iters, "seconds": seconds}))


def read_curve(file: Path) -> list[dict[str, Any]]:
    """The points of a ``curve.jsonl``; a last line that a kill cut short is left out.

    Raises:
        StudyError: if another line is damaged: what follows would be lost.
    """
    try:
        lines = files.read_text(file).splitlines() if file.exists() else []
    except UnicodeDecodeError:
        raise StudyError(f"{file} is damaged: {way_out(file)}") from None
    points = [_point(line) for line in lines]
    if None in points[:-1]:
        raise StudyError(f"{file} is damaged in line {points.index(None) + 1}: {way_out(file)}")
    return [point for point in points if point is not None]


def _point(line: str) -> dict[str, Any] | None:
    """A point of a curve; None if the line is none."""
    try:
        point = json.loads(line)
        return point if "iteration" in point and all(map(math.isfinite, point.values())) else None
    except (ValueError, TypeError, AttributeError):
        return None


def way_out(file: Path) -> str:
    """What to do about a damaged file of a run that has not ended."""
    return f"delete the folder {file.parent}, and the run starts afresh"


def shares(curve: list[dict[str, Any]]) -> dict[str, float]:
    """Mean of each distillation term over a run, relative to the mean of the student's own loss.

    Example:
        >>> shares([{"iteration": 1, "loss": 3.0, "loss_cls": 2.0, "loss_mgd_rec": 1.0}])
        {'loss_mgd_rec': 0.5}
    """
    prefixes = tuple(f"loss_{name}_" for name in METHODS)
    terms = {name for point in curve for name in point if name.startswith(prefixes)}
    totals = {name: math.fsum(point.get(name, 0.0) for point in curve) for name in terms}
    detection = math.fsum(point["loss"] for point in curve) - math.fsum(totals.values())
    return {name: round(total / detection, 6) for name, total in sorted(totals.items())} if detection > 0 else {}
