"""Train one run: everything between a specification and its record."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import platform
import resource
import shutil
import time
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from pydantic import FiniteFloat, TypeAdapter
from torch import nn

import dfmsd.distiller
import dfmsd.study.hooks  # noqa: F401  (registers the hooks)
from dfmsd import augment, checkpoints, losses
from dfmsd.balance import factors
from dfmsd.errors import StudyError
from dfmsd.hyper import METHODS, MethodSpec, for_pair
from dfmsd.study import build, code, data, files, machine, paths, ranks, records, sight, zoo
from dfmsd.study.evaluate import basic, evaluate
from dfmsd.study.hooks import NaNLoss, read_curve, shares
from dfmsd.study.plan import seconds_so_far
from dfmsd.study.records import Provenance, Record
from dfmsd.study.spec import Balance, EnhanceSpec, Run, RunSpec, StageSpec, StartSpec, TeacherSpec, digest
from dfmsd.study.start import pretrain

NUMBERS = TypeAdapter(dict[str, FiniteFloat])

RESAMPLES = 200
"""Bootstrap resamples of the images for a record's interval."""


def run(spec: Run, *, workers: int = 0) -> Record:
    """Train, evaluate and record a run; return at once if it has a record and weights.

    Work goes on in ``<key>.partial`` of :func:`dfmsd.study.paths.runs`, renamed to ``<key>`` when everything in it is whole. A run
    that was interrupted goes on from its last checkpoint and ends in the same weights and metrics.

    Args:
        spec: The run. The runs it needs must have been trained.
        workers: Processes that load images; 0 loads in this one.

    Raises:
        StudyError: if another process trains this key, a run it needs has no weights, the loss is not finite, the disk is full, or
            a checkpoint is damaged. What was computed until then stays.
    """
    final, partial = paths.runs() / spec.key, paths.runs() / f"{spec.key}.partial"
    with files.plain_words(paths.runs()), ExitStack() as held:

        def opened() -> Record | tuple[Any, ...]:
            ranks.check(spec)
            held.enter_context(files.locked(paths.runs() / f"{spec.key}.lock", f"run {spec.key} is being trained"))
            if (final / "record.json").exists() and (final / "student.pth").exists():
                return records.read(final / "record.json")
            if (record := records.unfinished(spec.key)) is not None:
                if not record.is_result:
                    broke = f"run {spec.key} broke off before ({record.note})"
                    raise StudyError(f"{broke}: change it, or delete {partial} to try again")
                _move(partial, final)
                return record
            partial.mkdir(parents=True, exist_ok=True)
            files.check(*(one for one in partial.iterdir() if not one.is_dir()))
            return () if isinstance(spec, StartSpec) else _prepared(spec, partial, workers)

        begun = ranks.once(opened)
        record = begun if isinstance(begun, Record) else _recorded(spec, partial, final, begun)
        ranks.leave()
    return record


def _recorded(spec: Run, partial: Path, final: Path, prepared: tuple[Any, ...]) -> Record:
    """Train and write the record, whether the run succeeds or its loss stops being finite; then put the run in its place."""
    try:
        record = _pretrain(spec, partial) if isinstance(spec, StartSpec) else _train(spec, partial, *prepared)
    except NaNLoss as error:
        record = Record(key=spec.key, state="nan", spec=spec.flat(), note=str(error), provenance=_provenance(spec, 0.0, 0, ""))

    def kept() -> Record:
        files.write_atomic(partial / "record.json", records.dump(record))
        if not record.is_result:
            raise StudyError(f"{spec.name}: {record.note}; its last checkpoint stays in {partial}")
        _move(partial, final)
        return record

    return ranks.once(kept)


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


def weights(run: Run | TeacherSpec) -> str:
    """File or address of the weights of a trained run or a published teacher.

    Raises:
        StudyError: if the run was not trained here, its weights are not those of its record, or it has no measured AP.
    """
    if isinstance(run, TeacherSpec):
        return run.weights.url
    name, folder = f"{run.name} ({run.key})", paths.runs() / run.key
    if not (folder / "record.json").exists():
        raise StudyError(f"{name} has not been trained here: it has no weights to hand on")
    record, file = records.read(folder / "record.json"), folder / "student.pth"
    if not file.is_file() or _sha256(file) != record.weights_sha256:
        raise StudyError(f"checkpoint {file} is damaged or not of its record: delete {folder} and train it again")
    if isinstance(run, RunSpec) and record.state != "ok" and run.schedule.max_iters is None and run.scale != "smoke":
        raise StudyError(f"{name} detects nothing on this data (AP 0): it cannot teach")
    return str(file)


