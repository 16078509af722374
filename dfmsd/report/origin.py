"""Where a page comes from: its parameters, its notebook, the commands that make it again, and what is behind its numbers."""

from __future__ import annotations

import pandas as pd
from IPython.display import HTML

from dfmsd.report.tables import address, in_book, safe
from dfmsd.study import pages
from dfmsd.study.pages.base import Page
from dfmsd.study.pages.comparison import PageSpec
from dfmsd.study.pages.measured import MeasuredPage
from dfmsd.study.pages.overview import ScoreboardPage
from dfmsd.study.plan import duration
from dfmsd.study.records import Measured


def of(page: Page) -> HTML:
    """The origin of a page; the book holds a copy of each file where its root is."""
    if page.page not in pages.names():
        return HTML("<p>This page has no params file: its parameters are those of the notebook.</p>")
    file = pages.file_of(page.page)
    own, notebook = f"params/{file.parent.name}/{file.name}", f"notebooks/{file.parent.name}.ipynb"
    shared = ["params/scales.yaml"]
    if isinstance(page, (PageSpec, ScoreboardPage)):
        shared += ["params/published.yaml", "params/claims.yaml"]
    facts = {"Parameters": ", ".join(map(_link, [own, *shared]))}
    executed = f', <a href="../_sources/pages/{safe(page.page)}.ipynb">as executed</a>'
    facts["Notebook"] = _link(notebook) + executed * in_book()
    measured = [file.name for file in page.measured_files() if file.exists()] if isinstance(page, MeasuredPage) else []
    if measured:
        facts["Records"] = ", ".join(_link(f"book/records/measured/{name}") for name in measured)
    jobs = " -p jobs 2" * any(isinstance(one, MeasuredPage) or bool(one.chains()) for one in page.sources())
    facts["This command makes what is missing, and the page"] = f"<code>{safe(page.command())}</code>"
    facts["This command runs the notebook alone"] = (
        f"<code>{safe(f'papermill {notebook} out.ipynb -f {own} -p scale {page.scale}{jobs}')}</code>"
    )
    return HTML(f"<ul>{''.join(f'<li>{name}: {text}</li>' for name, text in facts.items())}</ul>")


def _link(file: str) -> str:
    return f'<a href="{safe(address(file))}">{safe(file)}</a>'


def of_measured(found: Measured | None) -> pd.DataFrame:
    """What is behind the numbers of a page that measures, a fact a line."""
    if found is None:
        return pd.DataFrame({"these numbers": ["not measured"]}, index=["record"])
    facts = found.provenance.model_dump()
    return pd.DataFrame({"these numbers": {name: str(fact) for name, fact in (facts | facts.pop("versions")).items()}})


def provenance(made: pd.DataFrame) -> pd.DataFrame:
    """What is behind a page's numbers, a fact a line, from what :func:`dfmsd.study.frames.origins` says."""
    if made.empty:
        return pd.DataFrame({"these numbers": ["not run"]}, index=["runs"])
    versions = made.columns[list(made.columns).index("peak_memory_mb") + 1 :]
    kinds = made["network"] + made["distilled"].map({True: ", distilled", False: ", alone", None: ""})
    speeds = made["images_per_second"].where(made["images_per_second"] > 0).groupby(kinds).median()
    facts = {
        "runs": len(made),
        "computing time": duration(made["seconds"].sum()),
        "images per second": "; ".join(f"{kind}: {speed:.0f}" for kind, speed in speeds.dropna().items()),
    }
    facts |= {
        name: ", ".join(sorted(set(made[name].dropna().astype(str))))
        for name in ("hardware", "threads", "data_fingerprint", "commit")
    }
    facts["versions"] = "; ".join(f"{name} {', '.join(sorted(set(made[name].dropna().astype(str))))}" for name in versions)
    return pd.DataFrame({"these numbers": facts})
