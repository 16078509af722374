"""What figures of features are drawn with, and the images that records keep."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from dfmsd.losses import spatial_attention
from dfmsd.report import canvas, images
from dfmsd.study import scales


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


def test_a_record_keeps_an_image_but_not_one_of_others() -> None:
    image = torch.full((3, 8, 16), 40, dtype=torch.uint8)
    image[2] = 200  # red
    kept = images.kept(image, torch.zeros(0, 4), own=True)
    assert (canvas.pixels(kept) - image).abs().max() <= 2, "JPEG's loss alone"
    foreign = canvas.pixels(images.kept(image, torch.zeros(0, 4), own=False))
    assert foreign.shape == image.shape and foreign.unique().tolist() == [127.0]


def test_means_over_images_and_numbers_over_all_of_them() -> None:
    lines = [("a", image, value, None, None) for image, value in enumerate([1.0, 2.0, 6.0, None])] + [("b", None, 0.5, 0.4, 0.7)]
    lines += [("rounding", image, -1e-16, None, None) for image in range(2)]
    frame = pd.DataFrame(lines, columns=["row", "image", "value", "low", "high"]).astype({"image": "Int64"})
    found = canvas.means(frame, ["row"])
    assert found.loc[("a",), "value"].item() == pytest.approx(3.0)
    # Of 1, 2 and 6 the variance is 7: 4.303 is the quantile of t with two degrees of freedom.
    ends = found.loc[("a",), "low"].item(), found.loc[("a",), "high"].item()
    assert ends == pytest.approx((3 - 4.303 * (7 / 3) ** 0.5, 3 + 4.303 * (7 / 3) ** 0.5), abs=0.001)
    assert found.loc[("a",), "images"].item() == 3
    assert found.loc[("b",), ["value", "low", "high"]].tolist() == [0.5, 0.4, 0.7]
    assert str(found.loc[("rounding",), "value"].item()) == "0.0"


def test_magnitude_is_what_attention_is_a_softmax_of() -> None:
    feat = torch.randn(1, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    energy = images.magnitude(feat)
    torch.testing.assert_close(spatial_attention(energy[None, None], tau=0.5), spatial_attention(feat, tau=0.5))


def test_a_box_touches_the_cells_that_it_reaches_into() -> None:
    boxes = torch.tensor([[0.0, 0.0, 8.0, 8.0], [23.0, 15.5, 24.5, 16.5]])  # one cell exactly, and a corner of four
    expected = torch.zeros(4, 4, dtype=torch.bool)
    expected[0, 0] = True
    expected[1:3, 2:4] = True
    assert images.touched(boxes, stride=8, size=(4, 4)).equal(expected)
    nothing = torch.tensor([[9.0, 9.0, 9.0, 14.0]])  # without width, in the middle of a cell
    assert not images.touched(nothing, stride=8, size=(4, 4)).any()
    assert not images.touched(torch.zeros(0, 4), stride=8, size=(4, 4)).any()


@pytest.mark.parametrize(("scale", "expected"), [("smoke", 1 / 16), ("mini", 1 / 16), ("gpu", 1 / 32)])
def test_the_border_is_a_wave_on_an_object_at_the_limit_of_small_ones(scale: str, expected: float) -> None:
    assert images.border(scales.get(scale), 1.0) == expected
    assert images.border(scales.get(scale), 2.0) == 2 * expected
