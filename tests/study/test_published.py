"""What is quoted from the paper is complete, well-formed, and found by the pages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from dfmsd.errors import StudyError
from dfmsd.study import pages, paths
from dfmsd.study import published as module
from dfmsd.study.frames import frame
from dfmsd.study.pages.comparison import PageSpec
from dfmsd.study.published import Published, also, published
from dfmsd.study.rows import RECIPES

ROWS = {1: 12, 2: 8, 3: 12, 4: 12, 5: 5, 6: 24, 7: 6, 8: 3, 9: 3, 10: 7, 11: 7}
CHECKSUMS: dict[int, tuple[float, ...]] = {
    1: (1537.9, 1717.7, 3265.2, 3972.0, 1261.7, 2735.1, 4637.9, 5558.2),
    2: (1331.8, 753.4, 1448.0, 1744.9, 1961.2, 1219.1, 2113.7, 2549.6),
    3: (2869.4, 1638.7, 3114.2, 3740.6, 4186.7, 2591.4, 4526.6, 5429.1),
    4: (3101.0, 1737.7, 3385.2, 4091.7, 4429.0, 2834.6, 4755.7, 5671.0),
    5: (588.3, 336.4, 644.5, 768.5),
    6: (11866.7, 6752.9, 12941.9, 15681.7, 17081.4, 10945.1, 18361.8, 21945.9),
    7: (823.4,),
    8: (239.5,),
    9: (240.1,),
    10: (1143.9,),
    11: (1168.0,),
}
METRICS = ("AP", "AP_S", "AP_M", "AP_L", "AR", "AR_S", "AR_M", "AR_L")


def quoted(table: int) -> list[Published]:
    """A table's own rows, without the baseline that others of the paper's tables tell."""
    return [row for row in published(table) if not row.source]


@pytest.mark.parametrize("table", ROWS)
def test_numbers_are_the_papers(table: int) -> None:
    """Each metric's sum over the rows, times their place: a changed digit changes it, and so do two numbers exchanged."""
    rows = list(enumerate(quoted(table), start=1))
    assert len(rows) == ROWS[table]
    sums = [sum(place * row.metrics.get(metric, 0) for place, row in rows) for metric in METRICS]
    assert [total for total in sums if total] == pytest.approx(list(CHECKSUMS[table]), abs=0.01)


STRUCTURAL = {
    ("retinanet_r50", "baseline", ""): 36.4,
    ("retinanet_r50", "ssim", "l1"): 38.7,
    ("retinanet_r50", "ssim", "l2"): 39.0,
    ("retinanet_r50", "ssim", "SSIM, structure"): 39.6,
    ("retinanet_r50", "ssim", "SSIM, structure and contrast"): 40.0,
    ("retinanet_r50", "ssim", "SSIM, adapter"): 40.1,
    ("retinanet_r50", "ssim", ""): 40.1,
    ("faster_rcnn_r50", "baseline", ""): 37.4,
    ("faster_rcnn_r50", "ssim", "SSIM, adapter"): 40.9,
    ("faster_rcnn_r50", "ssim", ""): 39.8,
}


def test_numbers_of_structural_distillation_are_its_papers() -> None:
    assert {(row.student, row.recipe, row.name): row.metrics["AP"] for row in published("structural")} == STRUCTURAL
    assert [number for text in also("structural") for number in re.findall(r"\d+\.\d", text)] == "37.4 40.6 32.6 36.1 3.3".split()


SOURCES = {7: "the table's head", 8: "Table 2", 9: "Table 2", 10: "Table 1", 11: "Table 6"}


