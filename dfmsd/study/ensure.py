"""Make sure that what a page needs has been run, and gather its results."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from dfmsd.errors import StudyError
from dfmsd.study import pages, paths, plan, records, scales
from dfmsd.study.data import ABSENT
from dfmsd.study.pages import PageSpec, TuningPage, name_of
from dfmsd.study.records import Record
from dfmsd.study.spec import CocoData, RunSpec

POLL = 0.3
"""Seconds between looks at running processes."""


@dataclass
class Outcome:
    """What became of a set of runs."""

    done: list[RunSpec] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    """Message of each run that failed, by key, and where its log lies."""
    skipped: list[RunSpec] = field(default_factory=list)
    """Runs that need one that failed."""


def log_file(run: RunSpec) -> Path:
    """Where a run writes what it prints."""
    return paths.runs() / "logs" / f"{run.key}.log"


def folder(run: RunSpec) -> Path:
    """Where a finished run lies."""
    return paths.runs() / run.key


def ensure(chains: Iterable[tuple[RunSpec, ...]], *, jobs: int = 1, quiet: bool = False, weights: bool = False) -> Outcome:
    """Train what is missing, several runs at a time, each in a process of its own.

    A run that fails costs only the runs that need it. An interrupted call goes on where it was when called again.

    Args:
        chains: Chains of runs, see :func:`dfmsd.study.rows.chain`.
        jobs: Processes at a time; each gets its share of the processor's cores, or as many threads as ``OMP_NUM_THREADS`` says.
        quiet: Show no progress bar.
        weights: Train the last run of a chain, too, if it has a record but no weights here.

    Returns:
        What was done, what failed and why, and what was skipped for it.

    Raises:
        StudyError: if ``jobs`` is less than 1, or the data cannot be had.
    """
    if jobs < 1:
        raise StudyError(f"jobs = {jobs}: at least 1 run at a time is needed")
    planned = [item for item in plan.plan(chains, weights=weights) if item.state != "done"]
    outcome = Outcome(failed={item.run.key: item.note for item in planned if item.state == "damaged"})
    todo = {item.run.key: item for item in planned if item.state != "damaged"}
    if not todo:
        return outcome
    from dfmsd.study import data

    for spec in {item.run.data for item in todo.values()}:
        data.ensure(spec, progress=not quiet)
    sorter = TopologicalSorter({key: {need.key for need in item.run.needs()} & todo.keys() for key, item in todo.items()})
    sorter.prepare()
    threads = int(os.environ.get("OMP_NUM_THREADS") or max(1, (os.cpu_count() or 1) // jobs))
    rank = {key: place for place, key in enumerate(todo)}
    ready: list[str] = []
    running: dict[str, _Child] = {}
    with _progress(quiet) as bar:
        total = bar.add_task(f"{len(todo)} runs", total=sum(item.whole for item in todo.values()))
        try:
            while sorter.is_active():
                ready = sorted([*ready, *sorter.get_ready()], key=rank.__getitem__)
                while ready and len(running) < jobs:
                    item = todo[key := ready.pop(0)]
                    if any(need.key in outcome.failed or need in outcome.skipped for need in item.run.needs()):
                        outcome.skipped.append(item.run)
                        sorter.done(key)
                        ready = sorted([*ready, *sorter.get_ready()], key=rank.__getitem__)
                        continue
                    running[key] = _Child(item.run, threads)
                    running[key].task = bar.add_task(pages.describe(item.run), total=item.whole)
                for key, child in list(running.items()):
                    over = child.process.exitcode is not None
                    share = 1.0 if over else plan.progress(key)
                    bar.update(child.task, completed=share * todo[key].whole, visible=not over)
                    if over:
                        del running[key]
                        if (message := child.message()) is None:
                            outcome.done.append(child.run)
                        else:
                            outcome.failed[key] = f"{message}; its log: {log_file(child.run)}"
                        sorter.done(key)
                bar.update(total, completed=sum(task.completed for task in bar.tasks if task.id != total))
                if running:
                    time.sleep(POLL)
        finally:
            for child in running.values():
                child.process.kill()
                child.process.join()
    return outcome


def _progress(quiet: bool) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), disable=quiet, refresh_per_second=2)


class _Child:
    """A run in a process of its own.

    Args:
        run: The run; what it needs has been trained.
        threads: Of its process.
    """

    def __init__(self, run: RunSpec, threads: int) -> None:
        # Processes are forked from a server that has imported torch. To ask the CUDA runtime for devices there would break them.
        os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["dfmsd.study.warm"])
        log_file(run).parent.mkdir(parents=True, exist_ok=True)
        self.run = run
        self.task = TaskID(0)
        self._answer, answer = context.Pipe(duplex=False)
        self.process = context.Process(target=_work, args=(run, threads, str(log_file(run)), dict(os.environ), answer))
        self.process.start()
        answer.close()

    def message(self) -> str | None:
        """Why a process that has ended did not succeed; None if it did."""
        with contextlib.suppress(EOFError):
            answer: str | None = self._answer.recv()
            return answer
        code = self.process.exitcode or 0
        how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
        return f"its process {how}; called again, it goes on from its last checkpoint"


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _work(run: RunSpec, threads: int, log: str, environment: dict[str, str], answer: Connection) -> None:
    """A run in its own process: prints go to its log, its parent's end is its end."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    os.environ.clear()
    os.environ.update(environment)
    message: str | None = None
    try:
        with records.full_disk_in_plain_words(), open(log, "a", buffering=1) as stream:
            os.dup2(stream.fileno(), 1)
            os.dup2(stream.fileno(), 2)
        import torch

        from dfmsd.study import run as train

        torch.set_num_threads(threads)
        # mmengine collects garbage for each data set it opens: what was imported is none.
        gc.freeze()
        train.run(run, workers=threads if torch.cuda.is_available() else 0)
    except StudyError as error:
        message = str(error)
        with contextlib.suppress(OSError):
            print(f"error: {message}")
    except BaseException as error:
        with contextlib.suppress(OSError):
            traceback.print_exc()
        message = f"crashed ({type(error).__name__}: {(str(error).splitlines() or [''])[0]})"
    answer.send(message)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    os._exit(0 if message is None else 1)


