"""Pages: one YAML each in ``params/<notebook>/``, executed by the notebook of that folder's name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

from dfmsd import paths, scales, zoo
from dfmsd.errors import StudyError, suggest
from dfmsd.methods import METHODS
from dfmsd.spec import Frozen, RunSpec
from dfmsd.stages import Options, Row, chain, check

LABELS = {"baseline": "baseline", "equal_budget": "DMKD, equal budget"} | {
    name: model.model_fields["type"].default for name, model in METHODS.items()
}


class Group(Frozen):
    """Rows that share a student and its teachers."""

    student: str
    teachers: tuple[str, ...]
    recipes: tuple[str, ...] = Field(min_length=1)
    options: Options = Options()
    any_order: bool = False

    def rows(self) -> tuple[Row, ...]:
        """One row a recipe."""
        fields = self.model_dump(exclude={"recipes"})
        return tuple(Row(recipe=recipe, **fields) for recipe in self.recipes)


@dataclass(frozen=True)
class Entry:
    """A row with one seed, and the chain of runs behind it."""

    place: int
    """Of the row in the table, from 0."""
    row: Row
    seed: int
    runs: tuple[RunSpec, ...]


class PageSpec(Frozen):
    """A page: its fields are the keys of its YAML and the parameters of its notebook."""

    page: str
    title: str
    question: str
    table: int | None = None
    """The paper's table whose numbers stand beside ours (``params/published.yaml``)."""
    groups: tuple[Group, ...] = Field(min_length=1)
    scale: Literal["smoke", "mini", "gpu", "coco"] = "mini"
    seeds: tuple[int, ...] | None = None
    """None: the scale's."""

    def rows(self) -> tuple[Row, ...]:
        """All rows, in the order of the table."""
        return tuple(row for group in self.groups for row in group.rows())

    def entries(self) -> list[Entry]:
        """Each row with each seed."""
        scale = scales.get(self.scale)
        return [
            Entry(place, row, seed, chain(row, scale, seed))
            for place, row in enumerate(self.rows())
            for seed in self.seeds or scale.seeds
        ]

    def chains(self) -> list[tuple[RunSpec, ...]]:
        """The chains of runs of all entries."""
        return [entry.runs for entry in self.entries()]


def spec(**parameters: Any) -> PageSpec:
    """A page from parameters, as a notebook has them.

    Raises:
        StudyError: for a parameter that no page has (the nearest is suggested) or a value that makes no sense.
    """
    try:
        page = PageSpec.model_validate(parameters)
    except ValidationError as error:
        raise StudyError(f"page {parameters.get('page', '?')!r}: {_explain(error)}") from None
    for row in page.rows():
        check(row)
    return page


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        name = str(first["loc"][-1])
        known = {"groups": Group, "options": Options}.get(next((str(p) for p in reversed(first["loc"][:-1]) if isinstance(p, str)), ""), PageSpec)
        return f"unknown parameter {place!r}: {suggest(name, known.model_fields)}"
    if first["type"] == "missing":
        return f"the parameter {place!r} is missing"
    return f"{place} = {first['input']!r}: {first['msg'].removeprefix('Value error, ')}"


def names() -> list[str]:
    """All pages that have a params file, by notebook and name."""
    return [file.stem for file in _files()]


def _files() -> list[Path]:
    return sorted(paths.PARAMS.glob("*/*.yaml"))


def file_of(page: str) -> Path:
    """The params file of a page.

    Raises:
        StudyError: if there is none; the nearest page is suggested.
    """
    for file in _files():
        if file.stem == page:
            return file
    raise StudyError(f"unknown page {page!r}: {suggest(page, names())}")


def get(page: str, *, scale: str | None = None, seeds: Sequence[int] | None = None) -> PageSpec:
    """A page by its name, at another scale or with other seeds if they are given.

    Raises:
        StudyError: if its params file is missing or wrong.
    """
    file = file_of(page)
    try:
        parameters = yaml.safe_load(file.read_text())
    except yaml.YAMLError as error:
        raise StudyError(f"{file.name} is not YAML: {str(error).splitlines()[0]}") from None
    if scale is not None:
        scales.get(scale)
        parameters["scale"] = scale
    if seeds is not None:
        parameters["seeds"] = tuple(seeds)
    found = spec(**parameters)
    if found.page != page:
        raise StudyError(f"{file.name} says page: {found.page}; it must be {page}")
    return found


def describe(run: RunSpec) -> str:
    """A run in words, for plans and logs.

    Example:
        >>> describe(get("table03", seeds=[0]).chains()[1][-1])
        'Faster R-CNN R50 <- RetinaNet X101, MGD, seed 0'
    """
    text = zoo.label(run.network.name)
    if run.stage is not None:
        methods = " + ".join(method.type for method in run.stage.methods)
        stage = f", stage {run.stage.index}" if run.parent or run.stage.enhance or methods == "DFMSD" else ""
        text += f" <- {zoo.label(run.stage.teacher.network.name)}, {methods}{stage}"
    return f"{text}, seed {run.seed}"


