"""The check of a user's annotations and images: everything that is wrong is named before anything trains."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import mmcv
import numpy as np
import pytest

from dfmsd.errors import StudyError
from dfmsd.study import data
from tests.fixtures_coco import COLOURS, FILES, change, content, own


def findings(mine: Path) -> list[str]:
    """What the check complains of, a line each; nothing is written then."""
    with pytest.raises(StudyError) as error:
        own(mine)
    first, *lines = str(error.value).splitlines()
    assert first.startswith(f"{mine / 'pets.yaml'}: ")
    assert first.endswith(" wrong with the data, and nothing was trained:")
    return [line.strip() for line in lines]


def notes(mine: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What the check says of data that pass it."""
    data.ensure(own(mine), progress=True)
    return [line.removeprefix("note: ") for line in capsys.readouterr().err.splitlines()]


def test_what_was_filled_in_is_told_and_the_users_files_stay(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def by(truth: Any) -> None:
        truth["categories"].reverse()
        del truth["images"][1]["width"]
        for number, item in enumerate(truth["annotations"]):
            item["id"] = number
            del item["area"], item["iscrowd"]

    change(mine, "val", by)
    before = (mine / FILES["val"]).read_bytes()
    assert notes(mine, capsys) == [
        "labels/autumn.json: image 1: its width or height is missing: taken from the image",
        "labels/autumn.json: annotation 0 and 5 more (1, 2, 3, 4, 5): its iscrowd is missing: taken as 0, a single object",
        "labels/autumn.json: annotation 0 and 5 more (1, 2, 3, 4, 5): its area is missing: taken from its bbox, width x height",
        "labels/autumn.json: the ids of its annotations begin at 0: all were raised so that they begin at 1",
        "labels/autumn.json: its categories stand in another order than in labels/spring.json: taken by their names",
    ]
    copy = data.ensure(own(mine)).val.annotations
    filled = content(copy)
    assert (filled["images"][1]["width"], filled["images"][1]["height"]) == (96, 64)
    assert [item["id"] for item in filled["annotations"]] == [1, 2, 3, 4, 5, 6]
    assert {item["area"] - item["bbox"][2] * item["bbox"][3] for item in filled["annotations"]} == {0}
    assert [category["name"] for category in filled["categories"]] == list(COLOURS)
    assert (mine / FILES["val"]).read_bytes() == before
    copy.write_text("{}")
    assert content(data.ensure(own(mine)).val.annotations) == filled


def adding(part: str, **values: Any) -> Callable[[Any], None]:
    return lambda truth: truth[part].append(values)


BOX = "it must be four finite numbers, left, top, width and height in pixels"


def of_first(part: str, **values: Any) -> Callable[[Any], None]:
    return lambda truth: truth[part][0].update(values)


def lengths(height: int, width: int, left: int = 0) -> dict[str, Any]:
    """A whole image as a mask, less some pixels that no run has."""
    return {"size": [height, width], "counts": [0, height * width - left]}


def shares(truth: Any) -> None:
    """Boxes as other formats have them."""
    for item in truth["annotations"]:
        item["bbox"] = [value / side for value, side in zip(item["bbox"], (96, 64, 96, 64), strict=True)]


@pytest.mark.parametrize(
    ("split", "by", "line"),
    [
        ("val", adding("categories", id=9, name="horse"), "category 9 ('horse'): labels/spring.json has no"),
        ("train", adding("categories", id=9, name="cat "), "category 9 ('cat '): labels/autumn.json has no"),
        ("train", of_first("categories", name="dog"), "category 2: another category is called 'dog', too"),
        ("train", of_first("categories", name=" "), "category 1: its name is ' ': it needs one"),
        ("train", of_first("categories", id=2), "category 2: another category has the same id: each needs its own"),
        ("train", lambda truth: truth["categories"].clear(), 'it has no categories: list them as {"id": 1, "name": "cat"}'),
        ("train", of_first("annotations", id=2), "annotation 2: another annotation has the same id: each needs its own"),
        ("val", of_first("annotations", id="a"), "annotation number 1: its id is 'a': it must be a whole number"),
        ("val", of_first("annotations", id=None), "annotation number 1: its id is None: it must be a whole number"),
        ("train", of_first("annotations", image_id=77), "annotation 1: its image_id is 77, which no image has"),
        ("train", of_first("annotations", category_id=[1]), "annotation 1: its category_id is [1], which no category has"),
        ("train", of_first("annotations", bbox=[1, 2, float("nan"), 4]), f"annotation 1: its bbox is [1, 2, nan, 4]: {BOX}"),
        ("train", of_first("annotations", bbox=[1, 2, 10**400, 4]), "annotation 1: its bbox is [1, 2, 1000"),
        ("val", of_first("annotations", bbox=["1", 2, 3, 4]), f"annotation 1: its bbox is ['1', 2, 3, 4]: {BOX}"),
        ("val", of_first("annotations", bbox=None), f"annotation 1: its bbox is None: {BOX}"),
        ("train", of_first("annotations", bbox=[50, 40, -20, 10]), "annotation 1: its bbox [50, 40, -20, 10] is inverted"),
        ("train", of_first("annotations", bbox=[90, 10, 20, 20]), "annotation 1: its bbox [90, 10, 20, 20] reaches beyond its"),
        ("val", of_first("annotations", bbox=[-5, 10, 20, 20]), "annotation 1: its bbox [-5, 10, 20, 20] reaches beyond its image"),
        ("train", of_first("annotations", area=float("inf")), "annotation 1: its area is inf: it must be its number of pixels"),
        ("train", of_first("annotations", area=-4), "annotation 1: its area is -4: it must be its number of pixels"),
        ("train", of_first("annotations", iscrowd=2), "annotation 1: its iscrowd is 2: it must be 0, or 1 for a crowd"),
        ("train", of_first("annotations", segmentation=[[1, float("nan"), 3, 4, 5, 6]]), "annotation 1: its segmentation is ["),
        (
            "train",
            of_first("annotations", segmentation=[1, 2, 3, 4, 5, 6]),
            "it must be polygons of at least three points in finite",
        ),
        ("train", of_first("annotations", segmentation=[[1, 2, 3, 4]]), "its segmentation is [[1, 2, 3, 4]]: it must be polygons"),
        ("train", of_first("annotations", segmentation=[[1, 2, 3, 4, 5, 6, 7]]), "it must be polygons of at least three points"),
        ("train", of_first("annotations", segmentation="mask"), "it must be polygons of at least three points"),
        ("train", of_first("annotations", segmentation=lengths(96, 64)), "or run lengths of 64 x 96"),
        ("train", of_first("annotations", segmentation=lengths(64, 96, 7)), "or run lengths of 64 x 96"),
        ("val", of_first("annotations", bbox=[16, 8, 0, 30]), "its bbox [16, 8, 0, 30] has no width or no height in its image"),
        ("val", of_first("annotations", bbox=[96, 8, 1, 30]), "no detection can meet it, so leave it out"),
        ("val", shares, "all of its boxes lie within one pixel: a bbox is in pixels, not in shares of its image"),
        ("train", of_first("images", file_name="./cam2/0001.jpg"), "image 1: 'cam2/0001.jpg' is also the file of image 0"),
        ("train", of_first("images", file_name="cam1/0000.JPG"), "there is 'cam1/0000.jpg': if it is that, write so"),
        ("train", of_first("images", id=1), "image 1: another image has the same id: each needs its own"),
        ("train", of_first("images", file_name=3), "image 0: its file_name is 3: it must be a path below photos/spring"),
        ("train", of_first("images", file_name="cam2/0001.jpg"), "image 1: 'cam2/0001.jpg' is also the file of image 0"),
        ("train", of_first("images", file_name="0000.jpg"), "'0000.jpg' is not a file in photos/spring; there is 'cam1/0000.jpg'"),
        ("train", of_first("images", file_name="cam1\\0000.jpg"), "there is 'cam1/0000.jpg': if it is that, write so"),
        ("train", of_first("images", file_name="a\0b"), "image 0: 'a\\x00b' is not a file in photos/spring"),
        ("train", of_first("images", width=64, height=96), "is 96 x 64 pixels as training reads it, not 64 x 96"),
        ("val", of_first("images", width=95.5), "image 0: '0000.png' is 96 x 64 pixels as training reads it, not 95.5 x 64"),
        ("train", lambda truth: truth["annotations"].clear(), "no image is left to learn from: of 6 images, 6 have no object"),
        ("val", lambda truth: truth["annotations"].clear(), "no image has an object that is not a crowd"),
        ("train", lambda truth: [item.update(iscrowd=1) for item in truth["annotations"]] and None, "no image is left"),
        ("val", lambda truth: truth["images"].clear(), "it lists no images"),
        ("val", lambda truth: truth.pop("annotations") and None, "it has no list of annotations"),
        ("val", lambda truth: truth["images"].append(5), "number 4 of its images is no object of names and values"),
        ("val", lambda truth: [truth], "it holds no object: COCO's format is"),
    ],
)
def test_what_is_wrong_is_named_with_its_file_its_id_and_what_is_right(
    mine: Path, split: str, by: Callable[[Any], Any], line: str
) -> None:
    change(mine, split, by)
    first = findings(mine)[0]
    assert first.startswith(f"{FILES[split]}: ")
    assert line in first


@pytest.mark.parametrize("damage", [b"{half", b"", b"\xff\xfe{", b"[" * 100_000, b'{"images": [{"id": 1, "id": 2}]}'])
def test_annotations_that_are_not_json_are_named(mine: Path, damage: bytes) -> None:
    (mine / FILES["train"]).write_bytes(damage)
    (line,) = findings(mine)
    assert line.startswith("labels/spring.json: it cannot be read as JSON (")


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda file: file.write_bytes(b""), "is empty"),
        (truncated, "is no image that can be read, or a part of one"),
        (lambda file: file.write_text("<html>not found</html>"), "is no image that can be read, or a part of one"),
        (lambda file: file.unlink(), "is not a file in photos/spring"),
        (lambda file: (file.unlink(), file.mkdir()), "is not a file in photos/spring"),
        (lambda file: (file.unlink(), os.mkfifo(file)), "is not a file in photos/spring"),
        (lambda file: (file.unlink(), file.symlink_to(file.name)), "is not a file in photos/spring"),
        (lambda file: cv2.imwrite(str(file), np.zeros((64, 48, 3), np.uint8)), "is 48 x 64 pixels as training reads it, not"),
    ],
    ids=["empty", "truncated", "text", "missing", "folder", "pipe", "link", "smaller"],
)
def test_images_that_cannot_be_learned_from_are_named(mine: Path, damage: Callable[[Path], Any], words: str) -> None:
    for name in ("cam1/0002.jpg", "cam1/0004.jpg"):
        damage(mine / "photos/spring" / name)
    (line,) = findings(mine)
    assert line.startswith("labels/spring.json: image 2 and 1 more (4): 'cam1/0002.jpg' ")
    assert words in line


