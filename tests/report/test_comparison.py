"""Tables, figure and verdicts of pages whose records the test has chosen."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from dfmsd.report import comparison, figures
from dfmsd.study import pages
from dfmsd.study.frame import lines
from dfmsd.study.pages import PageSpec
from dfmsd.study.records import Record
from dfmsd.study.rows import RECIPES

WriteRecord = Callable[..., Record]

RECIPES_HERE = ("baseline", "mgd", "dmkd", "equal_budget", "dfmsd")
GROUP = {"student": "fcos_r50", "teachers": ["gfl_r101", "gfl_x101"], "recipes": RECIPES_HERE}


def page(seeds: tuple[int, ...] = (0,), **changes: Any) -> PageSpec:
    return pages.spec(page="mine", title="Mine", question="Why?", table=3, groups=[GROUP], scale="mini", seeds=seeds, **changes)


def run_all(spec: PageSpec, write_record: WriteRecord, aps: dict[str, tuple[float, ...]], **fields: Any) -> None:
    for entry in spec.entries():
        if entry.row.recipe in aps:
            write_record(entry.runs[-1], aps[entry.row.recipe][entry.seed], **fields)


def cells(styler: Any) -> dict[str, list[str]]:
    """Plain texts of a table's rows, by their first cell."""
    rows = re.findall(r"<tr>(.*?)</tr>", styler.to_html(), re.DOTALL)
    found = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]
    texts = [[re.sub(r"<[^>]*>", " ", cell).strip() for cell in row] for row in found]
    return {row[0]: row[1:] for row in texts}


def test_without_records_every_row_is_not_run(write_record: WriteRecord) -> None:
    rows = cells(comparison.table(page()))
    assert sum("not run (about" in name for name in rows) == len(RECIPES_HERE)
    assert all("not run" in sentence for sentence in comparison.verdicts(page()).data.splitlines())
    assert "0 of" in comparison.progress(page()).data
    assert "not run" in figures.comparison(page()).alt


def test_papers_numbers_stand_beside_ours(write_record: WriteRecord) -> None:
    spec = page()
    run_all(spec, write_record, {"baseline": (20.0,), "dfmsd": (23.5,)}, ap_interval=(22.0, 25.0))
    rows = cells(comparison.table(spec))
    # The paper's Table 3: FCOS 35.3, by DFMSD of GFL teachers 36.9.
    assert rows["DFMSD"] == ["36.9", "+1.6", "23.5 22.0 to 25.0†", "+3.5", "11.8", "23.5", "33.5", "43.5", "23.5"]
    assert rows["baseline"][:2] == ["35.3", "–"]
    assert "fewer than three seeds" in comparison.table(spec).to_html()


def test_all_metrics_of_the_paper_stand_beside_ours(write_record: WriteRecord) -> None:
    spec = page()
    run_all(spec, write_record, {"dfmsd": (23.5,)})
    rows = cells(comparison.metrics(spec))
    # The paper's Table 3, FCOS by GFL: AP 36.9, 21.2, 39.9, 48.1; AR 54.2, 33.8, 58.7, 70.3.
    assert rows["DFMSD"][:8] == ["36.9", "21.2", "39.9", "48.1", "54.2", "33.8", "58.7", "70.3"]
    assert rows["DFMSD"][8:11] == ["23.5", "11.8", "23.5"]
    assert rows["DMKD, equal budget"] == ["–"] * 16


def test_cells_that_the_text_lost_and_those_from_its_prose_are_marked() -> None:
    groups = [
        {"student": name, "teachers": ["mask_rcnn_swint", "mask_rcnn_swins"], "recipes": ["mgd"]}
        for name in ("faster_rcnn_r50", "fcos_r50")
    ]
    spec = pages.spec(page="mine", title="Mine", question="Why?", table=1, groups=groups, seeds=(0,))
    html = comparison.metrics(spec).to_html()
    assert html.count("reconstructed") == 1 and html.count("lost") == 3  # both rows lack AR, FCOS lacks AP
    assert "reconstructed" in comparison.table(spec).to_html()


def quoting(table: int) -> PageSpec:
    found = pages.get(f"table{table:02}", seeds=[0])
    assert isinstance(found, PageSpec)
    return found


@pytest.mark.usefixtures("write_record")
def test_what_the_papers_ablations_do_not_print_is_marked() -> None:
    table = comparison.table(quoting(11))
    found = {name.partition(" not run")[0]: texts[:2] for name, texts in cells(table).items()}
    # RetinaNet's baseline is Table 6's; which modules a row has is read from the order, but for all three.
    assert found["baseline"] == ["37.4 from Table 6", "–"]
    assert found["SAL"] == ["41.7 label reconstructed", "+4.3"]
    assert found["DFMSD"] == ["42.0", "+4.6"]
    assert "the rows are read in the usual order" in table.to_html()


