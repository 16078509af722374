"""The one check of a data set in COCO's format: everything that is wrong in its files, in one list, before anything trains.

What follows from the rest is filled in, with a note; that makes other contents than the user's files, which are never changed.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

SLACK = 1.0
"""Pixels that a box may reach beyond its image, as tools round."""

THIN = 0.01
"""Pixels of its image that a box must have in width and height, or no detection meets it."""

MOST = 100
"""Detections of an image that COCO's metric looks at."""

SHOWN = 8
"""Images, annotations or categories that a line names of those with the same fault."""

TOP = ("images", "annotations", "categories")

SIDES = ("width", "height")


@dataclass(frozen=True)
class AnnotationFile:
    """An annotation file and what was seen of its images."""

    name: str
    """What findings call it."""
    content: bytes
    pictures: Mapping[str, Json | None]
    """By ``file_name``, see :func:`dfmsd.study.fingerprints.picture`; None if there is no such file."""
    folder: str
    """What findings call the folder of its images."""
    elsewhere: Callable[[str], str | None] = lambda _: None
    """Where in the folder a missing image lies, if there is one of its name."""


@dataclass(frozen=True)
class Checked:
    """What the check of a training and a validation file found."""

    wrong: list[str]
    """A line for each kind of fault in each file; where there is one, the rest of this says nothing."""
    notes: list[str]
    """Likewise, of what was filled in and of what training leaves out."""
    classes: tuple[str, ...]
    """Names of the categories, in the order of the training file."""
    changed: dict[int, Json]
    """Contents with what was filled in, by the place of the file, if anything was."""
    images: tuple[list[int], ...]
    """Of each file the ids of images with an object that can be learned, or found, in its order."""
    masks: bool
    """Whether every object to learn has a mask."""


class _Lines:
    """Findings of one kind in one file share a line, which describes the first."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], list[tuple[str, str]]] = {}

    def add(self, file: str, item: str, template: str, *values: object) -> None:
        """Add a finding.

        Args:
            file: Where it is.
            item: What it is about, such as ``annotation 17``; empty for the file itself.
            template: What is wrong and what would be right; it names the kind.
            values: What stands in the template's braces.
        """
        self._found.setdefault((file, template), []).append((item, template.format(*values)))

    def about(self, file: str) -> bool:
        """Whether there are findings in a file."""
        return any(where == file for where, _ in self._found)

    def lines(self) -> list[str]:
        """All of them."""
        found = []
        for (file, _), ((item, text), *more) in self._found.items():
            others = [other.partition(" ")[2] for other, _ in more[: SHOWN - 1]] + ["..."] * (len(more) >= SHOWN)
            also = f" and {len(more)} more ({', '.join(others)})" if more else ""
            found.append(": ".join(part for part in (file, f"{item}{also}", text) if part))
        return found


def check(train: AnnotationFile, val: AnnotationFile, *, least_side: int) -> Checked:
    """Check a training and a validation file together.

    Args:
        train: Images to learn from.
        val: Images to evaluate on.
        least_side: Training leaves out images with a side of fewer pixels.

    Example:
        >>> empty = AnnotationFile("a.json", b'{"images": [], "annotations": [], "categories": []}', {}, "photos")
        >>> check(empty, empty, least_side=32).wrong[0]
        'a.json: it has no categories: list them as {"id": 1, "name": "cat"}'
    """
    wrong, notes = _Lines(), _Lines()
    checks = [_Check(file, wrong, notes) for file in (train, val)]
    for one in checks:
        one.parts()
    first, second = checks
    second.thin()
    if first.names and second.names:
        first.same_categories(second)
    if not wrong.about(train.name):
        first.to_learn(least_side)
    if not wrong.about(val.name):
        second.to_find()
    _in_both(train, val, notes)
    return Checked(
        wrong=wrong.lines(),
        notes=notes.lines(),
        classes=tuple(first.names.values()),
        changed={place: one.content for place, one in enumerate(checks) if one.changed and one.content is not None},
        images=tuple(one.usable for one in checks),
        masks=first.masks,
    )


def _in_both(train: AnnotationFile, val: AnnotationFile, notes: _Lines) -> None:
    known = {seen["sha256"] for seen in train.pictures.values() if seen and "size" in seen}
    for name, seen in val.pictures.items():
        if seen and seen.get("sha256") in known:
            notes.add(val.name, f"image {name!r}", "the same image is in {}: what was learned by heart counts as found", train.name)


def _once(pairs: list[tuple[str, Any]]) -> Json:
    """An object of a JSON text, in which no name stands twice: of two values the first would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} stands twice in one object")
    return found


