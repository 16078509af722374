"""What a run leaves behind: a small JSON record, written once, checked when read."""

from __future__ import annotations

import ast
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from dfmsd.errors import StudyError
from dfmsd.study import paths
from dfmsd.study.spec import Frozen, RunSpec, _digest

TRAINING = ("study/build", "study/hooks", "study/evaluate", "study/shapes")
"""Modules whose code decides any run's numbers."""
DISTILLATION = ("distiller", "preprocess", "balance", "levels", "losses/base", "losses/blocks")
"""Modules that a run with a teacher uses besides."""
ENHANCEMENT = ("augment", "study/ratios")
"""Modules that a run with enhanced images uses besides."""
SHARED: dict[str, tuple[str, ...]] = {
    "MGD": ("masking",),
    "AMD": ("attention", "masking"),
    "DMKD": ("attention", "masking"),
    "DFMSD": ("attention", "masking", "pearson", "dmkd"),
    "FGD": ("attention",),
    "FKD": ("attention", "fgd"),
    "PKD": ("channels", "pearson"),
    "SSIM": ("channels",),
    "CrossKD": ("heads",),
}
"""What a method's module takes from others beside it."""

MEND = "delete it and run its page again; finished runs are not repeated"
"""The way out of a record that cannot be believed."""


class Provenance(Frozen):
    """Where a result comes from: recorded, not part of its identity."""

    commit: str
    versions: dict[str, str]
    hardware: str
    threads: int
    seconds: float
    images_per_second: float
    peak_memory_mb: float
    finished: str
    data_fingerprint: str
    code_digest: str


class Record(Frozen):
    """The result of a run."""

    key: str
    state: Literal["ok", "no detections", "nan"]
    spec: dict[str, Any]
    """The specification, runs that it contains replaced by their keys (:meth:`dfmsd.study.spec.RunSpec.flat`)."""
    metrics: dict[str, float] = Field(default_factory=dict)
    """COCO's metrics in percent."""
    ap_interval: tuple[float, float] | None = None
    """95 % bootstrap interval of AP over the images of the evaluated split."""
    shares: dict[str, float] = Field(default_factory=dict)
    """Mean size of each distillation term relative to the student's own loss."""
    factors: dict[str, float] = Field(default_factory=dict)
    """Factors that balanced the terms (:class:`dfmsd.balance.ShareBalance`)."""
    curve: tuple[dict[str, float], ...] = ()
    """Learning curve: losses averaged over stretches of iterations."""
    weights_sha256: str = ""
    """Of the exported detector."""
    note: str = ""
    provenance: Provenance

    @property
    def is_result(self) -> bool:
        """Whether it is a number to print; a run that broke off is not."""
        return self.state != "nan"


class Replay(Frozen):
    """A confirmation that changed code makes the same numbers as the code behind a record (:mod:`dfmsd.study.replay`)."""

    key: str
    code_digest: str
    """Of the code that was confirmed."""
    commit: str
    hardware: str
    iterations: int
    """That were trained again, from the start; the evaluation was repeated, too."""
    finished: str


def write_atomic(file: Path, text: str) -> None:
    """Write a file that is either whole or absent, whatever happens meanwhile."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def full_disk_in_plain_words() -> Iterator[None]:
    """Say what to do when a disk is full; nothing that was whole before is lost by it.

    Raises:
        StudyError: instead of the system's error about space or quota.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        runs = paths.runs()
        place = next(folder for folder in (runs, *runs.absolute().parents) if folder.exists())
        raise StudyError(
            f"the disk is full ({shutil.disk_usage(place).free // 2**20} MiB free in {place}): make room, or let DFMSD_RUNS name "
            "a larger place; called again, a run goes on from its last checkpoint"
        ) from None


def dump(record: Record) -> str:
    """A record as the JSON that is committed."""
    return json.dumps(record.model_dump(mode="json"), indent=1, sort_keys=True) + "\n"