@pytest.mark.usefixtures("write_record")
def test_a_row_that_cannot_be_run_shows_the_papers_numbers_and_why() -> None:
    rows = re.findall(r"<tr>(.*?)</tr>", comparison.table(quoting(5)).to_html(), re.DOTALL)
    row = re.sub(r"<[^>]*>|\s+", " ", next(row for row in rows if "cannot be run" in row)).split()
    assert " ".join(row) == "CrossKD cannot be run: it needs a dense teacher head of the student's type 39.4 +2.0 – – – – – – –"
    (waiting,) = comparison.verdicts(quoting(5)).data.splitlines()
    assert waiting.startswith("- DFMSD against the baseline; the baseline of equal budget; MSE; ") and "; CrossKD; " in waiting
    assert waiting.endswith("; DFMSD, strong teacher alone: **not run**.")


def test_a_row_that_cannot_be_run_is_no_open_comparison(write_record: WriteRecord) -> None:
    for entry in quoting(5).entries():
        if entry.row.recipe in ("crosskd", "dfmsd"):
            write_record(entry.runs[-1], 20.0)
    sentence = next(line for line in comparison.verdicts(quoting(5)).data.splitlines() if "CrossKD" in line)
    assert sentence == "- DFMSD is above CrossKD in **0 of 1** pairs (+0.0 AP; one seed: no test)."


def test_three_seeds_have_an_interval_and_fewer_do_not(write_record: WriteRecord) -> None:
    spec = page((0, 1, 2))
    run_all(spec, write_record, {"baseline": (20.0, 21.0, 22.0), "dfmsd": (22.0, 24.0, 24.0)})
    rows = cells(comparison.table(spec))
    assert rows["DFMSD"][2:4] == ["23.3 22.0 to 24.0", "+2.3 +2.0 to +3.0"]
    assert "fewer than three" not in comparison.table(spec).to_html()


def test_a_missing_seed_is_marked(write_record: WriteRecord) -> None:
    spec = page((0, 1, 2))
    run_all(page((0, 1)), write_record, {"baseline": (20.0, 21.0)})
    assert any(name.startswith("baseline") and "2 of 3 seeds" in name for name in cells(comparison.table(spec)))


def run_stale(spec: PageSpec, write_record: WriteRecord, aps: dict[str, float]) -> None:
    """Write records whose code has changed since."""
    for entry in spec.entries():
        if entry.row.recipe in aps:
            fresh = write_record(entry.runs[-1], 0.0)
            provenance = fresh.provenance.model_copy(update={"code_digest": "another"})
            write_record(entry.runs[-1], aps[entry.row.recipe], provenance=provenance)


def test_stale_and_empty_results_are_marked(write_record: WriteRecord) -> None:
    spec = page()
    run = {entry.row.recipe: entry.runs[-1] for entry in spec.entries()}
    write_record(run["baseline"], 20.0)
    run_stale(spec, write_record, {"mgd": 21.0})
    write_record(run["dmkd"], 0.0, state="no detections")
    marks = {line.row.recipe: line.marks() for line in lines(spec)}
    assert marks["baseline"] == []
    assert marks["mgd"] == ["stale"]
    assert marks["dmkd"] == ["no detections"] or marks["dmkd"] == ["no detections", "stale"]


def test_a_difference_to_a_stale_row_is_marked(write_record: WriteRecord) -> None:
    spec = page()
    run_all(spec, write_record, {"dmkd": (21.0,), "dfmsd": (23.0,)})
    assert "stale" not in comparison.table(spec).to_html()
    run_stale(spec, write_record, {"baseline": 20.0})
    rows = cells(comparison.table(spec))
    assert rows["DFMSD"][3] == "+3.0 stale"
    assert [name for name in cells(comparison.metrics(spec)) if "stale" in name] == ["baseline stale"]
    assert "have a record, 1 of them *stale*; the rest" in comparison.progress(spec).data


def test_a_stale_mean_is_hollow_in_the_figure(write_record: WriteRecord) -> None:
    spec = page()
    run_all(spec, write_record, {"baseline": (20.0,), "dfmsd": (23.0,)})
    fresh = figures.comparison(spec)
    run_stale(spec, write_record, {"dfmsd": 23.0})
    stale = figures.comparison(spec)
    assert "DFMSD 23.0 (stale)" in stale.alt and "baseline 20.0;" in stale.alt
    assert fresh.svg != stale.svg and "stale" not in fresh.alt


def test_a_run_that_broke_off_is_no_result(write_record: WriteRecord) -> None:
    spec = page()
    write_record(spec.entries()[0].runs[-1], 0.0, state="nan", metrics={})
    assert lines(spec)[0].ap is None


