"""mmdet's families, tried, and how the page says what came of it."""

from __future__ import annotations

import importlib.util
from typing import Any

import pandas as pd
import pytest

from dfmsd.report import families
from dfmsd.report.families import FAMILIES, ROLES, Family, Other
from dfmsd.report.words import trained

WANTS = {("PAA", "student", "trains"): "sklearn"}
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


def test_the_table_says_yes_or_why_not() -> None:
    lines = [(role, metric, "32") for role in ROLES for metric in families.METRICS]
    found = pd.DataFrame(lines, columns=["beside", "metric", "strides"]).assign(row="YOLOF", value=1.0, note="")
    amiss = found.assign(row="PAA", value=[1.0, 0.0, 1.0, 0.0], note=["", "it wants sklearn", "", "it wants sklearn"])
    table: Any = families.table(pd.concat([found, amiss]))
    assert table.loc["YOLOF"].tolist() == ["yes"] * 4 + ["32", "", FAMILIES["YOLOF"].config]
    assert table.loc["PAA"].tolist()[:6] == ["yes", "no", "yes", "no", "32", "it wants sklearn"]
    assert trained(table) == "1 of 2 families can be both student and teacher. A note says why these cannot: PAA."
    assert trained(table.loc[["YOLOF"]]) == "1 of 1 families can be both student and teacher."


def test_a_family_that_does_not_fit_says_why_in_a_line(other: Other, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "YOLOF", Family(FAMILIES["YOLOF"].config, {"neck.in_channels": 7}))
    for line in families.tried("YOLOF", other):
        assert line["value"] == 0 and line["note"].startswith("YOLOF has no levels to compare: its extract_feat fails")
