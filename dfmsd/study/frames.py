"""The one tidy frame: every number that a page shows, ours and the paper's, a line each.

Columns of every frame:

- ``page``, ``scale``; ``source``: ``ours`` or ``paper``
- ``row``: what the number is of; ``metric``, ``value``; ``low`` and ``high``: a 95 % interval over images, where there is one
- ``key``: of the run; ``state``: ``ok``, ``no detections``, ``not run``, ``cannot be run`` (its ``note`` says why), or ``other
  training`` of a run that is left out (:mod:`dfmsd.study.trainings`); of the paper's numbers ``quoted``, ``reconstructed`` or
  ``lost``; ``stale``: the code behind it has changed since; ``note``

Where rows are recipes besides:

- ``role``: ``row``, or ``stage`` for its student before the last stage, or ``teacher`` for a teacher's own run
- ``place`` of the row in the table, from 0; ``pair``: student and teachers in words; ``student``, ``teachers``, ``recipe``
- ``stage``; ``begin`` and ``end``: epochs since the student's first; ``seed``; ``hardware``
- ``remark``: on the paper's row
- a column for each option that the page varies; of trials ``share``; of gates and regimes ``length`` and ``images``

Of starts: ``networks`` that begin with it; the metrics are ``accuracy`` and that of each class.

Where a page measures (:class:`dfmsd.study.records.Measured`), the columns of what was measured: ``image``, ``level`` and others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from dfmsd import hyper
from dfmsd.study import plan, records, trainings, zoo
from dfmsd.study.pages.base import Page
from dfmsd.study.pages.comparison import PageSpec, RegimePage, SensitivityPage
from dfmsd.study.pages.measured import MeasuredPage
from dfmsd.study.pages.scale import GatesPage, StartsPage
from dfmsd.study.pages.tuning import TuningPage
from dfmsd.study.published import METRICS as METRICS
from dfmsd.study.published import Published, published
from dfmsd.study.records import Record
from dfmsd.study.rows import JOIN, TAUGHT, THEN, Entry, Impossible, Row, in_words, name_of
from dfmsd.study.spec import RunSpec

COMMON = ("page", "scale", "source", "role", "row", "metric", "value", "low", "high", "key", "state", "stale", "note")

ROWS = ("place", "pair", "student", "teachers", "recipe", "stage", "begin", "end", "seed", "hardware", "remark")

WHOLE = ("place", "stage", "seed", "image", "level")
"""Columns of whole numbers, which may be missing."""

Line = dict[str, Any]


def student_of(pair: str) -> str:
    """The student in a pair's words.

    Example:
        >>> student_of("FCOS R50 taught by GFL R101, then GFL X101")
        'FCOS R50'
    """
    return pair.partition(TAUGHT)[0]


def frame(page: Page) -> pd.DataFrame:
    """All numbers of a page; of a page about other pages, theirs.

    Example:
        >>> from dfmsd.study import pages
        >>> found = frame(pages.get("table03", seeds=[0]))
        >>> found.query("source == 'paper' and row == 'DFMSD' and metric == 'AP'")["value"].tolist()
        [41.2, 36.8, 36.9]
    """
    left_out = trainings.left_out()
    found = pd.DataFrame([_or_left_out(line, left_out) for one in page.sources() for line in _lines(one)])
    own = ROWS if "recipe" in found else ()
    found = found.reindex(columns=list(dict.fromkeys([*COMMON, *own, *found.columns])))
    found[["value", "low", "high"]] = found[["value", "low", "high"]].astype(float)
    found["stale"] = found["stale"].eq(True)
    return found.astype({name: "Int64" for name in WHOLE if name in found})


def _or_left_out(line: Line, left_out: frozenset[str]) -> Line:
    """A line as it is shown: of a student that cannot be compared with the others of its seed without its value."""
    if line.get("role") not in ("row", "stage") or line.get("key") not in left_out:
        return line
    return line | {"value": None, "low": None, "high": None, "state": "other training"}


def _lines(page: Page) -> Iterator[Line]:
    shared = {"page": page.page, "scale": page.scale}
    if isinstance(page, PageSpec):
        lines: Iterable[Line] = [*_rows(page), *_teachers(page)]
    elif isinstance(page, TuningPage):
        lines = _trials(page)
    elif isinstance(page, GatesPage):
        lines = [*_listed(page), *_all_teachers(page)]
    elif isinstance(page, RegimePage):
        lines = _listed(page)
    elif isinstance(page, StartsPage):
        lines = _starts(page)
    else:
        lines = _measured(page) if isinstance(page, MeasuredPage) else ()
    return (shared | line for line in lines)


def _rows(page: PageSpec) -> Iterator[Line]:
    quotes = [] if page.table is None else published(page.table)
    given = {metric for quote in quotes for metric in quote.metrics}
    by_place: dict[int, list[Entry]] = {}
    for entry in page.entries:
        by_place.setdefault(entry.place, []).append(entry)
    for place, row in enumerate(page.rows()):
        entries = by_place.get(place, [])
        shared = _shared(page, place, row)
        yield from _quoted(shared, row, quotes, given)
        for stage in range(1, len(entries[0].runs) if entries else 0):
            before = row.model_copy(update={"name": f"{name_of(row)}, stage {stage}"})
            named = {"row": name_of(before), "role": "stage", "stage": stage}
            yield from _quoted(shared | named, before, published("stages"), {"AP"})
        if isinstance(row, Impossible):
            yield shared | {"source": "ours", "metric": "AP", "state": "cannot be run", "note": row.reason}
        for entry in entries:
            begin, blind = 0, None
            for stage, run in enumerate(entry.runs, start=1):
                end = begin + run.schedule.epochs
                own: Line = {"stage": stage, "begin": begin, "end": end, "seed": entry.seed}
                if stage < len(entry.runs):
                    own |= {"role": "stage", "row": f"{name_of(row)}, stage {stage}"}
                found = list(_ours(run))
                if blind and found[0]["state"] == "not run":
                    note = f"the student detects nothing after stage {blind}"
                    found = [{"source": "ours", "metric": "AP", "state": "cannot be run", "note": note}]
                yield from (shared | own | line for line in found)
                begin, blind = end, stage if found[0]["state"] == "no detections" else blind


def _shared(page: Page, place: int, row: Row) -> Line:
    """What all lines of a row have in common."""
    varied = zip(page.vary, page.values(row), strict=True) if isinstance(page, SensitivityPage) else ()
    return {
        "role": "row",
        "place": place,
        "pair": in_words(row.student, row.teachers),
        "student": row.student,
        "teachers": " → ".join(row.teachers),
        "recipe": row.recipe,
        "row": name_of(row),
        **dict(varied),
    }


def _quoted(shared: Line, row: Row, quotes: Iterable[Published], given: Iterable[str]) -> Iterator[Line]:
    """The paper's numbers for a row; a metric that its other rows have and this one lacks is lost."""
    ours = row.student, row.quotes or row.teachers, row.recipe, row.name
    quote = next((q for q in quotes if (q.student, q.teachers or ours[1], q.recipe, q.name) == ours), None)
    if quote is None:
        return
    note = ", ".join([f"from {quote.source}"] * bool(quote.source) + ["label reconstructed"] * ("name" in quote.reconstructed))
    others = f"the paper has other teachers: {THEN.join(map(zoo.label, row.quotes))}" if row.quotes else ""
    remark = "; ".join(filter(None, [quote.note, others]))
    for metric in METRICS:
        if metric in given:
            state = "reconstructed" if metric in quote.reconstructed else "quoted" if metric in quote.metrics else "lost"
            found = {"metric": metric, "value": quote.metrics.get(metric), "state": state, "note": note, "remark": remark}
            yield shared | {"source": "paper"} | found


