"""Train one run: everything between a specification and its record."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

import dfmsd.distiller
import dfmsd.hooks  # noqa: F401  (registers the hooks)
from dfmsd import build, checkpoints, data, paths, records
from dfmsd.augment import area_ratio
from dfmsd.errors import StudyError
from dfmsd.evaluate import evaluate
from dfmsd.hooks import NaNLoss, read_curve, shares
from dfmsd.records import Provenance, Record
from dfmsd.spec import RunSpec, TeacherSpec

RESAMPLES = 200
"""Bootstrap resamples of the images for a record's interval."""

LIBRARIES = ("torch", "onedl-mmdetection", "onedl-mmcv", "onedl-mmengine", "numpy", "pycocotools")


def run(spec: RunSpec, *, workers: int = 0) -> Record:
    """Train, evaluate and record a run; return at once if it has a record and weights.

    Work goes on in ``runs/<key>.partial``, which is renamed to ``runs/<key>`` when everything in it is whole. A run that was
    interrupted goes on from its last checkpoint and ends in the same record.

    Args:
        spec: The run. The runs it needs must have been trained.
        workers: Processes that load images; 0 loads in this one.

    Raises:
        StudyError: if another process trains this key, a run it needs has no weights, the loss is not finite, the disk is full, or
            a checkpoint is damaged. What was computed until then stays.
    """
    final, partial = paths.runs() / spec.key, paths.runs() / f"{spec.key}.partial"
    with _locked(spec.key):
        if (final / "record.json").exists():
            return records.read(final / "record.json")
        if (failed := records.failure(spec.key)) is not None:
            raise StudyError(f"run {spec.key} broke off before ({failed.note}): change it, or delete {partial.name} to try again")
        partial.mkdir(parents=True, exist_ok=True)
        with _full_disk_in_plain_words(partial):
            try:
                record = _train(spec, partial, workers)
            except NaNLoss as error:
                failed = Record(key=spec.key, state="nan", spec=spec.flat(), note=str(error), provenance=_provenance(spec, 0.0, 0, ""))
                records.write_atomic(partial / "record.json", records.dump(failed))
                raise StudyError(f"run {spec.key} ({spec.network.name}): {error}; its last checkpoint stays in {partial.name}") from None
            records.write_atomic(partial / "record.json", records.dump(record))
            for checkpoint in partial.glob("epoch_*.pth"):
                checkpoint.unlink()
            os.rename(partial, final)
    return record


def weights(run_or_teacher: RunSpec | TeacherSpec) -> str:
    """File or address of the weights of a trained run or a published teacher.

    Raises:
        StudyError: if the run was not trained here, its weights are not those of its record, or it has no measured AP.
    """
    if isinstance(run_or_teacher, TeacherSpec):
        return run_or_teacher.weights.url
    folder = paths.runs() / run_or_teacher.key
    name = f"{run_or_teacher.network.name} ({run_or_teacher.key})"
    if not (folder / "record.json").exists():
        raise StudyError(f"{name} has not been trained here: it has no weights to hand on")
    record = records.read(folder / "record.json")
    if record.state != "ok" and run_or_teacher.schedule.max_iters is None and run_or_teacher.scale != "smoke":
        raise StudyError(f"{name} detects nothing on this data (AP 0): it cannot teach")
    file = folder / "student.pth"
    if not file.exists() or _sha256(file) != record.weights_sha256:
        raise StudyError(f"checkpoint {file} is damaged or not of its record: delete {folder} and train it again")
    return str(file)


def _train(spec: RunSpec, folder: Path, workers: int) -> Record:
    start = time.monotonic()
    root = data.ensure(spec.data, progress=False)
    config = build.run_config(
        spec,
        root,
        folder,
        teacher_checkpoint=weights(spec.stage.teacher) if spec.stage else None,
        student_checkpoint=weights(spec.parent) if spec.parent else None,
        ratios=_area_ratios(spec, root, folder) if spec.stage and spec.stage.enhance else None,
        workers=workers,
    )
    config.resume = (last := _last_checkpoint(folder)) is not None
    config.load_from = str(last) if last else None
    config.dump(folder / "config.py")
    runner = Runner.from_cfg(config)
    before = time.monotonic()
    runner.train()
    trained = time.monotonic() - before
    done = runner.iter
    runner.val()
    evaluated = root.tune if spec.eval_split == "tune" else root.val
    assert evaluated is not None  # build.run_config has checked it
    metrics, interval = evaluate(
        evaluated.annotations, folder / "predictions.bbox.json", resamples=RESAMPLES if spec.scale != "smoke" else 10, seed=spec.seed
    )
    model = runner.model.module if hasattr(runner.model, "module") else runner.model
    file = folder / "student.pth"
    state = checkpoints.student_of({name: value.cpu() for name, value in model.state_dict().items()})
    torch.save({"state_dict": state, "meta": {"dataset_meta": {"classes": root.classes}}}, file)
    curve = read_curve(folder / "curve.jsonl")
    balance = getattr(model, "balance", None)
    images = spec.schedule.batch * done
    return Record(
        key=spec.key,
        state="ok" if metrics["AP"] > 0 or interval is not None else "no detections",
        spec=spec.flat(),
        metrics=metrics,
        ap_interval=interval,
        shares=shares(curve),
        factors={} if balance is None else {name: round(float(balance.factor(name)), 8) for name in balance.index},
        curve=tuple(curve),
        weights_sha256=_sha256(file),
        provenance=_provenance(spec, time.monotonic() - start, images / trained if trained > 1 else 0.0, root.fingerprint),
    )


