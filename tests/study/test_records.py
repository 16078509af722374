"""Records: whole or absent, believed only when they fit their name and specification."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dfmsd.errors import StudyError
from dfmsd.study import ensure, files, pages, paths, records
from tests.fixtures_study import baseline, finish, folders, publish, record  # noqa: F401

RUN = baseline()


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / f"{RUN.key}.json"
    before = record(RUN).model_copy(update={"curve": ({"iteration": 1, "loss": 0.1 + 0.2},), "ap_interval": (1.0, 2.0)})
    files.write_atomic(file, records.dump(before))
    assert records.read(file) == before
    assert records.dump(records.read(file)) == file.read_text()
    assert oct(file.stat().st_mode & 0o777) == "0o644"


def edited(text: str, **changes: Any) -> str:
    plain = json.loads(text)
    for name, value in changes.items():
        plain[name] = value(plain[name])
    return json.dumps(plain)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[: len(text) // 2], "Invalid JSON"),
        (lambda text: b"\xff\xfe\x00", "codec can't decode"),
        (lambda text: edited(text, state=lambda _: "great"), "state: Input should be"),
        (
            lambda text: edited(text, spec=lambda spec: spec | {"seed": 5}),
            "its specification does not hash to its key, it was edited",
        ),
        (lambda text: edited(text, key=lambda _: "0" * 12), "is of run 000000000000"),
        (lambda text: edited(text, spec=lambda spec: spec | {"flip": float("nan")}), "not JSON compliant"),
    ],
)
def test_a_damaged_or_edited_record_is_refused_in_one_line(damage: Any, message: str, tmp_path: Path) -> None:
    file = tmp_path / f"{RUN.key}.json"
    damaged = damage(records.dump(record(RUN)))
    file.write_bytes(damaged if isinstance(damaged, bytes) else damaged.encode())
    with pytest.raises(StudyError) as caught:
        records.read(file)
    assert message in str(caught.value)
    assert str(file) in str(caught.value)
    assert "delete it" in str(caught.value)
    assert "\n" not in str(caught.value)


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


def test_a_record_is_parsed_once_and_anew_when_its_file_changes(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    first = publish(RUN, speed=1.0)
    file = paths.records() / f"{RUN.key}.json"
    assert records.read(file) == first
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", lambda *_: pytest.fail("read again"))
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


class Looked(pages.MeasuredPage):
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
        finish(run, weights_sha256="a")
    records.keep(LINES, {"map": np.full((2, 2), 1 / 3), "jpeg": "//79"}, page, data_fingerprint="f")
    return page


def test_a_measurement_is_read_as_it_was_written_to_four_digits(looked: Looked) -> None:
    found = records.measured(looked)
    assert found is not None
    wanted = LINES.assign(value=[0.1235, 2.0, np.nan, 3.333e-8, 10.0], low=[np.nan] * 4 + [9.877])
    pd.testing.assert_frame_equal(found.to_frame(), wanted)
    assert found.pictures == {"map": [[0.3333, 0.3333]] * 2, "jpeg": "//79"}
    assert found.networks["one"] == records.Network(key=RUN.key, weights="a")
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
        (lambda text: text[:99], "is damaged (Invalid JSON"),
        (lambda text: text.replace('"row": [', '"row": ["more", '), "is damaged (Value error, its columns differ in length)"),
        (lambda text: text.replace('"scale": "smoke"', '"scale": "mini"'), "is of mine at the scale mini: it was renamed"),
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


def test_a_measurement_says_why_it_is_stale(looked: Looked, monkeypatch: pytest.MonkeyPatch) -> None:
    found = records.measured(looked)
    assert found is not None
    assert records.stale_reasons(found, looked.model_copy(update={"question": "How?"})) == ["the page asks for other things now"]
    finish(RUN, weights_sha256="b")
    assert records.stale_reasons(found, looked) == ["one was trained again since"]
    finish(RUN, weights_sha256="a")
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
