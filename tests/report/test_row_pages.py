"""Every page of rows, by its notebook's own cells: what it shows is in the frame, has words, and is safe to show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from pandas.io.formats.style import Styler

from dfmsd.study import files, pages, paths, records
from dfmsd.study.pages import NOTEBOOKS
from dfmsd.study.pages.comparison import PageSpec
from dfmsd.study.pages.tuning import TuningPage
from tests.conftest import WriteRecord
from tests.report.conftest import PAYLOAD, fill, hostile, html, run


def rows(*recipes: Any) -> dict[str, Any]:
    group = {"student": "fcos_r50", "teachers": ["gfl_r101", "gfl_x101"], "recipes": ["baseline", *recipes, "dfmsd"]}
    return {"page": "made-up", "title": "t", "question": "q", "scale": "smoke", "seeds": [0], "groups": [group]}


ODD = {"recipe": "dfmsd", "name": PAYLOAD, "options": {"sfa": False}}
TIMES = [
    {"recipe": "dfmsd", "name": f"alpha x {a}, beta x {b}", "options": {"times": {"alpha": a, "beta": b}}}
    for a in (1, 2)
    for b in (1, 2)
]
PARAMETERS: dict[str, dict[str, Any]] = {
    "comparison": rows("dmkd", ODD) | {"table": 3},
    "ablation": rows({"recipe": "dfmsd", "name": "theta = 0.2", "options": {"theta": 0.2}}, ODD),
    "stages": rows("dmkd", ODD),
    "sensitivity": rows({"recipe": "dfmsd", "name": PAYLOAD, "options": {"theta": 0.2}}) | {"vary": ["theta"]},
    "sensitivity, two": rows(*TIMES[1:]) | {"vary": ["alpha", "beta"]},
    "tuning": {
        "scale": "smoke",
        "methods": {"mgd": ["alpha"], PAYLOAD: {"variant_of": "ssim", "weights": ["alpha"], "fixed": {"distance": "l1"}}},
    },
}
by_kind = pytest.mark.parametrize("kind", PARAMETERS)


def page(kind: str) -> PageSpec | TuningPage:
    notebook = kind.partition(",")[0]
    pairs = [{"student": "fcos_r50", "teachers": ["gfl_r101"]}, {"student": "retinanet_r50", "teachers": ["retinanet_r101"]}]
    defaults: dict[str, Any] = {"page": "made-up", "title": "t", "question": "q", "notes": "n", "pairs": pairs}
    defaults |= {"shares": [1.0, 4.0], "seed": 5000}
    own = PARAMETERS[kind] if kind != "tuning" else defaults | PARAMETERS[kind]
    found = pages.validate(NOTEBOOKS[notebook], own)
    assert isinstance(found, (PageSpec, TuningPage))
    return found


def shown(kind: str, **parameters: Any) -> dict[str, Any]:
    return run(kind.partition(",")[0], **PARAMETERS[kind] | ({"page": "made-up"} if kind == "tuning" else {}) | parameters)


def floats(table: pd.DataFrame) -> set[float]:
    return {value for column in table for value in table[column] if isinstance(value, float) and not pd.isna(value)}


@by_kind
def test_numbers_are_those_of_the_frame_and_figures_have_words(kind: str, write_record: WriteRecord) -> None:
    fill(page(kind), write_record)
    found = shown(kind)
    known = set(found["frame"]["value"])
    tables = {name: value.data for name, value in found.items() if isinstance(value, Styler)}
    own = {name: tables[name] for name in ("metrics", "shares", "tidy", "trials") if name in tables}
    if "table" in tables:
        own["table"] = tables["table"][["AP by seed"]]
    assert len(own) >= (1 if kind == "tuning" else 3)
    for name, table in own.items():
        assert floats(table) and floats(table) <= known, name
    drawn = [value for value in found.values() if isinstance(value, Figure)]
    assert drawn
    for figure in drawn:
        words = str(figure.get_label())
        assert words.endswith(".") and "smoke" in words and "not run" not in words
    assert not any("not run" in html(table) for table in found.values() if isinstance(table, Styler))


@by_kind
def test_without_records_a_page_says_so_and_draws(kind: str, folders: Path) -> None:
    found = shown(kind)
    assert set(found["frame"].loc[found["frame"]["source"] == "ours", "state"]) == {"not run"}
    for name, value in found.items():
        if isinstance(value, Figure):
            assert "not run" in str(value.get_label()), name
            assert any("not run" in text.get_text() for text in value.findobj(Text)), name
            assert not any(ax.get_label() == "<colorbar>" for ax in value.axes), "it would be of no numbers"
    assert "not run" in html(found["trials" if kind == "tuning" else "table"])


def test_shares_stand_from_small_to_large_and_variants_have_colours_of_their_own(write_record: WriteRecord) -> None:
    fill(page("tuning"), write_record)  # l1 has a trial in common with it
    variants = {"variant_of": "ssim", "weights": ["alpha"]}
    methods = {"l1": variants | {"fixed": {"distance": "l1"}}, "l2": variants | {"fixed": {"distance": "l2"}, "shares": [0.25]}}
    found = shown("tuning", methods=methods)
    trials = found["trials"].data
    assert list(trials) == ["none", "0.25", "1"]
    assert trials.index.get_level_values("row").isin(["baseline", "l1"]).sum() == 4, "a line for each pair that has a number"
    assert "2 of 6 rows are not run yet. python -m dfmsd page made-up --scale smoke makes all" in html(found["trials"])
    (drawn,) = [value for value in found.values() if isinstance(value, Figure)]
    colours = [handle.get_color() for handle in drawn.axes[0].get_legend_handles_labels()[0]]
    assert len(set(colours)) == len(colours) == 3, "two variants and the baseline"


@by_kind
def test_words_of_a_page_and_of_its_records_are_escaped(kind: str, write_record: WriteRecord) -> None:
    fill(page(kind), write_record)
    for file in paths.records().glob("*.json"):
        files.write_atomic(file, records.dump(hostile(records.read(file))))
    given = dict.fromkeys(("question", *["notes"] * (kind == "tuning")), PAYLOAD)
    pieces = [html(value) for value in shown(kind, **given).values()]
    assert any("&lt;img src=x" in piece for piece in pieces)
    assert not any(part in piece for piece in pieces for part in ("<img src=x", "<script", 'href="javascript'))


@by_kind
def test_a_stale_number_is_marked_in_its_table(kind: str, write_record: WriteRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(page(kind), write_record)
    monkeypatch.setattr("dfmsd.study.code.digest", lambda *_: "changed since")
    assert "stale" in html(shown(kind)["trials" if kind == "tuning" else "table"])
