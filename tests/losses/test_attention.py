"""The attention maps against NumPy in float64, written from the equations, and the masks: how much is hidden, and exactly what."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dfmsd.losses import attention_mask, channel_attention, random_mask, spatial_attention, top_mask


def softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(values - values.max())
    return powers / powers.sum()


@pytest.mark.parametrize("tau", [0.5, 0.8, 3.0])
def test_maps_equal_the_equations(tau: float) -> None:
    feat = np.random.default_rng(0).normal(size=(2, 5, 3, 4))
    spatial = spatial_attention(torch.from_numpy(feat), tau=tau).numpy()
    channel = channel_attention(torch.from_numpy(feat), tau=tau).numpy()
    for b in range(2):
        energy = np.abs(feat[b]).mean(axis=0).ravel()
        np.testing.assert_allclose(spatial[b].ravel(), 12 * softmax(energy / tau), rtol=1e-12)
        energy = np.abs(feat[b]).mean(axis=(1, 2))
        np.testing.assert_allclose(channel[b], 5 * softmax(energy / tau), rtol=1e-12)


def test_hand_computed() -> None:
    """Mean magnitudes ln 1 and ln 3 at temperature 1 share the two positions as 1 : 3."""
    feat = torch.tensor([[[[0.0, -np.log(3.0)]]]], dtype=torch.float32)
    torch.testing.assert_close(spatial_attention(feat, tau=1.0), torch.tensor([[[0.5, 1.5]]]))
    torch.testing.assert_close(channel_attention(feat.transpose(1, 3), tau=1.0), torch.tensor([[0.5, 1.5]]))


def test_huge_features_stay_finite() -> None:
    feat = torch.tensor([[[[0.0, 1e6]]]])
    assert spatial_attention(feat, tau=0.5).tolist() == [[[0.0, 2.0]]]


# Masks


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("ratio", [0.45, 0.65])
def test_random_mask_hides_each_position_with_the_given_probability(ratio: float) -> None:
    hidden = random_mask(torch.empty(4, 1, 100, 100), ratio=ratio, generator=generator())
    # 40,000 draws: five standard deviations are 0.0125.
    assert hidden.float().mean().item() == pytest.approx(ratio, abs=0.0125)


def test_random_mask_is_one_for_all_channels_and_another_for_each_image() -> None:
    hidden = random_mask(torch.empty(2, 8, 9, 9), ratio=0.5, generator=generator())
    assert hidden.shape == (2, 1, 9, 9)
    assert not torch.equal(hidden[0], hidden[1])


def test_random_mask_depends_on_its_generator_alone() -> None:
    feat = torch.empty(1, 1, 8, 8)
    torch.manual_seed(1)
    first = random_mask(feat, ratio=0.5, generator=generator(3))
    torch.manual_seed(2)
    assert torch.equal(first, random_mask(feat, ratio=0.5, generator=generator(3)))
    assert not torch.equal(first, random_mask(feat, ratio=0.5, generator=generator(4)))


@pytest.mark.parametrize(("ratio", "expected"), [(0.0, 0), (1.0, 64)])
def test_random_mask_at_the_ends(ratio: float, expected: int) -> None:
    for seed in range(50):
        hidden = random_mask(torch.empty(1, 1, 8, 8), ratio=ratio, generator=generator(seed))
        assert hidden.sum().item() == expected


@pytest.mark.parametrize(
    ("elements", "ratio", "hidden"),
    [(4, 0.0, 0), (4, 1.0, 4), (4, 0.65, 3), (4, 0.45, 2), (5, 0.5, 3), (3, 0.5, 2), (1, 0.45, 0), (1, 0.65, 1), (256, 0.65, 166)],
)
def test_top_mask_hides_the_rounded_share_of_the_highest(elements: int, ratio: float, hidden: int) -> None:
    attention = torch.rand(3, elements, generator=generator())
    mask = top_mask(attention, ratio=ratio)
    assert mask.sum(dim=1).tolist() == [hidden] * 3
    for row, chosen in zip(attention, mask, strict=True):
        assert set(row[chosen].tolist()) == set(sorted(row.tolist(), reverse=True)[:hidden])


def test_top_mask_keeps_the_shape_of_a_map() -> None:
    attention = torch.tensor([[[0.1, 0.4], [0.3, 0.2]], [[0.9, 0.4], [0.3, 0.2]]])
    assert top_mask(attention, ratio=0.25).tolist() == [[[False, True], [False, False]], [[True, False], [False, False]]]


ATTENTION = torch.tensor([[0.2, 1.8, 0.8, 1.2], [1.0, 0.0, 3.0, 0.0]])


@pytest.mark.parametrize(
    ("switches", "hidden"),
    [
        ({}, [[1], [2]]),
        ({"hide": "lowest"}, [[0], [1]]),
        ({"threshold": 1.0}, [[1, 3], [0, 2]]),
        ({"threshold": 0.8, "hide": "lowest"}, [[0, 2], [1, 3]]),
        ({"threshold": 9.0}, [[], []]),
    ],
)
def test_attention_mask_by_hand(switches: dict[str, Any], hidden: list[list[int]]) -> None:
    mask = attention_mask(ATTENTION, ratio=0.25, **switches)
    assert [row.nonzero().flatten().tolist() for row in mask] == hidden


def test_attention_mask_at_random_hides_a_share_whatever_the_attention() -> None:
    attention = torch.rand(2, 8, 8)
    first = attention_mask(attention, ratio=0.5, hide="random", generator=generator(1))
    assert first.sum(dim=(1, 2)).tolist() == [32, 32]
    assert not torch.equal(first[0], first[1])
    assert torch.equal(first, attention_mask(attention.square(), ratio=0.5, hide="random", generator=generator(1)))
    assert not torch.equal(first, attention_mask(attention, ratio=0.5, hide="random", generator=generator(2)))


@pytest.mark.parametrize(
    ("switches", "message"),
    [
        ({"hide": "high"}, "hide is 'high', not one of highest, lowest, random"),
        ({"hide": "random"}, "need a generator"),
        ({"hide": "random", "threshold": 1.0, "generator": generator()}, "have a ratio, no threshold"),
    ],
)
def test_attention_mask_refuses(switches: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attention_mask(ATTENTION, ratio=0.5, **switches)
