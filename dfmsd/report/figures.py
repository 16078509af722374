"""Figures: their colours, their panels, and how a notebook shows one, with words for those who cannot see it.

Importing this module in a kernel decides how matplotlib's figures are shown there: as one SVG image, the same bytes for the same
figure. Build figures from :class:`matplotlib.figure.Figure` or :func:`panels`; one of pyplot's is as good once it is
:func:`described`.
"""

from __future__ import annotations

import copy
import html
import io
import math
import re
import textwrap
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from IPython import get_ipython
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter, LogFormatterMathtext

from dfmsd.report.tables import number
from dfmsd.study.rows import TAUGHT, THEN

COLOURS: defaultdict[str, str] = defaultdict(
    lambda: "#777777",
    {
        "baseline": "#555555",
        "mse": "#000000",
        "ssim": "#999977",
        "fkd": "#333377",
        "fgd": "#993300",
        "pkd": "#DD00FF",
        "crosskd": "#550000",
        "mgd": "#E69F00",
        "amd": "#6600AA",
        "dmkd": "#56B4E9",
        "dfmsd": "#D55E00",
    },
)
"""One colour a method on every page: Okabe and Ito's palette, and colours that any colour vision tells from these; else grey."""

PALETTE = "colorblind"
"""Seaborn's, for what is not a method."""

COLUMNS = 3
"""Panels side by side."""

MISSING: Any = {"color": "#555555", "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1}}
"""How a panel names what was not run."""

SIZE = 9
"""Of every letter of every figure, in points: figures are shown as large as they are drawn."""

WIDTH, PHONE = 8.1, 3.7
"""Of the book's column and of a phone's, in inches: each figure is drawn for both."""

FOLD = 20
"""Letters of a name beside a panel on a phone, before it is broken."""

mpl.rcParams["text.parse_math"] = False  # a name may hold dollars

IMAGE_DPI = 144
"""Of images inside a drawing; its lines and letters have no resolution."""


@contextmanager
def style() -> Iterator[None]:
    """How figures of results look."""
    with sns.axes_style("whitegrid"):
        yield


def panels(titles: Iterable[str], height: float = 2.6, left: float = 1.2) -> tuple[Figure, list[Axes]]:
    """A figure with a panel for each title; panels are as wide, and as many in a line, on every page.

    A pair's words have a line for the student, one for the first teacher, and one for those that follow. The height is a panel's
    with its title, ``left`` the room at its side, in inches.

    Example:
        >>> figure, (ax,) = panels(["FCOS R50 taught by GFL R101, then GFL X101"])
        >>> print(ax.get_title())
        FCOS R50
        taught by GFL R101,
        then X101
    """
    titles = list(map(_pair, titles))
    columns = min(len(titles), COLUMNS)
    count = -(-len(titles) // columns)
    figure = Figure(figsize=(left + 2.5 * columns, 0.4 + height * count), layout="constrained")
    axes = figure.subplots(count, columns, sharey=True, squeeze=False).flat
    for ax, title in zip(axes, titles, strict=False):
        ax.set_title(title)
    for ax in axes[len(titles) :]:
        ax.set_axis_off()
    return figure, list(axes[: len(titles)])


def _pair(words: str) -> str:
    """A pair's words in lines; of a teacher of the first one's family only its backbone."""
    student, taught, teachers = words.partition(TAUGHT)
    first, *others = teachers.split(THEN)
    family = first.rpartition(" ")[0] + " "
    after = THEN.join(other.removeprefix(family) for other in others)
    lines = f"{student}\n{taught.strip()} {first}" + f"{THEN[0]}\n{THEN[2:]}{after}" * bool(others)
    return lines.replace("R-CNN ", "R-CNN\N{NO-BREAK SPACE}") if taught else words


def alt(title: str, values: pd.Series[Any], show: Callable[[Any], str] = number) -> str:
    """A figure in words: its title, and each value that it draws, by groups where the index has two levels.

    Example:
        >>> alt("AP in percent", pd.Series({("FCOS", "MGD"): 41.0, ("FCOS", "PKD"): None}))
        'AP in percent. FCOS: MGD 41.0; PKD not run.'
        >>> alt("AP by share", pd.Series({0.5: 41.0, 1.0: 42.0}))
        'AP by share. 0.5 41.0; 1.0 42.0.'
    """
    groups: dict[str, list[str]] = {}
    for label, value in values.items():
        *group, name = label if isinstance(label, tuple) else (label,)
        groups.setdefault(", ".join(map(str, group)), []).append(f"{name} {'not run' if pd.isna(value) else show(value)}")
    return " ".join([f"{title}.", *(f"{group}: {'; '.join(own)}.".removeprefix(": ") for group, own in groups.items())])


def described(figure: Figure, alt: str) -> Figure:
    """The figure with the words for those who cannot see it, which it keeps as its label."""
    figure.set_label(alt)
    plt.close(figure)  # pyplot would show its own figures once more
    return figure


def svg(figure: Figure, width: float = WIDTH) -> str:
    """A figure as SVG with letters of one size, which are text; the same bytes for the same figure.

    Args:
        figure: It stays as it is.
        width: In inches, that it has at most. On a phone panels stand one below another, images two side by side.
    """
    stream = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "dfmsd", "svg.fonttype": "none"}):
        fitted(figure, width).savefig(stream, format="svg", dpi=IMAGE_DPI, metadata={"Date": None, "Creator": None})
    return stream.getvalue()


