"""Many runs in processes of their own: what is missing is trained, once, and a failure costs only what needs it."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import pytest

from dfmsd.errors import StudyError
from dfmsd.study import committed, files, machine, pages, paths, plan, processes, records
from dfmsd.study import ensure as study
from dfmsd.study.pages.base import Page
from dfmsd.study.spec import RunSpec, StageSpec, digest
from tests.fixtures_study import baseline, distilled, diverging, finish, folders, publish, record, smoke  # noqa: F401

pytestmark = pytest.mark.usefixtures("folders")

ENDLESS = baseline(smoke(epochs=2000))
"""A run that lasts for longer than any test."""


def wait_for(condition: Callable[[], Any], seconds: float = 3000) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def has_begun(run: RunSpec) -> bool:
    return plan.progress(run.key) > 0


def process_of(run: RunSpec) -> int:
    return int((paths.runs() / f"{run.key}.lock").read_text())


def is_free(run: RunSpec) -> bool:
    try:
        with files.locked(paths.runs() / f"{run.key}.lock", f"run {run.key} is being trained"):
            return True
    except StudyError:
        return False


@pytest.mark.slow
def test_a_chain_is_trained_once_and_what_failed_costs_only_its_students() -> None:
    good = distilled(recipe="mgd")
    bad_teacher = diverging(baseline(smoke(epochs=12), student="gfl_r101", seed=7))
    assert good[0].stage is not None
    stage = StageSpec(index=1, teacher=bad_teacher, methods=good[0].stage.methods)
    fields = {name: getattr(good[0], name) for name in RunSpec.model_fields}
    orphan = RunSpec.model_validate(fields | {"stage": stage})

    first = study.ensure([(orphan,), good], jobs=2, quiet=True)
    assert {run.key for run in first.done} == {run.key for run in plan.order([good])}
    assert first.failed.keys() == {bad_teacher.key}
    assert "loss is not finite at iteration" in first.failed[bad_teacher.key]
    assert first.skipped == [orphan]
    assert [line.split(" (")[0] for line in first.complaints()] == [bad_teacher.key, orphan.key]
    assert all("Epoch(train)" in processes.log_file(run).read_text() for run in first.done if isinstance(run, RunSpec))

    recorded = [paths.runs() / run.key / "record.json" for run in first.done]
    before = [(file.read_bytes(), file.stat().st_mtime_ns, file.stat().st_ino) for file in recorded]
    second = study.ensure([(orphan,), good], jobs=2, quiet=True)
    assert second.done == []
    assert "broke off before" in second.failed[bad_teacher.key]
    assert second.skipped == [orphan]
    assert [(file.read_bytes(), file.stat().st_mtime_ns, file.stat().st_ino) for file in recorded] == before


def tell_gpu(run: RunSpec, threads: int, log: Path, environment: dict[str, str], answer: Connection) -> None:
    """In the place of a run in its process: say which GPU it has, and wait until all have begun."""
    told = Path(environment["DFMSD_RUNS"]) / "gpus"
    told.mkdir(exist_ok=True)
    (told / run.key).write_text(environment.get("CUDA_VISIBLE_DEVICES", "all"))
    wait_for(lambda: len(list(told.iterdir())) == 3)
    answer.send(None)


@pytest.mark.slow
@pytest.mark.parametrize(("gpus", "given"), [(["2", "5"], ["2", "2", "5"]), ([], ["all"] * 3)])
def test_each_job_has_a_gpu_of_its_own_as_far_as_they_go(
    gpus: list[str], given: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_work", tell_gpu)
    monkeypatch.setattr(machine, "cards", lambda: [])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if gpus:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ",".join(gpus))
    runs = [baseline(smoke().model_copy(update={"start": None}), seed=seed) for seed in range(3)]
    outcome = study.ensure([(run,) for run in runs], jobs=3, quiet=True)
    assert outcome.failed == {}
    assert sorted((paths.runs() / "gpus" / run.key).read_text() for run in runs) == given


def test_gpus_are_numbered_where_no_variable_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = [f"GPU {place}: NVIDIA T4 (UUID: GPU-{place})" for place in range(3)]
    monkeypatch.setattr(machine, "output", lambda *_: "\n".join([*listed[:2], "  MIG 1g.10gb Device 0: (UUID: MIG-1)", listed[2]]))
    for named, found in ((None, ["0", "1", "2"]), ("5, 2", ["5", "2"]), ("", []), ("-1", [])):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if named is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
        assert machine.gpus() == found


@pytest.mark.slow
def test_a_run_that_is_killed_is_reported_and_stays_resumable() -> None:
    def kill() -> None:
        wait_for(lambda: has_begun(ENDLESS))
        os.kill(process_of(ENDLESS), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    outcome = study.ensure([(ENDLESS,)], quiet=True)
    killer.join()
    message = "its process was killed by signal 9; called again, it goes on from its last checkpoint"
    assert outcome.failed == {ENDLESS.key: f"({plan.describe(ENDLESS)}): {message}; its log: {processes.log_file(ENDLESS)}"}
    assert plan.plan([(ENDLESS,)])[-1].state == "partial"


@pytest.mark.slow
def test_a_run_outlives_the_server_that_it_was_forked_from_and_is_not_waited_for_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DFMSD_DATA", str(tmp_path / "data"))
    lock = paths.data() / f"shapes-{digest(ENDLESS.data.model_dump(mode='json'))}.lock"
    processes.log_file(ENDLESS).parent.mkdir(parents=True)
    with files.locked(lock):
        child = processes.Child(ENDLESS, threads=1)
        wait_for(lambda: (paths.runs() / f"{ENDLESS.key}.partial").exists())  # and now it waits for the data
        os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)
        wait_for(lambda: child.process.exitcode is not None)
        assert not child.is_over(), "it has only lost its server"
        assert wait([child.process.sentinel], timeout=0) and not wait([child.answer], timeout=0), "the pool would never sleep"
    wait_for(child.is_over)
    assert "has not been trained here: it has no weights to hand on" in (child.message() or "")


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_runs_end_with_the_process_that_started_them(how: signal.Signals) -> None:
    code = (
        "import signal\n"
        "from dfmsd.study import ensure as study\n"
        "from tests.study.test_ensure import ENDLESS\n"
        # Under a shell that started the tests in the background, interrupts would be ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "try: study.ensure([(ENDLESS,)], quiet=True)\n"
        "except KeyboardInterrupt: raise SystemExit(130)"
    )
    # A group of its own: the signal reaches the parent alone, as from a notebook's stop button.
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=paths.ROOT, start_new_session=True)
    try:
        wait_for(lambda: has_begun(ENDLESS))
        assert not is_free(ENDLESS)
        parent.send_signal(how)
        assert parent.wait(3000) == (130 if how == signal.SIGINT else -9)
        wait_for(lambda: is_free(ENDLESS))
    finally:
        parent.kill()
    assert plan.plan([(ENDLESS,)])[-1].state == "partial"


@pytest.mark.slow
def test_a_run_that_another_process_trains_is_left_to_it() -> None:
    run = baseline()
    with files.locked(paths.runs() / f"{run.key}.lock", f"run {run.key} is being trained"):
        outcome = study.ensure([(run,)], quiet=True)
    message = f"run {run.key} is being trained by process {os.getpid()}: wait for it; its log: {processes.log_file(run)}"
    assert outcome.failed == {run.key: f"({plan.describe(run)}): {message}"}


@pytest.mark.slow
def test_a_disk_too_full_for_a_log_is_still_told_clearly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = tmp_path / "small"
    runs.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(runs)], capture_output=True).returncode:
        pytest.skip("a small disk needs the right to mount")
    try:
        monkeypatch.setenv("DFMSD_RUNS", str(runs))
        (runs / "filler").write_bytes(b"0" * 4096)
        (message,) = study.ensure([(baseline(),)], quiet=True).failed.values()
    finally:
        subprocess.run(["umount", "-l", str(runs)], check=True)
    assert "the disk is full (0 MiB free" in message


def test_a_damaged_record_is_reported_kept_and_stops_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    damaged, student = distilled(recipe="mgd")[0].stage.teacher, distilled(recipe="mgd")[0]  # type: ignore[union-attr]
    assert isinstance(damaged, RunSpec)
    finish(damaged).write_text("{")
    outcome = study.ensure([(student,)], quiet=True)
    assert outcome.skipped == [student]
    assert "is damaged" in outcome.failed[damaged.key]
    assert (paths.runs() / damaged.key / "record.json").read_text() == "{"


def test_at_least_one_run_at_a_time() -> None:
    with pytest.raises(StudyError, match="jobs = 0: at least 1"):
        study.ensure([(baseline(),)], jobs=0)


def test_publishing_copies_what_is_here_once() -> None:
    run = baseline()
    chains = [(run,)]
    source = finish(run)
    assert committed.publish(chains) == [run.key]
    target = paths.records() / f"{run.key}.json"
    assert target.read_text() == source.read_text()
    before = target.stat()
    finish(run, speed=99.0)
    assert committed.publish(chains) == []
    assert target.stat() == before, "retraining for the weights does not touch what is published"


def test_publishing_replaces_what_is_stale_or_damaged_by_what_is_not() -> None:
    run = baseline()
    target = paths.records() / f"{run.key}.json"
    publish(run, digest="0" * 12)
    finish(run, digest="1" * 12)
    assert committed.publish([(run,)]) == [], "one stale record is no better than another"
    finish(run)
    assert committed.publish([(run,)]) == [run.key]
    target.write_text("{")
    assert committed.publish([(run,)]) == [run.key]
    assert records.read(target) == record(run)


def test_a_run_with_published_weights_is_not_trained_again() -> None:
    (start,) = baseline().needs()
    weights, folder = paths.records() / "weights" / f"{start.key}.pth", paths.runs() / start.key
    files.write_atomic(weights, b"weights")
    made = publish(start, weights_sha256=hashlib.sha256(b"weights").hexdigest())
    assert processes.train(start, 1) == made
    assert (folder / "student.pth").read_bytes() == b"weights"


def test_a_page_that_looks_into_published_weights_finds_them_where_a_training_leaves_them() -> None:
    (start,) = baseline().needs()
    files.write_atomic(paths.records() / "weights" / f"{start.key}.pth", b"weights")
    publish(start, weights_sha256=hashlib.sha256(b"weights").hexdigest())
    assert study.ensure([(start,)], weights=True, quiet=True) == study.Outcome()
    assert (paths.runs() / start.key / "student.pth").read_bytes() == b"weights"


def test_published_weights_that_are_damaged_are_refused_and_those_of_other_code_are_left() -> None:
    (start,) = baseline().needs()
    files.write_atomic(paths.records() / "weights" / f"{start.key}.pth", b"other")
    publish(start, weights_sha256=hashlib.sha256(b"weights").hexdigest())
    with pytest.raises(StudyError, match=rf"{start.key}\.pth is damaged or not of its record: restore it, or delete it"):
        processes.train(start, 1)
    publish(start, digest="0" * 12)
    assert processes.train(start, 1).provenance.hardware == machine.hardware(), "not trained here"


def test_publishing_goes_on_past_a_damaged_record_and_says_so() -> None:
    first, second = baseline(), baseline(seed=1)
    finish(first).write_text("{")
    finish(second)
    with pytest.raises(StudyError, match=r"1 not published: record .* is damaged"):
        committed.publish([(first,), (second,)])
    assert (paths.records() / f"{second.key}.json").exists()
    assert not (paths.records() / f"{first.key}.json").exists()


class Given(Page):
    """A page that shows some runs."""

    given: tuple[RunSpec, ...]

    def chains(self) -> list[tuple[RunSpec, ...]]:
        return [(run,) for run in self.given]


def test_check_tells_stale_missing_unused_and_damaged() -> None:
    fresh, stale, missing, damaged, unused, other = (baseline(seed=seed) for seed in range(6))
    for run in (fresh, unused, other):
        publish(run)
    publish(stale, digest="0" * 12)
    files.write_atomic(paths.records() / f"{damaged.key}.json", "{")
    page = Given(page="mine", title="Mine", question="Why?", given=(fresh, stale, missing, damaged))
    figure = pages.get("fig04", scale="mini")
    found = committed.check([page, figure], others=[(other,), *figure.chains()])
    assert found.stale == [stale.key]
    assert found.unused == [unused.key]
    assert {missing.key, "fig04-mini"} < set(found.missing)
    (message,) = found.damaged
    assert damaged.key in message
