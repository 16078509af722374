"""Leftovers: what nobody needs is listed and removed, what anybody may need stays."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from dfmsd.__main__ import main
from dfmsd.study import clean, ensure, files, pages, paths
from tests.fixtures_study import baseline, finish, folders  # noqa: F401


@pytest.fixture
def places(folders: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[set[Path], set[Path]]:  # noqa: F811
    """What is left over, and what is not, in folders of the test's own."""
    monkeypatch.setenv("DFMSD_DATA", str(folders / "data"))
    monkeypatch.setattr(pages, "names", lambda: ["table03"])
    runs = paths.runs()
    old, asked, busy, coco = (baseline(seed=seed) for seed in (91, 92, 93, 94))
    table = pages.get("table03", scale="smoke").chains()[0][0]
    for run in (table, old, asked, busy, coco):
        finish(run)
    clean.keep([asked], "python -m dfmsd run --seed 92")
    record = runs / coco.key / "record.json"
    record.write_text(record.read_text().replace('"shapes"', '"coco"'))  # it cannot be told whether a page has it
    left = [
        runs / old.key,
        runs / f"{old.key}.lock",
        runs / f"{table.key}.partial" / "student.pth",
        runs / f"{table.key}.left" / "record.json",
        runs / table.key / "20260101_000000" / "20260101_000000.log",
        runs / table.key / "20260101_000000.py",
        runs / table.key / ".record.json.0123abcd",
        runs / "logs" / f"{table.key}.log",
        runs / "logs" / "0123456789ab.log",
        runs / "teachers" / "0123456789ab" / "factors-1.json",
        runs / "explore-x" / "file",
        paths.records() / ".a.json.0123abcd",
        paths.data() / "shapes-0123456789ab" / "meta.json",
        paths.data() / "shapes-0123456789ab.partial" / "meta.json",
    ]
    stay = [
        *(runs / run.key / "student.pth" for run in (table, asked, busy, coco)),
        runs / f"{busy.key}.partial" / "epoch_1.pth",
        runs / "explore" / "a.pth",
        runs / "asked" / f"{asked.key}.txt",
        paths.records() / ".b.json.0123abcd",
        paths.records() / "notes.txt",
        paths.data() / "coco-digests.json",
        paths.data() / clean_data(),
    ]
    for place in (*left, *stay):
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text("x")
            if place.name != ".b.json.0123abcd":  # it may be being written
                os.utime(place, (0, 0))
    os.utime(runs / "explore-x", (0, 0))
    return set(left), set(stay)


def clean_data() -> str:
    return f"{next(clean._data_of(clean.scales.get('mini')))}/meta.json"


def test_what_nobody_needs_is_listed_and_removed_when_the_user_says_so(
    places: tuple[set[Path], set[Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    left, stay = places
    with files.locked(paths.runs() / f"{baseline(seed=93).key}.lock"):
        assert main(["clean"]) == 0
        listed = capsys.readouterr().out
        assert all(place.exists() for place in (*left, *stay))
        for place in left:
            above = {str(one) for one in (place, *place.parents)}
            assert any(f"  {one}  (" in listed for one in above), place
        assert not [place for place in stay if f"  {place}  (" in listed or f"  {place.parent}  (" in listed]
        assert listed.splitlines()[-1].endswith("MB: `python -m dfmsd clean --yes` removes them")
        assert main(["clean", "--yes"]) == 0
    assert not [place for place in left if place.exists()]
    assert not [place for place in stay if not place.exists()]
    assert capsys.readouterr().out.endswith("MB: removed\n")
    shutil.rmtree(paths.runs() / baseline(seed=93).key)
    main(["clean", "--yes"])
    capsys.readouterr()
    assert main(["clean"]) == 0
    assert capsys.readouterr().out == "nothing is left over\n"


def test_runs_that_a_command_has_asked_for_are_kept(folders: Path) -> None:  # noqa: F811
    run = baseline(seed=95)
    for need in (*run.needs(), run):
        finish(need)
    ensure.ensure([(run,)], quiet=True, asked="python -m dfmsd run --seed 95")
    assert {file.stem for file in (paths.runs() / "asked").iterdir()} == {need.key for need in (*run.needs(), run)}


def test_what_is_taken_up_meanwhile_stays(places: tuple[set[Path], set[Path]]) -> None:
    old = paths.runs() / baseline(seed=91).key
    found = clean.leftovers()
    with files.locked(old.with_name(f"{old.name}.lock")):
        clean.remove(found)
    assert json.loads((old / "record.json").read_text())["key"] == old.name
