"""The generator: exact geometry, and images that depend on nothing but (version, seed, split, index)."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from dfmsd.errors import StudyError
from dfmsd.study import shapes
from dfmsd.study.spec import ShapesData

DISC, RING, SQUARE = (shapes.CLASSES.index(name) for name in ("disc", "ring", "square"))


def make_spec(size: int = 128, seed: int = 5) -> ShapesData:
    return ShapesData(version=shapes.VERSION, seed=seed, train=6, val=4, tune=0, size=size)


def place(rings: list[np.ndarray], x: int, y: int) -> list[np.ndarray]:
    return [ring + np.array([x, y]) for ring in rings]


def polygon(*corners: tuple[float, float]) -> list[np.ndarray]:
    return [np.array([[round(x * 16), round(y * 16)] for x, y in corners])]


def inside(rings: list[np.ndarray], x: int, y: int) -> bool:
    """The even-odd rule for one point by exact ray casting to the right: an independent reference."""
    odd = False
    for ring in rings:
        for (x0, y0), (x1, y1) in pairwise([*ring.tolist(), ring[0].tolist()]):
            if (y0 <= y) != (y1 <= y) and x < x0 + Fraction((y - y0) * (x1 - x0), y1 - y0):
                odd = not odd
    return odd


def test_a_square_on_whole_pixels_covers_them_exactly() -> None:
    mask = shapes.rasterise(polygon((3, 2), (8, 2), (8, 6), (3, 6)), 10)
    expected = np.zeros((10, 10), dtype=bool)
    expected[2:6, 3:8] = True
    np.testing.assert_array_equal(mask, expected)


def test_a_right_triangle_has_the_pixels_counted_by_hand() -> None:
    # Legs of 4 pixels: the long side x + y = 4.5 passes between centres, whose x + y are whole numbers.
    mask = shapes.rasterise(polygon((0, 0), (4.5, 0), (0, 4.5)), 6)
    assert mask.sum(axis=1).tolist() == [4, 3, 2, 1, 0, 0]


def test_a_ring_has_a_hole_and_polygons_beyond_the_border_are_cut() -> None:
    outer, inner = polygon((-2, -2), (5, -2), (5, 5), (-2, 5)), polygon((1, 1), (3, 1), (3, 3), (1, 3))
    mask = shapes.rasterise(outer + inner, 8)
    assert mask.sum() == 5 * 5 - 2 * 2
    assert not mask[1:3, 1:3].any()


@pytest.mark.parametrize("label", range(len(shapes.CLASSES)), ids=shapes.CLASSES)
def test_every_outline_is_rasterised_as_by_ray_casting(label: int) -> None:
    rings = place(shapes.pose(label, 25, 90, 24), 13, 5)
    reference = [[inside(rings, 16 * x + 8, 16 * y + 8) for x in range(28)] for y in range(28)]
    np.testing.assert_array_equal(shapes.rasterise(rings, 28), reference)


def test_disc_and_square_of_one_side_differ_as_circle_and_square_do() -> None:
    disc, square = (shapes.rasterise(place(shapes.pose(label, 0, 100, 40), 80, 160), 64) for label in (DISC, SQUARE))
    assert square.sum() == 40 * 40
    assert square[10:50, 5:45].all()
    # The disc is a polygon of 60 corners: its area is 60 r^2 sin(6 deg) / 2.
    assert disc.sum() == pytest.approx(30 * 20**2 * math.sin(math.radians(6)), rel=0.01)
    assert (disc & ~square).sum() == 0
    assert not disc[10, 5] and disc[30, 25]


def test_a_ring_is_a_disc_without_its_middle() -> None:
    disc, ring = (shapes.rasterise(shapes.pose(label, 0, 100, 50), 50) for label in (DISC, RING))
    assert (ring & ~disc).sum() == 0
    assert (disc & ~ring).sum() == pytest.approx(math.pi * 13**2, rel=0.02)


@pytest.mark.parametrize("degrees", [0, 233])
def test_a_pose_fills_its_side_and_starts_at_the_corner(degrees: int) -> None:
    for label in range(len(shapes.CLASSES)):
        points = np.concatenate(shapes.pose(label, degrees, 80, 30))
        assert points.min(axis=0).tolist() == [0, 0]
        assert points.max() == 30 * shapes.SUBPIXEL


def test_the_table_of_cosines_cannot_depend_on_the_last_bit_of_a_machine() -> None:
    for degree, entry in enumerate(shapes._COS):
        exact = math.cos(math.radians(degree)) * shapes.UNIT
        assert abs(exact - entry) < 0.4999, degree  # a last bit of the cosine is 2e-12 here


def test_classes_differ_in_outline_more_than_by_a_turn() -> None:
    """No outline can be turned onto another's: the overlap (intersection over union) of two classes stays below 0.9."""
    masks = {
        (label, degrees): shapes.rasterise(place(shapes.pose(label, degrees, 100, 28), 16, 16), 30)
        for label in range(len(shapes.CLASSES))
        for degrees in range(0, 360, 15)
    }
    for a in range(len(shapes.CLASSES)):
        upright = masks[a, 0]
        for (b, degrees), other in masks.items():
            overlap = (upright & other).sum() / (upright | other).sum()
            assert b == a or overlap < 0.9, (shapes.CLASSES[a], shapes.CLASSES[b], degrees, overlap)


