"""Errors that a user can act on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

Model = TypeVar("Model", bound=BaseModel)


class StudyError(Exception):
    """Something the user can mend: one line that says what was wrong, where, and what would be right.

    The command line prints the message alone and exits with status 2; a notebook shows it without a traceback.
    """

    def _render_traceback_(self) -> list[str]:
        """What Jupyter and papermill show of it."""
        return [f"{type(self).__name__}: {self}"]


def suggest(name: str, valid: Iterable[str]) -> str:
    """The end of an error message about an unknown name: the nearest valid one, or all of them.

    Example:
        >>> suggest("retinanet_r10", ["retinanet_r101", "gfl_r101"])
        "did you mean 'retinanet_r101'?"
        >>> suggest("zzz", ["mgd", "dmkd"])
        'valid: dmkd, mgd'
    """
    names = sorted(valid)
    near = get_close_matches(name, names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"valid: {', '.join(names)}"


def validated(model: type[Model], what: str, values: Mapping[str, Any], part: str = "option") -> Model:
    """A frozen model from plain values.

    Args:
        model: Its class.
        what: What an error calls it.
        values: By the names of its fields.
        part: What an error calls a field.

    Raises:
        StudyError: in one line, for an unknown field (the nearest is suggested) or the first value that makes no sense.
    """
    if unknown := sorted(set(values) - set(model.model_fields)):
        raise StudyError(f"{what} has no {part} {unknown[0]!r}: {suggest(unknown[0], model.model_fields)}")
    try:
        return model(**values)
    except ValidationError as error:
        problem = error.errors()[0]
        place = "".join(f"{part} = {problem['input']!r}: " for part in problem["loc"][-1:])
        raise StudyError(f"{what}: {place}{problem['msg'].removeprefix('Value error, ')}") from None
