"""Changed images: areas by hand, noise and crops, which image gets which; attacks with known gradients."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from dfmsd.augment import add_noise, area_ratio, area_ratios, di2_fgsm, diverse, enhance, random_crop
from dfmsd.stages import Attack, Enhance
from tests.fixtures_detectors import batch, detector

CHOICE = Enhance().model_dump(exclude={"score"})


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def picture(size: int = 64) -> Tensor:
    return 255 * torch.rand(3, size, size, generator=generator())


@pytest.mark.parametrize(
    ("boxes", "scores", "expected"),
    [
        ([], [], 0.0),
        ([[0, 0, 10, 10]], [0.9], 0.5),
        ([[0, 0, 10, 10]], [0.3], 0.5),  # the score itself counts
        ([[0, 0, 10, 10]], [0.29], 0.0),
        ([[0, 0, 5, 5], [5, 5, 10, 10]], [0.9, 0.9], 0.25),
        ([[0, 0, 10, 5], [0, 0, 10, 5]], [0.9, 0.9], 0.5),  # summed, not united
        ([[0, 0, 10, 20], [0, 0, 10, 20]], [0.9, 0.9], 1.0),
    ],
)
def test_area_ratio_by_hand(boxes: list[list[float]], scores: list[float], expected: float) -> None:
    found, given = torch.tensor(boxes).reshape(-1, 4).float(), {"score": 0.3, "height": 20, "width": 10}
    assert area_ratio(found, torch.tensor(scores), **given) == expected
    larger = {"score": 0.3, "height": 2000, "width": 1000}  # an area that float16 does not hold
    assert area_ratio(100 * found.half(), torch.tensor(scores), **larger) == expected


def test_area_ratios_are_those_of_the_detectors_boxes_in_the_original_image() -> None:
    """Images of 64 pixels that were loaded from files of half the size: boxes come back in the files' pixels."""
    model, data = detector("gfl_x101"), batch()
    for sample in data["data_samples"]:
        sample.set_metainfo({"ori_shape": (32, 32), "scale_factor": (2.0, 2.0)})
    found = model.test_step(copy.deepcopy(data))
    score = float(found[0].pred_instances.scores.median())
    expected = {}
    for index, one in enumerate(found):
        kept = one.pred_instances.bboxes[one.pred_instances.scores >= score]
        expected[str(index)] = min(1.0, sum(float((x2 - x1) * (y2 - y1)) for x1, y1, x2, y2 in kept) / 32**2)
    assert area_ratios(model, [data], score=score) == pytest.approx(expected, abs=1e-6)
    assert area_ratios(model, [data], score=1.0) == {"0": 0.0, "1": 0.0}


def test_noise_has_its_deviation_and_stays_in_range() -> None:
    grey = torch.full((3, 100, 100), 128, dtype=torch.uint8)
    noisy = add_noise(grey, sigma=0.08, generator=generator())
    # 30,000 draws: five standard errors of the deviation are 0.42.
    assert (noisy - 128).std().item() == pytest.approx(20.4, abs=0.42)
    # What is cut off a whole number's fraction is a half on average.
    assert (noisy - 128).mean().item() == pytest.approx(-0.5, abs=0.6)
    assert torch.equal(noisy, noisy.floor())
    bright = add_noise(torch.full((3, 50, 50), 255.0), sigma=0.5, generator=generator())
    assert bright.max() == 255
    assert bright.min() >= 0
    assert torch.equal(add_noise(grey, sigma=0.0, generator=generator()), grey.float())


def test_crop_is_a_window_of_the_image_anywhere() -> None:
    image = torch.arange(200).reshape(1, 10, 20)
    corners = set()
    for seed in range(200):
        window = random_crop(image, sides=(0.8, 0.8), generator=generator(seed))
        assert window.shape == (1, 8, 16)
        top, left = divmod(int(window[0, 0, 0]), 20)
        assert torch.equal(window, image[:, top : top + 8, left : left + 16])
        corners.add((top, left))
    assert corners == {(top, left) for top in range(3) for left in range(5)}


def test_sides_of_a_crop_are_drawn_each_for_itself_from_the_smallest_to_the_whole() -> None:
    """Of 10 rows 8 to 10, of 20 columns 16 to 20, rounded half up: the ends get half as much as what lies between."""
    image = torch.zeros(1, 10, 20)
    sizes = [tuple(random_crop(image, sides=(0.8, 1.0), generator=generator(seed)).shape[1:]) for seed in range(2000)]
    assert set(sizes) == {(h, w) for h in (8, 9, 10) for w in range(16, 21)}
    shares = [sum(h == height for h, _ in sizes) / 2000 for height in (8, 9, 10)]
    # Five standard deviations of a binomial of 2000 and a half: 0.056.
    assert shares == pytest.approx([0.25, 0.5, 0.25], abs=0.056)


def test_crop_of_everything_and_of_a_pixel() -> None:
    image = torch.arange(6.0).reshape(1, 2, 3)
    assert torch.equal(random_crop(image, sides=(1.0, 1.0), generator=generator()), image)
    assert random_crop(image, sides=(0.01, 0.01), generator=generator()).shape == (1, 1, 1)


@pytest.mark.parametrize(("ratio", "cropped"), [(0.0, False), (0.499, False), (0.5, True), (1.0, True)])
def test_theta_decides_between_noise_and_crop(ratio: float, cropped: bool) -> None:
    image = picture()
    for seed in range(20):
        changed = enhance(image, ratio, **CHOICE, generator=generator(seed))
        assert all(51 <= side <= 64 for side in changed.shape[1:])
        assert (changed.shape != image.shape) == cropped  # no crop here keeps all of both sides


