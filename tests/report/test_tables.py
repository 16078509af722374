"""Tables keep their numbers and carry their look; figures are shown as one described image."""

from __future__ import annotations

import re

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.figure import Figure

from dfmsd.report import figures, tables
from dfmsd.study import paths

PAIRS = pd.MultiIndex.from_tuples([("FCOS ← GFL", "baseline"), ("FCOS ← GFL", "MGD"), ("GFL ← FCOS", "baseline")])


def cells(page: str) -> list[list[str]]:
    body = re.search(r"<tbody>.*</tbody>", page, re.DOTALL)
    assert body is not None
    found = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in body[0].split("<tr>")[1:]]
    return [[re.sub("<[^>]*>", "", cell) for cell in row] for row in found]


def test_each_group_has_a_line_above_its_rows() -> None:
    frame = pd.DataFrame({"AP": [36.04, None, 40.0], "seeds": [1, 0, 3]}, index=PAIRS)
    assert cells(tables.styled(frame).to_html()) == [
        ["FCOS ← GFL", "", ""],
        ["baseline", "36.0", "1"],
        ["MGD", "–", "0"],
        ["GFL ← FCOS", "", ""],
        ["baseline", "40.0", "3"],
    ]


def test_differences_have_signs_and_intervals_two_ends() -> None:
    ends = [(37.46, 40.5), None]
    frame = pd.DataFrame({"Δ": [1.26, -0.04], "95 %": ends, "Δ, 95 %": ends, "note": ["stale", None]}, index=["a", "b"])
    shown = "37.5 to 40.5"
    assert cells(tables.styled(frame).to_html()) == [["a", "+1.3", shown, shown, "stale"], ["b", "−0.0", "–", "–", ""]]


@pytest.mark.parametrize(("folder", "expected"), [("notebooks", "../book"), (".", "book")])
def test_a_number_leads_to_its_record(folder: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From where the notebook is executed: Jupyter's and the book's folder, and that of plain papermill."""
    monkeypatch.chdir(paths.ROOT / folder)
    frame = pd.DataFrame({"AP": [36.04, 37.0]}, index=PAIRS[:2])
    links = pd.DataFrame({"AP": ["0123456789ab", None]}, index=PAIRS[:2])
    page = tables.styled(frame, links=links).to_html()
    assert re.findall("<a .*?</a>", page) == [f'<a href="{expected}/records/0123456789ab.json">36.0</a>']


def test_all_text_is_escaped() -> None:
    frame = pd.DataFrame({"<i>": ["<b>"]}, index=["<u>"])
    page = tables.styled(frame, "<s> & co").to_html()
    assert not any(tag in page for tag in ("<i>", "<b>", "<u>", "<s>"))
    assert "&lt;s&gt; &amp; co" in page


def test_one_input_gives_one_output() -> None:
    frame = pd.DataFrame({"AP": [36.04]}, index=["a"])
    assert tables.styled(frame).to_html() == tables.styled(frame.copy()).to_html()
    assert tables.styled(frame).to_html() != tables.styled(frame + 1).to_html()


def drawn() -> Figure:
    figure = Figure(layout="constrained")
    figure.subplots(1, 2)[0].plot([1, 2])
    return figures.described(figure, 'a "line" & <more>')


def test_a_figure_is_one_image_with_its_words_and_always_the_same() -> None:
    page = figures.image(drawn())
    assert page.count("<img") == 1 and 'alt="a &quot;line&quot; &amp; &lt;more&gt;"' in page
    assert figures.image(drawn()) == page


def test_dollars_in_a_name_are_dollars() -> None:
    """Matplotlib would take what stands between two for mathematics, and fail at what is none; powers of ten are."""
    figure = Figure()
    axis = figure.subplots()
    axis.plot([0.01, 100], ["$5 and $6", "$\\frac{$"], label="$")
    axis.set(title="$\\bad{$", xscale="log")
    axis.legend()
    for part in ("<!-- $5 and $6 -->", "<!-- $\\frac{$ -->", "<!-- $\\bad{$ -->", "<!-- $\\mathdefault{10^{1}}$ -->"):
        assert part in figures.svg(figure)


def test_a_figure_of_pyplot_is_not_shown_twice() -> None:
    figure = plt.figure()
    figures.described(figure, "words")
    assert figure.number not in plt.get_fignums()  # type: ignore[attr-defined]


def test_alt_texts_name_each_value_and_what_is_missing() -> None:
    values = pd.Series([36.04, None, 40.0], index=PAIRS)
    assert figures.alt("AP", values) == "AP. FCOS ← GFL: baseline 36.0; MGD not run. GFL ← FCOS: baseline 40.0."
