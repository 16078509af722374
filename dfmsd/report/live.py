"""A distillation in the reader's own process, short or about to begin, with student, teacher and method left in hand to look at.

The study proper is :mod:`dfmsd.study.run`: it evaluates, records and exports. Here the same config is run for a few hundred iterations
or not at all, nothing is evaluated, and what comes back is the :class:`~dfmsd.distiller.Distiller` itself.
"""

from __future__ import annotations

import contextlib
import copy
import fcntl
import io
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from IPython.display import DisplayHandle, display
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import nn

import dfmsd.distiller
import dfmsd.study.hooks  # noqa: F401  (registers the hooks)
from dfmsd import checkpoints
from dfmsd.distiller import Distiller
from dfmsd.errors import StudyError, suggest
from dfmsd.hyper import METHODS
from dfmsd.report.dataset import generated
from dfmsd.study import build, data, pages, paths, plan, records, scales, zoo
from dfmsd.study import run as train
from dfmsd.study.hooks import read_curve
from dfmsd.study.rows import Row, chain, teacher_of
from dfmsd.study.scales import Scale
from dfmsd.study.spec import RunSpec, TeacherSpec

WARMUP = 0.2
"""Share of a short run that its warm-up may take."""

Curve = list[dict[str, float]]


@dataclass(frozen=True)
class Trained:
    """A network that was trained for a while, and how that went."""

    run: RunSpec
    before: nn.Module
    after: nn.Module
    curve: Curve
    iterations: int
    seconds: float
    finished: str


@dataclass(frozen=True)
class Live:
    """A distillation just done: the student's run, the distiller before and after, and the story of both trainings."""

    run: RunSpec
    before: Distiller
    after: Distiller
    curve: Curve
    story: tuple[dict[str, Any], ...]
    """A row for the teacher and one for the student, ready for ``pandas.DataFrame``."""


@dataclass(frozen=True)
class Begun:
    """A distillation before its first step, and where its two networks come from."""

    run: RunSpec
    distiller: Distiller
    teacher: str
    """In words."""
    student: str
    """In words."""


def planned(student: str, teacher: str, method: str, scale: str, *, teacher_epochs: float, epochs: float) -> RunSpec:
    """The run of a student that learns from one teacher for a short while.

    The teacher is the study's own where it has been trained on this machine; else one trained for a short while, too.

    Args:
        student: A network of the zoo.
        teacher: Another one.
        method: A distillation method.
        scale: A scale of generated data.
        teacher_epochs: Passes of the teacher over the training images, or a part of one, unless the study has trained it.
        epochs: The same of the student.

    Raises:
        StudyError: for a name that does not exist (the nearest is suggested), or a length that is not positive.
    """
    if method not in METHODS:
        raise StudyError(f"unknown method {method!r}: {suggest(method, METHODS)}")
    for name, value in (("epochs", epochs), ("teacher_epochs", teacher_epochs)):
        if value <= 0:
            raise StudyError(f"{name} = {value}: take more than 0, such as 1.5")
    base = scales.get(scale)
    generated(base.data)
    (run,) = chain(Row(student=student, teachers=(teacher,), recipe=method), base, base.seeds[0])
    assert run.stage is not None
    taught = teacher_run(teacher, base, epochs=teacher_epochs)
    enhance = run.stage.enhance and run.stage.enhance.model_copy(update={"weak": taught})
    stage = run.stage.model_copy(update={"teacher": taught, "enhance": enhance})
    return _short(run, epochs, stage=stage)


def teacher_run(teacher: str, scale: Scale, *, epochs: float) -> RunSpec:
    """The study's own training of a teacher, where it was done on this machine; else one for a short while.

    Args:
        teacher: A network of the zoo.
        scale: A scale of generated data.
        epochs: Passes of a short training over the training images, or a part of one.
    """
    generated(scale.data)
    full = teacher_of(teacher, scale)
    assert isinstance(full, RunSpec)
    return full if plan.has_weights(full) else _short(full, epochs)


def _short(run: RunSpec, epochs: float, **changes: Any) -> RunSpec:
    schedule = run.schedule.model_copy(update={"max_iters": None, "epochs": 1})
    epoch = plan.iterations(run.model_copy(update={"schedule": schedule}))
    iterations = max(1, round(epochs * epoch))
    warmup = min(run.schedule.warmup, int(WARMUP * iterations))
    short = run.schedule.model_copy(update={"max_iters": iterations, "warmup": warmup})
    fields = {name: getattr(run, name) for name in RunSpec.model_fields}
    return RunSpec(**(fields | changes | {"schedule": short}))


def distil(run: RunSpec) -> Live:
    """Train what :func:`planned` says, in this process: the teacher if there is none yet, then the student.

    The student's training is never skipped. A short-trained teacher is kept in ``explore/`` of :func:`dfmsd.study.paths.runs` as long as
    the code behind it stays the same.
    Masking enhancement goes by the ground-truth boxes: a teacher this young finds none.

    Raises:
        StudyError: if a loss is not finite, or the teacher's checkpoint is damaged.
    """
    assert run.stage is not None
    checkpoint, teacher_row = teacher_weights(run.stage.teacher)
    trained = _fit(run, checkpoint)
    assert isinstance(trained.before, Distiller) and isinstance(trained.after, Distiller)
    student_row = _row(trained, "trained in this notebook")
    return Live(run, trained.before, trained.after, trained.curve, (teacher_row, student_row))


