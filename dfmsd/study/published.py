"""The papers' own numbers, quoted in ``params/published.yaml``."""

from __future__ import annotations

from functools import cache
from typing import Any

import yaml

from dfmsd.errors import StudyError
from dfmsd.study import paths
from dfmsd.study.spec import Frozen


class Published(Frozen):
    """A row of the papers' tables, as quoted in ``params/published.yaml``."""

    student: str
    recipe: str
    name: str = ""
    """Of a row that its recipe alone does not tell from another, see :class:`dfmsd.study.rows.Row`."""
    teachers: tuple[str, ...] = ()
    """None: the numbers hold whoever teaches, as a baseline's do."""
    metrics: dict[str, float]
    source: str = ""
    """Where the numbers are from, if not from their own row of the table."""
    reconstructed: tuple[str, ...] = ()
    """What the table itself does not show legibly: metrics, or ``name``, which of the recipe's rows this is."""
    note: str = ""


@cache
def _tables() -> dict[int | str, dict[str, Any]]:
    return yaml.safe_load((paths.PARAMS / "published.yaml").read_text())["tables"]  # type: ignore[no-any-return]


def published(table: int | str | tuple[int, ...]) -> list[Published]:
    """The rows of a table of the paper, of several, or of a page's other source by its name.

    Raises:
        StudyError: if the paper has no such table.

    Example:
        >>> published(3)[3].metrics["AP"]
        41.2
    """
    if isinstance(table, tuple):
        return [row for one in table for row in published(one)]
    if table not in _tables():
        raise StudyError(f"the paper has no table {table}: valid are {', '.join(map(str, _tables()))}")
    return [Published.model_validate(row) for row in _tables()[table]["rows"]]


def also(table: int | str | tuple[int, ...]) -> list[str]:
    """What a table of :func:`published` reports besides, that no page has a row for.

    Example:
        >>> also(3)
        []
    """
    if isinstance(table, tuple):
        return [text for one in table for text in also(one)]
    return list(_tables()[table].get("also", []))
