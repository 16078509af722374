"""The weights of runs: where they lie, and those that are published beside their record.

On a processor that rounds otherwise a run would end in other weights, and what begins with others cannot be compared with what
began with these. So nothing whose weights are published is trained again while the code behind it is today's.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from dfmsd.errors import StudyError
from dfmsd.study import files, paths, records
from dfmsd.study.spec import Run


def are_here(key: str) -> bool:
    """Whether a run's weights lie where its training leaves them."""
    folder = paths.runs() / key
    return (folder / "student.pth").is_file() and (folder / "record.json").exists()


def to_be_had(run: Run) -> bool:
    """Whether others can begin with a run, or learn from it, without training it here."""
    return are_here(run.key) or _published(run) is not None


def take(run: Run) -> None:
    """Put a run's published weights where its training would leave them, unless it was trained here.

    Raises:
        StudyError: if they are damaged, or not of their record.
    """
    found = None if are_here(run.key) else _published(run)
    if found is None:
        return
    record, content, folder = records.read(paths.records() / f"{run.key}.json"), found.read_bytes(), paths.runs() / run.key
    if hashlib.sha256(content).hexdigest() != record.weights_sha256:
        raise StudyError(f"{found} is damaged or not of its record: restore it, or delete it to train {run.name} here")
    with files.shared_as(paths.runs()):
        files.write_atomic(folder / "student.pth", content)
        files.write_atomic(folder / "record.json", records.dump(record))


def _published(run: Run) -> Path | None:
    """The file of a run's published weights, if today's code would give the same."""
    record, found = paths.records() / f"{run.key}.json", paths.records() / "weights" / f"{run.key}.pth"
    if not (record.is_file() and found.is_file()) or records.is_stale(records.read(record), run):
        return None
    return found
