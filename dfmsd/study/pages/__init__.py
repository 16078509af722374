"""Pages: one YAML each in ``params/<notebook>/``, executed by the notebook of that folder's name.

The keys of the YAML are the fields of the notebook's page model (:data:`NOTEBOOKS`) and the parameters of the notebook itself.
"""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from pydantic import ValidationError

from dfmsd.errors import StudyError, explained, suggest
from dfmsd.study import params, paths, scales
from dfmsd.study.pages.base import Page
from dfmsd.study.pages.comparison import PageSpec, RegimePage, SensitivityPage
from dfmsd.study.pages.measured import BenchPage, FamiliesPage, SpectraPage
from dfmsd.study.pages.networks import EnhancementPage, FeaturesPage, MethodsPage
from dfmsd.study.pages.overview import ChoosingPage, ScoreboardPage
from dfmsd.study.pages.scale import DataPage, GatesPage, StartsPage
from dfmsd.study.pages.short import ExplorePage, LossPage, OwnPage
from dfmsd.study.pages.tuning import TuningPage

MOST = 1024
"""Runs at a time that a notebook may ask for."""

NOTEBOOKS: dict[str, type[Page]] = {
    "ablation": PageSpec,
    "bench": BenchPage,
    "choosing": ChoosingPage,
    "comparison": PageSpec,
    "dataset": DataPage,
    "enhancement": EnhancementPage,
    "explore": ExplorePage,
    "families": FamiliesPage,
    "features": FeaturesPage,
    "gates": GatesPage,
    "loss": LossPage,
    "methods": MethodsPage,
    "own": OwnPage,
    "regime": RegimePage,
    "scoreboard": ScoreboardPage,
    "sensitivity": SensitivityPage,
    "spectra": SpectraPage,
    "stages": PageSpec,
    "starts": StartsPage,
    "tuning": TuningPage,
}
"""The page model of each folder of ``params/``, which is also the name of its notebook."""

AnyPage = TypeVar("AnyPage", bound=Page)


def validate(model: type[AnyPage], parameters: Mapping[str, Any]) -> AnyPage:
    """A page of some kind from parameters, as a notebook or a YAML has them.

    Raises:
        StudyError: for a parameter that such a page does not have (the nearest is suggested) or a value that makes no sense.

    Example:
        >>> validate(DataPage, {"page": "shapes", "title": "Shapes", "question": "What is in it?"}).images
        4
    """
    try:
        return model.model_validate(parameters)
    except ValidationError as error:
        raise StudyError(f"page {parameters.get('page', '?')!r}: {explained(error, model)}") from None


def _stated(cells: Sequence[str]) -> set[str]:
    r"""What the cell of parameters that was run last assigns, and what papermill injects after it, out of IPython's history.

    Example:
        >>> sorted(_stated(["page = 1\nsede = 2", "spec = 3", "page = 4\nseeds = 5", "# Parameters\njobs = 6", "frame = 7"]))
        ['jobs', 'page', 'seeds']
    """
    found: set[str] = set()
    for cell in cells:
        with contextlib.suppress(SyntaxError):  # of a magic
            lines = [line for line in ast.parse(cell).body if isinstance(line, ast.Assign)]
            names = {target.id for line in lines for target in line.targets if isinstance(target, ast.Name)}
            if cell.startswith("# Parameters"):
                found |= names
            elif "page" in names:
                found = names
    return found


def page(notebook: str, given: Mapping[str, Any]) -> Page:
    """A page from the variables of its notebook, ``globals()``: the cell of parameters, and what papermill injects.

    Modules, functions, names with ``_`` and ``jobs`` are none of its fields; a scale that is None is the page's own. Where cells
    have been run before, in Jupyter, their variables are no parameters.

    Raises:
        StudyError: for a parameter that the page does not have, or that is another notebook's; see :func:`validate`.

    Example:
        >>> words = {"page": "shapes", "title": "Shapes", "question": "What is in it?", "scale": None, "jobs": 0}
        >>> page("dataset", words).scale
        'mini'
    """
    model = NOTEBOOKS[notebook]
    stated = _stated(given.get("In", ()))
    parameters = {
        name: value
        for name, value in given.items()
        if not (name.startswith("_") or name in ("In", "Out", "jobs") or isinstance(value, ModuleType) or callable(value))
        if not stated or name in stated or name in model.model_fields
    }
    name = parameters.get("page")
    file = next((file for file in _files() if file.stem == name), None)
    if file is not None and file.parent.name != notebook:
        raise StudyError(f"page {name!r} is of notebooks/{file.parent.name}.ipynb, not of {notebook}.ipynb: execute that one")
    jobs = given.get("jobs", 0)
    if isinstance(jobs, bool) or not isinstance(jobs, int) or not 0 <= jobs <= MOST:
        raise StudyError(f"jobs = {jobs!r}: 0 reads records, n = 1, 2, ... {MOST} trains what is missing, n runs at a time")
    for unknown in (name for name in parameters if name not in model.model_fields):
        raise StudyError(f"{notebook}.ipynb has no parameter {unknown!r}: {suggest(unknown, [*model.model_fields, 'jobs'])}")
    return validate(model, {field: value for field, value in parameters.items() if field != "scale" or value is not None})


def names() -> list[str]:
    """All pages that have a params file, by notebook and name."""
    return [file.stem for file in _files()]


def _files() -> list[Path]:
    found: dict[str, Path] = {}
    for file in sorted(paths.PARAMS.glob("*/*.yaml")):
        if (other := found.setdefault(file.stem, file)) is not file:
            raise StudyError(f"params/{other.parent.name} and params/{file.parent.name} both have a page {file.stem}: rename one")
    return list(found.values())


def file_of(page: str) -> Path:
    """The params file of a page; the nearest page is suggested if there is none."""
    for file in _files():
        if file.stem == page:
            return file
    raise StudyError(f"unknown page {page!r}: {suggest(page, names())}")


def get(page: str, *, scale: str | None = None, seeds: Sequence[int] | None = None) -> Page:
    """A page by its name, at another scale or, where it has seeds, with others if they are given.

    Raises:
        StudyError: if its params file is missing or wrong.
    """
    file = file_of(page)
    parameters = params.read(file)
    if not all(isinstance(name, str) for name in parameters):
        raise StudyError(f"{file.name} must hold lines of 'parameter: value'")
    parameters = dict(parameters)
    if scale is not None:
        scales.get(scale)
        parameters["scale"] = scale
    notebook = file.parent.name
    if notebook not in NOTEBOOKS:
        raise StudyError(f"{file.name} lies in params/{notebook}, which has no notebook: {suggest(notebook, NOTEBOOKS)}")
    model = NOTEBOOKS[notebook]
    if seeds is not None and "seeds" in model.model_fields:
        parameters["seeds"] = tuple(seeds)
    found = validate(model, parameters)
    if found.page != page:
        raise StudyError(f"{file.name} says page: {found.page}; it must be {page}")
    return found


def comparisons(scale: str) -> list[PageSpec]:
    """Every page whose rows are recipes, at a scale; without those on a user's own data, of which the papers say nothing."""
    stems = [file.stem for file in _files() if issubclass(NOTEBOOKS.get(file.parent.name, Page), PageSpec)]
    found = (get(name, scale=scale) for name in stems)
    return [page for page in found if isinstance(page, PageSpec) and page.data is None]


def tables(scale: str) -> list[PageSpec]:
    """The comparisons of methods among them, which are no ablations."""
    return [page for page in comparisons(scale) if file_of(page.page).parent.name == "comparison"]
