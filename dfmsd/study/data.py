"""The data of a run on disk: the generated ``shapes`` set, and COCO 2017 or anything in its layout."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfmsd.errors import StudyError
from dfmsd.study import files, paths, shapes
from dfmsd.study.spec import CocoData, DataSpec, ShapesData, canonical, digest

ABSENT = "absent"
"""The digest of a COCO that is not there."""

JPEG_QUALITY = 95
CHUNK = 25
"""Images a worker makes at a time."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Split:
    """A COCO annotation file and the folder of its images."""

    annotations: Path
    images: Path


@dataclass(frozen=True)
class DataRoot:
    """A data set that stands on disk."""

    train: Split
    """Images to learn from."""
    val: Split
    """Images that pages report."""
    tune: Split | None
    """Images on which the miniature was tuned; None if there are none."""
    classes: tuple[str, ...]
    """Names of the categories, in the order of their ids."""
    fingerprint: str
    """Twelve hex digits that identify the data: generator version, seed, parameters and annotations, not pixels."""


def ensure(spec: DataSpec, *, jobs: int | None = None, progress: bool = False) -> DataRoot:
    """The data set of a specification, generated first if it is missing, by ``jobs`` processes or as many as there are cores.

    Raises:
        StudyError: The stored data is damaged, the disk is full, or COCO is not as it should be.
    """
    with files.full_disk_in_plain_words():
        return _ensure_shapes(spec, jobs, progress) if isinstance(spec, ShapesData) else _ensure_coco(spec)


def coco_digest() -> str:
    """Hash of the annotation files below ``DFMSD_COCO``; ``absent`` if there are none.

    A hash is computed once for each size and time of change of a file.
    """
    root = paths.coco()
    sources = [_coco_annotations(root, split) for split in ("train", "val")] if root else []
    if not sources or not all(file.is_file() for file in sources):
        return ABSENT
    store = paths.data() / "coco-digests.json"
    try:
        known = dict(json.loads(store.read_text()))
    except (OSError, ValueError):
        known = {}
    digests = {}
    for file in sources:
        state = file.stat()
        stamp = [state.st_size, state.st_mtime_ns]
        before = known.get(str(file.resolve()))
        if before is None or before["stamp"] != stamp:
            with file.open("rb") as stream:
                before = {"stamp": stamp, "digest": hashlib.file_digest(stream, "sha256").hexdigest()}
        digests[str(file.resolve())] = before
    if known != known | digests:
        try:
            files.write_atomic(store, canonical(known | digests))
        except OSError:
            pass  # A read-only folder costs time, not the plan.
    return _hash("".join(entry["digest"] for entry in digests.values()))


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
    if not home.is_dir():
        with files.locked(home.with_name(f"{home.name}.lock")):
            if not home.is_dir():
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
        partial.rename(home)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


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
        rows.append(row)
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
        stored = json.loads((home / "meta.json").read_text())["fingerprint"]
        contents = [(home / f"annotations/{split}.json").read_text() for split, _ in _counts(spec)]
        found = {split: sum(1 for _ in os.scandir(home / f"images/{split}")) for split, _ in _counts(spec)}
    except (OSError, ValueError, KeyError) as error:
        raise StudyError(f"the generated data is damaged ({error}): {mend}") from None
    if _fingerprint(spec, contents) != stored:
        raise StudyError(f"the generated annotations do not match their fingerprint {stored}: {mend}")
    first = _row(spec, 0, shapes.scene(spec, "train", 0))
    if not all(canonical(entry) in contents[0] for entry in [first["image"], *first["annotations"]]):
        raise StudyError(f"the stored data was generated by other code than this, under the same version: {mend}")
    for split, count in _counts(spec):
        if found[split] != count:
            raise StudyError(f"the generated data has {found[split]} images in {split} instead of {count}: {mend}")
    splits = {split: Split(home / f"annotations/{split}.json", home / f"images/{split}") for split, _ in _counts(spec)}
    return DataRoot(splits["train"], splits["val"], splits.get("tune"), shapes.CLASSES, stored)


def _coco_annotations(root: Path, split: str) -> Path:
    return root / f"annotations/instances_{split}2017.json"


def _ensure_coco(spec: CocoData) -> DataRoot:
    root = paths.coco()
    if root is None:
        raise StudyError("COCO is not set up: name its root, export DFMSD_COCO=/path/to/coco")
    for split in ("train", "val"):
        if not (file := _coco_annotations(root, split)).is_file():
            raise StudyError(f"DFMSD_COCO names {root}, which is not COCO's root: it has no {file.relative_to(root)}")
    if spec.digest != (found := coco_digest()):
        raise StudyError(f"the annotations below {root} are {found}, but the run was planned for {spec.digest}: plan again")
    train, classes = _coco_split(root, "train", spec.train, found)
    val, _ = _coco_split(root, "val", spec.val, found)
    return DataRoot(train, val, None, classes, digest(spec.model_dump(mode="json")))


def _coco_split(root: Path, split: str, count: int | None, whole: str) -> tuple[Split, tuple[str, ...]]:
    """A split of COCO, or its first images, with every image there."""
    source = _coco_annotations(root, split)
    derived = paths.data() / f"coco-{whole}" / f"{split}-{count}.json"
    file = source if count is None or not derived.is_file() else derived
    try:
        content = json.loads(file.read_text())
        images, annotations, categories = (content[key] for key in ("images", "annotations", "categories"))
    except (ValueError, KeyError) as error:
        raise StudyError(f"cannot be read as COCO's annotations: {file} ({error})") from None
    if count is not None and file is source:
        if count > len(images):
            raise StudyError(f"{count} images of {split} were asked for, but {source} lists {len(images)}")
        images = images[:count]
        chosen = {image["id"] for image in images}
        annotations = [item for item in annotations if item["image_id"] in chosen]
        files.write_atomic(derived, canonical(content | {"images": images, "annotations": annotations}))
        file = derived
    folder = root / f"{split}2017"
    there = set(os.listdir(folder)) if folder.is_dir() else set()
    missing = [image["file_name"] for image in images if image["file_name"] not in there]
    if missing:
        share = f"{len(missing)} of {len(images)}"
        raise StudyError(f"{share} images of {split} are missing in {folder}; the first is {missing[0]}")
    return Split(file, folder), tuple(category["name"] for category in categories)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
