"""Pages about what other pages show."""

from __future__ import annotations

from collections.abc import Sequence

from dfmsd.study import pages, scales
from dfmsd.study.pages.base import Page, making
from dfmsd.study.pages.measured import MeasuredPage


class ChoosingPage(Page):
    """Which method to take (:mod:`dfmsd.report.choosing`), from the tables, and from the pages about cost, length and gates."""

    def sources(self) -> Sequence[Page]:
        """The tables, and the pages about cost, about length and about the gates, which train students twice as long."""
        return [*pages.tables(self.scale), *(pages.get(name, scale=self.scale) for name in ("losses", "length", "gates"))]

    def command(self) -> str:
        """What trains the runs of those pages, too: it has none of its own."""
        return making(*(page for page in self.sources() if not isinstance(page, MeasuredPage)), self)


class ScoreboardPage(Page):
    """What became of every claim of the papers (:mod:`dfmsd.report.scoreboard`), at each scale that has records."""

    def scales(self) -> tuple[str, ...]:
        """The page's own, then the others."""
        return tuple(dict.fromkeys([self.scale, *scales.PUBLIC]))

    def sources(self) -> Sequence[Page]:
        """Every page that a claim may be about: comparisons, and what was measured for figures."""
        kinds = {name: pages.NOTEBOOKS[pages.file_of(name).parent.name] for name in pages.names()}
        measured = [name for name, kind in kinds.items() if issubclass(kind, MeasuredPage)]
        found: list[Page] = []
        for scale in self.scales():
            found += [*pages.comparisons(scale), *(pages.get(name, scale=scale) for name in measured)]
        return found

    def command(self) -> str:
        """What makes the pages that it counts, too: all."""
        return f"python -m dfmsd page --all --scale {self.scale}"
