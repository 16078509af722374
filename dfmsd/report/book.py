"""Build the book: papermill executes what has changed into ``book/pages``, jupyter-book renders what is there.

What the book takes from records besides (the answer on its first page, the table of pages, raw records to link to) is written
when it is built, and nothing of it is committed.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import nbformat
import papermill
import yaml
from jupyter_client.kernelspec import NoSuchKernel
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.utils import run_sync  # type: ignore[attr-defined]
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from dfmsd.errors import StudyError
from dfmsd.hyper import METHODS
from dfmsd.report import gates, glossary, home, tables
from dfmsd.study import ensure, machine, pages, params, paths, plan, processes, records, scales, verdicts
from dfmsd.study.files import read_text, write_atomic
from dfmsd.study.pages.base import Page
from dfmsd.study.pages.measured import MeasuredPage
from dfmsd.study.pages.scale import GatesPage

UNUSED = ("__main__", "book", "doctor")
"""Modules that no notebook's outputs depend on."""

PATIENCE = 24 * 3600
"""For a kernel to start, in seconds: on a busy machine it is slow, and no error; one that dies is told of at once."""

MOST = 8
"""Pages that are executed at a time at most: each may take a gigabyte of memory."""


@dataclass(frozen=True)
class Job:
    """A notebook to execute with parameters."""

    notebook: Path
    name: str
    """Of the page."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    inputs: Sequence[str] = ()
    """Texts that the page shows besides the code and the parameters: records, and verdicts."""
    runs: Path = field(default_factory=paths.runs)
    """The folder of runs that the notebook sees, see :func:`_seen_by`."""

    @property
    def target(self) -> Path:
        """The page."""
        return paths.pages() / f"{self.name}.ipynb"

    @cached_property
    def digest(self) -> str:
        """Hash of everything that the page depends on."""
        texts = (self.notebook.read_text(), json.dumps(self.parameters, sort_keys=True), _code(), *self.inputs)
        return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]

    def is_done(self) -> bool:
        """Whether the page is there and up to date."""
        try:
            return bool(json.loads(read_text(self.target))["metadata"]["dfmsd"] == self.digest)
        except (FileNotFoundError, ValueError, KeyError, TypeError):  # damaged, it is made anew
            return False


@cache
def _code() -> str:
    files = [*paths.PACKAGE.rglob("*.py"), *paths.PACKAGE.rglob("*.yaml"), *paths.PARAMS.glob("*.yaml")]
    return "\0".join(file.read_text() for file in sorted(files) if file.stem not in UNUSED)


def job(page: Page) -> Job:
    """What is to be done for a page of ``params``."""
    file = pages.file_of(page.page)
    given = params.read(file) | {"scale": page.scale}
    if (seeds := getattr(page, "seeds", None)) is not None:
        given["seeds"] = list(seeds)
    with _seen_by(page) as seen:
        shown = page.sources()
        runs = plan.order(chain for one in shown for chain in one.chains())
        found = [records.dump(record) for run in runs if (record := records.find(run.key)) is not None]
        measured = {file for one in shown if isinstance(one, MeasuredPage) for file in one.measured_files()}
        # Claims are judged beside those of all pages, and a gate is about what all of them take.
        others = [verdicts.of(page).to_json(), *([str(gates.hours(page))] if isinstance(page, GatesPage) else [])]
    inputs = [*found, *(file.read_text() for file in sorted(measured)), *others]
    return Job(paths.NOTEBOOKS / f"{file.parent.name}.ipynb", page.page, given, inputs, seen)


@contextmanager
def _seen_by(page: Page) -> Iterator[Path]:
    """The folder of runs that a page sees: at the scale smoke, which publishes no records, the one that is here.

    Else it is one of the page's own, so that it shows published records alone and is the same on every machine, whatever has been
    trained there; what a page trains whenever it is executed stays in that folder.
    """
    here = os.environ.get("DFMSD_RUNS")
    seen = paths.runs() if page.scale == "smoke" else paths.pages() / "runs" / page.page
    os.environ["DFMSD_RUNS"] = str(seen)
    try:
        yield seen
    finally:
        os.environ.pop("DFMSD_RUNS")
        os.environ.update({} if here is None else {"DFMSD_RUNS": here})


def execute(page: Page) -> Path:
    """Execute a page's notebook, unless the page is there and up to date, and return ``book/pages/<page>.ipynb``.

    Raises:
        StudyError: if the notebook fails or its kernel does not start; a page that was there stays.
    """
    return run(job(page))


def run(job: Job, kernel: AsyncKernelManager | None = None) -> Path:
    """Execute a notebook in a kernel of its own or a given new one, see :func:`execute`."""
    if not job.notebook.exists():
        raise StudyError(f"page {job.name} wants the notebook {job.notebook.name}, which is not in {job.notebook.parent.name}/")
    if job.is_done():
        return job.target
    paths.settle()  # the kernel works in the folder of the notebooks
    # An environment of ours knows its own kernel, whatever the user has registered elsewhere.
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")
    kernel = kernel or AsyncKernelManager(kernel_name="python3")
    try:
        assert kernel.kernel_spec is not None
        kernel.kernel_spec.env = {**kernel.kernel_spec.env, "DFMSD_RUNS": str(job.runs), tables.IN_BOOK: "1"}
        done = papermill.execute_notebook(
            str(job.notebook),
            None,  # where papermill would write, and check, the whole notebook before and after each cell
            parameters=dict(job.parameters),
            kernel_name="python3",
            km=kernel,
            resources={"metadata": {"path": str(paths.NOTEBOOKS)}},
            progress_bar=False,
            extra_arguments=["--log-level=CRITICAL"],
            start_timeout=PATIENCE,
        )
    except PapermillExecutionError as error:
        reason = str(error.evalue).strip().splitlines() or [""]
        said = reason[0] if error.ename == "StudyError" else f"{error.ename}: {reason[0]}"
        raise StudyError(f"{job.notebook.name} failed for page {job.name}, cell {error.exec_count}: {said}") from None
    except (NoSuchKernel, DeadKernelError) as error:
        where = f"{job.notebook.name} could not run for page {job.name}"
        raise StudyError(f"{where}: {error}: `make setup` mends the kernel") from None
    finally:
        run_sync(kernel.shutdown_kernel)(now=True)  # papermill leaves running what it is given
    _finish(done, job.parameters)
    done.metadata["dfmsd"] = job.digest
    write_atomic(job.target, nbformat.writes(done))
    return job.target


def _finish(notebook: Any, parameters: Mapping[str, Any]) -> None:
    """Make a page of an executed notebook: its title, its parameters folded away, no cell that shows nothing, nothing by chance."""
    notebook.metadata.pop("papermill", None)
    notebook.cells = [part for cell in notebook.cells for part in _figures(cell, str(parameters.get("page")))]
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        tags = set(cell.metadata.get("tags", ()))
        if "page-title" in tags and "title" in parameters:
            cell.source = f"# {tables.plain(parameters['title'])}\n\n{tables.plain(parameters.get('question', ''))}"
        if ("parameters" in tags and parameters) or ("hide-input" in tags and cell.get("outputs") == []):
            tags.add("remove-cell")
        if "injected-parameters" in tags:
            tags.add("hide-input")
            cell.id = "injected-parameters"
            cell.metadata["mystnb"] = {"code_prompt_show": "Show the page's parameters", "code_prompt_hide": "Hide them"}
        for output in cell.get("outputs", ()):
            if "text/html" in output.get("data", {}):
                output.data.pop("text/plain", None)  # it has an address in memory
        cell.metadata["tags"] = sorted(tags)


def _figures(cell: Any, page: str) -> list[Any]:
    """A cell whose figures have a caption, as a cell for each output: a figure has a name, by which other pages refer to it."""
    if "figure" not in cell.metadata.get("mystnb", {}):
        return [cell]
    parts = []
    for place, output in enumerate(cell.outputs):
        part = copy.deepcopy(cell)
        part.outputs = [output]
        part.id += f"-{place + 1}" * (place > 0)
        part.metadata["mystnb"]["figure"]["name"] = f"{page}-{part.id}"
        if '<svg class="drawn' not in output.get("data", {}).get("text/html", ""):
            del part.metadata["mystnb"]["figure"]
        if place:
            part.metadata["tags"] = ["remove-input"]
        parts.append(part)
    return parts or [cell]


def measure(page: Page, jobs: int) -> None:
    """Measure for a page, if that is its kind and there is no record of today, by the module of its notebook.

    Raises:
        StudyError: see :func:`dfmsd.study.ensure.make`.
    """
    if isinstance(page, MeasuredPage):
        module, _, function = records.measuring(page).partition(":")
        ensure.make(page, jobs=jobs, measure=getattr(import_module(module), function))


def _measure_all(selected: Iterable[Page]) -> None:
    """Measure for pages side by side, each in one of as many processes as there are cores."""
    workers = os.cpu_count() or 1
    given = (dict(os.environ), machine.threads(workers))
    with ProcessPoolExecutor(workers, processes.server(), processes.enter, given) as pool:
        waiting = [pool.submit(measure, page, 1) for page in selected]
        try:
            for done in waiting:
                done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def run_all(jobs: Sequence[Job]) -> None:
    """Execute notebooks side by side, as many as there are cores, those first that come first, and tell of each when it is done.

    Raises:
        StudyError: of the first that fails; those that have not ended by then are stopped.
    """
    todo = [job for job in jobs if not job.is_done()]
    cores = os.cpu_count() or 1
    workers = max(1, min(cores, len(todo), MOST))
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // workers)))
    kernels = {job.name: AsyncKernelManager(kernel_name="python3") for job in todo}
    with ThreadPoolExecutor(workers) as pool:
        futures = {job.name: pool.submit(run, job, kernels[job.name]) for job in todo}
        try:
            for job in jobs:
                if job.name in futures:
                    futures[job.name].result()
                print(f"page {job.name}", flush=True)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for kernel in kernels.values():
                # A notebook whose kernel is killed ends at once; the kernel of one that failed is gone already.
                if (pid := getattr(kernel.provisioner, "pid", None)) is not None:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            raise


def build(*, scale: str | None = None, strict: bool = False) -> Path:
    """Execute all pages, at another scale than their own if one is given, and build the book.

    Strictly, all is built anew, and warnings are errors.

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
    selected = [pages.get(page.page, scale="smoke") if page.AS_TOY else page for page in selected]
    # At the scale smoke the book makes its own runs: what several pages need once, before they are executed side by side.
    small = [runs for page in selected if page.scale == "smoke" for runs in page.chains()]
    ensure.ensure(small, jobs=os.cpu_count() or 1, quiet=True)
    # Now: claims of all pages would be judged anew after each that is measured.
    _measure_all([page for page in selected if page.scale == "smoke" and isinstance(page, MeasuredPage)])
    run_all([job(page) for page in selected])
    _generate(selected)
    print("jupyter-book", flush=True)
    return _render(strict)


