"""Plain feature distillation against NumPy in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dfmsd import methods
from dfmsd.losses.mse import MSE, mse_loss


def maps(dtype: torch.dtype = torch.float32, shape: tuple[int, ...] = (2, 4, 5, 6)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator, dtype=dtype), torch.randn(shape, generator=generator, dtype=dtype)


def method(**changes: Any) -> MSE:
    torch.manual_seed(0)
    fields = methods.MSE(strides=(8, 16)).model_dump(exclude={"type"})
    return MSE(**({"channels_s": 4, "channels_t": 4} | fields | changes))


def run(module: MSE, levels_s: dict[int, Tensor], levels_t: dict[int, Tensor]) -> Tensor:
    terms = module(levels_s, levels_t, [torch.empty(0, 4)] * 2, [], generator=torch.Generator())
    assert list(terms) == ["loss_mse_feat"]
    return terms["loss_mse_feat"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("shape", [(2, 4, 5, 6), (1, 3, 1, 1)])
def test_equation(shape: tuple[int, ...]) -> None:
    feat_s, feat_t = maps(torch.float64, shape)
    squares = [(t - s) ** 2 for s, t in zip(feat_s.flatten().tolist(), feat_t.flatten().tolist(), strict=True)]
    assert mse_loss(feat_s, feat_t).item() == pytest.approx(sum(squares) / np.prod(shape), rel=1e-12)


def test_by_hand() -> None:
    assert mse_loss(torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[[4.0, 0.0]]]])).item() == 6.5


def test_a_batch_has_the_mean_of_its_images_errors() -> None:
    feat_s, feat_t = maps()
    apart = [mse_loss(feat_s[b : b + 1], feat_t[b : b + 1]) for b in range(2)]
    torch.testing.assert_close(mse_loss(feat_s, feat_t), (apart[0] + apart[1]) / 2)


def test_levels_add_up_each_by_its_own_size() -> None:
    feat_s, feat_t = maps()
    small_s, small_t = feat_s[..., :2, :2], feat_t[..., :2, :2]
    total = run(method(alpha=3.0), {8: feat_s, 16: small_s}, {8: feat_t, 16: small_t})
    torch.testing.assert_close(total, 3 * (mse_loss(feat_s, feat_t) + mse_loss(small_s, small_t)))


def test_the_student_is_projected_linearly_to_the_teachers_channels() -> None:
    feat_s, feat_t = maps()
    module = method(channels_s=3, strides=(8,))
    weight, bias = module.align["8"].parameters()
    projected = torch.einsum("ts,bshw->bthw", weight[:, :, 0, 0], feat_s[:, :3]) + bias[:, None, None]
    torch.testing.assert_close(run(module, {8: feat_s[:, :3]}, {8: feat_t}), mse_loss(projected, feat_t))


def test_gradient() -> None:
    feat_s, feat_t = maps(torch.float64, (2, 2, 3, 2))
    assert torch.autograd.gradcheck(lambda s: mse_loss(s, feat_t), feat_s.requires_grad_())


def test_gradient_reaches_student_and_projection_but_not_a_teacher_that_asks_for_it() -> None:
    feat_s, feat_t = maps()
    feat_s, feat_t = feat_s[:, :3].clone().requires_grad_(), feat_t.requires_grad_()
    module = method(channels_s=3)
    run(module, {8: feat_s, 16: feat_s}, {8: feat_t, 16: feat_t}).backward()
    assert feat_t.grad is None
    for tensor in (feat_s, *module.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.abs().sum() > 0


def test_equal_maps_have_no_error_even_if_constant() -> None:
    feat = torch.full((2, 4, 1, 1), 3.0)
    assert mse_loss(feat, feat).item() == 0.0


def test_a_teachers_nan_is_not_hidden() -> None:
    feat_s, feat_t = maps()
    feat_t[1, 2, 3, 4] = torch.nan
    assert run(method(strides=(8,)), {8: feat_s}, {8: feat_t}).isnan()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_close_to_float32(dtype: torch.dtype) -> None:
    """Within 1 %, and 2 % through a lowered projection; values whose squares overflow float16 stay finite."""
    feat_s, feat_t = (1000 * feat for feat in maps())
    plain = mse_loss(feat_s, feat_t)
    assert plain > torch.finfo(torch.float16).max
    feat_s_low = feat_s.to(dtype).requires_grad_()
    low = mse_loss(feat_s_low, feat_t.to(dtype))
    low.backward()
    assert low.dtype == torch.float32
    assert low.item() == pytest.approx(plain.item(), rel=0.01)
    assert feat_s_low.grad is not None
    module = method(channels_s=4, channels_t=3, strides=(8,))
    levels = {8: feat_s}, {8: feat_t[:, :3]}
    with torch.autocast("cpu", dtype=dtype):
        assert mse_loss(feat_s, feat_t).item() == pytest.approx(plain.item(), rel=0.01)
        mixed = run(module, *levels)
    assert mixed.item() == pytest.approx(run(module, *levels).item(), rel=0.02)
