"""Files among processes that may end at any moment."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from dfmsd.errors import StudyError
from dfmsd.study import files
from tests.fixtures_study import folders  # noqa: F401

FORK = multiprocessing.get_context("fork")


def test_a_written_file_is_whole_and_readable_by_all(tmp_path: Path) -> None:
    files.write_atomic(tmp_path / "new" / "text", "one")
    files.write_atomic(tmp_path / "new" / "bytes", b"\xff")
    assert (tmp_path / "new" / "text").read_text() == "one"
    assert (tmp_path / "new" / "bytes").read_bytes() == b"\xff"
    assert oct((tmp_path / "new" / "text").stat().st_mode & 0o777) == "0o644"


@pytest.mark.parametrize("at", ["fsync", "replace"])
def test_an_interrupted_write_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    file = tmp_path / "record.json"
    files.write_atomic(file, "old")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, at, full)
    with pytest.raises(OSError, match="No space left"):
        files.write_atomic(file, "new")
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["record.json"]


def test_only_a_full_disk_is_told_as_one(folders: Path) -> None:  # noqa: F811
    with (
        pytest.raises(StudyError, match=r"^the disk is full \(\d+ MiB free in .*\): make room"),
        files.full_disk_in_plain_words(),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(PermissionError), files.full_disk_in_plain_words():
        raise PermissionError(errno.EACCES, "Permission denied")


def hold(lock: Path, ready: Any) -> None:
    with files.locked(lock):
        ready.set()
        time.sleep(600)


def test_a_lock_names_its_holder_and_falls_when_that_is_killed(tmp_path: Path) -> None:
    lock, ready = tmp_path / "a.lock", FORK.Event()
    child = FORK.Process(target=hold, args=(lock, ready))
    child.start()
    ready.wait()
    for _ in range(2):
        with pytest.raises(StudyError, match=f"^run a is being trained by process {child.pid}: wait for it$"):
            with files.locked(lock, "run a is being trained"):
                pass
    child.kill()
    child.join()
    with files.locked(lock, "run a is being trained"):
        assert lock.read_text() == str(os.getpid())
    with files.locked(lock):
        pass


def test_who_does_not_say_what_is_going_on_waits(tmp_path: Path) -> None:
    lock, ready = tmp_path / "a.lock", FORK.Event()
    child = FORK.Process(target=hold, args=(lock, ready))
    child.start()
    ready.wait()
    signal.signal(signal.SIGALRM, lambda *_: child.kill())
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    with files.locked(lock):
        child.join()
        assert child.exitcode == -9


def parent_of_one(pid: Any) -> None:
    child = FORK.Process(target=lambda: (files.end_with_parent(), time.sleep(600)))
    child.start()
    pid.value = child.pid
    time.sleep(600)


def test_a_process_ends_with_the_one_that_started_it() -> None:
    pid = FORK.Value("i", 0)
    parent = FORK.Process(target=parent_of_one, args=(pid,))
    parent.start()
    while not pid.value:
        time.sleep(0.01)
    time.sleep(0.2)
    parent.kill()
    parent.join()
    end = time.monotonic() + 3000
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        # A zombie has ended; nobody has asked for its status.
        while Path(f"/proc/{pid.value}/stat").read_text().split(")")[1].split()[0] != "Z":
            assert time.monotonic() < end, "it outlived its parent"
            time.sleep(0.1)