def _generate(selected: Iterable[Page]) -> None:
    """What the book takes besides pages; what pages link to lies at the places that it has beside notebooks."""
    extra, generated = paths.pages() / "extra", paths.pages() / "generated"
    for page in selected:
        with _seen_by(page):
            found = {run.key: records.find(run.key) for run in plan.order(page.chains())}
        for key, record in found.items():
            if record is not None:
                _write(extra / "book" / "records" / f"{key}.json", records.dump(record))
        for file in page.measured_files() if isinstance(page, MeasuredPage) else ():
            _write(extra / "book" / "records" / "measured" / file.name, file.read_text())
    for file in [*paths.PARAMS.rglob("*.yaml"), *paths.NOTEBOOKS.glob("*.ipynb")]:
        _write(extra / file.relative_to(paths.ROOT), file.read_text())
    _write(generated / "pages.md", table_of_pages())
    _write(generated / "glossary.md", glossary.markdown())
    for name, text in _drawings().items():
        _write(generated / name, text)
    with _seen_by(pages.get("scoreboard")):
        for name, text in home.screen().items():
            _write(generated / name, text)


def _drawings() -> dict[str, str]:
    """What the executed page of all methods draws of each, for the method's own page, by the names of files."""
    found = {f"drawn-{name}.md": "Nothing is drawn yet: `python -m dfmsd page methods` draws it.\n" for name in METHODS}
    for cell in nbformat.read(paths.pages() / "methods.ipynb", as_version=4).cells:
        shown = [output["data"]["text/html"] for output in cell.get("outputs", ()) if "text/html" in output.get("data", {})]
        if (name := re.search(r'specification\("(\w+)"', cell.source)) and shown:
            caption = tables.plain(cell.metadata["mystnb"]["figure"]["caption"])
            there = "[Another page](../pages/methods.ipynb) draws all methods for the same image."
            file, label = f"drawn-{name[1]}.html", f"---\nname: drawn-{name[1]}\n---"
            text = f"```{{drawing}} ../pages/generated/{file}\n{label}\n{caption} {there}\n```\n"
            found |= {file: shown[0], f"drawn-{name[1]}.md": text}
    return found


