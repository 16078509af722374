"""A short distillation in the reader's own process, and what it looks like from inside.

The study proper is :mod:`dfmsd.study.run`: it evaluates, records and exports. Here the same config is run for a few hundred
iterations, nothing is evaluated, and what comes back is the :class:`~dfmsd.distiller.Distiller` itself, before and after.
"""

from __future__ import annotations

import contextlib
import copy
import io
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from IPython.display import DisplayHandle, display
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

import dfmsd.distiller
import dfmsd.study.hooks  # noqa: F401  (registers the hooks)
from dfmsd import checkpoints
from dfmsd.distiller import Distiller
from dfmsd.errors import StudyError
from dfmsd.report.methods import SEED
from dfmsd.study import build, code, data, files, pages, paths, plan, records, run, scales
from dfmsd.study.hooks import read_curve
from dfmsd.study.pages import ExplorePage
from dfmsd.study.rows import Row, chain, teacher_of
from dfmsd.study.spec import RunSpec, StartSpec

WARMUP = 0.2
"""Share of a short training that its warm-up may take."""

START = 500
"""Images whose crops a start learns from that is pretrained here."""


@dataclass(frozen=True)
class Live:
    """A distillation just done."""

    before: Distiller
    after: Distiller
    curve: list[dict[str, float]]
    story: pd.DataFrame
    """How both networks were trained, a column each."""


def planned(page: ExplorePage) -> RunSpec:
    """The run of a student that learns from one teacher for a short while; a scale beyond ``mini`` is too large for that.

    The teacher is the study's own where it has been trained on this machine; else one trained for a short while, too. Likewise the
    starts of their backbones.
    """
    if page.scale not in ("smoke", "mini"):
        raise StudyError(f"scale = {page.scale!r}: a training in a notebook takes mini or smoke")
    scale = scales.get(page.scale)
    (full,) = chain(Row(student=page.student, teachers=(page.teacher,), recipe=page.method), scale, scale.seeds[0])
    teacher = teacher_of(page.teacher, scale)
    assert full.stage is not None and isinstance(teacher, RunSpec)
    taught = teacher if plan.has_weights(teacher) else _short(teacher, page.teacher_epochs)
    enhance = full.stage.enhance and full.stage.enhance.model_copy(update={"weak": taught})
    balance = full.stage.balance and full.stage.balance.model_copy(update={"teacher": taught})
    links = {"teacher": taught, "enhance": enhance, "balance": balance}
    return _short(full, page.epochs, stage=full.stage.model_copy(update=links))


def _short(full: RunSpec, epochs: float, **changes: Any) -> RunSpec:
    schedule = full.schedule.model_copy(update={"max_iters": None, "epochs": 1})
    iterations = max(1, round(epochs * plan.iterations(full.model_copy(update={"schedule": schedule}))))
    warmup = min(full.schedule.warmup, int(WARMUP * iterations))
    short = full.schedule.model_copy(update={"max_iters": iterations, "warmup": warmup})
    fields = {name: getattr(full, name) for name in RunSpec.model_fields}
    return RunSpec(**(fields | changes | {"schedule": short, "start": _start(full.start)}))


def _start(full: StartSpec | None) -> StartSpec | None:
    if full is None or plan.has_weights(full):
        return full
    few = {"train": min(START, full.data.train), "val": min(START, full.data.val)}
    return full.model_copy(update={"data": full.data.model_copy(update=few)})


def distil(student: RunSpec) -> Live:
    """Train what :func:`planned` says, in this process: the starts and the teacher if there are none yet, then the student.

    The student's training is never skipped. A start is kept like a run of the study. A short-trained teacher is kept in
    ``explore/`` of :func:`dfmsd.study.paths.runs` as long as the code behind it stays the same. Masking enhancement goes by the
    ground-truth boxes, as a teacher this young finds none.
    """
    assert student.stage is not None and isinstance(student.stage.teacher, RunSpec)
    weights, teacher_story = _teacher(student.stage.teacher)
    before, after, curve, story = _fit(student, weights)
    assert isinstance(before, Distiller) and isinstance(after, Distiller)
    both = pd.DataFrame({pages.describe(student.stage.teacher): teacher_story, pages.describe(student): story})
    return Live(before, after, curve, both)


