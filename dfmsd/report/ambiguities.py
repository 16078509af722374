"""What the paper leaves open beside what it adds: how far each choice moves AP, and how far the paper's modules do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from IPython.display import Markdown
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from dfmsd.report.ablation import OFF, PARTS, parts_on
from dfmsd.report.comparison import NO_EVIDENCE
from dfmsd.report.figures import COLOURS, Picture
from dfmsd.report.tables import NONE, STALE, below, signed, spread, stale_mark, styled
from dfmsd.study import stats, zoo
from dfmsd.study.frame import Line, lines
from dfmsd.study.pages import PageSpec, name_of
from dfmsd.study.rows import Options, Row
from dfmsd.study.stats import Estimate


@dataclass(frozen=True)
class Move:
    """How far a row lies from DFMSD as it is, with the same student and teachers."""

    name: str
    student: str
    """In brackets, where it is not the page's first."""
    line: Line
    part: str | None
    """The module of the paper that the row lacks; None: it makes a choice of the paper's otherwise."""
    change: Estimate | None
    """None where one of the two is not run."""
    stale: bool
    """Whether the code behind one of the two has changed since."""

    @property
    def said(self) -> str:
        """The change in words."""
        return self.line.missing if self.change is None else signed(self.change.mean) + f" ({STALE})" * self.stale

    @property
    def size(self) -> float:
        """The change of AP whatever its sign; below 0 where there is none."""
        return abs(self.change.mean) if self.change else -1.0

    def beyond(self, other: Move) -> stats.Verdict:
        """Whether it moves AP more than another: the verdict on the difference of their sizes, seed by seed."""
        return stats.verdict(stats.difference(_sizes(self.change), _sizes(other.change)))


def _sizes(change: Estimate | None) -> dict[int, float]:
    return {} if change is None else {seed: value if change.mean > 0 else -value for seed, value in change.values.items()}


def moves(page: PageSpec) -> list[Move]:
    """The page's choices and modules, from the one that moves AP most to those that are not run."""
    known = lines(page)
    plain = {line.pair: line for line in known if line.row.recipe == "dfmsd" and line.row.options == Options()}
    found = []
    for line in known:
        if line.row.recipe != "dfmsd" or line.pair not in plain or line is plain[line.pair]:
            continue
        lacking = _lacking(line.row)
        if len(lacking) > 1:
            continue
        part = next(iter(lacking), None)
        student = f" ({zoo.label(line.row.student)})" if line.row.student != known[0].row.student else ""
        name = (name_of(line.row) if part is None else f"without {PARTS[part]}") + student
        whole = plain[line.pair]
        change = stats.difference(line.values("AP"), whole.values("AP"))
        found.append(Move(name, student, line, part, change, change is not None and (line.stale or whole.stale)))
    return sorted(found, key=lambda move: -move.size)


def _lacking(row: Row) -> frozenset[str]:
    """The parts that a row switches off, if it changes nothing else."""
    off = PARTS.keys() - parts_on(row.options)
    return frozenset(off) if row.options == Options().model_copy(update={part: OFF[part] for part in off}) else frozenset()


def answer(page: PageSpec) -> Markdown:
    """Which choices move AP more than each of the paper's modules does for the same student and teachers, in sentences."""
    known = moves(page)
    run = [move for move in known if move.change is not None]
    sentences = []
    for module in run:
        choices = [move for move in run if move.part is None and move.line.pair == module.line.pair]
        if module.part is not None and choices:
            sentences.append(_sentence(module, choices))
    for kind, all_of in (("open choices", [m for m in known if m.part is None]), ("modules", [m for m in known if m.part])):
        if missing := [move.name for move in all_of if move.change is None and move.line.entries]:
            sentences.append(f"{len(missing)} of {len(all_of)} {kind}: **not run** ({', '.join(missing)}).")
    sentences += [f"{move.name}: {mark}." for move in known if not move.line.entries for mark in move.line.marks()]
    return Markdown("\n".join(f"- {sentence}" for sentence in sentences) + (NO_EVIDENCE if page.scale == "smoke" else ""))