def table_of_pages() -> str:
    """The pages and how many of their runs have a record, as Markdown, in the order of the book; at each scale that has any."""
    shown = [name for part in contents()["parts"] for name in map(_name, part["chapters"]) if name in pages.names()]
    done = {scale: [_done(pages.get(name, scale=scale)) for name in shown] for scale in scales.PUBLIC}
    states = {f"runs at {scale}": column for scale, column in done.items() if any(count for count, _ in column)}
    rows = []
    for place, page in enumerate(map(pages.get, shown)):
        counts = [column[place][1] for column in states.values()]
        rows.append((f"[{tables.plain(page.title)}](pages/{page.page}.ipynb)", tables.plain(page.question), *counts))
    return tables.pipes(["page", "question", *states], rows)


def _done(page: Page) -> tuple[int, str]:
    """How many runs of a page have a record, and how its line says that."""
    keys = [run.key for run in plan.order(page.chains())]
    count = sum((paths.records() / f"{key}.json").exists() for key in keys)
    said = [f"{count} of {len(keys)}"] * bool(keys) + ["not measured"] * (
        isinstance(page, MeasuredPage) and not page.measured_files()
    )
    return count, ", ".join(said) or "–"


def contents() -> dict[str, Any]:
    """The contents of ``book/_toc.yml`` as far as they are there; a page that it does not name follows the last of its kind."""
    found = copy.deepcopy(params.read(paths.book() / "_toc.yml"))
    for part in found.get("parts", []):
        part["chapters"] = [chapter for chapter in part["chapters"] if _is_there(chapter["file"])]
    parts = [part["chapters"] for part in found.get("parts", [])]
    named = {_name(chapter) for chapters in parts for chapter in chapters}
    for name in pages.names() if parts else ():
        if name not in named:
            like = {file.stem for file in pages.file_of(name).parent.glob("*.yaml")}
            chapters = next((part for part in reversed(parts) if like & set(map(_name, part))), parts[-1])
            after = max((place for place, chapter in enumerate(chapters, 1) if _name(chapter) in like), default=len(chapters))
            chapters.insert(after, {"file": f"pages/{name}"})
    for chapters in parts:
        at = max((place for place, chapter in enumerate(chapters, 1) if chapter["file"].startswith("methods/")), default=0)
        more = sorted(file.stem for file in (paths.book() / "methods").glob("*.md") if file.stem not in named)
        chapters[at:at] = [{"file": f"methods/{name}"} for name in more] if at else []
    return found


