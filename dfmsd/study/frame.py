"""The rows of a page, each with its records and with the row of the paper that it is set beside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from dfmsd.report.tables import STALE, duration
from dfmsd.study import plan, records, stats, zoo
from dfmsd.study.pages import Entry, Impossible, PageSpec, name_of
from dfmsd.study.published import Published, published
from dfmsd.study.records import Record
from dfmsd.study.rows import Row
from dfmsd.study.stats import Estimate


@dataclass(frozen=True)
class Line:
    """A row of a page's table with everything known about it."""

    row: Row
    entries: tuple[Entry, ...]
    """None for a row that cannot be run."""
    records: Mapping[int, Record]
    """By seed; seeds that have not been run are absent."""
    published: Published | None
    stage: int | None = None
    """The stage after which the student is taken; None: the last."""

    def values(self, metric: str) -> dict[int, float]:
        """A metric by seed, in percent."""
        return {seed: record.metrics[metric] for seed, record in self.records.items() if metric in record.metrics}

    @property
    def pair(self) -> str:
        """Student and teachers in words."""
        teachers = " → ".join(zoo.label(name) for name in self.row.teachers)
        return f"{zoo.label(self.row.student)} ← {teachers}"

    @property
    def ap(self) -> Estimate | None:
        """AP over the seeds that have been run."""
        values = self.values("AP")
        return stats.estimate(values) if values else None

    @property
    def stale(self) -> bool:
        """Whether the code behind one of its records has changed since."""
        runs = {entry.seed: entry.runs[-1] for entry in self.entries}
        return any(records.is_stale(record, runs[seed]) for seed, record in self.records.items())

    @property
    def missing(self) -> str:
        """Why it has no number, in short."""
        return "not run" if self.entries else "cannot be run"

    def marks(self) -> list[str]:
        """What a reader must know about the numbers, or why there are none."""
        if isinstance(self.row, Impossible):
            return [f"{self.missing}: {self.row.reason}"]
        if not self.records:
            seconds = sum(item.seconds for item in plan.plan([entry.runs for entry in self.entries]))
            return [f"{self.missing} (about {duration(seconds)})"]
        found = []
        if len(self.records) < len(self.entries):
            found.append(f"{len(self.records)} of {len(self.entries)} seeds")
        if any(record.state == "no detections" for record in self.records.values()):
            found.append("no detections")
        if self.stale:
            found.append(STALE)
        return found


def lines(page: PageSpec) -> list[Line]:
    """The rows of a page, in the order of its table."""
    quoted = published(page.table) if page.table is not None else []
    entries: dict[int, list[Entry]] = {}
    for entry in page.entries():
        entries.setdefault(entry.place, []).append(entry)
    return [_line(row, tuple(entries.get(place, ())), quoted) for place, row in enumerate(page.rows())]


def by_pair(known: Iterable[Line]) -> dict[str, list[Line]]:
    """Rows by their pair of student and teachers."""
    found: dict[str, list[Line]] = {}
    for line in known:
        found.setdefault(line.pair, []).append(line)
    return found


def between(known: Iterable[Line]) -> list[Line]:
    """The students of some rows before their last stage, as rows of their own: ``DFMSD, stage 1``."""
    found = []
    for line in known:
        for stage in range(1, len(line.entries[0].runs) if line.entries else 0):
            row = line.row.model_copy(update={"name": f"{name_of(line.row)}, stage {stage}"})
            entries = tuple(replace(entry, row=row, runs=entry.runs[:stage]) for entry in line.entries)
            found.append(replace(_line(row, entries, published("stages")), stage=stage))
    return found


def _line(row: Row, entries: tuple[Entry, ...], quoted: Iterable[Published]) -> Line:
    kept = {entry.seed: record for entry in entries if (record := records.result(entry.runs[-1].key)) is not None}
    return Line(row, entries, kept, next((q for q in quoted if _matches(q, row)), None))


def _matches(quoted: Published, row: Row) -> bool:
    ours = row.student, row.quotes or row.teachers, row.recipe, row.name
    return (quoted.student, quoted.teachers or ours[1], quoted.recipe, quoted.name) == ours


def comparisons(page: PageSpec, rival: str) -> dict[str, Estimate | None]:
    """The paired difference in AP of the page's subject to another row, by pair of student and teachers; None where one is not run.

    Pairs whose rival cannot be run are left out.

    Args:
        page: The page.
        rival: The other row's name.
    """
    pairs = {pair: {name_of(line.row): line for line in known} for pair, known in by_pair(lines(page)).items()}
    return {
        pair: stats.difference(rows[page.subject].values("AP"), rows[rival].values("AP"))
        for pair, rows in pairs.items()
        if page.subject in rows and rival in rows and rows[rival].entries
    }
