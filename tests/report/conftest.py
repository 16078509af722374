"""Rows for tests: frames made by hand, records made up for a whole page, and a notebook's cells run as they stand."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from typing import Any

import pandas as pd
from IPython.display import HTML
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from dfmsd.report import figures
from dfmsd.study import paths, plan
from dfmsd.study.pages.comparison import PageSpec
from dfmsd.study.pages.tuning import TuningPage
from dfmsd.study.records import Record
from dfmsd.study.spec import RunSpec
from tests.conftest import WriteRecord

PAIR = "FCOS R50 taught by GFL R101, then GFL X101"

Aps = Mapping[int, float | None]
"""AP by seed; None is not run."""


def lines(rows: Mapping[tuple[str, str], Aps], pair: str = PAIR, **fields: Any) -> pd.DataFrame:
    """A frame as :func:`dfmsd.study.frames.frame` gives it: AP of some rows of a pair by name and recipe, in the table's order."""
    shared = {"page": "example", "scale": "mini", "source": "ours", "role": "row", "pair": pair, "metric": "AP", "stale": False}
    shared |= {"student": "fcos_r50", "teachers": "gfl_r101 → gfl_x101"}
    found = []
    for place, ((row, recipe), aps) in enumerate(rows.items()):
        for seed, ap in aps.items():
            own = {"place": place, "row": row, "recipe": recipe, "seed": seed, "value": ap, "note": "", "stage": 1}
            own |= {"key": f"{abs(hash((pair, row, seed))):x}"[:12], "state": "not run" if ap is None else "ok"}
            own |= {"low": None if ap is None else ap - 1, "high": None if ap is None else ap + 1}
            found.append(shared | own | fields)
    return pd.DataFrame(found).astype(
        {"value": float, "low": float, "high": float, "seed": "Int64", "place": "Int64", "stage": "Int64"}
    )


def fill(page: PageSpec | TuningPage, write_record: WriteRecord) -> None:
    """Publish a record of every run of a page, each with numbers of its own."""
    for place, run in enumerate(run for run in plan.order(page.chains()) if isinstance(run, RunSpec)):
        shares = {f"loss_{run.stage.methods[0].type.lower()}_rec": 0.5 + place} if run.stage else {}
        curve = [{"iteration": float(step), "loss": 2.0 / step} for step in range(1, 5)]
        write_record(run, 20.0 + place, ap_interval=(19.5 + place, 20.25 + place), shares=shares, curve=curve)


PAYLOAD = '"><img src=x onerror=alert(1)><script>alert(1)</script> [x](javascript:alert(1)) & co'
"""What must reach no reader's browser as anything but text."""


def hostile(record: Record) -> Record:
    """The record with a payload in every text that may differ from run to run."""
    texts = {name: PAYLOAD for name in ("commit", "hardware", "data_fingerprint", "code_digest")}
    fields = {name: {PAYLOAD: 1.0, f"loss_mgd_{PAYLOAD}": 1.0} for name in ("metrics", "shares", "factors")}
    provenance = record.provenance.model_copy(update=texts | {"versions": {PAYLOAD: PAYLOAD}})
    changes = {name: getattr(record, name) | more for name, more in fields.items()}
    curve = tuple(point | {PAYLOAD: 1.0} for point in record.curve)
    return record.model_copy(update=changes | {"note": PAYLOAD, "curve": curve, "provenance": provenance})


def run(notebook: str, **parameters: Any) -> dict[str, Any]:
    """Run a notebook's cells here, with other parameters than its own: what each cell shows by its id, and ``frame``."""
    names: dict[str, Any] = {}
    shown: dict[str, Any] = {}
    for cell in json.loads((paths.NOTEBOOKS / f"{notebook}.ipynb").read_text())["cells"]:
        if cell["cell_type"] != "code":
            continue
        tree = ast.parse("".join(cell["source"]))
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, cell["id"], "exec"), names)
        if isinstance(last, ast.Expr):
            shown[cell["id"]] = eval(compile(ast.Expression(last.value), cell["id"], "eval"), names)
        if cell["id"] == "parameters":
            names |= parameters
    return {name: value for name, value in shown.items() if value is not None} | {"frame": names["frame"]}


def html(shown: Any) -> str:
    """What a notebook makes of a table, a figure or HTML."""
    if isinstance(shown, (Styler, HTML)):
        return str(shown.to_html() if isinstance(shown, Styler) else shown.data)
    return figures.image(shown) if isinstance(shown, Figure) else ""
