"""MGD against NumPy in float64, written from its equations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dfmsd.losses import mgd_loss
from tests.losses.helpers import maps, method, run


def test_equation_with_a_linear_generation() -> None:
    """Hidden positions are 0 in every channel, and the error counts there and elsewhere."""
    rng = np.random.default_rng(1)
    s, t = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(2, 3, 4, 5))
    hidden = rng.random((2, 1, 4, 5)) < 0.5
    expected = sum(((2.5 * np.where(hidden[b], 0, s[b]) + 1 - t[b]) ** 2).sum() for b in range(2)) / 2
    loss = mgd_loss(torch.from_numpy(s), torch.from_numpy(t), hidden=torch.from_numpy(hidden), generate=lambda x: 2.5 * x + 1)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_nothing_hidden_and_identity_is_the_squared_error_over_b() -> None:
    feat_s, feat_t = maps()
    module = method("mgd", ratio=0.0, alpha=1.0, strides=(8,))
    module.levels["8"].generate = torch.nn.Identity()
    torch.testing.assert_close(run(module, feat_s, feat_t), {"rec": ((feat_s - feat_t) ** 2).sum() / 2})


def test_gradient() -> None:
    feat_s, feat_t = maps(dtype=torch.float64, shape=(2, 2, 3, 3))
    module = method("mgd", channels_s=2, channels_t=2, strides=(8,), alpha=1.0).double()
    assert torch.autograd.gradcheck(lambda s: run(module, s, feat_t)["rec"], feat_s.requires_grad_())
