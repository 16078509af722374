"""The only module that knows a directory."""

from __future__ import annotations

import os
from pathlib import Path

from dfmsd.errors import StudyError

PACKAGE = Path(__file__).resolve().parent.parent
INSTALLED = (PACKAGE / "params").is_dir()
"""Whether this is a wheel's copy, with ``params`` and ``notebooks`` inside; a checkout has both beside the package."""
ROOT = PACKAGE if INSTALLED else PACKAGE.parent
PARAMS = ROOT / "params"
NOTEBOOKS = ROOT / "notebooks"

VARIABLES = ("DFMSD_RUNS", "DFMSD_RECORDS", "DFMSD_DATA", "DFMSD_BOOK", "DFMSD_COCO")
"""Each names a folder; empty, it is as if it were not set."""


def _named(variable: str) -> Path | None:
    """The folder that a variable names, absolute; None if it names none."""
    named = os.environ.get(variable, "").strip()
    try:
        return Path(os.path.abspath(Path(named).expanduser())) if named else None
    except (RuntimeError, FileNotFoundError):
        raise StudyError(f"{variable}={named}: there is no such home, or no current folder: name a folder from / on") from None


def settle() -> None:
    """Make the folders that variables name absolute, before a process is started in another folder."""
    os.environ.update({variable: str(place) for variable in VARIABLES if (place := _named(variable)) is not None})


def variable(place: Path) -> str:
    """The variable that moves the folder in which a place lies."""
    folders = {"DFMSD_RUNS": runs(), "DFMSD_RECORDS": records(), "DFMSD_DATA": data(), "DFMSD_BOOK": book()}
    inside = [name for name, folder in folders.items() if place.absolute().is_relative_to(folder)]
    above = [name for name, folder in folders.items() if folder.is_relative_to(place.absolute())]
    return next(iter([*inside, *above]), "TMPDIR")


def book() -> Path:
    """Sources of the book; ``DFMSD_BOOK`` moves it (a test's own copy)."""
    return _named("DFMSD_BOOK") or _made("book")


def pages() -> Path:
    """Executed notebooks and what else the book's build makes for it: git-ignored."""
    return book() / "pages"


def runs() -> Path:
    """Where runs live while and after they train; ``DFMSD_RUNS`` moves it (a large disk, a test's own folder).

    It is the user's cache, not this folder: runs are found by their content, so a fresh clone goes on with what another trained.

    Raises:
        StudyError: if no variable names it, and there is no home folder.
    """
    return _named("DFMSD_RUNS") or _cached("runs")


def _cached(what: str) -> Path:
    try:
        return (_named("XDG_CACHE_HOME") or Path.home() / ".cache") / "dfmsd" / what
    except RuntimeError:
        name = f"DFMSD_{what.upper()}"
        raise StudyError(f"there is no home folder for {what}: name another, export {name}=/path/to/{what}") from None


def _made(what: str) -> Path:
    """Where the study writes: beside its own files in a checkout, but not among installed packages."""
    return _cached(what) if INSTALLED else ROOT / what


def records() -> Path:
    """Published records; ``DFMSD_RECORDS`` moves it (a test's own folder)."""
    return _named("DFMSD_RECORDS") or book() / "records"


def data() -> Path:
    """Generated data sets; ``DFMSD_DATA`` moves it."""
    return _named("DFMSD_DATA") or _made("data")


def coco() -> Path | None:
    """COCO's root, named by ``DFMSD_COCO``; None if it is not set."""
    return _named("DFMSD_COCO")
