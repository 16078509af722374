"""Records of what was read off networks: written, read, and doubted."""

from __future__ import annotations

from pathlib import Path

import pytest

from dfmsd.errors import StudyError
from dfmsd.study import measured as observation
from dfmsd.study import paths, records
from tests import fixtures_features as features
from tests.fixtures_study import finish


@pytest.fixture(autouse=True)
def own_folders(folders: Path) -> None:
    """Runs and records of the test's own."""


def test_a_record_is_read_as_it_was_written() -> None:
    page = features.page()
    assert observation.find(page) is None and page.files() == []
    seen = features.seen(page)
    observation.write(seen, page.observation())
    assert observation.find(page) == seen
    assert page.files() == [paths.records() / "observations" / "mine-smoke.json"]
    lines = page.observation().read_text().splitlines()
    assert any(line.strip().startswith('"8": [0.49, 0.5, 0.51, null]') for line in lines), "a row of numbers takes one line"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:-20], "is damaged"),
        (lambda text: text.replace('"page": "mine"', '"page": "yours"'), "is of yours, smoke: it was renamed or edited"),
    ],
)
def test_a_record_that_cannot_be_believed_is_refused(change, message: str) -> None:  # type: ignore[no-untyped-def]
    page = features.page()
    observation.write(features.seen(page), page.observation())
    page.observation().write_text(change(page.observation().read_text()))
    with pytest.raises(StudyError, match=message) as caught:
        observation.find(page)
    assert "python -m dfmsd observe mine --scale smoke" in str(caught.value)


def test_a_fresh_record_is_not_stale() -> None:
    page = features.page()
    assert observation.stale(features.seen(page), page) == []


def test_a_run_that_was_made_anew_makes_it_stale() -> None:
    page = features.page()
    seen = features.seen(page)
    run = page.runs()["other"]
    finish(run)
    assert observation.stale(seen, page) == [], "the same weights"
    file = paths.runs() / run.key / "record.json"
    again = records.read(file).model_copy(update={"weights_sha256": "another"})
    records.write_atomic(file, records.dump(again))
    assert observation.stale(seen, page) == ["other was trained again since"]


@pytest.mark.parametrize("change", [{"images": 3}, {"stride": 16}, {"networks": (features.TWINS[0],)}, {"teacher": "gfl_r101"}])
def test_a_page_that_asks_for_something_else_makes_it_stale(change: dict[str, object]) -> None:
    seen = features.seen(features.page())
    assert "the page names other networks, images or levels now" in observation.stale(seen, features.page(**change))


def test_words_of_a_page_are_no_reason_to_look_again() -> None:
    seen = features.seen(features.page())
    assert observation.stale(seen, features.page(title="Yours", claim="Not so.")) == []


def test_code_that_measures_otherwise_makes_it_stale() -> None:
    page = features.page()
    seen = features.seen(page)
    old = seen.model_copy(update={"origin": seen.origin.model_copy(update={"code_digest": "0" * 12})})
    assert observation.stale(old, page) == ["the code that measures has changed since"]
