"""Make sure that what a page shows is there: train what is missing, measure, publish the records, compare them with the pages."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib.util import find_spec
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from dfmsd.errors import StudyError
from dfmsd.study import clean, coco, data, doctor, exports, files, machine, pages, paths, plan, records, scales
from dfmsd.study.pages import MeasuredPage, Page
from dfmsd.study.records import Record
from dfmsd.study.spec import CocoData, Run, RunSpec

if TYPE_CHECKING:
    import pandas as pd

    Measure = Callable[[Any], tuple[pd.DataFrame, dict[str, Any]]]
    """What measures for a page: a tidy table, and what figures show besides."""

POLL = 0.3
"""Seconds between looks at running processes."""

PRELOADED = [
    "dfmsd.study.run",
    "dfmsd.study.preload",
    "torch._dynamo",  # by torch's optimisers
    "torch.utils.cpp_extension",  # by mmengine, to write down its environment,
    "yapf.yapflib.yapf_api",  # and to write down a config, even as it is
    "mmdet.engine",
    "mmdet.visualization",
]
"""What every run's process would import anew, imported once in the server that they are forked from.

It counts at the scale ``smoke``, whose runs are short. Nothing here may ask for a GPU: forked processes could not use it then.
"""


@dataclass
class Outcome:
    """What became of a set of runs."""

    done: list[Run] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    """Message of each run that failed, by key, and where its log lies."""
    skipped: list[Run] = field(default_factory=list)
    """Runs that need one that failed."""

    def complaints(self) -> list[str]:
        """A line for each run that was not trained."""
        skipped = [f"{run.key} ({pages.describe(run)}): skipped, since a run that it needs failed" for run in self.skipped]
        return [*(f"{key} {message}" for key, message in self.failed.items()), *skipped]


def log_file(run: Run) -> Path:
    """Where a run writes what it prints."""
    return paths.runs() / "logs" / f"{run.key}.log"


@files.plain_words()
def ensure(
    chains: Iterable[tuple[Run, ...]], *, jobs: int = 1, quiet: bool = False, weights: bool = False, asked: str = ""
) -> Outcome:
    """Train what is missing, several runs at a time, each in a process of its own.

    A run that fails costs only the runs that need it. An interrupted call goes on where it was when called again. On a machine of
    several GPUs each run has one, that which the fewest others have; on a machine of one they share it.

    Args:
        chains: Chains of runs, see :func:`dfmsd.study.rows.chain`.
        jobs: Processes at a time; each gets its share of the processor's cores, or as many threads as ``OMP_NUM_THREADS`` says.
        quiet: Show no progress bar.
        weights: Train the last run of a chain, too, if it has a record but no weights here.
        asked: The command that asks for runs which may be of no page, so that they are no leftovers.

    Raises:
        StudyError: if ``jobs`` is less than 1, the data cannot be had, or a method would be trained at
            :data:`dfmsd.study.scales.GATED` while runs of the page of gates have no record.
    """
    if jobs < 1:
        raise StudyError(f"jobs = {jobs}: at least 1 run at a time is needed")
    chains = list(chains)
    every = plan.plan(chains, weights=weights)
    planned = [item for item in every if item.state != "done"]
    damaged = [item for item in planned if item.state == "damaged"]
    outcome = Outcome(failed={item.run.key: f"({pages.describe(item.run)}): {item.note}" for item in damaged})
    todo = {item.run.key: item for item in planned if item.state != "damaged"}
    check_gates(item.run for item in todo.values())
    if todo and find_spec("mmdet") is None:
        raise doctor.lacking("training", "mmdet")  # each run's own process would say so, after the data are made
    for spec in {item.run.data for item in todo.values()}:
        data.ensure(spec, progress=not quiet)
    if asked:
        clean.keep((item.run for item in every), asked)
    for runs in chains if weights else ():
        exports.take(runs[-1])
    if not todo:
        return outcome
    threads = machine.threads(jobs)
    gpus = machine.gpus() if jobs > 1 else []
    with files.shared_as(paths.runs()):
        log_file(next(iter(todo.values())).run).parent.mkdir(parents=True, exist_ok=True)
    waiting = dict(todo)  # none before what it needs
    lost = set(outcome.failed)
    running: dict[str, _Child] = {}
    with _progress(quiet) as bar:
        total = bar.add_task(f"{len(todo)} runs", total=sum(item.whole for item in todo.values()))
        try:
            while waiting or running:
                for key, item in list(waiting.items()):
                    needs = {need.key for need in item.run.needs()}
                    if needs & lost:
                        outcome.skipped.append(waiting.pop(key).run)
                        lost.add(key)
                    elif len(running) < jobs and not needs & (waiting.keys() | running.keys()):
                        taken = [child.gpu for child in running.values()]
                        gpu = min(gpus, key=taken.count) if len(gpus) > 1 else None
                        running[key] = _Child(waiting.pop(key).run, threads, gpu)
                        running[key].task = bar.add_task(pages.describe(item.run), total=item.whole)
                for key, child in list(running.items()):
                    over = child.is_over()
                    share = 1.0 if over else plan.progress(key)
                    bar.update(child.task, completed=share * todo[key].whole, visible=not over)
                    if over:
                        del running[key]
                        if (message := child.message()) is None:
                            outcome.done.append(child.run)
                        else:
                            outcome.failed[key] = f"({pages.describe(child.run)}): {message}; its log: {log_file(child.run)}"
                            lost.add(key)
                bar.update(total, completed=sum(task.completed for task in bar.tasks if task.id != total))
                if running:  # for an answer, as is_over is: of a process whose server is dead its sentinel is always ready
                    wait([child.answer for child in running.values()], timeout=POLL)
        finally:
            for child in running.values():
                child.process.kill()
                child.process.join()
    return outcome


def check_gates(todo: Iterable[Run]) -> None:
    """Refuse to train methods while the gates of their scale are not measured; trials, rehearsals and own data have none."""
    methods = [
        run
        for run in todo
        if isinstance(run, RunSpec) and run.scale == scales.GATED and run.stage and run.eval_split == "val"
        if not run.schedule.max_iters and run.data.source != "own"
    ]
    if not methods:
        return
    page = pages.get("gates", scale=scales.GATED)
    gates = {runs[-1].key for runs in page.chains()}
    waiting = sum(run.key not in gates for run in methods)
    unmeasured = sum(records.find(key) is None and records.failure(key) is None for key in gates)
    if waiting and unmeasured:
        raise StudyError(
            f"{waiting} run{'s' * (waiting != 1)} of methods at {scales.GATED} must wait: {unmeasured} of the {len(gates)} runs "
            f"that measure its gates have no record; make them by `{page.command()}`"
        )


@files.plain_words()
def make(page: Page, *, jobs: int, measure: Measure | None = None, quiet: bool = False) -> Outcome:
    """Make what a page shows, as far as it is missing: train its runs that may be trained, then measure if that is its kind.

    Args:
        page: The page.
        jobs: Runs at a time; 0 makes nothing.
        measure: Of a page that is measured: what gives its table and pictures. It is called if there is no record of today's code,
            networks and page, once the weights of all its networks are here.
        quiet: Show no progress bar.

    Raises:
        StudyError: if ``jobs`` is negative, or with the messages of the runs that failed and of those that must wait.
    """
    if jobs < 0:
        raise StudyError(f"jobs = {jobs}: 0 reads what is there, a whole number above trains so many runs at a time")
    if jobs == 0:
        return Outcome()
    if isinstance(page, MeasuredPage):
        found = records.measured(page)
        if found is not None and not records.stale_reasons(found, page):
            return Outcome()
    from dfmsd.study import campaign  # not above: runs' processes do without its pandas

    ready = campaign.ready([page])
    outcome = ensure(ready.chains, jobs=jobs, quiet=quiet, weights=isinstance(page, MeasuredPage))
    if complaints := [*outcome.complaints(), *ready.waiting]:
        raise StudyError("; ".join(complaints))
    if isinstance(page, MeasuredPage) and measure is not None:
        root = data.ensure(scales.get(page.scale).data, progress=not quiet) if page.looks_at_images else None
        frame, pictures = measure(page)
        records.keep(frame, pictures, page, data_fingerprint=root.fingerprint if root else "")
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
    console = Console(stderr=True)
    if console.is_jupyter and not machine.is_live():  # a notebook that is read later keeps no widget, but a line at the end
        console = Console(stderr=True, force_jupyter=False, force_terminal=False)
    return Progress(*columns, console=console, disable=quiet, refresh_per_second=2)


def server() -> ForkServerContext:
    """What forks processes from a server that has imported torch."""
    # To ask the CUDA runtime for devices in the server would break the processes.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def enter(environment: dict[str, str], threads: int) -> None:
    """Begin a process of the server's: with this environment and so many threads; its parent's end is its end."""
    import torch

    files.end_with_parent()
    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(threads)


class _Child:
    """A run, whose needs have been trained, in a process of its own with some threads and, out of several GPUs, one."""

    def __init__(self, run: Run, threads: int, gpu: str | None = None) -> None:
        context = server()
        self.run = run
        self.gpu = gpu
        self.task = TaskID(0)
        # Which GPUs there are, torch asks when it first needs one: not in the server.
        environment = dict(os.environ) | ({} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu})
        self.answer, answer = context.Pipe(duplex=False)
        self.process = context.Process(target=_work, args=(run, threads, log_file(run), environment, answer))
        try:
            self.process.start()
        except (EOFError, ConnectionError):
            raise StudyError("the server that processes are forked from was killed: call again; runs go on from here") from None
        answer.close()

    def is_over(self) -> bool:
        """Whether it has answered, or ended without an answer: how, the server that it was forked from knows if it lives."""
        return self.answer.poll()

    def message(self) -> str | None:
        """Why a process that has ended did not succeed; None if it did."""
        with contextlib.suppress(EOFError):
            answer: str | None = self.answer.recv()
            return answer
        self.process.join()
        code = self.process.exitcode or 0
        how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
        return f"its process {how}; called again, it goes on from its last checkpoint"


def _work(run: Run, threads: int, log: Path, environment: dict[str, str], answer: Connection) -> None:
    """A run in its own process: prints go to its log."""
    enter(environment, threads)
    message: str | None = None
    partial = paths.runs() / f"{run.key}.partial"
    again = f"; if it does so again, delete {partial}, and it starts afresh" if partial.exists() else ""
    try:
        with files.shared_as(paths.runs()), files.plain_words(log):
            files.check(log)
            with log.open("a", buffering=1) as stream:
                os.dup2(stream.fileno(), 1)
                os.dup2(stream.fileno(), 2)
        train(run, threads)
    except StudyError as error:
        message = str(error)
        with contextlib.suppress(OSError):
            print(f"error: {message}")
    except BaseException as error:
        with contextlib.suppress(OSError):
            traceback.print_exc()
        message = f"crashed ({type(error).__name__}: {(str(error).splitlines() or [''])[0]}){again}"
    answer.send(message)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    os._exit(0 if message is None else 1)


def train(run: Run, threads: int) -> Record:
    """Train one run in this process, with some threads; on a GPU as many processes load its images. What is published is taken."""
    import torch

    from dfmsd.study import run as training

    torch.set_num_threads(threads)
    with files.shared_as(paths.runs()):
        for one in (*run.needs(), run):
            exports.take(one)
        return training.run(run, workers=threads if torch.cuda.is_available() else 0)


def publish(chains: Iterable[tuple[Run, ...]]) -> list[str]:
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
        before = None
        with contextlib.suppress(StudyError):
            before = records.read(target) if target.exists() else None
        if before is None or (records.is_stale(before, run) and not records.is_stale(record, run)):
            with files.plain_words(target):
                files.write_atomic(target, records.dump(record))
            new.append(run.key)
    if damaged:
        raise StudyError(f"{len(damaged)} not published: {'; '.join(damaged)}")
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


def check(selected: Iterable[Page], *, others: Iterable[tuple[Run, ...]] = ()) -> Check:
    """Compare the published records with what pages want.

    Whether a page uses the records of a COCO that is not here cannot be told: they do not count as unused.

    Args:
        selected: The pages in question.
        others: What other pages, or these at other scales, may use.
    """
    selected = list(selected)
    runs = {run.key: run for run in plan.order(chain for page in selected for chain in page.chains())}
    used = runs.keys() | {run.key for run in plan.order(others)}
    result = Check([], [], [], [])
    for file in sorted(paths.records().glob("*.json")):
        try:
            record = records.read(file)
        except StudyError as error:
            result.damaged.append(str(error))
            continue
        if file.stem in runs and records.is_stale(record, runs[file.stem]):
            result.stale.append(file.stem)
        if file.stem not in used and not _of_absent_coco(record):
            result.unused.append(file.stem)
    result.missing.extend(key for key in runs if not (paths.records() / f"{key}.json").exists())
    for page in selected:
        if not isinstance(page, MeasuredPage):
            continue
        if not page.measured_file().exists():
            result.missing.append(page.measured_file().stem)
        for file in page.measured_files():
            try:
                measured = records.measured(page, file)
            except StudyError as error:
                result.damaged.append(str(error))
                continue
            if measured is not None and (reasons := records.stale_reasons(measured, page)):
                result.stale.append(f"{file.stem} ({'; '.join(reasons)})")
    return result


def _of_absent_coco(record: Record) -> bool:
    here = scales.get("coco").data
    return record.spec["data"]["source"] == "coco" and isinstance(here, CocoData) and here.digest == coco.ABSENT
