"""The data-set page: what its figures and table show is what the annotations say."""

from __future__ import annotations

from pathlib import Path

import pytest

from dfmsd.errors import StudyError
from dfmsd.report import dataset as datapage
from dfmsd.study import data, pages, scales
from dfmsd.study.spec import CocoData, ShapesData

TINY = ShapesData(version=1, seed=7, train=12, val=4, tune=0, size=128)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DFMSD_DATA", str(tmp_path))


def test_coco_is_refused_by_name() -> None:
    with pytest.raises(StudyError, match="take smoke, mini or gpu"):
        datapage.generated(CocoData(digest="absent"))


def test_each_row_of_samples_has_its_kind() -> None:
    figure = datapage.samples(TINY, 2)
    labels = [axis.get_ylabel() for axis in figure.axes if axis.get_ylabel()]
    assert labels == list(datapage.KINDS.values())
    assert len(figure.axes) == 6


def test_a_sample_shows_a_box_and_a_name_for_each_object() -> None:
    spec = TINY.model_copy(update={"train": 1})
    (row,) = [row for row in data.statistics(spec)["splits"] if row["split"] == "train"]
    figure = datapage.samples(spec, 1)
    assert sum(len(axis.patches) for axis in figure.axes) == row["objects"]
    assert sum(len(axis.texts) for axis in figure.axes) == row["objects"]


def test_bars_of_each_split_add_up_to_one() -> None:
    figure = datapage.statistics(data.statistics(TINY))
    for axis in figure.axes:
        for bars in axis.containers:
            assert sum(bar.get_height() for bar in bars) == pytest.approx(1.0)


def test_the_table_counts_every_object_once() -> None:
    table = datapage.split_table(data.statistics(TINY))
    sizes = table["small objects"] + table["medium objects"] + table["large objects"]
    assert (sizes == table["objects"]).all()


def test_the_page_has_no_runs_and_follows_the_scale() -> None:
    page = pages.get("shapes", scale="smoke", seeds=[1])
    assert isinstance(page, pages.DataPage)
    assert page.chains() == []
    assert isinstance(datapage.generated(scales.get(page.scale).data), ShapesData)


def test_a_misspelt_parameter_is_named_with_the_nearest() -> None:
    with pytest.raises(StudyError, match="unknown parameter 'image': did you mean 'images'"):
        pages.validate(pages.DataPage, {"page": "shapes", "title": "t", "question": "q", "image": 3})
