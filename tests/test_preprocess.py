"""Each network sees the images its own way, enhanced or not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.logging import MessageHub
from torch import nn

from dfmsd.errors import StudyError
from dfmsd.preprocess import DistillPreprocessor
from dfmsd.study import build, zoo
from tests.fixtures_detectors import batch, network

ENHANCE = {"theta": 0.5, "sigma": 0.08, "noise_probability": 1.0, "crop": (0.8, 1.0)}


def views(student: str = "fcos_r50", teacher: str = "gfl_x101", **options: Any) -> DistillPreprocessor:
    return DistillPreprocessor(network(student)["data_preprocessor"], [network(teacher)["data_preprocessor"]], **options)


def test_a_caffe_student_and_an_rgb_teacher_each_see_their_own_normalisation() -> None:
    raw = batch()
    caffe, rgb = (build.network_config(zoo.network(name, "coco")).model.data_preprocessor for name in ("fcos_r50", "gfl_x101"))
    seen = DistillPreprocessor(caffe, [rgb])(raw, True)
    for config, key in ((caffe, "inputs"), (rgb, "inputs_t")):
        own = MODELS.build(config)({"inputs": batch()["inputs"], "data_samples": None}, False)["inputs"]
        torch.testing.assert_close(seen[key][0] if key == "inputs_t" else seen[key], own)
    blue, mean_blue = raw["inputs"][0][0].float(), 103.53
    torch.testing.assert_close(seen["inputs"][0, 0], blue - 102.9801)  # BGR stays BGR
    torch.testing.assert_close(seen["inputs_t"][0][0, 2], (blue - mean_blue) / 57.375)  # blue is the last of RGB


def test_raw_images_are_left_as_they_are() -> None:
    raw = batch()
    views(enhance=ENHANCE)(raw, True)
    assert all(torch.equal(one, two) for one, two in zip(raw["inputs"], batch()["inputs"], strict=True))


def test_prediction_needs_the_students_view_alone() -> None:
    assert set(views(enhance=ENHANCE)(batch(), False)) == {"inputs", "data_samples"}


def ratios(folder: Path, *values: float) -> dict[str, Any]:
    file = folder / "ratios.json"
    file.write_text(json.dumps({str(index): value for index, value in enumerate(values)}))
    return ENHANCE | {"ratios": str(file)}


def test_the_file_of_ratios_decides_for_each_image(tmp_path: Path) -> None:
    """Image 0 is cropped to at least 51 of 64 pixels and padded again, image 1 gets noise; both networks see the same change."""
    torch.manual_seed(0)
    seen = views("retinanet_r50", enhance=ratios(tmp_path, 0.9, 0.1))(batch(), True)
    enhanced_s, (enhanced_t,) = seen["enhanced"]
    assert torch.equal(enhanced_s, enhanced_t)  # both are RGB
    assert enhanced_s.shape == (2, 3, 64, 64)
    inside = enhanced_s[0].abs().sum(dim=0) > 0
    height, width = (int(inside.any(dim=dim).sum()) for dim in (1, 0))
    assert 51 <= height < 64 and 51 <= width < 64
    assert inside[:height, :width].all() and inside.sum() == height * width
    difference = (enhanced_s[1] - seen["inputs"][1])[:, 8:-8, 8:-8]
    assert 0.15 < difference.std() < 0.45  # 0.08 of 255 over 57, less what is clipped


def test_all_cropped_images_make_a_batch_of_their_own_size(tmp_path: Path) -> None:
    seen = views(enhance=ratios(tmp_path, 1.0, 1.0) | {"crop": (0.5, 0.5)})(batch(), True)
    assert [tuple(images.shape) for images in (seen["enhanced"][0], *seen["enhanced"][1])] == [(2, 3, 32, 32)] * 2


def test_without_a_file_the_ground_truth_decides() -> None:
    """Two boxes of a third of the side each cover 2 / 9."""
    for theta, size in ((0.2, 32), (0.25, 64)):
        seen = views(enhance=ENHANCE | {"theta": theta, "crop": (0.5, 0.5)})(batch(), True)
        assert seen["enhanced"][0].shape[-1] == size


def test_enhancement_follows_the_global_seed() -> None:
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(views(enhance=ENHANCE)(batch(), True)["enhanced"][0])
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_an_image_without_a_ratio(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="image 1 has no area ratio: the weak teacher's boxes are of another data set"):
        views(enhance=ratios(tmp_path, 0.5))(batch(), True)


def test_a_missing_file_of_ratios(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"the file of area ratios .* does not exist"):
        views(enhance=ENHANCE | {"ratios": str(tmp_path / "none.json")})


@pytest.mark.parametrize("text", ["{half", "[1, 2]", '{"0": "a"}', '{"0": NaN}', '{"0": -1}'])
def test_a_file_of_something_else_than_ratios(tmp_path: Path, text: str) -> None:
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(StudyError, match=r"other\.json holds no area ratios: make it of "):
        views(enhance=ENHANCE | {"ratios": str(tmp_path / "other.json")})


def test_enhancement_that_makes_no_sense() -> None:
    with pytest.raises(StudyError, match=r"enhance has no option 'thetha': did you mean 'theta'\?"):
        views(enhance={"thetha": 0.5})
    with pytest.raises(StudyError, match=r"enhance = True: give a dict, such as dict\(theta=...\)"):
        views(enhance=True)


@pytest.mark.parametrize(("own", "other", "side"), [(1, 32, 96), (32, 1, 96), (32, 48, 96), (1, 1, 65)])
def test_the_common_multiple_of_the_divisors_pads_all_views(own: int, other: int, side: int) -> None:
    """Of an image of 65 pixels; RTMDet's divisor is 1. Predictions are made on images as the student pads them alone."""
    configs = [
        dict(network(name)["data_preprocessor"], pad_size_divisor=by) for name, by in (("fcos_r50", own), ("gfl_r101", other))
    ]
    if own == 1:
        del configs[0]["pad_size_divisor"]
    made = DistillPreprocessor(configs[0], configs[1:], ENHANCE | {"theta": 1.0})
    seen = made(batch(size=65), True)
    for inputs in (seen["inputs"], *seen["inputs_t"], seen["enhanced"][0], *seen["enhanced"][1]):
        assert inputs.shape == (2, 3, side, side)
    assert {sample.batch_input_shape for sample in seen["data_samples"]} == {(side, side)}
    alone = MODELS.build(configs[0])(batch(size=65), False)["inputs"]
    assert torch.equal(made(batch(size=65), False)["inputs"], alone)


