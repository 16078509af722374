"""What must be run for a page, what is there already, and how long the rest will take. No torch."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from dfmsd.errors import StudyError
from dfmsd.study import paths, records
from dfmsd.study.spec import Run, StartSpec

State = Literal["done", "partial", "missing", "failed", "damaged"]

COCO_TRAIN = 117_266
"""Images of train2017 that have an object."""

CROPS = 4.85
"""Crops that a start has of an image on average: its objects, and mostly a piece of background."""

ROUGH = {"smoke": 20.0, "mini": 60.0, "gpu": 100.0, "coco": 10.0}
"""Images per second to expect where no record tells: a guess, for a first plan only."""

SMALL = 8
"""As many crops as images are learned from in a second, about."""


@dataclass(frozen=True)
class Planned:
    """A run and how it stands."""

    run: Run
    state: State
    progress: float
    """Share of its iterations done."""
    seconds: float
    """What is left of it, estimated."""
    whole: float
    """All of it, estimated in seconds."""
    note: str = ""


def order(chains: Iterable[tuple[Run, ...]]) -> list[Run]:
    """Every run of the chains and all they need, each once, none before what it needs."""
    ordered: dict[str, Run] = {}

    def visit(run: Run) -> None:
        if run.key not in ordered:
            for needed in run.needs():
                visit(needed)
            ordered[run.key] = run

    for runs in chains:
        for run in runs:
            visit(run)
    return list(ordered.values())


def plan(chains: Iterable[tuple[Run, ...]], *, weights: bool = False) -> list[Planned]:
    """The runs of some chains with their state and an estimate.

    A run that has a published record but no weights here is done, unless one that is not done needs it, or ``weights`` are asked
    for and it is the last of its chain.
    """
    chains, speeds = list(chains), _speeds()
    planned = {run.key: _planned(run, speeds) for run in order(chains)}
    for run in (runs[-1] for runs in chains if weights):
        if planned[run.key].state == "done" and not has_weights(run):
            planned[run.key] = _unrecorded(run, planned[run.key].whole, "recorded, but its weights are wanted")
    for item in reversed(list(planned.values())):
        if planned[item.run.key].state in ("done", "damaged"):
            continue
        for needed in item.run.needs():
            found = planned[needed.key]
            if found.state == "done" and not has_weights(needed):
                planned[needed.key] = _unrecorded(needed, found.whole, "recorded, but others need its weights")
    return list(planned.values())


def has_weights(run: Run) -> bool:
    """Whether a run was trained here, so that others can start from it."""
    folder = paths.runs() / run.key
    return (folder / "student.pth").exists() and (folder / "record.json").exists()


def iterations(run: Run) -> int:
    """Training iterations of a run; of COCO and of a start, about."""
    if isinstance(run, StartSpec):
        return round(run.epochs * CROPS * run.data.train / run.batch)
    if run.schedule.max_iters is not None:
        return run.schedule.max_iters
    return run.schedule.epochs * -(-(run.images or run.data.train or COCO_TRAIN) // run.schedule.batch)


def _planned(run: Run, speeds: Speeds) -> Planned:
    batch = run.batch if isinstance(run, StartSpec) else run.schedule.batch
    whole = iterations(run) * batch / _speed(run, speeds)
    try:
        if records.find(run.key) is not None:
            return Planned(run, "done", 1.0, 0.0, whole)
        if (failed := records.failure(run.key)) is not None:
            return Planned(run, "failed", 0.0, whole, whole, failed.note)
    except StudyError as error:
        return Planned(run, "damaged", 0.0, whole, whole, str(error))
    return _unrecorded(run, whole)


def _unrecorded(run: Run, whole: float, note: str = "") -> Planned:
    done = progress(run.key)
    return Planned(run, "partial" if done else "missing", done, whole * (1 - done), whole, note)


def progress(key: str) -> float:
    """Share of a run's iterations done so far."""
    try:
        state = json.loads((paths.runs() / f"{key}.partial" / "progress.json").read_text())
        return float(state["iteration"]) / float(state["of"])
    except (OSError, ValueError, KeyError, ZeroDivisionError):
        return 0.0


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, whichever is read most easily.

    Example:
        >>> duration(40), duration(240), duration(9000)
        ('40 s', '4 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


Alike = tuple[str, str, bool, bool]
"""What decides a run's speed: scale, network (or backbone), whether it learns from a teacher, and whether from enhanced images."""
Speeds = dict[Alike, list[float]]
"""Images per second of recorded runs."""


def _alike(spec: dict[str, Any]) -> Alike:
    if "backbone" in spec:
        return spec["scale"], json.dumps(spec["backbone"], sort_keys=True), False, False
    stage = spec["stage"] or {}
    return spec["scale"], spec["network"]["name"], bool(stage), bool(stage.get("enhance"))


def _speed(run: Run, speeds: Speeds) -> float:
    """Images per second: the median of the records of alike runs."""
    scale, network, taught, _ = kind = _alike(run.flat())
    found = speeds.get(kind) or speeds.get((scale, network, taught, False))
    return median(found) if found else ROUGH[scale] * (SMALL if isinstance(run, StartSpec) else 1)


def _speeds() -> Speeds:
    found: Speeds = {}
    for file in [*paths.records().glob("*.json"), *paths.runs().glob("*/record.json")]:
        try:
            record = records.read(file)
        except StudyError:
            continue
        if record.provenance.images_per_second > 0:
            found.setdefault(_alike(record.spec), []).append(record.provenance.images_per_second)
    return found