def _last_checkpoint(folder: Path) -> Path | None:
    """The checkpoint to resume from: the one that mmengine wrote whole last, else the newest one left."""
    pointer = folder / "last_checkpoint"
    if not pointer.exists():
        return None
    file = folder / Path(pointer.read_text().strip()).name
    if not file.exists():
        left = sorted(folder.glob("epoch_*.pth"), key=lambda path: int(path.stem.rpartition("_")[2]))
        if not left:
            return None
        file = left[-1]
    checkpoints.read(file)
    return file


def _area_ratios(spec: RunSpec, root: data.DataRoot, folder: Path) -> Path:
    """Area ratios of all training images by the weak teacher's boxes: predicted once, kept beside the teacher."""
    assert spec.stage is not None and spec.stage.enhance is not None
    enhance = spec.stage.enhance
    home = paths.runs() / enhance.weak.key
    file = home / f"area-ratios-{enhance.score}-{root.fingerprint}.json"
    if not file.exists():
        home.mkdir(parents=True, exist_ok=True)
        ratios = _predict_ratios(enhance.weak, spec, root, folder, enhance.score)
        records.write_atomic(file, json.dumps(ratios, sort_keys=True))
    return file


@torch.no_grad()
def _predict_ratios(
    weak: RunSpec | TeacherSpec, spec: RunSpec, root: data.DataRoot, folder: Path, score: float
) -> dict[str, float]:
    config = build.run_config(spec.model_copy(update={"stage": None, "parent": None, "network": weak.network}), root, folder)
    loader = config.val_dataloader
    loader.dataset.ann_file, loader.dataset.data_prefix = str(root.train.annotations), {"img": str(root.train.images)}
    teacher = build.built(weak.network, len(root.classes))
    checkpoints.load(teacher, weights(weak))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    teacher.eval().to(device)
    ratios = {}
    with DefaultScope.overwrite_default_scope("mmdet"):
        batches = Runner.build_dataloader(loader)
    for batch in batches:
        for sample in teacher.test_step(batch):
            height, width = sample.ori_shape[:2]
            found = sample.pred_instances
            ratio = area_ratio(found.bboxes, found.scores, score=score, height=height, width=width)
            ratios[str(sample.img_id)] = round(ratio, 6)
    return ratios


@contextmanager
def _locked(key: str) -> Iterator[None]:
    """One process a key; the system releases the lock when its process ends, however it ends."""
    folder = paths.runs()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{key}.lock").open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            raise StudyError(f"run {key} is being trained by process {stream.read().strip() or 'unknown'}: wait for it") from None
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield


@contextmanager
def _full_disk_in_plain_words(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:
        # torch reports a failed write as a RuntimeError of its archive writer.
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        torch_write = isinstance(error, RuntimeError) and "PytorchStreamWriter" in str(error)
        if not (full or torch_write):
            raise
        free = shutil.disk_usage(folder).free // 2**20
        raise StudyError(
            f"the disk is full ({free} MiB free in {folder}): make room, or let DFMSD_RUNS name a larger place; "
            "the run goes on from its last checkpoint"
        ) from error


def _provenance(spec: RunSpec, seconds: float, images_per_second: float, fingerprint: str) -> Provenance:
    cuda = torch.cuda.is_available()
    peak = torch.cuda.max_memory_allocated() if cuda else _peak_resident()
    return Provenance(
        commit=_commit(),
        versions={name: version(name) for name in LIBRARIES} | {"python": platform.python_version()},
        hardware=torch.cuda.get_device_name() if cuda else _processor(),
        threads=torch.get_num_threads(),
        seconds=round(seconds, 1),
        images_per_second=round(images_per_second, 2),
        peak_memory_mb=round(peak / 2**20, 1),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        data_fingerprint=fingerprint,
        code_digest=records.code_digest(spec),
    )


def _peak_resident() -> int:
    import resource

    # Linux counts in KiB, macOS in bytes.
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty", "--exclude=*"],
            cwd=paths.ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def describe(error: BaseException) -> dict[str, Any]:
    """An error as data for the parent process."""
    return {"expected": isinstance(error, StudyError), "message": str(error) or type(error).__name__}
