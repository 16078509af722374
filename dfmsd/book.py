"""Execute pages and build the book.

papermill executes a page's notebook with the page's parameters into ``book/pages``, once: as long as nothing changes that
it depends on, it is not executed again. Pages are executed side by side. jupyter-book renders what is there and executes nothing.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import nbformat
import papermill
import yaml
from jupyter_client.kernelspec import NoSuchKernel
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from dfmsd import pages, paths, plan, records, scales
from dfmsd.errors import StudyError, suggest
from dfmsd.pages import FeaturesPage, Page, PageSpec, ScoreboardPage

if TYPE_CHECKING:
    from dfmsd.scoreboard import Board

EXPLORE = "explore"
"""The notebook to play with: no page of ``params``, executed with its own parameters."""

UNUSED = ("__main__", "book", "doctor")
"""Modules that no notebook's outputs depend on."""

MOST = 8
"""Pages that are executed at a time at most: each may take a gigabyte of memory."""

COVER = "table03"
"""The comparison whose figure stands in the README."""

SCOREBOARD = "scoreboard"
"""The page whose summary and figure stand on the first page and in the README."""


@dataclass(frozen=True)
class _Job:
    """A notebook to execute with parameters."""

    notebook: Path
    name: str
    parameters: Mapping[str, Any]
    digest: str
    """Of everything that the page depends on."""

    @property
    def target(self) -> Path:
        """The page."""
        return paths.pages() / f"{self.name}.ipynb"

    def is_done(self) -> bool:
        """Whether the page is there and up to date."""
        found = nbformat.read(self.target, as_version=4) if self.target.exists() else {"metadata": {}}
        return bool(found["metadata"].get("dfmsd", {}).get("inputs") == self.digest)


def execute(page: Page) -> Path:
    """Execute a page's notebook with its parameters, unless the page is there and up to date.

    Returns:
        The executed notebook, ``book/pages/<page>.ipynb``.

    Raises:
        StudyError: if the params file has a key that the notebook does not know, or the notebook fails; a page that was
            there stays.
    """
    return _run(_job_of(page))


def _job_of(page: Page) -> _Job:
    file = pages.file_of(page.page)
    parameters = yaml.safe_load(file.read_text()) | {"scale": page.scale}
    if isinstance(page, PageSpec) and page.seeds is not None:
        parameters["seeds"] = list(page.seeds)
    found = (records.find(run.key) for run in plan.order(page.chains()))
    inputs = [records.dump(record) for record in found if record is not None] + [file.read_text() for file in page.files()]
    return _job(paths.NOTEBOOKS / f"{file.parent.name}.ipynb", page.page, parameters, inputs, source=file.name)


def _execute(notebook: Path, name: str, parameters: Mapping[str, Any], inputs: Iterable[str], *, source: str) -> Path:
    return _run(_job(notebook, name, parameters, inputs, source=source))


def _job(notebook: Path, name: str, parameters: Mapping[str, Any], inputs: Iterable[str], *, source: str) -> _Job:
    if not notebook.exists():
        raise StudyError(f"{source} wants the notebook {notebook.name}, which is not in {notebook.parent.name}/")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a notebook without cell ids
        known = papermill.inspect_notebook(str(notebook))
    for key in parameters:
        if key not in known:
            raise StudyError(f"{source}: {notebook.name} has no parameter {key!r}: {suggest(key, known)}")
    digest = _digest(notebook.read_text(), json.dumps(parameters, sort_keys=True), *_sources(), *inputs)
    return _Job(notebook, name, parameters, digest)


def _run(job: _Job) -> Path:
    """Execute a notebook, unless its page is there and up to date."""
    if job.is_done():
        return job.target
    # An environment of ours knows its own kernel, whatever the user has registered elsewhere.
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")
    with tempfile.TemporaryDirectory(prefix="dfmsd-") as folder:
        output = Path(folder) / job.target.name
        try:
            papermill.execute_notebook(
                str(job.notebook),
                str(output),
                parameters=dict(job.parameters),
                kernel_name="python3",
                cwd=str(paths.NOTEBOOKS),
                progress_bar=False,
                extra_arguments=["--log-level=CRITICAL"],
            )
        except PapermillExecutionError as error:
            reason = str(error.evalue).strip().splitlines() or [""]
            where = f"{job.notebook.name} failed for page {job.name}, cell {error.exec_count}"
            raise StudyError(f"{where}: {error.ename}: {reason[0]}") from None
        except (NoSuchKernel, DeadKernelError) as error:
            where = f"{job.notebook.name} could not run for page {job.name}"
            raise StudyError(f"{where}: {error}: `make setup` mends the kernel") from None
        done = nbformat.read(output, as_version=4)
    _finish(done, job.parameters)
    done.metadata["dfmsd"] = {"inputs": job.digest}
    records.write_atomic(job.target, nbformat.writes(done))
    return job.target


def _finish(notebook: Any, parameters: Mapping[str, Any]) -> None:
    """Make a page of an executed notebook: its title, its parameters folded away, nothing about this machine."""
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        tags = cell.metadata.setdefault("tags", [])
        if "page-title" in tags and "title" in parameters:
            cell.source = f"# {parameters['title']}\n\n{parameters.get('question', '')}"
        if "injected-parameters" in tags:
            tags.append("hide-input")
        if "parameters" in tags and parameters:
            tags.append("remove-cell")


