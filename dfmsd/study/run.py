"""Train one run: everything between a specification and its record."""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import platform
import shutil
import subprocess
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.runner import Runner

import dfmsd.distiller
import dfmsd.study.hooks  # noqa: F401  (registers the hooks)
from dfmsd import checkpoints
from dfmsd.errors import StudyError
from dfmsd.study import build, data, paths, ratios, records
from dfmsd.study.evaluate import evaluate
from dfmsd.study.hooks import NaNLoss, read_curve, seconds_so_far, shares
from dfmsd.study.records import Provenance, Record
from dfmsd.study.spec import RunSpec, TeacherSpec

RESAMPLES = 200
"""Bootstrap resamples of the images for a record's interval."""

LIBRARIES = ("torch", "onedl-mmdetection", "onedl-mmcv", "onedl-mmengine", "numpy", "pycocotools")


def run(spec: RunSpec, *, workers: int = 0) -> Record:
    """Train, evaluate and record a run; return at once if it has a record and weights.

    Work goes on in ``<key>.partial`` of :func:`dfmsd.study.paths.runs`, which is renamed to ``<key>`` when everything in it is whole. A
    run that was interrupted goes on from its last checkpoint and ends in the same weights and metrics.

    Args:
        spec: The run. The runs it needs must have been trained.
        workers: Processes that load images; 0 loads in this one.

    Raises:
        StudyError: if another process trains this key, a run it needs has no weights, the loss is not finite, the disk is full, or
            a checkpoint is damaged. What was computed until then stays.
    """
    final, partial = paths.runs() / spec.key, paths.runs() / f"{spec.key}.partial"
    with records.full_disk_in_plain_words(), _locked(spec.key):
        if (final / "record.json").exists() and (final / "student.pth").exists():
            return records.read(final / "record.json")
        record = records.unfinished(spec.key)
        if record is None:
            partial.mkdir(parents=True, exist_ok=True)
            record = _recorded(spec, partial, workers)
        elif not record.is_result:
            raise StudyError(f"run {spec.key} broke off before ({record.note}): change it, or delete {partial} to try again")
        _move(partial, final)
    return record


def _recorded(spec: RunSpec, folder: Path, workers: int) -> Record:
    """Train and write the record, whether the run succeeds or its loss stops being finite."""
    try:
        record = _train(spec, folder, workers)
    except NaNLoss as error:
        broken = Record(key=spec.key, state="nan", spec=spec.flat(), note=str(error), provenance=_provenance(spec, 0.0, 0, ""))
        records.write_atomic(folder / "record.json", records.dump(broken))
        raise StudyError(f"{spec.network.name}: {error}; its last checkpoint stays in {folder}") from None
    records.write_atomic(folder / "record.json", records.dump(record))
    return record


def _move(partial: Path, final: Path) -> None:
    """Put a recorded run in its place; a kill in between leaves a partial folder with a record, whose move is done next time."""
    for checkpoint in partial.glob("epoch_*.pth"):
        checkpoint.unlink()
    # A run whose weights or record were deleted has left the rest there.
    left = final.with_name(f"{final.name}.left")
    shutil.rmtree(left, ignore_errors=True)
    if final.exists():
        final.rename(left)
    partial.rename(final)
    shutil.rmtree(left, ignore_errors=True)


def weights(run_or_teacher: RunSpec | TeacherSpec) -> str:
    """File or address of the weights of a trained run or a published teacher.

    Raises:
        StudyError: see :func:`exported`, or if the run has no measured AP.
    """
    if isinstance(run_or_teacher, TeacherSpec):
        return run_or_teacher.weights.url
    file, record = exported(run_or_teacher)
    if record.state != "ok" and run_or_teacher.schedule.max_iters is None and run_or_teacher.scale != "smoke":
        raise StudyError(f"{_name(run_or_teacher)} detects nothing on this data (AP 0): it cannot teach")
    return str(file)


def exported(run: RunSpec) -> tuple[Path, Record]:
    """File of the weights of a run trained here, and its record.

    Raises:
        StudyError: if the run was not trained here, or its weights are not those of its record.
    """
    folder = paths.runs() / run.key
    if not (folder / "record.json").exists():
        raise StudyError(f"{_name(run)} has not been trained here: it has no weights to hand on")
    record = records.read(folder / "record.json")
    file = folder / "student.pth"
    if not file.exists() or _sha256(file) != record.weights_sha256:
        raise StudyError(f"checkpoint {file} is damaged or not of its record: delete {folder} and train it again")
    return file, record


def _name(run: RunSpec) -> str:
    return f"{run.network.name} ({run.key})"


def config(spec: RunSpec, folder: Path, *, workers: int = 0) -> Config:
    """The config of a run in a folder, with the weights that it needs from here.

    Raises:
        StudyError: see :func:`weights`, and if the data cannot be had.
    """
    root = data.ensure(spec.data)
    made = build.run_config(
        spec,
        root,
        folder,
        teacher_checkpoints=[weights(teacher) for teacher in spec.stage.teachers] if spec.stage else [],
        student_checkpoint=weights(spec.parent) if spec.parent else None,
        ratios=ratios.ensure(spec, root, folder, weights(spec.stage.enhance.weak)) if spec.stage and spec.stage.enhance else None,
        workers=workers,
    )
    return unformatted(made.to_dict())