def test_all_views_follow_the_students_batch_augments() -> None:
    """YOLOX resizes whole batches at random, boxes with them."""
    config, other = (network(name)["data_preprocessor"] for name in ("fcos_r50", "gfl_x101"))
    augments = [
        {"type": "BatchSyncRandomResize", "random_size_range": (96, 96), "size_divisor": 32, "interval": 1},
        {"type": "BatchFixedSizePad", "size": (128, 128)},
    ]
    MessageHub.get_current_instance().update_info("iter", 0)
    made, alone = (
        DistillPreprocessor(dict(config, batch_augments=augments), [other]),
        MODELS.build(dict(config, batch_augments=augments)),
    )
    for side in (64, 96):  # a new size is drawn after the first batch
        seen, expected = made(batch(), True), alone(batch(), True)
        torch.testing.assert_close(seen["inputs"], expected["inputs"])
        for sample, one in zip(seen["data_samples"], expected["data_samples"], strict=True):
            assert torch.equal(sample.gt_instances.bboxes, one.gt_instances.bboxes) and sample.img_shape == one.img_shape == (
                side,
                side,
            )
        (inputs,) = seen["inputs_t"]
        plain = MODELS.build(other)({"inputs": batch()["inputs"], "data_samples": None}, False)["inputs"]
        torch.testing.assert_close(inputs[..., :side, :side], nn.functional.interpolate(plain, (side, side), mode="bilinear"))
        assert inputs.shape == seen["inputs"].shape == (2, 3, 128, 128) and not inputs[..., side:, :].any()


def test_adversarial_examples_of_resized_batches_are_refused() -> None:
    student = dict(network("retinanet_r50")["data_preprocessor"], batch_augments=[{"type": "BatchFixedSizePad", "size": (96, 96)}])
    with pytest.raises(StudyError, match=r"adversarial: .* batch_augments, which move its boxes"):
        DistillPreprocessor(student, [network("gfl_r101")["data_preprocessor"]], keep_pixels=True)