def with_exif(file: Path, orientation: int) -> None:
    """Put an EXIF orientation into a JPEG."""
    tag = b"Exif\0\0II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    pixels = file.read_bytes()
    file.write_bytes(pixels[:2] + b"\xff\xe1" + struct.pack(">H", len(tag) + 2) + tag + pixels[2:])


def test_an_image_that_exif_turns_has_the_size_that_training_reads(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, orientation in (("cam1/0002.jpg", 6), ("cam2/0003.jpg", 3), ("cam1/0004.jpg", 1)):
        with_exif(mine / "photos/spring" / name, orientation)
    assert mmcv.imread(str(mine / "photos/spring/cam1/0002.jpg")).shape == (96, 64, 3)
    (line,) = findings(mine)
    assert (
        "image 2: 'cam1/0002.jpg' is 64 x 96 pixels as training reads it, turned as its EXIF orientation says, not 96 x 64" in line
    )

    def by(truth: Any) -> None:
        truth["images"][2].update(width=64, height=96)
        for item in truth["annotations"]:
            item["bbox"] = [1, 2, 30, 40]

    change(mine, "train", by)
    # One that is turned by half keeps its size.
    words = "training reads it, turned as its EXIF orientation says: boxes must be of the turned image"
    assert notes(mine, capsys) == [f"labels/spring.json: image 2 and 1 more (3): {words}"]


def test_everything_is_found_at_once(mine: Path) -> None:
    """In both files, and of each kind all that are alike in a line."""

    def by(truth: Any) -> None:
        for item in truth["annotations"][2:]:
            item["bbox"][2] = float("nan")
        truth["annotations"][0]["image_id"] = 99

    change(mine, "train", by)
    change(mine, "val", lambda truth: truth["categories"][1].update(name="Dog"))
    (mine / "photos/spring/cam2/0005.jpg").write_bytes(b"")
    starts = [
        "labels/spring.json: image 5: 'cam2/0005.jpg' is empty",
        "labels/spring.json: annotation 1: its image_id is 99, which no image has",
        "labels/spring.json: annotation 3 and 9 more (4, 5, 6, 7, 8, 9, 10, ...): its bbox is [",
        "labels/spring.json: category 2 ('dog'): labels/autumn.json has no category of this name",
        "labels/autumn.json: category 2 ('Dog'): labels/spring.json has no category of this name",
    ]
    for found, start in zip(findings(mine), starts, strict=True):
        assert found.startswith(start), found


def test_masks_are_polygons_or_run_lengths(mine: Path) -> None:
    def by(truth: Any) -> None:
        some = [[[1, 1, 20, 1, 20, 20]], lengths(64, 96), {"size": [64, 96], "counts": "PPYo0"}]
        for place, item in enumerate(truth["annotations"]):
            item["segmentation"] = some[place % 3]

    change(mine, "train", by)
    assert data.ensure(own(mine)).masks


def test_more_objects_than_the_metric_looks_at_are_told(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def by(truth: Any) -> None:
        truth["annotations"] += [truth["annotations"][0] | {"id": 100 + place} for place in range(100)]

    change(mine, "val", by)
    words = (
        "image 0: it has more than 100 objects, and COCO's metric looks at 100 detections: a perfect detector scores less than 100"
    )
    assert notes(mine, capsys) == [f"labels/autumn.json: {words}"]


def test_what_training_leaves_out_is_told(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(str(mine / "photos/spring/cam1/0004.jpg"), np.zeros((24, 96, 3), np.uint8))
    shutil.copy(mine / "photos/spring/cam1/0000.jpg", mine / "photos/autumn/0001.png")

    def by(truth: Any) -> None:
        truth["images"][4]["height"] = 24
        truth["annotations"] = [item for item in truth["annotations"] if item["image_id"] != 1]
        for item in truth["annotations"]:
            item["bbox"] = [0.0, 0.0, 0.5 if item["id"] == 1 else 20.0, 20.0]

    change(mine, "train", by)
    assert notes(mine, capsys) == [
        "labels/spring.json: annotation 1: it is smaller than a pixel or says ignore: training leaves it out, evaluation does not",
        "labels/spring.json: image 4: a side of it has fewer than 32 pixels: training leaves it out",
        "labels/spring.json: image 1: it has no object: training leaves it out",
        "labels/autumn.json: image '0001.png': the same image is in labels/spring.json: what was learned by heart counts as found",
    ]
    assert own(mine).train == 4
