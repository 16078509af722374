"""Data on disk: exact annotations, one fingerprint on every machine, and nothing half-made ever taken for whole."""

from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools import mask as codec
from pycocotools.coco import COCO

from dfmsd.errors import StudyError
from dfmsd.study import data, files, paths, scales, shapes
from dfmsd.study.spec import CocoData, ShapesData

TINY = ShapesData(version=1, seed=7, train=6, val=4, tune=0, size=128)
COCO128 = Path(os.environ.get("DFMSD_COCO128", paths.ROOT.parent / "shared/data/coco128"))
needs_coco128 = pytest.mark.skipif(not COCO128.is_dir(), reason="no coco128 (DFMSD_COCO128 names it)")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place for data, and no COCO."""
    monkeypatch.setenv("DFMSD_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("DFMSD_COCO", raising=False)
    return tmp_path / "data"


def ensure(spec: ShapesData | CocoData = TINY, jobs: int = 1) -> data.DataRoot:
    return data.ensure(spec, jobs=jobs)


def content(split: data.Split | None) -> dict[str, Any]:
    assert split is not None
    loaded: dict[str, Any] = json.loads(split.annotations.read_text())
    return loaded


def pictures(root: data.DataRoot) -> dict[str, bytes]:
    return {
        str(file.relative_to(split.images.parent)): file.read_bytes()
        for split in (root.train, root.val)
        for file in split.images.iterdir()
    }


def folder(home: Path) -> Path:
    (found,) = (entry for entry in home.iterdir() if entry.is_dir())
    return found


# The generated data set


def test_the_pictures_are_the_same_on_every_machine() -> None:
    # Fingerprints know annotations alone. If this fails, records belong to other pictures: raise shapes.VERSION and pin anew.
    spec = scales.get("smoke").data
    assert isinstance(spec, ShapesData)
    painted, _ = shapes.generate(spec, "train", 0)
    assert hashlib.sha256(painted.tobytes()).hexdigest()[:12] == "ac4f99d9019c"
    stored = (ensure(spec).train.images / "000000.jpg").read_bytes()
    assert (len(stored), hashlib.sha256(stored).hexdigest()[:12]) == (9400, "63baa883f7a2")


FINGERPRINT = "a66f67359110"


def test_annotations_and_pictures_are_the_same_whatever_the_machine_and_the_number_of_processes(home: Path) -> None:
    alone = ensure(jobs=1)
    alone_pictures, alone_annotations = pictures(alone), content(alone.train)
    shutil.rmtree(home)
    together = ensure(TINY, jobs=3)
    # If this fails, scenes have changed: raise shapes.VERSION and pin anew; older records belong to other data.
    assert alone.fingerprint == together.fingerprint == FINGERPRINT
    assert alone_annotations == content(together.train)
    assert alone_pictures == pictures(together)


def test_more_than_one_chunk_keeps_the_order_of_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "CHUNK", 2)
    root = ensure(jobs=2)
    assert [image["file_name"] for image in content(root.train)["images"]] == [f"{n:06d}.jpg" for n in range(6)]
    assert root.fingerprint == FINGERPRINT


def test_boxes_and_areas_are_those_of_the_decoded_masks() -> None:
    coco = COCO(str(ensure().train.annotations))
    annotations = coco.loadAnns(coco.getAnnIds())
    assert len({annotation["id"] for annotation in annotations}) == len(annotations) > 10
    for annotation in annotations:
        mask = coco.annToMask(annotation)
        assert codec.toBbox(annotation["segmentation"]).tolist() == annotation["bbox"]
        rows, columns = np.nonzero(mask)
        x, y, width, height = annotation["bbox"]
        assert (x, y, x + width, y + height) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert annotation["area"] == mask.sum()
        assert annotation["iscrowd"] == 0 and annotation["id"] > 0


def test_annotations_say_what_the_scene_says() -> None:
    loaded = content(ensure().val)
    for image in loaded["images"]:
        scene = shapes.scene(TINY, "val", image["id"])
        mine = [annotation for annotation in loaded["annotations"] if annotation["image_id"] == image["id"]]
        assert image["kind"] == scene.kind
        assert [loaded["categories"][annotation["category_id"] - 1]["name"] for annotation in mine] == [
            shapes.CLASSES[item.label] for item in scene.objects
        ]


def test_a_second_call_makes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    first = ensure()
    monkeypatch.setattr(data, "_generate", lambda *_: pytest.fail("generated again"))
    assert ensure() == first


def test_what_a_killed_generation_left_is_made_anew(home: Path) -> None:
    whole = ensure()
    expected = pictures(whole)
    partial = folder(home).rename(f"{folder(home)}.partial")
    (partial / "images/train/000001.jpg").write_bytes(b"half")
    (partial / "images/train/999999.jpg").write_bytes(b"stray")
    assert pictures(ensure()) == expected
    assert not partial.exists()


def test_a_generation_killed_at_work_frees_its_lock_and_is_done_again(home: Path) -> None:
    spec = TINY.model_copy(update={"train": 2000, "size": 64})
    code = f"from dfmsd.study import data, spec; data.ensure(spec.ShapesData(**{spec.model_dump()!r}), jobs=2)"
    child = subprocess.Popen([sys.executable, "-c", code], cwd=paths.ROOT)
    while not list(home.glob("*.partial/images/train/*.jpg")):
        assert child.poll() is None
        time.sleep(0.02)
    child.kill()
    child.wait()
    assert not [entry for entry in home.iterdir() if entry.suffix == "" and entry.is_dir()]
    (lock,) = home.glob("*.lock")
    with files.locked(lock, "the data is being generated"):
        pass


def test_two_processes_at_once_make_one_data_set() -> None:
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=ensure) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0]
    assert ensure().fingerprint == FINGERPRINT


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda home: changed(home / "annotations/train.json"), "do not match their fingerprint"),
        (lambda home: (home / "images/val/000003.jpg").unlink(), "has 3 images in val instead of 4"),
        (lambda home: (home / "meta.json").unlink(), "damaged .*meta.json"),
        (lambda home: (home / "annotations/val.json").unlink(), r"damaged .*annotations/val\.json"),
    ],
)
def test_damaged_data_are_noticed(home: Path, damage: Callable[[Path], None], message: str) -> None:
    ensure()
    damage(folder(home))
    with pytest.raises(StudyError, match=f"{message}.*remove the folder .*shapes-"):
        ensure()


def changed(file: Path) -> None:
    file.write_text(file.read_text().replace('"iscrowd":0', '"iscrowd":1', 1))


def test_data_of_a_changed_generator_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    ensure()
    monkeypatch.setattr(shapes, "SIDES", shapes.SIDES | {"small": (10, 12), "medium": (50, 52), "large": (70, 72)})
    with pytest.raises(StudyError, match=r"generated by other code than this, .*remove the folder"):
        ensure()


def test_a_full_disk_is_said_in_one_line_and_leaves_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_atomic", full)
        with pytest.raises(StudyError, match=r"the disk is full .*: make room, or let .*DFMSD_DATA name"):
            ensure()
    assert not [entry for entry in home.iterdir() if entry.is_dir()]
    ensure()


# COCO


@pytest.fixture
def coco(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root in COCO's layout: 3 images and 2 classes in each split."""
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    for split, first in (("train", 10), ("val", 20)):
        (root / f"{split}2017").mkdir()
        images = [{"id": n, "file_name": f"{n:012d}.jpg", "width": 8, "height": 8} for n in (first + 2, first, first + 1)]
        for image in images:
            (root / f"{split}2017" / str(image["file_name"])).touch()
        annotations = [
            {
                "id": n,
                "image_id": images[n % 3]["id"],
                "category_id": 1 + n % 2,
                "bbox": [0.0, 0.0, 4.0, 4.0],
                "area": 16.0,
                "iscrowd": 0,
            }
            for n in range(1, 7)
        ]
        categories = [{"id": 1, "name": "person"}, {"id": 2, "name": "bicycle"}]
        text = json.dumps({"images": images, "annotations": annotations, "categories": categories})
        (root / f"annotations/instances_{split}2017.json").write_text(text)
    monkeypatch.setenv("DFMSD_COCO", str(root))
    return root


