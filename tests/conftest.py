"""Fixtures that several test modules share."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dfmsd.study import paths, records
from dfmsd.study.records import Provenance, Record
from dfmsd.study.spec import RunSpec
from tests.fixtures_study import folders  # noqa: F401

# Before torch is imported: tests fork, and a fork of a process with OpenMP's threads hangs.
os.environ["OMP_NUM_THREADS"] = "1"

WriteRecord = Callable[..., Record]


@pytest.fixture(autouse=True)
def mmdets_scope() -> None:
    """Whatever test ran before, names are looked up in mmdet's registries, as they are in mmdet's own runner."""
    if "mmengine" in sys.modules:
        from mmengine.registry import init_default_scope

        init_default_scope("mmdet")


@pytest.fixture
def write_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WriteRecord:
    """Publish a record of a run, in folders of the test's own: ``write_record(run, ap, **fields)``."""
    monkeypatch.setenv("DFMSD_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("DFMSD_RECORDS", str(tmp_path / "records"))

    def write(run: RunSpec, ap: float, **fields: Any) -> Record:
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
        metrics = {"AP": ap, "AP_S": ap / 2, "AP_M": ap, "AP_L": ap + 10, "AR": ap + 20}
        content = {"key": run.key, "state": "ok", "spec": run.flat(), "metrics": metrics, "provenance": provenance}
        record = Record.model_validate(content | fields)
        records.write_atomic(paths.records() / f"{run.key}.json", records.dump(record))
        return record

    return write


@dataclass(frozen=True)
class Built:
    """A built book, and the folders it was made in."""

    html: Path
    environment: dict[str, str]


def copy_book(study: Path) -> Path:
    """The book's sources in a folder of their own, beside what they quote from."""
    study.mkdir(parents=True, exist_ok=True)
    for name in ("dfmsd", "params"):
        (study / name).symlink_to(paths.ROOT / name)
    made = shutil.ignore_patterns("_build", "pages", "records")
    return Path(shutil.copytree(paths.ROOT / "book", study / "book", ignore=made))


@pytest.fixture(scope="session")
def built_book(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """The book of all pages at the scale ``smoke``: every run trained, every page executed, warnings taken for errors."""
    from dfmsd.report import book

    home = tmp_path_factory.mktemp("book")
    environment = {
        "DFMSD_BOOK": str(copy_book(home / "study")),
        "DFMSD_RUNS": str(home / "runs"),
        "DFMSD_RECORDS": str(home / "records"),
        "DFMSD_DATA": str(home / "data"),
        "PYTHONPATH": os.pathsep.join([str(paths.ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.delenv("DFMSD_COCO", raising=False)
        index = book.build(scale="smoke", strict=True)
    yield Built(index.parent, environment)