def begin(run: RunSpec) -> Begun:
    """What :func:`planned` says, before its first step: nothing is trained but the teacher, if there is none yet.

    The student is the study's baseline where that has been trained on this machine: it has learned the same things as the teacher,
    alone. Else it has its initial weights.
    """
    assert run.stage is not None
    file, row = teacher_weights(run.stage.teacher)
    (alone,) = chain(Row(student=run.network.name, teachers=(), recipe="baseline"), scales.get(run.scale), run.seed)
    known = plan.has_weights(alone)
    config = _config(run, paths.runs(), file, train.weights(alone) if known else None)
    with _silence(), DefaultScope.overwrite_default_scope("mmdet"):
        torch.manual_seed(run.seed)
        distiller: Distiller = MODELS.build(config.model)
        distiller.init_weights()
    learned = f"the study's baseline, AP {_record(alone).metrics['AP']:.1f}" if known else "with its initial weights"
    student = f"{zoo.label(run.network.name)}, {learned}"
    return Begun(run, distiller.eval(), in_words(run.stage.teacher, row), student)


def in_words(teacher: RunSpec | TeacherSpec, row: dict[str, Any]) -> str:
    """A teacher and where its weights come from, as :func:`teacher_weights` tells it."""
    short = isinstance(teacher, RunSpec) and teacher.schedule.max_iters is not None
    plural = "s" * (row["iterations"] != 1)
    taught = f"trained for {row['iterations']} iteration{plural} only" if short else row["origin"]
    return f"{zoo.label(teacher.network.name)}, {taught}"


def machine() -> str:
    """This computer in a few words, without its name."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"
    return f"{platform.system()} {platform.machine()}, {device}, Python {platform.python_version()}, torch {torch.__version__}"


def teacher_weights(run: RunSpec | TeacherSpec) -> tuple[str, dict[str, Any]]:
    """The file of a teacher's weights, and the row that tells where they come from; trained here if there are none.

    Of several processes that want the same teacher one trains it, and the others wait.
    """
    assert isinstance(run, RunSpec)
    if run.schedule.max_iters is None:
        record = _record(run)
        about: dict[str, Any] = {
            "network": pages.describe(run),
            "origin": f"the study's, AP {record.metrics['AP']:.1f}",
            "iterations": plan.iterations(run),
            "seconds": record.provenance.seconds,
            "finished": record.provenance.finished,
            "first loss": record.curve[0]["loss"],
            "last loss": record.curve[-1]["loss"],
        }
        return train.weights(run), about
    file = paths.runs() / "explore" / f"{run.key}-{records.code_digest(run)}.pth"
    with _alone(file):
        if file.exists():
            with _silence():
                row = checkpoints.read(file)["row"]
            return str(file), row | {"origin": "kept from an earlier run"}
        trained = _fit(run, None)
        row = _row(trained, "trained in this notebook")
        _save({"state_dict": trained.after.state_dict(), "row": row}, file)
    return str(file), row


@contextlib.contextmanager
def _alone(file: Path) -> Iterator[None]:
    """One process at a time for a file; the system releases the lock when its process ends, however it ends."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_suffix(".lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _record(run: RunSpec) -> records.Record:
    return records.read(paths.runs() / run.key / "record.json")


def _row(trained: Trained, origin: str) -> dict[str, Any]:
    return {
        "network": pages.describe(trained.run),
        "origin": origin,
        "iterations": trained.iterations,
        "seconds": round(trained.seconds, 1),
        "finished": trained.finished,
        "first loss": round(trained.curve[0]["loss"], 3),
        "last loss": round(trained.curve[-1]["loss"], 3),
    }


def _save(content: dict[str, Any], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
    torch.save(content, partial)
    partial.replace(file)


def _fit(run: RunSpec, teacher_checkpoint: str | None) -> Trained:
    """Train a run in this process, without evaluation or checkpoints."""
    paths.runs().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="explore-", dir=paths.runs()) as place:
        config = _config(run, Path(place), teacher_checkpoint, None)
        config.update({"val_dataloader": None, "val_cfg": None, "val_evaluator": None, "log_level": "ERROR"})
        config.default_hooks.update({"checkpoint": None, "logger": None})
        watch = Watch(pages.describe(run))
        with _silence():
            runner = Runner.from_cfg(config)
            runner.register_hook(watch, priority="LOWEST")
            start = time.monotonic()
            runner.train()
            seconds = time.monotonic() - start
        curve = read_curve(Path(place) / "curve.jsonl")
    finished = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    return Trained(run, watch.before.cpu(), runner.model.cpu(), curve, runner.iter, seconds, finished)


def _config(run: RunSpec, folder: Path, teacher_checkpoint: str | None, student_checkpoint: str | None) -> Config:
    """A run's config; masking enhancement goes by the ground truth."""
    files = [teacher_checkpoint] if teacher_checkpoint else []
    root = data.ensure(run.data)
    config = build.run_config(run, root, folder, teacher_checkpoints=files, student_checkpoint=student_checkpoint)
    if run.stage is not None and run.stage.enhance is not None:
        config.model.enhance.ratios = None
    return train.unformatted(config.to_dict())


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep the chatter of libraries, and the paths in it, out of the notebook; a display is not printed and gets through."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


class Watch(Hook):
    """Keep the network as it was before the first step, and show progress in one line that is rewritten.

    Args:
        title: Begins the line.
    """

    before: nn.Module

    def __init__(self, title: str) -> None:
        self.title = title
        self.line: DisplayHandle | None = None

    def before_train(self, runner: Any) -> None:
        """Weights are initialised by now."""
        self.before = copy.deepcopy(runner.model)
        self.line = display(self._text(runner, 0), raw=True, display_id=True)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Rewrite the line now and then."""
        done = runner.iter + 1
        if self.line is not None and (done % max(1, runner.max_iters // 20) == 0 or done == runner.max_iters):
            self.line.update(self._text(runner, done), raw=True)

    def _text(self, runner: Any, done: int) -> dict[str, str]:
        return {"text/plain": f"{self.title}: {done} of {runner.max_iters} iterations"}
