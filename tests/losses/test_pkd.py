"""PKD against NumPy in float64; what its per-level loss is made of is tested in test_pearson.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dfmsd.losses import channels as _channels
from dfmsd.losses import pearson_loss
from dfmsd.losses.pkd import pkd_loss
from tests.losses.helpers import maps, method, run


def test_equation() -> None:
    """Each channel over batch and positions: minus its mean, by its unbiased deviation plus 1e-6."""
    feat_s, feat_t = (feat * 5 + 3 for feat in maps(dtype=torch.float64))
    expected = 0.0
    for channel in range(4):
        s, t = (feat[:, channel].numpy().ravel() for feat in (feat_s, feat_t))
        norm_s, norm_t = ((x - x.mean()) / (np.sqrt(((x - x.mean()) ** 2).sum() / 59) + 1e-6) for x in (s, t))
        expected += ((norm_s - norm_t) ** 2).sum()
    assert pkd_loss(feat_s, feat_t).item() == pytest.approx(expected / (2 * 4 * 60), rel=1e-12)


@pytest.mark.parametrize("block", [1, 2 * 5 * 6 * 2, 2**17])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_blocks_and_formula_give_the_value_and_gradient_of_the_whole_map(
    block: int, dtype: torch.dtype, bound: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One, two or all of the four channels at a time, one of them constant; the reference is differentiated automatically."""
    monkeypatch.setitem(_channels.BLOCK, "cpu", block)
    feat_s, feat_t = (feat * 5 + 3 for feat in maps(dtype=dtype))
    feat_s[:, 1] = 0.25
    feat_s.requires_grad_()
    plain, ours = pearson_loss(feat_s, feat_t), pkd_loss(feat_s, feat_t)
    torch.testing.assert_close(ours, plain, rtol=bound, atol=0)
    expected, found = (torch.autograd.grad(3 * value, feat_s)[0] for value in (plain, ours))
    for channel in range(4):  # the constant one's is a million times as large
        scale = expected[:, channel].abs().max().item()
        torch.testing.assert_close(found[:, channel], expected[:, channel], rtol=0, atol=bound * scale)


def test_by_hand() -> None:
    """(-1, 1) and (1, -1), each over sqrt(2): a difference of sqrt(2), whose square is halved."""
    feat = torch.tensor([[[[-3.0, 3.0]]]])
    assert pkd_loss(feat, -feat).item() == pytest.approx(1.0, rel=1e-5)


def test_a_channels_scale_and_offset_do_not_matter_but_an_images_scale_does() -> None:
    feat_s, feat_t = maps(dtype=torch.float64)
    scale = torch.tensor([0.5, 2.0, 30.0, 1.0], dtype=torch.float64).view(1, 4, 1, 1)
    torch.testing.assert_close(pkd_loss(feat_s * scale - 7, feat_t), pkd_loss(feat_s, feat_t), rtol=1e-5, atol=0)
    assert pkd_loss(feat_t * scale - 7, feat_t) < 1e-9
    assert pkd_loss(feat_t * torch.tensor([1.0, 10.0]).view(2, 1, 1, 1), feat_t) > 0.1


@pytest.mark.parametrize(
    ("levels", "used"), [(None, (8, 16, 32, 64, 128)), (4, (8, 16, 32, 64)), (2, (8, 16)), (9, (8, 16, 32, 64, 128))]
)
def test_the_finest_levels_take_part_whatever_their_order(levels: int | None, used: tuple[int, ...]) -> None:
    strides = (128, 8, 32, 16, 64)
    levels_s = {stride: maps()[0][..., : 1 + i, :] for i, stride in enumerate(strides)}
    levels_t = {stride: maps()[1][..., : 1 + i, :] for i, stride in enumerate(strides)}
    terms = run(method("pkd", strides=strides, levels=levels, alpha=6.0), levels_s, levels_t)
    expected = 6 * torch.stack([pkd_loss(levels_s[stride], levels_t[stride]) for stride in used]).sum()
    torch.testing.assert_close(terms, {"feat": expected})


def test_levels_that_take_no_part_have_no_projection() -> None:
    assert list(method("pkd", channels_s=3, strides=(32, 16, 8), levels=2).align) == ["8", "16"]


def test_gradient() -> None:
    feat_s, feat_t = maps(dtype=torch.float64, shape=(2, 2, 3, 2))
    assert torch.autograd.gradcheck(lambda s: pkd_loss(s, feat_t), feat_s.requires_grad_())


def test_one_pixel_and_constant_maps() -> None:
    feat_s, feat_t = maps(shape=(2, 4, 1, 1))
    assert pkd_loss(feat_s[:1], feat_t[:1]).item() == 0.0
    # Two values a channel have a correlation of 1 or -1, and (n - 1) / n is a half: 0 or 1 a channel.
    signs = ((feat_s[0] - feat_s[1]) * (feat_t[0] - feat_t[1])).sign()
    assert pkd_loss(feat_s, feat_t).item() == pytest.approx((signs < 0).double().mean().item(), rel=1e-4)
    constant = torch.full((2, 4, 5, 6), 0.25)
    assert pkd_loss(constant, maps()[1]).item() == pytest.approx(59 / 120, rel=1e-4)
    assert pkd_loss(constant, 2 * constant).item() == 0.0
