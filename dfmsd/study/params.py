"""How the files of ``params/`` are read: YAML in which nothing is lost without a word."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from dfmsd.errors import StudyError
from dfmsd.study import files, paths

MOST = 100_000
"""Values that a file may have, those that it repeats by aliases counted each time."""


def read(file: Path) -> dict[Any, Any]:
    """What a YAML file says, one value for each name; it is parsed once a process, so do not change it.

    Raises:
        StudyError: if it is no YAML of names and values, a name stands twice at one place, a number is not finite, or aliases
            make it endless.
    """
    name = f"params/{file.relative_to(paths.PARAMS)}" if file.is_relative_to(paths.PARAMS) else str(file)
    try:
        return parsed(files.read_text(file), name)
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"{name} cannot be read: {error}") from None


@cache
def parsed(text: str, name: str) -> dict[Any, Any]:
    r"""The same of a text; ``name`` is what an error calls it.

    Example:
        >>> parsed("epochs: 1", "params/mine.yaml")
        {'epochs': 1}
        >>> parsed("epochs: 1\nepochs: 2", "params/mine.yaml")
        Traceback (most recent call last):
        dfmsd.errors.StudyError: params/mine.yaml, line 2: 'epochs' stands there twice
    """
    try:
        loader = yaml.SafeLoader(text)  # not libyaml's: nested deeply, a text would end the process
        top = loader.get_single_node()
        if not isinstance(top, yaml.MappingNode):
            raise StudyError(f"{name} must hold lines of 'parameter: value'")
        if _size(top, loader, name, {}) > MOST:
            raise StudyError(f"{name} says more than {MOST} values by its aliases: write out what it means")
        return loader.construct_document(top)  # type: ignore[no-any-return]
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise StudyError(f"{name} is not YAML{line}: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise StudyError(f"{name} is not YAML: {str(error).splitlines()[0]}") from None


def _size(node: yaml.Node, loader: yaml.SafeLoader, name: str, known: dict[int, int]) -> int:
    """Values of a node and of all below it, aliases written out; refuses what :func:`read` refuses."""
    where = f"{name}, line {node.start_mark.line + 1}"
    if id(node) in known:
        if not known[id(node)]:
            raise StudyError(f"{where}: an alias names what it is part of")
        return known[id(node)]
    known[id(node)] = 0
    below: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        given = set()
        for key, value in node.value:
            below += [key, value]
            if isinstance(key, yaml.ScalarNode) and not key.tag.endswith(":merge"):
                said = loader.construct_object(key, deep=True)
                if said in given:
                    raise StudyError(f"{name}, line {key.start_mark.line + 1}: {said!r} stands there twice")
                given.add(said)
    elif isinstance(node, yaml.SequenceNode):
        below = node.value
    elif isinstance(node, yaml.ScalarNode):
        node.value.encode()  # half of a surrogate pair could not be written again
        if node.tag.endswith(":float") and not math.isfinite(loader.construct_yaml_float(node)):
            raise StudyError(f"{where}: {node.value} is not a finite number")
    known[id(node)] = 1 + sum(_size(one, loader, name, known) for one in below)
    return known[id(node)]
