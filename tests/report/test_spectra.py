"""The page of spectra: what it says of an image is what was done to it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from dfmsd.errors import StudyError
from dfmsd.report import fourier, spectra
from dfmsd.report.spectra import AS_IS, CROP, ENLARGED, FLIP, NOISE, Spectra
from dfmsd.study import claims, pages, scales
from dfmsd.study.pages import SpectraPage
from dfmsd.study.rows import Options


def page(**changes: object) -> SpectraPage:
    found = pages.get("fig06", scale="smoke")
    assert isinstance(found, SpectraPage)
    return found.model_copy(update={"images": 5} | changes)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spectra]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DFMSD_DATA", str(tmp_path_factory.mktemp("spectra")))
        yield spectra.measure(page())


@pytest.mark.parametrize(("scale", "expected"), [("smoke", 1 / 16), ("mini", 1 / 16), ("gpu", 1 / 32)])
def test_the_border_is_a_wave_on_an_object_at_the_limit_of_small_ones(scale: str, expected: float) -> None:
    assert spectra.border(scales.get(scale), 1.0) == expected
    assert spectra.border(scales.get(scale), 2.0) == 2 * expected


def test_versions_are_what_their_names_say() -> None:
    image = torch.arange(3 * 10 * 20).view(3, 10, 20) % 200
    made = spectra.versions(image, Options(crop=(0.5, 1.0), sigma=0.01), torch.Generator().manual_seed(0))
    assert torch.equal(made[AS_IS], image.float())
    assert torch.equal(made[FLIP].flip(2), image.float())
    assert made[CROP].shape == (3, 5, 10)
    assert made[ENLARGED].shape == image.shape
    assert 0 < (made[NOISE] - image)[:, 1:].std() < 5


def test_a_spectrum_in_numbers_by_hand() -> None:
    spectrum = np.zeros((8, 8))
    spectrum[0, 1] = spectrum[0, 7] = 3.0  # 1/8 cycle per pixel
    spectrum[4, 0] = 2.0  # 1/2
    numbers = spectra.summary(spectrum, 0.2)
    assert numbers["share"] == pytest.approx(6 / 8)
    assert numbers["mean"] == pytest.approx((6 * 0.125 + 2 * 0.5) / 8)
    assert numbers["low"] == pytest.approx(6 / 8)  # eight neighbours of frequency 0
    assert numbers["high"] == pytest.approx(2 / 55)


def test_the_first_images_are_measured_and_a_flip_changes_nothing(found: Spectra) -> None:
    assert found.count == 5
    assert set(found.numbers["image"]) == set(range(5))
    np.testing.assert_allclose(found.profiles[FLIP], found.profiles[AS_IS])
    assert found.times(FLIP, "low").mean == pytest.approx(1)
    assert found.change(FLIP).mean == pytest.approx(0)
    assert "**A flip** mirrors the spectrum" in spectra.findings(found).data


def test_noise_lifts_what_is_high(found: Spectra) -> None:
    assert min(found.times(NOISE, "high").values.values()) > 1
    assert max(found.change(NOISE).values.values()) < 0
    assert "**As the paper says** of their *share*" in spectra.findings(found).data


def test_the_paper_s_words_are_those_of_the_claims(found: Spectra) -> None:
    lines = spectra.findings(found).data.splitlines()
    for line, name in zip(lines, ("f6-flip", "f6-noise", "f6-crop", "f6-crop-enlarged"), strict=True):
        assert f"The paper: *{claims.of_figure(name).text}.*" in line


def test_the_profile_is_the_mean_over_rings(found: Spectra) -> None:
    _, spectrum = found.first[CROP]
    np.testing.assert_array_equal(found.profiles[CROP][0], fourier.radial(spectrum, found.page.rings))


def test_pictures_and_table_carry_the_numbers(found: Spectra) -> None:
    share = found.values(NOISE, "share")[0]
    assert f"noise {share:.1%}" in spectra.gallery(found).alt
    assert f"noise: × {found.times(NOISE, 'low').mean:.2f} below" in spectra.profile(found).alt
    frame = spectra.table(found).data.set_index("")
    assert list(frame.index) == [AS_IS, FLIP, NOISE, CROP, ENLARGED]
    mean = np.mean(list(found.values(NOISE, "share").values()))
    assert frame.loc[NOISE, "share of low frequencies, %"].startswith(f"{100 * mean:.1f}<span")
    assert "64 × 64 pixels" in spectra.setting(found).data


def test_equations_are_the_code_s_own() -> None:
    text = spectra.equations().data
    assert "**`power`.**" in text and "$$\nP_{uv}" in text
    assert ":math:" not in text and ":func:" not in text


def test_a_wrong_choice_is_one_clear_line() -> None:
    words = {"page": "fig06", "title": "t", "question": "q"}
    with pytest.raises(StudyError, match="unknown parameter 'windw': did you mean 'window'"):
        pages.validate(SpectraPage, words | {"windw": "none"})
    with pytest.raises(StudyError, match="window = 'han'"):
        pages.validate(SpectraPage, words | {"window": "han"})
    with pytest.raises(StudyError, match=r"unknown parameter 'options\.sigm': did you mean 'sigma'"):
        pages.validate(SpectraPage, words | {"options": {"sigm": 0.1}})
    with pytest.raises(StudyError, match="take smoke, mini or gpu"):
        spectra.measure(page(scale="coco"))