def frame(page: PageSpec | TuningPage) -> pd.DataFrame:
    """The results of a page, tidy: a line for each row, seed and metric.

    Columns: ``row`` (place in the table), ``student``, ``teachers``, ``recipe``, ``name``, ``seed``, ``metric``, ``value`` in
    percent, ``key``, ``stale`` (the code behind it has changed since).
    """
    lines = []
    for entry in page.entries():
        run, row = entry.runs[-1], entry.row
        record = records.find(run.key)
        if record is None or not record.is_result:
            continue
        stale = records.is_stale(record, run)
        common = {"row": entry.place, "student": row.student, "teachers": row.teachers, "recipe": row.recipe}
        common |= {"name": name_of(row), "seed": entry.seed}
        for metric, value in record.metrics.items():
            lines.append(common | {"metric": metric, "value": value, "key": run.key, "stale": stale})
    columns = ["row", "student", "teachers", "recipe", "name", "seed", "metric", "value", "key", "stale"]
    return pd.DataFrame(lines, columns=columns)


def publish(chains: Iterable[tuple[RunSpec, ...]]) -> list[str]:
    """Copy the records of these runs into the book, as they are; returns the keys that were written there.

    A published record stays, unless it is damaged, or stale while the one from here is not.

    Raises:
        StudyError: if a record from here is damaged; the others are published.
    """
    new, damaged = [], []
    for run in plan.order(chains):
        source, target = paths.runs() / run.key / "record.json", paths.records() / f"{run.key}.json"
        if not source.exists():
            continue
        try:
            record = records.read(source)
        except StudyError as error:
            damaged.append(str(error))
            continue
        if _replaceable(target, run, record):
            with records.full_disk_in_plain_words():
                records.write_atomic(target, records.dump(record))
            new.append(run.key)
    if damaged:
        raise StudyError(f"{len(damaged)} not published: {'; '.join(damaged)}")
    return new


def _replaceable(target: Path, run: RunSpec, record: Record) -> bool:
    if not target.exists():
        return True
    try:
        before = records.read(target)
    except StudyError:
        return True
    return records.is_stale(before, run) and not records.is_stale(record, run)


@dataclass(frozen=True)
class Check:
    """How the published records stand to the pages."""

    stale: list[str]
    """Records whose code has changed since."""
    missing: list[str]
    """Runs of the pages without a record."""
    unused: list[str]
    """Records that no page uses."""
    damaged: list[str]
    """Messages about records that cannot be read."""


def check(chains: Iterable[tuple[RunSpec, ...]], *, others: Iterable[tuple[RunSpec, ...]] = ()) -> Check:
    """Compare the published records with what pages want.

    Whether a page uses the records of a COCO that is not here cannot be told: they do not count as unused.

    Args:
        chains: What the pages in question want.
        others: What other pages, or these at other scales, may use.
    """
    runs = {run.key: run for run in plan.order(chains)}
    used = runs.keys() | {run.key for run in plan.order(others)}
    found, damaged = {}, {}
    for file in sorted(paths.records().glob("*.json")):
        try:
            found[file.stem] = records.read(file)
        except StudyError as error:
            damaged[file.stem] = str(error)
    return Check(
        stale=[key for key, record in found.items() if key in runs and records.is_stale(record, runs[key])],
        missing=[key for key in runs if key not in found and key not in damaged],
        unused=[key for key, record in found.items() if key not in used and not _of_absent_coco(record)],
        damaged=list(damaged.values()),
    )


def _of_absent_coco(record: Record) -> bool:
    here = scales.get("coco").data
    return record.spec["data"]["source"] == "coco" and isinstance(here, CocoData) and here.digest == ABSENT
