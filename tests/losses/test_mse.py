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


def test_the_student_is_projected_linearly_to_the_teachers_channels() -> None:
    feat_s, feat_t = maps()
    module = method("mse", channels_s=3, strides=(8,))
    weight, bias = module.levels["8"].align.parameters()
    projected = torch.einsum("ts,bshw->bthw", weight[:, :, 0, 0], feat_s[:, :3]) + bias[:, None, None]
    torch.testing.assert_close(run(module, feat_s[:, :3], feat_t), {"feat": mse_loss(projected, feat_t)})


def test_gradient() -> None:
    feat_s, feat_t = maps(dtype=torch.float64, shape=(2, 2, 3, 2))
    assert torch.autograd.gradcheck(lambda s: mse_loss(s, feat_t), feat_s.requires_grad_())
