"""What a run or a measurement leaves behind: a small JSON record, written once, checked when read."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, PrivateAttr, ValidationError, model_validator

from dfmsd.errors import StudyError, explained
from dfmsd.study import code, files, machine, pages, paths
from dfmsd.study.spec import Frozen, Run, RunSpec, TeacherSpec, canonical, digest

if TYPE_CHECKING:
    import pandas as pd

    from dfmsd.study.pages.measured import MeasuredPage

LIBRARIES = ("torch", "onedl-mmdetection", "onedl-mmcv", "onedl-mmengine", "numpy", "pycocotools")

Content = TypeVar("Content", bound="_Kept")

DIGITS = 4
"""Significant digits that a measurement keeps."""


Text = Annotated[str, Field(max_length=10_000, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""A line without control characters."""

Key = Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
Sha256 = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]
Percent = Annotated[float, Field(ge=0, le=100)]
Amount = Annotated[float, Field(ge=0)]


def _is_time(text: str) -> str:
    datetime.fromisoformat(text)
    return text


class Origin(Frozen):
    """Where numbers come from: recorded, not part of their identity."""

    commit: Text
    versions: dict[Text, Text]
    hardware: Text
    threads: int = Field(ge=1)
    finished: Annotated[Text, AfterValidator(_is_time)]
    data_fingerprint: Text
    code_digest: Text


class Provenance(Origin):
    """Where a run comes from, and what it took."""

    seconds: Amount
    images_per_second: Amount
    peak_memory_mb: Amount
    """Of one process."""
    gpus: int = Field(default=1, ge=1, exclude_if=lambda value: value == 1)
    """Processes that trained it together, on a GPU each if there were any."""


class _Kept(Frozen):
    """What a file holds beside the digest of all of it."""

    _has_digest: bool = PrivateAttr(default=True)


class Record(_Kept):
    """The result of a run."""

    key: Key
    state: Literal["ok", "no detections", "nan"]
    spec: dict[str, Any]
    """The specification, runs that it contains replaced by their keys (:meth:`dfmsd.study.spec.RunSpec.flat`)."""
    metrics: dict[Text, Percent] = Field(default_factory=dict)
    """COCO's metrics in percent."""
    ap_interval: tuple[Annotated[float, Field(ge=-100, le=200)], Annotated[float, Field(ge=-100, le=200)]] | None = None
    """95 % basic bootstrap interval of AP over the images of the evaluated split."""
    ap_resamples: tuple[Percent, ...] = ()
    """AP on resamples of these images, the same for all runs (:func:`dfmsd.study.evaluate.evaluate`), which pair two runs."""
    shares: dict[Text, float] = Field(default_factory=dict)
    """Mean size of each distillation term relative to the student's own loss."""
    factors: dict[Text, float] = Field(default_factory=dict)
    """What made the weights of its terms shares of the detection loss (:func:`dfmsd.balance.factors`)."""
    curve: tuple[dict[Text, float], ...] = ()
    """Learning curve: losses averaged over stretches of iterations."""
    weights_sha256: Sha256 = ""
    """Of the exported detector."""
    needed: dict[Key, Sha256] | None = Field(default_factory=lambda given: _weights_here(given.get("spec", {})))
    """The same of the runs that it began with and learned from, as they lay here; None in records that do not tell."""
    note: Text = ""
    provenance: Provenance

    @property
    def is_result(self) -> bool:
        """Whether it is a number to print; a run that broke off is not."""
        return self.state != "nan"

    @model_validator(mode="after")
    def _makes_sense(self) -> Record:
        if self.ap_interval is not None and self.ap_interval[0] > self.ap_interval[1]:
            raise ValueError("ap_interval: its ends are reversed")
        iterations = [point.get("iteration", 0) for point in self.curve]
        if any(last >= following for last, following in pairwise([0, *iterations])):
            raise ValueError("curve: its iterations do not grow")
        try:
            scale, source, stage = self.spec["scale"], self.spec["data"]["source"], self.spec.get("stage", {})
            name = self.spec["network"]["name"] if "network" in self.spec else self.spec["backbone"]["type"]
            canonical(self.spec)  # without NaN
        except (KeyError, TypeError, ValueError):
            raise ValueError("spec: it is none of a run") from None
        if not all(isinstance(text, str) for text in (scale, source, name)) or not isinstance(stage, dict | None):
            raise ValueError("spec: it is none of a run")
        if "network" in self.spec and self.is_result and "AP" not in self.metrics:
            raise ValueError("metrics: AP is missing")
        return self


