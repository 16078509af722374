"""A loss that a notebook defines: its row has the columns of the study's frame, so that the study's functions show it."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from dfmsd import study
from dfmsd.errors import StudyError
from dfmsd.report import comparison, explore, loss
from dfmsd.study import pages
from dfmsd.study.pages.short import LossPage

GIVEN = {"page": "loss", "title": "", "question": "", "scale": "smoke"}


def test_its_row_is_one_of_table_3s_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    page = pages.page("loss", GIVEN | {"rivals": ["mse"]})
    assert isinstance(page, LossPage)
    (run,) = explore.planned(page)
    monkeypatch.setattr(loss, "_evaluated", lambda *_: ({"AP": 20.0, "AP_S": 10.0}, (19.0, 20.0, 21.0)))
    live: Any = None
    rows = loss.lines(page, run, live, "Huber")
    table03 = study.frame(pages.get("table03", scale="smoke"))
    assert set(rows.columns) <= set(table03.columns)
    frame = pd.concat([table03[table03["role"] == "row"], rows], ignore_index=True)
    name = ("FCOS R50 taught by GFL R101", "Huber")
    assert comparison.by_seed(frame).loc[name].dropna().tolist() == [20.0]
    assert comparison.intervals(frame)[name] == pytest.approx((19.05, 20.95))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rivals": []}, "rivals"),
        ({"rivals": ["huber"]}, "unknown method 'huber'"),
        ({"rivals": ["baseline"]}, "unknown method 'baseline'"),
        ({"epochs": 1e9}, "epochs"),
        ({"student": "fcos_r50", "teacher": "fcos_r50"}, "its own teacher"),
    ],
)
def test_a_wrong_choice_is_one_clear_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message) as caught:
        pages.page("loss", GIVEN | changes)
    assert "\n" not in str(caught.value)
