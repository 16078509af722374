"""Fixtures that several test modules share."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dfmsd.study.records import Record
from dfmsd.study.spec import RunSpec
from tests.fixtures_coco import mine  # noqa: F401
from tests.fixtures_study import folders, publish  # noqa: F401

# Before torch is imported: tests fork, and a fork of a process with OpenMP's threads hangs.
os.environ["OMP_NUM_THREADS"] = "1"

# No test depends on what this user has trained, or adds to it: those that make runs name a folder of their own.
os.environ["DFMSD_RUNS"] = str(Path(tempfile.gettempdir(), f"dfmsd-no-runs-{os.getpid()}"))

WriteRecord = Callable[..., Record]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests begin first, so that none is left running alone at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """The book's tests are one long chain, and the other workers give way to it: else its end is left running alone."""
    if "PYTEST_XDIST_WORKER" in os.environ and item.get_closest_marker("book") is None:
        os.nice(5 - min(5, os.nice(0)))


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
        metrics = {"AP": ap, "AP_S": ap / 2, "AP_M": ap, "AP_L": ap + 10, "AR": ap + 20}
        return publish(run, **({"metrics": metrics, "speed": 100.0} | fields))

    return write
