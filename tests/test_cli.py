"""The command line: what it prints, what it returns, and one clear line for each thing that can be wrong."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dfmsd.__main__ import main
from dfmsd.errors import StudyError
from dfmsd.report import answers, book, observe
from dfmsd.study import ensure as study
from dfmsd.study import measured as observation
from dfmsd.study import pages, paths, plan, records
from dfmsd.study.ensure import Outcome
from tests.fixtures_study import baseline, finish, folders, record  # noqa: F401

pytestmark = pytest.mark.usefixtures("folders")

RUN = ["run", "--student", "fcos_r50", "--scale", "smoke"]


def status(*words: str) -> int:
    try:
        return main(words)
    except SystemExit as end:
        return int(end.code or 0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["plam"], "unknown command 'plam': did you mean 'plan'?"),
        (["plan"], f"name a page ({', '.join(pages.names())}) or say --all"),
        (["plan", "tabel03"], "unknown page 'tabel03': did you mean 'table03'?"),
        (["plan", "table03", "--scale", "mimi"], "unknown scale 'mimi': did you mean 'mini'?"),
        (["plan", "tabel03", "--all"], "either --all or tabel03: --all are all pages"),
        (["observe", "fig1"], "no page 'fig1' keeps a record of what it measures: did you mean 'fig01'?"),
        (["book", "--scale", "coco"], "execute single pages by `python -m dfmsd page NAME --scale coco`"),
        (["plan", "table03", "--sede", "1"], "unknown option '--sede': did you mean '--seeds'?"),
        (["plan", "table03", "--seeds", "1;2"], "--seeds '1;2': whole numbers separated by commas, such as 0,1,2"),
        (["plan", "table03", "--seeds", "-1"], "--seeds"),
        (["page", "table03", "--jobs", "0"], "argument --jobs: '0' is not a whole number from 1 on"),
        ([*RUN, "--method", "dmdk", "--teachers", "gfl_r101"], "unknown method 'dmdk': did you mean 'dmkd'?"),
        ([*RUN, "--method", "fgd+dmdk", "--teachers", "gfl_r101"], "unknown method 'dmdk': did you mean 'dmkd'?"),
        ([*RUN, "--method", "dmkd", "--teachers", "gfl_r11"], "unknown detector 'gfl_r11': did you mean 'gfl_r101'?"),
        ([*RUN, "--method", "dmkd", "--teachers", "fcos_r50"], "fcos_r50 is its own teacher: take another one"),
        ([*RUN, "--method", "dmkd"], "dmkd of fcos_r50 has an empty list of teachers: name at least one"),
        ([*RUN, "--method", "dfmsd", "--teachers", "gfl_x101", "gfl_r101"], "from weak to strong they are gfl_r101 -> gfl_x101"),
        ([*RUN, "--method", "dfmsd", "--teachers", "gfl_x101", "gfl_r101"], "--any-order, allows it"),
        ([*RUN, "--method", "baseline", "--seed", "-1"], "argument --seed: '-1' is not a whole number from 0 on"),
        ([*RUN, "--method", "baseline", "--rehearse", "0"], "argument --rehearse: '0' is not a whole number from 1 on"),
        (["run", "--method", "baseline"], "the following arguments are required: --student"),
    ],
)
def test_a_wrong_command_is_told_in_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status(*words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    assert not paths.runs().exists()


def test_without_a_command_the_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert status() == 2
    out, err = capsys.readouterr()
    assert err == ""
    for command in ("plan", "page", "run", "publish", "check", "book", "doctor"):
        assert f"    {command} " in out


def coco(root: Path, *, images: int = 8) -> Path:
    """A root in COCO's layout, with one object in each image; the images are missing."""
    (root / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        (root / f"{split}2017").mkdir()
        content = {
            "images": [{"id": i, "file_name": f"{i}.jpg", "width": 64, "height": 64} for i in range(images)],
            "annotations": [
                {"id": i + 1, "image_id": i, "category_id": 1, "bbox": [0, 0, 9, 9], "area": 81, "iscrowd": 0}
                for i in range(images)
            ],
            "categories": [{"id": 1, "name": "person"}],
        }
        (root / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(content))
        for i in range(images):
            (root / f"{split}2017" / f"{i}.jpg").touch()
    return root


REHEARSAL = ["run", "--student", "retinanet_r50", "--method", "baseline", "--scale", "coco", "--rehearse", "1"]


def test_a_coco_that_is_not_as_it_should_be_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(*REHEARSAL) == 2
    assert capsys.readouterr().err == "error: COCO is not set up: name its root, export DFMSD_COCO=/path/to/coco\n"
    monkeypatch.setenv("DFMSD_COCO", str(tmp_path))
    assert status(*REHEARSAL) == 2
    assert "which is not COCO's root: it has no annotations/instances_train2017.json\n" in capsys.readouterr().err
    root = coco(tmp_path / "coco")
    monkeypatch.setenv("DFMSD_COCO", str(root))
    (root / "val2017" / "1.jpg").unlink()
    assert status(*REHEARSAL) == 2
    assert f"1 of 2 images of val are missing in {root / 'val2017'}; the first is 1.jpg\n" in capsys.readouterr().err
    assert not list(paths.runs().glob("*.partial"))


def test_a_damaged_record_is_told_and_fails_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    file = finish(baseline())
    file.write_text(file.read_text().replace('"seed": 0', '"seed": 1'))
    assert status(*RUN, "--method", "baseline") != 0
    err = capsys.readouterr().err
    assert err.count("error: ") == 1
    assert f"record {file}: its specification does not hash to its key, it was edited; delete it" in err


def test_a_full_disk_while_publishing_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    finish(pages.get("table03", scale="smoke").chains()[0][0])

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert status("publish", "table03", "--scale", "smoke") == 2
    err = capsys.readouterr().err
    assert err.startswith("error: the disk is full (")
    assert err.count("\n") == 1
    assert not list(paths.records().glob("*.json"))


def test_publish_counts_what_is_new_and_what_is_lacking(capsys: pytest.CaptureFixture[str]) -> None:
    runs = plan.order(pages.get("table03", scale="smoke").chains())
    finish(runs[0])
    assert status("publish", "table03", "--scale", "smoke") == 0
    assert capsys.readouterr().out == f"1 new records; {len(runs) - 1} runs have none yet\n"


def test_check_lists_what_is_wrong_and_takes_no_other_pages_record_for_unused(capsys: pytest.CaptureFixture[str]) -> None:
    smoke_run = pages.get("table03", scale="smoke").chains()[0][0]
    mini_run = pages.get("table03", scale="mini").chains()[0][0]
    for run in (smoke_run, mini_run):
        records.write_atomic(paths.records() / f"{run.key}.json", records.dump(record(run, code="0" * 12)))
    stranger = baseline(seed=99)
    records.write_atomic(paths.records() / f"{stranger.key}.json", records.dump(record(stranger)))
    assert status("check", "table03", "--scale", "smoke") == 0
    out = capsys.readouterr().out
    assert f"stale: 1\n  {smoke_run.key}\n" in out
    assert f"unused: 1\n  {stranger.key}\n" in out
    assert "damaged: 0\n" in out
    (paths.records() / f"{stranger.key}.json").write_text("{")
    assert status("check", "table03", "--scale", "smoke") == 1
    assert "damaged: 1\n" in capsys.readouterr().out


def test_a_failed_run_costs_a_page_nothing_else(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    page = pages.get("table03", scale="mini", seeds=[0])
    runs = plan.order(page.chains())
    finish(runs[0])
    outcome = Outcome(done=[runs[0]], failed={runs[1].key: "loss is not finite"}, skipped=[runs[2]])
    monkeypatch.setattr(study, "ensure", lambda *_, **__: outcome)
    executed: list[str] = []
    failures = {"shapes": StudyError("its notebook failed"), "fig06": RuntimeError("a defect of ours")}

    def execute(page: Any) -> Path:
        executed.append(page.page)
        if page.page in failures:
            raise failures[page.page]
        return Path("book/pages") / f"{page.page}.ipynb"

    monkeypatch.setattr(book, "execute", execute)
    monkeypatch.setattr("dfmsd.__main__._look", lambda page: None)
    assert status("page", "shapes", "fig06", "table03", "--seeds", "0") == 1
    out, err = capsys.readouterr()
    assert executed == ["shapes", "fig06", "table03"]
    assert "table03: book/pages/table03.ipynb" in out
    assert (paths.records() / f"{runs[0].key}.json").exists()
    assert "Traceback" in err and "RuntimeError: a defect of ours" in err
    assert [line for line in err.splitlines() if line.startswith(("error", "skipped"))] == [
        "error: shapes: its notebook failed",
        "error: fig06: a defect of ours",
        f"error: {runs[1].key} ({pages.describe(runs[1])}): loss is not finite",
        f"skipped: {runs[2].key} ({pages.describe(runs[2])}): a run that it needs failed",
    ]


def test_smoke_runs_are_not_published(monkeypatch: pytest.MonkeyPatch) -> None:
    finish(pages.get("table03", scale="smoke").chains()[0][0])
    monkeypatch.setattr(study, "ensure", lambda *_, **__: Outcome())
    monkeypatch.setattr(book, "execute", lambda page: Path(page.page))
    assert status("page", "table03", "--scale", "smoke") == 0
    assert not paths.records().exists()


@pytest.mark.parametrize(
    ("trained", "seen", "stale", "looks"),
    [(True, None, [], 1), (True, "seen", ["new code"], 1), (True, "seen", [], 0), (False, None, [], 0)],
)
def test_a_page_of_features_is_measured_where_it_can_and_must_be(
    trained: bool, seen: Any, stale: list[str], looks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    monkeypatch.setattr(study, "ensure", lambda *_, **__: Outcome())
    monkeypatch.setattr(book, "execute", lambda page: Path(page.page))
    monkeypatch.setattr(plan, "has_weights", lambda run: trained)
    monkeypatch.setattr(observation, "read", lambda page, kind: seen)
    monkeypatch.setattr(observation, "stale", lambda seen, page: stale)
    monkeypatch.setattr(observe, "run", lambda page: made.append(page.page))
    monkeypatch.setattr(answers, "run", lambda page: made.append(page.page))
    assert status("page", "fig04", "fig05", "table03", "--seeds", "0") == 0
    assert made == ["fig04", "fig05"] * looks


def test_names_are_joined_with_spaces_or_without(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def ensure(chains: Any, **_: Any) -> Outcome:
        asked.append(chains)
        return Outcome(failed={run.key: "not trained" for run in chains[0]})

    monkeypatch.setattr(study, "ensure", ensure)
    for method, teachers in (("fgd + pkd", "gfl_r101 + gfl_x101"), ("fgd+pkd", "gfl_r101+gfl_x101")):
        assert status(*RUN, "--method", method, "--teachers", teachers) == 1
    assert asked[0] == asked[1]
    assert [method.type for method in asked[0][0][0].stage.methods] == ["FGD", "PKD"]


@pytest.mark.slow
def test_a_row_is_trained_from_the_command_line() -> None:
    command = [sys.executable, "-m", "dfmsd", *RUN, "--method", "baseline"]
    done = subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True)
    run = baseline()
    assert done.returncode == 0, done.stderr
    found = records.find(run.key)
    assert found is not None
    assert (
        done.stdout.splitlines()[-1] == f"{run.key}  FCOS R50, 1 epoch, seed 0: AP {found.metrics['AP']:.1f}  {study.folder(run)}"
    )
    # Without a terminal there is no bar that redraws itself.
    assert "\x1b" not in done.stderr
    assert "\r" not in done.stderr
