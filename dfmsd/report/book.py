"""Build the book.

The notebooks are executed into pages, and what the book takes from records besides is written. jupyter-book renders what is
there and executes nothing.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import papermill
import yaml

from dfmsd.errors import StudyError
from dfmsd.report import contents, execution
from dfmsd.report.execution import Job
from dfmsd.study import pages, paths, plan, records, scales
from dfmsd.study.pages import ObservedPage, Page, PageSpec, ScoreboardPage

if TYPE_CHECKING:
    from dfmsd.report.scoreboard import Board

EXPLORE = "explore"
"""The notebook to play with: no page of ``params``, executed with its own parameters."""

COVER = "table03"
"""The comparison whose figure stands in the README."""

SCOREBOARD = "scoreboard"
"""The page whose summary and figure stand on the first page and in the README."""


def execute(page: Page) -> Path:
    """Execute a page's notebook with its parameters, unless the page is there and up to date.

    Returns:
        The executed notebook, ``book/pages/<page>.ipynb``.

    Raises:
        StudyError: if the params file has a key that the notebook does not know, or the notebook fails; a page that was
            there stays.
    """
    return execution.run(_job_of(page))


def _job_of(page: Page) -> Job:
    file = pages.file_of(page.page)
    parameters = yaml.safe_load(file.read_text()) | {"scale": page.scale}
    if isinstance(page, PageSpec) and page.seeds is not None:
        parameters["seeds"] = list(page.seeds)
    found = (records.find(run.key) for run in plan.order(page.chains()))
    inputs = [records.dump(record) for record in found if record is not None] + [file.read_text() for file in page.files()]
    return execution.job(paths.NOTEBOOKS / f"{file.parent.name}.ipynb", page.page, parameters, inputs, source=file.name)


def build(*, scale: str | None = None, strict: bool = False) -> Path:
    """Execute all pages and build the book.

    Args:
        scale: Execute the pages at this scale instead of their own.
        strict: Build everything anew, and take warnings for errors.

    Returns:
        The book's first page.

    Raises:
        StudyError: if a page or the book fails, or the scale is coco.
    """
    if scale == "coco":
        raise StudyError(
            "some pages of the book are about generated data, which the scale coco has not: execute single pages by "
            "`python -m dfmsd page NAME --scale coco`, and build the book without --scale"
        )
    selected = [pages.get(name, scale=scale) for name in pages.names()]
    _train(selected)
    jobs = {f"page {page.page} ({page.scale})": _job_of(page) for page in selected}
    if (explore := _explore(scale)) is not None:
        jobs[f"page {EXPLORE} (trains live)"] = explore
    execution.run_all(jobs)
    _generate(selected)
    print("jupyter-book", flush=True)
    return _render(strict)


def _train(selected: Sequence[Page]) -> None:
    """At the scale smoke a page makes its own runs; what several pages need is made once, before they are executed side by side."""
    from dfmsd.study import ensure as study

    small = [runs for page in selected if page.scale == "smoke" for runs in page.chains()]
    study.ensure(small, jobs=os.cpu_count() or 1, quiet=True)


def _explore(scale: str | None) -> Job | None:
    notebook = paths.NOTEBOOKS / f"{EXPLORE}.ipynb"
    if not notebook.exists():
        return None
    wanted = {"scale": scale} if scale and "scale" in papermill.inspect_notebook(str(notebook)) else {}
    return execution.job(notebook, EXPLORE, wanted, source=notebook.name, trains=True)


def _generate(selected: Iterable[Page]) -> None:
    """What the book and the README take besides pages: the scoreboard in short, the table of pages, figures, what pages link to."""
    from dfmsd.report import figures, scoreboard

    generated = paths.pages() / "generated"
    raw = paths.pages() / "extra" / "records"
    raw.mkdir(parents=True, exist_ok=True)
    for page in selected:
        for run in plan.order(page.chains()):
            if (record := records.find(run.key)) is not None:
                _write(raw / f"{run.key}.json", records.dump(record))
        for file in page.files():
            _write(raw / file.relative_to(paths.records()), file.read_text())
        if isinstance(page, PageSpec) and page.page == COVER:
            with records.published_only():
                figures.comparison(page).save(paths.book() / "figures" / f"{page.page}.svg")
    for file in [*paths.PARAMS.rglob("*.yaml"), *paths.NOTEBOOKS.glob("*.ipynb")]:
        _write(raw.parent / file.relative_to(paths.ROOT), file.read_text())
    board = published_board()
    scoreboard.overview(board).save(paths.book() / "figures" / f"{SCOREBOARD}.svg")
    _write(generated / "answer.md", scoreboard.answer(board, f"figures/{SCOREBOARD}.svg"))
    _write(generated / "pages.md", table_of_pages("pages/{page}.ipynb"))
    readme = paths.book().parent / "README.md"
    if readme.exists():
        _write(readme, with_generated_parts(readme.read_text(), board))


def published_board() -> Board:
    """The scoreboard of published records alone."""
    from dfmsd.report import scoreboard

    page = pages.get(SCOREBOARD)
    assert isinstance(page, ScoreboardPage)
    with records.published_only():
        return scoreboard.board(page)


def table_of_pages(link: str) -> str:
    """The pages with their state at each scale, as Markdown, from the published records, in the order of the book.

    Args:
        link: Where a page's name leads; ``{page}`` and ``{notebook}`` are replaced.
    """
    rows = [("page", "question", *scales.PUBLIC), ("---",) * (2 + len(scales.PUBLIC))]
    for name in sorted(pages.names(), key=contents.place()):
        target = link.format(page=name, notebook=pages.file_of(name).parent.name)
        page = pages.get(name)
        if not page.listed:
            continue
        states = [_state(pages.get(name, scale=scale)) for scale in scales.PUBLIC]
        rows.append((f"[{page.title}]({target})", page.question, *states))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _state(page: Page) -> str:
    keys = [run.key for run in plan.order(page.chains())]
    if isinstance(page, ObservedPage) and not page.observation().exists():
        return "not observed"
    if not keys:
        return "observed" if isinstance(page, ObservedPage) else "no runs needed"
    done = sum((paths.records() / f"{key}.json").exists() for key in keys)
    if not done:
        return "not run"
    return f"{done} of {len(keys)} runs" if done < len(keys) else f"complete, {done} run{'s' * (done != 1)}"


def with_generated_parts(readme: str, board: Board) -> str:
    """The README's text with its generated parts as they are now."""
    from dfmsd.report import scoreboard

    answer = scoreboard.answer(board, f"book/figures/{SCOREBOARD}.svg")
    return _with_part(_with_part(readme, "answer", answer), "pages", table_of_pages("params/{notebook}/{page}.yaml"))