def config(spec: RunSpec, folder: Path, *, workers: int = 0) -> Config:
    """The config of a run in a folder, with the weights that it needs from here.

    Raises:
        StudyError: see :func:`weights`, and if the data cannot be had.
    """
    root = data.ensure(spec.data)
    return build.run_config(
        spec,
        root,
        folder,
        teacher_checkpoints=[weights(teacher) for teacher in spec.stage.teachers] if spec.stage else [],
        student_checkpoint=weights(spec.parent) if spec.parent else None,
        start_checkpoint=weights(spec.start) if spec.start else None,
        ratios=_area_ratios(spec, spec.stage.enhance, root, folder) if spec.stage and spec.stage.enhance else None,
        factors=factors_of(spec, lambda before: _kept_factors(before, root)),
        workers=workers,
    )


def _area_ratios(spec: RunSpec, enhance: EnhanceSpec, root: data.DataRoot, folder: Path) -> Path:
    """The file of the training images' area ratios by the weak teacher, by today's code, kept for all its students."""
    changed = code.digest_of("dfmsd.augment:area_ratios")
    file = _beside(enhance.weak) / f"area-ratios-{enhance.score}-{root.fingerprint}-{changed}.json"

    def measured() -> dict[str, float]:
        weak = enhance.weak.network
        plain = spec.model_copy(update={"stage": None, "parent": None, "network": weak})
        loader = build.run_config(plain, root, folder).val_dataloader
        loader.dataset.ann_file, loader.dataset.data_prefix = str(root.train.annotations), {"img": str(root.train.images)}
        teacher = build.built(weak, len(root.classes))
        checkpoints.load(teacher, weights(enhance.weak))
        with DefaultScope.overwrite_default_scope("mmdet"):
            batches = Runner.build_dataloader(loader)
        return augment.area_ratios(teacher.to("cuda" if torch.cuda.is_available() else "cpu"), batches, score=enhance.score)

    _kept(file, measured)
    return file


def _beside(teacher: Run | TeacherSpec) -> Path:
    """Where runs keep what they measure of a teacher: not in its own folder, which may be another user's."""
    return paths.runs() / "teachers" / teacher.key


