"""Spectra of images whose spectrum is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from dfmsd import study
from dfmsd.errors import StudyError
from dfmsd.report import canvas, spectra
from dfmsd.report.spectra import AS_IS, CROP, ENLARGED, FLIP, NOISE, NYQUIST, Array, power, radial
from dfmsd.study import pages, records
from dfmsd.study.pages.measured import SpectraPage
from dfmsd.study.rows import Options

WINDOWS = ("hann", "none")


def noise(*size: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=size)


def taper(window: str, height: int, width: int) -> Array:
    """Hann's window by its formula."""
    sides = [np.sin(np.pi * np.arange(side) / (side - 1)) ** 2 if window == "hann" else np.ones(side) for side in (height, width)]
    return np.outer(*sides)


def test_luminance_weighs_blue_green_and_red() -> None:
    pixels = torch.zeros(3, 1, 3)
    pixels[0, 0, 0] = pixels[1, 0, 1] = pixels[2, 0, 2] = 255.0
    np.testing.assert_allclose(spectra.luminance(pixels), [[0.114, 0.587, 0.299]], rtol=1e-6)


@pytest.mark.parametrize("window", WINDOWS)
def test_the_mean_of_the_spectrum_is_the_variance(window: str) -> None:
    values, weights = noise(12, 20), taper(window, 12, 20)
    centred = values - np.average(values, weights=weights)
    assert power(values, window).mean() == pytest.approx(np.average(centred**2, weights=weights**2))


@pytest.mark.parametrize("window", WINDOWS)
def test_a_constant_has_no_power_and_no_image_has_any_at_frequency_0(window: str) -> None:
    np.testing.assert_allclose(power(np.full((8, 6), 0.7), window), 0, atol=1e-28)
    assert power(5 + noise(9, 16), window)[0, 0] == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize("window", WINDOWS)
def test_a_flip_mirrors_the_spectrum_and_keeps_its_rings(window: str) -> None:
    values = noise(16, 21)
    before, after = power(values, window), power(values[:, ::-1], window)
    np.testing.assert_allclose(after[:, 1:], before[:, :0:-1])  # u, v -> u, -v
    np.testing.assert_allclose(after[:, 0], before[:, 0], atol=1e-20)
    np.testing.assert_allclose(radial(after, 6), radial(before, 6))


def test_a_wave_has_its_power_at_its_frequency() -> None:
    wave = 3.0 * np.cos(2 * np.pi * 5 * np.arange(64) / 64) * np.ones((32, 1))
    found = power(wave, "none")
    # Half the squared amplitude is its variance, spread over 32 x 64 coefficients and found in two of them.
    assert np.argwhere(found > 1e-9).tolist() == [[0, 5], [0, 59]]
    assert found[0, 5] == pytest.approx(3.0**2 / 2 * 32 * 64 / 2)
    assert spectra.frequencies(32, 64)[0, [5, 59]].tolist() == [5 / 64, 5 / 64]
    assert np.flatnonzero(radial(found, 8) > 1e-9).tolist() == [1]  # 0.078 lies between 0.0625 and 0.125


def test_a_window_keeps_borders_from_leaking() -> None:
    ramp = np.tile(np.linspace(0, 1, 64), (64, 1))
    high = {window: power(ramp, window)[0, 16:32].mean() for window in WINDOWS}
    assert high["hann"] < 1e-6 * high["none"]


def test_rings_leave_out_frequency_0_and_the_corners() -> None:
    marked = np.zeros((4, 4))
    marked[0, 0], marked[2, 2] = 7.0, 9.0
    np.testing.assert_array_equal(radial(marked, 2), [np.nan, 0.0])  # 1/4 is the lowest, on the edge of the second


def test_a_spectrum_in_numbers_by_hand() -> None:
    spectrum = np.zeros((8, 8))
    spectrum[0, 1] = spectrum[0, 7] = 3.0  # 1/8 cycle per pixel
    spectrum[4, 0] = 2.0  # 1/2
    # Eight neighbours of frequency 0 lie below the border, 55 others from it on.
    expected = {"share": 75.0, "mean": (6 * 0.125 + 2 * 0.5) / 8, "low": 6 / 8, "high": 2 / 55}
    assert spectra.summary(spectrum, 0.2) == pytest.approx(expected)


def test_versions_are_what_their_names_say() -> None:
    image = torch.arange(3 * 10 * 20).view(3, 10, 20) % 200
    made = spectra.versions(image, Options(crop=(0.5, 1.0), sigma=0.01), torch.Generator().manual_seed(0))
    assert torch.equal(made[AS_IS], image.float())
    assert torch.equal(made[FLIP].flip(2), image.float())
    assert made[CROP].shape == (3, 5, 10) and made[ENLARGED].shape == image.shape
    assert 0 < (made[NOISE] - image)[:, 1:].std() < 5


def page(**changes: object) -> SpectraPage:
    found = pages.get("fig06", scale="smoke")
    assert isinstance(found, SpectraPage)
    return found.model_copy(update={"images": 5} | changes)


def test_from_the_images_to_the_frame(folders: Path) -> None:
    found = page()
    study.make(found, measure=spectra.measure, jobs=1, quiet=True)
    frame, record = study.frame(found), records.measured(found)
    assert record is not None and records.stale_reasons(record, found) == []
    values = frame[frame["image"].notna()].pivot(index="image", columns=["metric", "row"], values="value")
    assert len(values) == 5
    assert values["change", FLIP].max() < 1e-12
    assert values["low", FLIP].abs().max() < 1e-12
    assert values["high", NOISE].min() > 0, "noise lifts what is high"
    assert (values["share", NOISE] < values["share", AS_IS]).all()
    profile = frame[(frame["row"] == NOISE) & (frame["metric"] == "ratio")]
    assert profile["frequency"].is_monotonic_increasing and profile["frequency"].max() < NYQUIST
    assert (profile["low"] <= profile["value"]).all() and (profile["value"] <= profile["high"]).all()
    assert profile["value"].iloc[-1] > 1
    shown = record.pictures["versions"]
    assert list(shown) == [AS_IS, FLIP, NOISE, CROP, ENLARGED]
    before, after = (canvas.decoded(shown[name]["image"]).astype(int) for name in (AS_IS, FLIP))
    assert np.abs(before - after[:, ::-1]).max() < 16, "JPEG's loss alone"
    spectrum = canvas.decoded(shown[AS_IS]["spectrum"])
    assert np.hypot(*(np.array(np.unravel_index(spectrum[..., 0].argmax(), spectrum.shape[:2])) - 32)) < 6, (
        "brightest in the middle"
    )


def test_a_seed_of_its_own_gives_the_same_numbers_again(folders: Path) -> None:
    first, second = (spectra.measure(page())[0] for _ in range(2))
    pd.testing.assert_frame_equal(first, second)


def test_images_of_unlike_size_have_no_border() -> None:
    with pytest.raises(StudyError, match="scale = coco: its images differ in size"):
        spectra.measure(page(scale="coco"))
