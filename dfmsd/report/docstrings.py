"""What a docstring says, as Markdown for a page: its sentences, its equation, its sections."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SECTIONS = ("Where", "Args", "Returns", "Raises", "Note", "Deviations", "Example")

MATHS = re.compile(r"^\.\. math::\n((?:[ \t]+\S.*\n|\n)+)", re.MULTILINE)
ROLES = (
    (re.compile(r":math:`([^`]*)`"), r"$\1$"),
    (re.compile(r":cite:([pt]):`([^`]*)`"), r"{cite:\1}`\2`"),
    (re.compile(r":\w+:`~(?:[\w.]*\.)?(\w+)`"), r"`\1`"),
    (re.compile(r":\w+:`([\w.]+)`"), r"`\1`"),
    (re.compile(r"``([^`]*)``"), r"`\1`"),
)
"""From reStructuredText to MyST, in this order."""


@dataclass(frozen=True)
class Docstring:
    """A docstring, taken apart; every part is Markdown with MyST's roles."""

    text: str
    """What stands before the first section, equations set off."""
    sections: Mapping[str, str]
    """By name, those of :data:`SECTIONS` that it has."""
    equations: tuple[str, ...]
    """In TeX."""


def read(documented: Any) -> Docstring:
    """The docstring of a module, class or function.

    Example:
        >>> from dfmsd.errors import suggest
        >>> read(suggest).text
        'The end of an error message about an unknown name: the nearest valid one, or all of them.'
    """
    plain = inspect.getdoc(documented) or ""
    # The names of sections stand at the margin, what belongs to them is indented.
    text, *rest = re.split(rf"^({'|'.join(SECTIONS)}):\n", f"{plain}\n", flags=re.MULTILINE)
    sections = {name: markdown(textwrap.dedent(body)) for name, body in zip(rest[::2], rest[1::2], strict=True)}
    equations = tuple(_dedented(block) for block in MATHS.findall(text))
    return Docstring(markdown(text), sections, equations)


def markdown(text: str) -> str:
    """reStructuredText, as far as our docstrings use it, as MyST Markdown.

    Example:
        >>> markdown("See :func:`~dfmsd.losses.mgd.mgd_loss` :cite:p:`mgd` for :math:`x` in ``[0, 1]``.")
        'See `mgd_loss` {cite:p}`mgd` for $x$ in `[0, 1]`.'
    """
    found: list[str] = []

    def put_aside(match: re.Match[str]) -> str:
        found.append(f"$$\n{_dedented(match[1])}\n$$\n")
        return f"\0{len(found) - 1}\0\n"

    text = MATHS.sub(put_aside, text)
    for pattern, replacement in ROLES:
        text = pattern.sub(replacement, text)
    return re.sub(r"\0(\d+)\0", lambda match: found[int(match[1])], text).strip()


def citations(documented: Any) -> tuple[str, ...]:
    """The keys that a docstring cites, each once.

    Example:
        >>> from dfmsd.losses import mgd
        >>> citations(mgd)
        ('mgd',)
    """
    keys = re.findall(r":cite:[pt]:`([^`]*)`", inspect.getdoc(documented) or "")
    return tuple(dict.fromkeys(key.strip() for group in keys for key in group.split(",")))


def _dedented(block: str) -> str:
    return textwrap.dedent(block).strip()
