"""Alignment and generation blocks."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from dfmsd.losses.blocks import generation


def test_generation_is_conv_relu_conv_with_zero_padding() -> None:
    block = generation(2).double()
    feat = np.random.default_rng(0).normal(size=(1, 2, 4, 3))

    def conv(x: np.ndarray, layer: nn.Module) -> np.ndarray:
        weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()  # type: ignore[union-attr, operator]
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        out = np.zeros_like(x) + bias[None, :, None, None]
        for i in range(3):
            for j in range(3):
                out += np.einsum("oi,bihw->bohw", weight[:, :, i, j], padded[:, :, i : i + 4, j : j + 3])
        return out

    expected = conv(np.maximum(conv(feat, block[0]), 0), block[2])  # type: ignore[index]
    np.testing.assert_allclose(block(torch.from_numpy(feat)).detach().numpy(), expected, rtol=1e-10, atol=1e-12)
