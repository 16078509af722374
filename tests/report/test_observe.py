"""Reading features off networks with weights: which images, which levels, and what is said when something is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dfmsd.__main__ import main
from dfmsd.errors import StudyError
from dfmsd.report import observe
from dfmsd.study import measured as observation
from dfmsd.study import pages, plan, records
from dfmsd.study.data import Split
from dfmsd.study.measured import Interval, Observation
from dfmsd.study.pages import FeaturesPage
from dfmsd.study.spec import RunSpec
from tests import fixtures_features as features
from tests.fixtures_study import record


def split(folder: Path, *areas: tuple[int, ...]) -> Split:
    """An annotation file of images with objects of such areas."""
    images = [{"id": 10 + place} for place in range(len(areas))]
    objects = [{"image_id": 10 + place, "area": area} for place, own in enumerate(areas) for area in own]
    file = folder / "val.json"
    file.write_text(json.dumps({"images": images, "annotations": objects}))
    return Split(file, folder)


SMALL, MEDIUM, LARGE = 10**2, 50**2, 100**2


def test_the_first_images_with_every_size_are_drawn(tmp_path: Path) -> None:
    found = split(tmp_path, (SMALL,), (SMALL, MEDIUM, LARGE), (), (LARGE, SMALL, SMALL, MEDIUM), (SMALL, MEDIUM, LARGE))
    assert observe.chosen(found, images=3, shown=2) == ([0, 1, 2], [1, 3])


def test_where_none_has_every_size_those_with_most_are_drawn(tmp_path: Path) -> None:
    found = split(tmp_path, (SMALL, SMALL), (), (SMALL, LARGE), (MEDIUM,))
    assert observe.chosen(found, images=9, shown=2) == ([0, 1, 2, 3], [0, 2])
    with pytest.raises(StudyError, match="shown = 5: there are only 4 validation images"):
        observe.chosen(found, images=9, shown=5)


@pytest.fixture(scope="module")
def looked() -> FeaturesPage:
    return features.page()


def test_what_has_no_weights_is_named_with_the_command_that_trains_it(folders: Path, looked: FeaturesPage) -> None:
    features.trained(features.page(networks=features.TWINS[:1]))
    run = looked.runs()["other"]
    assert isinstance(run, RunSpec)
    with pytest.raises(StudyError) as caught:
        observe.observe(looked)
    assert str(caught.value) == (
        f"page mine: no weights here of FCOS R50, 1 epoch, seed 1 ({run.key}): "
        "`python -m dfmsd observe mine --scale smoke --train` trains what is missing"
    )


def test_a_published_record_does_not_stand_in_for_weights(folders: Path, looked: FeaturesPage) -> None:
    chains = looked.chains()
    run = chains[0][-1]
    records.write_atomic(folders / "records" / f"{run.key}.json", records.dump(record(run)))
    assert [item.state for item in plan.plan(chains[:1])] == ["done"]
    assert [item.state for item in plan.plan(chains[:1], weights=True)] == ["missing"]


def test_a_level_that_the_networks_do_not_share_is_refused(folders: Path) -> None:
    page = features.page(stride=4)
    features.trained(page)
    with pytest.raises(StudyError, match=r"page mine: stride = 4: the networks share 8, 16$"):
        observe.observe(page)


def test_equal_networks_are_alike_and_another_is_not(folders: Path, looked: FeaturesPage) -> None:
    features.trained(looked)
    page = features.page(teacher=None, networks=(*features.TWINS, {"name": "third", "network": "retinanet_r50"}))
    features.trained(page)
    seen = observe.observe(page)
    assert [(pair.first, pair.second) for pair in seen.pairs] == [("one", "other"), ("one", "third"), ("other", "third")]
    twins, apart, same = seen.pairs
    certain = Interval(value=1.0, low=1.0, high=1.0)
    for stride in (8, 16):
        assert twins.maps[stride] == (1.0,) * 4 == twins.masks[stride]
        assert twins.channels[stride] == certain
        assert twins.aligned[stride].value > 0.5, "chosen on two images only"
        assert max(apart.maps[stride]) < 0.999  # type: ignore[type-var, operator]
        assert abs(apart.channels[stride].value) < 0.5
        assert seen.values["one"][stride] == seen.values["other"][stride] != seen.values["third"][stride]
    assert apart == same.model_copy(update={"first": "one"})
    assert seen.objects["one"] == seen.objects["other"]
    whole(seen, page)


def whole(seen: Observation, page: FeaturesPage) -> None:
    """What a record of any page has."""
    assert seen.strides == [8, 16] and seen.images == (0, 1, 2, 3)
    assert list(seen.networks) == list(page.runs())
    assert observation.stale(seen, page) == []
    for shown in seen.shown:
        assert shown.size == (64, 64) and shown.jpeg
        assert {len(row) for rows in shown.maps.values() for row in rows} == {8}
    for by_stride in seen.values.values():
        for found in by_stride.values():
            width = (found.high - found.low) / len(found.density)
            assert sum(found.density) * width == pytest.approx(1.0, abs=2e-3)
    assert all(0 <= value <= 1 for found in seen.objects.values() for own in found.values() for value in own if value is not None)


def test_the_command_line_writes_the_record(
    folders: Path, looked: FeaturesPage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    features.trained(looked)
    monkeypatch.setattr(pages, "get", lambda name, **_: looked)
    monkeypatch.setattr(pages, "names", lambda: ["mine"])
    assert main(["observe", "mine"]) == 0
    assert capsys.readouterr().out == f"mine: {looked.observation()}\n"
    found = observation.find(looked)
    assert found is not None and observation.stale(found, looked) == []
    whole(found, looked)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["observe", "table03"], "error: no page 'table03' keeps a record of what it measures: "),
        (["observe"], "error: name a page (fig01, "),
        (["observe", "fig04", "--trian"], "error: unknown option '--trian': did you mean '--train'?"),
    ],
)
def test_what_cannot_be_observed_is_refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = main(arguments)
    except SystemExit as left:
        status = int(str(left.code))
    assert status == 2
    assert message in capsys.readouterr().err
