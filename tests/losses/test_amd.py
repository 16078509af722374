"""AMD against NumPy in float64, and against DMKD, whose spatial branch it is."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from dfmsd.losses import amd_loss, amd_mask
from tests.losses import helpers
from tests.losses.helpers import run

MASKING: dict[str, Any] = {"tau": 0.5, "ratio": 0.65}

maps = partial(helpers.maps, shape=(2, 8, 4, 5))
method = partial(helpers.method, channels_s=8, channels_t=8, alpha=1.0, se_ratio=4)


@pytest.mark.parametrize(("ratio", "count"), [(0.65, 13), (0.45, 9), (0.0, 0), (1.0, 20)])
def test_equation_with_a_linear_branch(ratio: float, count: int) -> None:
    """The positions of largest mean |T| are hidden in every channel; the error counts there and elsewhere."""
    s, t = (feat.numpy() for feat in maps(dtype=torch.float64))
    expected = 0.0
    for b in range(2):
        hidden = np.zeros(20, bool)
        hidden[np.argsort(-np.abs(t[b]).mean(0).ravel())[:count]] = True
        expected += ((2.5 * np.where(hidden.reshape(4, 5), 0, s[b]) + 1 - t[b]) ** 2).sum()
    mask = amd_mask(torch.from_numpy(t), tau=0.5, ratio=ratio)
    loss = amd_loss(torch.from_numpy(s), torch.from_numpy(t), hidden=mask, branch=lambda x: 2.5 * x + 1)
    assert loss.item() == pytest.approx(expected / 2, rel=1e-12)


def test_it_is_dmkd_where_fusion_chooses_the_spatial_branch_alone() -> None:
    feat_s, feat_t = maps()[0][:, :6], maps()[1]
    amd, dmkd = (method(name, channels_s=6, strides=(8,)) for name in ("amd", "dmkd"))
    level = dmkd.levels["8"]
    level.align.load_state_dict(amd.levels["8"].align.state_dict())
    level.branch_sp.load_state_dict(amd.levels["8"].generate.state_dict())
    different = run(dmkd, feat_s, feat_t)["rec"]
    level.fusion.data = torch.tensor([200.0, -200.0])
    torch.testing.assert_close(run(amd, feat_s, feat_t), run(dmkd, feat_s, feat_t))
    assert abs(run(amd, feat_s, feat_t)["rec"] - different) > 1e-3


@pytest.mark.parametrize(
    "switches", [{"hide": "lowest"}, {"threshold": 1.1}, {"threshold": 0.9, "hide": "lowest"}, {"hide": "random"}], ids=str
)
def test_another_rule_hides_other_positions(switches: dict[str, Any]) -> None:
    feat_s, feat_t = maps()
    hidden = amd_mask(feat_t, **MASKING, **switches, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(hidden, amd_mask(feat_t, **MASKING))
    module = method("amd", strides=(8,), **switches)
    expected = amd_loss(feat_s, feat_t, hidden=hidden, branch=module.levels["8"].generate)
    torch.testing.assert_close(run(module, feat_s, feat_t), {"rec": expected})


def test_gradient() -> None:
    feat_s, feat_t = maps(dtype=torch.float64, shape=(2, 4, 3, 3))
    module = method("amd", channels_s=4, channels_t=4, strides=(8,)).double()
    assert torch.autograd.gradcheck(lambda s: run(module, s, feat_t)["rec"], feat_s.requires_grad_())
