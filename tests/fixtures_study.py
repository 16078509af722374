"""Runs, records and folders for the tests of the study's machinery."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dfmsd.study import code, files, paths, records, scales
from dfmsd.study.records import Provenance, Record
from dfmsd.study.rows import Options, Row, chain
from dfmsd.study.scales import Scale
from dfmsd.study.spec import Run, RunSpec


def smoke(**schedule: Any) -> Scale:
    """The scale ``smoke`` with another schedule: ``epochs``, ``batch``, ``warmup``."""
    scale = scales.get("smoke")
    return scale.model_copy(update={"schedule": scale.schedule.model_copy(update=schedule)})


def baseline(scale: Scale | None = None, student: str = "fcos_r50", seed: int = 0) -> RunSpec:
    """A student without a teacher."""
    return chain(Row(student=student, teachers=(), recipe="baseline"), scale or smoke(), seed)[0]


def distilled(scale: Scale | None = None, *, recipe: str = "dfmsd", seed: int = 0, **options: Any) -> tuple[RunSpec, ...]:
    """FCOS by two GFL teachers."""
    row = Row(student="fcos_r50", teachers=("gfl_r101", "gfl_x101"), recipe=recipe, options=Options(**options))
    return chain(row, scale or smoke(), seed)


def diverging(run: RunSpec) -> RunSpec:
    """A run with a learning rate that no network survives."""
    fields = {name: getattr(run, name) for name in RunSpec.model_fields}
    return RunSpec.model_validate(fields | {"schedule": run.schedule.model_copy(update={"lr": 1e12})})


def record(run: Run, *, digest: str | None = None, speed: float = 10.0, **fields: Any) -> Record:
    """A record as training would leave it, with made-up numbers.

    Args:
        run: The run.
        digest: Of the code behind it; today's if None.
        speed: In images per second.
        fields: Other fields of the record.
    """
    provenance = Provenance(
        commit="0123456789abcdef",
        versions={"torch": "2.13.0"},
        hardware="a processor",
        threads=1,
        seconds=120.0,
        images_per_second=speed,
        peak_memory_mb=500.0,
        finished="2026-01-01T00:00:00+00:00",
        data_fingerprint="f" * 12,
        code_digest=digest or code.digest(run),
    )
    metrics = {} if fields.get("state") == "nan" else {"AP": 12.5, "AP50": 25.0}
    content = {"key": run.key, "state": "ok", "spec": run.flat(), "metrics": metrics, "needed": {}, "provenance": provenance}
    return Record.model_validate(content | fields)


def publish(run: Run, **changes: Any) -> Record:
    """Put a made-up record among the published ones."""
    found = record(run, **changes)
    files.write_atomic(paths.records() / f"{run.key}.json", records.dump(found))
    return found


def finish(run: RunSpec, **changes: Any) -> Path:
    """Put a made-up finished run into the runs folder; returns its record file."""
    folder = paths.runs() / run.key
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "student.pth").write_bytes(b"weights")
    files.write_atomic(folder / "record.json", records.dump(record(run, **changes)))
    return folder / "record.json"


@pytest.fixture
def folders(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runs and a records folder of the test's own; generated data are shared by all tests of a session."""
    monkeypatch.setenv("DFMSD_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("DFMSD_RECORDS", str(tmp_path / "records"))
    monkeypatch.setenv("DFMSD_DATA", str(tmp_path_factory.getbasetemp() / "data"))
    monkeypatch.delenv("DFMSD_COCO", raising=False)
    return tmp_path


@contextmanager
def killed_at(attribute: str, on: Any, when: Any = lambda *a: True, before: Any = lambda *a: None) -> Iterator[None]:
    """Replace a function such that its process is killed (``kill -9``) when it is called; for use in a forked child.

    Args:
        attribute: Name of the function.
        on: Its module or class.
        when: Whether to die, from the call's arguments.
        before: Done just before dying, with the call's arguments.
    """
    original = getattr(on, attribute)

    def replacement(*args: Any, **kwargs: Any) -> Any:
        if when(*args):
            before(*args)
            os.kill(os.getpid(), 9)
        return original(*args, **kwargs)

    setattr(on, attribute, replacement)
    try:
        yield
    finally:
        setattr(on, attribute, original)
