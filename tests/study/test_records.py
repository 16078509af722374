"""Records: whole or absent, believed only when they fit their name and specification."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dfmsd.errors import StudyError
from dfmsd.study import committed, ensure, files, pages, paths, plan, records
from dfmsd.study.pages.measured import MeasuredPage
from tests.fixtures_study import baseline, finish, folders, publish, record  # noqa: F401

RUN = baseline()


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / f"{RUN.key}.json"
    before = record(RUN).model_copy(update={"curve": ({"iteration": 1, "loss": 0.1 + 0.2},), "ap_interval": (1.0, 2.0)})
    files.write_atomic(file, records.dump(before))
    assert records.read(file) == before
    assert records.dump(records.read(file)) == file.read_text()
    assert oct(file.stat().st_mode & 0o777) == "0o644"


WHOLE = record(
    RUN,
    ap_interval=(10.0, 14.0),
    ap_resamples=(12.0, 13.0),
    shares={"loss_mgd_rec": 0.5},
    factors={"loss_mgd_rec": 3.0},
    curve=({"iteration": 1, "loss": 2.0}, {"iteration": 2, "loss": 1.0}),
    weights_sha256="a" * 64,
    needed={"c" * 12: "b" * 64},
)


def edited(place: str, value: Any, *, forged: bool = False) -> str:
    """The text of a record with another value at a place; forged, its digest is made anew."""
    plain = json.loads(records.dump(WHOLE))
    *above, last = place.split(".")
    part = plain
    for name in above:
        part = part[int(name) if name.isdecimal() else name]
    part[int(last) if last.isdecimal() else last] = value
    if forged:
        del plain["digest"]
        plain = records._with_digest(plain)
    return json.dumps(plain)


def refused(file: Path, content: str | bytes) -> str:
    """Why a record with this content is not read."""
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(StudyError) as caught:
        records.read(file)
    assert str(file) in str(caught.value)
    assert "delete it" in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


PLACES = (
    *("metrics.AP", "ap_interval.0", "ap_interval.1", "ap_resamples.1", "shares.loss_mgd_rec", "factors.loss_mgd_rec"),
    *("curve.1.loss", "curve.0.iteration", "spec.flip", "provenance.seconds", "provenance.images_per_second"),
    *("provenance.peak_memory_mb", "provenance.threads"),
)
"""Every kind of number that a record has."""


def test_a_number_that_cannot_be_or_was_edited_is_refused(tmp_path: Path) -> None:
    file = tmp_path / f"{RUN.key}.json"
    for place in PLACES:
        for value in (float("nan"), float("inf"), -float("inf"), "12", [1.0], None, True, 99.9):
            refused(file, edited(place, value))
    for place in ("metrics.AP", "ap_resamples.1", *(place for place in PLACES if place.startswith("provenance"))):
        assert f"{place} = -5.0: Input should be greater" in refused(file, edited(place, -5.0, forged=True)) or place.endswith(
            "threads"
        )
    for value in (-5.0, 400.0, "12"):
        assert f"metrics.AP = {value!r}" in refused(file, edited("metrics.AP", value, forged=True))
    assert "ap_interval: its ends are reversed" in refused(file, edited("ap_interval", [14.0, 10.0], forged=True))
    assert "curve: its iterations do not grow" in refused(file, edited("curve.1.iteration", 1, forged=True))
    file.write_text(edited("metrics.AP", 99.9, forged=True))
    assert records.read(file).metrics["AP"] == 99.9, "what would be valid is refused for its digest alone"


def test_every_part_of_a_record_is_covered_by_its_digest(tmp_path: Path) -> None:
    file = tmp_path / f"{RUN.key}.json"
    file.write_text(records.dump(WHOLE))
    assert records.read(file) == WHOLE
    for name, value in json.loads(records.dump(WHOLE)).items():
        left = {other: part for other, part in json.loads(records.dump(WHOLE)).items() if other != name}
        refused(file, json.dumps(left))
        refused(file, json.dumps(left | {name: "b" * 64 if isinstance(value, str) else {}}))
    assert "its digest is not that of its content: it was edited" in refused(file, edited("note", "fine"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (records.dump(WHOLE).partition("aaa")[0] + "aaa", "Unterminated string"),
        (b"\xff\xfe\x00", "codec can't decode"),
        ("[" * 100_000, "recursion"),
        ("[]", "it is none"),
        (edited("state", "great"), "state = 'great': Input should be"),
        (edited("spec.seed", 5, forged=True), "its specification does not hash to its key, it was edited"),
        (edited("spec", {}, forged=True), "spec: it is none of a run"),
        (edited("key", "0" * 12, forged=True), "is of run 000000000000"),
        (edited("note", "two\nlines", forged=True), "note = 'two\\nlines'"),
        (edited("provenance.finished", "soon", forged=True), "provenance.finished = 'soon'"),
        (edited("weights_sha256", "a", forged=True), "weights_sha256 = 'a'"),
        (edited("metrics.other", {}, forged=True), "metrics.other = {}"),
        (edited("metrics", {}, forged=True), "metrics: AP is missing"),
        (edited("metrics.A\n", 1.0, forged=True), "metrics.'A\\n'.[key]"),
        (edited("spec.seed", float("nan")).replace('"digest"', '"note"'), "spec: it is none of a run"),
    ],
)
def test_a_damaged_or_edited_record_is_refused_in_one_line(content: str | bytes, message: str, tmp_path: Path) -> None:
    assert message in refused(tmp_path / f"{RUN.key}.json", content)


def test_what_is_no_file_in_the_place_of_a_record_is_told(folders: Path) -> None:  # noqa: F811
    for place in (paths.runs() / RUN.key / "record.json", paths.records() / f"{RUN.key}.json"):
        place.parent.mkdir(parents=True)
        for make, kind in ((os.mkfifo, "a named pipe"), (os.mkdir, "a folder")):
            make(place)
            with pytest.raises(StudyError, match=f"^{place} is {kind}, where a file should be: remove it$"):
                records.find(RUN.key)
            assert plan.plan([(RUN,)])[-1].state == "damaged"
            (place.rmdir if place.is_dir() else place.unlink)()
        place.parent.rmdir()
    (paths.records() / f"{RUN.key}.json").mkdir(parents=True)
    assert len(committed.check([pages.get("shapes")]).damaged) == 1


def test_a_record_of_earlier_code_counts_in_its_runs_folder_and_is_published_with_a_digest(folders: Path) -> None:  # noqa: F811
    here, there = finish(RUN), paths.records() / f"{RUN.key}.json"
    plain = json.loads(here.read_text())
    del plain["digest"]
    here.write_text(json.dumps(plain))
    there.parent.mkdir()
    there.write_text(json.dumps(plain))
    found = records.find(RUN.key)
    assert found is not None and found.model_dump() == record(RUN).model_dump()
    with pytest.raises(
        StudyError, match=f"^record {there} has no digest, so nothing tells whether it was edited: delete it and run"
    ):
        records.read(there)
    assert committed.publish([(RUN,)]) == [RUN.key]
    assert records.read(there) == record(RUN)
    assert committed.publish([(RUN,)]) == []


def test_a_record_in_another_runs_folder_is_refused(folders: Path) -> None:  # noqa: F811
    other = baseline(seed=1)
    file = finish(RUN)
    file.parent.rename(paths.runs() / other.key)
    with pytest.raises(StudyError, match=f"is of run {RUN.key}: it was renamed or edited"):
        records.find(other.key)


def test_find_looks_here_then_among_the_published(folders: Path) -> None:  # noqa: F811
    assert records.find(RUN.key) is None
    published = publish(RUN, speed=1.0)
    assert records.find(RUN.key) == published
    finish(RUN, speed=2.0)
    found = records.find(RUN.key)
    assert found is not None
    assert found.provenance.images_per_second == 2.0


def test_a_record_awaiting_its_move_is_no_failure(folders: Path) -> None:  # noqa: F811
    file = paths.runs() / f"{RUN.key}.partial" / "record.json"
    files.write_atomic(file, records.dump(record(RUN)))
    assert records.failure(RUN.key) is None
    assert records.unfinished(RUN.key) == record(RUN)
    files.write_atomic(file, records.dump(record(RUN, state="nan", note="loss is not finite")))
    failed = records.failure(RUN.key)
    assert failed is not None
    assert failed.note == "loss is not finite"
    assert not failed.is_result


def test_stale_means_that_the_digest_differs() -> None:
    assert not records.is_stale(record(RUN), RUN)
    assert records.is_stale(record(RUN, digest="0" * 12), RUN)


def test_a_record_tells_whether_its_run_had_other_weights_than_those_with_a_record(folders: Path) -> None:  # noqa: F811
    (start,) = RUN.needs()
    publish(start, weights_sha256="a" * 64)
    assert not records.had_others(record(RUN, needed={start.key: "a" * 64}), RUN)
    assert records.had_others(record(RUN, needed={start.key: "b" * 64}), RUN)


def test_a_run_whose_record_does_not_tell_what_it_needed_had_others_if_those_are_younger(folders: Path) -> None:  # noqa: F811
    (start,) = RUN.needs()
    made = publish(start).provenance
    old = record(RUN, needed=None)
    for finished, others in (("2026-01-01T00:00:00+00:00", False), ("2026-01-01T01:00:01+01:00", True)):
        publish(start, provenance=made.model_copy(update={"finished": finished}))
        assert records.had_others(old, RUN) == others


def test_a_record_from_before_does_not_take_what_lies_here_now_for_what_it_needed(folders: Path) -> None:  # noqa: F811
    finish(next(iter(RUN.needs())))
    file = paths.records() / f"{RUN.key}.json"
    plain = record(RUN).model_dump(mode="json")
    del plain["needed"]
    files.write_atomic(file, json.dumps(records._with_digest(plain)))
    assert records.read(file).needed is None


def test_a_record_is_parsed_once_and_anew_when_its_file_changes(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    first = publish(RUN, speed=1.0)
    file = paths.records() / f"{RUN.key}.json"
    assert records.read(file) == first
    with monkeypatch.context() as patch:
        patch.setattr(files, "read_text", lambda *_: pytest.fail("read again"))
        assert records.read(file) == first
    assert records.read(file) != publish(RUN, speed=25.0) == records.read(file)


def test_a_commit_is_marked_for_changed_code_and_not_for_new_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> str:
        name = ["-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.run(["git", *name, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()

    monkeypatch.setattr(paths, "ROOT", tmp_path)
    assert records.commit() == "unknown"
    written = [tmp_path / "dfmsd" / "balance.py", tmp_path / "params" / "scales.yaml", tmp_path / "book" / "records" / "a.json"]
    for file in written:
        file.parent.mkdir(parents=True)
        file.write_text("1")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    name = git("rev-parse", "--short", "HEAD")
    written[-1].write_text("2")
    (written[-1].parent / "b.json").write_text("2")
    assert records.commit() == name
    for file in written[:2]:
        file.write_text("2")
        assert records.commit() == f"{name}-dirty"
        file.write_text("1")
    (tmp_path / "dfmsd" / "new.py").write_text("2")
    assert records.commit() == f"{name}-dirty"


# What was measured


class Looked(MeasuredPage):
    """Two networks at the scale of tests."""

    def runs(self) -> dict[str, Any]:
        return {"one": RUN, "other": baseline(seed=1)}

    def asked(self) -> str:
        return self.question


LINES = pd.DataFrame(
    {
        "row": ["one", "one", "other", "other", "one"],
        "beside": ["teacher"] * 4 + [None],
        "image": pd.array([139, 581929, 139, 581929, None], dtype="Int64"),
        "metric": ["maps"] * 4 + ["mean"],
        "value": [0.123456, 2.0, np.nan, 1e-7 / 3, 10.0],
        "low": [np.nan] * 4 + [9.87654],
    }
)


@pytest.fixture
def looked(folders: Path, monkeypatch: pytest.MonkeyPatch) -> Looked:  # noqa: F811
    """A page with a record of what was measured for it."""
    monkeypatch.setattr(records, "measuring", lambda page: "dfmsd.study.evaluate:evaluate")
    page = Looked(page="mine", title="Mine", question="Why?", scale="smoke")
    for run in page.runs().values():
        finish(run, weights_sha256="a" * 64)
    records.keep(LINES, {"map": np.full((2, 2), 1 / 3), "jpeg": "//79"}, page, data_fingerprint="f")
    return page


def test_a_measurement_is_read_as_it_was_written_to_four_digits(looked: Looked) -> None:
    found = records.measured(looked)
    assert found is not None
    wanted = LINES.assign(value=[0.1235, 2.0, np.nan, 3.333e-8, 10.0], low=[np.nan] * 4 + [9.877])
    pd.testing.assert_frame_equal(found.to_frame(), wanted)
    assert found.pictures == {"map": [[0.3333, 0.3333]] * 2, "jpeg": "//79"}
    assert found.networks["one"] == records.Network(key=RUN.key, weights="a" * 64)
    assert records.stale_reasons(found, looked) == []
    lines = looked.measured_file().read_text().splitlines()
    assert '  "image": [[139, 581929], [139, 581929], [null]],' in lines, "a line for each column"
    assert not records.measured(looked.model_copy(update={"scale": "mini"}))


def test_a_table_without_images_is_kept_line_by_line(looked: Looked) -> None:
    table = pd.DataFrame({"row": ["mse", "mgd"], "value": [1.0, 2.5]})
    pd.testing.assert_frame_equal(records.keep(table, {}, looked).to_frame(), table)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[:99], "is damaged (Unterminated string"),
        (lambda text: text.replace('"row": [', '"row": ["more", '), "is damaged (its columns differ in length)"),
        (lambda text: text.replace("0.1235", "0.9999"), "is damaged (its digest is not that of its content: it was edited)"),
        (lambda text: text.replace("0.1235", "NaN"), "is damaged (Out of range float values"),
        (lambda text: text.replace("0.1235", '"much"'), "is damaged (frame: value: ['much', 2.0] is no number)"),
        (lambda text: text.replace("0.1235, ", ""), "is damaged (frame: images and values differ in number)"),
    ],
)
def test_a_damaged_or_renamed_measurement_is_refused_in_one_line(looked: Looked, damage: Any, message: str) -> None:
    file = looked.measured_file()
    file.write_text(damage(file.read_text()))
    with pytest.raises(StudyError) as caught:
        records.measured(looked)
    assert message in str(caught.value)
    assert str(caught.value).endswith("`python -m dfmsd page mine --scale smoke`")
    assert "\n" not in str(caught.value)


def test_a_measurement_of_another_page_or_without_a_digest_does_not_pass(looked: Looked) -> None:
    file = looked.measured_file()
    other = looked.model_copy(update={"scale": "mini"})
    with pytest.raises(StudyError, match="is of mine at the scale smoke: it was renamed or edited"):
        records.measured(other, file)
    plain = json.loads(file.read_text())
    del plain["digest"]
    file.write_text(json.dumps(plain))
    found = records.measured(looked)
    assert found is not None
    assert records.stale_reasons(found, looked) == ["it has no digest, so nothing tells whether it was edited"]


def test_a_measurement_says_why_it_is_stale(looked: Looked, monkeypatch: pytest.MonkeyPatch) -> None:
    found = records.measured(looked)
    assert found is not None
    assert records.stale_reasons(found, looked.model_copy(update={"question": "How?"})) == ["the page asks for other things now"]
    finish(RUN, weights_sha256="b" * 64)
    assert records.stale_reasons(found, looked) == ["one was trained again since"]
    finish(RUN, weights_sha256="a" * 64)
    monkeypatch.setattr(records, "measuring", lambda page: "dfmsd.study.shapes:generate")
    assert records.stale_reasons(found, looked) == ["the code that measures has changed since"]


def test_make_measures_what_is_missing_or_stale_and_nothing_else(looked: Looked, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def measure(page: Looked) -> tuple[pd.DataFrame, dict[str, Any]]:
        calls.append(page.question)
        return LINES, {}

    monkeypatch.setattr(Looked, "looks_at_images", False)
    ensure.make(looked, jobs=1, measure=measure, quiet=True)
    assert calls == [], "there is one of today's code, networks and page"
    changed = looked.model_copy(update={"question": "How?"})
    ensure.make(changed, jobs=0, measure=measure, quiet=True)
    assert calls == [], "jobs = 0 reads"
    ensure.make(changed, jobs=1, measure=measure, quiet=True)
    assert calls == ["How?"]
    found = records.measured(changed)
    assert found is not None and records.stale_reasons(found, changed) == []
    looked.measured_file().unlink()
    ensure.make(looked, jobs=1, measure=measure, quiet=True)
    assert calls == ["How?", "Why?"]


def test_make_with_no_job_reads_what_is_there(folders: Path) -> None:  # noqa: F811
    page = pages.get("table03", scale="smoke")
    assert ensure.make(page, jobs=0).done == []
    assert not paths.runs().exists()
    with pytest.raises(StudyError, match="jobs = -1: 0 reads what is there"):
        ensure.make(page, jobs=-1)
