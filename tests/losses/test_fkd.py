"""FKD against NumPy in float64, written from its equations."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from mmcv.cnn import NonLocal2d
from numpy.typing import NDArray
from torch import Tensor, nn

from dfmsd.losses.fkd import NonLocal, fkd_channel, fkd_feature, fkd_nonlocal, fkd_spatial, fkd_weights
from tests.losses import helpers
from tests.losses.helpers import run

Array = NDArray[np.float64]
MASKS: list[Any] = ["spatial", "spatial_channel"]
SAME = nn.Identity()

maps = partial(helpers.maps, dtype=torch.float64)
method = partial(helpers.method, "fkd", strides=(8,), tau=0.5, alpha=1.0, beta=1.0)


def pure(feat_s: Tensor, feat_t: Tensor, mask: Any = "spatial_channel") -> list[Tensor]:
    """The four terms with nothing learnt."""
    return [
        fkd_feature(feat_s, feat_t, tau=0.5, mask=mask, adapt=SAME),
        fkd_channel(feat_s, feat_t, adapt=SAME),
        fkd_spatial(feat_s, feat_t, adapt=SAME),
        fkd_nonlocal(feat_s, feat_t, relate_s=SAME, relate_t=SAME, adapt=SAME),
    ]


def value(module: Any, name: str) -> Array:
    return np.asarray(module.get_parameter(name).detach().numpy(), dtype=np.float64)


def dense(x: Array, layer: Any) -> Array:
    """A 1 x 1 convolution of ``(B, C, ...)``, or a linear layer."""
    weight, bias = value(layer, "weight").reshape(layer.weight.shape[:2]), value(layer, "bias")
    return np.asarray(np.einsum("oc,bc...->bo...", weight, x) + bias.reshape(-1, *[1] * (x.ndim - 2)))


def plain_weights(s: Array, t: Array, tau: float, mask: Any) -> Array:
    weight = np.zeros((len(s), 1, *s.shape[2:])), np.zeros((*s.shape[:2], 1, 1))
    for feat in (s, t):
        for total, axes, dims in zip(weight, ((1,), (2, 3)), ((2, 3), (1,)), strict=True):
            power = np.exp(np.abs(feat).mean(axes, keepdims=True) / tau)
            total += power / power.mean(dims, keepdims=True) / 2
    return weight[0] * weight[1] if mask == "spatial_channel" else weight[0] * np.ones_like(s)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("tau", [0.1, 0.5])
def test_every_term_equals_its_equation(tau: float, mask: Any) -> None:
    """The non-local blocks have the library's for a reference, below."""
    module = method(learnt=True, tau=tau, mask=mask).double()
    feat_s, feat_t = maps()
    s, t = feat_s.numpy(), feat_t.numpy()
    level = module.levels["8"]
    kernel, offset = value(level.adapt_spatial, "weight")[0, 0], value(level.adapt_spatial, "bias")
    padded = np.pad(s.mean(1), ((0, 0), (1, 1), (1, 1)))
    spatial = sum(kernel[i, j] * padded[:, i : i + 5, j : j + 6] for i in range(3) for j in range(3)) + offset
    related_s, related_t = (block(feat).detach().numpy() for block, feat in ((level.relate_s, feat_s), (level.relate_t, feat_t)))
    expected = {
        "feat": (plain_weights(s, t, tau, mask) * (t - dense(s, level.adapt_feature)) ** 2).sum() ** 0.5,
        "channel": ((t.mean((2, 3)) - dense(s.mean((2, 3)), level.adapt_channel)) ** 2).sum() ** 0.5,
        "spatial": ((t.mean(1) - spatial) ** 2).sum() ** 0.5,
        "nonlocal": ((related_t - dense(related_s, level.adapt_nonlocal)) ** 2).sum() ** 0.5,
    }
    terms = {name: term.item() for name, term in run(module, feat_s, feat_t).items()}
    assert terms == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("mask", MASKS)
