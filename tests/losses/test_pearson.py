"""Semantic alignment: standardised features, and Pearson's correlation behind them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dfmsd.losses import pearson_loss, standardise


def pair(shape: tuple[int, ...] = (2, 3, 4, 5), dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator, dtype=dtype), torch.randn(shape, generator=generator, dtype=dtype)


def test_standardised_channels_have_mean_0_and_unbiased_variance_1() -> None:
    feat = pair()[0] * 7 + 3
    result = standardise(feat)
    torch.testing.assert_close(result.mean(dim=(0, 2, 3)), torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(result.var(dim=(0, 2, 3)), torch.ones(3, dtype=torch.float64), rtol=1e-5, atol=0)


def test_loss_is_one_minus_the_correlation() -> None:
    """Mean over the channels of (1 - r)(n - 1)/n with numpy's own correlation; 1e-6 beside the deviation is the difference."""
    feat_s, feat_t = pair()
    n = 2 * 4 * 5
    columns = [(s.ravel(), t.ravel()) for s, t in zip(feat_s.transpose(0, 1).numpy(), feat_t.transpose(0, 1).numpy(), strict=True)]
    expected = np.mean([(1 - np.corrcoef(s, t)[0, 1]) * (n - 1) / n for s, t in columns])
    assert pearson_loss(feat_s, feat_t).item() == pytest.approx(expected, rel=1e-5)


def test_scale_and_offset_of_a_channel_do_not_matter_but_its_shape_does() -> None:
    feat_s, feat_t = pair()
    scale, offset = torch.tensor([0.5, 2.0, 30.0]).view(1, 3, 1, 1), torch.tensor([-4.0, 0.0, 9.0]).view(1, 3, 1, 1)
    plain = pearson_loss(feat_s, feat_t)
    torch.testing.assert_close(pearson_loss(feat_s * scale + offset, feat_t), plain, rtol=1e-5, atol=0)
    assert pearson_loss(feat_s**3, feat_t).item() != pytest.approx(plain.item(), rel=1e-3)


def test_a_scale_that_differs_between_images_matters() -> None:
    """Statistics are over the batch, not per image."""
    feat = pair()[0]
    per_image = torch.tensor([1.0, 10.0]).view(2, 1, 1, 1)
    assert pearson_loss(feat * 10, feat).item() < 1e-9
    assert pearson_loss(feat * per_image, feat).item() > 0.1


def test_opposite_maps_have_twice_the_loss_of_unrelated_ones() -> None:
    feat = pair()[0]
    assert pearson_loss(-feat, feat).item() == pytest.approx(2 * 39 / 40, rel=1e-5)


def test_one_element_per_channel_is_0_with_a_gradient_of_0() -> None:
    feat_s = torch.ones(1, 3, 1, 1, requires_grad=True)
    loss = pearson_loss(feat_s, torch.full((1, 3, 1, 1), 5.0))
    loss.backward()
    assert loss.item() == 0.0
    assert feat_s.grad is not None
    assert torch.equal(feat_s.grad, torch.zeros(1, 3, 1, 1))


def test_constant_channels_leave_loss_and_gradient_finite() -> None:
    feat_s = torch.full((2, 3, 4, 4), 0.25, requires_grad=True)
    loss = pearson_loss(feat_s, torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)))
    loss.backward()
    # A constant has correlation 0 with anything, but half of its squared error is missing: (n - 1) / 2n.
    assert loss.item() == pytest.approx(31 / 64, rel=1e-4)
    assert feat_s.grad is not None
    assert feat_s.grad.isfinite().all()


def test_gradient() -> None:
    feat_s, feat_t = pair((2, 2, 3, 2))
    assert torch.autograd.gradcheck(lambda s: pearson_loss(s, feat_t), feat_s.requires_grad_())
