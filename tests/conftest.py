"""Fixtures that several test modules share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dfmsd import paths, records
from dfmsd.records import Provenance, Record
from dfmsd.spec import RunSpec

pytest_plugins = ["tests.fixtures_detectors", "tests.fixtures_study"]


@pytest.fixture
def own_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Records and runs in folders of the test's own, empty at first; returns the folder of records."""
    monkeypatch.setenv("DFMSD_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("DFMSD_RECORDS", str(tmp_path / "records"))
    return tmp_path / "records"


WriteRecord = Callable[..., Record]


@pytest.fixture
def write_record(own_records: Path) -> WriteRecord:
    """Publish a record of a run with an AP that the test chooses: ``write_record(run, ap, **fields)``."""

    def write(run: RunSpec, ap: float, **fields: Any) -> Record:
        metrics = {"AP": ap, "AP_S": ap / 2, "AP_M": ap, "AP_L": ap + 10, "AR": ap + 20}
        provenance = Provenance(
            commit="0123456789abcdef",
            versions={"torch": "2.13.0"},
            hardware="a processor",
            threads=1,
            seconds=120.0,
            images_per_second=100.0,
            peak_memory_mb=500.0,
            finished="2026-01-01T00:00:00+00:00",
            data_fingerprint="f" * 12,
            code_digest=records.code_digest(run),
        )
        content = {"key": run.key, "state": "ok", "spec": run.flat(), "metrics": metrics, "provenance": provenance}
        record = Record.model_validate(content | fields)
        records.write_atomic(paths.records() / f"{run.key}.json", records.dump(record))
        return record

    return write
