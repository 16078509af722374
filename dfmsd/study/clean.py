"""What runs and data leave behind that nobody needs any more: listed, and removed if the user says so."""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dfmsd.errors import StudyError
from dfmsd.study import exports, files, pages, paths, plan, records, scales
from dfmsd.study.spec import Run, ShapesData, digest

HOUR = 3600
"""Seconds after which what a process was writing is taken for left behind."""

STAMP = re.compile(r"\d{8}_\d{6}(\.py)?")
"""How mmengine calls its logs: by the time of a run's start."""

TEMPORARY = re.compile(r"\..+\.[0-9a-z_]{8}")
"""How :func:`dfmsd.study.files.write_atomic` calls a file before it is whole."""


@dataclass(frozen=True)
class Leftover:
    """A file or a folder that nobody needs."""

    place: Path
    why: str
    lock: Path | None = None
    """Of whoever may be working on it: it is removed only while nobody does."""

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(one.lstat().st_size for one in (self.place, *self.place.rglob("*")) if one.is_symlink() or not one.is_dir())


def keep(runs: Iterable[Run], command: str) -> None:
    """Remember that a user asked for runs that may be of no page: they are no leftovers."""
    for run in runs:
        if not (file := _asked(run.key)).exists():
            files.write_atomic(file, f"{command}\n")


def _asked(key: str) -> Path:
    return paths.runs() / "asked" / f"{key}.txt"


def leftovers() -> list[Leftover]:
    """All that :func:`remove` may remove, in the order of its places; nothing that a process is working on.

    A run is left over if no page has it at any scale, no command has asked for it, and its data are generated: whether a page would
    use the records of other data cannot be told when these are not here.
    """
    every = [chain for name in pages.names() for scale in scales.SCALES for chain in pages.get(name, scale=scale).chains()]
    used = {run.key for run in plan.order(every)}
    found = [*_of_runs(used), *_of_data(), *_unfinished_files()]
    return sorted((one for one in found if one.lock is None or not files.is_locked(one.lock)), key=lambda one: one.place)


def _of_runs(used: set[str]) -> Iterator[Leftover]:
    keys = set()
    for place in _inside(paths.runs()):
        key, _, kind = place.name.partition(".")
        if not re.fullmatch("[0-9a-f]{12}", key):
            if place.name.startswith("explore-") and _is_old(place):
                yield Leftover(place, "of a notebook that was killed")
            continue
        keys.add(key)
        lock = paths.runs() / f"{key}.lock"
        if kind == "lock":
            yield Leftover(place, "a lock that nobody holds", lock)
        elif kind == "left" or (kind == "partial" and exports.are_here(key)):
            yield Leftover(place, "of a run that has been made again", lock)
        elif kind in ("", "partial") and key not in used and _is_generated(place) and not _asked(key).exists():
            yield Leftover(place, "a run that no page has", lock)
        elif kind in ("", "partial"):
            yield from (Leftover(one, "mmengine's own log", lock) for one in _inside(place) if STAMP.fullmatch(one.name))
    for log in _inside(paths.runs() / "logs"):
        if exports.are_here(log.stem) or log.stem not in keys:
            yield Leftover(log, "the log of a run that is done or gone", paths.runs() / f"{log.stem}.lock")
    for teacher in _inside(paths.runs() / "teachers"):
        if teacher.name not in used and not _asked(teacher.name).exists() and not (paths.runs() / teacher.name).exists():
            yield Leftover(teacher, "measured of a teacher that is gone")


def _is_generated(folder: Path) -> bool:
    """Whether a run's data are generated; one that has not ended does not tell, and its config does."""
    with contextlib.suppress(StudyError, OSError):
        if (file := folder / "record.json").exists():
            return bool(records.read(file).spec["data"]["source"] == "shapes")
        return "/shapes-" in files.read_text(folder / "config.py")
    return False


def _of_data() -> Iterator[Leftover]:
    wanted = {data for name in scales.SCALES for data in _data_of(scales.get(name))}
    for place in _inside(paths.data()):
        name, _, kind = place.name.partition(".")
        if name.startswith("shapes-"):
            lock = paths.data() / f"{name}.lock"
            if kind == "lock":
                yield Leftover(place, "a lock that nobody holds", lock)
            elif kind == "partial":
                yield Leftover(place, "data whose making was interrupted", lock)
            elif name not in wanted:
                yield Leftover(place, "generated data that no scale has", lock)


def _data_of(scale: scales.Scale) -> Iterator[str]:
    for data in (scale.data, scale.start and scale.start.data):
        if isinstance(data, ShapesData):
            yield f"shapes-{digest(data.model_dump(mode='json'))}"


def _unfinished_files() -> Iterator[Leftover]:
    homes = [paths.runs(), *_inside(paths.runs()), paths.data(), paths.records(), paths.records() / "measured", paths.pages()]
    for home in homes:
        for place in _inside(home):
            if TEMPORARY.fullmatch(place.name) and place.is_file() and _is_old(place):
                yield Leftover(place, "half a file of a process that was killed")


def _inside(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _is_old(place: Path) -> bool:
    return time.time() - place.lstat().st_mtime > HOUR


def remove(found: Iterable[Leftover]) -> None:
    """Remove leftovers; what a process has begun to work on since stays."""
    for one in found:
        with contextlib.suppress(StudyError), files.locked(one.lock, "busy") if one.lock else contextlib.nullcontext():
            if one.place.is_dir() and not one.place.is_symlink():
                shutil.rmtree(one.place)
            else:
                one.place.unlink(missing_ok=True)
