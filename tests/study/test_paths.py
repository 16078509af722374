"""Places: what variables name, whatever the folder that a process works in."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dfmsd.errors import StudyError
from dfmsd.study import machine, paths

PLACES: dict[str, Callable[[], Path | None]] = {
    "DFMSD_RUNS": paths.runs,
    "DFMSD_RECORDS": paths.records,
    "DFMSD_DATA": paths.data,
    "DFMSD_BOOK": paths.book,
    "DFMSD_COCO": paths.coco,
}


@pytest.mark.parametrize("variable", PLACES)
def test_a_variable_means_the_same_for_all_places(variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PLACES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    unset = PLACES[variable]()
    for value in ("", "  "):
        monkeypatch.setenv(variable, value)
        assert PLACES[variable]() == unset
    for value, wanted in {"~/there": "home/there", "~": "home", "there": "there", "a/../there": "there"}.items():
        monkeypatch.setenv(variable, value)
        assert PLACES[variable]() == tmp_path / wanted
    monkeypatch.setenv(variable, "there")
    paths.settle()
    assert os.environ[variable] == str(tmp_path / "there")
    monkeypatch.chdir("/")
    assert PLACES[variable]() == tmp_path / "there", "a kernel works in another folder"
    assert all(name not in os.environ for name in PLACES if name != variable)


def test_without_a_home_runs_are_named_by_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", home)
    for name in ("DFMSD_RUNS", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(StudyError, match=r"^there is no home folder for runs: name another, export DFMSD_RUNS=/path/to/runs$"):
        paths.runs()
    monkeypatch.setenv("DFMSD_RUNS", "/runs")
    assert paths.runs() == Path("/runs")


@pytest.mark.parametrize(("given", "threads"), [("4", 4), ("4,2", 4), (" 3 , 1", 3), ("", 2), (None, 2)])
def test_threads_are_those_of_the_outermost_level(given: str | None, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.delenv("OMP_NUM_THREADS")
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert machine.threads(jobs=2) == threads
