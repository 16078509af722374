"""Errors that a user can act on."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class StudyError(Exception):
    """Something the user can mend: one line that says what was wrong, where, and what would be right.

    The command line prints the message alone and exits with status 2.
    """


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
