"""Data in COCO's format: what is wrong is listed before anything trains, and what they are covers every pixel."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmdet.evaluation import CocoMetric

from dfmsd.errors import StudyError
from dfmsd.study import coco, data, fingerprints, paths, scales
from dfmsd.study.evaluate import evaluate
from dfmsd.study.rows import Row, chain
from dfmsd.study.spec import CocoData
from tests.fixtures_coco import COLOURS, FILES, change, content, own

COCO128 = Path(os.environ.get("DFMSD_COCO128", paths.ROOT.parent / "shared/data/coco128"))
needs_coco128 = pytest.mark.skipif(not COCO128.is_dir(), reason="no coco128 (DFMSD_COCO128 names it)")


def perfect(mine: Path, where: Path) -> float:
    """AP of detections that are the truth of the user's own file, by name, with labels in the order of the student's classes."""
    root = data.ensure(own(mine))
    truth = content(mine / FILES["val"])
    names = {category["id"]: category["name"] for category in truth["categories"]}
    metric = CocoMetric(ann_file=str(root.val.annotations), metric="bbox", format_only=True, outfile_prefix=str(where / "found"))
    metric.dataset_meta = {"classes": root.classes}
    for image in truth["images"]:
        mine = [item for item in truth["annotations"] if item["image_id"] == image["id"]]
        boxes = np.array([item["bbox"] for item in mine], dtype=np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = [root.classes.index(names[item["category_id"]]) for item in mine]
        found = {"bboxes": torch.from_numpy(boxes), "labels": torch.tensor(labels), "scores": torch.ones(len(mine))}
        metric.process({}, [{"pred_instances": found, "img_id": image["id"], "ori_shape": (64, 96)}])
    metric.evaluate(len(truth["images"]))
    return evaluate(root.val.annotations, where / "found.bbox.json", resamples=2)[0]["AP"]


# A user's own data


def test_data_of_any_names_and_classes_are_used_where_they_lie(mine: Path) -> None:
    spec = own(mine)
    assert (spec.source, spec.train, spec.val) == ("own", 6, None)
    root = data.ensure(spec)
    assert root.train == data.Split(mine / "labels/spring.json", mine / "photos/spring")
    assert root.val == data.Split(mine / "labels/autumn.json", mine / "photos/autumn")
    assert (root.classes, root.tune, root.masks) == (tuple(COLOURS), None, False)


@pytest.mark.parametrize(
    "by",
    [
        lambda truth: None,
        lambda truth: truth["categories"].reverse(),
        lambda truth: renumbered(truth, [7, 0, 3]),
        lambda truth: [item.update(id=number) for number, item in enumerate(truth["annotations"])],
        lambda truth: [item.pop(key) for item in truth["annotations"] for key in ("area", "iscrowd")],
        lambda truth: [item.pop(key) for item in truth["images"] for key in ("width", "height")],
    ],
    ids=["as they are", "categories turned round", "other ids", "ids from 0", "no area", "no size"],
)
def test_a_perfect_student_scores_100(mine: Path, tmp_path: Path, by: Callable[[Any], Any]) -> None:
    change(mine, "val", lambda truth: by(truth) and None)
    before = (mine / FILES["val"]).read_bytes()
    assert perfect(mine, tmp_path) == 100
    assert (mine / FILES["val"]).read_bytes() == before


def renumbered(truth: Any, ids: list[int]) -> None:
    """Other category ids, and the categories in another order."""
    for item in truth["annotations"]:
        item["category_id"] = ids[item["category_id"] - 1]
    for category in truth["categories"]:
        category["id"] = ids[category["id"] - 1]
    truth["categories"].sort(key=lambda category: category["id"])


def test_a_byte_order_mark_is_no_fault(mine: Path, tmp_path: Path) -> None:
    file = mine / FILES["val"]
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert perfect(mine, tmp_path) == 100


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must hold lines of 'parameter: value'"),
        ("train: a", "lacks 'val'"),
        ("train: {annotations: labels/spring.json, images: photos/spring}\nvla: 1", "unknown name 'vla': did you mean 'val'?"),
        ("train: {annotations: labels/spring.json, image: photos/spring}\nval: {}", "train: unknown name 'image': did you mean"),
        ("train: {annotations: labels/spring.json}\nval: {}", "train lacks 'images'"),
        ("train: {annotations: 3, images: photos/spring}\nval: {}", "train: annotations = 3: it must be a path"),
        ("train: {annotations: photos, images: photos/spring}\nval: {}", "train: annotations: .*photos is no file"),
        ("train: {annotations: labels/spring.json, images: photo}\nval: {}", "train: images: .*photo is no folder"),
        ("train: &a {annotations: labels/spring.json, images: photos/spring}\nval: *a", "train and val have the same annotations"),
        ("train: {annotations: ~nosuchuser/a.json, images: b}\nval: {}", "train: annotations: .*/~nosuchuser/a.json is no file"),
        ("a: [", "is not YAML"),
    ],
)
def test_a_yaml_that_does_not_name_data_is_refused_in_one_line(mine: Path, text: str, message: str) -> None:
    (mine / "pets.yaml").write_text(text)
    with pytest.raises(StudyError, match=message) as error:
        own(mine)
    assert str(error.value).startswith(str(mine / "pets.yaml"))
    assert "\n" not in str(error.value)


def test_a_yaml_that_is_not_there_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    for name in ("none.yaml", "pipe.yaml", "."):
        with pytest.raises(StudyError, match="is no file: name a YAML with the annotation files and image"):
            coco.own(tmp_path / name)


# What the data are


def test_a_key_covers_every_pixel_and_no_place(mine: Path, tmp_path: Path) -> None:
    def key(mine: Path) -> str:
        scale = scales.get("smoke", data=mine / "pets.yaml")
        return chain(Row(student="fcos_r50", teachers=(), recipe="baseline"), scale, 0)[0].key

    before = key(mine)
    assert key(mine) == before
    assert key(Path(shutil.copytree(mine, tmp_path / "elsewhere"))) == before
    first, second = (mine / "photos/spring" / name for name in ("cam1/0000.jpg", "cam1/0002.jpg"))
    third = mine / "photos/spring/third"
    times = first.stat()
    for one, other in ((first, third), (second, first), (third, second)):  # swapped
        one.rename(other)
    os.utime(first, ns=(times.st_atime_ns, times.st_mtime_ns))
    swapped = key(mine)
    (mine / "photos/autumn/0000.png").write_bytes((mine / "photos/autumn/0001.png").read_bytes())
    replaced = key(mine)
    (mine / "photos/spring/stray.jpg").write_bytes(b"")
    assert key(mine) == replaced
    change(mine, "val", lambda truth: truth["images"][0].update(licence=1))
    assert len({before, swapped, replaced, key(mine)}) == 4


def test_images_are_read_once(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = own(mine)
    with monkeypatch.context() as patch:
        patch.setattr(fingerprints, "_read", lambda *_: pytest.fail("read again"))
        patch.setattr("dfmsd.study.truth.check", lambda *_, **__: pytest.fail("checked again"))
        assert own(mine) == spec
        data.ensure(spec)


@pytest.mark.parametrize("damage", ["{half", "[]", "{}", '{"copies": {}}', '{"copies": {"val": "0"}}'])
def test_a_damaged_note_of_the_check_is_made_anew(mine: Path, damage: str) -> None:
    before = data.ensure(own(mine))
    (note,) = paths.data().glob("own-*/checked-*.json")
    note.write_text(damage)
    assert data.ensure(own(mine)) == before


def test_data_other_than_planned_for_are_refused(mine: Path) -> None:
    spec = own(mine)
    (mine / "photos/autumn/0000.png").write_bytes((mine / "photos/autumn/0001.png").read_bytes())
    with pytest.raises(StudyError, match=rf"pets.yaml are [0-9a-f]{{12}}, but the run was planned for {spec.digest}: plan again"):
        data.ensure(spec)


def test_a_rehearsal_takes_images_with_objects(mine: Path) -> None:
    for split in FILES:
        change(mine, split, lambda truth: truth.update(annotations=truth["annotations"][4:]))
    tried = scales.get("coco", data=mine / "pets.yaml").rehearse(1, images=1)
    assert isinstance(tried.data, CocoData)
    root = data.ensure(tried.data)
    for split, wanted in ((root.train, 2), (root.val, 2)):
        truth = content(split.annotations)
        assert [image["id"] for image in truth["images"]] == [wanted]
        assert {item["image_id"] for item in truth["annotations"]} == {wanted}
    with pytest.raises(StudyError, match=r"2 images of val were asked for, but .*autumn\.json has 1 with an object"):
        data.ensure(tried.data.model_copy(update={"val": 2}))


# COCO


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root in COCO's layout: 3 images and 2 classes in each split."""
    monkeypatch.setenv("DFMSD_DATA", str(tmp_path / "data"))
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split, first in (("train", 10), ("val", 20)):
        (root / f"{split}2017").mkdir()
        images = [{"id": n, "file_name": f"{n:012d}.jpg", "width": 40, "height": 40} for n in (first + 2, first, first + 1)]
        for image in images:
            file = root / f"{split}2017" / str(image["file_name"])
            cv2.imwrite(str(file), rng.integers(0, 255, (40, 40, 3), dtype=np.uint8))
        box = {"bbox": [0.0, 0.0, 4.0, 4.0], "area": 16.0, "iscrowd": 0}
        annotations = [box | {"id": n, "image_id": images[n % 3]["id"], "category_id": 1 + n % 2} for n in range(1, 7)]
        categories = [{"id": 1, "name": "person"}, {"id": 2, "name": "bicycle"}]
        text = json.dumps({"images": images, "annotations": annotations, "categories": categories})
        (root / f"annotations/instances_{split}2017.json").write_text(text)
    monkeypatch.setenv("DFMSD_COCO", str(root))
    return root