@pytest.mark.parametrize(
    ("rival", "words"),
    [
        ((20.0, 20.0, 20.0), "beats DMKD in **1 of 1** pairs (+5.0 AP)"),
        ((29.0, 29.0, 29.0), "beats DMKD in **0 of 1** pairs, loses in 1 (−4.0 AP)"),
        ((25.5, 24.0, 25.0), "beats DMKD in **0 of 1** pairs, undecided in 1"),
    ],
)
def test_verdicts_follow_the_paired_interval(write_record: WriteRecord, rival: tuple[float, ...], words: str) -> None:
    spec = page((0, 1, 2))
    run_all(spec, write_record, {"dmkd": rival, "dfmsd": (25.0, 25.0, 25.0)})
    assert words in comparison.verdicts(spec).data


def test_one_seed_is_not_tested(write_record: WriteRecord) -> None:
    spec = page()
    run_all(spec, write_record, {"dmkd": (20.0,), "dfmsd": (30.0,)})
    sentence = next(line for line in comparison.verdicts(spec).data.splitlines() if "DMKD" in line)
    assert sentence == "- DFMSD is above DMKD in **1 of 1** pairs (+10.0 AP; one seed: no test)."


def test_smoke_is_no_evidence(write_record: WriteRecord) -> None:
    assert "mean nothing" in comparison.verdicts(page().model_copy(update={"scale": "smoke"})).data
    assert "mean nothing" not in comparison.verdicts(page()).data


def test_figure_is_the_same_each_time_and_has_words(write_record: WriteRecord, tmp_path: Path) -> None:
    spec = page()
    run_all(spec, write_record, {"baseline": (20.0,), "dfmsd": (23.5,)})
    first, second = figures.comparison(spec), figures.comparison(spec)
    assert first.svg == second.svg
    assert "DFMSD 23.5" in first.alt
    assert "MGD not run" in first.alt
    shown = first._repr_html_()
    encoded = re.search(r"base64,([^\"]+)", shown)
    assert encoded is not None
    assert base64.b64decode(encoded[1]).decode() == first.svg
    first.save(tmp_path / "figure.svg")
    assert (tmp_path / "figure.svg").read_text() == first.svg


def test_every_recipe_has_a_colour_of_its_own() -> None:
    assert set(figures.COLOURS) == set(RECIPES)
    assert len(set(figures.COLOURS.values())) == len(RECIPES)


VISION = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
"""How linear red, green and blue appear, by Machado, Oliveira and Fernandes (2009)."""

OKLAB = (
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ],
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ],
)
"""Ottosson's space, in which distances are as large as they look: to cones, and from their cube roots."""


@pytest.mark.parametrize("kind", VISION)
def test_colours_can_be_told_apart(kind: str) -> None:
    plain = np.array([to_rgb(colour) for colour in figures.COLOURS.values()])
    linear = np.where(plain <= 0.04045, plain / 12.92, ((plain + 0.055) / 1.055) ** 2.4)
    cones = np.clip(linear @ np.array(VISION[kind]).T, 0, 1) @ np.array(OKLAB[0]).T
    seen = np.cbrt(cones) @ np.array(OKLAB[1]).T
    apart = np.linalg.norm(seen[:, None] - seen, axis=2)
    names = list(figures.COLOURS)
    close = [(names[i], names[j]) for i, j in zip(*np.where(apart < 0.09), strict=True) if i < j]
    assert not close


def test_shares_are_averaged_over_seeds_for_each_stage(write_record: WriteRecord) -> None:
    spec = page((0, 1))
    for entry in spec.entries():
        if entry.row.recipe == "dfmsd":
            for stage, run in enumerate(entry.runs, start=1):
                write_record(run, 20.0, shares={"loss_dfmsd_rec": stage + entry.seed})
    frame = comparison.shares(spec).data
    assert isinstance(frame, pd.DataFrame)
    assert frame.loc["DFMSD", ["stage", "rec"]].to_numpy().tolist() == [["1", "1.50"], ["2", "2.50"]]


def test_ladder_shows_each_network_once(write_record: WriteRecord) -> None:
    spec = page()
    run_all(spec, write_record, {"baseline": (20.0,)})
    teacher = next(e for e in spec.entries() if e.row.recipe == "mgd").runs[-1].stage.teacher
    write_record(teacher, 33.0)
    frame = comparison.ladder(spec).data
    assert frame["network"].tolist() == ["FCOS R50", "GFL R101", "GFL X101"]
    assert [re.sub("<[^>]*>", "", cell) for cell in frame["AP, mini"]] == ["20.0", "–", "33.0"]
    assert f"records/{teacher.key}.json" in frame["AP, mini"].iloc[-1]


