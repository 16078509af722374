"""What the page of a method shows: words from its docstrings, numbers from its specification and from records."""

from __future__ import annotations

import html
import importlib
import inspect
import re
from collections.abc import Iterable
from statistics import median
from types import ModuleType
from typing import Any

import pandas as pd
from IPython.display import Markdown
from pandas.io.formats.style import Styler

from dfmsd.errors import StudyError, suggest
from dfmsd.hyper import METHODS
from dfmsd.losses import Method
from dfmsd.report import anatomy, docstrings, explore, live
from dfmsd.report.benchpage import machine, not_measured
from dfmsd.report.docstrings import Docstring
from dfmsd.report.figures import Picture
from dfmsd.report.tables import below, styled
from dfmsd.study import benchrecord as record
from dfmsd.study import paths, scales
from dfmsd.study.pages import MethodPage


def module_of(method: str) -> ModuleType:
    """The module in :mod:`dfmsd.losses` of a method, by its name in :data:`dfmsd.hyper.METHODS`."""
    return importlib.import_module(f"dfmsd.losses.{method}")


def class_of(method: str) -> type[Method]:
    """The class of a method."""
    return getattr(module_of(method), METHODS[method].__name__)  # type: ignore[no-any-return]


def functions(page: MethodPage) -> dict[str, Any]:
    """The page's functions by name.

    Raises:
        StudyError: if there is none of a name; the nearest is suggested.
    """
    found = {}
    for path in page.functions:
        stem, _, name = path.rpartition(".")
        try:
            module = module_of(stem)
        except ModuleNotFoundError:
            raise StudyError(f"page {page.page}: functions names {path!r}, but there is no dfmsd/losses/{stem}.py") from None
        if not callable(getattr(module, name, None)):
            known = [known for known, value in vars(module).items() if inspect.isfunction(value)]
            raise StudyError(f"page {page.page}: dfmsd/losses/{stem}.py has no function {name!r}: {suggest(name, known)}")
        found[name] = getattr(module, name)
    return found


def idea(page: MethodPage) -> Markdown:
    """The method in three sentences."""
    return Markdown(page.idea)


def equations(page: MethodPage) -> Markdown:
    """Each function's equation with the meaning of its symbols, then what the method makes of them."""
    parts = [docstrings.read(module_of(page.method)).text]
    for name, function in functions(page).items():
        found = docstrings.read(function)
        parts += [
            f"**`{name}`{_origin(page, function)}.** {found.text}",
            found.sections.get("Where", ""),
            found.sections.get("Note", ""),
        ]
        if result := found.sections.get("Returns"):
            parts.append(f"*Result:* {result}")
    parts.append(f"**`{class_of(page.method).__name__}`.** {docstrings.read(class_of(page.method)).text}")
    return Markdown("\n\n".join(part for part in parts if part))


def _origin(page: MethodPage, part: Any) -> str:
    """A mark for a function that several methods share."""
    own = part.__module__ == module_of(page.method).__name__
    return "" if own else ", shared"


def look(page: MethodPage) -> tuple[live.Begun, anatomy.Scene]:
    """The distillation before its first step, and the page's image as its networks see it."""
    run = live.planned(page.student, page.teacher, page.method, page.scale, teacher_epochs=page.teacher_epochs, epochs=1.0)
    begun = live.begin(run)
    return begun, anatomy.scene(begun.distiller, explore.picture(run, page.image), page.stride)


def legend(page: MethodPage, begun: live.Begun) -> Markdown:
    """What there is to see, and whose features they are."""
    where = f"Validation image {page.image} of the scale **{page.scale}**, level of stride {page.stride}."
    return Markdown(f"{page.figure}\n\n{where} Teacher: {begun.teacher}. Student: {begun.student}.")


def figure(begun: live.Begun, seen: anatomy.Scene) -> Picture:
    """What the method masks or compares."""
    assert begun.run.stage is not None
    return anatomy.draw(begun.run.stage.methods[0], seen)


def hyper_parameters(page: MethodPage) -> Styler:
    """Every hyper-parameter: the paper's value, what differs for other networks and at this scale, and what it is."""
    model, scale = METHODS[page.method], scales.get(page.scale)
    usual = model()
    columns = {
        "two-stage student": model.TWO_STAGE,
        "two-stage teacher": model.TEACHER_TWO_STAGE,
        "both two-stage": model.BOTH_TWO_STAGE,
        **{f"{family} student": changes for family, changes in model.FAMILIES.items()},
        f"scale {scale.name}": scale.methods.get(page.method, {}),
    }
    rows = [
        {"": name, "what it is": f'<span class="words">{html.escape(_sentence(field.description))}</span>'}
        | {"one-stage": shown(getattr(usual, name))}
        | {column: shown(changes[name]) if name in changes else "" for column, changes in columns.items() if changes}
        for name, field in model.model_fields.items()
        if name != "type"
    ]
    caption = f"{_sentence(model.__doc__)} An empty cell: as in the column one-stage."
    if scale.balance is not None:
        caption += f" At the scale {scale.name} weights are shares of the detection loss."
    return styled(pd.DataFrame(rows), "hyper", html.escape(caption)).hide(axis="index")


