"""Figures: their colours, their panels, and how a notebook shows one, with words for those who cannot see it.

Importing this module in a kernel decides how matplotlib's figures are shown there: as one SVG image, the same bytes for the same
figure. Build figures from :class:`matplotlib.figure.Figure` or :func:`panels`; one of pyplot's is as good once it is
:func:`described`.
"""

from __future__ import annotations

import base64
import html
import io
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from IPython import get_ipython
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dfmsd.report.tables import number

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
        "amd": "#33DDFF",
        "dmkd": "#56B4E9",
        "dfmsd": "#D55E00",
    },
)
"""One colour a method on every page: Okabe and Ito's palette, and colours that any colour vision tells from these; else grey."""

PALETTE = "colorblind"
"""Seaborn's, for what is not a method."""

COLUMNS = 3
"""Panels side by side."""

MISSING: Any = {"fontsize": 8, "color": "#777777", "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1}}
"""How a panel names what was not run."""

SHRINKS = 0.7
"""How small a figure becomes on a narrow screen."""

mpl.rcParams["text.parse_math"] = False  # a name may hold dollars

IMAGE_DPI = 144
"""Of images inside a drawing; its lines and letters have no resolution."""


@contextmanager
def style() -> Iterator[None]:
    """How figures of results look."""
    with sns.axes_style("whitegrid"), mpl.rc_context({"font.size": 10}):
        yield


def panels(titles: Iterable[str], height: float = 2.6, left: float = 1.2) -> tuple[Figure, list[Axes]]:
    """A figure with a panel for each title; panels are as wide, and as many in a line, on every page.

    An arrow in a title begins a line. The height is a panel's with its title, ``left`` the room at the vertical axis, in inches.
    """
    titles = [title.replace(" ← ", "\n← ").replace(" → ", "\n→ ") for title in titles]
    columns = min(len(titles), COLUMNS)
    count = -(-len(titles) // columns)
    figure = Figure(figsize=(left + 2.5 * columns, 0.4 + height * count), layout="constrained")
    axes = figure.subplots(count, columns, sharey=True, squeeze=False).flat
    for ax, title in zip(axes, titles, strict=False):
        ax.set_title(title, fontsize=9)
    for ax in axes[len(titles) :]:
        ax.set_axis_off()
    return figure, list(axes[: len(titles)])


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


def svg(figure: Figure) -> str:
    """A figure as SVG, the same bytes for the same figure."""
    stream = io.StringIO()
    for axis in (axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)):
        for label in axis.get_ticklabels(which="both"):  # so that a name's is there before it is drawn
            label.set_parse_math(axis.get_scale() == "log")  # powers of ten
    with mpl.rc_context({"svg.hashsalt": "dfmsd", "text.parse_math": True}):
        figure.savefig(stream, format="svg", dpi=IMAGE_DPI, metadata={"Date": None, "Creator": None})
    return stream.getvalue()


def image(figure: Figure) -> str:
    """A figure as a notebook shows it: one image in HTML, with the words of :func:`described`.

    On a narrow screen it shrinks as far as its letters can be read, and scrolls from there on.
    """
    data = base64.b64encode(svg(figure).encode()).decode()
    look = f"max-width: 100%; min-width: {SHRINKS * figure.get_figwidth():.1f}in; height: auto; background: #fff"
    words = html.escape(str(figure.get_label()), quote=True)
    shown = f'<img class="figure" style="{look}" src="data:image/svg+xml;base64,{data}" alt="{words}">'
    return f'<div style="overflow-x: auto">{shown}</div>'


def _register() -> None:
    if (shell := get_ipython()) is None:
        return
    import matplotlib_inline.backend_inline  # noqa: F401  # it registers its own way to show figures when first imported

    formatters = shell.display_formatter.formatters
    for kind in ("image/png", "image/svg+xml"):
        formatters[kind].pop(Figure, None)
    formatters["text/html"].for_type(Figure, image)


_register()
