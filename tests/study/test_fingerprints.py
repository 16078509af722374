"""What files hold is read once, and again where anything has changed."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from dfmsd.errors import StudyError
from dfmsd.study import fingerprints


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DFMSD_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


class Reader:
    """Reads the length of a content, and remembers what it read."""

    __name__ = "length"

    def __init__(self, stops_at: bytes = b"never") -> None:
        self.read: list[bytes] = []
        self.stops_at = stops_at

    def __call__(self, content: bytes) -> dict[str, Any]:
        self.read.append(content)
        if content == self.stops_at:
            raise KeyboardInterrupt
        return {"length": len(content)}


def look(folder: Path, reader: Reader) -> dict[str, Any]:
    wanted = {str(n): folder / str(n) for n in range(8)}
    return fingerprints.look(wanted, reader, of=folder, doing="reading")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "files").mkdir()
    for n in range(6):
        (tmp_path / "files" / str(n)).write_bytes(b"x" * n)
    os.mkfifo(tmp_path / "files/6")
    return tmp_path / "files"


LENGTHS = {str(n): {"length": n} for n in range(6)} | {"6": None, "7": None}


def test_a_file_is_read_again_when_its_size_or_a_time_changes(folder: Path) -> None:
    first = Reader()
    assert look(folder, first) == LENGTHS
    assert len(first.read) == 6
    time = (folder / "3").stat()
    (folder / "1").write_bytes(b"12")
    os.utime(folder / "2")
    (folder / "3").write_bytes(b"abc")  # as long, and set back to its time
    os.utime(folder / "3", ns=(time.st_atime_ns, time.st_mtime_ns))
    again = Reader()
    assert look(folder, again) == LENGTHS | {"1": {"length": 2}}
    assert sorted(again.read) == [b"12", b"abc", b"xx"]


def test_what_was_read_before_an_interruption_is_not_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprints, "CHUNK", 2)
    with pytest.raises(KeyboardInterrupt):
        look(folder, Reader(stops_at=b"xxx"))
    again = Reader()
    assert look(folder, again) == LENGTHS
    assert {b"", b"x"}.isdisjoint(again.read)


@pytest.mark.parametrize("damage", ["{half", "[]", '{"1": 3}', '{"1": {"stamp": [], "says": {"length": 9}}}'])
def test_a_damaged_store_is_made_anew(folder: Path, home: Path, damage: str) -> None:
    look(folder, Reader())
    (store,) = (home / "looked").iterdir()
    store.write_text(damage)
    assert look(folder, Reader()) == LENGTHS
    assert look(folder, quiet := Reader()) == LENGTHS
    assert quiet.read == []


def test_a_pipe_in_the_place_of_a_store_is_not_waited_for(folder: Path, home: Path) -> None:
    look(folder, Reader())
    (store,) = (home / "looked").iterdir()
    store.unlink()
    os.mkfifo(store)
    with pytest.raises(StudyError, match="is a named pipe, where a file should be: remove it"):
        look(folder, Reader())


def test_what_cannot_be_read_is_told_and_tried_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Path.read_bytes

    def failing(file: Path) -> bytes:
        if file.name == "4":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(file)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", failing)
        assert look(folder, Reader())["4"]["problem"] == "cannot be read (Input/output error)"
    assert look(folder, again := Reader()) == LENGTHS
    assert again.read == [b"xxxx"]


def test_without_a_store_everything_is_read(folder: Path, home: Path) -> None:
    home.write_text("a file in the place of the folder")
    for _ in range(2):
        assert look(folder, reader := Reader()) == LENGTHS
        assert len(reader.read) == 6
