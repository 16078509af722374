"""Tables, and how numbers are written: they read the same in JupyterLab, in what papermill and nbconvert write, and in the book."""

from __future__ import annotations

import html
import os
import re
import zlib
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import Markdown
from pandas.io.formats.style import Styler

from dfmsd.report.glossary import hover
from dfmsd.study import paths

NONE = "–"
"""What stands where there is no number."""

IN_BOOK = "DFMSD_IN_BOOK"
"""Set where a notebook is executed for the book."""

_PAPER = "background: var(--pst-color-background, var(--jp-layout-color0, #fff))"
_LOOK = {
    "": "font-size: 0.8rem; font-variant-numeric: tabular-nums; border-collapse: collapse; margin: 0.5rem 0",
    "caption": "caption-side: bottom; text-align: left; font-size: 0.8rem; padding-top: 0.4rem; min-width: 20rem",
    # Whatever is longer than a narrow screen is read without scrolling the numbers beside it.
    "caption > div": "position: sticky; left: 0; max-width: calc(100vw - 3rem)",
    "th > div": "width: max-content; max-width: min(48rem, calc(100vw - 3rem)); white-space: normal",
    "th, td": "padding: 0.2rem 0.4rem; text-align: right; vertical-align: top; white-space: nowrap",
    "thead th": "text-align: center; white-space: normal",
    # The names stay in sight when a narrow screen scrolls the numbers.
    "th.row_heading, th.blank": f"text-align: left; font-weight: normal; position: sticky; left: 0; {_PAPER}",
    "th.row_heading:first-child": "white-space: normal; max-width: min(24rem, 40vw)",
}
_HEAD = "min-width: 0; max-width: 0; overflow: visible; white-space: nowrap; padding-top: 0.8rem; font-weight: bold; z-index: 1"
"""Taking no width, the long name of a group, in a box of its own, runs over the empty cells beside it."""


# Whatever is shown goes through one of these three: text of records and params may hold HTML, Markdown or scripts.


def safe(value: Any) -> Any:
    """A value, or a label of one or several levels, as HTML shows it; numbers stay numbers.

    Example:
        >>> safe("<b>"), safe(("a", "<b>")), safe(41.0)
        ('&lt;b&gt;', ('a', '&lt;b&gt;'), 41.0)
    """
    if isinstance(value, (tuple, list)):
        return type(value)(map(safe, value))
    if value is None or value is pd.NA or (isinstance(value, (int, float, np.generic)) and not isinstance(value, str)):
        return value
    return html.escape(str(value))


def plain(text: str) -> str:
    r"""Text as Markdown shows it, as it stands, in one line.

    Example:
        >>> plain("a_b | <b>")
        'a\\_b \\| \\<b\\>'
    """
    return re.sub(r"([\\`*_{}\[\]<>$~|#&!^@])", r"\\\1", " ".join(text.split()))


def markdown(text: str) -> Markdown | None:
    """Markdown for a notebook, without the HTML and the addresses by which it could run scripts; None if there are no words."""
    if not text.strip():
        return None  # IPython would show its class and address
    return Markdown(re.sub(r"(?i)(script|data)\s*:(?=\S)", r"\1 :", text.replace("<", "&lt;")))


NOTHING = markdown("Nothing is run yet that could be shown here.")
"""What a section shows that has nothing else."""