def _kept(file: Path, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    """The numbers that a file keeps by name; they are measured if it is not there, or damaged."""
    try:
        return NUMBERS.validate_json(files.read_text(file))
    except (FileNotFoundError, ValueError):
        found = measure()
        files.write_atomic(file, json.dumps(found, sort_keys=True))
        return found


def factors_of(spec: RunSpec, measure: Callable[[RunSpec], dict[str, float]]) -> dict[str, float] | None:
    """The factors of a run's terms, by the loss's name; None if its weights are no shares.

    Each method is measured in the form that it has in its paper, whatever this run changes of it, on the start of the run's
    student and the strongest teacher of its pair: so all stages and arms of a pair have the same.

    Args:
        spec: The run.
        measure: Gives the factors of the one method of a run in which nothing was trained.
    """
    if spec.stage is None or (balance := spec.stage.balance) is None:
        return None
    found: dict[str, float] = {}
    for method in spec.stage.methods:
        name = method.type.lower()
        other = method.FACTORS_OF or name
        kinds = spec.network.kind, balance.teacher.network.kind
        kept = {field: getattr(method, field) for field in METHODS[other].ANOTHER_TERM if field in type(method).model_fields}
        own = measure(_before_training(spec, balance, for_pair(other, *kinds, zoo.family(spec.network.name), **kept)))
        found |= {f"loss_{name}_{term}": own[f"loss_{other}_{term}"] for term in getattr(losses, method.type).WEIGHTS}
    return found


def _before_training(spec: RunSpec, balance: Balance, method: MethodSpec) -> RunSpec:
    """The run in which a method's factors are measured: nothing in it depends on how long or from which seed a student trains."""
    first = spec
    while first.parent is not None:
        first = first.parent
    images = balance.iterations * spec.schedule.batch
    return first.model_copy(
        update={
            "eval_split": "val",
            "flip": 0.0,
            "schedule": spec.schedule.model_copy(update={"epochs": 1, "warmup": 0, "max_iters": balance.iterations}),
            "seed": balance.seed,
            "images": min(images, spec.data.train or images),
            "stage": StageSpec(index=1, teacher=balance.teacher, methods=(method,)),
        }
    )


def _kept_factors(spec: RunSpec, root: data.DataRoot) -> dict[str, float]:
    """Factors of today's code, kept for all runs of the teacher."""
    assert spec.stage is not None
    teacher = spec.stage.teacher
    decides = digest([spec.flat(), root.fingerprint, code.digest(spec)])
    file = _beside(teacher) / f"factors-{decides}.json"

    def measured() -> dict[str, float]:
        start = weights(spec.start) if spec.start else None
        settings = build.run_config(spec, root, file.parent, teacher_checkpoints=[weights(teacher)], start_checkpoint=start)
        return measured_factors(settings, spec.seed)

    return _kept(file, measured)


def measured_factors(settings: Config, seed: int) -> dict[str, float]:
    """The factors of a config's distiller before training, over its training images in order; six digits."""
    settings.train_dataloader.sampler.shuffle = False
    with DefaultScope.overwrite_default_scope("mmdet"), torch.random.fork_rng():
        torch.manual_seed(seed)
        model = MODELS.build(settings.model)
        model.init_weights()
        batches = Runner.build_dataloader(settings.train_dataloader)
        found = factors(model.to("cuda" if torch.cuda.is_available() else "cpu"), batches)
    return {name: float(f"{factor:.6g}") for name, factor in found.items()}


def _plain(settings: Config) -> Config:
    """The student's own config, for mmdet's ``init_detector`` and test script: it needs nothing of this package."""
    loader = {name: value for name, value in settings.val_dataloader.items() if name != "worker_init_fn"}
    content = {
        "default_scope": settings.default_scope,
        "model": _without_start(settings.model.get("student", settings.model)),
        "test_dataloader": loader,
        "test_evaluator": {"type": "CocoMetric", "ann_file": settings.val_evaluator.ann_file, "metric": "bbox"},
        "test_cfg": {"type": "TestLoop"},
    }
    return Config(content, format_python_code=False)


def _without_start(model: ConfigDict) -> ConfigDict:
    """Whoever loads the student's weights needs none of its backbone's before, whose file lies here alone."""
    plain = copy.deepcopy(model)
    plain.backbone.init_cfg = None
    return plain


Prepared = tuple[Config, Path | None, float]
"""The config of a run, the checkpoint that it goes on from, and when it would have begun if it had never been interrupted."""


def _prepared(spec: RunSpec, folder: Path, workers: int) -> Prepared:
    start = time.monotonic() - seconds_so_far(folder)
    settings = sight.added(config(spec, folder, workers=workers))
    settings.resume = (last := _last_checkpoint(folder)) is not None
    settings.load_from = str(last) if last else None
    ranks.divided(settings).dump(folder / "config.py")
    return settings, last, start


def _train(spec: RunSpec, folder: Path, settings: Config, last: Path | None, start: float) -> Record:
    runner = Runner.from_cfg(settings)
    model = runner.model.module if hasattr(runner.model, "module") else runner.model
    ranks.WholeBatchNorm.take_over(model)
    begun = _begun(last, model, spec.key) if last else 0  # now: training removes old checkpoints
    before = time.monotonic()
    runner.train()
    trained = time.monotonic() - before
    images = spec.schedule.batch * (runner.iter - begun)
    state = checkpoints.student_of({name: value.cpu() for name, value in model.state_dict().items()})
    if not all(value.isfinite().all() for value in state.values()):
        raise NaNLoss("the last steps made weights that are not finite: lower the learning rate or the method's weight")
    runner.val()

    def evaluated() -> Record:
        root = data.ensure(spec.data)
        metrics, resampled = evaluate(
            Path(settings.val_evaluator.ann_file),
            folder / "predictions.bbox.json",
            resamples=RESAMPLES if spec.scale != "smoke" else 10,
        )
        digest = _export({"state_dict": state, "meta": {"dataset_meta": {"classes": root.classes}}}, folder)
        _plain(settings).dump(folder / "student.py")
        curve = read_curve(folder / "curve.jsonl")
        sizes = shares(curve)
        given = settings.model.get("factors") or {}
        return Record(
            key=spec.key,
            state="ok" if metrics["AP"] > 0 or resampled else "no detections",
            spec=spec.flat(),
            metrics=metrics,
            ap_interval=basic(metrics["AP"], resampled),
            ap_resamples=resampled,
            shares=sizes,
            factors={name: given[name] for name in sizes if name in given},
            curve=tuple(curve),
            weights_sha256=digest,
            provenance=_provenance(spec, time.monotonic() - start, images / trained if trained > 1 else 0.0, root.fingerprint),
        )

    return ranks.once(evaluated)


def _pretrain(spec: StartSpec, folder: Path) -> Record:
    begun = time.monotonic()
    root = data.ensure(spec.data)
    state, metrics, curve = pretrain(spec, root, folder)
    seconds = time.monotonic() - begun
    return Record(
        key=spec.key,
        state="ok",
        spec=spec.flat(),
        metrics=metrics,
        curve=tuple(curve),
        weights_sha256=_export({"state_dict": state}, folder),
        provenance=_provenance(spec, seconds, spec.batch * curve[-1]["iteration"] / seconds, root.fingerprint),
    )


def _export(content: dict[str, Any], folder: Path) -> str:
    """Write weights; returns their hash."""
    # Through memory: torch reports a full disk in words of its own, and names the archive inside after the file.
    exported = io.BytesIO()
    torch.save(content, exported)
    (folder / "student.pth").write_bytes(exported.getvalue())
    return hashlib.sha256(exported.getvalue()).hexdigest()


def _last_checkpoint(folder: Path) -> Path | None:
    """The checkpoint to resume from: the one that mmengine's pointer says is whole, else the newest one left.

    The pointer is written after its checkpoint. If a kill left it empty, it struck just then: the newest checkpoint is whole.
    """
    pointer = folder / "last_checkpoint"
    if not pointer.exists():
        return None
    named = Path(pointer.read_text(errors="replace").strip()).name
    file = next((file for file in folder.iterdir() if file.name == named), next(reversed(_epochs(folder)), None))
    if file is None:
        return None
    if not _is_whole(file):
        raise StudyError(f"checkpoint {file} is damaged: {_without(file)}")
    return file


def _epochs(folder: Path) -> list[Path]:
    """The checkpoints of a folder, in order."""
    found = {file.stem.removeprefix("epoch_"): file for file in folder.glob("epoch_*.pth")}
    return [found[epoch] for epoch in sorted(filter(str.isdecimal, found), key=int)]


def _without(checkpoint: Path) -> str:
    """What to do about a checkpoint that a run cannot go on from."""
    others = [file for file in _epochs(checkpoint.parent) if file != checkpoint]
    return f"delete it, and the run {'goes on from the one before' if others else 'starts afresh'}"


def _begun(checkpoint: Path, model: nn.Module, key: str) -> int:
    """The iterations behind a checkpoint; mmengine would go on from any, that of another network with random weights."""
    try:
        content = checkpoints.read(checkpoint)
    except StudyError as error:
        raise StudyError(f"{error}; {_without(checkpoint)}") from None
    shapes = {name: value.shape for name, value in checkpoints.student_of(model.state_dict()).items()}
    try:
        begun = int(content["meta"]["iter"])
        found = {name: value.shape for name, value in checkpoints.student_of(content["state_dict"]).items()}
        fits = found == shapes and content.get("run", key) == key and {"optimizer", "param_schedulers"} <= content.keys()
    except (KeyError, TypeError, ValueError, AttributeError):
        fits = False
    if not fits:
        raise StudyError(f"checkpoint {checkpoint} is not one of this run: {_without(checkpoint)}")
    return begun


def _is_whole(checkpoint: Path) -> bool:
    """Whether every part has its checksum; torch does not look when it loads."""
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, OSError):
        return False


def _provenance(spec: Run, seconds: float, images_per_second: float, fingerprint: str) -> Provenance:
    # Linux counts in KiB, macOS in bytes.
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024)
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else resident
    return Provenance(
        **dict(records.origin(fingerprint, code.digest(spec))),
        seconds=round(seconds, 1),
        images_per_second=round(images_per_second, 2),
        peak_memory_mb=round(peak / 2**20, 1),
        gpus=machine.processes(),
    )


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