def test_noise_comes_with_its_probability() -> None:
    image = picture(size=8)
    noisy = sum(not torch.equal(enhance(image, 0.0, **CHOICE, generator=generator(seed)), image) for seed in range(1000))
    # Five standard deviations of a binomial of 1000 and 0.3.
    assert noisy == pytest.approx(300, abs=73)


def test_enhancement_depends_on_its_generator_alone() -> None:
    image, certain = picture(), CHOICE | {"noise_probability": 1.0}
    for ratio in (0.0, 1.0):
        first = enhance(image, ratio, **certain, generator=generator(1))
        torch.manual_seed(5)
        assert torch.equal(first, enhance(image, ratio, **certain, generator=generator(1)))
        other = enhance(image, ratio, **certain, generator=generator(2))
        assert not torch.equal(first, other)


# Adversarial examples

OPTIONS = Attack(diversity=0.0).model_dump()
NOTHING = [torch.zeros(0, 4)]


def attack(image: Tensor, loss: Any, **changes: Any) -> Tensor:
    (changed,) = di2_fgsm([image], NOTHING, loss, **(OPTIONS | changes), generator=torch.Generator().manual_seed(0))
    return changed


def gradient() -> Tensor:
    """An image whose values cover 0 to 255, with some at the ends of its range."""
    return torch.linspace(0, 255, 48).reshape(3, 4, 4)


def test_each_step_goes_up_the_sign_of_the_gradient_until_epsilon() -> None:
    slope = torch.where(torch.arange(48).reshape(3, 4, 4) % 2 == 0, 3.0, -0.01)
    image = gradient()
    changed = attack(image, lambda images, _: (images[0] * slope).sum())
    low, high = image.amin(dim=(1, 2), keepdim=True), image.amax(dim=(1, 2), keepdim=True)
    # 5 steps of 2 / 255 want to go to 10 / 255, but epsilon is 8 / 255 of a range of 255.
    torch.testing.assert_close(changed, (image + 8 * slope.sign()).clamp(low, high))


def test_momentum_remembers() -> None:
    """The gradient turns after the first step: with decay 1 the sum is 0, and what has sign 0 stays."""
    calls: list[int] = []

    def loss(images: list[Tensor], _: Any) -> Tensor:
        calls.append(1)
        return images[0].sum() * (1 if len(calls) == 1 else -1)

    image = gradient()
    inner = slice(1, 3)
    with_momentum = attack(image, loss, steps=2)
    calls.clear()
    without = attack(image, loss, steps=2, decay=0.0)
    torch.testing.assert_close(with_momentum[:, inner, inner], image[:, inner, inner] + 2)
    torch.testing.assert_close(without[:, inner, inner], image[:, inner, inner])


def test_what_does_not_move_the_loss_stays() -> None:
    image = gradient()
    assert torch.equal(attack(image, lambda images, _: 0 * images[0].sum()), image)


def test_originals_are_left_and_parameters_get_no_gradient() -> None:
    image, weight = gradient(), torch.ones(3, 4, 4, requires_grad=True)
    before = image.clone()
    changed = attack(image, lambda images, _: (images[0] * weight).sum(), steps=1)
    assert torch.equal(image, before)
    assert weight.grad is None
    assert not changed.requires_grad


def test_diverse_input_moves_boxes_with_their_pixels() -> None:
    image = torch.zeros(3, 40, 80)
    image[:, 10:20, 20:60] = 200.0
    box = torch.tensor([[20.0, 10.0, 60.0, 20.0]])
    for seed in range(5):
        changed, moved = diverse(image, box, resize=0.5, generator=torch.Generator().manual_seed(seed))
        assert changed.shape == image.shape
        rows, columns = (changed[0] > 100).nonzero(as_tuple=True)
        found = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()
        assert (found - moved[0]).abs().max() <= 1.0, seed


def test_same_generator_same_examples() -> None:
    one, two = (attack(gradient(), lambda images, _: images[0].square().sum(), diversity=0.5) for _ in range(2))
    assert torch.equal(one, two)


@pytest.mark.parametrize("name", ["gfl_x101", "faster_rcnn_r50"])
def test_a_real_detectors_classification_loss_rises(name: str) -> None:
    model = copy.deepcopy(detector(name)).requires_grad_(False)
    data = model.data_preprocessor(batch(), True)

    def loss(images: list[Tensor], _: Any) -> Tensor:
        torch.manual_seed(0)  # two-stage detectors draw the regions that they learn from
        found = model.loss(model.data_preprocessor({"inputs": images, "data_samples": None}, False)["inputs"], data["data_samples"])
        values = [torch.stack(v).sum() if isinstance(v, list) else v for k, v in found.items() if "cls" in k]
        return torch.stack(values).sum()

    pixels = [image.float() for image in batch()["inputs"]]
    boxes = [sample.gt_instances.bboxes for sample in data["data_samples"]]
    changed = di2_fgsm(pixels, boxes, loss, **OPTIONS, generator=torch.Generator())
    assert loss(changed, boxes) > loss(pixels, boxes)
    for one, two in zip(changed, pixels, strict=True):
        assert 0 < (one - two).abs().max() <= 8 + 1e-3
