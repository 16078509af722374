"""Make sure that what a page shows is there: train what is missing, and measure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib.util import find_spec
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from dfmsd.errors import StudyError
from dfmsd.study import clean, data, doctor, exports, files, machine, pages, paths, plan, processes, records, scales
from dfmsd.study.pages.base import Page
from dfmsd.study.pages.measured import MeasuredPage
from dfmsd.study.spec import Run, RunSpec

if TYPE_CHECKING:
    import pandas as pd

    Measure = Callable[[Any], tuple[pd.DataFrame, dict[str, Any]]]
    """What measures for a page: a tidy table, and what figures show besides."""

POLL = 0.3
"""Seconds between looks at running processes."""


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
        skipped = [f"{run.key} ({plan.describe(run)}): skipped, since a run that it needs failed" for run in self.skipped]
        return [*(f"{key} {message}" for key, message in self.failed.items()), *skipped]


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
    outcome = Outcome(failed={item.run.key: f"({plan.describe(item.run)}): {item.note}" for item in damaged})
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
        processes.log_file(next(iter(todo.values())).run).parent.mkdir(parents=True, exist_ok=True)
    waiting = dict(todo)  # none before what it needs
    lost = set(outcome.failed)
    running: dict[str, processes.Child] = {}
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
                        running[key] = processes.Child(waiting.pop(key).run, threads, gpu)
                        running[key].task = bar.add_task(plan.describe(item.run), total=item.whole)
                for key, child in list(running.items()):
                    over = child.is_over()
                    share = 1.0 if over else plan.progress(key)
                    bar.update(child.task, completed=share * todo[key].whole, visible=not over)
                    if over:
                        del running[key]
                        if (message := child.message()) is None:
                            outcome.done.append(child.run)
                        else:
                            outcome.failed[key] = (
                                f"({plan.describe(child.run)}): {message}; its log: {processes.log_file(child.run)}"
                            )
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
