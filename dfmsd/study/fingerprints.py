"""What files hold: each is read once for each size and time of change."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from dfmsd.study import files, paths

Json = dict[str, Any]

CHUNK = 256
"""Files that are read before the next look at an interruption."""

UNREAD = "unread"
"""Marks what may be another time: a disk or a network failed, or rights are missing."""

KEPT_EVERY = 30.0
"""Seconds of reading that a kill may cost."""


def look(wanted: Mapping[str, Path], read: Callable[[bytes], Json], *, of: Path, doing: str) -> dict[str, Json | None]:
    """What ``read`` says of each file's content; None for what is not a file.

    It is kept in the data folder and holds as long as the file keeps its size and its times, so that COCO's images take minutes
    once and then a second. A progress bar on a terminal says how far the reading is.

    Args:
        wanted: Files by name.
        read: Gives plain data, the same for the same content.
        of: What the files belong to, such as their annotation file: what was read is kept under its name.
        doing: What the progress bar says.
    """
    belongs = hashlib.sha256(f"{read.__name__} {of.absolute()}".encode(errors="surrogateescape")).hexdigest()[:12]
    store = paths.data() / "looked" / f"{belongs}.json"
    kept = _kept(store)
    found: dict[str, Json | None] = {}
    new: dict[str, list[int]] = {}
    for name, file in wanted.items():
        stamp = _stamp(file)
        before = kept.get(name)
        found[name] = before["says"] if before is not None and before["stamp"] == stamp else None
        if stamp is not None and found[name] is None:
            new[name] = stamp
    if not new:
        return found
    known = {name: kept[name] for name, says in found.items() if says is not None}
    due = time.monotonic() + KEPT_EVERY
    try:
        for name, says in _read({name: wanted[name] for name in new}, read, doing):
            found[name] = says
            if UNREAD not in says:
                known[name] = {"stamp": new[name], "says": says}
            if time.monotonic() > due:
                _keep(store, known)
                due = time.monotonic() + KEPT_EVERY
    finally:
        _keep(store, known)
    return found


def hashed(content: bytes) -> Json:
    """Length and hash of a content.

    Example:
        >>> hashed(b"")
        {'bytes': 0, 'sha256': 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'}
    """
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def picture(content: bytes) -> Json:
    """The hash of an image, its width and height as training reads it, and whether that turns it; or what is wrong with it.

    OpenCV is mmcv's decoder: it turns an image as its EXIF orientation says, and gives none of a truncated one.

    Example:
        >>> picture(b"")["problem"]
        'is empty'
    """
    import cv2
    import numpy as np

    def decoded(flags: int) -> Any:
        return cv2.imdecode(np.frombuffer(content, np.uint8), flags) if content else None

    try:
        pixels = decoded(cv2.IMREAD_COLOR)
    except cv2.error:  # too large for it
        pixels = None
    if pixels is None:
        return hashed(content) | {"problem": "is no image that can be read, or a part of one" if content else "is empty"}
    turned = b"exif" in content.lower() and not np.array_equal(pixels, decoded(cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION))
    return hashed(content) | {"size": [pixels.shape[1], pixels.shape[0]], "turned": turned}


def _kept(store: Path) -> dict[str, Json]:
    try:
        kept = json.loads(files.read_text(store))
        return {name: entry for name, entry in kept.items() if isinstance(entry["says"], dict) and entry["stamp"]}
    except (OSError, ValueError, AttributeError, TypeError, KeyError):
        return {}  # read anew


def _keep(store: Path, known: Json) -> None:
    with contextlib.suppress(OSError):  # A read-only folder costs time, no more.
        files.write_atomic(store, json.dumps(known))


def _stamp(file: Path) -> list[int] | None:
    """A file's size and times; None for what is not a file, such as a pipe. The last time is one that no tool sets back."""
    try:
        state = file.stat()
    except (OSError, ValueError):
        return None
    return [state.st_size, state.st_mtime_ns, state.st_ctime_ns] if stat.S_ISREG(state.st_mode) else None


def _read(new: Mapping[str, Path], read: Callable[[bytes], Json], doing: str) -> Any:
    """Each name with what its file says, read by as many threads as there are cores."""
    import cv2
    from rich.console import Console
    from rich.progress import Progress

    def one(file: Path) -> Json:
        try:
            content = file.read_bytes()
        except OSError as error:
            return {"problem": f"cannot be read ({error.strerror})", UNREAD: True}
        return read(content)

    level = cv2.setLogLevel(0)  # broken images are told of in our words
    console = Console(stderr=True)
    try:
        with (
            ThreadPoolExecutor(os.cpu_count()) as pool,
            Progress(console=console, disable=not console.is_terminal, transient=True) as bar,
        ):
            task = bar.add_task(doing, total=len(new))
            names = list(new)
            for first in range(0, len(names), CHUNK):
                some = names[first : first + CHUNK]
                yield from zip(some, pool.map(one, [new[name] for name in some]), strict=True)
                bar.advance(task, len(some))
    finally:
        cv2.setLogLevel(level)
