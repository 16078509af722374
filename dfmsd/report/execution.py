"""Execute notebooks into pages.

papermill executes a notebook with a page's parameters into ``book/pages``, once: as long as nothing changes that the page
depends on, it is not executed again. Pages are executed side by side, and one after the other in kernels that stay warm.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
import multiprocessing
import multiprocessing.util
import os
import tempfile
import threading
import warnings
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import papermill
from jupyter_client.kernelspec import NoSuchKernel
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from dfmsd.errors import StudyError, suggest
from dfmsd.study import paths, records

UNUSED = ("__main__", "book", "execution", "doctor")
"""Modules that no notebook's outputs depend on."""

MOST = 8
"""Pages that are executed at a time at most: each may take a gigabyte of memory."""


@dataclass(frozen=True)
class Job:
    """A notebook to execute with parameters."""

    notebook: Path
    name: str
    parameters: Mapping[str, Any]
    digest: str
    """Of everything that the page depends on."""
    trains: bool = False
    """Whether it trains live: it is begun first, and its kernel is its own."""

    @property
    def target(self) -> Path:
        """The page."""
        return paths.pages() / f"{self.name}.ipynb"

    def is_done(self) -> bool:
        """Whether the page is there and up to date."""
        found = nbformat.read(self.target, as_version=4) if self.target.exists() else {"metadata": {}}
        return bool(found["metadata"].get("dfmsd", {}).get("inputs") == self.digest)


def job(
    notebook: Path, name: str, parameters: Mapping[str, Any], inputs: Iterable[str] = (), *, source: str, trains: bool = False
) -> Job:
    """What is to be done for a page.

    Args:
        notebook: The template.
        name: The page's.
        parameters: The notebook's, of those that it knows.
        inputs: Texts that the page shows besides: records.
        source: Whose mistake a wrong parameter is, for messages.
        trains: Whether the notebook trains live.

    Raises:
        StudyError: if the notebook is missing, or does not know a parameter.
    """
    if not notebook.exists():
        raise StudyError(f"{source} wants the notebook {notebook.name}, which is not in {notebook.parent.name}/")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a notebook without cell ids
        known = papermill.inspect_notebook(str(notebook))
    for key in parameters:
        if key not in known:
            raise StudyError(f"{source}: {notebook.name} has no parameter {key!r}: {suggest(key, known)}")
    digest = _digest(notebook.read_text(), json.dumps(parameters, sort_keys=True), *_sources(), *inputs)
    return Job(notebook, name, parameters, digest, trains)


def _sources() -> list[str]:
    files = [*paths.PACKAGE.rglob("*.py"), *paths.PACKAGE.rglob("*.yaml"), *paths.PARAMS.glob("*.yaml")]
    return [file.read_text() for file in sorted(files) if file.stem not in UNUSED]


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def run(job: Job, kernel: AsyncKernelManager | None = None) -> Path:
    """Execute a notebook, unless its page is there and up to date.

    Args:
        job: What to execute.
        kernel: Where; a kernel of its own if there is none.

    Returns:
        The executed notebook.

    Raises:
        StudyError: if the notebook fails or its kernel does not start; a page that was there stays.
    """
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
                km=kernel,
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


def run_all(jobs: Mapping[str, Job]) -> None:
    """Execute notebooks side by side, as many as there are cores, and tell of each in the order given.

    Raises:
        StudyError: of the first that fails; those that have not ended by then are stopped.
    """
    todo = [job for job in jobs.values() if not job.is_done()]
    cores = os.cpu_count() or 1
    workers = max(1, min(cores, len(todo), MOST))
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, initializer=_begin_worker, initargs=(max(1, cores // workers),)) as pool:
        # The longest first.
        futures = {job.name: pool.submit(_work, job) for job in sorted(todo, key=lambda job: not job.trains)}
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
    """Share the cores with the other workers; Ctrl-C reaches the parent alone, and its end is this worker's.

    A worker is a process because papermill changes the working directory.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    os.setsid()

    def wait() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _work(job: Job) -> Path:
    """Execute a notebook in this worker's kernel, where all that earlier pages imported is imported already."""
    if job.trains:
        return run(job)
    kernel = _warm_kernel()
    if kernel.has_kernel:
        _forget(kernel)
    return run(job, kernel)


@functools.cache
def _warm_kernel() -> AsyncKernelManager:
    """This worker's kernel, which papermill starts with the first page."""
    kernel = AsyncKernelManager(kernel_name="python3")
    multiprocessing.util.Finalize(None, lambda: asyncio.run(_end(kernel)), exitpriority=0)
    return kernel


async def _end(kernel: AsyncKernelManager) -> None:
    await kernel.shutdown_kernel(now=True)


def _forget(kernel: AsyncKernelManager) -> None:
    """Take every name that a page has defined from the kernel, and begin counting cells anew."""
    client = kernel.blocking_client()
    client.start_channels()
    try:
        client.execute_interactive("get_ipython().reset()", silent=True)
    finally:
        client.stop_channels()
