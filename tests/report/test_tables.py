"""Tables keep their numbers and carry their look; figures are shown as one described image."""

from __future__ import annotations

import re

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from dfmsd.report import figures, tables
from dfmsd.study import paths

ROWS = [("FCOS taught by GFL", "baseline"), ("FCOS taught by GFL", "MGD"), ("GFL taught by FCOS", "baseline")]
PAIRS = pd.MultiIndex.from_tuples(ROWS)


def cells(page: str) -> list[list[str]]:
    body = re.search(r"<tbody>.*</tbody>", page, re.DOTALL)
    assert body is not None
    found = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in body[0].split("<tr>")[1:]]
    return [[re.sub("<[^>]*>", "", cell) for cell in row] for row in found]


def test_each_group_has_a_line_above_its_rows() -> None:
    frame = pd.DataFrame({"AP": [36.04, None, 40.0], "seeds": [1, 0, 3]}, index=PAIRS)
    assert cells(tables.styled(frame).to_html()) == [
        ["FCOS taught by GFL", "", ""],
        ["baseline", "36.0", "1"],
        ["MGD", "–", "0"],
        ["GFL taught by FCOS", "", ""],
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


def test_a_figure_is_drawn_for_a_desk_and_for_a_phone_with_its_words_and_always_the_same() -> None:
    page = figures.image(drawn())
    assert page.count("<svg") == page.count('aria-label="a &quot;line&quot; &amp; &lt;more&gt;"') == 2
    assert figures.image(drawn()) == page
    identifiers = re.findall(r' id="([^"]*)"', page)
    assert len(identifiers) == len(set(identifiers)) and set(re.findall(r'(?:url\(|href=")#([^")]*)', page)) == set(identifiers)
    assert page.count("<style") == 1, "what a drawing says of lines and letters would be said of the whole page"


def sizes(drawing: str) -> set[str]:
    """Of its letters, in points."""
    return set(re.findall(r"font(?:-size)?: ([\d.]+)px", drawing))


def test_all_letters_are_text_of_one_size_and_panels_of_a_phone_stand_below_one_another() -> None:
    names = ("first", "second", "third")
    figure, axes = figures.panels(names)
    axes[0].set(yscale="log", ylim=(1e-3, 1e2))
    axes[1].annotate("small", (0, 0), fontsize=5)
    wide, narrow = figures.svg(figure), figures.svg(figure, figures.PHONE)
    assert sizes(wide) == sizes(narrow) == {str(figures.SIZE)}
    tops = [[float(re.search(rf" ([\d.]+)\)[^>]*>{name}<", drawing)[1]) for name in names] for drawing in (wide, narrow)]  # type: ignore[index]
    assert len(set(tops[0])) == 1 and tops[1] == sorted(set(tops[1])) and len(tops[1]) == 3
    assert float(re.search(r'width="([\d.]+)pt"', narrow)[1]) / 72 <= figures.PHONE  # type: ignore[index]
    assert "mathdefault" not in wide + narrow
    assert figure.get_figwidth() > figures.WIDTH, "it stays as it is"


def words_of(figure: Figure) -> list[tuple[str, Bbox]]:
    """The words around the panels of a figure, and where they are in pixels."""
    figure.draw_without_rendering()
    found = list(figure.texts)
    for ax in figure.axes:
        found += [ax.title, ax.xaxis.label, *ax.get_yticklabels()]
    return [(text.get_text(), text.get_window_extent()) for text in found if text.get_text() and text.get_visible()]


def test_words_of_a_figure_have_room_at_a_desk_and_on_a_phone() -> None:
    """Of titles, labels and names by their extents, as they are when a figure is drawn."""
    teachers = "Cascade Mask R-CNN R50, then Cascade Mask R-CNN R101"
    figure, axes = figures.panels([f"Cascade Mask R-CNN R50 taught by {teachers}"] * 3)
    axes[0].set_yticks(range(9), labels=["teachers of another type"] * 9)
    axes[1].set(xscale="log", xlim=(1e-5, 1e2), xlabel="what a whole sentence says of a panel's axis, and more of it")
    axes[2].set(xscale="log", xlim=(0.05, 20))
    figure.supxlabel("mean difference in AP over pairs, 95 % interval, scale mini, and more")
    for width in (figures.WIDTH, figures.PHONE):
        found = figures.fitted(figure, width)
        seen = words_of(found)
        for place, (words, one) in enumerate(seen):
            assert one.x0 >= 0 and one.x1 <= found.bbox.width, words
            assert not any(one.padded(-1).overlaps(other.padded(-1)) for _, other in seen[place + 1 :]), words
        ticks = [{text.get_text() for text in ax.get_xticklabels()} for ax in found.axes]
        assert "10⁻²" in ticks[1] and {"0.1", "1", "10"} <= ticks[2]


def test_markdown_without_words_is_nothing() -> None:
    """IPython would show it as a class and an address."""
    shown = tables.markdown("a <b>")
    assert shown is not None and shown.data == "a &lt;b>" and tables.markdown(" \n") is None


def test_dollars_in_a_name_are_dollars() -> None:
    """Matplotlib would take what stands between two for mathematics, and fail at what is none."""
    figure = Figure()
    axis = figure.subplots()
    axis.plot([0.01, 100], ["$5 and $6", "$\\frac{$"], label="$")
    axis.set(title="$\\bad{$", xscale="log")
    axis.legend()
    for part in ("$5 and $6", "$\\frac{$", "$\\bad{$", "10"):
        assert f">{part}</text>" in figures.svg(figure)


def test_a_figure_of_pyplot_is_not_shown_twice() -> None:
    figure = plt.figure()
    figures.described(figure, "words")
    assert figure.number not in plt.get_fignums()  # type: ignore[attr-defined]


def test_alt_texts_name_each_value_and_what_is_missing() -> None:
    values = pd.Series([36.04, None, 40.0], index=PAIRS)
    assert figures.alt("AP", values) == "AP. FCOS taught by GFL: baseline 36.0; MGD not run. GFL taught by FCOS: baseline 40.0."


def test_a_tick_between_two_powers_of_ten_says_its_own_value() -> None:
    figure, axes = figures.panels(["one"])
    axes[0].set(xscale="log", xlim=(1e-5, 4e-5))
    fitted = figures.fitted(figure, figures.WIDTH)
    fitted.draw_without_rendering()
    ticks = [
        tick.label1.get_text() for which in ("major", "minor") for tick in getattr(fitted.axes[0].xaxis, f"get_{which}_ticks")()
    ]
    assert {"10⁻⁵", "2·10⁻⁵", "3·10⁻⁵"} <= set(ticks)


def test_a_negative_number_has_a_minus_sign_whatever_its_format() -> None:
    frame = pd.DataFrame({"Δ": [-1.0], "correlation": [-0.25], "slope": [-2.0], "level": [-8]}, index=["MGD"])
    shown = tables.styled(frame, precision=2, formatter={"slope": "{:.4g}"}).to_html()
    assert [text in shown for text in ("−1.0", "−0.25", ">−2<")] == [True] * 3
