"""Building the book, on real notebooks."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import papermill
import pytest
import yaml

from dfmsd.errors import StudyError
from dfmsd.report import book, scoreboard
from dfmsd.report.scoreboard import Board
from dfmsd.study import claims, pages, paths, plan, records
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


@pytest.mark.parametrize("name", pages.names())
def test_every_page_leads_to_its_params_file_and_its_notebook(name: str, built_book: Built) -> None:
    text = (built_book.html / "pages" / f"{name}.html").read_text()
    file = pages.file_of(name)
    for link in (f"params/{file.parent.name}/{name}.yaml", f"notebooks/{file.parent.name}.ipynb", f"_sources/pages/{name}.ipynb"):
        assert f'href="../{link}"' in text
        assert (built_book.html / link).exists()


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
    assert f"Of the papers' {board.count('mini').total()} claims" in text
    assert book.with_generated_parts(text, board) == text, "`python -m dfmsd book` brings it up to date"


def test_the_committed_scoreboard_is_that_of_the_committed_records(board: Board) -> None:
    file = paths.ROOT / "book" / "figures" / "scoreboard.svg"
    assert file.read_text() == scoreboard.overview(board).svg, "`python -m dfmsd book` brings it up to date"


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
