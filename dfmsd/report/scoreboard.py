"""What became of the papers' claims: every verdict, counted, drawn and listed by section."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from IPython.display import Markdown
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from dfmsd.report import length
from dfmsd.report.figures import Picture
from dfmsd.report.length import Gains
from dfmsd.report.tables import STALE, below, grouped, stale_mark
from dfmsd.study import pages
from dfmsd.study.claims import Claim, FigureClaim, Judgement, Quote, claims, judge, load, look, quote
from dfmsd.study.pages import PageSpec, ScoreboardPage

OUTCOMES = {
    "holds": "#0072B2",
    "undecided, points to holds": "#A6D0EC",
    "undecided, points to fails": "#F7C9A4",
    "fails": "#D55E00",
    "not run": "#FFFFFF",
}
"""What can become of a claim, and its colour: Okabe and Ito's blue and vermilion, lighter where nothing is decided."""


@dataclass(frozen=True)
class Board:
    """The verdicts on all claims."""

    scale: str
    """The page's own."""
    claims: tuple[Claim | FigureClaim, ...]
    judgements: Mapping[str, tuple[Judgement, ...]]
    """In the order of the claims, by scale: the page's own, and others that have records."""
    quotes: tuple[Quote, ...]
    """What the papers' own numbers say."""
    gains: Gains = field(default_factory=dict)
    """DFMSD's over its controls, at the page's own scale."""

    def count(self, scale: str, *, ours: bool = False) -> Counter[str]:
        """How often each of :data:`OUTCOMES` came out at a scale for the papers' claims, or for our own comparisons."""
        found = zip(self.claims, self.judgements[scale], strict=True)
        return Counter(judgement.words for claim, judgement in found if claim.ours == ours)


def board(page: ScoreboardPage) -> Board:
    """The verdicts on all claims, from the records that there are.

    Raises:
        StudyError: if a claim names a page or a row that does not exist.
    """
    found: dict[str, tuple[Judgement, ...]] = {}
    quotes: tuple[Quote, ...] = ()
    for scale in page.scales():
        rows = load(claims(), scale)
        if scale == page.scale:
            quotes = tuple(quote(claim, rows) for claim in claims())
        verdicts = tuple(judge(claim, rows) if isinstance(claim, Claim) else look(claim, scale) for claim in claims())
        if scale == page.scale or any(one.verdict != "not run" for one in verdicts):
            found[scale] = verdicts
    return Board(page.scale, claims(), found, quotes, length.gains(page.scale))


def summary(board: Board) -> Markdown:
    """The whole of it in a few sentences."""
    parts = [*(_counted(board, scale) for scale in board.judgements), _own(board), length.sentence(board.gains)]
    return Markdown("\n\n".join(filter(None, parts)))


def _counted(board: Board, scale: str) -> str:
    papers, ours = (board.count(scale, ours=whose) for whose in (False, True))
    text = _tally("the papers' {} claims, at scale **" + scale + "**", papers)
    if ours:
        text += " " + _tally("{} comparisons of ours, which the papers lack", ours)
    if any("points" in outcome for outcome in papers + ours):
        text += " Where the undecided point is a direction, not a test."
    if stale := sum(judgement.stale for judgement in board.judgements[scale]):
        text += f" *{STALE.capitalize()}* records, whose code has changed since, are behind **{stale}** of the verdicts."
    return text + (" *At the scale smoke these numbers mean nothing.*" if scale == "smoke" else "")


def _tally(of: str, count: Counter[str]) -> str:
    holds, to_holds, to_fails, fails, missing = (count[outcome] for outcome in OUTCOMES)
    text = f"Of {of.format(count.total())}, **{holds}** hold, **{fails}** fail, **{to_holds + to_fails}** are undecided"
    if to_holds + to_fails:
        text += f" ({to_holds} point to *holds*, {to_fails} to *fails*)"
    return text + f" and {missing} not run."


def _own(board: Board) -> str:
    own = Counter(found.supports for claim, found in zip(board.claims, board.quotes, strict=True) if not claim.ours)
    return (
        f"The papers' own numbers support {own[True]} of their claims and contradict **{own[False]}**; "
        f"for {own[None]} they give none, or none that is legible."
    )


