"""The frame: every number of a page once, as its records and the papers' tables have it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dfmsd.study import frames, pages, records, rows
from dfmsd.study.pages.comparison import PageSpec, SensitivityPage
from dfmsd.study.pages.measured import MeasuredPage
from dfmsd.study.pages.tuning import TuningPage
from dfmsd.study.spec import RunSpec
from tests.conftest import WriteRecord

GFL = ("gfl_r101", "gfl_x101")
THETAS = [{"recipe": "dfmsd", "name": f"theta {theta}", "options": {"theta": theta}} for theta in (0.1, 0.9)]


def page(*recipes: Any, **changes: Any) -> PageSpec:
    group = {"student": "fcos_r50", "teachers": GFL, "recipes": recipes}
    fields = {"page": "example", "title": "t", "question": "q", "scale": "mini", "groups": [group], "seeds": [0, 1]}
    return PageSpec(**(fields | changes))


def lines(found: pd.DataFrame, **wanted: Any) -> pd.DataFrame:
    for name, value in wanted.items():
        found = found[found[name] == value]
    return found


def test_a_record_has_a_line_for_each_number(write_record: WriteRecord) -> None:
    known = page("baseline")
    record = write_record(known.entries[0].runs[-1], 36.0, ap_interval=(35.0, 37.5), shares={"loss_dmkd_rec": 0.5})
    found = lines(frames.frame(known), role="row", seed=0)
    metrics = {
        "AP": 36.0,
        "AP_S": 18.0,
        "AP_M": 36.0,
        "AP_L": 46.0,
        "AR": 56.0,
        "images_per_second": 100.0,
        "share loss_dmkd_rec": 0.5,
    }
    assert dict(zip(found["metric"], found["value"], strict=True)) == metrics
    assert found.set_index("metric").loc["AP", ["low", "high"]].tolist() == [35.0, 37.5]
    assert found["low"].notna().sum() == 1
    assert set(found["key"]) == {record.key} and set(found["state"]) == {"ok"} and not found["stale"].any()
    assert set(found["hardware"]) == {"a processor, 1 thread"}
    missing = lines(frames.frame(known), role="row", seed=1)
    assert missing["state"].tolist() == ["not run"] and missing["value"].isna().all()


def test_students_between_stages_are_rows_of_their_own(write_record: WriteRecord) -> None:
    known = page("dfmsd", seeds=[0])
    first, last = known.entries[0].runs
    write_record(first, 40.0)
    write_record(last, 50.0)
    found = lines(frames.frame(known), metric="AP", source="ours")
    found = found[found["role"] != "teacher"]
    columns = ["row", "role", "stage", "begin", "end", "key", "value"]
    epochs = first.schedule.epochs
    assert found[columns].values.tolist() == [
        ["DFMSD, stage 1", "stage", 1, 0, epochs, first.key, 40.0],
        ["DFMSD", "row", 2, epochs, 2 * epochs, last.key, 50.0],
    ]


def test_teachers_stand_once_a_pair_from_weak_to_strong(write_record: WriteRecord) -> None:
    known = page("dmkd", "dfmsd")
    write_record(known.entries[-1].runs[0].stage.teacher, 45.0)  # type: ignore[union-attr, arg-type]
    found = lines(frames.frame(known), role="teacher", metric="AP")
    assert found[["row", "student", "stage", "state"]].values.tolist() == [
        ["GFL R101", "gfl_r101", 1, "ok"],
        ["GFL X101", "gfl_x101", 2, "not run"],
    ]


def test_the_papers_numbers_stand_beside_ours_and_tell_what_is_lost(folders: Path) -> None:
    found = lines(frames.frame(pages.get("table01", seeds=[0])), source="paper", student="retinanet_r50", row="MGD")
    by_metric = found.set_index("metric")
    # The cell of AP and AR is damaged; the others are legible.
    assert by_metric.loc[["AP", "AR"], "state"].tolist() == ["lost", "lost"]
    assert by_metric.loc["AP_S", ["state", "value"]].tolist() == ["quoted", 22.5]
    faster = lines(frames.frame(pages.get("table01", seeds=[0])), source="paper", student="faster_rcnn_r50", row="MGD", metric="AP")
    assert faster[["state", "value"]].values.tolist() == [["reconstructed", 41.9]]


def test_a_row_that_cannot_be_run_has_its_reason(folders: Path) -> None:
    known = page({"recipe": "crosskd", "name": "", "impossible": "its heads differ"}, "dfmsd")
    found = lines(frames.frame(known), role="row", row="CrossKD")
    assert found[["state", "note"]].values.tolist() == [["cannot be run", "its heads differ"]]


def test_a_stage_after_one_without_detections_cannot_be_run(write_record: WriteRecord) -> None:
    known = page("dfmsd", seeds=[0])
    first, last = known.entries[0].runs
    write_record(first, 0.0, state="no detections")
    found = lines(frames.frame(known), metric="AP", source="ours").query("role != 'teacher'").set_index("role")
    assert found["state"].to_dict() == {"stage": "no detections", "row": "cannot be run"}
    assert found.loc["row", "note"] == "the student detects nothing after stage 1"
    assert pd.isna(found.loc["row", "key"]), "there is no record that a page could link to"
    write_record(last, 4.0)
    assert lines(frames.frame(known), role="row", metric="AP", source="ours")["state"].tolist() == ["ok"], "it was run after all"


def test_what_a_page_varies_is_a_column(folders: Path) -> None:
    group = {"student": "fcos_r50", "teachers": GFL, "recipes": ["baseline", *THETAS]}
    known = pages.validate(SensitivityPage, {"page": "x", "title": "t", "question": "q", "vary": ["theta"], "groups": [group]})
    found = lines(frames.frame(known), role="row")
    assert dict(zip(found["row"], found["theta"], strict=True)) == {"baseline": 0.5, "theta 0.1": 0.1, "theta 0.9": 0.9}


def test_trials_have_their_pair_and_their_share(write_record: WriteRecord) -> None:
    known = pages.get("shares")
    assert isinstance(known, TuningPage)
    entry = next(entry for entry in known.entries if entry.row.recipe == "dmkd" and entry.row.student == "retinanet_r50")
    write_record(entry.runs[-1], 20.0)
    found = lines(frames.frame(known), metric="AP", state="ok")
    columns = ["recipe", "row", "student", "teachers", "share", "value"]
    assert found[columns].values.tolist() == [["dmkd", "DMKD", "retinanet_r50", "retinanet_r101", known.shares[0], 20.0]]
    alone = frames.frame(known).query("row == 'baseline'")
    assert alone["share"].isna().all()
    assert alone["student"].tolist() == [pair.student for pair in known.pairs]


def test_every_result_of_the_study_is_in_the_scoreboards_frame_once() -> None:
    """With the records that are published: no run of a row is left out, none counted twice on one page."""
    found = frames.frame(pages.get("scoreboard")).query("scale == 'mini' and source == 'ours' and metric == 'AP'")
    rows = found[found["role"].isin(["row", "stage"]) & found["state"].isin(["ok", "no detections"])]
    assert not rows.duplicated(["page", "place", "stage", "seed"]).any()
    runs = {run.key for known in pages.comparisons("mini") for chain in known.chains() for run in chain}
    assert set(rows["key"]) == {key for key in runs if records.result(key) is not None}


def test_a_curve_is_the_students_own_loss_over_its_epochs(write_record: WriteRecord) -> None:
    known = page("dfmsd", seeds=[0])
    first, last = known.entries[0].runs
    points = [{"iteration": 50.0, "loss": 3.0, "loss_dfmsd_rec": 1.0}, {"iteration": 100.0, "loss": 2.0, "loss_dfmsd_sfa": 0.5}]
    write_record(last, 50.0, curve=points)
    found = frames.curves(known)
    epochs = first.schedule.epochs
    assert found[["row", "epoch", "loss"]].values.tolist() == [["DFMSD", 1.5 * epochs, 2.0], ["DFMSD", 2.0 * epochs, 1.5]]
    assert frames.curves(page("baseline")).empty


def test_origins_have_a_line_a_record(write_record: WriteRecord) -> None:
    known = page("baseline", "dmkd", seeds=[0])
    records_of = [write_record(entry.runs[-1], 30.0) for entry in known.entries]
    found = frames.origins(known)
    assert sorted(found["key"]) == sorted(record.key for record in records_of)
    assert found.set_index("key")["distilled"].to_dict() == {records_of[0].key: False, records_of[1].key: True}
    assert set(found["torch"]) == {"2.13.0"}


def test_a_page_plans_its_chains_once_and_reads_a_record_once(write_record: WriteRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    known = page("baseline", "dmkd", "dfmsd")
    for entry in known.entries:
        write_record(entry.runs[-1], 30.0)
    planned, read = [], []
    chain, parse = rows.chain, records.Record.model_validate_json
    monkeypatch.setattr(rows, "chain", lambda *given, **named: planned.append(given) or chain(*given, **named))
    monkeypatch.setattr(records.Record, "model_validate_json", lambda text, **named: read.append(text) or parse(text, **named))
    again = page("baseline", "dmkd", "dfmsd")
    frames.frame(again)
    frames.origins(again)
    frames.curves(again)
    assert len(planned) == 6
    assert len(read) <= 6


def test_what_networks_reach_that_a_page_looks_into(write_record: WriteRecord) -> None:
    page = pages.get("fig05")
    assert isinstance(page, MeasuredPage)
    first, *others = page.runs().items()
    assert isinstance(first[1], RunSpec)
    write_record(first[1], 41.5)
    found = frames.networks(page)
    assert found.index.tolist() == [first[0], *dict(others)] and found["AP"].tolist()[0] == 41.5
    assert found["key"].tolist()[0] == first[1].key and found["AP"].isna().sum() == len(others)


def test_differences_on_resampled_images_want_both_runs(write_record: WriteRecord) -> None:
    one, other = (entry.runs[-1] for entry in page("baseline").entries)
    write_record(one, 30.0, ap_resamples=(30.0, 31.5))
    assert frames.resampled(one.key, other.key) == []
    write_record(other, 29.0, ap_resamples=(29.0, 29.5))
    assert frames.resampled(one.key, other.key) == [1.0, 2.0]
