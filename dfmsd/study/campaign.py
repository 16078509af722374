"""In which order the runs of many pages are trained: what decides most comes first."""

from __future__ import annotations

from collections.abc import Iterable

from dfmsd.study import claims
from dfmsd.study.pages import Page, RowsPage, TuningPage
from dfmsd.study.rows import name_of
from dfmsd.study.spec import Run

PAGES = (
    *("table03", "table06", "table11", "table05", "structural", "length", "images"),
    *("table01", "table02", "table04", "table10", "table07", "table08", "table09", "fig03", "fig09", "fig10", "ambiguities"),
)
"""Pages of rows in the order of what they decide; others follow."""


def ordered(selected: Iterable[Page]) -> list[tuple[Run, ...]]:
    """The chains of some pages: trials of the hypotheses' methods, their rows seed by seed, other trials, then page by page.

    Chains that two pages share stand there twice.
    """
    asked = claims.asked()
    primary = {name for one in asked.among for name in (one.subject, *one.rivals)}
    found: list[tuple[tuple[int, ...], tuple[Run, ...]]] = []
    for page in selected:
        place = PAGES.index(page.page) if page.page in PAGES else len(PAGES)
        if isinstance(page, TuningPage):
            found += [((1 if name_of(entry.row) in primary else 3, place), entry.runs) for entry in page.entries]
        elif isinstance(page, RowsPage):
            for entry in page.entries:
                decides = page.page in asked.pages and name_of(entry.row) in primary
                found.append(((2, entry.seed, place) if decides else (4, place, entry.seed), entry.runs))
        else:
            found += [((4, place), runs) for runs in page.chains()]
    return [runs for _, runs in sorted(found, key=lambda one: one[0])]