def test_an_image_does_not_depend_on_what_was_made_before_it() -> None:
    spec = make_spec()
    forward = [shapes.generate(spec, "train", index)[0] for index in range(4)]
    backward = [shapes.generate(spec, "train", index)[0] for index in reversed(range(4))][::-1]
    np.testing.assert_array_equal(forward, backward)


def test_seed_split_and_index_each_change_the_image() -> None:
    image = shapes.generate(make_spec(), "train", 0)[0]
    others = [(make_spec(seed=6), "train", 0), (make_spec(), "val", 0), (make_spec(), "train", 1)]
    for other in others:
        assert (shapes.generate(*other)[0] != image).mean() > 0.5


def test_painting_does_not_change_what_is_shown() -> None:
    spec = make_spec()
    planned, (_, painted) = shapes.scene(spec, "val", 3), shapes.generate(spec, "val", 3)
    assert planned.kind == painted.kind
    assert [item.label for item in planned.objects] == [item.label for item in painted.objects]
    for a, b in zip(planned.objects, painted.objects, strict=True):
        np.testing.assert_array_equal(a.mask, b.mask)


def test_visible_parts_are_disjoint_and_never_tiny() -> None:
    spec = make_spec(size=128)
    for index in range(60):
        objects = shapes.scene(spec, "train", index).objects
        assert objects
        assert sum(item.mask.astype(int) for item in objects).max() == 1
        assert min(item.area for item in objects) >= shapes.VISIBLE_PIXELS


def test_a_box_holds_the_mask_tightly() -> None:
    mask = np.zeros((20, 30), dtype=bool)
    mask[4, 7] = mask[9, 5] = True
    assert shapes.Shape(0, mask).box == (5, 4, 3, 6)


def test_objects_stand_out_from_the_ground_around_them() -> None:
    """The mean colour of each visible object is at least 50 of 255 away from that of the empty part of its image."""
    spec = make_spec(size=256)
    for index in range(20):
        image, shown = shapes.generate(spec, "train", index)
        ground = image[~np.any([item.mask for item in shown.objects], axis=0)].mean(axis=0)
        for item in shown.objects:
            assert np.linalg.norm(image[item.mask].mean(axis=0) - ground) > 50


def test_kinds_have_their_shares_and_their_sizes() -> None:
    spec = make_spec(size=256)
    scenes = [shapes.scene(spec, "train", index) for index in range(400)]
    counts = Counter(scene.kind for scene in scenes)
    for kind, percent in zip(shapes.KINDS, shapes.KIND_PERCENT, strict=True):
        deviation = math.sqrt(4 * percent * (100 - percent) / 100)  # one standard deviation of 400 draws
        assert abs(counts[kind] - 4 * percent) < 3 * deviation, kind

    def share(kind: str, low: float, high: float) -> float:
        boxes = [item.box for scene in scenes if scene.kind == kind for item in scene.objects]
        return float(np.mean([low < width * height < high for _, _, width, height in boxes]))

    assert share("small", 0, shapes.SMALL_SIDE**2) > 0.8
    assert share("large", shapes.LARGE_SIDE**2, math.inf) > 0.6


def test_an_unknown_split_names_the_nearest() -> None:
    with pytest.raises(StudyError, match="unknown split 'trian': did you mean 'train'"):
        shapes.scene(make_spec(), "trian", 0)


def test_another_version_is_refused() -> None:
    spec = make_spec().model_copy(update={"version": 99})
    with pytest.raises(StudyError, match="version 99 was asked for, but this generator makes version 1"):
        shapes.scene(spec, "train", 0)