def shown(value: Any) -> str:
    """A hyper-parameter's value in a table.

    Example:
        >>> [shown(value) for value in (2e-5, 1.6e-3, 0.65, 10.0, (8, 16), None, True)]
        ['2e-5', '1.6e-3', '0.65', '10', '8, 16', 'all', 'yes']
    """
    if value is None:
        return "all"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if isinstance(value, float) and 0 < value < 0.01:
        return re.sub(r"\.?0*e-0*", "e-", f"{value:.2e}")
    return f"{value:g}" if isinstance(value, float) else str(value)


def _sentence(text: str | None) -> str:
    """A docstring in one line, without marks."""
    plain = " ".join((text or "").split())
    return re.sub(r":\w+:`~?(?:\w+\.)*(\w+)`", r"\1", plain).replace("``", "")


def deviations(page: MethodPage) -> Markdown:
    """Where the code departs from its source, or chooses beyond it, function by function."""
    parts = dict(functions(page)) | {class_of(page.method).__name__: class_of(page.method)}
    read = {name: docstrings.read(part) for name, part in parts.items()}
    found = [f"- `{name}`{_origin(page, parts[name])}: {_flat(text)}" for name, text in _section(read, "Deviations")]
    verified = [_flat(text) for _, text in _section({class_of(page.method).__name__: read[class_of(page.method).__name__]}, "Note")]
    text = "\n".join(found) or "None that we know of."
    return Markdown("\n\n".join([*verified, text, "What all methods have in common is told under [Deviations](../deviations.md)."]))


def _section(read: dict[str, Docstring], section: str) -> Iterable[tuple[str, str]]:
    return ((name, found.sections[section]) for name, found in read.items() if section in found.sections)


def _flat(text: str) -> str:
    return " ".join(text.split())


def cost(page: MethodPage) -> Styler | Markdown:
    """Time and memory of the method's loss on every machine that has been measured."""
    rows = []
    for bench in record.all_records():
        for measured in bench.results:
            if (found := measured.costs.get(page.method)) is not None:
                stale = found.code != record.code_digest(page.method)
                rows.append(
                    {
                        "machine": machine(bench),
                        "maps": measured.shapes.name + below("stale" * stale, flag=True),
                        "ms": f"{found.ms:.3g}",
                        "× MSE": f"{median(found.times_mse()):.2f}",
                        "× floor": f"{median(found.times_floor()):.2f}",
                        "peak, MiB": f"{found.peak_mb:.0f}",
                    }
                )
    if not rows:
        return not_measured()
    caption = (
        "Forward and backward of the loss on two images, without the networks. × MSE: times plain feature MSE on the same maps. "
        "× floor: times the least that it must move, and its convolutions. Peak: memory beyond features and parameters."
    )
    return styled(pd.DataFrame(rows), "cost", caption).hide(axis="index")


def code(page: MethodPage) -> Markdown:
    """The functions and the class, as they run."""
    parts = [*functions(page).values(), class_of(page.method)]
    return Markdown("\n\n".join(f"`{_file(part)}`\n\n```python\n{inspect.getsource(part).rstrip()}\n```" for part in parts))


def _file(part: Any) -> str:
    return f"{part.__module__.replace('.', '/')}.py"


def references(page: MethodPage) -> Markdown:
    """Who proposed the method, and where the code and its tests are."""
    stem = module_of(page.method).__name__.rpartition(".")[2]
    cited = [f"- {{cite:t}}`{key}`: *{title_of(key)}*" for key in docstrings.citations(module_of(page.method))]
    where = f"The code is `dfmsd/losses/{stem}.py`, its tests are `tests/losses/test_{stem}.py`."
    return Markdown("\n".join(cited) + f"\n\n{where}")


def title_of(key: str) -> str:
    """The title of a work in ``book/references.bib``.

    Raises:
        StudyError: if it is not there.

    Example:
        >>> title_of("mgd")
        'Masked Generative Distillation'
    """
    found = re.search(rf"@\w+{{{key},.*?\btitle\s*=\s*{{(.*?)}},?\n", (paths.book() / "references.bib").read_text(), re.DOTALL)
    if found is None:
        raise StudyError(f"{key!r} is cited, but book/references.bib has no such work")
    return re.sub(r"[{}]", "", found[1])