def test_ladder_shows_a_student_after_every_budget(write_record: WriteRecord) -> None:
    spec = pages.get("table04", seeds=[0])
    assert isinstance(spec, PageSpec)
    run_all(spec, write_record, {"baseline": (20.0,), "longer_baseline": (40.0,)})
    frame = comparison.ladder(spec).data
    shown = frame.assign(AP=[re.sub("<[^>]*>", "", cell) for cell in frame["AP, mini"]])[["network", "epochs", "AP"]]
    assert shown.to_numpy().tolist()[:2] == [["Faster R-CNN R50", "12", "20.0"], ["Faster R-CNN R50", "24", "40.0"]]


def test_a_run_that_measured_no_speed_is_left_out(write_record: WriteRecord) -> None:
    spec = page((0, 1))
    first, second = (entry.runs[-1] for entry in spec.entries() if entry.row.recipe == "baseline")
    measured = write_record(first, 20.0).provenance
    write_record(second, 20.0, provenance=measured.model_copy(update={"images_per_second": 0.0}))
    assert comparison.ladder(spec).data["images/s"].iloc[0] == "100"
    facts = dict(comparison.provenance(spec).data.to_numpy().tolist())
    assert facts["images per second"] == "FCOS R50, alone: 100"
    write_record(first, 20.0, provenance=measured.model_copy(update={"images_per_second": 0.0}))
    assert comparison.ladder(spec).data["images/s"].iloc[0] == "–"


def test_every_seed_leads_to_its_record(write_record: WriteRecord) -> None:
    spec = page((0, 1))
    run_all(spec, write_record, {"dfmsd": (23.5, 24.5)})
    text = comparison.table(spec).to_html()
    keys = [entry.runs[-1].key for entry in spec.entries() if entry.row.recipe == "dfmsd"]
    assert re.findall(r'href="../records/(\w+).json">([\d.]+)<', text) == list(zip(keys, ("23.5", "24.5"), strict=True))


def test_the_tidy_table_has_every_result_in_full(write_record: WriteRecord) -> None:
    spec = page((0, 1))
    run_all(spec, write_record, {"baseline": (20.123, 21.0), "dfmsd": (23.5, 24.5)})
    frame = comparison.tidy(spec).data
    assert frame[["row", "seed", "AP"]].to_numpy().tolist() == [
        ["baseline", "0", "20.123"],
        ["baseline", "1", "21.0"],
        ["DFMSD", "0", "23.5"],
        ["DFMSD", "1", "24.5"],
    ]
    assert set(frame["stale"]) == {"no"}
    run_stale(spec, write_record, {"dfmsd": 23.5})
    assert comparison.tidy(spec).data["stale"].tolist() == ["no", "no", "yes", "yes"]


def test_every_table_says_its_scale(write_record: WriteRecord) -> None:
    spec = page()
    run_all(spec, write_record, {"baseline": (20.0,), "dfmsd": (23.5,)})
    for part in (comparison.table, comparison.metrics, comparison.ladder, comparison.shares, comparison.tidy):
        assert "mini" in part(spec).to_html(), part


def test_provenance_and_runs_name_what_is_there(write_record: WriteRecord) -> None:
    spec = page()
    run = spec.entries()[0].runs[-1]
    write_record(run, 20.0)
    facts = dict(comparison.provenance(spec).data.to_numpy().tolist())
    assert facts["commit"] == "0123456789ab"
    assert facts["computing time"] == "2 min for 1 run"
    runs = comparison.status(spec).data
    done = runs[runs["state"] == "done"]
    assert done["record"].tolist() == [f'<a href="../records/{run.key}.json">{run.key}</a>']
    assert (runs["state"] == "missing").sum() == len(runs) - 1


def test_an_empty_page_has_all_its_parts(write_record: WriteRecord) -> None:
    for part in (comparison.shares, comparison.ladder, comparison.provenance, comparison.status, comparison.tidy):
        assert part(page()).to_html()


def test_a_row_that_cannot_be_run_is_not_drawn_as_waiting() -> None:
    spec = pages.get("table05", seeds=[0])
    assert isinstance(spec, PageSpec)
    assert figures.comparison(spec).alt.count("CrossKD cannot be run") == 1


@pytest.mark.parametrize("name", ["table03", "table08"])
def test_titles_and_names_of_rows_lie_within_the_figure(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(figures.Picture, "of", lambda drawing, alt: drawn.append(drawing))
    figures.comparison(pages.get(name))
    (drawing,) = drawn
    drawing.draw_without_rendering()
    for ax in drawing.axes:
        for text in (ax.title, *ax.get_yticklabels()):
            box = text.get_window_extent()
            assert (box.x0 >= 0, box.x1 <= drawing.bbox.x1) == (True, True), text.get_text()
