"""What must be run for a page, what is there already, how long the rest will take, and a run in words. No torch."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Literal

from pydantic import Field

from dfmsd.errors import StudyError
from dfmsd.hyper import MethodSpec, for_pair
from dfmsd.study import exports, files, paths, records, scales, zoo
from dfmsd.study.records import Provenance
from dfmsd.study.rows import JOIN, in_words
from dfmsd.study.spec import Frozen, Run, RunSpec, StartSpec

State = Literal["done", "partial", "missing", "failed", "damaged"]

COCO_TRAIN = 117_266
"""Images of train2017 that have an object."""

CROPS = 4.85
"""Crops that a start has of an image on average: its objects, and mostly a piece of background."""

ROUGH = {"smoke": 20.0, "mini": 60.0, "gpu": 100.0, "coco": 10.0}
"""Images per second to expect where no record tells: a guess, for a first plan only."""

MEMORY = {"smoke": 1500.0, "mini": 2000.0, "gpu": 8000.0, "coco": 24000.0}
"""MB to expect where no record tells."""

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
    memory: float
    """The most that it takes, estimated in MB."""
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
    chains, known = list(chains), _known()
    planned = {run.key: _planned(run, known) for run in order(chains)}
    for run in (runs[-1] for runs in chains if weights):
        if planned[run.key].state == "done" and not exports.to_be_had(run):
            planned[run.key] = _unrecorded(planned[run.key], "it has a record, but its weights are wanted")
    for item in reversed(list(planned.values())):
        if planned[item.run.key].state in ("done", "damaged"):
            continue
        for needed in item.run.needs():
            found = planned[needed.key]
            if found.state == "done" and not exports.to_be_had(needed):
                planned[needed.key] = _unrecorded(found, "it has a record, but others need its weights")
    return list(planned.values())


def iterations(run: Run) -> int:
    """Training iterations of a run; of COCO and of a start, about."""
    if isinstance(run, StartSpec):
        return round(run.epochs * CROPS * run.data.train / run.batch)
    if run.schedule.max_iters is not None:
        return run.schedule.max_iters
    return run.schedule.epochs * -(-(run.images or run.data.train or COCO_TRAIN) // run.schedule.batch)


def _planned(run: Run, known: Known) -> Planned:
    batch, alike = run.batch if isinstance(run, StartSpec) else run.schedule.batch, _known_of(run, known)
    whole = iterations(run) * batch / _speed(run, alike)
    memory = max((one.peak_memory_mb for one in alike), default=MEMORY[run.scale])
    item = Planned(run, "missing", 0.0, whole, whole, memory)
    try:
        if records.find(run.key) is not None:
            return replace(item, state="done", progress=1.0, seconds=0.0)
        if (failed := records.failure(run.key)) is not None:
            return replace(item, state="failed", note=failed.note)
    except StudyError as error:
        return replace(item, state="damaged", note=str(error))
    return _unrecorded(item)


def _unrecorded(item: Planned, note: str = "") -> Planned:
    done = progress(item.run.key)
    return replace(item, state="partial" if done else "missing", progress=done, seconds=item.whole * (1 - done), note=note)


class Progress(Frozen):
    """What a run writes of its progress: it is shown, and decides nothing."""

    iteration: int = Field(ge=0)
    of: int = Field(gt=0)
    seconds: float = Field(default=0.0, ge=0)
    """That the run has taken, before interruptions too."""


def read_progress(file: Path) -> Progress | None:
    """A run's progress; None if it has not begun, or its file is damaged."""
    try:
        return Progress.model_validate_json(files.read_text(file))
    except (OSError, ValueError, StudyError):
        return None


def progress(key: str) -> float:
    """Share of a run's iterations done so far."""
    found = read_progress(paths.runs() / f"{key}.partial" / "progress.json")
    return 0.0 if found is None else min(1.0, found.iteration / found.of)


def seconds_so_far(folder: Path) -> float:
    """What a run that was interrupted had taken when it last wrote its progress; 0 if nothing tells."""
    found = read_progress(folder / "progress.json")
    return 0.0 if found is None else found.seconds


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
Known = dict[Alike, list[Provenance]]
"""Of recorded runs."""


def _alike(spec: dict[str, Any]) -> Alike:
    if "backbone" in spec:
        return spec["scale"], json.dumps(spec["backbone"], sort_keys=True), False, False
    stage = spec["stage"] or {}
    return spec["scale"], spec["network"]["name"], bool(stage), bool(stage.get("enhance"))


def _known_of(run: Run, known: Known) -> list[Provenance]:
    """Of alike runs, or at least of the same network."""
    scale, network, taught, _ = kind = _alike(run.flat())
    return known.get(kind) or known.get((scale, network, taught, False)) or []


def _speed(run: Run, alike: Iterable[Provenance]) -> float:
    """Images per second by one process: the median of alike runs."""
    found = [one.images_per_second / one.gpus for one in alike if one.images_per_second > 0]
    return median(found) if found else ROUGH[run.scale] * (SMALL if isinstance(run, StartSpec) else 1)


def _known() -> Known:
    found: Known = {}
    for file in [*paths.records().glob("*.json"), *paths.runs().glob("*/record.json")]:
        try:
            record = records.read(file)
        except StudyError:
            continue
        found.setdefault(_alike(record.spec), []).append(record.provenance)
    return found


def describe(run: Run) -> str:
    """A run in words, with its student's teachers so far, for plans and logs."""
    if isinstance(run, StartSpec):
        return f"{run.name}, {run.epochs} epoch{'s' * (run.epochs != 1)}, seed {run.seed}"
    runs = [run]
    while runs[0].parent is not None:
        runs.insert(0, runs[0].parent)
    stages = [one.stage.teachers for one in runs if one.stage is not None]
    text = in_words(run.name, [JOIN.join(teacher.name for teacher in teachers) for teachers in stages])
    if run.stage is not None:
        methods = " + ".join(method.type + _changes(run, method) for method in run.stage.methods)
        stage = f", stage {run.stage.index}" if run.parent or run.stage.enhance or methods.startswith("DFMSD") else ""
        enhanced = " with ME" if run.stage.enhance else ""
        text += f": {methods}{stage}{enhanced}"
    unit, length = ("iteration", run.schedule.max_iters) if run.schedule.max_iters else ("epoch", run.schedule.epochs)
    return f"{text}, {length} {unit}{'s' * (length != 1)}, seed {run.seed}"


def _changes(run: RunSpec, method: MethodSpec) -> str:
    """Where a method departs from what its scale gives it, so that the runs of an ablation have different names."""
    assert run.stage is not None
    name, kinds = method.type.lower(), (run.network.kind, run.stage.teacher.network.kind)
    usual = for_pair(name, *kinds, zoo.family(run.network.name), **scales.get(run.scale).methods.get(name, {}))
    changed = [f"{field} {value}" for field, value in method if value != getattr(usual, field)]
    return f" ({', '.join(changed)})" if changed else ""
