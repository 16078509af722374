"""Plain feature distillation against NumPy in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dfmsd.losses.mse import mse_loss
from tests.losses.helpers import maps, method, run


@pytest.mark.parametrize("shape", [(2, 4, 5, 6), (1, 3, 1, 1)])
def test_equation(shape: tuple[int, ...]) -> None:
    feat_s, feat_t = maps(dtype=torch.float64, shape=shape)
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
    terms = run(method("mse", alpha=3.0), {8: feat_s, 16: small_s}, {8: feat_t, 16: small_t})
    torch.testing.assert_close(terms, {"feat": 3 * (mse_loss(feat_s, feat_t) + mse_loss(small_s, small_t))})


def test_the_student_is_projected_linearly_to_the_teachers_channels() -> None:
    feat_s, feat_t = maps()
    module = method("mse", channels_s=3, strides=(8,))
    weight, bias = module.align["8"].parameters()
    projected = torch.einsum("ts,bshw->bthw", weight[:, :, 0, 0], feat_s[:, :3]) + bias[:, None, None]
    torch.testing.assert_close(run(module, feat_s[:, :3], feat_t), {"feat": mse_loss(projected, feat_t)})


def test_gradient() -> None:
    feat_s, feat_t = maps(dtype=torch.float64, shape=(2, 2, 3, 2))
    assert torch.autograd.gradcheck(lambda s: mse_loss(s, feat_t), feat_s.requires_grad_())


def test_equal_maps_have_no_error_even_if_constant() -> None:
    feat = torch.full((2, 4, 1, 1), 3.0)
    assert mse_loss(feat, feat).item() == 0.0