def fitted(figure: Figure, width: float) -> Figure:
    """A copy of a figure as :func:`svg` draws it: no wider than ``width`` in inches, and all words in places of their own."""
    figure = copy.deepcopy(figure)
    if not isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine):  # of seaborn's grids
        figure.set_layout_engine("constrained")
        _move_legends(figure, "outside right upper")
    for axis in (axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)):
        for ticks, format in ((axis.major, axis.set_major_formatter), (axis.minor, axis.set_minor_formatter)):
            if isinstance(ticks.formatter, LogFormatterMathtext):  # its exponents are small letters
                format(_Powers())
    if (shrinks := width / figure.get_figwidth()) < 1:
        are_images = {bool(ax.images) for ax in figure.axes if ax.has_data()} == {True}
        height = figure.get_figheight() * (shrinks if are_images else 1)
        if width <= PHONE:
            _move_legends(figure, "outside upper left")
            height = _stacked(figure, columns=2 if are_images else 1) or height
        figure.set_size_inches(width, height)
    for text in figure.findobj(Text):
        text.set_fontsize(SIZE)
    if shrinks < 1:
        _fit(figure)
    return figure


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class _Powers(LogFormatter):
    """One way for all labels of an axis: as 0.1 and 10, or where these grow long as 10⁻⁵; exponents are letters of one size."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        if self.axis is None or not super().__call__(x, pos):
            return ""
        low, high = self.axis.get_view_interval()
        if 5e-4 < low and high < 2e4:
            return f"{x:g}"
        power = math.floor(math.log10(x) + 1e-9)
        factor = f"{x / 10**power:g}·".removeprefix("1·")
        return f"{factor}10{str(power).translate(_RAISED)}"


def _fit(figure: Figure) -> None:
    """Break words that are wider than their place, by their extents, and make the figure high enough for all their lines."""
    for ax in figure.axes:
        names = [text.get_text() for text in ax.get_yticklabels()]
        if figure.get_figwidth() <= PHONE and max(map(len, names), default=0) > FOLD:
            ax.set_yticks(ax.get_yticks(), labels=[_folded(name, FOLD) for name in names])
    figure.draw_without_rendering()  # which finds the places
    more: defaultdict[Any, float] = defaultdict(float)
    for kind, of in (("title", lambda ax: ax.title), ("xlabel", lambda ax: ax.xaxis.label)):
        texts = {ax: of(ax) for ax in figure.axes if of(ax).get_text()}
        for ax, text in texts.items():
            row = [other for other in texts if abs(other.bbox.y0 - ax.bbox.y0) < ax.bbox.height / 2]
            starts = max([0.0, *((other.bbox.x1 + ax.bbox.x0) / 2 for other in row if other.bbox.x0 < ax.bbox.x0)])
            ends = min([figure.bbox.width, *((other.bbox.x0 + ax.bbox.x1) / 2 for other in row if other.bbox.x0 > ax.bbox.x0)])
            line = kind, round(ax.bbox.y0)
            more[line] = max(more[line], _break(text, starts, ends))
    for text in figure.texts:  # the label of all axes
        more[text] = _break(text, 0.0, figure.bbox.width) if not text.get_rotation() else 0.0
    for ax in figure.axes:
        lines = [text.get_window_extent() for text in ax.get_yticklabels() if text.get_text() and text.get_visible()]
        for one, other in pairwise(lines):
            apart = abs(one.y0 + one.y1 - other.y0 - other.y1) / 2
            too_high = max(0.0, ((one.height + other.height) / 2 + 2) / apart - 1) if apart else 0.0
            more["names"] = max(more["names"], too_high * ax.bbox.height * len({round(own.bbox.y0) for own in figure.axes}))
    figure.set_figheight(figure.get_figheight() + sum(more.values()) / figure.dpi)


def _break(text: Text, starts: float, ends: float) -> float:
    """Break words where they are wider than from ``starts`` to ``ends``; returns how much higher they are, all in pixels."""
    old, words = text.get_window_extent(), text.get_text()
    middle = (old.x0 + old.x1) / 2
    room = 2 * min(middle - starts, ends - middle) - 6
    if old.width > room:
        text.set_text(_folded(words, int(room / old.width * max(map(len, words.split("\n"))))))
    return text.get_window_extent().height - old.height


def _folded(words: str, letters: int) -> str:
    """Words in lines that are no longer, unless a single word is."""
    wrapper = textwrap.TextWrapper(max(1, letters), break_long_words=False, break_on_hyphens=False)
    return "\n".join(map(wrapper.fill, words.split("\n")))


def _move_legends(figure: Figure, place: Any) -> None:
    for old in list(figure.legends):
        names = [text.get_text() for text in old.get_texts()]
        handles = [handle for handle in old.legend_handles if handle is not None]
        figure.legend(handles, names, title=old.get_title().get_text() or None, loc=place, frameon=False)
        figure.legends.remove(old)  # its own remove() is the list of the figure that was copied


def _stacked(figure: Figure, columns: int) -> float | None:
    """Give a grid of panels fewer columns; returns the figure's new height in inches, None for one that stays as it is.

    Each line of the grid begins a new one. Of images only the first line has titles, which all get here.
    """
    lines: dict[int, list[Axes]] = {}
    titles: dict[int, str] = {}
    for ax in list(figure.axes):
        place = ax.get_subplotspec()
        if place is not None and (ax.axison or ax.has_data() or ax.texts):
            lines.setdefault(place.rowspan.start, []).append(ax)
            titles.setdefault(place.colspan.start, ax.get_title())
            if ax.images and not ax.get_title():
                ax.set_title(titles[place.colspan.start])
        elif place is not None:
            ax.remove()
    places = [(ax, line, at) for line in lines.values() for at, ax in enumerate(line)]
    old = places[0][0].get_gridspec() if places else None
    if old is None or not columns < old.ncols <= 2 * COLUMNS:
        return None
    rows = sum(-(-len(line) // columns) for line in lines.values())
    grid, row = GridSpec(rows, columns, figure=figure), -1
    for ax, _, at in places:
        row += at % columns == 0
        ax.set_subplotspec(grid[row, at % columns])
        if not ax.images:
            ax.tick_params(labelleft=True, labelbottom=True)  # of axes that share them
    return rows * (PHONE / columns + 0.3 if columns > 1 else figure.get_figheight() / old.nrows)


CHOICE = """<style>
svg.drawn { display: block } svg.phone { display: none }
@media (max-width: 600px) { svg.phone { display: block } svg.desk { display: none } }
</style>"""
"""Which of its drawings a figure shows."""


def image(figure: Figure) -> str:
    """A figure as a notebook shows it: HTML with one drawing for a desk and one for a phone, and the words of :func:`described`."""
    if figure.get_figwidth() <= PHONE:
        return _inline(figure, WIDTH, "")
    return CHOICE + _inline(figure, WIDTH, "desk") + _inline(figure, PHONE, "phone")


def _inline(figure: Figure, width: float, kind: str) -> str:
    """A drawing as a part of a page: its identifiers are its own, and its style is of nothing else."""
    found = re.sub(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</defs>", "", svg(figure, width), flags=re.DOTALL)
    used, mark = set(re.findall(r'(?:url\(|href=")#([\w.-]+)', found)), f"f{zlib.crc32(found.encode()):08x}"
    found = re.sub(r' id="([\w.-]+)"', lambda name: f' id="{mark}-{name[1]}"' * (name[1] in used), found)
    found = re.sub(r'(url\(|href=")#', rf"\1#{mark}-", found)
    points, box = re.findall(r'<svg[^>]* width="([\d.]+)pt"[^>]* viewBox="([^"]*)"', found)[0]
    look = f"width: {points}pt; max-width: 100%; height: auto; background: #fff; stroke-linejoin: round; stroke-linecap: butt"
    words = html.escape(str(figure.get_label()), quote=True)
    head = f'<svg class="drawn {kind}" style="{look}" viewBox="{box}" role="img" aria-label="{words}">'
    return re.sub(r".*?<svg[^>]*>", lambda _: head, found, count=1, flags=re.DOTALL)


def _register() -> None:
    if (shell := get_ipython()) is None:
        return
    import matplotlib_inline.backend_inline  # noqa: F401  # it registers its own way to show figures when first imported

    formatters = shell.display_formatter.formatters
    for kind in ("image/png", "image/svg+xml"):
        formatters[kind].pop(Figure, None)
    formatters["text/html"].for_type(Figure, image)


_register()
