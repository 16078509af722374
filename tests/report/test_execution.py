"""Executing notebooks into pages: real notebooks in real kernels."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from dfmsd.errors import StudyError
from dfmsd.report import execution
from dfmsd.report.execution import Job
from dfmsd.study import paths

pytestmark = pytest.mark.slow


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study of one page whose notebook the test writes: ``notebook(folder, code)``."""
    monkeypatch.setenv("DFMSD_BOOK", str(tmp_path / "book"))
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path)
    return tmp_path


def execute(file: Path, name: str, parameters: dict[str, Any]) -> Path:
    return execution.run(execution.job(file, name, parameters, source="x.yaml"))


def notebook(folder: Path, code: str) -> None:
    parameters = "page = 'x'\ntitle = ''\nquestion = ''\nscale = 'smoke'\nimages = 1"
    cells = [new_code_cell(parameters, metadata={"tags": ["parameters"]}), new_code_cell(code)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=kernel), folder / "dataset.ipynb")


def test_a_key_that_the_notebook_does_not_know_is_refused(small: Path) -> None:
    notebook(small, "pass")
    with pytest.raises(StudyError, match=r"x\.yaml: dataset\.ipynb has no parameter 'imges': did you mean 'images'\?"):
        execute(small / "dataset.ipynb", "x", {"imges": 2})


def test_a_failing_notebook_leaves_the_page_that_was_there(small: Path) -> None:
    source = small / "dataset.ipynb"
    notebook(small, "print(images + 40)")
    page = execute(source, "x", {"images": 2})
    before = page.read_text()
    assert "42" in before
    notebook(small, "raise ValueError('the second\\nline')")
    with pytest.raises(StudyError, match=r"^dataset\.ipynb failed for page x, cell \d: ValueError: the second$"):
        execute(source, "x", {"images": 2})
    assert page.read_text() == before


WAIT = """
import pathlib, time
pathlib.Path({folder!r}, page).touch()
end = time.monotonic() + 300
while not pathlib.Path({folder!r}, "ab".replace(page, "")).exists():
    assert time.monotonic() < end, "the other page has not begun"
    time.sleep(0.1)
"""


def jobs(folder: Path, *names: str, trains: bool = False) -> dict[str, Job]:
    file = folder / "dataset.ipynb"
    return {f"page {name}": execution.job(file, name, {"page": name}, source=f"{name}.yaml", trains=trains) for name in names}


def test_pages_are_executed_side_by_side_and_told_of_in_order(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    notebook(small, WAIT.format(folder=str(small)))
    execution.run_all(jobs(small, "b", "a"))
    assert capsys.readouterr().out == "page b\npage a\n"
    assert all(job.is_done() for job in jobs(small, "b", "a").values())


def test_a_page_that_fails_stops_the_others(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    notebook(small, "import time\nassert page != 'bad', 'it is bad'\ntime.sleep(3600)")
    with pytest.raises(StudyError, match=r"^dataset\.ipynb failed for page bad, cell \d: AssertionError: it is bad$"):
        execution.run_all(jobs(small, "bad", "long"))
    assert not list(paths.pages().glob("*"))


def test_a_missing_notebook_is_named(small: Path) -> None:
    with pytest.raises(StudyError, match=r"x\.yaml wants the notebook gone\.ipynb"):
        execute(small / "gone.ipynb", "x", {})


LEFT = """
import os
count = 1 if "count" not in globals() else 2
print(f"kernel {os.getpid()}, cell {get_ipython().execution_count}, count {count}")
"""


def _said(target: Path) -> tuple[int, int, int]:
    found = re.search(r"kernel (\d+), cell (\d+), count (\d)", target.read_text())
    assert found
    return int(found[1]), int(found[2]), int(found[3])


def test_pages_share_a_kernel_but_no_names(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    notebook(small, LEFT)
    todo = jobs(small, "a", "b") | jobs(small, "c", trains=True)
    execution.run_all(todo)
    (first, *a), (second, *b), (third, *c) = (_said(todo[f"page {name}"].target) for name in "abc")
    assert a == b == c
    assert a[1] == 1
    assert first == second != third
    end = time.monotonic() + 30
    while any(Path(f"/proc/{kernel}").exists() for kernel in (first, third)):
        assert time.monotonic() < end, "a kernel outlived its pages"
        time.sleep(0.1)