class Network(Frozen):
    """A network that was measured."""

    key: Key
    """Of its run."""
    weights: Text
    """SHA-256 of its weights; of mmdet's published ones the first digits."""


class Measured(_Kept):
    """What was measured for a page on images, in trained networks or on a machine: one tidy table, and pictures."""

    page: Text
    scale: Text
    asked: Text
    """:meth:`dfmsd.study.pages.measured.MeasuredPage.asked` when it was made."""
    networks: dict[str, Network] = Field(default_factory=dict)
    """By the page's name for each."""
    frame: dict[str, list[Any]]
    """Columns of one length. Lines that differ in ``image`` and ``value`` alone are one line with a list of each."""
    pictures: dict[str, Any] = Field(default_factory=dict)
    """What figures show besides: small arrays, and JPEGs in base 64."""
    provenance: Origin

    @model_validator(mode="after")
    def _is_a_table(self) -> Measured:
        if len({len(column) for column in self.frame.values()}) > 1:
            raise ValueError("its columns differ in length")
        for name in ("value", "low", "high", "image"):
            for value in self.frame.get(name, ()):
                if not all(one is None or (type(one) in (int, float)) for one in (value if isinstance(value, list) else [value])):
                    raise ValueError(f"frame: {name}: {value!r:.60} is no number")
        for image, value in zip(self.frame.get("image", ()), self.frame.get("value", ()), strict=False):
            if not isinstance(image, list) or not isinstance(value, list) or len(image) != len(value):
                raise ValueError("frame: images and values differ in number")
        return self

    def to_frame(self) -> pd.DataFrame:
        """The table, a number a line; what is not defined is missing (NaN, None, or <NA> for an image)."""
        import pandas as pd

        frame = pd.DataFrame(self.frame)
        if "image" not in frame:
            return frame
        lines = frame.explode(["image", "value"], ignore_index=True)
        return lines.astype({"image": "Int64", "value": float})


def origin(data_fingerprint: str, code_digest: str) -> Origin:
    """Where something that is finished now comes from."""
    import torch

    return Origin(
        commit=commit(),
        versions={name: version(name) for name in LIBRARIES} | {"python": platform.python_version()},
        hardware=machine.hardware(),
        threads=torch.get_num_threads(),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        data_fingerprint=data_fingerprint,
        code_digest=code_digest,
    )


def commit() -> str:
    """The commit of the code, marked if what decides numbers was changed since: code and parameters, not records or text."""
    if paths.INSTALLED:
        return f"version {version('dfmsd')}"  # a repository around it is another one
    try:
        changed = _git("status", "--porcelain", "--", "dfmsd", "params")
        return _git("rev-parse", "--short", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=paths.ROOT, capture_output=True, text=True, check=True).stdout.strip()


def dump(record: Record) -> str:
    """A run's record as the JSON that is committed."""
    return json.dumps(_with_digest(record.model_dump(mode="json")), indent=1, sort_keys=True) + "\n"


def _with_digest(plain: dict[str, Any]) -> dict[str, Any]:
    """A record as a file holds it: an edit of whatever part shows."""
    return plain | {"digest": hashlib.sha256(canonical(plain).encode()).hexdigest()}


