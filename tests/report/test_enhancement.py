"""Attention to changed versions of images: on features and images made by hand, and once from training to the frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.fft import dctn, idctn

from dfmsd import study
from dfmsd.errors import StudyError
from dfmsd.report import canvas, enhancement
from dfmsd.report.enhancement import CROP, HIGH, IMAGE, LOW, NOISE
from dfmsd.report.images import Picture
from dfmsd.study import pages, records
from dfmsd.study.pages.networks import EnhancementPage
from dfmsd.study.rows import Options


def page(name: str = "fig05", **changes: object) -> EnhancementPage:
    found = pages.get(name, scale="smoke")
    assert isinstance(found, EnhancementPage)
    return found.model_copy(update=changes)


def shown(*boxes: list[float], height: int = 64) -> Picture:
    """A picture that is bright in its boxes, 64 pixels wide."""
    image = torch.full((3, height, 64), 40, dtype=torch.uint8)
    for x1, y1, x2, y2 in boxes:
        image[:, int(y1) : int(y2), int(x1) : int(x2)] = 200
    return Picture(0, image, torch.tensor(boxes).reshape(-1, 4), ("disc",) * len(boxes), ("small",) * len(boxes))


def noise(*size: int) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("border", [0.03, 0.0625, 0.1])
def test_the_split_is_a_gaussian_in_the_cosine_transform(border: float) -> None:
    values = 4 + noise(3, 20, 28)
    low, high = enhancement.split(values, border)
    torch.testing.assert_close(low + high, values)
    # The k-th cosine has k half waves: this transform is that of the image mirrored at its borders.
    f = np.hypot(np.arange(20)[:, None] / 40, np.arange(28)[None] / 56)
    expected = idctn(dctn(values.double().numpy(), axes=(1, 2)) * 2.0 ** -((f / border) ** 2), axes=(1, 2))
    np.testing.assert_allclose(low, expected, atol=1e-5)


def test_half_of_a_wave_passes_at_the_border() -> None:
    wave = torch.cos(torch.pi * 4 * (torch.arange(32) + 0.5) / 32) * torch.ones(1, 8, 1)  # four half waves on 32 pixels: 1/16
    torch.testing.assert_close(enhancement.split(wave, 1 / 16)[0], 0.5 * wave)
    torch.testing.assert_close(enhancement.split(wave, 1 / 8)[0], 2**-0.25 * wave)


def test_opposite_borders_do_not_mix() -> None:
    values = torch.zeros(1, 8, 64)
    values[..., -4:] = 1.0
    assert enhancement.split(values, 0.1)[0][..., :8].abs().max() < 1e-3


def test_attention_on_objects_by_hand() -> None:
    feat = torch.zeros(1, 2, 2, 2)
    feat[0, :, 0, 1] = 0.5 * torch.log(torch.tensor(3.0))  # tau is 0.5: weights 1, 3, 1, 1
    whole = (0, 0, 16, 16)
    attention, hidden = enhancement.on_objects(feat, torch.tensor([[8.0, 0.0, 16.0, 8.0]]), whole, 8) or (0, 0)
    assert attention == pytest.approx(4 * 3 / 6)
    assert hidden == 1.0
    both, _ = enhancement.on_objects(feat, torch.tensor([[0.0, 0.0, 16.0, 8.0]]), whole, 8) or (0, 0)
    assert both == pytest.approx(4 * 4 / 6 / 2)
    assert enhancement.on_objects(feat, torch.zeros(0, 4), whole, 8) is None
    # In a window, its own mean is 1, and what lies outside does not count.
    left, _ = enhancement.on_objects(feat, torch.tensor([[-9.0, 0.0, 16.0, 8.0]]), (0, 0, 8, 16), 8) or (0, 0)
    assert left == pytest.approx(1.0)
    assert enhancement.on_objects(feat, torch.tensor([[9.0, 0.0, 16.0, 8.0]]), (0, 0, 8, 16), 8) is None


def test_low_and_high_frequencies_are_images_whose_sum_is_the_image() -> None:
    seen = shown([10.0, 10.0, 30.0, 20.0])
    made = {name: version.image for name, version in enhancement.frequency_versions(seen, 1 / 16).items()}
    means = made[IMAGE].mean(dim=(1, 2), keepdim=True)
    torch.testing.assert_close(made[LOW] + made[HIGH] - means, made[IMAGE])
    for image in made.values():
        torch.testing.assert_close(image.mean(dim=(1, 2), keepdim=True), means)
    assert torch.equal(made[IMAGE], seen.image.float())


def test_an_image_of_small_objects_gets_noise() -> None:
    seen = shown([10.0, 10.0, 30.0, 20.0])
    made = enhancement.augmented_versions(seen, 0.2, Options(theta=0.5, sigma=0.02), seed=3)
    assert list(made) == [IMAGE, NOISE]
    assert made[NOISE].image.shape == seen.image.shape
    assert 3 < (made[NOISE].image - seen.image).std() < 8  # 5.1
    assert torch.equal(made[NOISE].boxes, seen.boxes)


@pytest.mark.parametrize("seed", [0, 1])
def test_boxes_follow_a_crop(seed: int) -> None:
    seen = shown([10.0, 14.0, 50.0, 40.0], [0.0, 0.0, 4.0, 4.0], height=80)
    made = enhancement.augmented_versions(seen, 0.5, Options(theta=0.5, crop=(0.6, 1.0)), seed=seed)
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


def test_annotations_decide_where_the_weak_teacher_sees_no_difference() -> None:
    pair = [shown([0.0, 0.0, 8.0, 8.0]), shown([0.0, 0.0, 64.0, 64.0])]
    nothing, half = torch.zeros(0, 4), torch.tensor([[0.0, 0.0, 64.0, 32.0]])
    judge, boxes = enhancement.judged([half, nothing], pair, 0.5)
    assert judge == "teacher" and boxes[0] is half and boxes[1] is nothing
    judge, boxes = enhancement.judged([nothing, nothing], pair, 0.5)
    assert judge == "annotations" and boxes[0] is pair[0].boxes and boxes[1] is pair[1].boxes
    with pytest.raises(StudyError, match=r"theta = 0\.0: the first 2 images lie on one side"):
        enhancement.judged([nothing, nothing], pair, 0.0)


def test_from_training_to_the_frame(folders: Path) -> None:
    found = page("fig07", images=6)
    study.make(found, measure=enhancement.measure, jobs=2, quiet=True)
    frame, record = study.frame(found), records.measured(found)
    assert record is not None and records.stale_reasons(record, found) == []
    attention = frame[frame["metric"] == "attention"].dropna(subset="value")
    assert set(frame.loc[frame["row"] == NOISE, "kind"]) == {"small objects"}
    assert set(frame.loc[frame["row"] == CROP, "kind"]) == {"large objects"}
    assert (attention["value"] > 0).all()
    assert frame.loc[frame["metric"] == "hidden", "value"].dropna().between(0, 100).all()
    assert not frame.duplicated(["row", "size", "image", "metric"]).any()
    for kind, version in (("small objects", NOISE), ("large objects", CROP)):
        versions = record.pictures[kind]["versions"]
        assert list(versions) == [IMAGE, version]
        for one in versions.values():
            height, width = canvas.pixels(one).shape[1:]
            assert np.shape(one["attention"]) == (-(-height // 8), -(-width // 8))
            assert np.mean(one["attention"]) == pytest.approx(1, abs=1e-3)

    frequencies = page(images=6)
    frame, _ = enhancement.measure(frequencies)  # its teacher is trained
    assert set(frame["row"]) == {IMAGE, LOW, HIGH}
    with pytest.raises(StudyError, match=r"stride = 4: the teacher's levels have strides 8, 16, 32, 64, 128"):
        enhancement.measure(page(images=6, stride=4))