def read(file: Path) -> Record:
    """A record from its file.

    Raises:
        StudyError: if it is damaged, or its content does not belong to its name.
    """
    try:
        record = Record.model_validate_json(file.read_text())
        digest = _digest(record.spec)
    except (ValueError, OSError) as error:
        raise StudyError(f"record {file} is damaged ({_reason(error)}): {MEND}") from None
    if record.key != _key_in_path(file):
        raise StudyError(f"record {file} is of run {record.key}: it was renamed or edited; {MEND}")
    if digest != record.key:
        raise StudyError(f"record {file}: its specification does not hash to its key, it was edited; {MEND}")
    return record


def _key_in_path(file: Path) -> str:
    """The key of a run's folder (``<key>`` or ``<key>.partial``), or the stem of a published record."""
    return file.parent.name.removesuffix(".partial") if file.name == "record.json" else file.stem


def _reason(error: ValueError | OSError) -> str:
    if not isinstance(error, ValidationError):
        return str(error).splitlines()[0]
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else first["msg"]


_published_only = ContextVar("_published_only", default=False)


@contextmanager
def published_only() -> Iterator[None]:
    """Inside, runs have their published records alone: what is committed beside these depends on nothing else that was run here."""
    token = _published_only.set(True)
    try:
        yield
    finally:
        _published_only.reset(token)


def find(key: str) -> Record | None:
    """The record of a run: from its folder, else from the published ones."""
    published = paths.records() / f"{key}.json"
    for file in (published,) if _published_only.get() else (paths.runs() / key / "record.json", published):
        if file.exists():
            return read(file)
    return None


def result(key: str) -> Record | None:
    """The record of a run that gave a result; None while there is none."""
    record = find(key)
    return record if record is not None and record.is_result else None


def unfinished(key: str) -> Record | None:
    """The record in a run's partial folder: of one that broke off, or that was killed between its record and its last move."""
    file = paths.runs() / f"{key}.partial" / "record.json"
    return read(file) if file.exists() else None


def failure(key: str) -> Record | None:
    """The record of a run that broke off."""
    record = unfinished(key)
    return None if record is None or record.is_result else record


def modules_of(spec: RunSpec) -> tuple[str, ...]:
    """The modules whose code decides a run's numbers."""
    if spec.stage is None:
        return TRAINING
    methods = spec.stage.methods
    names = {f"losses/{name}" for method in methods for name in (method.type.lower(), *SHARED.get(method.type, ()))}
    if spec.stage.enhance is not None:
        names |= set(ENHANCEMENT)
    if spec.stage.adversarial is not None:
        names.add("adversarial")
    return (*TRAINING, *DISTILLATION, *sorted(names))


def code_digest(spec: RunSpec) -> str:
    """Hash of the code behind a run's numbers: syntax trees without docstrings, so that comments and layout do not count."""
    return digest(modules_of(spec))


def digest(modules: Iterable[str]) -> str:
    """Hash of modules of this package."""
    return hashlib.sha256("".join(_tree(module) for module in modules).encode()).hexdigest()[:12]


def is_stale(record: Record, spec: RunSpec) -> bool:
    """Whether the code behind a record has changed since, and no replay says that the numbers are the same."""
    digest = code_digest(spec)
    return record.provenance.code_digest != digest and not _is_replayed(record.key, digest)


def _is_replayed(key: str, digest: str) -> bool:
    file = paths.records() / "replays" / f"{key}.json"
    if not file.exists():
        return False
    try:
        return Replay.model_validate_json(file.read_text()).code_digest == digest
    except ValueError as error:
        raise StudyError(f"replay {file} is damaged ({_reason(error)}): delete it and replay the record again") from None


@cache
def _tree(module: str) -> str:
    tree = ast.parse((paths.PACKAGE / f"{module}.py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            # A string that stands alone is documentation: a docstring, or the text below a constant.
            node.body = [n for n in node.body if not (isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant))]
    return ast.dump(tree)
