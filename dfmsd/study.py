"""Make sure that what a page needs has been run, and gather its results."""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from dfmsd import pages, paths, plan, records
from dfmsd.errors import StudyError
from dfmsd.pages import LABELS, PageSpec
from dfmsd.spec import RunSpec
from dfmsd.stages import Row

POLL = 0.3
"""Seconds between looks at running processes."""


@dataclass
class Outcome:
    """What became of a set of runs."""

    done: list[RunSpec] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    """Message of each run that failed, by key."""
    skipped: list[RunSpec] = field(default_factory=list)
    """Runs that need one that failed."""


def log_file(run: RunSpec) -> Path:
    """Where a run writes what it prints."""
    return paths.runs() / "logs" / f"{run.key}.log"


def folder(run: RunSpec) -> Path:
    """Where a finished run lies."""
    return paths.runs() / run.key


def ensure(chains: Iterable[tuple[RunSpec, ...]], *, jobs: int = 1, quiet: bool = False) -> Outcome:
    """Train what is missing, several runs at a time, each in a process of its own.

    A run that fails costs only the runs that need it. An interrupted call goes on where it was when called again.

    Args:
        chains: Chains of runs, see :func:`dfmsd.stages.chain`.
        jobs: Processes at a time; each gets its share of the processor's cores.
        quiet: Show no progress bar.

    Returns:
        What was done, what failed and why, and what was skipped for it.
    """
    todo = {run.key: run for run in plan.missing(chains)}
    outcome = Outcome()
    if not todo:
        return outcome
    from dfmsd import data

    for spec in {run.data for run in todo.values()}:
        data.ensure(spec, progress=not quiet)
    seconds = {run.key: planned.seconds for run in todo.values() for planned in plan.plan([(run,)]) if planned.run == run}
    sorter = TopologicalSorter({key: [need.key for need in run.needs() if need.key in todo] for key, run in todo.items()})
    sorter.prepare()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["dfmsd.train"])
    threads = max(1, (os.cpu_count() or 1) // jobs)
    ready: list[str] = []
    running: dict[str, tuple[BaseProcess, TaskID]] = {}
    with _progress(quiet) as bar:
        total = bar.add_task(f"{len(todo)} runs", total=sum(seconds.values()))
        rank = {key: place for place, key in enumerate(todo)}
        while sorter.is_active() or running:
            ready = sorted([*ready, *sorter.get_ready()], key=rank.__getitem__)
            while ready and len(running) < jobs:
                run = todo[key := ready.pop(0)]
                if any(need.key in outcome.failed or need in outcome.skipped for need in run.needs()):
                    outcome.skipped.append(run)
                    sorter.done(key)
                    ready = sorted([*ready, *sorter.get_ready()], key=rank.__getitem__)
                    continue
                running[key] = _start(context, run, threads), bar.add_task(pages.describe(run), total=seconds[key])
            for key, (process, task) in list(running.items()):
                bar.update(task, completed=plan.progress(key) * seconds[key])
                if process.exitcode is not None:
                    bar.update(task, visible=False, completed=seconds[key])
                    del running[key]
                    _settle(todo[key], process.exitcode, outcome)
                    sorter.done(key)
            bar.update(total, completed=sum(task.completed for task in bar.tasks if task.id != total))
            time.sleep(POLL)
    return outcome


def _progress(quiet: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), disable=quiet, refresh_per_second=2)


def _start(context: Any, run: RunSpec, threads: int) -> BaseProcess:
    log = log_file(run)
    log.parent.mkdir(parents=True, exist_ok=True)
    process: BaseProcess = context.Process(target=_work, args=(run, threads, str(log), dict(os.environ)))
    process.start()
    return process


def _settle(run: RunSpec, exitcode: int, outcome: Outcome) -> None:
    if exitcode == 0:
        outcome.done.append(run)
        return
    error = paths.runs() / "logs" / f"{run.key}.error"
    if exitcode == 2 and error.exists():
        outcome.failed[run.key] = error.read_text()
    elif exitcode < 0:
        outcome.failed[run.key] = f"killed by signal {-exitcode}; called again, it goes on from its last checkpoint"
    else:
        outcome.failed[run.key] = f"crashed; see {log_file(run)}"


def _work(run: RunSpec, threads: int, log: str, environment: dict[str, str]) -> None:
    """A run in its own process: prints go to its log, its parent's end is its end."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
    with open(log, "a", buffering=1) as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
        os.environ.update(environment)
        error = Path(log).with_suffix(".error")
        error.unlink(missing_ok=True)
        import torch

        from dfmsd import train

        torch.set_num_threads(threads)
        code = 0
        try:
            train.run(run, workers=threads if torch.cuda.is_available() else 0)
        except StudyError as known:
            error.write_text(str(known))
            code = 2
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        logging.shutdown()
        os._exit(code)


def frame(page: PageSpec) -> pd.DataFrame:
    """The results of a page, tidy: a line for each row, seed and metric.

    Columns: ``row`` (place in the table), ``student``, ``teachers``, ``recipe``, ``seed``, ``metric``, ``value`` in percent,
    ``key``, ``stale`` (the code behind it has changed since).
    """
    lines = []
    for entry in page.entries():
        run, row = entry.runs[-1], entry.row
        record = records.find(run.key)
        if record is None or not record.is_result:
            continue
        stale = record.provenance.code_digest != records.code_digest(run)
        common = {"row": entry.place, "student": row.student, "teachers": row.teachers, "recipe": row.recipe, "seed": entry.seed}
        for metric, value in record.metrics.items():
            lines.append(common | {"metric": metric, "value": value, "key": run.key, "stale": stale})
    columns = ["row", "student", "teachers", "recipe", "seed", "metric", "value", "key", "stale"]
    return pd.DataFrame(lines, columns=columns)


def label(row: Row) -> str:
    """A row's name in a table."""
    return LABELS[row.recipe]


def publish(chains: Iterable[tuple[RunSpec, ...]]) -> list[str]:
    """Copy the records of these runs into the book, as they are; returns the keys that are new there."""
    new = []
    for run in plan.order(chains):
        source, target = paths.runs() / run.key / "record.json", paths.records() / f"{run.key}.json"
        if not source.exists():
            continue
        text = records.dump(records.read(source))
        if not target.exists():
            records.write_atomic(target, text)
            new.append(run.key)
    return new


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


def check(chains: Iterable[tuple[RunSpec, ...]]) -> Check:
    """Compare the published records with what the pages want."""
    runs = {run.key: run for run in plan.order(chains)}
    found, damaged = {}, []
    for file in sorted(paths.records().glob("*.json")):
        try:
            found[file.stem] = records.read(file)
        except StudyError as error:
            damaged.append(str(error))
    stale = [key for key, record in found.items() if key in runs and record.provenance.code_digest != records.code_digest(runs[key])]
    return Check(
        stale=stale,
        missing=[key for key in runs if key not in found],
        unused=[key for key in found if key not in runs],
        damaged=damaged,
    )