def answer(board: Board, picture: str) -> str:
    """The scoreboard for a first page, as Markdown: the summary and :func:`overview`.

    Args:
        board: The verdicts.
        picture: Where the figure lies, seen from the page.
    """
    return f"{summary(board).data}\n\n![How many claims hold, fail, are undecided or not run]({picture})\n"


def overview(board: Board) -> Picture:
    """How many of the papers' claims, and of our own comparisons, came out how, at the page's scale."""
    counts = {"the papers' claims": board.count(board.scale), "comparisons of ours": board.count(board.scale, ours=True)}
    return _bars(board, {name: count for name, count in counts.items() if count}, "in all")


def figure(board: Board) -> Picture:
    """How many claims of each section came out how, at the page's scale."""
    counts: dict[str, Counter[str]] = {}
    for claim, judgement in zip(board.claims, board.judgements[board.scale], strict=True):
        counts.setdefault(claim.section, Counter())[judgement.words] += 1
    return _bars(board, counts, "a bar for each section")


def _bars(board: Board, counts: Mapping[str, Counter[str]], what: str) -> Picture:
    names = list(counts)
    with mpl.rc_context(), sns.axes_style("white"), mpl.rc_context({"font.size": 9, "hatch.linewidth": 0.6}):
        drawing = Figure(figsize=(8.2, 0.9 + 0.27 * len(names)), layout="constrained")
        ax = drawing.subplots()
        left = [0] * len(names)
        for outcome, colour in OUTCOMES.items():
            widths = [counts[name][outcome] for name in names]
            hatch = "////" if outcome.startswith("undecided") else None
            bars = ax.barh(names, widths, left=left, color=colour, edgecolor="#777777", hatch=hatch, label=outcome)
            for bar, width in zip(bars, widths, strict=True):
                bar.set_linewidth(0.6 if width else 0)  # nothing is no line either
            inside = "white" if outcome in ("holds", "fails") else "black"
            ax.bar_label(bars, [str(width) if width else "" for width in widths], label_type="center", color=inside, fontsize=8)
            left = [start + width for start, width in zip(left, widths, strict=True)]
        ax.invert_yaxis()
        ax.margins(y=0.01)
        ax.xaxis.set_visible(False)
        ax.tick_params(length=0)
        sns.despine(ax=ax, bottom=True, left=True)
        legend = drawing.legend(loc="outside upper center", ncols=len(OUTCOMES), frameon=False, fontsize=8, columnspacing=1.2)
        for patch in legend.get_patches():
            patch.set_linewidth(0.6)  # each has that of its first bar, which may be nothing
        drawing.supxlabel(f"claims, scale {board.scale}", fontsize=9)
        parts = "; ".join(f"{name}: {_list(count)}" for name, count in counts.items())
        return Picture.of(drawing, f"What became of the papers' claims at scale {board.scale}, {what}. {parts}.")


def _list(count: Counter[str]) -> str:
    return ", ".join(f"{count[outcome]} {outcome.replace(', ', ' and ')}" for outcome in OUTCOMES if count[outcome])


def table(board: Board) -> Styler:
    """Every claim with the paper's number and the verdict of each scale; its words lead to the results of its page."""
    rows, sections, texts = [], [], []
    for place, claim in enumerate(board.claims):
        verdicts = {scale: _cell(found[place]) for scale, found in board.judgements.items()}
        rows.append({"paper": board.quotes[place].cell, **verdicts})
        sections.append(html.escape(claim.section))
        texts.append(f'<a class="words" href="{claim.page}.html{_anchor(claim)}">{html.escape(claim.text)}</a>')
    caption = (
        "Differences between the rows that a claim compares, in percent; in brackets 95 % intervals over seeds, where there are "
        "three or more. What figures show is in the unit that is named, with intervals over images. Paper: its own tables, on COCO."
    )
    return grouped(pd.DataFrame(rows), sections, texts, "scoreboard", caption)


def _cell(judgement: Judgement) -> str:
    kind = list(OUTCOMES).index(judgement.words)
    notes = below(judgement.numbers) + stale_mark(stale=judgement.stale)
    return f'<span class="words"><span class="outcome outcome-{kind}">{judgement.words}</span>{notes}</span>'


def _anchor(claim: Claim | FigureClaim) -> str:
    """Where the rows of a claim stand on its page."""
    return "#T_results" if issubclass(pages.NOTEBOOKS[pages.file_of(claim.page).parent.name], PageSpec) else ""
