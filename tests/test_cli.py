"""The command line: what it prints, what it returns, and one clear line for each thing that can be wrong."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from dfmsd.__main__ import main
from dfmsd.errors import StudyError
from dfmsd.report import book
from dfmsd.study import ensure as study
from dfmsd.study import pages, paths, plan, records, trials, zoo
from dfmsd.study.ensure import Outcome
from dfmsd.study.pages.measured import MeasuredPage
from tests.fixtures_study import baseline, finish, folders, publish  # noqa: F401

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
        (["book", "--scale", "coco"], "execute single pages by `python -m dfmsd page NAME --scale coco`"),
        (["plan", "table03", "--sede", "1"], "unknown option '--sede': did you mean '--seeds'?"),
        (["plan", "table03", "--seeds", "1;2"], "--seeds '1;2': whole numbers below 2^32 separated by commas, such as 0,1,2"),
        (["plan", "table03", "--seeds", "nan"], "--seeds 'nan': whole numbers"),
        (["plan", "table03", "--seeds", "4294967296"], "--seeds '4294967296': whole numbers below 2^32"),
        (["plan", "table03", "--seeds", "0,3,0"], "--seeds '0,3,0': 0 stands there twice"),
        (["plan", "table03", "--scale", "mini", "--scale=smoke"], "--scale is given twice: say it once"),
        ([*RUN, "--method", "baseline", "--seed", "inf"], "argument --seed: 'inf' is not a whole number from 0 on"),
        ([*RUN, "--method", "baseline", "--seed", "9" * 5000], "is not a whole number from 0 on"),
        (["page", "table03", "--jobs", "0"], "argument --jobs: '0' is not a whole number from 1 on"),
        ([*RUN, "--method", "dmdk", "--teachers", "gfl_r101"], "unknown method 'dmdk': did you mean 'dmkd'?"),
        ([*RUN, "--method", "dmkd", "--jbos=2"], "unknown option '--jbos': did you mean '--jobs'?"),
        (["--al"], "unknown option '--al'"),
        ([*RUN, "--method", "dfmsd", "--teachers", "gfl_x101", "gfl_r101"], "--any-order, allows it"),
        ([*RUN, "--method", "baseline", "--seed", "-1"], "argument --seed: '-1' is not a whole number from 0 on"),
        (
            ["run", "--student", "gfl_r50", "--method", "baseline", "--scale", "coco", "--rehearse", "1"],
            "COCO is not set up: name its root, export DFMSD_COCO=/path/to/coco (`python -m dfmsd coco` tells more)",
        ),
        (
            ["run", "--student", "gfl_r50", "--method", "baseline", "--teachers", "gfl_r101"],
            "a baseline learns from no teacher: leave out --teachers, or name a method",
        ),
        (["run", "--method", "baseline"], "say what to run: a KEY that `plan` prints, or --student and --method"),
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


def test_output_that_cannot_be_written_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert status("plan", "table03", "--scale", "smoke") == 2
    assert capsys.readouterr().err == "error: what is printed cannot be written: No space left on device\n"


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("OMP_NUM_THREADS", "many", "OMP_NUM_THREADS=many: it must be a whole number of threads from 1 on"),
        ("OMP_NUM_THREADS", "0", "OMP_NUM_THREADS=0: it must be"),
        ("DFMSD_RUNS", "a file", "a file is a file, where a folder should be: move it, or let DFMSD_RUNS name a folder"),
        ("DFMSD_RUNS", "a file/below", "a file is a file, where a folder should be: move it, or let DFMSD_RUNS name a folder"),
        ("DFMSD_DATA", "a file", "a file is a file, where a folder should be: move it, or let DFMSD_DATA name a folder"),
        ("DFMSD_RUNS", "~nobody-of-this-name/runs", "there is no such home, or no current folder: name a folder from / on"),
    ],
)
def test_a_place_where_nothing_can_be_made_is_told_in_one_line(
    variable: str, value: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, value)
    assert status(*RUN, "--method", "baseline") == 2
    assert message in [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")][-1]


def test_without_a_command_the_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert status() == 2
    out, err = capsys.readouterr()
    assert err == ""
    assert re.findall(r"^    (\w+) ", out, re.MULTILINE) == ["plan", "run", "page", "book", "check", "clean", "coco", "doctor"]


def test_a_damaged_record_is_told_and_fails_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    run = baseline()
    for need in run.needs():
        finish(need)
    file = finish(run)
    file.write_text(file.read_text().replace('"seed": 0', '"seed": 1'))
    assert status(*RUN, "--method", "baseline") != 0
    err = capsys.readouterr().err
    assert err.count("error: ") == 1
    assert f"record {file} is damaged (its digest is not that of its content: it was edited): delete it" in err


def test_check_lists_what_is_wrong_and_takes_no_other_pages_record_for_unused(capsys: pytest.CaptureFixture[str]) -> None:
    smoke_run = pages.get("table03", scale="smoke").chains()[0][0]
    mini_run = pages.get("table03", scale="mini").chains()[0][0]
    for run in (smoke_run, mini_run):
        publish(run, digest="0" * 12)
    stranger = baseline(seed=99)
    publish(stranger)
    assert status("check", "table03", "--scale", "smoke") == 0
    out = capsys.readouterr().out
    assert f"stale: 1\n  {smoke_run.key}\n" in out
    assert f"unused: 1\n  {stranger.key}\n" in out
    assert "damaged: 0\n" in out
    (paths.records() / f"{stranger.key}.json").write_text("{")
    assert status("check", "table03", "--scale", "smoke") == 1
    assert "damaged: 1\n" in capsys.readouterr().out


def test_a_row_waits_for_the_trials_of_its_method(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(study, "check_gates", lambda todo: None)
    last = pages.get("table03", scale="mini").chains()[-1][-1]
    assert status("run", last.key) == 2
    assert "must wait: DMKD has trials without a record: `python -m dfmsd page shares" in capsys.readouterr().err


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The pages whose notebooks were executed, instead of executing them; that of ``shapes`` fails."""
    names: list[str] = []

    def execute(page: Any) -> Path:
        names.append(page.page)
        if page.page == "shapes":
            raise StudyError("its notebook failed")
        return Path("book/pages") / f"{page.page}.ipynb"

    monkeypatch.setattr(book, "execute", execute)
    return names