def _sentence(module: Move, choices: Sequence[Move]) -> str:
    assert module.part is not None and module.change is not None
    more = [choice for choice in choices if choice.size > module.size]
    text = (
        f"**{len(more)} of {len(choices)}** open choices that were run move AP more than {PARTS[module.part]} does{module.student}"
    )
    text += f" ({signed(module.change.mean)} without it)"
    shown = [f"{choice.name} ({signed(choice.change.mean)}{_doubt(choice, module)})" for choice in more if choice.change]
    return text + (f": {', '.join(shown)}." if shown else ".")


def _doubt(choice: Move, module: Move) -> str:
    found = choice.beyond(module)
    return "" if found == "higher" else f", {found}"


def table(page: PageSpec) -> Styler | Markdown:
    """The change of AP by each choice, and by leaving out each module, and which modules of its pair a choice outweighs."""
    known = moves(page)
    if not known:
        return Markdown("No row differs from DFMSD as it is.")
    modules = [move for move in known if move.part is not None and move.change is not None]
    rows = [
        {
            "row": move.name + below(", ".join(move.line.marks()), flag=True),
            "is": "an open choice" if move.part is None else "a module left out",
            "change of AP": _change(move),
            "seeds": " ".join(signed(value) for _, value in sorted(move.change.values.items())) if move.change else NONE,
            "moves AP more than": _outweighed(move, modules),
        }
        for move in known
    ]
    caption = (
        "Against DFMSD as it is, with the same student and teachers, seed by seed; AP in percent. Sorted by size, whatever the "
        "sign. Intervals: 95 % bootstrap over seeds, from three on. ?: no test, or undecided. "
        f"Scale {page.scale}."
    )
    return styled(pd.DataFrame(rows), "ambiguities", caption).hide(axis="index")


def _change(move: Move) -> str:
    if move.change is None:
        return NONE
    return signed(move.change.mean) + spread(move.change.interval, signed) + stale_mark(stale=move.stale)


def _outweighed(move: Move, modules: Sequence[Move]) -> str:
    others = [module for module in modules if module.part and module is not move and module.line.pair == move.line.pair]
    smaller = [module for module in others if move.size > module.size]
    shown = [str(module.part).upper() + "?" * (move.beyond(module) != "higher") for module in smaller]
    return ", ".join(shown) or NONE


def figure(page: PageSpec) -> Picture:
    """The size of each change: open choices as rings, modules as squares."""
    known = moves(page)
    with mpl.rc_context(), sns.axes_style("whitegrid"), mpl.rc_context({"font.size": 10}):
        drawing = Figure(figsize=(7.5, 1.2 + 0.36 * len(known)), layout="constrained")
        ax = drawing.subplots()
        ax.grid(axis="y", visible=False)
        for part, marker, face, label in ((False, "o", "white", "open choice"), (True, "s", COLOURS["dfmsd"], "module left out")):
            places = [place for place, move in enumerate(known) if move.change is not None and (move.part is not None) == part]
            sizes = [known[place].size for place in places]
            ax.scatter(sizes, places, s=50, marker=marker, facecolor=face, edgecolor=COLOURS["dfmsd"], zorder=3, label=label)
        for place, move in enumerate(known):
            if move.change is None:
                ax.annotate(move.line.missing, (0, place), (6, 0), textcoords="offset points", va="center", color="#777777")
                continue
            if move.change.interval is not None:
                ax.hlines(place, *sized(move.change.interval), color=COLOURS["dfmsd"], linewidth=3, alpha=0.6)
            ax.annotate(move.said, (move.size, place), (0, 6), textcoords="offset points", ha="center", fontsize=8)
        ax.set_yticks(range(len(known)), labels=[move.name for move in known])
        ax.set_ylim(len(known) - 0.5, -0.7)
        ax.set_xlim(0, max(1, ax.get_xlim()[1]))
        ax.set_xlabel(f"change of AP in percent, whatever its sign, scale {page.scale}")
        ax.legend(loc="lower right")
        return Picture.of(drawing, _alt(page, known))


def sized(interval: tuple[float, float]) -> tuple[float, float]:
    """An interval of a change as one of its size."""
    low, high = sorted(map(abs, interval))
    return (0.0 if interval[0] < 0 < interval[1] else low), high


def _alt(page: PageSpec, known: Sequence[Move]) -> str:
    values = ", ".join(f"{move.name} {move.said}" for move in known)
    return f"Change of average precision against DFMSD as it is, at scale {page.scale}, largest first. {values}."
