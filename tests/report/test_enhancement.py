"""Attention to changed versions of images, on features and images made by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dfmsd.errors import StudyError
from dfmsd.report import enhancement as attending
from dfmsd.report import explore
from dfmsd.report.enhancement import CROP, HIGH, IMAGE, LOW, NOISE, Teacher
from dfmsd.study import pages
from dfmsd.study.pages import EnhancementPage
from dfmsd.study.rows import Options
from tests.fixtures_detectors import detector


def page(name: str = "fig05", **changes: object) -> EnhancementPage:
    found = pages.get(name, scale="smoke")
    assert isinstance(found, EnhancementPage)
    return found.model_copy(update=changes)


def shown(*boxes: list[float], height: int = 64) -> explore.Picture:
    """A picture that is bright in its boxes, 64 pixels wide."""
    image = torch.full((3, height, 64), 40, dtype=torch.uint8)
    for x1, y1, x2, y2 in boxes:
        image[:, int(y1) : int(y2), int(x1) : int(x2)] = 200
    return explore.Picture(image, torch.tensor(boxes).reshape(-1, 4), ("disc",) * len(boxes))


@pytest.mark.parametrize(
    ("box", "cells"),
    [
        ([0.0, 0.0, 8.0, 8.0], [(0, 0)]),
        ([0.0, 0.0, 8.1, 8.0], [(0, 0), (0, 1)]),
        ([15.9, 8.0, 16.0, 24.0], [(1, 1), (2, 1)]),
        ([8.0, 8.0, 8.0, 16.0], []),  # nothing is left of it
    ],
)
def test_the_cells_that_a_box_reaches_into(box: list[float], cells: list[tuple[int, int]]) -> None:
    found = attending.touched(torch.tensor([box]), 8, 3, 4)
    assert [tuple(cell) for cell in found.nonzero().tolist()] == cells


def test_attention_on_objects_by_hand() -> None:
    feat = torch.zeros(1, 2, 2, 2)
    feat[0, :, 0, 1] = 0.5 * torch.log(torch.tensor(3.0))  # tau is 0.5: weights 1, 3, 1, 1
    whole = (0, 0, 16, 16)
    attention, hidden = attending.on_objects(feat, torch.tensor([[8.0, 0.0, 16.0, 8.0]]), whole, 8) or (0, 0)
    assert attention == pytest.approx(4 * 3 / 6)
    assert hidden == 1.0
    both, _ = attending.on_objects(feat, torch.tensor([[0.0, 0.0, 16.0, 8.0]]), whole, 8) or (0, 0)
    assert both == pytest.approx(4 * 4 / 6 / 2)
    assert attending.on_objects(feat, torch.zeros(0, 4), whole, 8) is None
    # In a window, its own mean is 1, and what lies outside does not count.
    left, _ = attending.on_objects(feat, torch.tensor([[-9.0, 0.0, 16.0, 8.0]]), (0, 0, 8, 16), 8) or (0, 0)
    assert left == pytest.approx(1.0)
    assert attending.on_objects(feat, torch.tensor([[9.0, 0.0, 16.0, 8.0]]), (0, 0, 8, 16), 8) is None


def test_the_share_that_is_hidden_is_dual_masking_s() -> None:
    feat = torch.rand(1, 4, 10, 10, generator=torch.Generator().manual_seed(0))
    heat, hidden = attending.attention(feat)
    assert hidden.float().mean().item() == pytest.approx(attending.MASKING["spatial_ratio"])
    assert heat.mean().item() == pytest.approx(1.0)
    assert heat[hidden[0, 0]].min() >= heat[~hidden[0, 0]].max()


def test_low_and_high_frequencies_are_images_whose_sum_is_the_image() -> None:
    seen = shown([10.0, 10.0, 30.0, 20.0])
    made = {name: version.image for name, version in attending.frequency_versions(seen, 1 / 16).items()}
    means = made[IMAGE].mean(dim=(1, 2), keepdim=True)
    torch.testing.assert_close(made[LOW] + made[HIGH] - means, made[IMAGE])
    for image in made.values():
        torch.testing.assert_close(image.mean(dim=(1, 2), keepdim=True), means)
    assert torch.equal(made[IMAGE], seen.image.float())


def test_an_image_of_small_objects_gets_noise() -> None:
    seen = shown([10.0, 10.0, 30.0, 20.0])
    made = attending.augmented_versions(seen, 0.2, Options(theta=0.5, sigma=0.02), seed=3)
    assert list(made) == [IMAGE, NOISE]
    assert made[NOISE].image.shape == seen.image.shape
    assert 3 < (made[NOISE].image - seen.image).std() < 8  # 5.1
    assert torch.equal(made[NOISE].boxes, seen.boxes)


@pytest.mark.parametrize("seed", range(4))
def test_boxes_follow_a_crop(seed: int) -> None:
    seen = shown([10.0, 14.0, 50.0, 40.0], [0.0, 0.0, 4.0, 4.0], height=80)
    made = attending.augmented_versions(seen, 0.5, Options(theta=0.5, crop=(0.6, 1.0)), seed=seed)
    assert list(made) == [IMAGE, CROP]
    cropped = made[CROP]
    height, width = cropped.image.shape[1:]
    assert 48 <= height < 80 and 38 <= width < 64  # of 80 and 64, at least 0.6
    bright = torch.zeros(height, width, dtype=torch.bool)
    for x1, y1, x2, y2 in cropped.boxes.clamp(min=0).int().tolist():
        bright[y1:y2, x1:x2] = True
    assert torch.equal(bright, cropped.image[0] > 100)
    left, top, right, bottom = made[IMAGE].window
    assert torch.equal(made[IMAGE].image[:, top:bottom, left:right], cropped.image)


def test_padding_is_no_part_of_a_level() -> None:
    images = [torch.rand(3, 64, 64) * 255, torch.rand(3, 51, 51) * 255]
    whole, crop = attending.feature(detector("retinanet_r101"), images, 8)
    assert whole.shape[2:] == (8, 8)
    assert crop.shape[2:] == (7, 7)
    with pytest.raises(StudyError, match="stride = 4: the teacher's levels have strides 8, 16, 32, 64, 128"):
        attending.feature(detector("retinanet_r101"), images, 4)


def test_a_detector_s_boxes_lie_in_the_image_and_have_their_score() -> None:
    image = (torch.rand(3, 64, 64) * 255).byte()
    every = attending.boxes(detector("retinanet_r101"), image, score=0.0)
    assert every.shape[1] == 4 and len(attending.boxes(detector("retinanet_r101"), image, score=1.0)) == 0
    assert len(every) == 0 or (every.min() >= 0 and every.max() <= 64)


def judged(boxes: list[Tensor], monkeypatch: pytest.MonkeyPatch, **changes: object) -> tuple[str, list[float]]:
    """Whose boxes decide about two images, one of them covered by an object, and their ratios."""
    found = iter(boxes)
    monkeypatch.setattr(attending, "boxes", lambda *_, **__: next(found))
    images = [shown([0.0, 0.0, 8.0, 8.0]), shown([0.0, 0.0, 64.0, 64.0])]
    judge, pairs = attending._judged(page(**changes), Teacher(detector("retinanet_r101"), "", grown=True), images)
    return judge, [ratio for _, ratio in pairs]


def test_the_weak_teacher_decides_if_it_sees_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing, half = torch.zeros(0, 4), torch.tensor([[0.0, 0.0, 64.0, 32.0]])
    assert judged([half, nothing], monkeypatch) == ("teacher", [0.5, 0.0])
    assert judged([nothing, nothing], monkeypatch) == ("annotations", [1 / 64, 1.0])
    with pytest.raises(StudyError, match=r"theta = 0\.0: the first 2 images lie on one side"):
        judged([nothing, nothing], monkeypatch, options=Options(theta=0.0))
