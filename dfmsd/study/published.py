"""The papers' own numbers, quoted in ``params/published.yaml``."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Annotated, Self, TypeVar

from pydantic import AfterValidator, Field, model_validator

from dfmsd.errors import StudyError, suggest, validated
from dfmsd.study import params, paths, zoo
from dfmsd.study.rows import JOIN, RECIPES
from dfmsd.study.spec import Frozen

METRICS = ("AP", "AP_S", "AP_M", "AP_L", "AR", "AR_S", "AR_M", "AR_L")
"""The paper's, in its order; in percent."""

Named = TypeVar("Named", bound=Iterable[str])


def _known(metrics: Named) -> Named:
    for name in metrics:
        if name not in (*METRICS, "name"):
            raise ValueError(f"unknown metric {name!r}: {suggest(name, METRICS)}")
    return metrics


Percent = Annotated[float, Field(ge=0, le=100)]


class Published(Frozen):
    """A row of the papers' tables, as quoted in ``params/published.yaml``."""

    student: str
    recipe: str
    name: str = ""
    """Of a row that its recipe alone does not tell from another, see :class:`dfmsd.study.rows.Row`."""
    teachers: tuple[str, ...] = ()
    """None: the numbers hold whoever teaches, as a baseline's do."""
    metrics: Annotated[dict[str, Percent], AfterValidator(_known)]
    source: str = ""
    """Where the numbers are from, if not from their own row of the table."""
    reconstructed: Annotated[tuple[str, ...], AfterValidator(_known)] = ()
    """What the table itself does not show legibly: metrics, or ``name``, which of the recipe's rows this is."""
    note: str = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            for network in (self.student, *self.teachers):
                zoo.label(network)
        except StudyError as error:
            raise ValueError(str(error)) from None
        for part in self.recipe.split(JOIN):
            if part not in RECIPES:
                raise ValueError(f"unknown method {part!r}: {suggest(part, RECIPES)}")
        return self


class _Table(Frozen):
    title: str = ""
    rows: tuple[Published, ...]
    also: tuple[str, ...] = ()
    """What it reports besides, that no page has a row for."""


class _File(Frozen):
    source: str = ""
    tables: dict[int | str, _Table]


@cache
def _tables() -> dict[int | str, _Table]:
    return validated(_File, "params/published.yaml", params.read(paths.PARAMS / "published.yaml"), part="field").tables


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
    return list(_tables()[table].rows)


def also(table: int | str | tuple[int, ...]) -> list[str]:
    """What a table of :func:`published` reports besides, that no page has a row for."""
    if isinstance(table, tuple):
        return [text for one in table for text in also(one)]
    return list(_tables()[table].also)
