"""What the pages that measure when they are executed keep for the scoreboard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dfmsd.__main__ import main
from dfmsd.errors import StudyError
from dfmsd.report import answers, spectra
from dfmsd.report import enhancement as attending
from dfmsd.report.enhancement import Teacher
from dfmsd.study import claims, pages, plan
from dfmsd.study import measured as observation
from dfmsd.study.claims import FigureClaim
from dfmsd.study.measured import Answers
from dfmsd.study.pages import EnhancementPage, FeaturesPage, SpectraPage
from dfmsd.study.spec import RunSpec
from tests.fixtures_detectors import detector


def spectra_page() -> SpectraPage:
    found = pages.get("fig06", scale="smoke")
    assert isinstance(found, SpectraPage)
    return found.model_copy(update={"images": 4})


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The images of the scale smoke, made once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DFMSD_DATA", str(tmp_path_factory.mktemp("answers")))
        yield


def test_every_claim_of_these_figures_is_answered(generated: None) -> None:
    own = {one.id for one in claims.claims() if isinstance(one, FigureClaim) and not isinstance(pages.get(one.page), FeaturesPage)}
    assert own == {name for view in answers.CONTRASTS.values() for name in view} | set(
        answers.power(spectra.measure(spectra_page()))
    )


def test_numbers_of_spectra_are_those_of_the_page(generated: None) -> None:
    found = spectra.measure(spectra_page())
    power = answers.power(found)
    share = found.values(spectra.NOISE, "share")[2] - found.values(spectra.AS_IS, "share")[2]
    assert power["f6-noise"][2] == pytest.approx(-100 * share)
    assert power["f6-crop"] == {image: pytest.approx(100 * value) for image, value in found.change(spectra.CROP).values.items()}
    worst = np.nanmax(np.abs(found.profiles[spectra.FLIP] / found.profiles[spectra.AS_IS] - 1))
    assert max(power["f6-flip"].values()) == worst < 1e-6


def test_the_command_line_writes_a_record_that_claims_are_judged_by(
    generated: None, folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = spectra_page()
    monkeypatch.setattr(pages, "get", lambda name, **_: page)
    assert main(["observe", "fig06"]) == 0
    assert capsys.readouterr().out == f"fig06: {page.observation()}\n"
    seen = observation.read(page, Answers)
    assert seen is not None and observation.stale(seen, page) == []
    assert len(seen.images) == 4 and {len(values) for values in seen.claims.values()} == {4}
    assert claims.look(claims.of_figure("f6-flip"), "smoke").verdict == "holds"


def test_attention_is_kept_by_image(generated: None, folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = pages.get("fig05", scale="smoke")
    assert isinstance(page, EnhancementPage)
    with pytest.raises(
        StudyError, match=r"page fig05: no weights here of RetinaNet R101.*`python -m dfmsd observe fig05 .* --train`"
    ):
        answers.run(page)
    monkeypatch.setattr(attending, "teacher", lambda page, name: Teacher(detector(name), f"{name}, untrained", grown=True))
    monkeypatch.setattr(plan, "has_weights", lambda run: isinstance(run, RunSpec))
    monkeypatch.setattr(answers.provenance, "_identity", lambda run: "0" * 64)
    answers.run(page)
    seen = observation.read(page, Answers)
    assert seen is not None and list(seen.networks) == ["retinanet_r101"]
    found = attending.measure(page)
    by_hand = {
        image: found.values(attending.HIGH, "small", "attention")[image] - value
        for image, value in found.values(attending.LOW, "small", "attention").items()
    }
    assert {place: value for place, value in enumerate(seen.claims["f5-small"]) if value is not None} == pytest.approx(
        by_hand, rel=1e-3
    )


def test_other_numbers_are_asked_for_by_another_name() -> None:
    page = pages.get("fig05")
    assert isinstance(page, EnhancementPage)
    asked = {page.asked(), *(page.model_copy(update=change).asked() for change in ({"images": 3}, {"stride": 16}, {"cycles": 2.0}))}
    assert len(asked) == 4
    assert page.model_copy(update={"title": "Mine"}).asked() == page.asked()
    changed = spectra_page().model_copy(update={"window": "none"})
    assert changed.asked() != spectra_page().asked()
