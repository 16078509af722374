"""A detector on the reader's own data: its teachers, the student alone and by each method, and how their APs compare.

The runs are those of ``python -m dfmsd run --data``, only shorter (:func:`planned`), so that all of them take minutes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

import dfmsd.distiller  # noqa: F401  (in silence: what mmdet prints when it is imported names folders)
from dfmsd.errors import StudyError
from dfmsd.hyper import weights
from dfmsd.study import data, ensure, exports, frames, paths, records, scales
from dfmsd.study.divergence import diverged
from dfmsd.study.evaluate import basic
from dfmsd.study.machine import is_live
from dfmsd.study.pages.short import OwnPage
from dfmsd.study.rows import chain, name_of
from dfmsd.study.scales import Scale
from dfmsd.study.spec import RunSpec

STARTS = 500
"""Images whose crops a backbone's start learns from that is pretrained here."""

MILD = 0.5
"""Of the scale's weights, for every method: beside teachers trained for so short a time DFMSD diverges with the whole ones."""

Chains = Mapping[str, tuple[RunSpec, ...]]
"""The runs of each row, by the row's name; the last one's student is the row's."""


def folder(page: OwnPage) -> Path:
    """Where the data lie, with ``own.yaml``, which names them.

    Raises:
        StudyError: if the scale is too large for a notebook, or there is a file where the folder should be.
    """
    if page.scale not in ("smoke", "mini"):
        raise StudyError(f"scale = {page.scale!r}: a training in a notebook takes mini or smoke")
    parts = paths.data() / f"parts-{counts(page)['train']}"
    found = parts if page.folder is None else Path(page.folder).expanduser().absolute()
    if found.exists() and not found.is_dir():
        raise StudyError(f"folder = {page.folder!r}: that is a file; name a folder, which need not exist")
    return found


def counts(page: OwnPage) -> dict[str, int]:
    """The number of images of each split that are to be made."""
    train = 16 if page.scale == "smoke" else page.images
    return {"train": train, "val": train // 4}


def planned(page: OwnPage) -> dict[str, tuple[RunSpec, ...]]:
    """The runs of each row on the page's data.

    At the scale ``mini`` they have the page's epochs and half of the scale's weights, and backbones that the study has not
    pretrained here learn from fewer crops.

    Raises:
        StudyError: if the data are not there, or something is wrong with them (:func:`dfmsd.study.coco.own`).
    """
    scale = scales.get(page.scale, data=folder(page) / "own.yaml")
    if page.scale != "smoke":
        labelled = round(page.labelled * (scale.data.train or 1))
        steps = page.epochs * max(1, labelled // scale.schedule.batch)
        schedule = scale.schedule.model_copy(update={"epochs": page.epochs, "warmup": min(scale.schedule.warmup, steps // 10)})
        longer = dict.fromkeys(page.teachers, scales.Own(epochs=page.teacher_epochs))
        mild = {
            name: {field: MILD * value if field in weights(name) else value for field, value in scale.methods[name].items()}
            for name in page.methods
        }
        scale = _young(page, scale.model_copy(update={"schedule": schedule, "teachers": longer, "methods": scale.methods | mild}))
    return {name_of(row): chain(row, scale, page.seed) for row in page.rows()}


def _young(page: OwnPage, scale: Scale) -> Scale:
    starts = [scale.start_of(name) for name in (page.student, *page.teachers)]
    if scale.start is None or all(start is None or exports.to_be_had(start) for start in starts):
        return scale
    few = scale.start.data.model_copy(
        update={"train": min(STARTS, scale.start.data.train), "val": min(STARTS, scale.start.data.val)}
    )
    return scale.model_copy(update={"start": scale.start.model_copy(update={"data": few})})


def trained(chains: Chains, *, jobs: int) -> pd.DataFrame:
    """Train what is missing; AP of each row in percent, and its difference to the first row's.

    Args:
        chains: Of :func:`planned`.
        jobs: Runs at a time; 0 reads what is there.

    Returns:
        By the row's name ``AP``, ``Δ`` and their 95 % intervals over the evaluated images. These are the same for all rows, so the
        interval of a difference is that of a paired bootstrap; it tells nothing of other seeds. ``minutes`` are those of the row's
        own runs, and ``key`` is its last one's. A row that is not run has none of these.

    Raises:
        StudyError: with the messages of the runs that failed.
    """
    if jobs:
        outcome = ensure.ensure(chains.values(), jobs=jobs, quiet=not is_live(), asked="notebooks/own.ipynb")
        if complaints := outcome.complaints():
            raise StudyError("; ".join(complaints))
    lines: dict[str, dict[str, Any]] = {}
    first = records.result(next(iter(chains.values()))[-1].key)
    for name, runs in chains.items():
        lines[name] = dict.fromkeys(("AP", "95 %", "Δ", "Δ, 95 %", "minutes", "key"))
        if (record := records.result(runs[-1].key)) is None:
            continue
        made = [found for run in runs if (found := records.result(run.key)) is not None]
        seconds = sum(found.provenance.seconds for found in made)
        if amiss := "; ".join(filter(None, map(diverged, made))):
            lines[name]["diverged"] = amiss
        lines[name] |= {"AP": record.metrics["AP"], "95 %": record.ap_interval, "minutes": seconds / 60, "key": record.key}
        if first is not None and first.key != record.key:
            gain = record.metrics["AP"] - first.metrics["AP"]
            lines[name] |= {"Δ": gain, "Δ, 95 %": basic(gain, frames.resampled(record.key, first.key))}
    return pd.DataFrame.from_dict(lines, orient="index")


def evaluated(chains: Chains) -> int:
    """How many images the students of :func:`planned` are evaluated on."""
    split = data.ensure(next(iter(chains.values()))[-1].data).val
    return len(json.loads(split.annotations.read_text())["images"])


def export(chains: Chains, name: str) -> tuple[Path, Path]:
    """The config and the weights of a row's student, for mmdet's ``init_detector``.

    Raises:
        StudyError: if the row has not been trained here.
    """
    place = paths.runs() / chains[name][-1].key
    if not exports.are_here(chains[name][-1].key):
        raise StudyError(f"{name} has not been trained here: set jobs = 2, and run all cells")
    return place / "student.py", place / "student.pth"
