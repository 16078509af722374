"""How alike features are: every number against one worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor

from dfmsd.losses import spatial_attention, standardise
from dfmsd.report import likeness
from dfmsd.report.likeness import Alignment, ChannelSums, Moments

MAP = torch.tensor([[1.0, 2.0], [3.0, 6.0]])


def feats(seed: int, channels: int = 3, side: int = 5) -> Tensor:
    return torch.randn(1, channels, side, side, generator=torch.Generator().manual_seed(seed))


def test_magnitude_is_what_attention_is_a_softmax_of() -> None:
    feat = feats(0)
    energy = likeness.magnitude(feat)
    assert_allclose(spatial_attention(energy[None, None], tau=0.5), spatial_attention(feat, tau=0.5), rtol=1e-6)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (MAP, 1.0),
        (5 * MAP + 2, 1.0),
        (-MAP, -1.0),
        (torch.zeros(2, 2), None),
        (torch.full((2, 2), 1e6), None),
        # Centred: (-2, -1, 0, 3) and (1, -1, -1, 1): products -2 + 1 + 0 + 3 = 2, squares 14 and 4.
        (torch.tensor([[2.0, 0.0], [0.0, 2.0]]), 2 / 56**0.5),
    ],
)
def test_correlation_of_maps(other: Tensor, expected: float | None) -> None:
    found = likeness.map_correlation(MAP, other)
    assert found is None if expected is None else found == pytest.approx(expected, abs=1e-4)


def test_masks_agree_by_the_share_of_cells_that_both_hide() -> None:
    reverse = torch.tensor([[6.0, 3.0], [2.0, 1.0]])
    assert likeness.mask_agreement(MAP, MAP, ratio=0.5) == 1.0
    assert likeness.mask_agreement(MAP, reverse, ratio=0.5) == 0.0
    assert likeness.mask_agreement(MAP, reverse, ratio=0.75) == pytest.approx(2 / 3, abs=1e-4)


def test_a_box_touches_the_cells_that_it_reaches_into() -> None:
    boxes = torch.tensor([[0.0, 0.0, 8.0, 8.0], [23.0, 15.5, 24.5, 16.5]])  # one cell exactly, and a corner of four
    expected = torch.zeros(4, 4, dtype=torch.bool)
    expected[0, 0] = True
    expected[1:3, 2:4] = True
    assert likeness.touched(boxes, stride=8, size=(4, 4)).equal(expected)
    assert not likeness.touched(torch.zeros(0, 4), stride=8, size=(4, 4)).any()


def test_objectness_is_the_chance_that_an_object_stands_out() -> None:
    inside = torch.tensor([[False, True], [False, True]])
    # 2 and 6 inside, 1 and 3 outside: 2 > 1, 6 > 1, 6 > 3.
    assert likeness.objectness(MAP, inside) == 0.75
    assert likeness.objectness(torch.ones(2, 2), inside) == 0.5
    assert likeness.objectness(-MAP, inside) == 0.25
    assert likeness.objectness(MAP.exp(), inside) == 0.75, "an increasing function changes nothing"
    assert likeness.objectness(MAP, torch.ones(2, 2, dtype=torch.bool)) is None
    assert likeness.objectness(MAP, torch.zeros(2, 2, dtype=torch.bool)) is None


def sums_of(pairs: list[tuple[Tensor, Tensor]]) -> ChannelSums:
    sums = ChannelSums()
    for pair in pairs:
        sums.add(*pair)
    return sums


@pytest.mark.parametrize(("factor", "expected"), [(1.0, 1.0), (3.0, 1.0), (-1.0, -1.0), (0.0, 0.0)])
def test_channels_correlate_with_themselves(factor: float, expected: float) -> None:
    found = sums_of([(factor * feats(seed) + 7, feats(seed)) for seed in range(4)]).interval()
    assert (found.value, found.low, found.high) == (expected, expected, expected)


def test_channel_correlation_is_that_of_equation_5_over_all_images() -> None:
    feat_s, feat_t = (torch.cat([feats(seed) for seed in seeds]) for seeds in (range(4), range(4, 8)))
    product = (standardise(feat_s) * standardise(feat_t)).sum(dim=(0, 2, 3)) / (feat_t[:, 0].numel() - 1)
    found = sums_of([(s[None], t[None]) for s, t in zip(feat_s, feat_t, strict=True)])
    assert_allclose(found.correlations(np.ones((1, 4)))[0], product, atol=1e-5)
    interval = found.interval()
    assert interval.value == pytest.approx(product.mean().item(), abs=1e-4)
    assert interval.low < interval.value < interval.high


def test_an_image_of_weight_two_counts_as_twice_the_image() -> None:
    pairs = [(feats(seed), feats(seed + 9)) for seed in range(3)]
    weighted = sums_of(pairs).correlations(np.array([[1.0, 2.0, 0.0]]))
    assert_allclose(weighted, sums_of([pairs[0], pairs[1], pairs[1]]).correlations(np.ones((1, 3))))


def test_an_alignment_undoes_order_scale_and_mixture() -> None:
    mixture = torch.tensor([[0.0, 2.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, -3.0]])
    fit = Alignment()
    for seed in range(20):
        fit.add(feats(seed), torch.einsum("tc,bchw->bthw", mixture, feats(seed)) + 4)
    other = feats(99)
    target = torch.einsum("tc,bchw->bthw", mixture, other) + 4
    assert_allclose(likeness.align(other, fit.solve()), target, atol=0.02)
    assert sums_of([(likeness.align(other, fit.solve()), target)]).interval().value == pytest.approx(1.0, abs=1e-4)


def test_an_alignment_cannot_make_something_of_nothing() -> None:
    fit = Alignment()
    for seed in range(50):
        fit.add(feats(seed), feats(seed + 1000))
    pairs = [(likeness.align(feats(seed), fit.solve()), feats(seed + 1000)) for seed in range(50, 100)]
    assert abs(sums_of(pairs).interval().value) < 0.1


def test_channels_that_are_copies_have_an_alignment() -> None:
    feat = feats(0, channels=1).expand(1, 3, 5, 5)
    fit = Alignment()
    fit.add(feat, feat[:, :2])
    assert fit.solve().shape == (4, 2)
    assert_allclose(likeness.align(feat, fit.solve()), feat[:, :2], atol=0.01)


def distribution(feat: Tensor, bins: np.ndarray | None = None) -> likeness.Values:
    moments = Moments()
    moments.add(feat)
    bins = likeness.edges([moments]) if bins is None else bins
    return likeness.values(likeness.counted(feat, bins), bins, moments)


def test_a_distribution_has_mass_one_and_the_moments_of_its_values() -> None:
    feat = feats(0, side=40) * 3 + 1
    found = distribution(feat)
    width = (found.high - found.low) / len(found.density)
    assert sum(found.density) * width == pytest.approx(1.0, abs=1e-3)
    assert (found.mean, found.std) == pytest.approx((feat.mean().item(), feat.std(correction=0).item()), rel=1e-3)
    assert len(found.density) == likeness.BINS


def test_bins_hold_the_network_that_reaches_furthest() -> None:
    narrow, wide = Moments(), Moments()
    narrow.add(torch.tensor([-1.0, 1.0]))
    wide.add(torch.tensor([5.0, 15.0]))
    bins = likeness.edges([narrow, wide])
    assert (bins[0], bins[-1]) == (-10.0, 30.0)


@pytest.mark.parametrize("value", [0.0, 5.0, -1e6])
def test_a_constant_level_has_bins(value: float) -> None:
    found = distribution(torch.full((1, 2, 4, 4), value))
    assert found.std == 0.0 and max(found.density) > 0


def test_distance_of_distributions() -> None:
    feat = feats(0, side=40)
    bins = np.linspace(-12, 12, likeness.BINS * 4 + 1)
    own, shifted, wider = (distribution(one, bins) for one in (feat, feat + 2, 2 * feat))
    assert likeness.distance(own, own, standardised=False) == 0.0
    assert likeness.distance(shifted, own, standardised=False) == pytest.approx(2 / own.std, abs=0.02)
    assert likeness.distance(shifted, own, standardised=True) == pytest.approx(0.0, abs=0.03)
    assert likeness.distance(wider, own, standardised=False) > 0.5 > 0.06 > likeness.distance(wider, own, standardised=True)
