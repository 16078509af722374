"""Semantic alignment: standardised features, and Pearson's correlation behind them."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from dfmsd.losses import pearson, pearson_loss, standardise
from tests.losses.helpers import maps

pair = partial(maps, shape=(2, 3, 4, 5), dtype=torch.float64)


def plain(feat_s: torch.Tensor, feat_t: torch.Tensor) -> torch.Tensor:
    """Both maps standardised whole, differentiated automatically."""
    return (standardise(feat_s) - standardise(feat_t)).square().mean() / 2


def test_equation() -> None:
    """Each channel over batch and positions: minus its mean, by its unbiased deviation plus 1e-6."""
    feat_s, feat_t = (feat * 5 + 3 for feat in pair())
    expected = 0.0
    for channel in range(3):
        s, t = (feat[:, channel].numpy().ravel() for feat in (feat_s, feat_t))
        norm_s, norm_t = ((x - x.mean()) / (np.sqrt(((x - x.mean()) ** 2).sum() / 39) + 1e-6) for x in (s, t))
        expected += ((norm_s - norm_t) ** 2).sum()
    assert pearson_loss(feat_s, feat_t).item() == pytest.approx(expected / (2 * 3 * 40), rel=1e-12)


@pytest.mark.parametrize("block", [1, 2 * 4 * 5 * 2, 2**17])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_blocks_and_formula_give_the_value_and_gradient_of_the_whole_map(
    block: int, dtype: torch.dtype, bound: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One, two or all of the three channels at a time, one of them constant."""
    monkeypatch.setitem(pearson.BLOCK, "cpu", block)
    feat_s, feat_t = (feat * 5 + 3 for feat in pair(dtype=dtype))
    feat_s[:, 1] = 0.25
    feat_s.requires_grad_()
    expected, found = plain(feat_s, feat_t), pearson_loss(feat_s, feat_t)
    torch.testing.assert_close(found, expected, rtol=bound, atol=0)
    slopes, ours = (torch.autograd.grad(3 * value, feat_s)[0] for value in (expected, found))
    for channel in range(3):  # the constant one's is a million times as large
        scale = slopes[:, channel].abs().max().item()
        torch.testing.assert_close(ours[:, channel], slopes[:, channel], rtol=0, atol=bound * scale)


def test_loss_is_one_minus_the_correlation() -> None:
    """Mean over the channels of (1 - r)(n - 1)/n with numpy's own correlation; 1e-6 beside the deviation is the difference."""
    feat_s, feat_t = pair()
    n = 2 * 4 * 5
    columns = [(s.ravel(), t.ravel()) for s, t in zip(feat_s.transpose(0, 1).numpy(), feat_t.transpose(0, 1).numpy(), strict=True)]
    expected = np.mean([(1 - np.corrcoef(s, t)[0, 1]) * (n - 1) / n for s, t in columns])
    assert pearson_loss(feat_s, feat_t).item() == pytest.approx(expected, rel=1e-5)


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
    feat_s, feat_t = pair(shape=(2, 2, 3, 2))
    assert torch.autograd.gradcheck(lambda s: pearson_loss(s, feat_t), feat_s.requires_grad_())
