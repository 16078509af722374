"""The page of starts: each backbone once, with what it has learnt and the crops that it learnt from."""

from __future__ import annotations

from pathlib import Path

from dfmsd.report import origin, starts
from dfmsd.study import frames, pages, scales, zoo
from dfmsd.study.pages.scale import StartsPage
from tests.conftest import WriteRecord
from tests.fixtures_study import folders, publish  # noqa: F401
from tests.report.conftest import run


def page(scale: str) -> StartsPage:
    found = pages.get("starts", scale=scale)
    assert isinstance(found, StartsPage)
    return found


def test_every_network_has_one_start() -> None:
    found = [name for _, names in page("mini").starts for name in names]
    assert sorted(found) == sorted(zoo.names())
    starts_of = {name: start for start, names in page("mini").starts for name in names}
    assert all(start == scales.get("mini").start_of(name) for name, start in starts_of.items())
    assert len({start.key for start in starts_of.values()}) == len(page("mini").chains())
    assert page("gpu").chains() == []


def test_accuracies_are_those_of_the_records(write_record: WriteRecord) -> None:
    known = page("mini")
    for place, (start,) in enumerate(known.chains()):
        metrics = {"accuracy": 90.0 + place, "accuracy ring": 80.0, "accuracy star": 70.0 + place}
        publish(start, metrics=metrics, curve=[{"iteration": 10.0, "loss": 1.0}, {"iteration": 20.0, "loss": 0.5}])  # type: ignore[arg-type]
    frame = frames.frame(known)
    table = starts.table(frame)
    assert table["accuracy"].tolist() == [90.0 + place for place in range(len(known.chains()))]
    assert table["hardest class"].iloc[0] == "star, 70.0"
    lowest, best = table.index[0].split(", ")[0], 89 + len(table)
    assert starts.learnt(table) == (
        f"The start of {lowest} tells 90.0 % of the crops of other images right, the best start {best:.1f} %."
    )
    assert starts.learnt(table[:0]) == ""
    assert starts.keys(frame).tolist() == [start.key for (start,) in known.chains()]
    assert "0.50" in str(starts.learning(known).get_label())
    # The origin of a page whose runs are starts names them.
    assert len(origin.provenance(frames.origins(known)))


def test_crops_are_cut_from_a_few_images_of_the_starts_own_set(folders: Path) -> None:  # noqa: F811
    shown = run("starts", page="starts", title="t", question="q", scale="smoke", crops=2)
    words = str(shown["mosaic"].get_label())
    assert "background 2" in words
    assert "not run" in str(shown["learning"].get_label())
