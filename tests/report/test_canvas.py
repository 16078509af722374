"""What figures of features are drawn with."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dfmsd.report import canvas


def test_the_cover_darkens_the_hidden_cells_and_no_other_pixel() -> None:
    image = torch.full((3, 6, 8), 255.0)  # two cells high, the second cut by the border
    hidden = torch.tensor([[[[True, False], [False, True]]]])
    shown = canvas.covered(image, hidden, 4)
    expected = np.ones((6, 8))
    expected[:4, :4] = expected[4:, 4:] = canvas.DIM
    np.testing.assert_allclose(shown, expected[..., None].repeat(3, axis=2))


def test_an_image_is_shown_in_red_green_blue() -> None:
    image = torch.tensor([0.0, 51.0, 255.0]).view(3, 1, 1)  # blue, green, red
    assert canvas.displayed(image).tolist() == [[[1.0, pytest.approx(0.2), 0.0]]]


def test_boxes_lie_on_the_pixels_that_they_cover() -> None:
    _, axes = canvas.grid(1, 1)
    canvas.draw_image(axes[0, 0], np.zeros((4, 4, 3)), boxes=torch.tensor([[1.0, 0.0, 3.0, 2.0]]))
    (box,) = axes[0, 0].patches
    # A pixel's centre has whole coordinates, so the image begins at -0.5.
    assert box.get_bbox().bounds == (0.5, -0.5, 2.0, 2.0)


def test_hidden_channels_are_told_from_kept_ones() -> None:
    _, axes = canvas.grid(1, 1)
    attention = torch.tensor([0.5, 2.0, 0.7, 0.8])
    canvas.draw_channels(axes[0, 0], attention, attention > 0.75)
    heights = {bars.get_label(): [bar.get_height() for bar in bars] for bars in axes[0, 0].containers}
    assert heights == {"hidden": pytest.approx([2.0, 0.8]), "kept": pytest.approx([0.7, 0.5])}


def test_a_mosaic_has_its_panels_in_the_order_of_their_letters() -> None:
    figure, axes = canvas.mosaic("ABC;DEE")
    figure.draw_without_rendering()
    assert len(axes) == 5
    assert axes[4].get_position().width > 1.5 * axes[3].get_position().width
    assert axes[0].get_position().y0 > axes[3].get_position().y0