def test_coco_whole_is_used_where_it_lies(root: Path) -> None:
    found = data.ensure(CocoData(digest=coco.coco_digest()))
    assert found.train == data.Split(root / "annotations/instances_train2017.json", root / "train2017")
    assert found.tune is None
    assert found.classes == ("person", "bicycle")


def test_a_part_is_the_front_of_the_file_in_its_order(root: Path) -> None:
    spec = CocoData(digest=coco.coco_digest(), train=2)
    found = data.ensure(spec)
    loaded = content(found.train.annotations)
    assert [image["id"] for image in loaded["images"]] == [12, 10]
    assert sorted(annotation["id"] for annotation in loaded["annotations"]) == [1, 3, 4, 6]
    assert [category["name"] for category in loaded["categories"]] == ["person", "bicycle"]
    assert found.train.images == root / "train2017"
    assert len(content(found.val.annotations)["images"]) == 3
    assert data.ensure(spec) == found
    assert found.fingerprint != data.ensure(CocoData(digest=spec.digest)).fingerprint


def test_the_digest_of_coco_follows_its_files(root: Path) -> None:
    before = coco.coco_digest()
    file = root / "annotations/instances_val2017.json"
    os.utime(file, ns=(1, 1))
    assert coco.coco_digest() == before
    file.write_text(file.read_text().replace("bicycle", "tricycle"))
    renamed = coco.coco_digest()
    (root / "val2017/000000000020.jpg").write_bytes((root / "val2017/000000000021.jpg").read_bytes())
    assert len({before, renamed, coco.coco_digest()}) == 3