def _is_mask(found: object, image: Json) -> bool:
    """Whether a segmentation is polygons, or run lengths of its image."""
    try:
        if isinstance(found, list):
            return all(len(polygon) > 5 and len(polygon) % 2 == 0 and math.isfinite(sum(polygon)) for polygon in found)
        size, counts = found["size"], found["counts"]  # type: ignore[index]
        whole = isinstance(counts, str) or (min(counts) >= 0 and sum(counts) == math.prod(size))
        return bool(size == [image["height"], image["width"]] and whole)
    except (TypeError, KeyError, ValueError, OverflowError):
        return False


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    """Also not NaN, and not so large that arithmetic fails."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -1e9 < value < 1e9


def _shown(start: float, length: float, side: float) -> float:
    """How much of a box is in its image, along one side."""
    return min(start + length, side) - max(start, 0)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@dataclass
class _Check:
    """The check of one file; :meth:`parts` comes first."""

    file: AnnotationFile
    wrong: _Lines
    notes: _Lines
    content: Any = None
    """As parsed, with what was filled in."""
    changed: bool = False
    names: dict[int, str] = field(default_factory=dict)
    """Categories by id."""
    images: dict[int, Json] = field(default_factory=dict)
    objects: dict[int, int] = field(default_factory=dict)
    """Number of each image's objects that can be learned or found."""
    boxes: dict[str, list[float]] = field(default_factory=dict)
    """Those that have next to nothing of their image, by what a finding calls them."""
    usable: list[int] = field(default_factory=list)
    masks: bool = True

    def fault(self, item: str, template: str, *values: object) -> None:
        self.wrong.add(self.file.name, item, template, *values)

    def note(self, item: str, template: str, *values: object) -> None:
        self.notes.add(self.file.name, item, template, *values)

    def filled(self, item: str, template: str, *values: object) -> None:
        self.note(item, template, *values)
        self.changed = True

    def parts(self) -> None:
        try:
            # A byte order mark is no fault of the user's, but pycocotools cannot read it.
            text = self.file.content.decode("utf-8-sig")
            self.changed = self.file.content.startswith(b"\xef\xbb\xbf")
            content = json.loads(text, object_pairs_hook=_once)
        except (ValueError, RecursionError) as error:
            self.fault("", "it cannot be read as JSON ({})", str(error).split(": line")[0] or type(error).__name__)
            return
        if not isinstance(content, dict):
            self.fault("", 'it holds no object: COCO\'s format is {{"images": [...], "annotations": [...], "categories": [...]}}')
            return
        for part in TOP:
            if not isinstance(content.get(part), list):
                self.fault("", "it has no list of {}", part)
            elif strange := [n for n, entry in enumerate(content[part], 1) if not isinstance(entry, dict)]:
                self.fault("", "number {} of its {} is no object of names and values", strange[0], part)
        if self.wrong.about(self.file.name):
            return
        self.content = content
        self._categories()
        self._images()
        self._annotations()

    def _ids(self, part: str, noun: str) -> Iterable[tuple[str, Json]]:
        """The entries of a part that have an id of their own, and what a finding calls each."""
        known = set()
        for number, entry in enumerate(self.content[part], 1):
            key = entry.get("id")
            if not _is_id(key):
                self.fault(f"{noun} number {number}", "its id is {}: it must be a whole number", _short(key))
            elif key in known:
                self.fault(f"{noun} {key}", f"another {noun} has the same id: each needs its own")
            else:
                known.add(key)
                yield f"{noun} {key}", entry

    def _categories(self) -> None:
        if not self.content["categories"]:
            self.fault("", 'it has no categories: list them as {{"id": 1, "name": "cat"}}')
        for item, entry in self._ids("categories", "category"):
            name = entry.get("name")
            if not isinstance(name, str) or not name.strip():
                self.fault(item, "its name is {}: it needs one", _short(name))
            elif name in self.names.values():
                self.fault(item, "another category is called {!r}, too: give each its own name", name)
            else:
                self.names[entry["id"]] = name

    def _images(self) -> None:
        if not self.content["images"]:
            self.fault("", "it lists no images")
        files: dict[str, str] = {}
        for item, entry in self._ids("images", "image"):
            self.images[entry["id"]] = entry
            name = entry.get("file_name")
            if not isinstance(name, str) or not name:
                self.fault(item, "its file_name is {}: it must be a path below {}", _short(name), self.file.folder)
                continue
            if (other := files.setdefault(os.path.normpath(name), item)) != item:
                self.fault(item, "{!r} is also the file of {}: list it once, with all of its annotations", name, other)
                continue
            seen = self.file.pictures.get(name)
            if seen is None:
                there = self.file.elsewhere(name)
                known = f"; there is {there!r}: if it is that, write so" if there else ""
                self.fault(item, "{!r} is not a file in {}{}", name, self.file.folder, known)
            elif "problem" in seen:
                self.fault(item, "{!r} {}", name, seen["problem"])
            else:
                self._size(item, entry, seen)

    def _size(self, item: str, entry: Json, seen: Json) -> None:
        said, size = [entry.get("width"), entry.get("height")], seen["size"]
        turned = ", turned as its EXIF orientation says" if seen["turned"] else ""
        if None in said:
            entry["width"], entry["height"] = size
            self.filled(item, "its width or height is missing: taken from the image")
        elif said != size:
            words = "{!r} is {} x {} pixels as training reads it{}, not {} x {}: sizes and boxes must be of the image as it is read"
            self.fault(item, words, entry["file_name"], *size, turned, *map(_short, said))
        if turned and (None in said or said == size):
            self.note(item, "training reads it{}: boxes must be of the turned image", turned)

    def _annotations(self) -> None:
        largest = 0.0
        for item, entry in self._ids("annotations", "annotation"):
            image = self.images.get(entry["image_id"]) if _is_id(entry.get("image_id")) else None
            if image is None:
                self.fault(item, "its image_id is {}, which no image has", _short(entry.get("image_id")))
            if not _is_id(entry.get("category_id")) or entry["category_id"] not in self.names:
                self.fault(item, "its category_id is {}, which no category has", _short(entry.get("category_id")))
            crowd = self._crowd(item, entry)
            box = entry.get("bbox")
            if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
                words = "its bbox is {}: it must be four finite numbers, left, top, width and height in pixels"
                self.fault(item, words, _short(box))
                continue
            if min(box[2:]) < 0:
                self.fault(item, "its bbox {} is inverted: the last two numbers are its width and height", _short(box))
                continue
            largest = max(largest, *box)
            self._area(item, entry, box)
            if image is None or not all(_is_number(image.get(side)) for side in SIDES):
                continue
            if self._outside(item, box, image):
                continue
            self._mask(item, entry, image)
            if not crowd and min(_shown(box[place], box[place + 2], image[side]) for place, side in enumerate(SIDES)) < THIN:
                self.boxes[item] = box
            self.masks = self.masks and bool(entry.get("segmentation"))
            if min(box[2:]) < 1 or entry.get("area") == 0 or entry.get("ignore"):
                self.note(item, "it is smaller than a pixel or says ignore: training leaves it out, evaluation does not")
            elif not crowd:
                self.objects[image["id"]] = self.objects.get(image["id"], 0) + 1
        if 0 < largest <= 1:
            self.fault("", "all of its boxes lie within one pixel: a bbox is in pixels, not in shares of its image")
        ids = [entry["id"] for entry in self.content["annotations"] if _is_id(entry.get("id"))]
        if ids and min(ids) < 1:
            # pycocotools takes an object of id 0 for an unmatched one.
            least = min(ids)
            self.filled("", "the ids of its annotations begin at {}: all were raised so that they begin at 1", least)
            for entry in self.content["annotations"]:
                if _is_id(entry.get("id")):
                    entry["id"] += 1 - least

    def _crowd(self, item: str, entry: Json) -> bool:
        if "iscrowd" not in entry:
            entry["iscrowd"] = 0
            self.filled(item, "its iscrowd is missing: taken as 0, a single object")
        if entry["iscrowd"] not in (0, 1):
            self.fault(item, "its iscrowd is {}: it must be 0, or 1 for a crowd", _short(entry["iscrowd"]))
        return bool(entry["iscrowd"])

    def _area(self, item: str, entry: Json, box: list[float]) -> None:
        if entry.get("area") is None:
            entry["area"] = box[2] * box[3]
            self.filled(item, "its area is missing: taken from its bbox, width x height")
        elif not _is_number(entry["area"]) or entry["area"] < 0:
            self.fault(item, "its area is {}: it must be its number of pixels", _short(entry["area"]))

    def _outside(self, item: str, box: list[float], image: Json) -> bool:
        left, top, width, height = box
        if min(left, top) < -SLACK or left + width > image["width"] + SLACK or top + height > image["height"] + SLACK:
            words = "its bbox {} reaches beyond its image of {} x {} pixels; it must be left, top, width and height within it"
            self.fault(item, words, _short(box), image["width"], image["height"])
            return True
        return False

    def _mask(self, item: str, entry: Json, image: Json) -> None:
        if (found := entry.get("segmentation")) and not _is_mask(found, image):
            words = (
                "its segmentation is {}: it must be polygons of at least three points in finite numbers, or run lengths of {} x {}"
            )
            self.fault(item, words, _short(found), image["height"], image["width"])

    def thin(self) -> None:
        """Refuse what an evaluation counts as missed, whatever is detected."""
        for item, box in self.boxes.items():
            words = "its bbox {} has no width or no height in its image: no detection can meet it, so leave it out"
            self.fault(item, words, _short(box))

    def same_categories(self, other: _Check) -> None:
        """Compare the categories of the training file with those of the validation file, and give these the same order."""
        for one, another in ((self, other), (other, self)):
            for key, name in one.names.items():
                if name not in another.names.values():
                    words = "{} has no category of this name: both files must list the same names"
                    one.fault(f"category {key} ({name!r})", words, another.file.name)
        ours, theirs = list(self.names.values()), list(other.names.values())
        if sorted(ours) == sorted(theirs) and ours != theirs:
            other.filled("", "its categories stand in another order than in {}: taken by their names", self.file.name)
            other.content["categories"].sort(key=lambda entry: ours.index(entry["name"]))

    def to_learn(self, least_side: int) -> None:
        small = {key for key, image in self.images.items() if min(image["width"], image["height"]) < least_side}
        without = [key for key in self.images if not self.objects.get(key)]
        self.usable = [key for key in self.images if self.objects.get(key) and key not in small]
        for key in small:
            self.note(f"image {key}", "a side of it has fewer than {} pixels: training leaves it out", least_side)
        for key in without:
            self.note(f"image {key}", "it has no object: training leaves it out")
        if not self.usable:
            words = "no image is left to learn from: of {} images, {} have no object and {} have a side of fewer than {} pixels"
            self.fault("", words, len(self.images), len(without), len(small), least_side)

    def to_find(self) -> None:
        self.usable = [key for key in self.images if self.objects.get(key)]
        for key in self.usable:
            if self.objects[key] > MOST:
                words = (
                    "it has more than {} objects, and COCO's metric looks at {} detections: a perfect detector scores less than 100"
                )
                self.note(f"image {key}", words, MOST, MOST)
        if not self.usable:
            self.fault("", "no image has an object that is not a crowd: there is nothing to evaluate on")
