"""Executing pages and building the book, on real notebooks."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_notebook

from dfmsd import book, claims, pages, paths, plan, records, scoreboard
from dfmsd.errors import StudyError
from dfmsd.scoreboard import Board
from tests.conftest import Built, copy_book
from tests.fixtures_study import finish

pytestmark = [pytest.mark.book, pytest.mark.slow, pytest.mark.xdist_group("book")]


def toc() -> list[str]:
    content = yaml.safe_load((paths.ROOT / "book" / "_toc.yml").read_text())
    return [content["root"], *(chapter["file"] for part in content["parts"] for chapter in part["chapters"])]


@pytest.fixture
def environment(built_book: Built, monkeypatch: pytest.MonkeyPatch) -> Built:
    for name, value in built_book.environment.items():
        monkeypatch.setenv(name, value)
    return built_book


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study of one page whose notebook the test writes: ``notebook(folder, code)``."""
    monkeypatch.setenv("DFMSD_BOOK", str(tmp_path / "book"))
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path)
    return tmp_path


def notebook(folder: Path, code: str) -> None:
    parameters = "page = 'x'\ntitle = ''\nquestion = ''\nscale = 'smoke'\nimages = 1"
    cells = [new_code_cell(parameters, metadata={"tags": ["parameters"]}), new_code_cell(code)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=kernel), folder / "dataset.ipynb")


@pytest.mark.parametrize("name", toc())
def test_every_page_of_the_contents_is_built(name: str, built_book: Built) -> None:
    assert (built_book.html / f"{name}.html").stat().st_size > 1000


def test_nothing_is_fetched_while_reading(built_book: Built) -> None:
    for page in built_book.html.rglob("*.html"):
        text = page.read_text()
        loaded = re.findall(r"<(?:script|img|iframe)[^>]*src=\"([^\"]*)\"|<link[^>]*rel=\"stylesheet\"[^>]*href=\"([^\"]*)\"", text)
        assert not [url for pair in loaded for url in pair if url.startswith(("http", "//"))], page


def test_links_lead_to_the_raw_records(environment: Built) -> None:
    page = pages.get("table03", scale="smoke")
    text = (environment.html / "pages" / "table03.html").read_text()
    for run in plan.order(page.chains()):
        assert f'href="../records/{run.key}.json"' in text
        assert records.read(environment.html / "records" / f"{run.key}.json").key == run.key


def test_page_shows_its_numbers_and_hides_its_machinery(environment: Built) -> None:
    page = pages.get("table03", scale="smoke")
    assert isinstance(page, pages.PageSpec)
    text = (environment.html / "pages" / "table03.html").read_text()
    assert f"<h1>{page.title}" in text
    for entry in page.entries():
        record = records.find(entry.runs[-1].key)
        assert record is not None
        assert f"{record.metrics['AP']:.1f}" in text
    assert "Injected" not in text
    assert str(paths.ROOT) not in (paths.pages() / "table03.ipynb").read_text()


