"""What all methods share: weighted terms under their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from dfmsd.losses.base import Levels, Method, sum_squares


class Two(Method):
    name = "two"
    uses_enhanced = True

    def terms(self, levels_s: Levels, levels_t: Levels, **_: Any) -> dict[str, Tensor]:
        return {"a": levels_s[8].sum(), "b": levels_t[8].sum()}

    def enhanced_term(self, levels_s: Levels, levels_t: Levels) -> Tensor:
        return (levels_s[8] * levels_t[8]).sum()


def call(method: Method, **options: Any) -> Mapping[str, Tensor]:
    levels_s, levels_t = {8: torch.full((1, 1, 2, 2), 2.0)}, {8: torch.ones(1, 1, 2, 2)}
    return method(levels_s, levels_t, [torch.zeros(0, 4)], [(16, 16)], generator=torch.Generator(), **options)


def test_terms_are_named_and_weighted() -> None:
    terms = call(Two([8], {"a": 0.5, "b": 3.0, "c": 1.0}))
    assert {name: value.item() for name, value in terms.items()} == {"loss_two_a": 4.0, "loss_two_b": 12.0}


def test_enhanced_terms_appear_with_enhanced_features_only_where_a_method_uses_them() -> None:
    enhanced = {"c": ({8: torch.full((1, 1, 1, 2), 3.0)}, {8: torch.ones(1, 1, 1, 2)})}
    method = Two([8], {"a": 1.0, "b": 1.0, "c": 10.0})
    assert call(method, enhanced=enhanced)["loss_two_c"].item() == 60.0
    method.uses_enhanced = False  # type: ignore[misc]
    assert "loss_two_c" not in call(method, enhanced=enhanced)


def test_weights_travel_with_the_checkpoint_and_are_not_learned() -> None:
    method = Two([8], {"a": 0.5, "b": 3.0, "c": 0.0})
    assert {name: value.item() for name, value in method.state_dict().items()} == {
        "weight_a": 0.5,
        "weight_b": 3.0,
        "weight_c": 0.0,
    }
    assert list(method.parameters()) == []


def test_a_bare_method_has_no_terms() -> None:
    with pytest.raises(NotImplementedError):
        call(Method([8], {"a": 1.0}))


def test_sum_squares_is_a_sum_per_image_and_a_mean_over_images() -> None:
    difference = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(2, 1, 1, 2)
    assert sum_squares(difference).item() == (1 + 4 + 9 + 16) / 2
