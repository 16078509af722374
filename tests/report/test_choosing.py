"""The page that compares all methods: facts from code, numbers from records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from IPython.display import Markdown
from tests.report.test_methods import measurement

from dfmsd.hyper import METHODS
from dfmsd.report import choosing
from dfmsd.study import benchrecord as bench_record
from dfmsd.study import pages
from dfmsd.study.pages import ChoosingPage, PageSpec
from dfmsd.study.records import Record

WriteRecord = Callable[..., Record]
PAIR = 'FCOS R50<span class="interval">← GFL R101 → GFL X101</span>'
TWINS = 'RetinaNet R50<span class="interval">← RetinaNet R101</span>'


@pytest.fixture(autouse=True)
def folders(write_record: WriteRecord) -> None:
    """Records of the test's own."""


def page() -> ChoosingPage:
    found = pages.get("choosing")
    assert isinstance(found, ChoosingPage)
    return found


@pytest.mark.parametrize(
    ("need", "methods"), [("boxes", {"fgd"}), ("head", {"crosskd"}), ("images", {"dfmsd"}), ("trainings", {"dfmsd"})]
)
def test_what_a_method_needs_is_read_from_its_code(need: str, methods: set[str]) -> None:
    plain = 1 if need == "trainings" else False
    assert {name for name in METHODS if getattr(choosing.needs(name), need) != plain} == methods


def test_parameters_are_counted_on_five_levels() -> None:
    block = 2 * (256 * 256 * 9 + 256)  # two 3 x 3 convolutions
    assert choosing.needs("mse").parameters == 0
    assert choosing.needs("mgd").parameters == 5 * block
    assert choosing.needs("dmkd").parameters == choosing.needs("dfmsd").parameters > 10 * block


def test_every_method_has_a_line_that_leads_to_its_page() -> None:
    frame = choosing.needs_table().data
    assert [name.split('"')[1] for name in frame["method"]] == [f"{name}.html" for name in METHODS]
    assert set(frame["× MSE"]) == {"not measured"}
    bench_record.write(measurement(mse=2.0, mgd=10.0))
    frame = choosing.needs_table().data.set_index("method")
    (column,) = (name for name in frame if "× MSE" in name)
    assert "Tester, 2 threads" in column
    assert dict(zip(METHODS, frame[column], strict=True)) == dict.fromkeys(METHODS, "–") | {"mse": "1.0", "mgd": "5.0"}


def rows(comparison: str, **wanted: Any) -> list[pages.Entry]:
    found = pages.get(comparison)
    assert isinstance(found, PageSpec)
    return [entry for entry in found.entries() if all(getattr(entry.row, name) == value for name, value in wanted.items())]


def test_gains_are_those_of_the_comparisons(write_record: WriteRecord) -> None:
    pair = {"student": "fcos_r50", "teachers": ("gfl_r101", "gfl_x101")}
    before = page().files()
    for recipe, ap in (("baseline", 20.0), ("mgd", 23.5)):
        write_record(rows("table03", recipe=recipe, **pair)[0].runs[-1], ap)
    frame = choosing.gains(page()).data
    line = frame.loc[PAIR]
    assert (line["MGD"], line["DMKD"], line["FGD"]) == ("+3.5", choosing.NOT_RUN, "–")
    assert f'<a href="table03.html#T_results">{pages.get("table03").title}</a>' in frame.index
    assert before == [] and len(page().files()) == 2, "the page is made anew when a record is published"


def test_pairs_whose_runs_were_shown_or_not_made_are_left_out(write_record: WriteRecord) -> None:
    nothing = choosing.gains(page())
    assert isinstance(nothing, Markdown)
    total = int(nothing.data.split()[3])
    pair = {"student": "fcos_r50", "teachers": ("gfl_r101", "gfl_x101")}
    for recipe in ("baseline", "mgd"):
        write_record(rows("table03", recipe=recipe, **pair)[0].runs[-1], 20.0)
    assert f"Of {total - 1} more pairs" in choosing.gains(page()).caption
    shown = " ".join(choosing.gains(page()).data.index)
    assert pages.get("table03").title in shown
    assert pages.get("fig03").title not in shown, "all its pairs stand in tables 1, 3 and 5"


def test_a_variant_of_a_method_does_not_stand_for_it(write_record: WriteRecord) -> None:
    pair = {"student": "retinanet_r50", "teachers": ("retinanet_r101",)}
    write_record(rows("structural", recipe="baseline", **pair)[0].runs[-1], 20.0)
    write_record(rows("structural", recipe="ssim", name="l1", **pair)[0].runs[-1], 25.0)
    assert isinstance(choosing.gains(page()), Markdown)
    write_record(rows("structural", recipe="ssim", name="", **pair)[0].runs[-1], 21.0)
    assert choosing.gains(page()).data.loc[TWINS, "SSIM"] == "+1.0"