def test_equal_features_have_loss_0_with_a_gradient_of_0(mask: Any) -> None:
    feat = maps()[0]
    feat_s = feat.clone().requires_grad_()
    terms = pure(feat_s, feat, mask)
    torch.stack(terms).sum().backward()
    assert [term.item() for term in terms] == [0.0] * 4
    assert feat_s.grad is not None
    assert not feat_s.grad.any()  # NaN would be true


@pytest.mark.parametrize("pool", [1, 2])
def test_non_local_block_is_the_librarys_in_another_order(pool: int) -> None:
    torch.manual_seed(0)
    feat = maps(shape=(2, 8, 5, 6))[0]
    block = NonLocal(8, width=3, pool=pool).double()
    library = NonLocal2d(8, reduction=3, sub_sample=pool == 2, mode="dot_product", norm_cfg={"type": "BN"}).double()
    own = block.block
    for one in own.parameters():
        nn.init.normal_(one)
    names = {name: name.replace("g.", "g.0.").replace("phi.", "phi.0.") if pool == 2 else name for name in own.state_dict()}
    library.load_state_dict({names[name]: one for name, one in own.state_dict().items()})
    torch.testing.assert_close(block(feat), library(feat))


def test_non_local_blocks_have_the_authors_widths_and_windows_by_level() -> None:
    module = method(channels_s=256, channels_t=256, strides=(64, 4, 8, 16, 32, 128))
    blocks = [module.levels[stride].relate_s for stride in ("4", "8", "16", "32", "64", "128")]
    assert [block.pool for block in blocks] == [8, 4, 2, 2, 2, 2]
    assert [block.block.theta.conv.out_channels for block in blocks] == [64, 64, 128, 128, 128, 128]


def test_non_local_block_starts_as_the_identity_and_is_never_wider_than_the_map() -> None:
    feat = maps(dtype=torch.float32)[0]
    block = method().levels["8"].relate_s
    assert torch.equal(block(feat), feat)
    assert block.block.theta.conv.out_channels == 4


def test_gradient() -> None:
    feat_s, feat_t = maps(shape=(2, 2, 2, 3))
    level = method(learnt=True, channels_s=2, channels_t=2).double().levels["8"]
    relations = {"relate_s": level.relate_s, "relate_t": level.relate_t, "adapt": level.adapt_nonlocal}

    def terms(s: Tensor) -> tuple[Tensor, ...]:
        return (
            fkd_channel(s, feat_t, adapt=level.adapt_channel),
            fkd_spatial(s, feat_t, adapt=level.adapt_spatial),
            fkd_nonlocal(s, feat_t, **relations),
        )

    assert torch.autograd.gradcheck(terms, feat_s.requires_grad_())


@pytest.mark.parametrize("mask", MASKS)
def test_attention_weights_are_constants_to_the_gradient(mask: Any) -> None:
    feat_s, feat_t = maps(shape=(2, 2, 2, 3))
    sp, ch = fkd_weights(feat_s, feat_t, tau=0.5, mask=mask)
    feat_s.requires_grad_()
    frozen = ((sp.unsqueeze(1) * ch[:, :, None, None]) * (feat_t - torch.sin(feat_s)) ** 2).sum().sqrt()
    loss = fkd_feature(feat_s, feat_t, tau=0.5, mask=mask, adapt=torch.sin)
    torch.testing.assert_close(torch.autograd.grad(loss, feat_s), torch.autograd.grad(frozen, feat_s))


def test_a_single_value_is_standardised_to_the_offset_as_two_equal_ones_are() -> None:
    block = NonLocal(4, width=64, pool=8)
    nn.init.normal_(block.block.conv_out.norm.weight)
    nn.init.normal_(block.block.conv_out.norm.bias)
    feat = torch.ones(1, 4, 1, 1)
    torch.testing.assert_close(block(feat), feat + block.block.conv_out.norm.bias.view(1, 4, 1, 1))
    torch.testing.assert_close(block(feat.expand(2, -1, -1, -1))[:1], block(feat))
    assert block.block.conv_out.norm.running_var.isfinite().all()