def read(file: Path) -> Record:
    """A run's record from its file, which is parsed once a process.

    Raises:
        StudyError: if it is damaged or edited, or its content does not belong to its name. In a run's folder, records of earlier
            code have no digest; :func:`dfmsd.study.committed.publish` gives them one.
    """
    mend = "delete it and run its page again; finished runs are not repeated"
    record = _load(Record, file, mend)
    # A run's folder is called <key> or <key>.partial, a published record <key>.json.
    key = file.parent.name.removesuffix(".partial") if file.name == "record.json" else file.stem
    if record.key != key:
        raise StudyError(f"record {file} is of run {record.key}: it was renamed or edited; {mend}")
    if digest(record.spec) != record.key:
        raise StudyError(f"record {file}: its specification does not hash to its key, it was edited; {mend}")
    if not record._has_digest and file.name != "record.json":
        raise StudyError(f"record {file} has no digest, so nothing tells whether it was edited: {mend}")
    return record


def _load(model: type[Content], file: Path, mend: str) -> Content:
    """A record of some kind."""
    try:
        state = file.stat()
        return _parsed(model, file, state.st_mtime_ns, state.st_size)  # type: ignore[return-value]
    except (ValueError, RecursionError) as error:
        reason = explained(error, model) if isinstance(error, ValidationError) else str(error).splitlines()[0]
        raise StudyError(f"record {file} is damaged ({reason}): {mend}") from None


@cache
def _parsed(model: type[_Kept], file: Path, changed: int, size: int) -> _Kept:
    plain = json.loads(files.read_text(file))
    if not isinstance(plain, dict):
        raise ValueError("it is none")
    said = plain.pop("digest", None)
    fits = said is None or said == _with_digest(plain)["digest"]
    if model is Record:
        plain.setdefault("needed", None)  # what lies here now may be another training
    found = model.model_validate_json(json.dumps(plain), strict=True)
    if not fits:
        raise ValueError("its digest is not that of its content: it was edited")
    found._has_digest = said is not None
    return found


def find(key: str) -> Record | None:
    """The record of a run: from its folder, else from the published ones."""
    for file in (paths.runs() / key / "record.json", paths.records() / f"{key}.json"):
        if file.exists():
            return read(file)
    return None


def result(key: str) -> Record | None:
    """The record of a run that gave a result; None while there is none."""
    record = find(key)
    return record if record is not None and record.is_result else None


def unfinished(key: str) -> Record | None:
    """The record in a run's partial folder: of one that broke off, or that was killed between its record and its last move."""
    file = paths.runs() / f"{key}.partial" / "record.json"
    return read(file) if file.exists() else None


def failure(key: str) -> Record | None:
    """The record of a run that broke off."""
    record = unfinished(key)
    return None if record is None or record.is_result else record


def is_stale(record: Record, spec: Run) -> bool:
    """Whether the code behind a record has changed since."""
    return record.provenance.code_digest != code.digest(spec)


def had_others(record: Record, spec: Run) -> bool:
    """Whether a run began with, or learned from, other weights than those whose record shows what that network reaches.

    On a processor that rounds otherwise the same run ends in other weights.
    """
    return any(found is not None and _had_others(record, found) for found in (result(need.key) for need in spec.needs()))


def _had_others(record: Record, need: Record) -> bool:
    if record.needed is None:
        return datetime.fromisoformat(need.provenance.finished) > datetime.fromisoformat(record.provenance.finished)
    return record.needed.get(need.key, need.weights_sha256) != need.weights_sha256


def _weights_here(spec: Mapping[str, Any]) -> dict[str, str]:
    """Hashes of the weights here of what a run, as plain data, needs; in the moment when its record is made."""
    stage = spec.get("stage") or {}
    parts = [stage.get("balance") or {}, stage.get("enhance") or {}]
    needed = [spec.get("start"), spec.get("parent"), stage.get("teacher"), *stage.get("beside", ())]
    needed += [part.get(name) for part, name in zip(parts, ("teacher", "weak"), strict=True)]
    files_of = {key: paths.runs() / key / "record.json" for key in needed if isinstance(key, str)}
    return {key: read(file).weights_sha256 for key, file in files_of.items() if file.exists()}


