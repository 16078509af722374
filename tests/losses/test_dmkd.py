"""DMKD against NumPy in float64, written from the equations."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dfmsd.losses import dmkd_loss, dmkd_reconstruction, dual_masks
from tests.losses import helpers
from tests.losses.helpers import run

RATIOS: dict[str, Any] = {"tau": 0.5, "spatial_ratio": 0.65, "channel_ratio": 0.45}

maps = partial(helpers.maps, shape=(2, 16, 4, 5))
method = partial(helpers.method, "dmkd", channels_s=16, channels_t=16, strides=(8,), alpha=1.0, se_ratio=4, **RATIOS)


def plain_masks(t: np.ndarray, spatial_ratio: float, channel_ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """Where |T| is largest on average; softmax and temperature keep the order."""
    b, c, h, w = t.shape
    hidden_sp, hidden_ch = np.zeros((b, h * w), bool), np.zeros((b, c), bool)
    for i in range(b):
        hidden_sp[i, np.argsort(-np.abs(t[i]).mean(0).ravel())[: int(np.floor(spatial_ratio * h * w + 0.5))]] = True
        hidden_ch[i, np.argsort(-np.abs(t[i]).mean((1, 2)))[: int(np.floor(channel_ratio * c + 0.5))]] = True
    return hidden_sp.reshape(b, 1, h, w), hidden_ch.reshape(b, c, 1, 1)


def test_masks_hide_the_teachers_highest_attention() -> None:
    feat_t = maps()[1]
    hidden_sp, hidden_ch = dual_masks(feat_t, **RATIOS)
    expected_sp, expected_ch = plain_masks(feat_t.numpy(), 0.65, 0.45)
    assert np.array_equal(hidden_sp.numpy(), expected_sp)
    assert np.array_equal(hidden_ch.numpy(), expected_ch)
    assert hidden_sp.sum(dim=(1, 2, 3)).tolist() == [13, 13]
    assert hidden_ch.sum(dim=(1, 2, 3)).tolist() == [7, 7]


@pytest.mark.parametrize("tau", [0.1, 5.0])
def test_masks_of_a_fixed_share_do_not_depend_on_the_temperature(tau: float) -> None:
    feat_t = maps()[1]
    for mask, reference in zip(dual_masks(feat_t, **(RATIOS | {"tau": tau})), dual_masks(feat_t, **RATIOS), strict=True):
        assert torch.equal(mask, reference)


def test_masks_by_a_threshold_hide_what_is_beyond_it() -> None:
    """Here the temperature counts: the attention itself is compared."""
    t = maps(dtype=torch.float64)[1].numpy()
    spatial, channel = (np.exp(np.abs(t).mean(axis) / 0.5) for axis in (1, (2, 3)))
    spatial *= 20 / spatial.sum((1, 2), keepdims=True)
    channel *= 16 / channel.sum(1, keepdims=True)
    thresholds = {"spatial_threshold": 1.1, "channel_threshold": 0.9}
    for hide, expected in (("highest", (spatial >= 1.1, channel >= 0.9)), ("lowest", (spatial <= 1.1, channel <= 0.9))):
        hidden_sp, hidden_ch = dual_masks(torch.from_numpy(t), **RATIOS, **thresholds, hide=hide)  # type: ignore[arg-type]
        assert np.array_equal(hidden_sp[:, 0].numpy(), expected[0]) and np.array_equal(hidden_ch[..., 0, 0].numpy(), expected[1])


def test_the_lowest_share_is_what_the_highest_leaves() -> None:
    feat_t = maps()[1]
    lowest = dual_masks(feat_t, tau=0.5, spatial_ratio=0.35, channel_ratio=0.5, hide="lowest")
    highest = dual_masks(feat_t, tau=0.5, spatial_ratio=0.65, channel_ratio=0.5)
    assert all(torch.equal(low, ~high) for low, high in zip(lowest, highest, strict=True))


def test_the_mean_weighs_levels_alike_and_the_sum_by_their_size() -> None:
    feats = [maps()[0], maps(shape=(2, 16, 2, 2))[0]]
    levels_s, levels_t = ({8: feats[0] + shift, 16: feats[1] + shift} for shift in (0, 1))
    for reduction, expected in (("sum", 16 * (4 * 5 + 2 * 2)), ("mean", 2)):
        module = method(strides=(8, 16), spatial_ratio=0.0, channel_ratio=0.0, reduction=reduction)
        for level in module.levels.values():
            level.branch_sp = level.branch_ch = nn.Identity()
        assert run(module, levels_s, levels_t)["rec"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("fusion", [(0.0, 0.0), (1.0, -2.0)])
def test_equation_with_linear_branches(fusion: tuple[float, float]) -> None:
    s, t = (feat.numpy() for feat in maps(dtype=torch.float64))
    hidden_sp, hidden_ch = plain_masks(t, 0.65, 0.45)
    weight = np.exp(fusion) / np.exp(fusion).sum()
    fused = weight[0] * (2 * np.where(hidden_sp, 0, s) - 1) + weight[1] * (0.5 * np.where(hidden_ch, 0, s) + 3)
    masks = dual_masks(torch.from_numpy(t), **RATIOS)
    made = dmkd_reconstruction(
        torch.from_numpy(s),
        hidden_sp=masks[0],
        hidden_ch=masks[1],
        branch_sp=lambda x: 2 * x - 1,
        branch_ch=lambda x: 0.5 * x + 3,
        fusion=torch.tensor(fusion, dtype=torch.float64),
    )
    assert dmkd_loss(made, torch.from_numpy(t)).item() == pytest.approx(((fused - t) ** 2).sum() / 2, rel=1e-12)
    assert dmkd_loss(made, torch.from_numpy(t), reduction="mean").item() == pytest.approx(((fused - t) ** 2).mean(), rel=1e-12)


def test_fusion_starts_even() -> None:
    assert method().levels["8"].fusion.tolist() == [0.0, 0.0]


def test_squeeze_and_excitation_is_a_sigmoid_gate_of_channels_by_their_means() -> None:
    feat = maps(dtype=torch.float64)[0]
    gate = method().double().levels["8"].branch_sp[0]
    squeeze, excite = (conv.conv for conv in (gate.conv1, gate.conv2))
    assert squeeze.out_channels == 16 // 4
    mean = feat.mean(dim=(2, 3)).numpy()
    inner = np.maximum(mean @ squeeze.weight.detach().numpy()[:, :, 0, 0].T + squeeze.bias.detach().numpy(), 0)
    outer = inner @ excite.weight.detach().numpy()[:, :, 0, 0].T + excite.bias.detach().numpy()
    expected = feat.numpy() / (1 + np.exp(-outer))[:, :, None, None]
    np.testing.assert_allclose(gate(feat).detach().numpy(), expected, rtol=1e-10)


def test_gradient() -> None:
    feat_s, feat_t = maps(dtype=torch.float64, shape=(1, 4, 3, 3))
    module = method(channels_s=4, channels_t=4).double()
    assert torch.autograd.gradcheck(lambda s: run(module, s, feat_t)["rec"], feat_s.requires_grad_())
