"""Structural distillation against NumPy in float64, written from its equations."""

from __future__ import annotations

from functools import partial
from typing import Any

import kornia
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from dfmsd.losses import minmax, pearson, ssim_map, ssim_parts, structural_loss
from tests.losses import helpers

Array = NDArray[np.float64]
PARTS = ("luminance", "contrast", "structure")
SHAPES = [(2, 3, 7, 11), (1, 2, 13, 21), (2, 3, 1, 1), (1, 3, 2, 6)]
EXPONENTS = [(1, 1, 1), (0, 1, 1), (0, 0, 1), (1, 0, 0), (1, 1, 0), (2, 2, 2), (1, 2, 3)]
WINDOW: dict[str, Any] = {"window": 11, "sigma": 1.5}
DETACHED = {"detach_range": True}

method = partial(helpers.method, "ssim", channels_s=3, channels_t=3)


def maps(dtype: torch.dtype = torch.float64, shape: tuple[int, ...] = SHAPES[0]) -> tuple[Tensor, Tensor]:
    """A student that is related to its teacher, so that no part of SSIM is everywhere near 0."""
    feat_t, noise = helpers.maps(shape=shape, dtype=dtype)
    return 2 * feat_t + noise - 1, feat_t


def options(exponents: tuple[int, ...] = (1, 1, 1), **changes: Any) -> dict[str, Any]:
    return WINDOW | dict(zip(PARTS, exponents, strict=True)) | changes


def loss(feat_s: Tensor, feat_t: Tensor, distance: Any = "ssim", **changes: Any) -> Tensor:
    return structural_loss(feat_s, feat_t, distance=distance, **{"detach_range": False} | options(**changes))


def plain_range(feat: Array) -> list[tuple[float, float]]:
    return [(image.min(), image.max()) for image in feat]


