"""The only module that knows a directory."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
ROOT = PACKAGE.parent
PARAMS = ROOT / "params"
NOTEBOOKS = ROOT / "notebooks"


def book() -> Path:
    """Sources of the book; ``DFMSD_BOOK`` moves it (a test's own copy)."""
    return Path(os.environ.get("DFMSD_BOOK", ROOT / "book"))


def pages() -> Path:
    """Executed notebooks and what else the book's build makes for it: git-ignored."""
    return book() / "pages"


def runs() -> Path:
    """Where runs live while and after they train; ``DFMSD_RUNS`` moves it (a large disk, a test's own folder).

    It is the user's cache, not this folder: runs are found by their content, so a fresh clone goes on with what another trained.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("DFMSD_RUNS") or cache / "dfmsd" / "runs")


def records() -> Path:
    """Published records; ``DFMSD_RECORDS`` moves it (a test's own folder)."""
    return Path(os.environ.get("DFMSD_RECORDS", book() / "records"))


def data() -> Path:
    """Generated data sets; ``DFMSD_DATA`` moves it."""
    return Path(os.environ.get("DFMSD_DATA", ROOT / "data"))


def coco() -> Path | None:
    """COCO's root, named by ``DFMSD_COCO``; None if it is not set."""
    root = os.environ.get("DFMSD_COCO")
    return Path(root).expanduser() if root else None
