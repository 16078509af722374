"""The records that are committed with the book: put there, and compared with what pages want."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass

from dfmsd.errors import StudyError
from dfmsd.study import coco, files, paths, plan, records, scales
from dfmsd.study.pages.base import Page
from dfmsd.study.pages.measured import MeasuredPage
from dfmsd.study.records import Record
from dfmsd.study.spec import CocoData, Run


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