def test_a_look_that_took_long_counts_for_a_while(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    look = coco._look
    monkeypatch.setattr(coco, "_look", lambda source: looks.append(1) or look(source))
    seconds = iter([0.0, 0.5, 4.9, 5.1, 5.15, 5.3, 5.35])
    monkeypatch.setattr(coco, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    assert len({coco.coco_digest() for _ in range(4)}) == 1
    assert len(looks) == 3


def test_planning_without_coco_does_not_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DFMSD_COCO", raising=False)
    assert coco.coco_digest() == coco.ABSENT
    monkeypatch.setenv("DFMSD_COCO", str(tmp_path / "nowhere"))
    assert coco.coco_digest() == coco.ABSENT


def test_a_root_without_annotations_is_named(root: Path) -> None:
    (root / "annotations/instances_val2017.json").unlink()
    with pytest.raises(StudyError, match=r"is not COCO's root: it has no annotations/instances_val2017\.json"):
        data.ensure(CocoData(digest=coco.ABSENT))


def test_missing_images_of_coco_are_counted_and_the_first_is_named(root: Path) -> None:
    (root / "train2017/000000000010.jpg").unlink()
    shutil.rmtree(root / "val2017")
    with pytest.raises(StudyError) as error:
        data.ensure(CocoData(digest=coco.coco_digest(), train=1))
    assert str(error.value).splitlines()[1:] == [
        "  annotations/instances_train2017.json: image 10: '000000000010.jpg' is not a file in train2017",
        "  annotations/instances_val2017.json: image 22 and 2 more (20, 21): '000000000022.jpg' is not a file in val2017",
    ]


def test_a_part_larger_than_the_whole_is_refused(root: Path) -> None:
    with pytest.raises(StudyError, match=r"4 images of train were asked for, but .* has 3 with an object"):
        data.ensure(CocoData(digest=coco.coco_digest(), train=4))


@needs_coco128
def test_real_images_go_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DFMSD_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("DFMSD_COCO", str(COCO128))
    found = data.ensure(CocoData(digest=coco.coco_digest(), train=16, val=8))
    assert len(found.classes) == 80 and found.classes[0] == "person" and found.classes[79] == "toothbrush"
    loaded = content(found.val.annotations)
    assert len(loaded["images"]) == 8
    for image in loaded["images"]:
        assert cv2.imread(str(found.val.images / image["file_name"])).shape[:2] == (image["height"], image["width"])
