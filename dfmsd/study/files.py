"""Files among processes that may end at any moment: one lock, one way to read and to write, plain words for errors."""

from __future__ import annotations

import errno
import multiprocessing
import os
import secrets
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from dfmsd.errors import StudyError
from dfmsd.study import paths

KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
"""What may stand where a file should be; all else is a device."""

FULL = (errno.ENOSPC, errno.EDQUOT)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)

RAW = (errno.ENOENT, errno.EPIPE, errno.EINTR, errno.ECONNRESET, errno.ECONNREFUSED)
"""Errors that are not about a place on a disk, or tell of a fault in the code."""


def check(*found: Path) -> None:
    """Refuse what is there and no regular file: a pipe in the place of one would be waited for.

    Raises:
        StudyError: if something else stands in the place of a file.
    """
    for file in found:
        kind = stat.S_IFMT(file.stat().st_mode) if file.exists() else stat.S_IFREG
        if kind != stat.S_IFREG:
            raise StudyError(f"{file} is {KINDS.get(kind, 'a device')}, where a file should be: remove it")


def read_text(file: Path) -> str:
    """The text of a regular file.

    Raises:
        StudyError: if something else stands in its place.
        OSError: if it cannot be read, as :meth:`pathlib.Path.read_text` does; ``UnicodeDecodeError`` if it is no text.
    """
    check(file)
    # What has come into its place since is opened without waiting.
    with open(os.open(file, os.O_RDONLY | os.O_NONBLOCK), encoding="utf-8") as stream:
        return stream.read()


def write_atomic(file: Path, content: str | bytes) -> None:
    """Write a file that is either whole or as it was before, whatever happens meanwhile; who may read it, the umask decides.

    Raises:
        OSError: if it cannot be written; it names the file.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename, error.filename2 = str(file), None
        raise


@contextmanager
def locked(file: Path, busy: str | None = None) -> Iterator[None]:
    """Hold a lock; the system releases it when the process ends, however it ends.

    Args:
        file: The lock; it holds the process id of whoever has it.
        busy: What is going on while another process has it; None waits for that process.

    Raises:
        StudyError: if another process has the lock and ``busy`` is given, or the folder is on a file system without locks.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    # A lock that is only a file would stay when its process is killed.
    lock = FileLock(file, fallback_to_soft=False)
    try:
        lock.acquire(timeout=-1 if busy is None else 0)
    except Timeout:
        raise StudyError(f"{busy} by process {read_text(file).strip() or 'unknown'}: wait for it") from None
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in NO_LOCKS:
            error.filename = error.filename or str(file)
            raise
        raise StudyError(f"{file.parent} is on a file system without locks ({error}): {_elsewhere(file)} on a local disk") from None
    try:
        file.write_text(str(os.getpid()))
        yield
    finally:
        lock.release()


def is_locked(file: Path) -> bool:
    """Whether another process holds a lock; what it says stays as it is."""
    if not file.exists():
        return False
    try:
        with FileLock(file, timeout=0, fallback_to_soft=False):
            return False
    except Timeout:
        return True


@contextmanager
def plain_words(place: Path | None = None) -> Iterator[None]:
    """Say in one line what to do about a place on a disk; nothing that was whole before is lost by it.

    Args:
        place: What is being written, where the system does not say it; None: the fullest of the study's disks is named.

    Raises:
        StudyError: instead of the system's error about space, size, rights, or a file in the place of a folder.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or error.errno in RAW:
            raise
        named = error.filename if isinstance(error.filename, str) else place
        raise StudyError(_in_words(error, None if named is None else Path(named))) from None


def _in_words(error: OSError, place: Path | None) -> str:
    if error.errno in FULL:
        place = place or min(_places(), key=lambda one: shutil.disk_usage(_there(one)).free)
        free = f"{shutil.disk_usage(_there(place)).free // 2**20} MiB free in {_there(place)}"
        words = f"the disk is full ({free}): make room, or {_elsewhere(place)} on a larger one"
        return f"{words}; called again, a run goes on from its last checkpoint"
    if error.errno == errno.EFBIG:
        what = "a file" if place is None else f"a file in {place}" if place.is_dir() else place
        return f"{what} is larger than the limit of this shell allows: `ulimit -f unlimited` lifts it"
    if place is None:
        return str(error.strerror)
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        file = next((one for one in (place, *place.parents) if os.path.lexists(one) and not one.is_dir()), place)
        kind = "a file" if file.exists() else "a link that leads nowhere"
        return f"{file} is {kind}, where a folder should be: move it, or {_elsewhere(place)}"
    if error.errno == errno.EISDIR:
        return f"{place} is a folder, where a file should be: remove it"
    if error.errno in FORBIDDEN:
        return f"{place} cannot be used ({error.strerror}): {_elsewhere(place)}{_to_share(place)}"
    return f"{place}: {error.strerror}"


def _places() -> list[Path]:
    return [paths.runs(), paths.data(), paths.records(), Path(tempfile.gettempdir())]


def _there(place: Path) -> Path:
    """The folder that is there of a place, or the one above it."""
    return next(one for one in (place, *place.absolute().parents) if one.is_dir())


def _elsewhere(place: Path) -> str:
    return f"let {paths.variable(place)} name a folder"


def _to_share(place: Path) -> str:
    """How the owner of a folder lets others work in it; empty where it is one's own."""
    there = next((one for one in (place, *place.absolute().parents) if os.access(one, os.F_OK)), place)
    if not there.exists() or there.stat().st_uid == os.geteuid():
        return ""
    shared = paths.runs() if place.is_relative_to(paths.runs()) else _there(place)
    return (
        f" of your own, or its owner shares it with a group: `chgrp -R GROUP {shared}; chmod -R g+rwX {shared}; chmod g+s {shared}`"
    )


@contextmanager
def shared_as(folder: Path) -> Iterator[None]:
    """While it lasts, let a group use what this process makes, if the group may write in the folder."""
    before = os.umask(0o077)
    shared = folder.is_dir() and folder.stat().st_mode & stat.S_IWGRP
    os.umask(before & ~0o070 if shared else before)
    try:
        yield
    finally:
        os.umask(before)


def end_with_parent() -> None:
    """End this process when the one that started it ends, even by ``kill -9``."""

    def wait() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
