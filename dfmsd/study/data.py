"""The data of a run on disk: the generated ``shapes`` set is made here; COCO and a user's own are :mod:`dfmsd.study.coco`'s."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from dfmsd.errors import StudyError
from dfmsd.study import coco, files, fingerprints, paths, shapes
from dfmsd.study.coco import DataRoot as DataRoot
from dfmsd.study.coco import Split as Split
from dfmsd.study.spec import DataSpec, ShapesData, canonical, digest

HASHES = "images.json"
"""Size and hash of each generated image: the last file that is written."""

JPEG_QUALITY = 95
CHUNK = 25
"""Images a worker makes at a time."""

Json = dict[str, Any]


def ensure(spec: DataSpec, *, jobs: int | None = None, progress: bool = False) -> DataRoot:
    """The data set of a specification, generated first if it is missing, by ``jobs`` processes or as many as there are cores.

    Raises:
        StudyError: The stored data is damaged, the disk is full, or COCO or the user's own data are not as they should be.
    """
    with files.plain_words(paths.data()):
        if isinstance(spec, ShapesData):
            return _ensure_shapes(spec, jobs, progress)
        return coco.ready(spec, progress=progress)


def size_class(area: float) -> str:
    """COCO's name for an object of so many pixels.

    Example:
        >>> [size_class(side**2) for side in (31, 33, 97)]
        ['small', 'medium', 'large']
    """
    return "small" if area < shapes.SMALL_SIDE**2 else "large" if area > shapes.LARGE_SIDE**2 else "medium"


def _counts(spec: ShapesData) -> list[tuple[str, int]]:
    return [(split, count) for split in shapes.SPLITS if (count := getattr(spec, split))]


def _ensure_shapes(spec: ShapesData, jobs: int | None, progress: bool) -> DataRoot:
    home = paths.data() / f"shapes-{digest(spec.model_dump(mode='json'))}"
    # Data made before images had hashes are made again.
    if not (home / HASHES).is_file():
        with files.locked(home.with_name(f"{home.name}.lock")):
            if not (home / HASHES).is_file():
                _generate(spec, home, jobs or os.cpu_count() or 1, progress)
    return _checked(spec, home)


def _generate(spec: ShapesData, home: Path, jobs: int, progress: bool) -> None:
    """Make the data set beside its place, then move it there, so that what stands there is whole."""
    partial = home.with_name(f"{home.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        for split, _ in _counts(spec):
            (partial / f"images/{split}").mkdir(parents=True)
        rows = _work(spec, partial, jobs, progress)
        contents = []
        for split, _ in _counts(spec):
            contents.append(_coco(spec, split, rows[split]))
            files.write_atomic(partial / f"annotations/{split}.json", contents[-1])
        meta = {"spec": spec.model_dump(mode="json"), "fingerprint": _fingerprint(spec, contents)}
        files.write_atomic(partial / "meta.json", canonical(meta))
        hashes = {f"images/{split}/{row['image']['file_name']}": row["hash"] for split, some in rows.items() for row in some}
        files.write_atomic(partial / HASHES, canonical(hashes))
        _settle(partial, home)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _settle(partial: Path, home: Path) -> None:
    """Move a data set to its place; where one is, file by file, as runs may be reading it, and the hashes last."""
    if not home.exists():
        partial.rename(home)
        return
    for file in sorted((one for one in partial.rglob("*") if one.is_file()), key=lambda one: one.name == HASHES):
        place = home / file.relative_to(partial)
        place.parent.mkdir(parents=True, exist_ok=True)
        file.replace(place)
    shutil.rmtree(partial)


def _work(spec: ShapesData, folder: Path, jobs: int, progress: bool) -> dict[str, list[Json]]:
    """Write all images with several processes; return the rows of each split in the order of its images."""
    from rich.console import Console
    from rich.progress import Progress

    chunks = [(split, range(count)[first : first + CHUNK]) for split, count in _counts(spec) for first in range(0, count, CHUNK)]
    rows: dict[str, list[Json]] = {split: [] for split, _ in _counts(spec)}
    # Workers start before the bar's thread does: a fork copies no half-held lock.
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(min(jobs, len(chunks)), fork, initializer=files.end_with_parent) as pool:
        futures = [pool.submit(_make, spec, split, indices, folder / f"images/{split}") for split, indices in chunks]
        with Progress(console=Console(stderr=True), disable=not progress) as bar:
            task = bar.add_task("generating shapes", total=sum(count for _, count in _counts(spec)))
            try:
                for (split, indices), future in zip(chunks, futures, strict=True):
                    rows[split] += future.result()
                    bar.advance(task, len(indices))
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
    return rows


def _make(spec: ShapesData, split: str, indices: range, folder: Path) -> list[Json]:
    """Write some images of a split; return their :func:`_row`."""
    import cv2

    cv2.setNumThreads(0)
    rows = []
    for index in indices:
        image, scene = shapes.generate(spec, split, index)
        _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        row = _row(spec, index, scene)
        (folder / row["image"]["file_name"]).write_bytes(encoded.tobytes())
        rows.append(row | {"hash": fingerprints.hashed(encoded.tobytes())})
    return rows


def _row(spec: ShapesData, index: int, scene: shapes.Scene) -> Json:
    """COCO's entries for one image and its objects."""
    import numpy as np
    from pycocotools import mask as codec

    image = {"id": index, "file_name": f"{index:06d}.jpg", "width": spec.size, "height": spec.size, "kind": scene.kind}
    annotations = []
    for number, item in enumerate(scene.objects):
        run_lengths = codec.encode(np.asfortranarray(item.mask, dtype=np.uint8))
        annotations.append(
            {
                "id": 100 * index + number + 1,  # Not 0: pycocotools takes an object of id 0 for an unmatched one.
                "image_id": index,
                "category_id": item.label + 1,
                "bbox": [float(value) for value in item.box],
                "area": item.area,
                "segmentation": {"size": [spec.size, spec.size], "counts": run_lengths["counts"].decode()},
                "iscrowd": 0,
            }
        )
    return {"image": image, "annotations": annotations}