def _teacher(teacher: RunSpec) -> tuple[str, dict[str, Any]]:
    """The file of a teacher's weights, and how it was trained; it is trained here if there are none, by one process at a time."""
    if teacher.schedule.max_iters is None:
        record = records.read(paths.runs() / teacher.key / "record.json")
        origin = f"the study's, AP {record.metrics.get('AP', 0.0):.1f}"
        return run.weights(teacher), _story(origin, plan.iterations(teacher), record.provenance.seconds, record.curve)
    file = paths.runs() / "explore" / f"{teacher.key}-{code.digest(teacher)}.pth"
    with files.locked(file.with_suffix(".lock")):
        if file.exists():
            with _silence():
                return str(file), checkpoints.read(file)["story"] | {"origin": "kept from an earlier time"}
        _, after, _, story = _fit(teacher, None)
        stream = io.BytesIO()
        torch.save({"state_dict": after.state_dict(), "story": story}, stream)
        files.write_atomic(file, stream.getvalue())
    return str(file), story


def _story(origin: str, iterations: int, seconds: float, curve: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    loss = {"first loss": round(curve[0]["loss"], 3), "last loss": round(curve[-1]["loss"], 3)}
    return {"origin": origin, "iterations": iterations, "seconds": round(seconds, 1)} | loss


def _fit(spec: RunSpec, teacher: str | None) -> tuple[nn.Module, nn.Module, list[dict[str, float]], dict[str, Any]]:
    """Train a run in this process, without evaluation or checkpoints: the network before and after, the curve, the story."""
    paths.runs().mkdir(parents=True, exist_ok=True)
    if spec.start is not None:
        with _silence():
            run.run(spec.start)
    with tempfile.TemporaryDirectory(prefix="explore-", dir=paths.runs()) as place:
        config = _config(spec, Path(place), teacher)
        watch = _Watch(pages.describe(spec))
        with _silence():
            runner = Runner.from_cfg(config)
            runner.register_hook(watch, priority="LOWEST")
            start = time.monotonic()
            runner.train()
            seconds = time.monotonic() - start
        curve = read_curve(Path(place) / "curve.jsonl")
    return watch.before.cpu(), runner.model.cpu(), curve, _story("trained in this notebook", runner.iter, seconds, curve)


def _config(spec: RunSpec, folder: Path, teacher: str | None) -> Config:
    def config(one: RunSpec) -> Config:
        return build.run_config(
            one,
            data.ensure(one.data),
            folder,
            teacher_checkpoints=[teacher] if teacher else [],
            start_checkpoint=run.weights(one.start) if one.start else None,
        )

    settings = config(spec)
    if spec.stage is not None:
        with _silence():
            settings.model.factors = run.factors_of(spec, lambda before: run.measured_factors(config(before), before.seed))
    if spec.stage is not None and spec.stage.enhance is not None:
        settings.model.enhance.ratios = None
    settings.update({"val_dataloader": None, "val_cfg": None, "val_evaluator": None, "log_level": "ERROR"})
    settings.default_hooks.update({"checkpoint": None, "logger": None})
    return settings


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep the chatter of libraries, and the paths in it, out of the notebook; a display is not printed and gets through."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


class _Watch(Hook):
    """Keep the network as it was before the first step, and show progress in one line that is rewritten."""

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


def losses(live: Live) -> pd.DataFrame:
    """The student's curve, a column a part: its ``detection`` loss, and each term of the method by its name; by iteration."""
    prefix = f"loss_{live.after.methods_by_teacher[0][0].name}_"
    frame = pd.DataFrame(live.curve).set_index("iteration")
    terms = frame.filter(regex=f"^{prefix}").rename(columns=lambda name: str(name).removeprefix(prefix))
    return pd.concat([(frame["loss"] - terms.sum(axis=1)).rename("detection"), terms], axis=1)


@torch.no_grad()
def reconstruction(distiller: Distiller, feat_s: Tensor, feat_t: Tensor, stride: int) -> Tensor | None:
    """What a method's blocks make of the masked student's map ``(1, C_s, H, W)``; None if it hides nothing.

    Raises:
        StudyError: if the method does not work on that level.
    """
    method: Any = distiller.methods_by_teacher[0][0]
    if str(stride) not in method.levels:
        raise StudyError(f"stride = {stride}: the method works on strides {', '.join(method.levels)}")
    block, generator = method.levels[str(stride)], torch.Generator().manual_seed(SEED)
    if hasattr(method, "reconstruct"):
        made: Tensor = method.reconstruct(block, block.align(feat_s), feat_t, generator)
        return made
    if hasattr(method, "mask"):
        made = block.generate(block.align(feat_s).masked_fill(method.mask(feat_t, generator), 0.0))
        return made
    return None