def _ours(run: RunSpec) -> Iterator[Line]:
    """What a run's record says, a line a metric; without a result one line that says so."""
    record = records.result(run.key)
    shared: Line = {"source": "ours", "key": run.key}
    if record is None:
        yield shared | {"metric": "AP", "state": "not run"}
        return
    origin = record.provenance
    hardware = f"{origin.hardware}, {origin.threads} thread{'s' * (origin.threads != 1)}"
    shared |= {"state": record.state, "stale": records.is_stale(record, run), "note": record.note, "hardware": hardware}
    for metric in (name for name in METRICS if name in record.metrics):
        low, high = record.ap_interval or (None, None) if metric == "AP" else (None, None)
        yield shared | {"metric": metric, "value": record.metrics[metric], "low": low, "high": high}
    if origin.images_per_second > 0:  # a run that was resumed for nothing but its evaluation measured none
        yield shared | {"metric": "images_per_second", "value": origin.images_per_second}
    for term, share in record.shares.items():
        yield shared | {"metric": f"share {term}", "value": share}


def _teachers(page: PageSpec) -> Iterator[Line]:
    """Each pair's teachers, from weak to strong, with what they reach by themselves; published ones have no run."""
    found: dict[str, dict[str, tuple[int, RunSpec]]] = {}
    for entry in page.entries:
        order = {name: stage for stage, group in enumerate(entry.row.teachers, start=1) for name in group.split(JOIN)}
        own = found.setdefault(_shared(page, entry.place, entry.row)["pair"], {})
        for teacher in (teacher for run in entry.runs if run.stage for teacher in run.stage.teachers):
            if isinstance(teacher, RunSpec):
                own[teacher.key] = order[teacher.network.name], teacher
    for pair, teachers in found.items():
        for stage, teacher in sorted(teachers.values(), key=lambda one: one[0]):
            name = teacher.network.name
            shared = {"role": "teacher", "pair": pair, "student": name, "recipe": "baseline", "row": zoo.label(name)}
            about = {"stage": stage, "begin": 0, "end": teacher.schedule.epochs, "seed": teacher.seed}
            yield from (shared | about | line for line in _ours(teacher))


