"""The book's contents: ``book/_toc.yml``, and the pages that it does not name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from dfmsd.study import pages, paths, records


def contents() -> dict[str, Any]:
    """The table of contents with every page: one that the file does not name follows the last that its notebook makes.

    Where the file names none of that notebook, the page comes last of all.
    """
    found: dict[str, Any] = yaml.safe_load((paths.book() / "_toc.yml").read_text())
    parts = [part["chapters"] for part in found.get("parts", [])]
    named = {_name(chapter) for chapters in parts for chapter in chapters}
    for name in pages.names() if parts else ():
        if name not in named:
            notebook = pages.file_of(name).parent
            like = {other for other in pages.names() if pages.file_of(other).parent == notebook}
            chapters = next((part for part in reversed(parts) if like & set(map(_name, part))), parts[-1])
            after = max((place for place, chapter in enumerate(chapters, 1) if _name(chapter) in like), default=len(chapters))
            chapters.insert(after, {"file": f"pages/{name}"})
    return found


def place() -> Callable[[str], int]:
    """Where a page stands in the book."""
    chapters = [_name(chapter) for part in contents()["parts"] for chapter in part["chapters"]]
    return chapters.index


def write() -> Path:
    """Write the contents for jupyter-book, where they are generated; returns the file."""
    file = paths.pages() / "generated" / "contents.yml"
    records.write_atomic(file, yaml.safe_dump(contents(), sort_keys=False))
    return file


def _name(chapter: dict[str, str]) -> str:
    return Path(chapter["file"]).name
