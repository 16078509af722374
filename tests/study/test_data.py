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
    (found,) = (entry for entry in home.glob("shapes-*") if entry.is_dir())
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
        (lambda home: (home / "images/val/000003.jpg").unlink(), r"images/val/000003\.jpg is missing"),
        (lambda home: (home / "images/val/000003.jpg").write_bytes(b""), r"images/val/000003\.jpg has 0 bytes instead of [0-9]+"),
        (lambda home: truncated(home / "images/train/000001.jpg"), r"images/train/000001\.jpg has 100 bytes instead of [0-9]+"),
        (lambda home: swapped(home / "images/train"), r"images/train/000001\.jpg has .* bytes .*, and 1 more are damaged"),
        (lambda home: another(home / "images/val/000000.jpg"), r"images/val/000000\.jpg is another image than was made"),
        (lambda home: (home / "meta.json").unlink(), "damaged .*meta.json"),
        (lambda home: (home / "annotations/val.json").unlink(), r"damaged .*annotations/val\.json"),
        (lambda home: piped(home / "meta.json"), r"meta\.json is a named pipe, where a file should be"),
        (lambda home: piped(home / "annotations/val.json"), r"val\.json is a named pipe, where a file should be"),
    ],
)
def test_damaged_data_are_noticed(home: Path, damage: Callable[[Path], None], message: str) -> None:
    ensure()
    damage(folder(home))
    with pytest.raises(StudyError, match=f"{message}.*remove (the folder .*shapes-|it)"):
        ensure()


def piped(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:100])


def swapped(images: Path) -> None:
    first, second, third = images / "000001.jpg", images / "000002.jpg", images / "third"
    for one, other in ((first, third), (second, first), (third, second)):
        one.rename(other)


def another(file: Path) -> None:
    """As long as it was, at the same time."""
    state, content = file.stat(), file.read_bytes()
    file.write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))


def changed(file: Path) -> None:
    file.write_text(file.read_text().replace('"iscrowd":0', '"iscrowd":1', 1))


def test_data_made_before_images_had_hashes_are_made_again_in_their_place(home: Path) -> None:
    expected = pictures(ensure())
    (folder(home) / data.HASHES).unlink()
    (folder(home) / "images/train/000001.jpg").write_bytes(b"")
    with (folder(home) / "images/val/000001.jpg").open("rb") as read_by_a_run:
        assert pictures(ensure()) == expected
        assert read_by_a_run.read() == expected["val/000001.jpg"]
    assert [entry.name for entry in home.glob("*.partial")] == []


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
    assert not [entry for entry in home.glob("shapes-*") if entry.is_dir()]
    ensure()