@pytest.mark.parametrize(("table", "source"), SOURCES.items())
def test_a_table_without_its_baseline_has_it_from_elsewhere(table: int, source: str) -> None:
    (baseline,) = [row for row in published(table) if row.recipe == "baseline"]
    assert (baseline.source, baseline.teachers, baseline.metrics) == (source, (), {"AP": 37.4})
    if source.startswith("Table "):
        other = published(int(source.removeprefix("Table ")))
        assert 37.4 in [row.metrics["AP"] for row in other if (row.student, row.recipe) == (baseline.student, "baseline")]
    page = pages.get(f"table{table:02}")
    assert isinstance(page, PageSpec)
    assert set(frame(page).query("source == 'paper' and row == 'baseline' and metric == 'AP'")["value"]) == {37.4}


def test_an_unknown_table_is_refused() -> None:
    with pytest.raises(StudyError, match="no table 12: valid are 1, 2, 3"):
        published(12)


@pytest.mark.parametrize("table", ROWS)
def test_rows_are_well_formed(table: int) -> None:
    rows = quoted(table)
    assert len({(row.student, row.teachers, row.recipe, row.name) for row in rows}) == len(rows)
    for row in rows:
        assert row.recipe in RECIPES
        assert len(row.teachers) in (2, 3)
        assert set(row.metrics) <= set(METRICS)
        assert set(row.reconstructed) <= {*row.metrics, "name"}
        assert not row.reconstructed or row.note


def test_statements_of_the_text_hold_in_the_tables() -> None:
    # Section 4.2: 43.1 exceeds MGD by 1.2 and DMKD by 0.8; RetinaNet gains 3.8 over its baseline.
    rcnn = {row.recipe: row.metrics["AP"] for row in published(1) if row.student == "faster_rcnn_r50"}
    assert rcnn["dfmsd"] - rcnn["mgd"] == pytest.approx(1.2)
    assert rcnn["dfmsd"] - rcnn["dmkd"] == pytest.approx(0.8)
    retina = {row.recipe: row.metrics.get("AP", 0.0) for row in published(1) if row.student == "retinanet_r50"}
    assert retina["dfmsd"] - retina["baseline"] == pytest.approx(3.8)


def test_every_row_of_the_papers_tables_is_on_its_page() -> None:
    for page in pages.comparisons("mini"):
        if isinstance(page.table, (int, str)):
            given = frame(page).query("source == 'paper' and role == 'row' and state != 'lost'")
            shown = sorted(given.groupby("place")["value"].sum().round(1))
            expected = [round(sum(row.metrics.values()), 1) for row in published(page.table)]
            # A baseline of the paper stands beside each of its students' groups.
            assert set(shown) == set(expected), page.page
            assert len(shown) >= len(expected), page.page


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"student": "fcos_r5"},
            "unknown detector 'fcos_r5': did you mean 'fcos_r50'?",
        ),
        ({"recipe": "fgd + mdg"}, "unknown method 'mdg': did you mean 'mgd'?"),
        ({"metrics": {"APS": 1.0}}, "unknown metric 'APS': did you mean 'AP_S'?"),
        ({"metrics": {"AP": 412.0}}, "tables.99.rows.0.metrics.AP = 412.0: Input should be less than or equal to 100"),
        ({"metrics": {"AP": "much"}}, "tables.99.rows.0.metrics.AP = 'much': Input should be a valid number"),
        ({"techers": []}, "unknown field 'tables.99.rows.0.techers': did you mean 'teachers'?"),
        ({"metrics": None}, "tables.99.rows.0.metrics = None: Input should be a valid dictionary"),
    ],
)
def test_a_quoted_row_that_makes_no_sense_is_refused_in_one_line(
    change: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"student": "fcos_r50", "recipe": "mgd", "metrics": {"AP": 1.0}}
    (tmp_path / "published.yaml").write_text(yaml.safe_dump({"tables": {99: {"rows": [row | change]}}}))
    monkeypatch.setattr(paths, "PARAMS", tmp_path)
    with pytest.raises(StudyError) as caught:
        module._tables.__wrapped__()
    assert message in str(caught.value)
    assert str(caught.value).startswith("params/published.yaml: ")
    assert "\n" not in str(caught.value)
