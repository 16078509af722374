"""Rows set side by side, against differences and counts worked out by hand."""

from __future__ import annotations

import re
from math import sqrt

import pandas as pd
import pytest
from scipy.stats import t

from dfmsd.report import comparison
from dfmsd.study import frames, pages
from dfmsd.study.pages.comparison import PageSpec
from tests.conftest import WriteRecord
from tests.report.conftest import PAIR, fill, lines

ROWS = {
    ("baseline", "baseline"): {0: 30.0, 200: 32.0, 400: 34.0},
    ("MGD", "mgd"): {0: 33.0, 200: None, 400: 36.0},
    ("DFMSD", "dfmsd"): {0: 31.0, 200: 34.0, 400: 37.0},
}
OTHER = "GFL R50 taught by FCOS R101"
TWICE = {"recipe": "baseline", "name": "baseline, twice the epochs", "options": {"length": 2}}


@pytest.fixture
def frame() -> pd.DataFrame:
    other = lines({("baseline", "baseline"): {0: 40.0}, ("MGD", "mgd"): {0: None}, ("DFMSD", "dfmsd"): {0: 39.0}}, OTHER)
    return pd.concat([lines(ROWS), other], ignore_index=True)


def test_gains_are_paired_by_seed(frame: pd.DataFrame) -> None:
    gains = comparison.gains(comparison.by_seed(frame))
    assert gains.loc[(PAIR, "MGD")].tolist()[::2] == [3.0, 2.0] and pd.isna(gains.loc[(PAIR, "MGD"), 200])
    assert gains.loc[(PAIR, "DFMSD")].tolist() == [1.0, 2.0, 3.0]
    assert gains.loc[(PAIR, "baseline")].isna().all()
    assert gains.loc[(OTHER, "DFMSD"), 0] == -1.0


def test_an_interval_is_by_the_spread_of_all_rows_of_a_student_else_over_the_first_seeds_images(frame: pd.DataFrame) -> None:
    found = comparison.intervals(frame)
    # Squares around the rows' means: 8, 4.5 and 18, over 2 + 1 + 2.
    reach = t.ppf(0.975, 5) * sqrt(30.5 / 5)
    assert found[PAIR, "baseline"] == pytest.approx((32 - reach / sqrt(3), 32 + reach / sqrt(3)))
    assert found[PAIR, "MGD"] == pytest.approx((34.5 - reach / sqrt(2), 34.5 + reach / sqrt(2)))
    assert found[OTHER, "baseline"] == (39.0, 41.0)  # seed 0's own: no row of GFL has two seeds
    assert found[OTHER, "MGD"] is None


def test_a_gains_interval_is_by_the_same_spread_else_over_images_paired(frame: pd.DataFrame, write_record: WriteRecord) -> None:
    found = comparison.gain_intervals(frame)
    reach = t.ppf(0.975, 5) * sqrt(2 * 30.5 / 5)
    assert found[PAIR, "MGD"] == pytest.approx((2.5 - reach / sqrt(2), 2.5 + reach / sqrt(2)))  # of the two seeds that both have
    assert found[PAIR, "baseline"] is None and found[OTHER, "MGD"] is None and found[OTHER, "DFMSD"] is None  # without resamples
    group = {"student": "fcos_r50", "teachers": ["gfl_r101"], "recipes": ["baseline", "mse"]}
    page = PageSpec(page="example", title="t", question="q", scale="mini", seeds=[0], groups=[group])
    for entry, ap, resampled in zip(page.entries, (30.0, 33.0), ([30.0, 32.0, 34.0], [34.0, 35.0, 36.0]), strict=True):
        write_record(entry.runs[-1], 0.0, metrics={"AP": ap}, ap_resamples=resampled)
    # Resample by resample MSE is 4, 3 and 2 above: their quantiles 2.05 and 3.95 around 3, turned around.
    assert comparison.gain_intervals(frames.frame(page).query("role == 'row'"))["FCOS R50 taught by GFL R101", "MSE"] == (
        2.05,
        3.95,
    )


def test_notes_say_what_a_number_lacks(frame: pd.DataFrame) -> None:
    frame.loc[(frame["row"] == "DFMSD") & (frame["pair"] == PAIR), "stale"] = True
    frame.loc[(frame["row"] == "DFMSD") & (frame["pair"] == OTHER), "state"] = "no detections"
    notes = comparison.notes(frame)
    assert [notes[PAIR, row] for row, _ in ROWS] == ["", "2 of 3 seeds", "stale"]
    assert [notes[OTHER, row] for row, _ in ROWS] == ["†", "not run", "†, no detections"]


def test_a_caption_explains_the_signs_that_its_table_has(frame: pd.DataFrame) -> None:
    said = [comparison.caption(pages.get("structural"), frame, signs) for signs in ("AP", "AP Δ", "AP 2 of 3 seeds †")]
    assert [[sign in text for sign in "Δ†"] for text in said] == [[False, False], [True, False], [False, True]]
    taught = frame["recipe"] != "baseline"
    once = comparison.caption(pages.get("structural"), frame[~taught | (frame["seed"] == frame["seed"].min())], "AP")
    assert "intervals over seeds come from untaught students" in once and "untaught" not in said[0]


