"""MGD against NumPy in float64, written from its equations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dfmsd.losses import MGD, mgd_loss


def maps(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (2, 4, 5, 6)
    return torch.randn(shape, generator=generator, dtype=dtype), torch.randn(shape, generator=generator, dtype=dtype)


def method(**changes: object) -> MGD:
    torch.manual_seed(0)
    return MGD(**({"channels_s": 4, "channels_t": 4, "strides": [8, 16], "alpha": 2e-5, "ratio": 0.65} | changes))  # type: ignore[arg-type]


def run(module: MGD, levels_s: dict[int, torch.Tensor], levels_t: dict[int, torch.Tensor], seed: int = 0) -> torch.Tensor:
    terms = module(levels_s, levels_t, [], [], generator=torch.Generator().manual_seed(seed))
    assert list(terms) == ["loss_mgd_rec"]
    return terms["loss_mgd_rec"]  # type: ignore[no-any-return]


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
    module = method(ratio=0.0, alpha=1.0, strides=[8])
    module.generation["8"] = torch.nn.Identity()
    torch.testing.assert_close(run(module, {8: feat_s}, {8: feat_t}), ((feat_s - feat_t) ** 2).sum() / 2)


def test_everything_hidden_forgets_the_student() -> None:
    feat_s, feat_t = maps()
    module = method(ratio=1.0, strides=[8])
    assert torch.equal(run(module, {8: feat_s}, {8: feat_t}), run(module, {8: -7 * feat_s}, {8: feat_t}))


def test_levels_add_up() -> None:
    feat_s, feat_t = maps()
    module = method(ratio=0.0)
    parts = []
    for stride in ("8", "16"):
        module.strides = (int(stride),)
        parts.append(run(module, {int(stride): feat_s}, {int(stride): feat_t}))
    module.strides = (8, 16)
    torch.testing.assert_close(run(module, {8: feat_s, 16: feat_s}, {8: feat_t, 16: feat_t}), parts[0] + parts[1])


def test_masks_come_from_the_generator() -> None:
    feat_s, feat_t = maps()
    module = method()
    levels = {8: feat_s, 16: feat_s}, {8: feat_t, 16: feat_t}
    first = run(module, *levels, seed=1)
    torch.manual_seed(99)
    assert torch.equal(first, run(module, *levels, seed=1))
    assert not torch.equal(first, run(module, *levels, seed=2))


def test_gradient() -> None:
    feat_s, feat_t = (feat[:, :2, :3, :3] for feat in maps(torch.float64))
    module = method(channels_s=2, channels_t=2, strides=[8], alpha=1.0).double()
    assert torch.autograd.gradcheck(lambda s: run(module, {8: s}, {8: feat_t}), feat_s.clone().requires_grad_())


def test_gradient_reaches_student_and_blocks_but_not_the_teacher() -> None:
    feat_s, feat_t = maps()
    module = method(channels_t=6)
    feat_t = torch.cat([feat_t, feat_t[:, :2]], dim=1).requires_grad_(False)
    feat_s.requires_grad_()
    run(module, {8: feat_s, 16: feat_s}, {8: feat_t, 16: feat_t}).backward()
    assert feat_s.grad is not None
    assert feat_s.grad.abs().sum() > 0
    assert feat_t.grad is None
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_one_pixel() -> None:
    feat = torch.ones(1, 4, 1, 1)
    assert run(method(strides=[8]), {8: feat}, {8: feat}).isfinite()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_is_close_to_float32(dtype: torch.dtype) -> None:
    """Within 2 %: bfloat16 keeps 8 bits, and the convolutions are what autocast lowers."""
    feat_s, feat_t = maps()
    module = method(strides=[8])
    plain = run(module, {8: feat_s}, {8: feat_t})
    with torch.autocast("cpu", dtype=dtype):
        mixed = run(module, {8: feat_s}, {8: feat_t})
    assert mixed.item() == pytest.approx(plain.item(), rel=0.02)
