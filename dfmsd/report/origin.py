"""Where a page comes from: links to its parameters and its notebook, and the commands that make it again."""

from __future__ import annotations

from collections.abc import Mapping

from IPython.display import HTML

from dfmsd.study import pages
from dfmsd.study.pages import BenchPage, ObservedPage, Page, PageSpec, ScoreboardPage


def of(page: Page) -> HTML:
    """The origin of a page of ``params``."""
    if page.page not in pages.names():
        return HTML("<p>This page has no params file: its parameters are those of the notebook.</p>")
    file = pages.file_of(page.page)
    own, notebook = f"params/{file.parent.name}/{file.name}", f"notebooks/{file.parent.name}.ipynb"
    shared = ["params/scales.yaml"]
    if isinstance(page, (PageSpec, ScoreboardPage)):
        shared += ["params/published.yaml", "params/claims.yaml"]
    observed = [page.observation()] if isinstance(page, ObservedPage) else []
    records = [f"records/observations/{record.name}" for record in observed if record.exists()]
    return _listed(
        {"Parameters": ", ".join(map(_link, [own, *shared])), "Notebook": _notebook(notebook, page.page)}
        | ({"Record": ", ".join(map(_link, records))} if records else {})
        | {_made(page): _code(page.command() + _options(page))}
        | {"The notebook alone runs by": _code(f"papermill {notebook} {page.page}.ipynb -f {own} -p scale {page.scale}")}
    )


def _made(page: Page) -> str:
    if page.chains() and not isinstance(page, ObservedPage):
        return "Missing records, and the page, are made by"
    return "Its records are made by" if isinstance(page, (ObservedPage, BenchPage)) else "The page is made by"


def _options(page: Page) -> str:
    networks = page.runs() if isinstance(page, ObservedPage) else {}
    return " --train" * bool(networks) + " --jobs 2" * bool(networks or page.chains())


def of_notebook(name: str) -> HTML:
    """The origin of a notebook that is a page with its own parameters."""
    file = f"notebooks/{name}.ipynb"
    return _listed({"Notebook": _notebook(file, name), "It runs by": _code(f"papermill {file} {name}-again.ipynb")})


def _notebook(file: str, page: str) -> str:
    return f'{_link(file)}, <a href="../_sources/pages/{page}.ipynb">as executed</a>'


def _link(file: str) -> str:
    """The book holds a copy where its root is (:func:`dfmsd.report.book.build`)."""
    return f'<a href="../{file}">{file}</a>'


def _code(command: str) -> str:
    return f"<code>{command}</code>"


def _listed(facts: Mapping[str, str]) -> HTML:
    return HTML(f"<ul>{''.join(f'<li>{name}: {text}</li>' for name, text in facts.items())}</ul>")