def test_a_failed_run_costs_a_page_nothing_else(
    executed: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trials, "unsettled", lambda scale: {})
    page = pages.get("table03", scale="mini", seeds=[0])
    runs = plan.order(page.chains())
    finish(runs[0])
    outcome = Outcome(done=[runs[0]], failed={runs[1].key: "(a teacher): loss is not finite"}, skipped=[runs[2]])
    monkeypatch.setattr(study, "ensure", lambda *_, **__: outcome)
    assert status("page", "shapes", "table03", "--seeds", "0") == 1
    out, err = capsys.readouterr()
    assert executed == ["shapes", "table03"]
    assert "table03: book/pages/table03.ipynb" in out
    assert (paths.records() / f"{runs[0].key}.json").exists()
    assert err.splitlines() == [
        f"error: {runs[1].key} (a teacher): loss is not finite",
        f"error: {runs[2].key} ({plan.describe(runs[2])}): skipped, since a run that it needs failed",
        "error: shapes: its notebook failed",
    ]


def test_a_full_disk_while_publishing_is_told(
    executed: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(pages.get("table03", scale="mini").chains()[0][0])
    monkeypatch.setattr(study, "ensure", lambda *_, **__: Outcome())
    monkeypatch.setattr(trials, "unsettled", lambda scale: {})

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert status("page", "table03", "--scale", "mini") == 1
    err = capsys.readouterr().err
    assert err.startswith("error: table03: the disk is full (")
    assert err.count("\n") == 1
    assert not list(paths.records().glob("*.json"))


def test_smoke_runs_are_not_published(executed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    finish(pages.get("table03", scale="smoke").chains()[0][0])
    monkeypatch.setattr(study, "ensure", lambda *_, **__: Outcome())
    assert status("page", "table03", "--scale", "smoke") == 0
    assert executed == ["table03"]
    assert not paths.records().exists()


def test_a_measured_page_is_measured_by_its_notebooks_module(executed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(page: Any) -> tuple[pd.DataFrame, dict[str, Any]]:
        return pd.DataFrame({"row": [page.page], "value": [1.0]}), {}

    monkeypatch.setitem(sys.modules, "dfmsd.report.spectra", SimpleNamespace(measure=measure))
    assert status("page", "fig06", "--scale", "smoke") == 0
    page = pages.get("fig06", scale="smoke")
    assert isinstance(page, MeasuredPage)
    found = records.measured(page)
    assert found is not None
    assert found.frame == {"row": ["fig06"], "value": [1.0]}
    assert executed == ["fig06"]


@pytest.mark.slow
def test_a_row_is_trained_from_the_command_line() -> None:
    command = [sys.executable, "-m", "dfmsd", *RUN, "--method", "baseline"]
    done = subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True)
    run = baseline()
    assert done.returncode == 0, done.stderr
    found = records.find(run.key)
    assert found is not None
    assert (
        done.stdout.splitlines()[-1]
        == f"{run.key}  FCOS R50, 1 epoch, seed 0: AP {found.metrics['AP']:.1f}  {paths.runs() / run.key}"
    )
    # Without a terminal there is no bar that redraws itself.
    assert "\x1b" not in done.stderr
    assert "\r" not in done.stderr


def test_coco_says_what_is_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "coco/val2017").mkdir(parents=True)
    weights = tmp_path / "hub/checkpoints" / zoo.weights("gfl_r101").url.rsplit("/", 1)[1]
    weights.parent.mkdir(parents=True)
    weights.touch()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("DFMSD_COCO", str(tmp_path / "coco"))
    assert status("coco") == 0
    lines = capsys.readouterr().out.splitlines()
    states = {line.split()[1].strip(",:"): line.split()[0] for line in lines if line.startswith("  ")}
    assert [name for name, state in states.items() if state == "here"] == ["val2017", "gfl_r101"]
    annotations = {f"annotations/instances_{split}2017.json" for split in ("train", "val")}
    assert states.keys() == annotations | {"train2017", "val2017", *zoo.names()}
    assert str(tmp_path / "coco") in lines[0] and str(weights.parent) in lines[5]


def test_a_run_that_diverged_is_told_beside_its_ap(capsys: pytest.CaptureFixture[str]) -> None:
    run = baseline()
    finish(run, curve=({"iteration": 1, "loss": 1.0}, {"iteration": 2, "loss": 200.0, "loss_cls": 199.0}))
    assert main([*RUN, "--method", "baseline"]) == 0
    assert f"warning: {run.key} diverged: loss_cls rose to 199, where the whole loss was 1 at first." in capsys.readouterr().err
