"""Adversarial examples: by hand where the gradient is known, and against a real detector."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from mmengine.registry import DefaultScope
from torch import Tensor

from dfmsd.adversarial import di2_fgsm, diverse
from tests.fixtures_detectors import batch, detector

OPTIONS: dict[str, Any] = {"epsilon": 8 / 255, "step": 2 / 255, "steps": 5, "decay": 1.0, "resize": 0.9, "diversity": 0.0}
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


def test_nothing_to_shrink_is_the_image_itself() -> None:
    image, boxes = torch.rand(3, 8, 8), torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    changed, moved = diverse(image, boxes, resize=1.0, generator=torch.Generator())
    torch.testing.assert_close(changed, image)
    assert torch.equal(moved, boxes)


def test_same_generator_same_examples() -> None:
    found = [
        di2_fgsm(
            [gradient()],
            NOTHING,
            lambda x, _: x[0].square().sum(),
            **(OPTIONS | {"diversity": 0.5}),
            generator=torch.Generator().manual_seed(s),
        )[0]
        for s in (1, 1)
    ]
    assert torch.equal(*found)


@pytest.mark.parametrize("name", ["gfl_x101", "faster_rcnn_r50"])
def test_a_real_detectors_classification_loss_rises(name: str) -> None:
    model = copy.deepcopy(detector(name)).requires_grad_(False)
    data = model.data_preprocessor(batch(), True)

    def loss(images: list[Tensor], _: Any) -> Tensor:
        torch.manual_seed(0)  # two-stage detectors draw the regions that they learn from
        found = model.loss(model.data_preprocessor({"inputs": images, "data_samples": None}, False)["inputs"], data["data_samples"])
        values = [torch.stack(v).sum() if isinstance(v, list) else v for k, v in found.items() if "cls" in k]
        return torch.stack(values).sum()

    with DefaultScope.overwrite_default_scope("mmdet"):
        pixels = [image.float() for image in batch()["inputs"]]
        boxes = [sample.gt_instances.bboxes for sample in data["data_samples"]]
        changed = di2_fgsm(pixels, boxes, loss, **OPTIONS, generator=torch.Generator())
        assert loss(changed, boxes) > loss(pixels, boxes)
    for one, two in zip(changed, pixels, strict=True):
        assert 0 < (one - two).abs().max() <= 8 + 1e-3