def _coco(spec: ShapesData, split: str, rows: Sequence[Json]) -> str:
    """The text of an annotation file."""
    return canonical(
        {
            "info": {"description": f"shapes, version {spec.version}, seed {spec.seed}, {split}"},
            "images": [row["image"] for row in rows],
            "annotations": [annotation for row in rows for annotation in row["annotations"]],
            "categories": [{"id": label + 1, "name": name} for label, name in enumerate(shapes.CLASSES)],
        }
    )


def _fingerprint(spec: ShapesData, contents: Sequence[str]) -> str:
    return _hash("\n".join([canonical(spec.model_dump(mode="json")), *contents]))


def _checked(spec: ShapesData, home: Path) -> DataRoot:
    """The stored data set, if it is whole."""
    mend = f"remove the folder {home} and it is generated anew"
    try:
        stored = json.loads(files.read_text(home / "meta.json"))["fingerprint"]
        contents = [files.read_text(home / f"annotations/{split}.json") for split, _ in _counts(spec)]
        hashes = dict(json.loads(files.read_text(home / HASHES)))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StudyError(f"the generated data is damaged ({error}): {mend}") from None
    if _fingerprint(spec, contents) != stored:
        raise StudyError(f"the generated annotations do not match their fingerprint {stored}: {mend}")
    first = _row(spec, 0, shapes.scene(spec, "train", 0))
    if not all(canonical(entry) in contents[0] for entry in [first["image"], *first["annotations"]]):
        raise StudyError(f"the stored data was generated by other code than this, under the same version: {mend}")
    wanted = {name: home / name for name in (f"images/{split}/{n:06d}.jpg" for split, count in _counts(spec) for n in range(count))}
    seen = fingerprints.look(wanted, fingerprints.hashed, of=home, doing="reading generated images")
    if changed := [f"{name} {_change(image, hashes.get(name))}" for name, image in seen.items() if image != hashes.get(name)]:
        more = f", and {len(changed) - 1} more are damaged" if len(changed) > 1 else ""
        raise StudyError(f"of the generated images {changed[0]}{more}: {mend}")
    splits = {split: Split(home / f"annotations/{split}.json", home / f"images/{split}") for split, _ in _counts(spec)}
    return DataRoot(splits["train"], splits["val"], splits.get("tune"), shapes.CLASSES, stored)


def _change(image: Json | None, made: Json | None) -> str:
    """What has become of a generated image."""
    if image is None or made is None:
        return "is missing"
    if image.get("bytes") == made["bytes"]:
        return "is another image than was made"
    return f"has {image.get('bytes', 'no readable')} bytes instead of {made['bytes']}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
