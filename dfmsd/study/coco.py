"""Data in COCO's format: COCO 2017 below ``DFMSD_COCO``, and a user's own, which a YAML names."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from dfmsd.errors import StudyError, suggest
from dfmsd.study import code, files, fingerprints, params, paths, truth
from dfmsd.study.spec import CocoData, canonical, digest
from dfmsd.study.truth import AnnotationFile

Json = dict[str, Any]

ABSENT = "absent"
"""The digest of a COCO that is not there."""

SPLITS = ("train", "val")

LEAST_SIDE = 32
"""Training leaves out images with a side of fewer pixels, as mmdet's configs for COCO do."""


KEPT = ("copies", "notes", "classes", "images", "masks")
"""What is kept of a check: hashes of the copies that were filled in, and fields of :class:`dfmsd.study.truth.Checked`."""


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
    """Names of the categories, in the order of the training file."""
    fingerprint: str
    """Twelve hex digits that identify the data: generator version, seed, parameters and annotations, or what files hold."""
    masks: bool = True
    """Whether every object to learn has a mask."""


@dataclass(frozen=True)
class Source:
    """Where a data set lies."""

    name: str
    """What errors call it."""
    base: Path
    """The folder from which errors name its files."""
    splits: tuple[Split, Split]
    """To learn from, and to evaluate on."""

    def called(self, place: Path) -> str:
        """A file or folder as an error names it."""
        return str(place.relative_to(self.base)) if place.is_relative_to(self.base) else str(place)


def coco() -> Source | None:
    """COCO 2017; None without ``DFMSD_COCO``."""
    root = paths.coco()
    if root is None:
        return None
    train, val = (Split(root / f"annotations/instances_{split}2017.json", root / f"{split}2017") for split in SPLITS)
    return Source("DFMSD_COCO", root, (train, val))


def named(file: Path) -> Source:
    """The data set that a user's YAML names.

    It holds ``train`` and ``val``, each with ``annotations``, a file in COCO's format, and ``images``, the folder below which the
    file names of its images lie. Relative paths are relative to the YAML.

    Raises:
        StudyError: if it does not, or what it names is not there.
    """
    if not file.is_file():
        raise StudyError(f"{file} is no file: name a YAML with the annotation files and image folders of train and val")
    content = _parts(str(file), params.read(file), SPLITS)
    splits = []
    for split in SPLITS:
        parts = _parts(f"{file}: {split}", content[split], ("annotations", "images"))
        for part, value in parts.items():
            if not isinstance(value, str) or not value:
                raise StudyError(f"{file}: {split}: {part} = {value!r}: it must be a path")
        found = Split(*(file.absolute().parent / os.path.expanduser(parts[part]) for part in ("annotations", "images")))
        if not found.annotations.is_file():
            raise StudyError(f"{file}: {split}: annotations: {found.annotations} is no file")
        if not found.images.is_dir():
            raise StudyError(f"{file}: {split}: images: {found.images} is no folder")
        splits.append(found)
    if splits[0].annotations.samefile(splits[1].annotations):
        raise StudyError(f"{file}: train and val have the same annotations: what was learned by heart would count as found")
    return Source(str(file), file.absolute().parent, (splits[0], splits[1]))


def _parts(what: str, content: object, names: Sequence[str]) -> Json:
    if not isinstance(content, dict):
        raise StudyError(f"{what} must hold {' and '.join(f'{name}: ...' for name in names)}")
    if unknown := [name for name in content if name not in names]:
        raise StudyError(f"{what}: unknown name {unknown[0]!r}: {suggest(str(unknown[0]), names)}")
    if missing := [name for name in names if name not in content]:
        raise StudyError(f"{what} lacks {missing[0]!r}")
    return content


def coco_digest() -> str:
    """Hash of COCO's annotation files and images below ``DFMSD_COCO``; ``absent`` without the files."""
    source = coco()
    if source is None or not all(split.annotations.is_file() for split in source.splits):
        return ABSENT
    return _digest(source)


def own(file: Path) -> CocoData:
    """A user's own data, checked.

    Args:
        file: The YAML that names them, see :func:`named`.

    Raises:
        StudyError: with all that is wrong in its files.
    """
    source = named(file)
    seen = _look(source)
    kept = _checked("own", source, seen)
    return CocoData(source="own", digest=_hash_of(seen), train=len(kept["images"][0]), file=file.absolute())


def ready(spec: CocoData, *, progress: bool = False) -> DataRoot:
    """Data in COCO's format, checked; a part of them is written below the data folder, as is what was filled in.

    Args:
        spec: What they are.
        progress: Print what was filled in and what training leaves out.

    Raises:
        StudyError: if they are not there, others than planned for, or not as they should be.
    """
    source = coco() if spec.file is None else named(spec.file)
    if source is None:
        raise StudyError("COCO is not set up: name its root, export DFMSD_COCO=/path/to/coco (`python -m dfmsd coco` tells more)")
    for split in source.splits:
        if not split.annotations.is_file():
            raise StudyError(
                f"DFMSD_COCO names {source.base}, which is not COCO's root: it has no {source.called(split.annotations)}"
            )
    seen = _look(source)
    if spec.digest != (found := _hash_of(seen)):
        raise StudyError(f"the data of {source.name} are {found}, but the run was planned for {spec.digest}: plan again")
    kept = _checked(spec.source, source, seen)
    if progress:
        print("".join(f"note: {line}\n" for line in kept["notes"]), end="", file=sys.stderr)
    home = _home(spec.source, found)
    train, val = (
        _part(place, split, count, kept, home)
        for place, (split, count) in enumerate(zip(source.splits, (spec.train, spec.val), strict=True))
    )
    identity = digest([spec.model_dump(mode="json"), kept["copies"]])
    return DataRoot(train, val, None, tuple(kept["classes"]), identity, kept["masks"])