def _with_part(text: str, name: str, part: str) -> str:
    """A text with what stands between a part's markers replaced."""
    start, end = f"<!-- {name}: generated by `python -m dfmsd book` -->", f"<!-- end of {name} -->"
    between = re.compile(f"{re.escape(start)}.*{re.escape(end)}", re.DOTALL)
    return between.sub(lambda _: f"{start}\n\n{part}\n{end}", text)


def _write(file: Path, text: str) -> None:
    """Write a file unless it holds the text already: what has not changed is not built again."""
    if not file.exists() or file.read_text() != text:
        records.write_atomic(file, text)


def _render(strict: bool) -> Path:
    book = paths.book()
    strictly = ["--all", "-W", "--keep-going", "-n"] if strict else []
    done = subprocess.run(
        [Path(sys.executable).with_name("jupyter-book"), "build", book, "--toc", contents.write(), *strictly],
        capture_output=True,
        text=True,
    )
    said = re.sub(r"\x1b\[[\d;]*m", "", done.stdout + done.stderr)
    complaints = [line for line in said.splitlines() if re.search(r"\b(WARNING|ERROR|CRITICAL|\w*[Ee]rror):", line)]
    if done.returncode:
        print("\n".join(complaints) or said, file=sys.stderr)
        raise StudyError(f"the book was not built: {complaints[0].strip() if complaints else 'see above'}")
    for line in complaints:
        print(line, file=sys.stderr)
    return book / "_build" / "html" / "index.html"
