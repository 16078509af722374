"""mmdet's families, tried: what the page's record says stays true."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from dfmsd.report import families
from dfmsd.report.families import FAMILIES, ROLES, Family, Other
from dfmsd.study import pages, records
from dfmsd.study.records import Measured

NAMED = (
    *("RetinaNet", "RTMDet", "YOLOX", "ATSS", "TOOD", "VFNet", "DINO", "DDQ", "Deformable DETR", "Sparse R-CNN", "Cascade R-CNN"),
    *("Mask R-CNN", "YOLOF", "CenterNet", "FoveaBox", "PAA", "ATSS with DyHead", "Libra R-CNN", "YOLOv3", "SSD", "Faster R-CNN C4"),
    *("CondInst", "YOLACT"),
)
WANTS = {("PAA", "student", "trains"): "sklearn", ("CrowdDet", "student", "trains"): "torchvision"}
"""What a loss of mmdet's imports and this package does not."""


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Other:
    return Other(tmp_path_factory.mktemp("families"))


def can(name: str, role: str, metric: str) -> bool:
    wanted = WANTS.get((name, role, metric))
    return wanted is None or importlib.util.find_spec(wanted) is not None


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.quick])
def test_a_family_loads_and_trains_on_either_side(name: str, other: Other) -> None:
    lines = families.tried(name, other)
    assert [(line["beside"], line["metric"]) for line in lines] == [(role, metric) for role in ROLES for metric in families.METRICS]
    for line in lines:
        assert line["strides"]
        assert (line["value"] == 1) == (not line["note"]) == can(name, line["beside"], line["metric"]), line


@pytest.fixture(scope="module")
def record() -> Measured:
    found = records.measured(pages.get("families"))
    assert found is not None, "the page's record is committed"
    return found


def test_the_page_has_the_families_and_what_the_test_above_finds(record: Measured) -> None:
    frame = record.to_frame()
    assert list(frame["row"].unique()) == list(FAMILIES) and set(NAMED) <= set(FAMILIES) and len(FAMILIES) >= 25
    said = {(line["row"], line["beside"], line["metric"]): line["value"] == 1 for line in frame.to_dict("records")}
    assert {key for key, yes in said.items() if not yes} <= set(WANTS)


def test_the_table_says_yes_or_why_not(record: Measured) -> None:
    table: Any = families.table(record.to_frame())
    assert table.loc["YOLOF"].tolist() == ["yes"] * 4 + ["32", "", FAMILIES["YOLOF"].config]
    assert (table["note"].ne("") == table.iloc[:, :4].eq("no").any(axis=1)).all()


def test_a_family_that_does_not_fit_says_why_in_a_line(other: Other, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "YOLOF", Family(FAMILIES["YOLOF"].config, {"neck.in_channels": 7}))
    for line in families.tried("YOLOF", other):
        assert line["value"] == 0 and line["note"].startswith("YOLOF has no levels to compare: its extract_feat fails")
