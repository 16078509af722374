"""AMD against NumPy in float64, and against DMKD, whose spatial branch it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dfmsd import methods
from dfmsd.losses import DMKD, mgd_loss, spatial_attention, top_mask
from dfmsd.losses.amd import AMD, amd_loss

MASKING = {"tau": 0.5, "ratio": 0.65}


def maps(dtype: torch.dtype = torch.float32, shape: tuple[int, ...] = (2, 8, 4, 5)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator, dtype=dtype), torch.randn(shape, generator=generator, dtype=dtype)


def method(**changes: Any) -> AMD:
    torch.manual_seed(0)
    fields = methods.AMD(strides=(8, 16), alpha=1.0, se_ratio=4).model_dump(exclude={"type"})
    return AMD(**({"channels_s": 8, "channels_t": 8} | fields | changes))


def run(module: Any, levels_s: dict[int, Tensor], levels_t: dict[int, Tensor]) -> Tensor:
    (term,) = module(levels_s, levels_t, [torch.empty(0, 4)] * 2, [], generator=torch.Generator()).items()
    assert term[0] == f"loss_{module.name}_rec"
    return term[1]  # type: ignore[no-any-return]


@pytest.mark.parametrize(("ratio", "count"), [(0.65, 13), (0.45, 9), (0.0, 0), (1.0, 20)])
def test_equation_with_a_linear_branch(ratio: float, count: int) -> None:
    """The positions of largest mean |T| are hidden in every channel; the error counts there and elsewhere."""
    s, t = (feat.numpy() for feat in maps(torch.float64))
    expected = 0.0
    for b in range(2):
        hidden = np.zeros(20, bool)
        hidden[np.argsort(-np.abs(t[b]).mean(0).ravel())[:count]] = True
        expected += ((2.5 * np.where(hidden.reshape(4, 5), 0, s[b]) + 1 - t[b]) ** 2).sum()
    loss = amd_loss(torch.from_numpy(s), torch.from_numpy(t), tau=0.5, ratio=ratio, branch=lambda x: 2.5 * x + 1)
    assert loss.item() == pytest.approx(expected / 2, rel=1e-12)


def test_it_is_dmkd_where_fusion_chooses_the_spatial_branch_alone() -> None:
    feat_s, feat_t = maps()[0][:, :6], maps()[1]
    amd = method(channels_s=6, strides=(8,))
    masking = {"tau": 0.5, "spatial_ratio": 0.65, "channel_ratio": 0.65}
    dmkd = DMKD(channels_s=6, channels_t=8, strides=(8,), alpha=1.0, se_ratio=4, **masking)
    level: Any = dmkd.levels["8"]
    level.align.load_state_dict(amd.align["8"].state_dict())
    level.branch_sp.load_state_dict(amd.branch["8"].state_dict())
    different = run(dmkd, {8: feat_s}, {8: feat_t})
    level.fusion.data = torch.tensor([200.0, -200.0])
    torch.testing.assert_close(run(amd, {8: feat_s}, {8: feat_t}), run(dmkd, {8: feat_s}, {8: feat_t}))
    assert abs(run(amd, {8: feat_s}, {8: feat_t}) - different) > 1e-3


def test_it_is_mgd_where_attention_draws_the_mask() -> None:
    feat_s, feat_t = maps()
    hidden = top_mask(spatial_attention(feat_t, tau=0.5), ratio=0.65).unsqueeze(1)
    branch = nn.Conv2d(8, 8, kernel_size=3, padding=1)
    torch.testing.assert_close(
        amd_loss(feat_s, feat_t, **MASKING, branch=branch), mgd_loss(feat_s, feat_t, hidden=hidden, generate=branch)
    )


def test_what_is_hidden_of_the_student_does_not_matter_and_the_rest_does() -> None:
    feat_s, feat_t = maps()
    hidden = top_mask(spatial_attention(feat_t, tau=0.5), ratio=0.65).unsqueeze(1)
    module, levels_t = method(strides=(8,)), {8: feat_t}
    plain = run(module, {8: feat_s}, levels_t)
    assert torch.equal(run(module, {8: torch.where(hidden, 9.0, feat_s)}, levels_t), plain)
    assert not torch.equal(run(module, {8: torch.where(hidden, feat_s, 9.0)}, levels_t), plain)


def test_levels_add_up_with_the_weight() -> None:
    feat_s, feat_t = maps()
    levels_s, levels_t = {8: feat_s, 16: feat_t}, {8: feat_t, 16: feat_s}
    parts = [amd_loss(levels_s[s], levels_t[s], **MASKING, branch=method().branch[str(s)]) for s in (8, 16)]
    torch.testing.assert_close(run(method(alpha=3.0), levels_s, levels_t), 3 * (parts[0] + parts[1]))
    assert not torch.allclose(parts[0], parts[1])


def test_the_same_inputs_give_the_identical_loss_whatever_the_generator_says() -> None:
    feat_s, feat_t = maps()
    module = method(strides=(8,))
    first = run(module, {8: feat_s}, {8: feat_t})
    torch.manual_seed(99)
    assert torch.equal(run(module, {8: feat_s}, {8: feat_t}), first)


def test_gradient() -> None:
    feat_s, feat_t = maps(torch.float64, (2, 4, 3, 3))
    module = method(channels_s=4, channels_t=4, strides=(8,)).double()
    assert torch.autograd.gradcheck(lambda s: run(module, {8: s}, {8: feat_t}), feat_s.requires_grad_())


def test_gradient_reaches_student_and_every_block_but_not_a_teacher_that_asks_for_it() -> None:
    feat_s, feat_t = maps()
    feat_s, feat_t = feat_s[:, :6].clone().requires_grad_(), feat_t.requires_grad_()
    module = method(channels_s=6)
    run(module, {8: feat_s, 16: feat_s}, {8: feat_t, 16: feat_t}).backward()
    assert feat_t.grad is None
    for tensor in (feat_s, *module.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.abs().sum() > 0


@pytest.mark.parametrize("shape", [(1, 8, 1, 1), (2, 8, 4, 4)])
def test_one_pixel_and_constant_maps(shape: tuple[int, ...]) -> None:
    """A tie hides the rounded share of the positions all the same: 1 of 1, or 10 of 16."""
    feat = torch.ones(shape)
    loss = amd_loss(2 * feat, feat, **MASKING, branch=nn.Identity())
    assert loss.item() == pytest.approx(feat[0].numel())
    assert run(method(strides=(8,)), {8: feat}, {8: feat}).isfinite()
    hidden = 1 if shape[2] == 1 else 10
    assert amd_loss(feat, feat, **MASKING, branch=nn.Identity()).item() == 8 * hidden


def test_a_teachers_nan_is_not_hidden() -> None:
    feat_s, feat_t = maps()
    feat_t[1, 2, 3, 4] = torch.nan
    assert run(method(strides=(8,)), {8: feat_s}, {8: feat_t}).isnan()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_close_to_float32(dtype: torch.dtype) -> None:
    """Within 2 %; attention so sharp that its softmax underflows float16, and an error whose sum overflows it."""
    feat_s, feat_t = (40 * feat for feat in maps(shape=(2, 8, 16, 16)))
    module = method(strides=(8,))
    plain = run(module, {8: feat_s}, {8: feat_t})
    assert plain > torch.finfo(torch.float16).max
    low = run(module, {8: feat_s.to(dtype)}, {8: feat_t.to(dtype)})
    with torch.autocast("cpu", dtype=dtype):
        mixed = run(module, {8: feat_s}, {8: feat_t})
    assert [low.item(), mixed.item()] == pytest.approx([plain.item()] * 2, rel=0.02)