def test_a_row_that_cannot_be_run_says_why_and_is_compared_with_nothing(frame: pd.DataFrame) -> None:
    frame.loc[(frame["row"] == "MGD") & (frame["pair"] == OTHER), ["state", "note", "seed"]] = ["cannot be run", "too wide", pd.NA]
    assert comparison.notes(frame)[OTHER, "MGD"] == "cannot be run: too wide"
    assert comparison.against(frame, "DFMSD").loc["MGD", "pairs"] == 1
    assert "MGD cannot be run" in comparison.figure(frame).get_label()
    without = comparison.figure(frame[(frame["row"] != "MGD") | (frame["pair"] != OTHER)])
    assert [text.get_text() for text in without.axes[1].texts][1] == "no such row"


def test_a_row_that_no_pair_has_is_not_drawn(frame: pd.DataFrame) -> None:
    frame.loc[frame["row"] == "MGD", "value"] = None
    assert comparison.drawn_rows(frame) == ["baseline", "DFMSD"]
    drawn = comparison.figure(frame)
    assert [label.get_text() for label in drawn.axes[0].get_yticklabels()] == ["baseline", "DFMSD"]
    assert "MGD" not in str(drawn.get_label())


def test_a_subject_is_counted_over_pairs(frame: pd.DataFrame) -> None:
    found = comparison.against(frame, "DFMSD")
    # To the baseline +1, +2, +3 in one pair and -1, one seed, in the other; to MGD -2 and +1, two seeds.
    columns = ["pairs", "run", "above in", "higher", "lower", "not settled", "Δ mean"]
    assert found.loc["baseline", columns].tolist() == [2, 2, 1, 0, 0, 2, pytest.approx(0.5)]
    assert found.loc["MGD", columns].tolist() == [2, 1, 0, 0, 0, 1, pytest.approx(-0.5)]
    assert found["by pair"].tolist() == ["+2.0, −1.0", "−0.5"]


def test_the_papers_numbers_keep_their_marks() -> None:
    found = comparison.quoted(frames.frame(pages.get("table03", seeds=[0])).query("role == 'row'"))
    assert found.xs("DFMSD", level="row")["AP"].tolist() == [41.2, 36.8, 36.9]
    assert found.xs("DFMSD", level="row")["Δ"].round(1).tolist() == [2.8, 1.5, 1.6]
    everything = frames.frame(pages.get("table10", seeds=[0])).query("source == 'paper'")
    assert {"label reconstructed", "AP reconstructed; from Table 1"} <= set(
        comparison.marks(everything[everything["metric"] == "AP"])
    )


def test_the_ladder_goes_from_weak_to_strong_with_every_length(write_record: WriteRecord) -> None:
    group = {"student": "fcos_r50", "teachers": ["gfl_r101", "gfl_x101"], "recipes": ["baseline", TWICE, "dfmsd"]}
    page = PageSpec(page="example", title="t", question="q", scale="mini", seeds=[0, 1], groups=[group])
    fill(page, write_record)
    found = comparison.ladder(frames.frame(page))
    assert found.index.str.partition(",").get_level_values(0).tolist() == ["FCOS R50", "FCOS R50", "GFL R101", "GFL X101"]
    assert found["role"].tolist() == ["student", "student", "teacher", "teacher"]
    assert found["mmdet"].is_monotonic_increasing
    assert found["note"].tolist() == ["", "", "†", "†"], "each teacher has one seed alone"
    aps = frames.frame(page).query("row == 'baseline' and metric == 'AP'")["value"]
    assert found["AP"].iloc[0] == pytest.approx(aps.mean()) and len(aps) == 2


def test_a_finding_names_what_is_told_apart_what_the_paper_says_otherwise_and_students_above_their_teacher() -> None:
    spread = {0: 0.0, 1000: 0.2, 2000: -0.2}
    means = {("baseline", "baseline"): 30.0, ("MSE", "mse"): 36.0, ("DMKD", "dmkd"): 34.1, ("DFMSD", "dfmsd"): 34.0}
    ours = lines({row: {seed: mean + off for seed, off in spread.items()} for row, mean in means.items()})
    paper = lines({row: {0: ap} for row, ap in zip(means, (38.0, 39.0, 40.5, 41.0), strict=True)}, source="paper", state="quoted")
    teacher = lines({("GFL X101", "baseline"): {100: 35.0}}, role="teacher", student="gfl_x101")
    frame = pd.concat([ours, paper.assign(seed=pd.NA), teacher], ignore_index=True)
    first, apart, same, best, other, passed = comparison.findings(frame, "DFMSD").splitlines()
    assert re.fullmatch(r"- \*\*DFMSD ends 4\.0 AP above the baseline \[.*\]\*\* \(1 pair of student and teachers\)\.", first)
    assert apart.startswith("- DFMSD ends below MSE (−2.0 [")
    assert same.startswith("- It is not settled whether DFMSD ends above or below DMKD (−0.1 [")
    assert best == "- The highest row is MSE: it ends 2.0 AP above DFMSD."
    assert other == (
        "- **The paper finds the opposite sign**: DFMSD minus MSE is −2.0 AP here and +2.0 there; "
        "minus DMKD is −0.1 AP here and +0.5 there."
    )
    assert passed.endswith(" in 1 of 4 rows, of which MSE is the highest (36.0 AP, teacher 35.0).")