def _is_there(file: str) -> bool:
    return Path(file).name in pages.names() if file.startswith("pages/") else (paths.book() / f"{file}.md").exists()


def _name(chapter: Mapping[str, str]) -> str:
    return Path(chapter["file"]).name


def _write(file: Path, text: str) -> None:
    """Write a file unless it holds the text already: what has not changed is not built again."""
    if not file.exists() or read_text(file) != text:
        write_atomic(file, text)


def _render(strict: bool) -> Path:
    toc = paths.pages() / "generated" / "contents.yml"
    _write(toc, yaml.safe_dump(contents(), sort_keys=False))
    strictly = ["--all", "-W", "--keep-going", "-n"] if strict else []
    command: list[str | Path] = [Path(sys.executable).with_name("jupyter-book"), "build", paths.book(), "--toc", toc, *strictly]
    done = subprocess.run(command, capture_output=True, text=True)
    said = re.sub(r"\x1b\[[\d;]*m", "", done.stdout + done.stderr)
    complaints = [line for line in said.splitlines() if re.search(r"\b(WARNING|ERROR|CRITICAL|\w*[Ee]rror):", line)]
    if done.returncode:
        print("\n".join(complaints) or said, file=sys.stderr)
        raise StudyError(f"the book was not built: {complaints[0].strip() if complaints else 'see above'}")
    for line in complaints:
        print(line, file=sys.stderr)
    return paths.book() / "_build" / "html" / "index.html"
