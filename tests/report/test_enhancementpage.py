"""The pages of Figs. 5 and 7: words and drawings say what was measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import get_args

import pandas as pd
import pytest

from dfmsd.errors import StudyError
from dfmsd.report import enhancement as attending
from dfmsd.report import enhancementpage
from dfmsd.report.answers import CONTRASTS
from dfmsd.report.enhancement import CROP, HIGH, IMAGE, LOW, NOISE, Attended, Teacher
from dfmsd.study import claims, pages
from dfmsd.study.pages import EnhancementPage
from tests.fixtures_detectors import detector

PAGES = {"frequencies": "fig05", "augmentation": "fig07"}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Attended]]:
    """Both pages at the scale smoke, with teachers that have learned nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DFMSD_DATA", str(tmp_path_factory.mktemp("enhancement")))
        patch.setattr(attending, "teacher", lambda page, name: Teacher(detector(name), f"{name}, untrained", grown=True))
        yield {view: attending.measure(pages.get(name, scale="smoke")) for view, name in PAGES.items()}


def numbers(found: Attended, values: dict[str, list[float]], size: str, *, below: bool = True) -> Attended:
    """The same page with attention made by hand."""
    rows = [
        {"image": index, "below": below, "version": version, "size": size, "attention": value, "hidden": value / 4}
        for version, column in values.items()
        for index, value in enumerate(column)
    ]
    return replace(found, numbers=pd.DataFrame(rows))


@pytest.mark.parametrize("view", PAGES)
def test_every_view_has_its_page(view: str) -> None:
    assert set(PAGES) == set(CONTRASTS) == set(get_args(EnhancementPage.model_fields["view"].annotation))
    page = pages.get(PAGES[view])
    assert isinstance(page, EnhancementPage) and page.view == view
    assert page.teachers == (("retinanet_r101",) if view == "frequencies" else ("retinanet_r101", "retinanet_x101"))


def test_each_image_has_the_versions_of_its_kind(measured: dict[str, Attended]) -> None:
    frame = measured["frequencies"].numbers
    assert set(frame["version"]) == {LOW, IMAGE, HIGH}
    frame = measured["augmentation"].numbers
    assert set(frame[frame["below"]]["version"]) == {IMAGE, NOISE}
    assert set(frame[~frame["below"]]["version"]) == {IMAGE, CROP}
    for found in measured.values():
        assert found.small.ratio < found.page.options.theta <= found.large.ratio
        kinds = found.numbers.groupby("image")["below"].first()
        assert found.small.index == kinds.index[kinds].min() or not kinds.any()


@pytest.mark.parametrize("view", PAGES)
def test_pictures_and_words_say_whose_and_what(view: str, measured: dict[str, Attended]) -> None:
    found = measured[view]
    for seen, kind in ((found.small, "small"), (found.large, "large")):
        drawn = enhancementpage.look(found, seen)
        assert drawn.alt.startswith(f"An image that {kind} objects dominate.")
        assert f"Validation image {seen.index}, the first one of its kind" in enhancementpage.caption(found, seen).data
    assert "line charts" in enhancementpage.chart(found).alt
    words = enhancementpage.setting(found).data
    assert "retinanet_r101, untrained" in words
    assert ("retinanet_x101, untrained" in words) == (view == "augmentation")
    assert "\\tilde x" in enhancementpage.equation(found.page).data or view == "frequencies"


def test_a_difference_is_told_with_its_verdict(measured: dict[str, Attended]) -> None:
    claimed = numbers(measured["frequencies"], {LOW: [1.0, 1.5, 2.0], HIGH: [2.0, 2.4, 3.0], IMAGE: [0.5, 0.9, 1.1]}, "small")
    text = enhancementpage.findings(claimed).data
    assert "small objects get 1.50 times the mean attention in its low frequencies and 2.47 times in its high" in text
    assert "**As the paper says**" in text and "**No image** here has such objects" in text
    assert "less than the mean attention: 67% in the image as it is and 0% in its high frequencies" in text
    frame = enhancementpage.table(claimed).data
    assert frame["here"].tolist() == ["holds", "too few images"]
    said = zip(("f5-small", "f5-large"), frame["the paper says"], strict=True)
    assert all(claims.of_figure(name).text in text for name, text in said)
    assert frame["attention, difference"][0].startswith("+0.97") and frame["images"].tolist() == ["3", "0"]


def test_the_other_way_round_fails_and_in_between_is_undecided(measured: dict[str, Attended]) -> None:
    found = measured["augmentation"]
    down = numbers(found, {IMAGE: [2.0, 2.0, 2.0], NOISE: [1.0, 1.1, 1.2]}, "small")
    assert "**Not as the paper says**: it is the other way round" in enhancementpage.findings(down).data
    unsure = numbers(found, {IMAGE: [2.0, 2.0, 2.0], CROP: [1.0, 3.0, 2.1]}, "large", below=False)
    assert enhancementpage.table(unsure).data["here"].tolist() == ["too few images", "undecided"]
    assert "large objects, cropped: as it is 2.00, cropped 2.03" in enhancementpage.chart(unsure).alt


def test_the_eyes_of_a_young_teacher_judge_nothing(measured: dict[str, Attended]) -> None:
    young = replace(measured["frequencies"], watcher=Teacher(detector("retinanet_r101"), "", grown=False))
    claimed = numbers(young, {LOW: [1.0, 1.5, 2.0], HIGH: [2.0, 2.4, 3.0], IMAGE: [0.5, 0.9, 1.1]}, "small")
    assert set(enhancementpage.table(claimed).data["here"]) == {"not judged"}
    assert "**Not judged**" in enhancementpage.findings(claimed).data


def test_where_the_teacher_is_young_the_record_speaks(measured: dict[str, Attended], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "look", lambda claim, scale: claims.Judgement("fails", f"{claim.id} at {scale}"))
    old = numbers(measured["frequencies"], {LOW: [1.0, 1.5, 2.0], HIGH: [2.0, 2.4, 3.0], IMAGE: [0.5, 0.9, 1.1]}, "small")
    assert "The record" not in enhancementpage.findings(old).data
    young = replace(old, watcher=Teacher(detector("retinanet_r101"), "", grown=False))
    assert "The record, of the study's teacher: *fails*, f5-small at smoke." in enhancementpage.findings(young).data


def test_an_unknown_view_is_refused() -> None:
    with pytest.raises(StudyError, match="view = 'frequency'"):
        pages.validate(EnhancementPage, {"page": "fig05", "title": "t", "question": "q", "view": "frequency"})