def measured(page: MeasuredPage, file: Path | None = None) -> Measured | None:
    """What was measured for a page, by this machine or from another ``file`` of its records; None while nothing was.

    Raises:
        StudyError: if it is damaged, or of another page.
    """
    file = file or page.measured_file()
    if not file.exists():
        return None
    mend = f"delete it and make it again: `{page.command()}`"
    found = _load(Measured, file, mend)
    if (found.page, found.scale) != (page.page, page.scale):
        raise StudyError(f"record {file} is of {found.page} at the scale {found.scale}: it was renamed or edited; {mend}")
    return found


def keep(found: pd.DataFrame, pictures: Mapping[str, Any], page: MeasuredPage, *, data_fingerprint: str = "") -> Measured:
    """Write what was measured for a page, now, with today's code and networks; numbers get :data:`DIGITS` digits."""
    measurement = Measured(
        page=page.page,
        scale=page.scale,
        asked=page.asked(),
        networks={name: Network(key=run.key, weights=_weights(run)) for name, run in page.runs().items()},
        frame=_rounded(_columns(found)),
        pictures=_rounded(dict(pictures)),
        provenance=origin(data_fingerprint, code.digest_of(measuring(page))),
    )
    files.write_atomic(page.measured_file(), dump_measured(measurement))
    return measurement


def _columns(frame: pd.DataFrame) -> dict[str, list[Any]]:
    """A table's columns as :attr:`Measured.frame` holds them."""
    if "image" in frame:
        rest = [name for name in frame if name not in ("image", "value")]
        lists = frame.astype({"image": object}).groupby(rest, dropna=False, sort=False).agg(list)
        frame = lists.reset_index()[list(frame)]
    return {str(name): frame[name].tolist() for name in frame}


def _weights(run: RunSpec | TeacherSpec) -> str:
    if isinstance(run, TeacherSpec):
        return run.weights.sha256_prefix
    record = result(run.key)
    return "" if record is None else record.weights_sha256


def measuring(page: MeasuredPage) -> str:
    """The function that measures for a page: ``measure`` in the module of its notebook, as ``dfmsd.report.features:measure``."""
    notebook = next(name for name, model in pages.NOTEBOOKS.items() if model is type(page))
    return f"dfmsd.report.{notebook}:measure"


def dump_measured(measurement: Measured) -> str:
    """What was measured as JSON, with a line for each column."""
    content = _with_digest(measurement.model_dump(mode="json"))
    return "{\n" + ",\n".join(f' "{name}": {_lines(part)}' for name, part in content.items()) + "\n}\n"


def _lines(part: Any) -> str:
    if not isinstance(part, dict) or not part:
        return json.dumps(part)
    return "{\n" + ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in part.items()) + "\n }"


def _rounded(value: Any) -> Any:
    """Plain data for JSON: numbers with as many digits as a record keeps, whole ones as they are; None for what is not finite."""
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(part) for part in value]
    if hasattr(value, "tolist"):  # of NumPy and torch
        return _rounded(value.tolist())
    if not isinstance(value, float):
        return value if isinstance(value, (int, str)) else None
    return value if value.is_integer() else float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def stale_reasons(measurement: Measured, page: MeasuredPage) -> list[str]:
    """Why a measurement is not what the page would show if it were made now; empty if it is."""
    found = [] if measurement._has_digest else ["it has no digest, so nothing tells whether it was edited"]
    if measurement.asked != page.asked():
        found.append("the page asks for other things now")
    for name, run in page.runs().items():
        network = measurement.networks.get(name)
        if network is None or network.key != run.key or not isinstance(run, RunSpec):
            continue
        record = result(run.key)
        if record is not None and record.weights_sha256 != network.weights:
            found.append(f"{name} was trained again since")
    if measurement.provenance.code_digest != code.digest_of(measuring(page)):
        found.append("the code that measures has changed since")
    return found
