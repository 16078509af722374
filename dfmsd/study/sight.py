"""What shows a run while it trains: AP every few epochs, and TensorBoard or Weights & Biases. No number of a run depends on it.

The environment says what is wanted, so that it holds for every command and is no part of a run's key: ``DFMSD_VIS=tensorboard`` (or
``wandb``), ``DFMSD_AP_EVERY=4``.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from dfmsd.errors import StudyError, suggest
from dfmsd.study.evaluate import evaluate

BACKENDS = {"tensorboard": "TensorboardVisBackend", "wandb": "WandbVisBackend"}
"""mmengine's, by the package that each needs."""


def added(settings: Config) -> Config:
    """The config of a run, and in it what ``DFMSD_VIS`` and ``DFMSD_AP_EVERY`` ask for.

    Raises:
        StudyError: if one of them has a wrong value, or a package is missing.
    """
    if chosen := os.environ.get("DFMSD_VIS", "").strip():
        if chosen not in BACKENDS:
            raise StudyError(f"DFMSD_VIS={chosen}: {suggest(chosen, BACKENDS)}")
        if find_spec(chosen) is None:
            raise StudyError(f"DFMSD_VIS={chosen}: the package {chosen} is not installed: pip install {chosen}")
        # mmengine names it by the second: of two runs that one process begins in one, the second would get the first one's.
        settings.visualizer |= {"vis_backends": [{"type": BACKENDS[chosen]}], "name": uuid4().hex}
    if every := os.environ.get("DFMSD_AP_EVERY", "").strip():
        if not every.isdecimal() or int(every) < 1:
            raise StudyError(f"DFMSD_AP_EVERY={every}: it must be a whole number of epochs from 1 on")
        if settings.train_cfg.type == "EpochBasedTrainLoop":  # a rehearsal has no epochs
            settings.custom_hooks.append({"type": "EarlySight"})
            settings.train_cfg |= {"val_begin": int(every), "val_interval": int(every)}
    return settings


@HOOKS.register_module()
class EarlySight(Hook):
    """Tell the AP of a validation, in the log and by what else shows the run."""

    def after_val_epoch(self, runner: Any, metrics: Any = None) -> None:
        """Evaluate what mmdet's evaluator has written down."""
        if not is_main_process():
            return
        evaluator = runner.cfg.val_evaluator
        found, _ = evaluate(Path(evaluator.ann_file), Path(f"{evaluator.outfile_prefix}.bbox.json"), resamples=0)
        runner.logger.info(f"after epoch {runner.epoch}: AP {found['AP']:.1f}")
        runner.visualizer.add_scalars(found, step=runner.iter)