def _sources() -> list[str]:
    files = [*paths.PACKAGE.rglob("*.py"), *paths.PACKAGE.glob("*.yaml"), *paths.PARAMS.glob("*.yaml")]
    return [file.read_text() for file in sorted(files) if file.stem not in UNUSED]


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def build(*, scale: str | None = None, strict: bool = False) -> Path:
    """Execute all pages and build the book.

    Args:
        scale: Execute the pages at this scale instead of their own.
        strict: Build everything anew, and take warnings for errors.

    Returns:
        The book's first page.

    Raises:
        StudyError: if a page or the book fails.
    """
    selected = [pages.get(name, scale=scale) for name in pages.names()]
    _train(selected)
    jobs = {f"page {page.page} ({page.scale})": _job_of(page) for page in selected}
    if (explore := _explore(scale)) is not None:
        jobs[f"page {EXPLORE} (trains live)"] = explore
    _run_all(jobs)
    _generate(selected)
    print("jupyter-book", flush=True)
    return _render(strict)


def _train(selected: Sequence[Page]) -> None:
    """At the scale smoke a page makes its own runs; what several pages need is made once, before they are executed side by side."""
    from dfmsd import study

    small = [runs for page in selected if page.scale == "smoke" for runs in page.chains()]
    study.ensure(small, jobs=os.cpu_count() or 1, quiet=True)


def _explore(scale: str | None) -> _Job | None:
    notebook = paths.NOTEBOOKS / f"{EXPLORE}.ipynb"
    if not notebook.exists():
        return None
    wanted = {"scale": scale} if scale and "scale" in papermill.inspect_notebook(str(notebook)) else {}
    return _job(notebook, EXPLORE, wanted, [], source=notebook.name)


def _run_all(jobs: Mapping[str, _Job]) -> None:
    """Execute notebooks side by side, as many as there are cores, and tell of each in the order given.

    Each has a process of its own, because papermill changes the working directory.

    Raises:
        StudyError: of the first that fails; those that have not ended by then are stopped.
    """
    todo = [job for job in jobs.values() if not job.is_done()]
    cores = os.cpu_count() or 1
    workers = max(1, min(cores, len(todo), MOST))
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, initializer=_begin_worker, initargs=(max(1, cores // workers),)) as pool:
        # The longest first.
        futures = {job.name: pool.submit(_run, job) for job in sorted(todo, key=lambda job: job.name != EXPLORE)}
        try:
            for label, job in jobs.items():
                if job.name in futures:
                    futures[job.name].result()
                print(label, flush=True)
        except BrokenProcessPool:
            raise StudyError("the process that executed a page was killed, perhaps for want of memory: try again") from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise


def _begin_worker(threads: int) -> None:
    """Share the cores with the other workers; Ctrl-C reaches the parent alone, and its end is this worker's."""
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    os.setsid()

    def wait() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _generate(selected: Iterable[Page]) -> None:
    """What the book and the README take from records: the scoreboard in short, the table of pages, figures, raw records."""
    from dfmsd import figures, scoreboard

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
            figures.comparison(page).save(paths.book() / "figures" / f"{page.page}.svg")
    board = published_board()
    scoreboard.figure(board).save(paths.book() / "figures" / f"{SCOREBOARD}.svg")
    _write(generated / "answer.md", scoreboard.answer(board, f"figures/{SCOREBOARD}.svg"))
    _write(generated / "pages.md", table_of_pages("pages/{page}.ipynb"))
    readme = paths.book().parent / "README.md"
    if readme.exists():
        _write(readme, with_generated_parts(readme.read_text(), board))


def published_board() -> Board:
    """The scoreboard of published records alone: what is committed beside them depends on nothing else that was run here."""
    from dfmsd import scoreboard

    page = pages.get(SCOREBOARD)
    assert isinstance(page, ScoreboardPage)
    with mock.patch.dict(os.environ, DFMSD_RUNS=os.devnull):
        return scoreboard.board(page)


def table_of_pages(link: str) -> str:
    """The pages with their state at each scale, as Markdown, from the published records.

    Args:
        link: Where a page's name leads; ``{page}`` and ``{notebook}`` are replaced.
    """
    rows = [("page", "question", *scales.PUBLIC), ("---",) * (2 + len(scales.PUBLIC))]
    for name in pages.names():
        target = link.format(page=name, notebook=pages.file_of(name).parent.name)
        page = pages.get(name)
        if not page.listed:
            continue
        states = [_state(pages.get(name, scale=scale)) for scale in scales.PUBLIC]
        rows.append((f"[{page.title}]({target})", page.question, *states))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _state(page: Page) -> str:
    keys = [run.key for run in plan.order(page.chains())]
    if not keys:
        return "no runs needed"
    if isinstance(page, FeaturesPage) and not page.files():
        return "not observed"
    done = sum((paths.records() / f"{key}.json").exists() for key in keys)
    return "not run" if not done else f"complete, {done} runs" if done == len(keys) else f"{done} of {len(keys)} runs"


def with_generated_parts(readme: str, board: Board) -> str:
    """The README's text with its generated parts as they are now."""
    from dfmsd import scoreboard

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
        [Path(sys.executable).with_name("jupyter-book"), "build", book, *strictly],
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
