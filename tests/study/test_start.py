"""Starts: crops with known content, a key like a run's, a kill in the middle, and students that begin with them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from pydantic import ValidationError

from dfmsd.errors import StudyError
from dfmsd.study import build, data, exports, paths, plan, records, scales, start, zoo
from dfmsd.study import run as train
from dfmsd.study.data import Split
from dfmsd.study.spec import RunSpec, StartSpec
from tests.fixtures_study import baseline, distilled, folders, killed_at, smoke  # noqa: F401

RUN = baseline()
START = RUN.start
assert START is not None


def fields(spec: RunSpec | StartSpec) -> dict[str, object]:
    return {name: getattr(spec, name) for name in type(spec).model_fields}


@pytest.fixture
def split(tmp_path: Path) -> Split:
    """Two black images of 100 x 80: one with a white box of 20 x 10 at (30, 40), one without objects."""
    (tmp_path / "images").mkdir()
    image = np.zeros((80, 100, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "images/empty.png"), image)
    image[40:50, 30:50] = 255
    cv2.imwrite(str(tmp_path / "images/one.png"), image)
    content = {
        "images": [{"id": 1, "file_name": "one.png"}, {"id": 2, "file_name": "empty.png"}],
        "annotations": [{"image_id": 1, "category_id": 7, "bbox": [30.0, 40.0, 20.0, 10.0]}],
        "categories": [{"id": 3, "name": "other"}, {"id": 7, "name": "box"}],
    }
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    return Split(tmp_path / "annotations.json", tmp_path / "images")


@pytest.mark.parametrize("seed", range(5))
def test_a_crop_holds_its_object_and_background_holds_none(split: Split, seed: int) -> None:
    pixels, classes = start.crops(split, 64, seed)
    assert classes.tolist() == [1, 2, 2]
    assert pixels.shape == (3, 64, 64, 3)
    # The box has half as many pixels as a square of its side, whose share of the crop is 1 / reach squared.
    low, high = (0.5 / reach**2 for reach in reversed(start.REACH))
    assert 0.9 * low < pixels[0].mean() / 255 < 1.1 * high
    assert pixels[1:].max() == 0
    edge = np.concatenate([pixels[0, [0, -1]].ravel(), pixels[0, :, [0, -1]].ravel()])
    assert edge.max() == 0, "the object is cut off"


def test_crops_are_a_function_of_the_seed(split: Split) -> None:
    first, again, other = (start.crops(split, 32, seed)[0] for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_what_has_no_start_has_the_key_it_had_before() -> None:
    alone = RunSpec.model_validate(fields(RUN) | {"start": None, "images": None})
    assert not {"start", "images"} & alone.flat().keys()
    assert RUN.flat()["start"] == START.key
    assert len({RUN.key, alone.key}) == 2


def test_another_start_is_another_student_in_every_stage() -> None:
    other = StartSpec.model_validate(fields(START) | {"seed": 1})
    assert other.key != START.key
    scale = smoke()
    assert scale.start is not None
    changed = scale.model_copy(update={"start": scale.start.model_copy(update={"seed": 1})})
    for before, after in zip(distilled(scale), distilled(changed), strict=True):
        assert before.key != after.key


def test_only_the_first_stage_begins_with_the_start() -> None:
    first, second = distilled()
    assert first.start == START
    assert second.start is None
    with pytest.raises(ValidationError, match="begins with the parent's weights"):
        RunSpec.model_validate(fields(second) | {"start": START})


def test_starts_come_first_and_equal_backbones_share_one() -> None:
    ordered = plan.order([distilled()])
    place = {run.key: index for index, run in enumerate(ordered)}
    assert all(place[need.key] < place[run.key] for run in ordered for need in run.needs())
    assert sum(isinstance(run, StartSpec) for run in ordered) == 2  # ResNet's, which FCOS and GFL share, and ResNeXt's


@pytest.mark.parametrize("scale", ["smoke", "mini"])
@pytest.mark.parametrize("network", zoo.names())
def test_every_network_has_a_start(network: str, scale: str) -> None:
    found = scales.get(scale).start_of(network)
    assert found is not None
    model = build.model_config(zoo.network(network, scale), 10)
    assert dict(model.backbone) == found.backbone
    build._check_pixels(zoo.network(network, scale), model.data_preprocessor)


def test_a_start_needs_a_whole_backbone() -> None:
    scale = scales.get("gpu").model_copy(update={"start": scales.get("mini").start})
    with pytest.raises(StudyError, match=r"fcos_r50.*gpu has starts: replace model\.backbone as a whole"):
        scale.start_of("fcos_r50")


@pytest.mark.slow
@pytest.mark.usefixtures("folders")
def test_a_killed_start_is_made_anew_and_ends_in_the_same_weights() -> None:
    pid = os.fork()
    if pid == 0:
        with killed_at("accuracy", start):
            train.run(START)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == 9
    assert not exports.are_here(START.key)
    assert 0 < plan.progress(START.key) <= 1
    assert plan.plan([(RUN,)])[0].state == "partial"
    record = train.run(START)
    whole, _, _ = start.pretrain(START, data.ensure(START.data), paths.runs())
    kept = torch.load(paths.runs() / START.key / "student.pth")["state_dict"]
    assert kept.keys() == whole.keys()
    assert all(torch.equal(kept[name], whole[name]) for name in whole)
    assert record == records.read(paths.runs() / START.key / "record.json")
    assert 0 <= record.metrics["accuracy"] <= 100
    assert plan.plan([(RUN,)])[0].state == "done"


@pytest.mark.slow
@pytest.mark.usefixtures("folders")
@pytest.mark.parametrize("network", ["fcos_r50", "mask_rcnn_swint"])
def test_a_run_begins_with_the_weights_of_its_start(network: str, tmp_path: Path) -> None:
    spec = baseline(student=network)
    assert spec.start is not None
    with pytest.raises(StudyError, match="has not been trained here"):
        train.config(spec, tmp_path)
    train.run(spec.start)
    runner = Runner.from_cfg(train.config(spec, tmp_path))
    runner._init_model_weights()
    kept = torch.load(paths.runs() / spec.start.key / "student.pth")["state_dict"]
    state = runner.model.state_dict()
    assert {name for name in state if name.startswith("backbone.")} == kept.keys()
    assert all(torch.equal(state[name], kept[name]) for name in kept)


@pytest.mark.slow
@pytest.mark.usefixtures("folders")
def test_a_student_sees_the_first_labelled_images(tmp_path: Path) -> None:
    train.run(START)
    spec = RunSpec.model_validate(fields(RUN) | {"images": 6})
    dataset = Runner.from_cfg(train.config(spec, tmp_path)).train_dataloader.dataset
    first = json.loads(data.ensure(spec.data).train.annotations.read_text())["images"][:6]
    assert [dataset.get_data_info(index)["img_id"] for index in range(len(dataset))] == [image["id"] for image in first]