Seen = list[tuple[str, dict[str, Json | None]]]
"""Of each split the hash of its annotation file, and what was seen of its images."""


def _look(source: Source) -> Seen:
    seen: Seen = []
    for split in source.splits:
        listed = fingerprints.look({"": split.annotations}, listing, of=split.annotations, doing="reading annotations")[""]
        if listed is None or "problem" in listed:
            raise StudyError(f"{split.annotations} cannot be read: {(listed or {}).get('problem', 'it is no file')}")
        wanted = {name: split.images / name for name in listed["names"]}
        doing = f"reading {len(wanted)} images of {source.called(split.images)}"
        seen.append((listed["sha256"], fingerprints.look(wanted, fingerprints.picture, of=split.annotations, doing=doing)))
    return seen


def listing(content: bytes) -> Json:
    """The hash of an annotation file and the names of its images, as far as it is one.

    Example:
        >>> listing(b'{"images": [{"file_name": "cam1/1.jpg"}]}')["names"]
        ['cam1/1.jpg']
    """
    try:
        images = json.loads(content)["images"]
        names = sorted({image["file_name"] for image in images if isinstance(image["file_name"], str)})
    except (ValueError, KeyError, TypeError, RecursionError):
        names = []  # The check says what is wrong.
    return fingerprints.hashed(content) | {"names": names}


def _hash_of(seen: Seen) -> str:
    return digest([[listed, [[name, (image or {}).get("sha256")] for name, image in images.items()]] for listed, images in seen])


_looked: dict[Source, tuple[float, str]] = {}


def _digest(source: Source) -> str:
    """Hash of the files of a data set.

    To look at so many files takes a second, and a plan asks for the hash a thousand times: a look that took long counts for ten
    times as long.
    """
    until, known = _looked.get(source, (0.0, ""))
    begun = time.monotonic()
    if begun >= until:
        known = _hash_of(_look(source))
        took = time.monotonic() - begun
        _looked[source] = (begun + min(10 * took, 10.0) if took > 0.1 else 0.0, known)
    return known


def _home(kind: str, found: str) -> Path:
    return paths.data() / f"{kind}-{found}"


def _checked(kind: str, source: Source, seen: Seen) -> Json:
    """What today's check says of the files, kept where its copies are.

    Raises:
        StudyError: with all that is wrong.
    """
    home = _home(kind, _hash_of(seen))
    file = home / f"checked-{code.digest_of('dfmsd.study.truth:check')}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # Damaged, it is made anew.
        kept: Json = json.loads(files.read_text(file))
        if kept["copies"] == _copies(home, kept["copies"]) and kept.keys() == set(KEPT):
            return kept
    checked = truth.check(*(_opened(source, place, images) for place, (_, images) in enumerate(seen)), least_side=LEAST_SIDE)
    if checked.wrong:
        many = f"{len(checked.wrong)} things are" if len(checked.wrong) > 1 else "one thing is"
        raise StudyError("\n  ".join([f"{source.name}: {many} wrong with the data, and nothing was trained:", *checked.wrong]))
    for place, content in checked.changed.items():
        files.write_atomic(home / f"{SPLITS[place]}.json", json.dumps(content))
    kept = {part: getattr(checked, part) for part in KEPT[1:]}
    kept["copies"] = _copies(home, [SPLITS[place] for place in checked.changed])
    files.write_atomic(file, canonical(kept))
    return kept


def _copies(home: Path, splits: Sequence[str] | Json) -> dict[str, str | None]:
    """The hash of each copy that has been filled in."""
    wanted = {split: home / f"{split}.json" for split in splits}
    found = fingerprints.look(wanted, fingerprints.hashed, of=home, doing="reading annotations")
    return {split: (seen or {}).get("sha256") for split, seen in found.items()}


def _opened(source: Source, place: int, images: dict[str, Json | None]) -> AnnotationFile:
    split = source.splits[place]

    @cache
    def names() -> dict[str, str]:
        places = (Path(folder, name) for folder, _, found in os.walk(split.images) for name in found)
        return {file.name.lower(): str(file.relative_to(split.images)) for file in places}

    def elsewhere(name: str) -> str | None:
        found = names().get(PurePosixPath(name.replace("\\", "/")).name.lower())
        return None if found == name else found  # a link that leads nowhere

    content = split.annotations.read_bytes()
    return AnnotationFile(source.called(split.annotations), content, images, source.called(split.images), elsewhere)


def _part(place: int, split: Split, count: int | None, kept: Json, home: Path) -> Split:
    """A split, or the first images of it that have an object."""
    name, usable = SPLITS[place], kept["images"][place]
    whole = Split(home / f"{name}.json", split.images) if name in kept["copies"] else split
    if count is None or (name == "train" and count == len(usable)):
        return whole
    if count > len(usable):
        raise StudyError(f"{count} images of {name} were asked for, but {split.annotations} has {len(usable)} with an object")
    derived = home / f"{name}-{count}.json"
    if not derived.is_file():
        content, chosen = json.loads(whole.annotations.read_bytes()), set(usable[:count])
        content["images"] = [image for image in content["images"] if image["id"] in chosen]
        content["annotations"] = [item for item in content["annotations"] if item["image_id"] in chosen]
        files.write_atomic(derived, json.dumps(content))
    return Split(derived, split.images)
