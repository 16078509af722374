"""What all methods share: their numbers, and weighted terms under their names, summed over the levels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from dfmsd import losses
from dfmsd.errors import StudyError
from dfmsd.hyper import METHODS
from dfmsd.losses import DMKD, MGD, SSIM
from dfmsd.losses.base import Levels, Method, squared_error


class Two(Method):
    """With DFMSD's numbers."""

    name = "dfmsd"
    WEIGHTS: ClassVar = {"a": "alpha", "b": "sfa", "aug": "beta"}

    def level(self, block: Any, feat_s: Tensor, feat_t: Tensor, **_: Any) -> dict[str, Tensor]:
        return {"a": feat_s.sum(), "b": feat_t.sum()}

    def enhanced(self, block: Any, feat_s: Tensor, feat_t: Tensor) -> Tensor:
        return (feat_s * feat_t).sum()


def two(strides: tuple[int, ...] = (8,), **options: Any) -> Two:
    return Two(channels_s=1, channels_t=1, strides=strides, **{"alpha": 0.5, "sfa": 3.0, "beta": 10.0} | options)


LEVELS = {8: torch.full((1, 1, 2, 2), 2.0), 16: torch.ones(1, 1, 1, 2)}


def call(method: Method, **options: Any) -> Mapping[str, float]:
    ones = {stride: torch.ones_like(feat) for stride, feat in LEVELS.items()}
    terms = method(LEVELS, ones, [torch.zeros(0, 4)], [(16, 16)], generator=torch.Generator(), **options)
    return {name: value.item() for name, value in terms.items()}


def test_terms_are_named_weighted_and_summed_over_the_levels() -> None:
    assert call(two()) == {"loss_dfmsd_a": 0.5 * 8, "loss_dfmsd_b": 3 * 4}
    assert call(two((8, 16))) == {"loss_dfmsd_a": 0.5 * (8 + 2), "loss_dfmsd_b": 3 * (4 + 2)}


def test_terms_on_changed_images_appear_with_them_unless_they_are_off() -> None:
    images: dict[str, tuple[Levels, Levels]] = {"aug": (LEVELS, LEVELS)}
    assert call(two((8, 16)), enhanced=images)["loss_dfmsd_aug"] == 10 * (4 * 4 + 2)
    for off in (two(beta=0.0), two(changed=()), MGD(channels_s=1, channels_t=1, strides=(8,))):
        assert not any(name.endswith("aug") for name in call(off, enhanced=images))


def test_weights_travel_with_the_checkpoint_and_are_not_learned() -> None:
    method = two(beta=0.0)
    assert {name: value.item() for name, value in method.state_dict().items()} == {
        "weight_a": 0.5,
        "weight_b": 3.0,
        "weight_aug": 0.0,
    }
    assert list(method.parameters()) == []


@pytest.mark.parametrize(
    ("method", "fields", "message"),
    [
        (MGD, {"raito": 0.5}, r"^MGD has no hyper-parameter 'raito': did you mean 'ratio'\?$"),
        (MGD, {"ratio": 1.5}, "^MGD: ratio = 1.5: Input should be less than or equal to 1$"),
        (SSIM, {"window": 10}, "^SSIM: window = 10: the window has a position in its centre: its side is odd$"),
        (SSIM, {"luminance": 0, "contrast": 0, "structure": 0}, "^SSIM: .* so nothing is compared: switch one on$"),
        (DMKD, {"se_ratio": 16}, "^se_ratio = 16 squeezes a map of 8 channels to none: take at most 8$"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(method: type[Method], fields: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        method(channels_s=8, channels_t=8, strides=(8,), **fields)


@pytest.mark.parametrize("method", [getattr(losses, model.__name__) for model in METHODS.values()])
def test_a_misspelt_name_is_told_before_those_that_are_missing(method: type[Method]) -> None:
    for given, nearest in ({"stridse": (8,)}, "strides"), ({"chanels_t": 8}, "channels_t"):
        with pytest.raises(StudyError, match=f"^{method.__name__} has no hyper-parameter .*: did you mean '{nearest}'"):
            method(**given)


def test_squared_error_by_hand_in_half_precision_too() -> None:
    """300 squared is more than float16 holds."""
    difference = torch.tensor([1.0, -2.0, 3.0, 300.0]).view(2, 1, 1, 2)
    for given in (difference, difference.half()):
        assert squared_error(given).item() == (1 + 4 + 9 + 90000) / 2
        assert squared_error(given, "mean").item() == (1 + 4 + 9 + 90000) / 4
