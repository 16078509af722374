"""Tables as pandas Stylers that render in a notebook and in the book without scripts, and how numbers are written in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd
from pandas.io.formats.style import Styler

NONE = "–"

STALE = "stale"
"""What a page calls a number if the code behind it has changed since."""


def styled(frame: pd.DataFrame, name: str, caption: str = "") -> Styler:
    """A table without scripts; names instead of random ids, so that one input gives one output."""
    styler = Styler(frame, uuid=name, cell_ids=False, table_attributes='class="study"')
    return styler.set_caption(caption) if caption else styler


def grouped(frame: pd.DataFrame, groups: Sequence[str], labels: Sequence[str], name: str, caption: str) -> Styler:
    """A table with a line of its own above each group: a first column of long names would push the numbers off the page."""
    if frame.empty:
        return styled(frame, name, caption)
    frame = frame.reset_index(drop=True)
    pieces: list[pd.DataFrame] = []
    names: list[str] = []
    heads: list[int] = []
    for group in dict.fromkeys(groups):
        places = [place for place, other in enumerate(groups) if other == group]
        head = pd.DataFrame("", index=[0], columns=frame.columns)
        pieces += [head, frame.loc[places]]
        heads.append(len(names))
        names += [group, *(labels[place] for place in places)]
    whole = pd.concat(pieces)
    whole.index = pd.Index(names)
    # Taking no width, the long name runs over the empty cells beside it.
    style = "max-width: 0; overflow: visible; padding-top: 0.8rem"
    styler = styled(whole, name, caption)
    styler.apply_index(lambda index: [style if place in heads else "font-weight: normal" for place in range(len(index))])
    return styler


def number(value: float | None) -> str:
    """One decimal, as COCO's results are given.

    Example:
        >>> number(41.04), number(None)
        ('41.0', '–')
    """
    return NONE if value is None else f"{value:.1f}"


def signed(value: float | None) -> str:
    """A difference with its sign.

    Example:
        >>> signed(1.26), signed(-0.04)
        ('+1.3', '−0.0')
    """
    return NONE if value is None else f"{value:+.1f}".replace("-", "−")


def below(text: str, *, flag: bool = False) -> str:
    """A smaller line below what stands before it in a cell, in the colour of a warning if it is one; nothing without a text."""
    return f'<span class="interval{" flag" * flag}">{text}</span>' if text else ""


def stale_mark(*, stale: bool) -> str:
    """What stands below a number that is stale; nothing otherwise."""
    return below(STALE if stale else "", flag=True)


def spread(interval: tuple[float, float] | None, show: Callable[[float], str] = number, mark: str = "") -> str:
    """An interval on a line of its own below a number; nothing without one."""
    return "" if interval is None else below(f"{show(interval[0])} to {show(interval[1])}{mark}")


def record_link(key: str, text: str) -> str:
    """A text that leads to a run's record, from a page of the book."""
    return f'<a href="../records/{key}.json">{text}</a>'


def threads(count: int) -> str:
    """A number of threads in words.

    Example:
        >>> threads(1), threads(2)
        ('1 thread', '2 threads')
    """
    return f"{count} thread{'s' * (count != 1)}"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, whichever is read most easily.

    Example:
        >>> duration(40), duration(240), duration(9000)
        ('40 s', '4 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
