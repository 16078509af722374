"""What every record of a look says of itself: which networks, which images, which code."""

from __future__ import annotations

import json
import platform
from datetime import UTC, datetime
from importlib.metadata import version

from dfmsd.errors import StudyError
from dfmsd.study import measured as observation
from dfmsd.study import pages, plan, records
from dfmsd.study import run as train
from dfmsd.study.data import DataRoot, Split
from dfmsd.study.measured import Looked, Origin
from dfmsd.study.pages import ObservedPage
from dfmsd.study.spec import RunSpec, TeacherSpec


def check_weights(page: ObservedPage) -> None:
    """Say which of a page's runs has no weights here.

    Raises:
        StudyError: if there is one; the command that trains it is given.
    """
    lacking = [run for run in page.runs().values() if isinstance(run, RunSpec) and not plan.has_weights(run)]
    if lacking:
        names = "; ".join(f"{pages.describe(run)} ({run.key})" for run in lacking)
        raise StudyError(f"page {page.page}: no weights here of {names}: `{page.command()} --train` trains what is missing")


def image_ids(split: Split) -> list[int]:
    """The images of a split by their id, in its order."""
    return [image["id"] for image in json.loads(split.annotations.read_text())["images"]]


def looked(page: ObservedPage) -> dict[str, Looked]:
    """A page's networks with their weights' hashes."""
    return {name: Looked(key=run.key, weights=_identity(run)) for name, run in page.runs().items()}


def _identity(run: RunSpec | TeacherSpec) -> str:
    if isinstance(run, TeacherSpec):
        return run.weights.sha256_prefix
    # train.weights has compared the file with its record.
    record = records.result(run.key)
    assert record is not None
    return record.weights_sha256


def origin(page: ObservedPage, root: DataRoot) -> Origin:
    """Where a page's record comes from, made now."""
    return Origin(
        commit=train.commit(),
        versions={name: version(name) for name in train.LIBRARIES} | {"python": platform.python_version()},
        hardware=train.hardware(),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        data_fingerprint=root.fingerprint,
        code_digest=observation.code_digest(type(page)),
    )