def test_a_page_is_not_executed_again_until_something_changes(environment: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    executed: list[str] = []

    def stop(source: str, *_: Any, **__: Any) -> None:
        executed.append(source)
        raise InterruptedError

    page = pages.get("table03", scale="smoke")
    target = book.execute(page)
    monkeypatch.setattr(papermill, "execute_notebook", stop)
    assert book.execute(page) == target
    assert executed == []
    run = page.chains()[0][-1]
    file = paths.runs() / run.key / "record.json"
    before = file.read_text()
    try:
        file.write_text(json.dumps(json.loads(before) | {"note": "changed"}))
        with pytest.raises(InterruptedError):
            book.execute(page)
    finally:
        file.write_text(before)
    assert len(executed) == 1
    assert book.execute(page) == target


def test_a_key_that_the_notebook_does_not_know_is_refused(small: Path) -> None:
    notebook(small, "pass")
    with pytest.raises(StudyError, match=r"x\.yaml: dataset\.ipynb has no parameter 'imges': did you mean 'images'\?"):
        book._execute(small / "dataset.ipynb", "x", {"imges": 2}, [], source="x.yaml")


def test_a_failing_notebook_leaves_the_page_that_was_there(small: Path) -> None:
    source = small / "dataset.ipynb"
    notebook(small, "print(images + 40)")
    page = book._execute(source, "x", {"images": 2}, [], source="x.yaml")
    before = page.read_text()
    assert "42" in before
    notebook(small, "raise ValueError('the second\\nline')")
    with pytest.raises(StudyError, match=r"^dataset\.ipynb failed for page x, cell \d: ValueError: the second$"):
        book._execute(source, "x", {"images": 2}, [], source="x.yaml")
    assert page.read_text() == before


WAIT = """
import pathlib, time
pathlib.Path({folder!r}, page).touch()
end = time.monotonic() + 300
while not pathlib.Path({folder!r}, "ab".replace(page, "")).exists():
    assert time.monotonic() < end, "the other page has not begun"
    time.sleep(0.1)
"""


def jobs(folder: Path, *names: str) -> dict[str, book._Job]:
    return {f"page {name}": book._job(folder / "dataset.ipynb", name, {"page": name}, [], source=f"{name}.yaml") for name in names}


def test_pages_are_executed_side_by_side_and_told_of_in_order(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    notebook(small, WAIT.format(folder=str(small)))
    book._run_all(jobs(small, "b", "a"))
    assert capsys.readouterr().out == "page b\npage a\n"
    assert all(job.is_done() for job in jobs(small, "b", "a").values())


def test_a_page_that_fails_stops_the_others(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    notebook(small, "import time\nassert page != 'bad', 'it is bad'\ntime.sleep(3600)")
    with pytest.raises(StudyError, match=r"^dataset\.ipynb failed for page bad, cell \d: AssertionError: it is bad$"):
        book._run_all(jobs(small, "bad", "long"))
    assert not list(paths.pages().glob("*"))


def test_a_missing_notebook_is_named(small: Path) -> None:
    with pytest.raises(StudyError, match=r"x\.yaml wants the notebook gone\.ipynb"):
        book._execute(small / "gone.ipynb", "x", {}, [], source="x.yaml")


def test_a_broken_reference_fails_the_strict_book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = copy_book(tmp_path / "study")
    (source / "_toc.yml").write_text("format: jb-book\nroot: notation\n")
    (source / "pages" / "extra").mkdir(parents=True)
    (source / "notation.md").write_text("# Notation\n\n{ref}`nowhere`\n")
    monkeypatch.setenv("DFMSD_BOOK", str(source))
    with pytest.raises(StudyError, match=r"the book was not built: .*nowhere"):
        book._render(strict=True)


@pytest.fixture(scope="module")
def board() -> Board:
    return book.published_board()


def test_readme_has_its_generated_parts_as_they_are(board: Board) -> None:
    text = (paths.ROOT / "README.md").read_text()
    assert f"Of the papers' {len(board.claims)} claims" in text
    assert book.with_generated_parts(text, board) == text, "`python -m dfmsd book` brings it up to date"


def test_the_committed_scoreboard_is_that_of_the_committed_records(board: Board) -> None:
    file = paths.ROOT / "book" / "figures" / "scoreboard.svg"
    assert file.read_text() == scoreboard.figure(board).svg, "`python -m dfmsd book` brings it up to date"


def test_what_is_committed_shows_published_records_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DFMSD_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("DFMSD_RECORDS", str(tmp_path / "records"))
    few = tuple(found for found in claims.claims() if found.id == "t3-rcnn-dmkd")
    monkeypatch.setattr(scoreboard, "claims", lambda: few)
    table = pages.get("table03")
    assert isinstance(table, pages.PageSpec)
    for entry in table.entries():
        finish(entry.runs[-1])
    assert "not run" not in scoreboard.board(_scoreboard_page()).count("mini")
    assert book.published_board().count("mini") == {"not run": 1}


def _scoreboard_page() -> pages.ScoreboardPage:
    found = pages.get("scoreboard")
    assert isinstance(found, pages.ScoreboardPage)
    return found


def test_table_of_pages_counts_published_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DFMSD_RECORDS", str(tmp_path))
    assert "complete" not in book.table_of_pages("{page}")
    runs = plan.order(pages.get("table03").chains())
    (tmp_path / f"{runs[0].key}.json").write_text("{}")
    assert f"| 1 of {len(runs)} runs | not run | not run |" in book.table_of_pages("{page}")
    for run in runs:
        (tmp_path / f"{run.key}.json").write_text("{}")
    assert f"| complete, {len(runs)} runs | not run | not run |" in book.table_of_pages("{page}")
