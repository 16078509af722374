"""What the notebook that distils a detector of one's own is given, checked before anything is computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from dfmsd import stages
from dfmsd.errors import validated
from dfmsd.study.spec import Frozen

Pair = tuple[str, str]
"""A config and a checkpoint: one teacher a stage, whose boxes the notebook can look at."""


class Asked(Frozen):
    """The notebook's parameters."""

    config: str
    teachers: tuple[Pair, ...] = Field(min_length=1)
    work_dir: str
    switches: dict[str, Any]


def asked(**parameters: Any) -> Asked:
    """The notebook's parameters, out of which the stages can be made.

    Raises:
        StudyError: in one line, for a value of another kind, and for what :func:`dfmsd.stages.configs` refuses.

    Example:
        >>> asked(config="my_detector.py", teachers=None, work_dir="work", switches={})
        Traceback (most recent call last):
        dfmsd.errors.StudyError: distil.ipynb: teachers = None: Input should be a valid tuple
    """
    found = validated(Asked, "distil.ipynb", parameters, "parameter")
    teachers: Any = found.teachers
    stages.configs(found.config, teachers, work_dir=Path(found.work_dir), ratios=stages.GROUND_TRUTH, **found.switches)
    return found
