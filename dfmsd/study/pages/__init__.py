"""Pages: one YAML each in ``params/<notebook>/``, executed by the notebook of that folder's name.

The keys of the YAML are the fields of the notebook's page model (:data:`NOTEBOOKS`) and the parameters of the notebook itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from dfmsd.errors import StudyError, suggest
from dfmsd.hyper import MethodSpec, for_pair
from dfmsd.study import paths, scales, zoo
from dfmsd.study.pages.base import ObservedPage, Page, measurements, observations, published
from dfmsd.study.pages.comparison import LABELS, Entry, Group, Impossible, PageSpec, SensitivityPage, TuningPage, Variant, name_of
from dfmsd.study.pages.features import FeaturesPage, Look
from dfmsd.study.pages.images import DataPage, EnhancementPage, SpectraPage
from dfmsd.study.pages.methods import BenchPage, MethodPage, PublicCode
from dfmsd.study.rows import Options
from dfmsd.study.spec import Frozen, RunSpec

__all__ = [
    "LABELS",
    "NOTEBOOKS",
    "AnyPage",
    "BenchPage",
    "ChoosingPage",
    "DataPage",
    "EnhancementPage",
    "Entry",
    "FeaturesPage",
    "Group",
    "Impossible",
    "Look",
    "MethodPage",
    "ObservedPage",
    "Page",
    "PageSpec",
    "PublicCode",
    "ScoreboardPage",
    "SensitivityPage",
    "SpectraPage",
    "TuningPage",
    "Variant",
    "comparisons",
    "describe",
    "file_of",
    "get",
    "name_of",
    "names",
    "spec",
    "validate",
]


class ChoosingPage(Page):
    """All methods side by side: what they need, what they cost, and what they gained in the comparisons of a scale."""

    def comparisons(self) -> list[PageSpec]:
        """Every comparison, at this page's scale."""
        return comparisons(self.scale)

    def files(self) -> list[Path]:
        """The records of all measurements and of the comparisons' results."""
        return [*published(entry.runs[-1] for page in self.comparisons() for entry in page.entries()), *measurements()]


class ScoreboardPage(Page):
    """What became of every claim of the papers (:mod:`dfmsd.report.scoreboard`), at each scale that has records."""

    def scales(self) -> tuple[str, ...]:
        """The page's own, then the others."""
        return tuple(dict.fromkeys([self.scale, *scales.PUBLIC]))

    def files(self) -> list[Path]:
        """The records of all comparisons and observations."""
        pages = [page for scale in self.scales() for page in comparisons(scale)]
        return [*published(run for page in pages for entry in page.entries() for run in entry.runs), *observations()]


NOTEBOOKS: dict[str, type[Page]] = {
    "ablation": PageSpec,
    "ambiguities": PageSpec,
    "bench": BenchPage,
    "choosing": ChoosingPage,
    "comparison": PageSpec,
    "dataset": DataPage,
    "enhancement": EnhancementPage,
    "features": FeaturesPage,
    "method": MethodPage,
    "scoreboard": ScoreboardPage,
    "sensitivity": SensitivityPage,
    "spectra": SpectraPage,
    "stages": PageSpec,
    "tuning": TuningPage,
}
"""The page model of each folder of ``params/``, which is also the name of its notebook."""

AnyPage = TypeVar("AnyPage", bound=Page)


def spec(**parameters: Any) -> PageSpec:
    """A comparison from parameters, as its notebook has them; see :func:`validate`."""
    return validate(PageSpec, parameters)


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
        raise StudyError(f"page {parameters.get('page', '?')!r}: {_explain(error, model)}") from None


def _explain(error: ValidationError, model: type[Page]) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        parts: dict[str, type[Frozen]] = {"groups": Group, "recipes": Variant, "networks": Look, "options": Options}
        inside = [part for part in first["loc"][:-1] if isinstance(part, str)]
        known = parts[inside[-1]] if inside else model
        return f"unknown parameter {place!r}: {suggest(str(first['loc'][-1]), known.model_fields)}"
    if first["type"] == "missing":
        return f"the parameter {place!r} is missing"
    return f"{place} = {first['input']!r}: {first['msg'].removeprefix('Value error, ')}"


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
    """The params file of a page.

    Raises:
        StudyError: if there is none; the nearest page is suggested.
    """
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
    try:
        parameters = yaml.safe_load(file.read_text())
    except yaml.YAMLError as error:
        raise StudyError(f"{file.name} is not YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(parameters, dict) or not all(isinstance(name, str) for name in parameters):
        raise StudyError(f"{file.name} must hold lines of 'parameter: value'")
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


def describe(run: RunSpec) -> str:
    """A run in words, for plans and logs.

    Example:
        >>> describe(get("table03", seeds=[0]).chains()[3][-1])
        'Faster R-CNN R50 <- RetinaNet X101, MGD, 12 epochs, seed 0'
    """
    text = zoo.label(run.network.name)
    if run.stage is not None:
        methods = " + ".join(method.type + _changes(run, method) for method in run.stage.methods)
        stage = f", stage {run.stage.index}" if run.parent or run.stage.enhance or methods.startswith("DFMSD") else ""
        enhanced = " with ME" if run.stage.enhance else ""
        teachers = " + ".join(zoo.label(teacher.network.name) for teacher in run.stage.teachers)
        text += f" <- {teachers}, {methods}{stage}{enhanced}"
    unit, length = ("iteration", run.schedule.max_iters) if run.schedule.max_iters else ("epoch", run.schedule.epochs)
    return f"{text}, {length} {unit}{'s' * (length != 1)}, seed {run.seed}"


def _changes(run: RunSpec, method: MethodSpec) -> str:
    """Where a method departs from what its scale gives it, so that the runs of an ablation have different names."""
    assert run.stage is not None
    name, kinds = method.type.lower(), (run.network.kind, run.stage.teacher.network.kind)
    usual = for_pair(name, *kinds, zoo.family(run.network.name), **scales.get(run.scale).methods.get(name, {}))
    changed = [f"{field} {value}" for field, value in method if value != getattr(usual, field)]
    return f" ({', '.join(changed)})" if changed else ""


def comparisons(scale: str) -> list[PageSpec]:
    """Every page whose rows are recipes, at a scale."""
    stems = [file.stem for file in _files() if issubclass(NOTEBOOKS.get(file.parent.name, Page), PageSpec)]
    found = (get(name, scale=scale) for name in stems)
    return [page for page in found if isinstance(page, PageSpec)]
