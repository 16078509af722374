"""The first screen: the answer follows from the hypotheses, and no number stands there without a record."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from dfmsd.hyper import METHODS
from dfmsd.report import book, choosing, gates, home, ranking, words
from dfmsd.study import frames, hypotheses, pages, paths
from dfmsd.study.files import write_atomic
from tests.fixtures_study import publish


def made_up(verdict: str = "supported", **of_first: Any) -> pd.DataFrame:
    line = {
        "verdict": verdict,
        "estimate": 0.52,
        "low": -0.7,
        "high": 1.74,
        "pairs": 14,
        "above": "13 of 14",
        "planned": 17,
        "seeds": "1",
        "p": 0.0018,
        "holm": 0.0146,
    }
    empty = line | {"verdict": "not run", "estimate": None, "low": None, "high": None, "pairs": 0}
    lines = [{"id": one.id} | empty for one in hypotheses.asked().among]
    lines[0] |= line | of_first
    lines[5] |= line | {"estimate": -0.2, "verdict": "not settled"}
    lines[7] |= line | {"low": None, "high": None}
    return pd.DataFrame(lines)


def test_the_answer_is_that_of_the_first_hypothesis_with_its_estimate_and_interval() -> None:
    first, _, *others = home.answer(made_up(), made_up("not run", pairs=0)).splitlines()
    assert first == (
        "**Yes.** DFMSD ends 0.5 AP above DMKD [−0.7, +1.7], the mean over 14 of 17 pairs of student and teachers with 1 seed "
        "each, at equal length of training. It ends above in 13 of 14 pairs. A sign test over pairs, corrected for all 8 "
        "hypotheses, gives p = 0.015."
    )
    assert others == [
        "- With teachers of another type, DFMSD's lead over DMKD is 0.2 AP smaller [−0.7, +1.7] than with teachers of "
        "the student's own type (H6: not settled).",
        "- DFMSD ends 0.5 AP above the same student without a teacher (H8: supported; above in 13 of 14 pairs).",
    ]


def test_an_answer_that_lacks_pairs_says_so_first() -> None:
    said = home.answer(made_up("not settled", holm=None), made_up())
    assert said.startswith(home.OPENING["not settled"])
    assert "p = 0.0018, not corrected for the number of hypotheses. So few pairs settle nothing, whatever they show" in said
    assert "DFMSD ends 0.5 AP above MSE [−0.7, +1.7], the mean over 14 pairs with 1 seed each." in said


def test_before_any_run_no_number_in_prose_is_a_result(folders: Path) -> None:
    """Only how many runs and pairs there are, and how long they would take."""
    page = pages.get("table03")
    frame = frames.frame(page)
    said = [
        home.answer(hypotheses.judged(frame), hypotheses.judged(frame)),
        home.recommendation(choosing.gains(frame), frame.assign(length=1.0), frame.assign(length=1.0)),
        home.cost([page], pages.get("scoreboard").command()),
    ]
    assert home.pairs(frame, choosing.gains(frame)).startswith(
        "\n0 of 3 pairs of student and teachers have a method beside a baseline."
    )
    assert said[0].startswith(home.OPENING["not run"]) and "cannot recommend" in said[1]
    assert re.search(r"Nothing is run yet\. 0 of \d+ runs at scale mini have a record", said[2])
    assert "`python -m dfmsd page --all --scale mini` makes" in said[2]
    assert not re.search(r"\d\.\d AP|[+−]\d|core-hours", "".join(said))


WRITTEN = {"miniature", "deviations"}
"""Pages of text that quote the papers, the zoo, and trials without records, and say so."""


def test_no_page_has_a_result_typed_into_its_prose() -> None:
    """An AP, or a signed difference, is quoted from a margin of the claims alone."""
    prose = {
        file.stem: file.read_text() for file in (paths.ROOT / "book").rglob("*.md") if not {"pages", "_build"} & set(file.parts)
    }
    for file in paths.NOTEBOOKS.glob("*.ipynb"):
        cells = nbformat.read(file, as_version=4).cells
        prose[file.name] = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    typed = {name: re.findall(r"[\d.]+ AP\b|[+−]\d[\d.]*", re.sub(r"(?s)```.*?```", "", text)) for name, text in prose.items()}
    margins = {"0.5 AP", "+3.5", "3.5 AP"}
    assert len(prose) > 30 and {name: found for name, found in typed.items() if set(found) - margins and name not in WRITTEN} == {}


def test_a_whole_screen_stands_before_any_run(folders: Path) -> None:
    """Of all pages, so also of the pair that a reader may look for."""
    parts = home.screen()
    assert len(parts) == 4 + len(METHODS) and "cannot recommend" in parts["take.md"]
    assert f"{home.EXAMPLE}, for example, is not run yet." in parts["take.md"]


def test_a_pair_with_one_of_the_teachers_that_a_reader_may_have_is_told_of() -> None:
    names = {"row": ["MSE", "DMKD"] * 2, "gain": [-19.0, -2.2, 1.0, 2.0], "pair": ["A"] * 2 + ["B"] * 2}
    gained = pd.DataFrame(names).assign(teachers=["cascade → swint"] * 2 + ["gfl"] * 2)
    assert home._with_a_teacher_of("swint → swins", gained) == (
        " One of its teachers is in A: there none of 2 methods helps: the best of them, DMKD, ends 2.2 AP below the baseline."
    )
    run = gained.replace({"pair": {"A": home.EXAMPLE}})
    frame = run.assign(role="row", recipe="mse", student="faster_rcnn_r50", page="table01")
    assert home.pairs(frame, run) == (
        f"\n2 of 2 pairs of student and teachers have a method beside a baseline. For {home.EXAMPLE}, for example, none of "
        "2 methods helps: the best of them, DMKD, ends 2.2 AP below the baseline.\n"
    )
    assert home._highest(gained[gained["pair"] == "B"]) == "DMKD gains most of 2 methods: it ends 2.0 AP above the baseline"
    assert ranking.nothing_gains(gained) == (
        "In 1 of 2 pairs no method gains. These are, with the method that loses least: A (DMKD −2.2)."
    )
    assert ranking.nothing_gains(gained[gained["pair"] == "B"]) == ""


def test_how_many_records_are_stale_stands_beside_how_many_there_are(folders: Path) -> None:
    page = pages.get("table03", scale="smoke")
    for place, entry in enumerate(entry for entry in page.entries if len(entry.runs) == 1):
        publish(entry.runs[0], digest="0" * 12 if place < 2 else None)
    assert " 2 records are stale: " in words.state([page])


def test_how_many_runs_had_another_training_of_a_network_stands_beside_how_many_there_are(folders: Path) -> None:
    page = pages.get("table03", scale="smoke")
    alone = [entry.runs[0] for entry in page.entries if len(entry.runs) == 1]
    for start in {need.key: need for run in alone for need in run.needs()}.values():
        publish(start, weights_sha256="a" * 64)
    for place, run in enumerate(alone):
        publish(run, needed={need.key: ("b" if place < 2 else "a") * 64 for need in run.needs()})
    assert " 2 runs used a teacher or a start whose weights differ " in words.state([page])


def test_gates_that_fail_are_named_on_the_first_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    verdicts = {"1 length": gates.PASSED, "2 teachers": gates.FAILED, "5 cost": gates.UNMEASURED}
    monkeypatch.setattr(gates, "counts", lambda found: pd.DataFrame({"verdict": verdicts}))
    assert home.failed().startswith("\n1 of the 3 [gates](pages/gates.ipynb) that this design should pass fails (2 teachers). ")
    monkeypatch.setattr(gates, "counts", lambda found: pd.DataFrame({"verdict": dict.fromkeys(verdicts, gates.PASSED)}))
    assert home.failed() == ""


def test_a_methods_page_has_the_drawing_of_the_page_of_all_methods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DFMSD_BOOK", str(tmp_path))
    shown = [new_output("display_data", {"text/html": "<svg>drawn</svg>"})]
    caption = {"mystnb": {"figure": {"caption": "MGD: a < b.", "name": "methods-mgd"}}}
    drawing = new_code_cell('methods.draw(methods.specification("mgd", scale), scene)', outputs=shown, metadata=caption)
    cells = [drawing, new_code_cell("spec")]
    write_atomic(paths.pages() / "methods.ipynb", nbformat.writes(new_notebook(cells=cells)))
    found = book._drawings()
    assert found.pop("drawn-mgd.html") == "<svg>drawn</svg>"
    drawn = found.pop("drawn-mgd.md")
    assert "{drawing} ../pages/generated/drawn-mgd.html\n---\nname: drawn-mgd\n---\nMGD: a \\< b. [" in drawn
    assert len(found) == len(METHODS) - 1 and all("Nothing is drawn yet" in text for text in found.values())