def unformatted(content: dict[str, Any]) -> Config:
    """A config that is printed as it is.

    To lay it out, as often as mmengine prints it, takes as long as a run at the scale ``smoke``.
    """
    return Config(content, format_python_code=False)


def _plain(settings: Config) -> Config:
    """The student's own config, for mmdet's ``init_detector`` and test script: it needs nothing of this package."""
    annotations = settings.val_evaluator.ann_file
    return unformatted(
        {
            "default_scope": settings.default_scope,
            "model": settings.model.get("student", settings.model),
            "test_dataloader": settings.val_dataloader,
            "test_evaluator": {"type": "CocoMetric", "ann_file": annotations, "metric": "bbox"},
            "test_cfg": {"type": "TestLoop"},
        }
    )


def evaluated_split(spec: RunSpec, root: data.DataRoot) -> data.Split:
    """The split that a run is judged on."""
    split = root.tune if spec.eval_split == "tune" else root.val
    assert split is not None  # build.run_config has checked it
    return split


def _train(spec: RunSpec, folder: Path, workers: int) -> Record:
    # Of earlier attempts as well, which an interruption ended.
    start = time.monotonic() - seconds_so_far(folder / "progress.json")
    root = data.ensure(spec.data)
    settings = config(spec, folder, workers=workers)
    settings.resume = (last := _last_checkpoint(folder)) is not None
    settings.load_from = str(last) if last else None
    settings.dump(folder / "config.py")
    runner = Runner.from_cfg(settings)
    begun = _iterations_in(last)  # now: training removes old checkpoints
    before = time.monotonic()
    runner.train()
    trained = time.monotonic() - before
    images = spec.schedule.batch * (runner.iter - begun)
    model = runner.model.module if hasattr(runner.model, "module") else runner.model
    state = checkpoints.student_of({name: value.cpu() for name, value in model.state_dict().items()})
    if not all(value.isfinite().all() for value in state.values()):
        raise NaNLoss("the last steps made weights that are not finite: lower the learning rate or the method's weight")
    runner.val()
    metrics, interval = evaluate(
        evaluated_split(spec, root).annotations,
        folder / "predictions.bbox.json",
        resamples=RESAMPLES if spec.scale != "smoke" else 10,
        seed=spec.seed,
    )
    # Through memory: torch reports a full disk in words of its own, and names the archive inside after the file.
    exported = io.BytesIO()
    torch.save({"state_dict": state, "meta": {"dataset_meta": {"classes": root.classes}}}, exported)
    (folder / "student.pth").write_bytes(exported.getvalue())
    _plain(settings).dump(folder / "student.py")
    curve = read_curve(folder / "curve.jsonl")
    balance = getattr(model, "balance", None)
    return Record(
        key=spec.key,
        state="ok" if metrics["AP"] > 0 or interval is not None else "no detections",
        spec=spec.flat(),
        metrics=metrics,
        ap_interval=interval,
        shares=shares(curve),
        factors={} if balance is None else {name: float(f"{float(balance.factor(name)):.6g}") for name in balance.index},
        curve=tuple(curve),
        weights_sha256=hashlib.sha256(exported.getvalue()).hexdigest(),
        provenance=_provenance(spec, time.monotonic() - start, images / trained if trained > 1 else 0.0, root.fingerprint),
    )


def _last_checkpoint(folder: Path) -> Path | None:
    """The checkpoint to resume from: the one that mmengine's pointer says is whole, else the newest one left.

    The pointer is written after its checkpoint. If a kill left it empty, it struck just then: the newest checkpoint is whole.
    """
    pointer = folder / "last_checkpoint"
    if not pointer.exists():
        return None
    file = folder / (Path(pointer.read_text().strip()).name or "none")
    left = sorted(folder.glob("epoch_*.pth"), key=lambda path: int(path.stem.rpartition("_")[2]))
    if not file.exists():
        if not left:
            return None
        file = left[-1]
    if not _is_whole(file):
        rest = "goes on from the one before" if len(left) > 1 else "starts afresh"
        raise StudyError(f"checkpoint {file} is damaged: delete it, and the run {rest}")
    return file


def _is_whole(checkpoint: Path) -> bool:
    """Whether every part of a checkpoint has its checksum; torch does not look when it loads."""
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, OSError):
        return False


def _iterations_in(checkpoint: Path | None) -> int:
    return 0 if checkpoint is None else int(checkpoints.read(checkpoint)["meta"]["iter"])


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


def _provenance(spec: RunSpec, seconds: float, images_per_second: float, fingerprint: str) -> Provenance:
    cuda = torch.cuda.is_available()
    peak = torch.cuda.max_memory_allocated() if cuda else _peak_resident()
    return Provenance(
        commit=commit(),
        versions={name: version(name) for name in LIBRARIES} | {"python": platform.python_version()},
        hardware=hardware(),
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


def hardware() -> str:
    """The GPU, or the processor if there is none."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else processor()


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def commit() -> str:
    """The commit of the code, marked if what decides numbers was changed since: code and parameters, not records or text."""
    try:
        changed = _git("status", "--porcelain", "--", "dfmsd", "params")
        return _git("rev-parse", "--short", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=paths.ROOT, capture_output=True, text=True, check=True).stdout.strip()


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