def styled(frame: pd.DataFrame, caption: str = "", *, name: str = "", links: pd.DataFrame | None = None, **format: Any) -> Styler:
    """A table: the frame keeps its numbers, the Styler writes them, without scripts or a style sheet from elsewhere.

    One decimal, a dash for what is missing, a sign in columns called Δ, and two numbers as an interval, unless told otherwise. All
    text of the frame and of the caption is escaped here (:func:`safe`). If the index has two levels or more, each group of the
    first gets a line of its own above its rows.

    Args:
        frame: What is shown; labels of rows are unique.
        caption: Below the table.
        name: Of the table, as an anchor; empty: a checksum of what it shows, so that one input gives one output.
        links: Keys of records behind the numbers of some columns; missing where there is none.
        format: For :meth:`pandas.io.formats.style.Styler.format`; a ``formatter`` is a dictionary by column.

    Example:
        >>> shown = styled(pd.DataFrame({"AP": [41.04, None]}, index=["MGD", "<b>"]), "In percent.").to_html()
        >>> "41.0" in shown, "–" in shown, "&lt;b&gt;" in shown
        (True, True, True)
    """
    words = [column for column in frame if frame[column].map(lambda value: isinstance(value, str)).any()]
    frame = frame.fillna(dict.fromkeys(words, ""))
    for at, dtype in enumerate(frame.dtypes):
        if not pd.api.types.is_numeric_dtype(dtype):
            frame.isetitem(at, pd.array([safe(value) for value in frame.iloc[:, at]], dtype=object))
    frame = frame.rename(index=safe, columns=safe)
    links = None if links is None else links.rename(index=safe, columns=safe)
    words = [safe(column) for column in words]
    heads: list[Any] = []
    if frame.index.nlevels > 1 and len(frame):
        frame, heads = _with_heads(frame)
    name = name or f"{zlib.crc32((caption + frame.to_csv()).encode()):08x}"
    styler = Styler(frame, uuid=re.sub(r"[^\w-]", "-", name), cell_ids=False).set_caption(
        f"<div>{hover(html.escape(caption, quote=False))}</div>" * bool(caption)
    )
    styler.format_index(lambda label: hover(str(label)), axis="columns")
    shows = {column: _show(column) for column in frame} | {safe(key): show for key, show in format.pop("formatter", {}).items()}
    options: dict[str, Any] = {"precision": 1, "na_rep": NONE} | format
    for column in frame.select_dtypes("float"):
        shows[column] = _with_minus(shows.get(column) or f"{{:.{options['precision']}f}}")
    styler.format({column: show for column, show in shows.items() if show is not None}, **options)
    for axis in ("index", "columns"):
        styler.hide(names=True, axis=axis)
    if heads:
        head = _HEAD.replace(";", " !important;")  # it says otherwise than _LOOK
        styler.format(na_rep="", subset=pd.IndexSlice[heads, :]).hide(axis="index", level=0)
        groups = {head[0] for head in heads}
        styler.format_index(lambda label: f"<div>{label}</div>" if label in groups else str(label), level=1)
        styler.apply_index(lambda labels: [head if label in heads else "" for label in frame.index], level=1)
    for column, keys in () if links is None else links.items():
        for row, key in keys.dropna().items() if column in frame else ():
            styler.format(partial(_linked, key, shows[column] or number), subset=([row], [column]))
    styles = [{"selector": selector, "props": props} for selector, props in _LOOK.items()]
    # A wide screen may squeeze words to keep all columns in sight; a narrow one, which scrolls anyhow, does not.
    least = "min-width: clamp({}, 60rem - 100vw, min({}, {}ch))".format
    names = frame.index.get_level_values(1 if heads else 0).difference([head[0] for head in heads])
    longest = max((len(str(name)) for name in names), default=0)
    styles.append({"selector": "th.row_heading:first-child", "props": least("7rem", "40vw", longest)})
    for at, column in enumerate(frame):
        label = column[-1] if isinstance(column, tuple) else column
        styles.append({"selector": f"th.col{at}", "props": least("0rem", "6rem", len(str(label)))})
        if column in words:
            look = "text-align: left; white-space: normal; max-width: 24rem; "
            look += least("0rem", "12rem", frame[column].map(lambda value: len(str(value))).max())
            styles.append({"selector": f"td.col{at}", "props": look})
    return styler.set_table_styles(styles)  # type: ignore[arg-type]


def pipes(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table as Markdown; its cells are Markdown already (:func:`plain`).

    Example:
        >>> print(pipes(["you have", "take"], [("a teacher", "MSE")]), end="")
        | you have | take |
        | --- | --- |
        | a teacher | MSE |
    """
    return "".join(f"| {' | '.join(row)} |\n" for row in [heads, ["---"] * len(heads), *rows])


def _with_minus(show: str | Callable[[Any], str]) -> Callable[[Any], str]:
    """A format with a minus sign in the place of a hyphen."""
    return lambda value: (show.format(value) if isinstance(show, str) else show(value)).replace("-", "−")


def _show(column: Hashable) -> Any:
    """How a column is written of which nothing else is said; None: as pandas would."""
    label = str(column[-1] if isinstance(column, tuple) else column)
    return interval if "95 %" in label else signed if label.startswith("Δ") else None


def _with_heads(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[Any]]:
    """The frame with an empty row before each group of its first level, and the labels of these rows."""
    rest = [""] * (frame.index.nlevels - 2)
    groups = list(dict.fromkeys(frame.index.get_level_values(0)))
    heads = [(group, group, *rest) for group in groups]
    order = [label for head in heads for label in (head, *(own for own in frame.index if own[0] == head[0]))]
    # A whole number stays one beside the empty cells.
    whole = frame.astype({column: "Int64" for column in frame.select_dtypes("integer").columns})
    return whole.reindex(pd.MultiIndex.from_tuples(order, names=frame.index.names)), heads


def _linked(key: str, show: Any, value: float) -> str:
    words = show(value) if callable(show) else str(show).format(value)
    return f'<a href="{html.escape(address(f"book/records/{key}.json"))}">{words}</a>'


def address(file: str) -> str:
    """Where a file of the study lies, seen from the folder in which a notebook is executed; the book has its own copy there."""
    return (Path(os.path.relpath(paths.ROOT)) / file).as_posix()


def in_book() -> bool:
    """Whether a notebook is executed for the book: links to the book's own pages lead somewhere there, and nowhere else."""
    return IN_BOOK in os.environ


def breakable(name: str) -> str:
    """A long name as HTML that may break after a slash or an underscore; for a cell, whose text is escaped already.

    Example:
        >>> breakable("gfl/gfl_r50")
        'gfl/<wbr>gfl_<wbr>r50'
    """
    return re.sub(r"(?<=[/_])", "<wbr>", name)


def number(value: float | None) -> str:
    """One decimal, as COCO's results are given.

    Example:
        >>> number(41.04), number(None)
        ('41.0', '–')
    """
    return NONE if value is None or pd.isna(value) else f"{value:.1f}".replace("-", "−")


def signed(value: float | None) -> str:
    """A difference with its sign.

    Example:
        >>> signed(1.26), signed(-0.04)
        ('+1.3', '−0.0')
    """
    return NONE if value is None or pd.isna(value) else f"{value:+.1f}".replace("-", "−")


def interval(found: Iterable[float] | None) -> str:
    """The two ends of an interval.

    Example:
        >>> interval((37.5, 40.52)), interval(None)
        ('37.5 to 40.5', '–')
    """
    return NONE if not isinstance(found, Iterable) else " to ".join(map(number, found))
