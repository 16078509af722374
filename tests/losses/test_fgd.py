"""FGD against NumPy in float64, written from its equations with a loop over images and boxes."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dfmsd.losses.fgd import Context, attention_maps, fgd_masks, relative_boxes
from tests.losses import helpers

Array = NDArray[np.float64]
SHAPES = [(40, 48), (33, 47)]
"""Height and width of two images of a batch padded to 40 x 48: at stride 8 a map of 5 x 6."""
BOXES = [torch.tensor([[3.0, 5, 30, 20], [10, 0, 48, 17], [12, 6, 20, 39]]), torch.tensor([[0.0, 0, 47, 9]])]

maps = partial(helpers.maps, dtype=torch.float64)
method = partial(helpers.method, "fgd", strides=(8,), alpha=1.0, beta=1.0, gamma=1.0, lam=1.0)
run = partial(helpers.run, boxes=BOXES, shapes=SHAPES)


def plain_masks(height: int, width: int) -> tuple[Array, Array]:
    fg = np.zeros((2, height, width))
    for b, (one, (image_h, image_w)) in enumerate(zip(BOXES, SHAPES, strict=True)):
        for x1, y1, x2, y2 in one.tolist():
            left, right = int(np.floor(x1 / image_w * width)), int(np.ceil(x2 / image_w * width))
            top, bottom = int(np.floor(y1 / image_h * height)), int(np.ceil(y2 / image_h * height))
            inside = fg[b, top : bottom + 1, left : right + 1]
            inside[:] = np.maximum(inside, 1 / (bottom - top + 1) / (right - left + 1))
    bg = np.where(fg > 0, 0.0, 1.0)
    return fg, bg / np.maximum(bg.sum(axis=(1, 2), keepdims=True), 1)


def plain_attention(feat: Array, tau: float) -> tuple[Array, Array]:
    _, c, h, w = feat.shape
    spatial, channel = np.exp(np.abs(feat).mean(1) / tau), np.exp(np.abs(feat).mean((2, 3)) / tau)
    return h * w * spatial / spatial.sum((1, 2), keepdims=True), c * channel / channel.sum(1, keepdims=True)


def plain_context(feat: Array, block: Context) -> Array:
    def dense(x: Array, layer: Any) -> Array:
        weight, bias = (parameter.detach().numpy() for parameter in (layer.weight, layer.bias))
        return np.asarray(x @ weight[:, :, 0, 0].T + bias)

    out = np.zeros(feat.shape[:2])
    down, norm, _, up = block.block.channel_add_conv
    for b, one in enumerate(feat):
        logits = dense(one.reshape(len(one), -1).T, block.block.conv_mask)[:, 0]
        share = np.exp(logits) / np.exp(logits).sum()
        inner = dense(one.reshape(len(one), -1) @ share, down)
        inner = (inner - inner.mean()) / np.sqrt(inner.var() + 1e-5)
        inner = inner * norm.weight.detach().numpy().ravel() + norm.bias.detach().numpy().ravel()
        out[b] = dense(np.maximum(inner, 0), up)
    return feat + out[:, :, None, None]


def test_masks_of_two_overlapping_boxes_and_one_on_the_border() -> None:
    """Stride 8, 4 x 4: 3 x 3 cells of 1/9; 3 rows x 2 columns of 1/6, which wins; 3 x 3 of which the border cuts 5 off."""
    given = [torch.tensor([[0.0, 0, 16, 16], [12, 12, 15, 20], [24, 0, 32, 9]])]
    a, b, c = 1 / 9, 1 / 6, 1 / 6  # the last: rows 0 to 2, columns 3 and 4, of which 4 is outside
    fg, bg = fgd_masks(relative_boxes(given, [(32, 32)]), size=(4, 4))
    torch.testing.assert_close(fg[0], torch.tensor([[a, a, a, c], [a, b, b, c], [a, b, b, c], [0, b, b, 0]]))
    torch.testing.assert_close(bg[0], torch.tensor([[0.0] * 4, [0.0] * 4, [0.0] * 4, [0.5, 0, 0, 0.5]]))


@pytest.mark.parametrize("size", [(5, 6), (3, 3), (1, 1), (20, 24)])
def test_masks_equal_a_loop_over_images_and_boxes(size: tuple[int, int]) -> None:
    for mask, expected in zip(fgd_masks(relative_boxes(BOXES, SHAPES), size=size), plain_masks(*size), strict=True):
        np.testing.assert_allclose(mask.numpy(), expected, rtol=1e-6)


def test_a_box_without_area_or_outside_of_its_image_covers_at_most_what_it_touches() -> None:
    """A point, whose end is rounded up to the next cell, one on a corner of cells, a box turned round, and two outside."""
    given = [[12, 20, 12, 20], [16, 0, 16, 0], [32, 8, 24, 9], [-30, -30, -9, 60], [60, 60, 70, 70]]
    fg = fgd_masks(relative_boxes([torch.tensor(given, dtype=torch.float32)], [(32, 32)]), size=(4, 4))[0]
    assert fg[0].tolist() == [[0, 0, 1, 0], [0, 0, 0, 0], [0, 0.25, 0.25, 0], [0, 0.25, 0.25, 0]]


def test_a_box_that_ends_less_than_a_cell_before_the_image_touches_its_first_column() -> None:
    """Columns -2 to 0 and rows 0 to 1, both ends included: 3 times 2 cells; what fills up the other image touches none."""
    boxes = [torch.tensor([[-10.0, 0.0, -1.0, 8.0]]), torch.zeros(0, 4)]
    fg = fgd_masks(relative_boxes(boxes, [(32, 32)] * 2), size=(4, 4))[0]
    assert fg[0, :2, 0].tolist() == pytest.approx([1 / 6] * 2)
    assert fg.count_nonzero() == 2


@pytest.mark.parametrize("tau", [0.5, 0.8])
def test_every_term_equals_its_equation(tau: float) -> None:
    module = method(learnt=True, tau=tau).double()
    feat_s, feat_t = maps()
    s, t = feat_s.numpy(), feat_t.numpy()
    (sp_s, ch_s), (sp_t, ch_t) = plain_attention(s, tau), plain_attention(t, tau)
    weight = sp_t[:, None] * ch_t[:, :, None, None] / 2
    level = module.levels["8"]
    fg, bg = plain_masks(5, 6)
    expected = {
        "fg": (fg[:, None] * weight * (t - s) ** 2).sum(),
        "bg": (bg[:, None] * weight * (t - s) ** 2).sum(),
        "att": (np.abs(sp_s - sp_t).sum() + np.abs(ch_s - ch_t).sum()) / 2,
        "glob": ((plain_context(t, level.context_t) - plain_context(s, level.context_s)) ** 2).sum() / 2,
    }
    terms = {name: value.item() for name, value in run(module, feat_s, feat_t).items()}
    assert terms == pytest.approx(expected, rel=1e-6)  # the masks are float32


def test_without_boxes_there_is_background_only() -> None:
    feat_s, feat_t = maps()
    terms = helpers.run(method().double(), feat_s, feat_t)
    attn_sp, attn_ch = attention_maps(feat_t, tau=0.5)
    assert terms["fg"] == 0
    mean = torch.einsum("bhw,bc,bchw->", attn_sp, attn_ch, (feat_s - feat_t) ** 2) / 30 / 2
    torch.testing.assert_close(terms["bg"], mean, rtol=1e-6, atol=0)


def test_boxes_everywhere_leave_no_background() -> None:
    whole = [torch.tensor([[0.0, 0, width, height]]) for height, width in SHAPES]
    terms = run(method(), *maps(dtype=torch.float32), boxes=whole)
    assert terms["bg"] == 0
    assert terms["fg"] > 0


def test_context_blocks_are_half_as_wide_and_start_as_the_identity() -> None:
    feat_s, feat_t = maps()
    assert Context(6).block.channel_add_conv[0].out_channels == 3
    torch.testing.assert_close(run(method().double(), feat_s, feat_t)["glob"], ((feat_s - feat_t) ** 2).sum() / 2)


def test_gradient() -> None:
    feat_s, feat_t = maps(shape=(2, 2, 2, 3))
    module = method(learnt=True, channels_s=2, channels_t=2).double()
    assert torch.autograd.gradcheck(lambda s: tuple(run(module, s, feat_t).values()), feat_s.requires_grad_())
