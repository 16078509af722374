"""Files among processes that may end at any moment: one lock, one way to write, plain words for a full disk."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from dfmsd.errors import StudyError
from dfmsd.study import paths


def write_atomic(file: Path, content: str | bytes) -> None:
    """Write a file that is either whole or as it was before, whatever happens meanwhile."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def locked(file: Path, busy: str | None = None) -> Iterator[None]:
    """Hold a lock; the system releases it when the process ends, however it ends.

    Args:
        file: The lock; it holds the process id of whoever has it.
        busy: What is going on while another process has it; None waits for that process.

    Raises:
        StudyError: if another process has the lock and ``busy`` is given.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file)
    try:
        lock.acquire(timeout=-1 if busy is None else 0)
    except Timeout:
        raise StudyError(f"{busy} by process {file.read_text().strip() or 'unknown'}: wait for it") from None
    try:
        file.write_text(str(os.getpid()))
        yield
    finally:
        lock.release()


@contextmanager
def full_disk_in_plain_words() -> Iterator[None]:
    """Say what to do when a disk is full; nothing that was whole before is lost by it.

    Raises:
        StudyError: instead of the system's error about space or quota.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        places = [next(p for p in (folder, *folder.absolute().parents) if p.exists()) for folder in (paths.runs(), paths.data())]
        free = " and ".join(f"{shutil.disk_usage(place).free // 2**20} MiB free in {place}" for place in dict.fromkeys(places))
        raise StudyError(
            f"the disk is full ({free}): make room, or let DFMSD_RUNS and DFMSD_DATA name larger places; called again, a run goes "
            "on from its last checkpoint"
        ) from None


def end_with_parent() -> None:
    """End this process when the one that started it ends, even by ``kill -9``."""

    def wait() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