def _trials(page: TuningPage) -> Iterator[Line]:
    for entry in page.entries:
        name = entry.row.name or entry.row.recipe
        weights = page.methods[name].weights if name in page.methods else ()
        share = sum(entry.row.options.hyper[weight] for weight in weights) if weights else None
        pair = page.pair_of(entry)
        named: Line = {
            "row": name_of(entry.row),
            "recipe": name,
            "pair": in_words(pair.student, pair.teachers),
            "student": pair.student,
            "teachers": " → ".join(pair.teachers),
        }
        shared = {"role": "row", "place": entry.place, "share": share, "seed": entry.seed} | named
        yield from (shared | line for line in _ours(entry.runs[-1]))


def _listed(page: GatesPage | RegimePage) -> Iterator[Line]:
    """The rows of a page that is no table: the student after its last stage."""
    for entry in page.entries:
        options = entry.row.options
        shared = _shared(page, entry.place, entry.row) | {"length": options.length, "images": options.images, "seed": entry.seed}
        shared |= {"begin": 0, "end": sum(run.schedule.epochs for run in entry.runs)}
        yield from (shared | line for line in _ours(entry.runs[-1]))


def _all_teachers(page: GatesPage) -> Iterator[Line]:
    for name, run in page.runs().items():
        shared = {"role": "teacher", "student": name, "recipe": "baseline", "row": zoo.label(name)}
        about = {"begin": 0, "end": run.schedule.epochs, "seed": run.seed}
        yield from (shared | about | line for line in _ours(run))


def _starts(page: StartsPage) -> Iterator[Line]:
    for start, networks in page.starts:
        shared = {"source": "ours", "row": start.name, "networks": ", ".join(map(zoo.label, networks)), "key": start.key}
        record = records.result(start.key)
        if record is None:
            yield shared | {"metric": "accuracy", "state": "not run"}
            continue
        stale = records.is_stale(record, start)
        for metric, value in record.metrics.items():
            yield shared | {"metric": metric, "value": value, "state": record.state, "stale": stale}


def _measured(page: MeasuredPage) -> Iterator[Line]:
    measured = [records.measured(page, file) for file in page.measured_files()]
    if not measured:
        yield {"source": "ours", "row": "", "metric": "", "state": "not run"}
    for found in filter(None, measured):
        stale = bool(records.stale_reasons(found, page))
        for line in found.to_frame().to_dict("records"):
            yield {"source": "ours", "state": "ok", "stale": stale} | {str(name): value for name, value in line.items()}


def networks(page: MeasuredPage) -> pd.DataFrame:
    """What each network that a page looks into reaches by itself, by the page's name for it: ``network, AP, key``.

    A network without a result, and a published one, have no AP.
    """
    lines = {}
    for name, run in page.runs().items():
        record = records.result(run.key) if isinstance(run, RunSpec) else None
        lines[name] = {"network": zoo.label(run.network.name), "AP": record and record.metrics["AP"], "key": record and run.key}
    return pd.DataFrame.from_dict(lines, orient="index").astype({"AP": float})


def curves(page: PageSpec) -> pd.DataFrame:
    """The learning curves behind a page's rows: the student's own detection loss over the epochs since its first.

    Columns: ``place, pair, row, role, recipe, stage, seed, key, begin, end, epoch, loss``, as in :func:`frame`.
    """
    lines = []
    runs = {run.key: run for entry in page.entries for run in entry.runs}
    result = frame(page)
    rows = result[result["role"].isin(["row", "stage"]) & result["value"].notna() & result["key"].isin(runs)]
    kept = ["place", "pair", "row", "role", "recipe", "stage", "seed", "key", "begin", "end"]
    for line in rows.drop_duplicates(["place", "stage", "seed"])[kept].to_dict("records"):
        record = records.result(str(line["key"]))
        assert record is not None
        lines += [{**line, **point} for point in _curve(record, float(line["begin"]), float(line["end"]))]
    return pd.DataFrame(lines, columns=[*kept, "epoch", "loss"])


def _curve(record: Record, begin: float, end: float) -> Iterator[Mapping[str, float]]:
    terms = tuple(f"loss_{name}_" for name in hyper.METHODS)
    for point in record.curve:
        own = point["loss"] - sum(value for name, value in point.items() if name.startswith(terms))
        yield {"epoch": begin + (end - begin) * point["iteration"] / record.curve[-1]["iteration"], "loss": own}


def resampled(*keys: str) -> list[float]:
    """How far one run's AP is above another's on each resample of the images; without any where one of the two has none."""
    one, other = (record.ap_resamples if (record := records.result(key)) else () for key in keys)
    return [a - b for a, b in zip(one, other, strict=True)] if len(one) == len(other) else []


def origins(page: Page) -> pd.DataFrame:
    """Where a page's numbers come from, a line for each run with a result: ``key, network, distilled`` and its provenance.

    A version has a column of its own, such as ``torch``.
    """
    lines = []
    for run in plan.order(chain for one in page.sources() for chain in one.chains()):
        if (record := records.result(run.key)) is not None:
            origin = record.provenance.model_dump()
            versions = origin.pop("versions")
            name, distilled = run.name, None
            if isinstance(run, RunSpec):
                name, distilled = zoo.label(run.network.name), run.stage is not None
            lines.append({"key": run.key, "network": name, "distilled": distilled} | origin | versions)
    return pd.DataFrame(lines)
