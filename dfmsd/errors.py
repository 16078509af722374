"""Errors that a user can act on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from reprlib import Repr
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

# pydantic is imported where it is needed: the command that tells of missing packages uses this module.
Model = TypeVar("Model", bound="BaseModel")


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


def known(what: str, given: Iterable[Any], valid: Iterable[str], part: str) -> None:
    """Refuse names that something does not have, with the nearest one that it has; see :func:`validated`."""
    valid = list(valid)
    if unknown := sorted(map(str, set(given) - set(valid))):
        raise StudyError(f"{what} has no {part} {unknown[0]!r}: {suggest(unknown[0], valid)}")


def validated(model: type[Model], what: str, values: Mapping[str, Any] | BaseModel, part: str = "option") -> Model:
    """A frozen model from plain values.

    Args:
        model: Its class.
        what: What an error calls it.
        values: By the names of its fields, or a model of its kind.
        part: What an error calls a field.

    Raises:
        StudyError: in one line, see :func:`explained`.
    """
    from pydantic import BaseModel, ValidationError

    if not isinstance(values, (Mapping, BaseModel)):
        raise StudyError(f"{what} = {values!r}: give a dict, such as dict({next(iter(model.model_fields))}=...)")
    values = dict(values)
    known(what, values, model.model_fields, part)
    try:
        return model(**values)
    except ValidationError as error:
        raise StudyError(f"{what}: {explained(error, model, part)}") from None


def explained(error: ValidationError, model: type[BaseModel], part: str = "parameter") -> str:
    """The first thing that is wrong with a model's values, in one line: where, what stands there, and what would be right.

    Args:
        error: What the model says.
        model: Its class; the nearest name of an unknown field is looked for where the field stands.
        part: What to call a field.
    """
    first = error.errors(include_url=False)[0]
    place = ".".join(part if part.isprintable() and len(part) <= 80 else _SHORT.repr(part) for part in map(str, first["loc"]))
    message = " ".join(first["msg"].removeprefix("Value error, ").split())
    if first["type"] == "extra_forbidden":
        return f"unknown {part} {place!r}: {suggest(str(first['loc'][-1]), _fields(model, first['loc'][:-1]))}"
    if first["type"] == "missing":
        return f"the {part} {place!r} is missing"
    return f"{place} = {_SHORT.repr(first['input'])}: {message}" if place else message


_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = 80
_SHORT.maxlevel = 3


def _fields(kind: Any, place: tuple[int | str, ...]) -> list[str]:
    """The names that are valid at a place of a model, below its fields, items and alternatives."""
    if fields := getattr(kind, "model_fields", None):
        if not place:
            return list(fields)
        below = fields.get(str(place[0]))
        # What stands before the field's name is the tag of an alternative.
        return _fields(kind, place[1:]) if below is None else _fields(below.annotation, place[1:])
    rest = place[1:] if get_origin(kind) in (tuple, list, dict) else place
    return next((found for one in get_args(kind) if (found := _fields(one, rest))), [])
