"""The attention maps against NumPy in float64, written from the equations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dfmsd.losses import channel_attention, spatial_attention


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


def test_each_image_sums_to_its_number_of_elements() -> None:
    feat = torch.randn(3, 7, 4, 6, generator=torch.Generator().manual_seed(0)) * 4
    torch.testing.assert_close(spatial_attention(feat, tau=0.5).sum(dim=(1, 2)), torch.full((3,), 24.0))
    torch.testing.assert_close(channel_attention(feat, tau=0.5).sum(dim=1), torch.full((3,), 7.0))


def test_images_of_a_batch_do_not_meet() -> None:
    feat = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    changed = torch.cat([feat[:1], 100 * feat[1:]])
    assert torch.equal(spatial_attention(feat, tau=0.5)[0], spatial_attention(changed, tau=0.5)[0])
    assert torch.equal(channel_attention(feat, tau=0.5)[0], channel_attention(changed, tau=0.5)[0])


def test_huge_features_stay_finite() -> None:
    feat = torch.tensor([[[[0.0, 1e6]]]])
    assert spatial_attention(feat, tau=0.5).tolist() == [[[0.0, 2.0]]]


def test_one_pixel_has_all_the_attention() -> None:
    assert spatial_attention(torch.full((2, 3, 1, 1), 5.0), tau=0.5).tolist() == [[[1.0]], [[1.0]]]