def test_the_highest_row_is_one_that_is_run_in_all_pairs_of_the_subject() -> None:
    """MGD is 5 AP above DFMSD in the one pair that it has. There MSE is 1 AP above DFMSD, and 3 AP in the other pair."""
    aps = {("MGD", "mgd"): 35.0, ("MSE", "mse"): 31.0, ("DFMSD", "dfmsd"): 30.0}
    one = lines({row: {0: ap, 1: ap + 0.1} for row, ap in aps.items()})
    two = lines({("MGD", "mgd"): {0: None}, ("MSE", "mse"): {0: 33.0, 1: 33.1}, ("DFMSD", "dfmsd"): {0: 30.0, 1: 30.1}}, OTHER)
    teacher = lines({("GFL X101", "baseline"): {100: 50.0}}, role="teacher", student="gfl_x101")
    said = comparison.findings(pd.concat([one, two, teacher], ignore_index=True), "DFMSD").splitlines()
    assert re.fullmatch(
        r"- In the mean over pairs DFMSD ends below MGD \(−5\.0 \[.*\]\); MSE \(−2\.0 \[.*\], above in 0 of 2\)\.", said[0]
    )
    assert "- The highest row is MSE: it ends 2.0 AP above DFMSD." in said


def test_each_kind_of_teacher_has_a_finding_of_its_own_with_the_spread_of_all_rows() -> None:
    aps = {("baseline", "baseline"): 30.0, ("MSE", "mse"): 31.0, ("DFMSD", "dfmsd"): 33.0}
    other = lines({row: {0: ap, 1: ap + 0.1} for row, ap in aps.items()})
    own = lines(
        {row: {0: ap - 4 * (row[1] == "dfmsd")} for row, ap in aps.items()}, "FCOS R50 taught by FCOS R101", teachers="fcos_r101"
    )
    teacher = lines({("GFL X101", "baseline"): {100: 32.5}}, role="teacher", student="gfl_x101")
    said = comparison.findings(pd.concat([other, own, teacher], ignore_index=True), "DFMSD").splitlines()
    assert said[0] == "- A teacher of the student's own type:" and said[4] == "- A teacher of another type:"
    assert said[1].startswith("  - **DFMSD ends 1.0 AP below the baseline [−1.3, −0.7]"), "over the other pair's 3 ranges of 0.1"
    assert said[2].startswith("  - DFMSD ends below MSE (−2.0 [") and said[3].startswith("  - The highest row is MSE")
    assert said[5].startswith("  - **DFMSD ends 3.0 AP above the baseline [") and said[6].startswith(
        "  - DFMSD ends above MSE (+2.0 ["
    )
    assert said[7].startswith("- **Students that end above their strongest teacher**") and len(said) == 8


def test_no_interval_of_an_ap_leaves_what_an_ap_can_be() -> None:
    found = comparison.intervals(lines({("baseline", "baseline"): {0: 0.5, 1: 3.5}, ("DMKD", "dmkd"): {0: 0.0}}))
    reach = t.ppf(0.975, 1) * sqrt(4.5)
    assert found[PAIR, "DMKD"] == (0.0, pytest.approx(reach)) and found[PAIR, "baseline"][0] == 0.0


def test_before_its_subject_is_run_a_page_says_what_other_rows_gain() -> None:
    ours = {("baseline", "baseline"): {0: 30.0, 1000: 30.2}, ("MSE", "mse"): {0: 32.0, 1000: 32.2}, ("DFMSD", "dfmsd"): {0: None}}
    said = comparison.findings(lines(ours), "DFMSD")
    assert said.startswith("- DFMSD is not run beside another row yet. Gains over the baseline: MSE (+2.0 [+")


def test_without_a_run_there_is_no_finding() -> None:
    assert comparison.findings(lines({("baseline", "baseline"): {0: None}, ("DFMSD", "dfmsd"): {0: None}}), "DFMSD") == ""


def test_a_row_that_is_left_out_stands_in_its_table_without_a_number(write_record: WriteRecord) -> None:
    group = {"student": "fcos_r50", "teachers": ["gfl_r101"], "recipes": ["mse", "mgd", "pkd", "amd"]}
    page = PageSpec(page="table03", title="t", question="q", scale="mini", seeds=[0], groups=[group])
    for entry, sha in zip(page.entries, "aab", strict=False):
        run = entry.runs[-1]
        assert run.stage is not None
        write_record(run, 30.0, needed={run.stage.teacher.key: sha * 64})
    found = comparison.results(page, frames.frame(page))
    assert found.data.index.get_level_values("row").tolist()[1:] == ["MSE", "MGD", "PKD"], "AMD is not run"
    line = found.data.xs("PKD", level="row").iloc[0]
    assert line["", "note"] == "other training" and line.drop(("", "note")).isna().all()
