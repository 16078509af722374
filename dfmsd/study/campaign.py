"""In which order the runs of many pages are trained: what decides most comes first, and no method before its trials."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from dfmsd.study import hypotheses, records, scales, trials
from dfmsd.study.pages.base import Page
from dfmsd.study.pages.comparison import RowsPage
from dfmsd.study.pages.tuning import TuningPage
from dfmsd.study.rows import name_of
from dfmsd.study.spec import Run

PAGES = (
    *("table03", "table06", "table11", "table05", "structural", "length", "images"),
    *("table01", "table02", "table04", "table10", "table07", "table08", "table09", "fig03", "fig09", "fig10"),
    *("swins", "ambiguities"),
)
"""Pages of rows in the order of what they decide; others follow."""


@dataclass(frozen=True)
class Ready:
    """What may be trained now."""

    chains: list[tuple[Run, ...]]
    """Trials of the hypotheses' methods, their rows seed by seed, other trials, then page by page.

    Chains that two pages share stand there twice.
    """
    waiting: list[str]
    """A line for each method or variant whose rows wait for its trials."""


def ready(selected: Iterable[Page]) -> Ready:
    """The chains of some pages in order, but for those whose method's weights are not settled yet by its trials."""
    asked = hypotheses.asked()
    primary = {name for one in asked.among for name in (one.subject, *one.rivals)}
    found: list[tuple[tuple[int, ...], tuple[Run, ...]]] = []
    reasons = cache(trials.unsettled)
    held: dict[str, set[str]] = {}
    for page in selected:
        place = PAGES.index(page.page) if page.page in PAGES else len(PAGES)
        if not isinstance(page, (TuningPage, RowsPage)):
            found += [((4, place), runs) for runs in page.chains()]
            continue
        trial = isinstance(page, TuningPage)
        gated = page.scale == scales.GATED and getattr(page, "data", None) is None
        unsettled = reasons(page.scale) if gated else {}
        for entry in page.entries:
            decides = name_of(entry.row) in primary and (trial or page.page in asked.pages)
            waits = [name for name in trials.needed(entry.row, trial=trial) if name in unsettled]
            if waits and records.find(entry.runs[-1].key) is None:
                held.setdefault(unsettled[waits[0]], set()).add(entry.runs[-1].key)
            elif trial:
                found.append(((1 if decides else 3, place), entry.runs))
            else:
                found.append(((2, entry.seed, place) if decides else (4, place, entry.seed), entry.runs))
    lines = [f"{len(keys)} rows or trials must wait: {reason}" for reason, keys in held.items()]
    return Ready([runs for _, runs in sorted(found, key=lambda one: one[0])], lines)
