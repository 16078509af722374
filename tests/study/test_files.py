"""Files among processes that may end at any moment."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from dfmsd.errors import StudyError
from dfmsd.study import files, paths
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


@pytest.mark.parametrize(
    ("number", "place", "message"),
    [
        (
            errno.ENOSPC,
            "runs/x",
            r"^the disk is full \(\d+ MiB free in {}\): make room, or let DFMSD_RUNS name a folder on a larger one",
        ),
        (errno.ENOSPC, "records/x", r"^the disk is full \(\d+ MiB free in {}\): make room, or let DFMSD_RECORDS name"),
        (errno.EDQUOT, "data/x", r"^the disk is full .*: make room, or let DFMSD_DATA name"),
        (errno.EACCES, "runs/x", r"^{}/runs/x cannot be used \(Permission denied\): let DFMSD_RUNS name a folder$"),
        (errno.EROFS, "data", r"^{}/data cannot be used \(Read-only file system\): let DFMSD_DATA name a folder$"),
        (errno.EFBIG, "runs/x", r"^{}/runs/x is larger than the limit of this shell allows: `ulimit -f unlimited` lifts it$"),
        (errno.EFBIG, "there", r"^a file in {}/there is larger than the limit of this shell allows: "),
        (errno.ENOTDIR, "file/x", r"^{}/file is a file, where a folder should be: move it"),
        (errno.EEXIST, "gone/x", r"^{}/gone is a link that leads nowhere, where a folder should be: move it"),
        (errno.EISDIR, "runs", r"^{}/runs is a folder, where a file should be: remove it$"),
        (errno.EIO, "runs/x", r"^{}/runs/x: Input/output error$"),
    ],
)
def test_what_the_system_says_of_a_place_is_told_in_one_line(
    number: int,
    place: str,
    message: str,
    folders: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DFMSD_DATA", str(folders / "data"))
    (folders / "file").touch()
    (folders / "there").mkdir()
    (folders / "gone").symlink_to(folders / "nowhere")
    for told, given in (((None, folders / place)), (str(folders / place), None)):
        error = OSError(number, os.strerror(number))
        error.filename = told
        with pytest.raises(StudyError, match=message.format(folders)) as caught, files.plain_words(given):
            raise error
        assert "\n" not in str(caught.value)


def test_the_fullest_disk_is_named_where_the_system_names_none(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("DFMSD_RUNS", str(folders / "runs"))
    paths.runs().mkdir()

    def usage(place: Path) -> Any:
        return shutil._ntuple_diskusage(10, 10, 0 if place == paths.runs() else 5)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    with (
        pytest.raises(StudyError, match=rf"^the disk is full \(0 MiB free in {paths.runs()}\): .* DFMSD_RUNS"),
        files.plain_words(),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_faults_of_the_code_and_of_pipes_are_left_as_they_are() -> None:
    for error in (FileNotFoundError(errno.ENOENT, "none"), BrokenPipeError(errno.EPIPE, "closed"), OSError("unknown")):
        with pytest.raises(type(error)) as caught, files.plain_words():
            raise error
        assert caught.value is error


def test_anothers_folder_says_how_to_share_it(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    paths.runs().mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(StudyError, match=f"or its owner shares it with a group: `chgrp -R GROUP {paths.runs()}; chmod -R g"):
        with files.plain_words():
            raise PermissionError(errno.EACCES, "Permission denied", str(paths.runs() / "x.lock"))


@pytest.mark.parametrize(("mode", "made"), [(0o2775, 0o664), (0o755, 0o600)])
def test_what_is_made_in_a_groups_folder_is_the_groups(tmp_path: Path, mode: int, made: int) -> None:
    tmp_path.chmod(mode)
    before = os.umask(0o077)
    try:
        with files.shared_as(tmp_path):
            files.write_atomic(tmp_path / "record.json", "{}")
            with files.locked(tmp_path / "a.lock"):
                pass
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
    wanted = made if mode == 0o755 else made & ~0o007
    assert {oct(file.stat().st_mode & 0o777) for file in tmp_path.iterdir()} == {oct(wanted)}


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_told_in_one_line(folders: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:  # noqa: F811
    def flock(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    message = f"^{paths.runs()} is on a file system without locks .*: let DFMSD_RUNS name a folder on a local disk$"
    with pytest.raises(StudyError, match=message), files.locked(paths.runs() / "a.lock", "busy"):
        pass


def test_something_else_in_the_place_of_a_file_is_told_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for name, kind in {"pipe": "a named pipe", "link": "a device", "": "a folder"}.items():
        with pytest.raises(StudyError, match=f"is {kind}, where a file should be: remove it$"):
            files.read_text(tmp_path / name)
    (tmp_path / "b.lock").mkdir()
    with pytest.raises(StudyError, match=r"b.lock is a folder"), files.plain_words(), files.locked(tmp_path / "b.lock"):
        pass


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