def plain_parts(x: Array, y: Array, window: int, sigma: float) -> tuple[float, float, float]:
    """Luminance, contrast and structure of two patches of the window's size."""
    tap = np.exp(-((np.arange(window) - window // 2) ** 2) / (2 * sigma**2))
    weight = np.outer(tap, tap) / tap.sum() ** 2
    mean_x, mean_y = (weight * x).sum(), (weight * y).sum()
    var_x, var_y = (weight * (x - mean_x) ** 2).sum(), (weight * (y - mean_y) ** 2).sum()
    covariance = (weight * (x - mean_x) * (y - mean_y)).sum()
    c1, c2, c3 = 1e-4, 9e-4, 4.5e-4
    return (
        (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1),
        (2 * np.sqrt(var_x * var_y) + c2) / (var_x + var_y + c2),
        (covariance + c3) / (np.sqrt(var_x * var_y) + c3),
    )


def plain_loss(
    feat_s: Array, feat_t: Array, exponents: tuple[int, ...], window: int = 11, sigma: float = 1.5, ranges: Any = None
) -> float:
    """Position by position, on patches of reflected maps; ranges: the student's, if not its own."""
    total, radius = 0.0, window // 2
    for b, (low, high) in enumerate(ranges or plain_range(feat_s)):
        ((low_t, high_t),) = plain_range(feat_t[b : b + 1])
        for s, t in zip(feat_s[b], feat_t[b], strict=True):
            x = np.pad((s - low) / (high - low), radius, mode="reflect")
            y = np.pad((t - low_t) / (high_t - low_t), radius, mode="reflect")
            for i, j in np.ndindex(*s.shape):
                patch = np.s_[i : i + window, j : j + window]
                total += (1 - np.prod(np.power(plain_parts(x[patch], y[patch], window, sigma), exponents))) / 2
    return total / feat_s.size


@pytest.mark.parametrize(
    ("shape", "exponents"), [(shape, (1, 1, 1)) for shape in SHAPES] + [(SHAPES[0], powers) for powers in EXPONENTS[1:]]
)
def test_equation(shape: tuple[int, ...], exponents: tuple[int, ...]) -> None:
    feat_s, feat_t = maps(shape=shape)
    expected = plain_loss(feat_s.numpy(), feat_t.numpy(), exponents)
    assert loss(feat_s, feat_t, exponents=exponents).item() == pytest.approx(expected, rel=1e-10)
    assert expected > 1e-3


@pytest.mark.parametrize("window", [{"window": 5, "sigma": 1.5}, {"window": 11, "sigma": 0.7}, {"window": 1, "sigma": 1.0}])
def test_window_and_sigma(window: dict[str, Any]) -> None:
    feat_s, feat_t = maps()
    assert loss(feat_s, feat_t, **window).item() == pytest.approx(
        plain_loss(feat_s.numpy(), feat_t.numpy(), (1, 1, 1), **window), rel=1e-10
    )


def test_by_hand() -> None:
    """Two images of two channels of one position. No variance: only the luminances C1 / (1 + C1), twice, and 1, twice."""
    feat_s = torch.tensor([[-5.0, 5.0], [0.0, 7.0]]).view(2, 2, 1, 1)
    feat_t = torch.tensor([[3.0, 1.0], [0.0, 1.0]]).view(2, 2, 1, 1)
    assert loss(feat_s, feat_t).item() == pytest.approx((1 - 1e-4 / 1.0001) / 4, rel=1e-5)
    assert minmax(feat_s).flatten().tolist() == [0.0, 1.0, 0.0, 1.0]
    assert loss(feat_s[:1] * 4, torch.tensor([[1.0, 0.75]]).view(1, 2, 1, 1), "l1").item() == 1.0


@pytest.mark.parametrize(("distance", "power"), [("l1", 1), ("l2", 2)])
def test_norms_compare_normalised_maps_element_by_element(distance: str, power: int) -> None:
    feat_s, feat_t = maps()
    x, y = (
        np.stack([(image - low) / (high - low) for image, (low, high) in zip(feat.numpy(), plain_range(feat.numpy()), strict=True)])
        for feat in (feat_s, feat_t)
    )
    assert loss(feat_s, feat_t, distance).item() == pytest.approx((np.abs(x - y) ** power).mean(), rel=1e-12)


@pytest.mark.parametrize("exponent", [1, 2])
def test_contrast_and_structure_merge_without_changing_value_or_gradient(exponent: int) -> None:
    x, y = (minmax(feat) for feat in maps())
    x.requires_grad_()
    parts = ssim_parts(x, y, **WINDOW)
    apart = parts[0] * (parts[1] * parts[2]) ** exponent
    merged = ssim_map(x, y, **options((1, exponent, exponent)))
    torch.testing.assert_close(merged, apart)
    slopes = [torch.autograd.grad(similarity.square().sum(), x)[0] for similarity in (merged, apart)]
    torch.testing.assert_close(*slopes)


@pytest.mark.parametrize("block", [1, 2 * 7 * 11 * 2, 2**16])
@pytest.mark.parametrize("exponents", [(1, 1, 1), (0, 1, 1)])
def test_blocks_and_formula_give_the_value_and_gradient_of_the_whole_map(
    block: int, exponents: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One, two or all of the three channels at a time; the reference is differentiated automatically."""
    monkeypatch.setitem(pearson.BLOCK, "cpu", block)
    feat_s, feat_t = maps()
    feat_s.requires_grad_()
    plain = (1 - ssim_map(minmax(feat_s), minmax(feat_t), **options(exponents))).mean() / 2
    ours = loss(feat_s, feat_t, exponents=exponents)
    torch.testing.assert_close(ours, plain)
    torch.testing.assert_close(torch.autograd.grad(3 * ours, feat_s), torch.autograd.grad(3 * plain, feat_s))
    with torch.inference_mode():
        torch.testing.assert_close(loss(feat_s, feat_t, exponents=exponents), plain.detach())


@pytest.mark.parametrize(
    ("distance", "exponents"),
    [("ssim", (1, 1, 1)), ("ssim", (0, 1, 1)), ("ssim", (0, 0, 1)), ("ssim", (1, 3, 2)), ("l1", (1, 1, 1)), ("l2", (1, 1, 1))],
)
@pytest.mark.parametrize("shape", [(2, 2, 2, 2), (1, 3, 1, 1)])
def test_gradient(shape: tuple[int, ...], distance: str, exponents: tuple[int, ...]) -> None:
    """Each image's extremes included, which change the range as well."""
    feat_s, feat_t = maps(shape=shape)
    assert torch.autograd.gradcheck(lambda s: loss(s, feat_t, distance, exponents=exponents), feat_s.requires_grad_())


def test_a_detached_range_carries_no_gradient() -> None:
    """The slope at the largest value is that of the equations with the range held."""
    feat_s, feat_t = maps(shape=(1, 2, 4, 4))
    feat_s.requires_grad_()
    loss(feat_s, feat_t, **DETACHED).backward()
    assert feat_s.grad is not None
    values, at = feat_s.detach().numpy(), np.unravel_index(int(feat_s.argmax()), feat_s.shape)
    step = np.zeros(values.shape)
    step[at] = 1e-5
    up, down = (plain_loss(values + way * step, feat_t.numpy(), (1, 1, 1), ranges=plain_range(values)) for way in (1, -1))
    assert feat_s.grad.numpy()[at] == pytest.approx((up - down) / 2e-5, rel=1e-5)


@pytest.mark.parametrize("distance", ["ssim", "l1", "l2"])
def test_the_gradient_asks_for_no_other_scale_or_offset_unless_the_range_is_detached(distance: str) -> None:
    """The loss does not depend on them, so a step along the gradient must not change them."""
    feat_s, feat_t = maps()
    feat_s.requires_grad_()
    whole, detached = (
        torch.autograd.grad(loss(feat_s, feat_t, distance, **changes), feat_s)[0].flatten(1) for changes in ({}, DETACHED)
    )
    values = feat_s.detach().flatten(1)
    for along in (values, torch.ones_like(values)):
        torch.testing.assert_close(torch.linalg.vecdot(whole, along), torch.zeros(2).double(), rtol=0, atol=1e-12)
        assert torch.linalg.vecdot(detached, along).abs().min() > 1e-4


@pytest.mark.parametrize("exponents", EXPONENTS)
def test_constant_features_and_patches_leave_loss_and_gradient_finite(exponents: tuple[int, ...]) -> None:
    """A constant image becomes 0 and gets no gradient; an empty region inside an image is where roots have no slope.

    Where contrast and structure stay apart, rounding leaves a constant a standard deviation of 1e-7 beside C3 = 4.5e-4.
    """
    constant, varied = torch.full((2, 3, 13, 21), 0.25), maps(torch.float32, (2, 3, 13, 21))[0]
    half_empty = varied * (torch.arange(21) < 8)
    assert minmax(constant).abs().sum() == 0
    assert loss(constant, 7 * constant, exponents=exponents).item() <= (0 if exponents[1] == exponents[2] else 1e-4)
    for feat_s, feat_t in ((constant, varied), (varied, constant), (half_empty, varied), (varied, half_empty)):
        feat_s = feat_s.clone().requires_grad_()
        value = loss(feat_s, feat_t, exponents=exponents)
        value.backward()
        assert value.isfinite()
        assert feat_s.grad is not None
        assert feat_s.grad.abs().max() < 10
        assert (feat_s.grad.abs().sum() == 0) == (feat_s.min() == feat_s.max())


def test_variances_that_rounding_makes_negative_count_as_0() -> None:
    """Constants so large that their squares' rounding exceeds C2: parts and map keep their bounds."""
    x = torch.linspace(100, 1000, 64).view(1, 64, 1, 1).expand(1, 64, 3, 5)
    contrast = ssim_parts(x, 2 * x, **WINDOW)[1]
    merged = ssim_map(x, 2 * x, **options((0, 1, 1)))
    assert contrast.min() >= 0
    assert contrast.max() <= 1
    assert merged.abs().max() <= 1


def test_an_adapter_is_there_where_asked_for_or_where_channels_differ() -> None:
    assert not list(method().parameters())
    assert len(list(method(adapter=True).parameters())) == len(list(method(channels_s=2).parameters())) == 4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing_and_gradients_too_small_for_float16_survive(dtype: torch.dtype) -> None:
    feat_s, feat_t = maps(torch.float32, (2, 3, 32, 32))
    plain = loss(feat_s, feat_t)
    with torch.autocast("cpu", dtype=dtype):
        assert torch.equal(loss(feat_s, feat_t), plain)
    low_s = feat_s.to(dtype).requires_grad_()
    (loss(low_s, feat_t.to(dtype)) * 2**16).backward()
    assert low_s.grad is not None
    assert (low_s.grad != 0).double().mean() > 0.99


def test_ssim_is_kornias() -> None:
    """The authors of the loss used it; it adds 1e-12 to its denominators."""
    x, y = (minmax(feat) for feat in maps(shape=(2, 3, 24, 31)))
    ours = ssim_map(x, y, **options())
    torch.testing.assert_close(ours, kornia.metrics.ssim(x, y, window_size=11), rtol=0, atol=1e-9)


@pytest.mark.parametrize("exponents", EXPONENTS)
def test_float32_is_close_to_float64(exponents: tuple[int, ...]) -> None:
    feat_s, feat_t = maps(shape=(2, 3, 32, 32))
    expected = loss(feat_s, feat_t, exponents=exponents).item()
    assert loss(feat_s.float(), feat_t.float(), exponents=exponents).item() == pytest.approx(expected, rel=1e-5)
