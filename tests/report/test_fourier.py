"""Spectra of images whose spectrum is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dfmsd.errors import StudyError
from dfmsd.report import fourier
from dfmsd.report.fourier import Array

WINDOWS = ("hann", "none")


def noise(*size: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=size)


def spectrum(values: Array, window: str = "none") -> Array:
    return fourier.power(values, fourier.taper(window, *values.shape))


def test_luminance_weighs_blue_green_and_red() -> None:
    pixels = torch.zeros(3, 1, 3)
    pixels[0, 0, 0] = pixels[1, 0, 1] = pixels[2, 0, 2] = 255.0
    np.testing.assert_allclose(fourier.luminance(pixels), [[0.114, 0.587, 0.299]])


@pytest.mark.parametrize("window", WINDOWS)
def test_the_mean_of_the_spectrum_is_the_variance(window: str) -> None:
    values, weights = noise(12, 20), fourier.taper(window, 12, 20)
    centred = values - np.average(values, weights=weights)
    assert spectrum(values, window).mean() == pytest.approx(np.average(centred**2, weights=weights**2))


@pytest.mark.parametrize("window", WINDOWS)
def test_a_constant_has_no_power_but_its_mean(window: str) -> None:
    np.testing.assert_allclose(spectrum(np.full((8, 6), 0.7), window), 0, atol=1e-28)


@pytest.mark.parametrize("window", WINDOWS)
def test_frequency_0_has_no_power(window: str) -> None:
    assert spectrum(5 + noise(9, 16), window)[0, 0] == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize("window", WINDOWS)
def test_a_flip_mirrors_the_spectrum_and_keeps_its_rings(window: str) -> None:
    values = noise(16, 21)
    before, after = spectrum(values, window), spectrum(values[:, ::-1], window)
    np.testing.assert_allclose(after[:, 1:], before[:, :0:-1])  # u, v -> u, -v
    np.testing.assert_allclose(after[:, 0], before[:, 0], atol=1e-20)
    np.testing.assert_allclose(fourier.radial(after, 6), fourier.radial(before, 6))


def test_a_wave_has_its_power_at_its_frequency() -> None:
    wave = 3.0 * np.cos(2 * np.pi * 5 * np.arange(64) / 64) * np.ones((32, 1))
    found = spectrum(wave)
    # Half the squared amplitude is its variance, spread over 32 x 64 coefficients and found in two of them.
    assert np.argwhere(found > 1e-9).tolist() == [[0, 5], [0, 59]]
    assert found[0, 5] == pytest.approx(3.0**2 / 2 * 32 * 64 / 2)
    assert fourier.frequencies(32, 64)[0, [5, 59]].tolist() == [5 / 64, 5 / 64]
    rings = fourier.radial(found, 8)
    assert np.flatnonzero(rings > 1e-9).tolist() == [1]  # 0.078 lies between 0.0625 and 0.125


def test_white_noise_is_flat() -> None:
    size, rings = 256, 8
    profile = fourier.radial(spectrum(2.0 * noise(size, size)), rings)
    place = (fourier.frequencies(size, size) * rings / fourier.NYQUIST).astype(int)
    counts = np.bincount(place.ravel())[:rings]
    # A coefficient's power has its mean as deviation, and half of them are mirror images: five standard errors.
    assert (np.abs(profile / 4.0 - 1) < 5 * np.sqrt(2 / counts)).all()


def test_a_window_keeps_borders_from_leaking() -> None:
    ramp = np.tile(np.linspace(0, 1, 64), (64, 1))
    high = {window: spectrum(ramp, window)[0, 16:32].mean() for window in WINDOWS}
    assert high["hann"] < 1e-6 * high["none"]


def test_rings_know_frequencies_and_leave_out_what_has_none() -> None:
    assert fourier.centres(2).tolist() == [0.125, 0.375]
    marked = np.zeros((4, 4))
    marked[0, 0], marked[2, 2] = 7.0, 9.0  # frequency 0, and a corner beyond Nyquist's
    np.testing.assert_array_equal(fourier.radial(marked, 2), [np.nan, 0.0])  # 1/4 is the lowest, on the edge of the second


@pytest.mark.parametrize("border", [0.01, 0.0625, 0.4])
def test_low_and_high_frequencies_make_the_image(border: float) -> None:
    values = 4 + noise(3, 10, 14)
    low, high = fourier.split(values, border)
    np.testing.assert_allclose(low + high, values)
    np.testing.assert_allclose(low.mean(axis=(1, 2)), values.mean(axis=(1, 2)))
    np.testing.assert_allclose(high.mean(axis=(1, 2)), 0, atol=1e-12)


def test_half_of_a_wave_passes_at_the_border() -> None:
    wave = np.cos(np.pi * 4 * (np.arange(32) + 0.5) / 32) * np.ones((8, 1))  # four half waves on 32 pixels: 1/16
    low, _ = fourier.split(wave, 1 / 16)
    np.testing.assert_allclose(low, 0.5 * wave, atol=1e-12)
    low, _ = fourier.split(wave, 1 / 8)
    np.testing.assert_allclose(low, 2**-0.25 * wave, atol=1e-12)


def test_opposite_borders_do_not_mix() -> None:
    values = np.zeros((8, 64))
    values[:, -4:] = 1.0
    low, _ = fourier.split(values, 0.1)
    assert np.abs(low[:, :8]).max() < 1e-3


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(StudyError, match="unknown window 'han': did you mean 'hann'"):
        fourier.taper("han", 4, 4)
    with pytest.raises(StudyError, match="rings = 0: at least 1"):
        fourier.radial(np.zeros((4, 4)), 0)
    with pytest.raises(StudyError, match="border = 0: take more than 0"):
        fourier.split(np.zeros((4, 4)), 0)
