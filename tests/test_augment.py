"""Masking enhancement: areas by hand, what noise and crops do to spectra, and which image gets which."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dfmsd.augment import add_noise, area_ratio, enhance, random_crop

CHOICE = {"theta": 0.5, "sigma": 0.08, "noise_probability": 0.3, "crop": (0.8, 1.0)}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def picture(seed: int = 0, size: int = 64) -> torch.Tensor:
    """A smooth image, with a spectrum that falls off as pictures' do."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = np.inf
    waves = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(3, size, size))) / frequency**1.5, s=(size, size))
    return torch.from_numpy((128 + 40 * waves / waves.std()).clip(0, 255).astype(np.float32))


def high_share(image: torch.Tensor) -> float:
    """Share of the spectrum's power above a quarter of the sampling frequency, without the mean."""
    plain = image.double() - image.double().mean(dim=(1, 2), keepdim=True)
    power = torch.fft.rfft2(plain).abs().square().sum(dim=0)
    frequency = torch.hypot(torch.fft.fftfreq(image.shape[1])[:, None], torch.fft.rfftfreq(image.shape[2])[None])
    return float(power[frequency > 0.25].sum() / power.sum())


@pytest.mark.parametrize(
    ("boxes", "scores", "expected"),
    [
        ([], [], 0.0),
        ([[0, 0, 10, 10]], [0.9], 0.5),
        ([[0, 0, 10, 10]], [0.3], 0.5),  # the score itself counts
        ([[0, 0, 10, 10]], [0.29], 0.0),
        ([[0, 0, 5, 5], [5, 5, 10, 10]], [0.9, 0.9], 0.25),
        ([[0, 0, 10, 5], [0, 0, 10, 5]], [0.9, 0.9], 0.5),  # summed, not united
        ([[0, 0, 10, 20], [0, 0, 10, 20]], [0.9, 0.9], 1.0),
    ],
)
def test_area_ratio_by_hand(boxes: list[list[float]], scores: list[float], expected: float) -> None:
    ratio = area_ratio(torch.tensor(boxes).reshape(-1, 4).float(), torch.tensor(scores), score=0.3, height=20, width=10)
    assert ratio == expected


def test_noise_has_its_deviation_and_stays_in_range() -> None:
    grey = torch.full((3, 100, 100), 128, dtype=torch.uint8)
    noisy = add_noise(grey, sigma=0.08, generator=generator())
    # 30,000 draws: five standard errors of the deviation are 0.42.
    assert (noisy - 128).std().item() == pytest.approx(20.4, abs=0.42)
    # What is cut off a whole number's fraction is a half on average.
    assert (noisy - 128).mean().item() == pytest.approx(-0.5, abs=0.6)
    assert torch.equal(noisy, noisy.floor())
    bright = add_noise(torch.full((3, 50, 50), 255.0), sigma=0.5, generator=generator())
    assert bright.max() == 255
    assert bright.min() >= 0
    assert torch.equal(add_noise(grey, sigma=0.0, generator=generator()), grey.float())


def test_noise_raises_high_frequencies() -> None:
    for seed in range(20):
        image = picture(seed)
        assert high_share(add_noise(image, sigma=0.08, generator=generator(seed))) > 2 * high_share(image)


def test_crop_magnifies_so_that_low_frequencies_gain() -> None:
    """Brought back to the image's size, a window of 0.8 has its frequencies times 0.8."""
    shares = []
    for seed in range(20):
        image = picture(seed)
        window = random_crop(image, sides=(0.8, 0.8), generator=generator(seed))[None]
        magnified = torch.nn.functional.interpolate(window, size=(64, 64), mode="bicubic", align_corners=False)[0]
        # A window of a wave is no wave any more: a taper, the same for both, keeps its edges out of the spectrum.
        taper = torch.hann_window(64)[:, None] * torch.hann_window(64)[None]
        shares.append((high_share(magnified * taper), high_share(image * taper)))
    assert np.mean([after for after, _ in shares]) < np.mean([before for _, before in shares])


def test_crop_is_a_window_of_the_image_anywhere() -> None:
    image = torch.arange(200).reshape(1, 10, 20)
    corners = set()
    for seed in range(200):
        window = random_crop(image, sides=(0.8, 0.8), generator=generator(seed))
        assert window.shape == (1, 8, 16)
        top, left = divmod(int(window[0, 0, 0]), 20)
        assert torch.equal(window, image[:, top : top + 8, left : left + 16])
        corners.add((top, left))
    assert corners == {(top, left) for top in range(3) for left in range(5)}


def test_sides_of_a_crop_are_drawn_each_for_itself_from_the_smallest_to_the_whole() -> None:
    """Of 10 rows 8 to 10, of 20 columns 16 to 20, rounded half up: the ends get half as much as what lies between."""
    image = torch.zeros(1, 10, 20)
    sizes = [tuple(random_crop(image, sides=(0.8, 1.0), generator=generator(seed)).shape[1:]) for seed in range(2000)]
    assert set(sizes) == {(h, w) for h in (8, 9, 10) for w in range(16, 21)}
    shares = [sum(h == height for h, _ in sizes) / 2000 for height in (8, 9, 10)]
    # Five standard deviations of a binomial of 2000 and a half: 0.056.
    assert shares == pytest.approx([0.25, 0.5, 0.25], abs=0.056)


def test_crop_of_everything_and_of_a_pixel() -> None:
    image = torch.arange(6.0).reshape(1, 2, 3)
    assert torch.equal(random_crop(image, sides=(1.0, 1.0), generator=generator()), image)
    assert random_crop(image, sides=(0.01, 0.01), generator=generator()).shape == (1, 1, 1)


@pytest.mark.parametrize(("ratio", "cropped"), [(0.0, False), (0.499, False), (0.5, True), (1.0, True)])
def test_theta_decides_between_noise_and_crop(ratio: float, cropped: bool) -> None:
    image = picture()
    for seed in range(20):
        changed = enhance(image, ratio, **CHOICE, generator=generator(seed))
        assert all(51 <= side <= 64 for side in changed.shape[1:])
        assert (changed.shape != image.shape) == cropped  # no crop here keeps all of both sides


def test_noise_comes_with_its_probability() -> None:
    image = picture(size=8)
    noisy = sum(not torch.equal(enhance(image, 0.0, **CHOICE, generator=generator(seed)), image) for seed in range(1000))
    # Five standard deviations of a binomial of 1000 and 0.3.
    assert noisy == pytest.approx(300, abs=73)


def test_enhancement_depends_on_its_generator_alone() -> None:
    image, certain = picture(), CHOICE | {"noise_probability": 1.0}
    for ratio in (0.0, 1.0):
        first = enhance(image, ratio, **certain, generator=generator(1))
        torch.manual_seed(5)
        assert torch.equal(first, enhance(image, ratio, **certain, generator=generator(1)))
        other = enhance(image, ratio, **certain, generator=generator(2))
        assert not torch.equal(first, other)