def test_coco_whole_is_used_where_it_lies(coco: Path) -> None:
    root = ensure(CocoData(digest=data.coco_digest()))
    assert root.train == data.Split(coco / "annotations/instances_train2017.json", coco / "train2017")
    assert root.tune is None
    assert root.classes == ("person", "bicycle")


def test_a_subset_is_the_front_of_the_file_in_its_order(coco: Path) -> None:
    spec = CocoData(digest=data.coco_digest(), train=2)
    root = ensure(spec)
    loaded = content(root.train)
    assert [image["id"] for image in loaded["images"]] == [12, 10]
    assert sorted(annotation["id"] for annotation in loaded["annotations"]) == [1, 3, 4, 6]
    assert [category["name"] for category in loaded["categories"]] == ["person", "bicycle"]
    assert root.train.images == coco / "train2017"
    assert len(content(root.val)["images"]) == 3
    assert ensure(spec) == root
    assert root.fingerprint != ensure(CocoData(digest=spec.digest)).fingerprint


def test_the_digest_follows_the_content_and_is_computed_once(coco: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = data.coco_digest()
    with monkeypatch.context() as patch:
        patch.setattr("hashlib.file_digest", lambda *_: pytest.fail("hashed again"))
        assert data.coco_digest() == before
    file = coco / "annotations/instances_val2017.json"
    os.utime(file, ns=(1, 1))
    assert data.coco_digest() == before
    file.write_text(file.read_text().replace("bicycle", "tricycle"))
    assert data.coco_digest() != before


@pytest.mark.parametrize("damage", ["{half", "[]"])
def test_a_damaged_cache_of_digests_is_made_anew(coco: Path, home: Path, damage: str) -> None:
    before = data.coco_digest()
    (home / "coco-digests.json").write_text(damage)
    assert data.coco_digest() == before


def test_planning_without_coco_does_not_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert data.coco_digest() == "absent"
    monkeypatch.setenv("DFMSD_COCO", str(tmp_path / "nowhere"))
    assert data.coco_digest() == "absent"


def test_a_root_without_annotations_is_named(coco: Path) -> None:
    (coco / "annotations/instances_val2017.json").unlink()
    with pytest.raises(StudyError, match=r"is not COCO's root: it has no annotations/instances_val2017\.json"):
        ensure(CocoData(digest="absent"))


def test_missing_images_are_counted_and_the_first_is_named(coco: Path) -> None:
    (coco / "train2017/000000000010.jpg").unlink()
    (coco / "train2017/000000000011.jpg").unlink()
    digest = data.coco_digest()
    with pytest.raises(StudyError, match=r"2 of 3 images of train are missing in .*; the first is 000000000010\.jpg"):
        ensure(CocoData(digest=digest))
    assert ensure(CocoData(digest=digest, train=1)).train.annotations.is_file()
    shutil.rmtree(coco / "val2017")
    with pytest.raises(StudyError, match="3 of 3 images of val are missing in"):
        ensure(CocoData(digest=digest, train=1))


def test_a_subset_larger_than_the_whole_is_refused(coco: Path) -> None:
    with pytest.raises(StudyError, match=r"4 images of train were asked for, but .* lists 3"):
        ensure(CocoData(digest=data.coco_digest(), train=4))


def test_annotations_that_are_not_json_are_named(coco: Path) -> None:
    (coco / "annotations/instances_train2017.json").write_text("{half")
    with pytest.raises(StudyError, match=r"cannot be read as COCO's annotations: .*instances_train2017\.json"):
        ensure(CocoData(digest=data.coco_digest()))


def test_data_other_than_planned_for_is_refused(coco: Path) -> None:
    with pytest.raises(StudyError, match="planned for 0123456789ab"):
        ensure(CocoData(digest="0123456789ab"))


@needs_coco128
def test_real_images_go_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DFMSD_COCO", str(COCO128))
    root = ensure(CocoData(digest=data.coco_digest(), train=16, val=8))
    assert len(root.classes) == 80 and root.classes[0] == "person" and root.classes[79] == "toothbrush"
    loaded = COCO(str(root.val.annotations))
    assert len(loaded.imgs) == 8
    for image in loaded.loadImgs(loaded.getImgIds()):
        assert cv2.imread(str(root.val.images / image["file_name"])).shape[:2] == (image["height"], image["width"])
