"""The student's way through the stages, against numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from dfmsd.report import stages
from dfmsd.study.pages.comparison import PageSpec
from tests.report.conftest import PAIR, html, lines

NAMES = ["baseline", "DFMSD, stage 1", "DFMSD, stage 2", "DMKD", "without SFA"]


@pytest.fixture
def frame() -> pd.DataFrame:
    rows = lines(
        {
            ("baseline", "baseline"): {0: 30.0, 1: 31.0},
            ("DMKD", "dmkd"): {0: 35.0},
            ("without SFA", "dfmsd"): {0: None},
            ("DFMSD", "dfmsd"): {0: 38.0, 1: None},
        },
        begin=0.0,
        end=12.0,
    )
    last = rows["row"] == "DFMSD"
    rows.loc[last, ["stage", "begin", "end"]] = [2, 12.0, 24.0]
    before = rows[last].assign(role="stage", row="DFMSD, stage 1", stage=1, begin=0.0, end=12.0, value=[33.0, 36.0], state="ok")
    rows.loc[rows["row"] == "without SFA", ["begin", "end"]] = [12.0, 24.0]
    other = rows[rows["row"] == "without SFA"].assign(role="stage", row="without SFA, stage 1", begin=0.0, end=12.0)
    return pd.concat([rows, before, other], ignore_index=True).astype({"stage": "Int64"})


def test_the_way_leads_from_the_baseline_through_the_stages(frame: pd.DataFrame) -> None:
    way = stages.path(frame, "DFMSD")
    assert way["row"].drop_duplicates().tolist() == NAMES
    steps = stages.steps(way, "DFMSD")
    assert steps.loc[(PAIR, "DFMSD, stage 1")].tolist() == [3.0, 5.0]
    assert steps.loc[(PAIR, "DFMSD, stage 2"), 0] == 5.0 and pd.isna(steps.loc[(PAIR, "DFMSD, stage 2"), 1])


@pytest.mark.parametrize("missing", [[], ["DFMSD"], ["DFMSD", "DFMSD, stage 1"]])
def test_stages_that_are_not_run_are_one_line(frame: pd.DataFrame, missing: list[str], folders: Path) -> None:
    group = {"student": "fcos_r50", "teachers": ["gfl_r101", "gfl_x101"], "recipes": ["baseline", "dfmsd"]}
    page = PageSpec(page="made-up", title="t", question="q", scale="smoke", seeds=[0], groups=[group])
    frame.loc[frame["row"].isin(missing), "value"] = None
    shown = html(stages.added(page, stages.path(frame, "DFMSD")))
    assert [name for name in NAMES[1:3] if f">{name}</th>" in shown] == NAMES[1 : 3 - len(missing)]
    are = "is" if len(missing) == 1 else "are"
    assert (f"{len(missing)} of 2 stages {are} not run yet. {page.command()} makes all " in shown) == bool(missing)


def test_the_figure_has_the_teachers_own_ap(frame: pd.DataFrame) -> None:
    teachers = lines({("GFL R101", "baseline"): {0: 45.0}, ("GFL X101", "baseline"): {0: None}}, role="teacher")
    drawn = stages.figure(stages.path(frame, "DFMSD"), "DFMSD", teachers)
    assert str(drawn.get_label()).endswith(f"AP of the teachers. {PAIR}: GFL R101 45.0; GFL X101 not run.")
    assert [line.get_xdata()[0] for line in drawn.axes[0].lines if line.get_linestyle() == ":"] == [45.0]
    assert "R101 45.0" in [text.get_text() for text in drawn.axes[0].texts]


def test_curves_end_in_the_mean_of_the_last_epoch(frame: pd.DataFrame) -> None:
    points = [(0.5, 3.0), (1.0, 2.0), (11.5, 1.0), (12.0, 0.5)]
    kept = frame.query("row == 'baseline' and seed == 0").iloc[[0] * len(points)].reset_index(drop=True)
    kept = kept.assign(epoch=[epoch for epoch, _ in points], loss=[loss for _, loss in points])
    other = frame[frame["row"].str.startswith("without SFA")].sort_values("begin").assign(epoch=[12.0, 24.0], loss=[5.0, 4.0])
    curves = stages.path(pd.concat([kept, other], ignore_index=True), "DFMSD")
    way = stages.path(frame, "DFMSD")
    found = stages.ends(way, curves)
    columns = ["begin", "end", "first epoch", "last epoch", "seeds"]
    assert found.loc[(PAIR, "baseline"), columns].tolist() == [0, 12, 2.5, 0.75, 2]
    assert found.loc[(PAIR, "without SFA"), ["begin", "end"]].tolist() == [0, 24], "all stages of another row are one line"
    assert found.loc[(PAIR, "without SFA"), ["first epoch", "last epoch"]].tolist() == [5.0, 4.0]
    late = stages.ends(way, curves[curves["epoch"] > 1])
    assert late.loc[(PAIR, "baseline"), "first epoch"] == curves.loc[curves["epoch"] > 1, "loss"].iloc[0], "the first point counts"
    assert found.loc[(PAIR, "DFMSD, stage 2"), ["begin", "end", "seeds"]].tolist() == [12, 24, 1]
    assert found.loc[(PAIR, "DFMSD, stage 2"), "last epoch"] != found.loc[(PAIR, "DFMSD, stage 2"), "last epoch"]
    words = str(stages.learning(way, curves, "DFMSD").get_label())
    assert "baseline 2.50 to 0.75; DFMSD, stage 1 not run" in words
