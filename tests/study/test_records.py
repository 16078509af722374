"""Records: whole or absent, believed only when they fit their name and specification."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from dfmsd.errors import StudyError
from dfmsd.study import paths, records
from tests.fixtures_study import baseline, distilled, finish, folders, record  # noqa: F401

RUN = baseline()


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / f"{RUN.key}.json"
    before = record(RUN).model_copy(update={"curve": ({"iteration": 1, "loss": 0.1 + 0.2},), "ap_interval": (1.0, 2.0)})
    records.write_atomic(file, records.dump(before))
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
        (lambda text: "", "Invalid JSON"),
        (lambda text: "[]", "Input should be an object"),
        (lambda text: edited(text, state=lambda _: "great"), "state: Input should be"),
        (lambda text: edited(text, metrics=lambda _: {"AP": "high"}), "metrics.AP: Input should be a valid number"),
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
    file.write_text(damage(records.dump(record(RUN))))
    with pytest.raises(StudyError) as caught:
        records.read(file)
    assert message in str(caught.value)
    assert str(file) in str(caught.value)
    assert "delete it" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_a_damaged_record(tmp_path: Path) -> None:
    file = tmp_path / f"{RUN.key}.json"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StudyError, match="is damaged"):
        records.read(file)


def test_a_record_in_another_runs_folder_is_refused(folders: Path) -> None:  # noqa: F811
    other = baseline(seed=1)
    file = finish(RUN)
    file.parent.rename(paths.runs() / other.key)
    with pytest.raises(StudyError, match=f"is of run {RUN.key}: it was renamed or edited"):
        records.find(other.key)


def test_find_looks_here_then_among_the_published(folders: Path) -> None:  # noqa: F811
    assert records.find(RUN.key) is None
    published = record(RUN, speed=1.0)
    records.write_atomic(paths.records() / f"{RUN.key}.json", records.dump(published))
    assert records.find(RUN.key) == published
    finish(RUN, speed=2.0)
    found = records.find(RUN.key)
    assert found is not None
    assert found.provenance.images_per_second == 2.0


def test_a_record_awaiting_its_move_is_no_failure(folders: Path) -> None:  # noqa: F811
    file = paths.runs() / f"{RUN.key}.partial" / "record.json"
    records.write_atomic(file, records.dump(record(RUN)))
    assert records.failure(RUN.key) is None
    assert records.unfinished(RUN.key) == record(RUN)
    records.write_atomic(file, records.dump(record(RUN, state="nan", note="loss is not finite")))
    failed = records.failure(RUN.key)
    assert failed is not None
    assert failed.note == "loss is not finite"
    assert not failed.is_result


def test_an_interrupted_write_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "record.json"
    records.write_atomic(file, "old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        records.write_atomic(file, "new")
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["record.json"]


def test_only_a_full_disk_is_told_as_one(folders: Path) -> None:  # noqa: F811
    with (
        pytest.raises(StudyError, match=r"^the disk is full \(\d+ MiB free in .*\): make room"),
        records.full_disk_in_plain_words(),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(PermissionError), records.full_disk_in_plain_words():
        raise PermissionError(errno.EACCES, "Permission denied")


def test_the_code_digest_knows_code_from_documentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "PACKAGE", tmp_path)

    def digest(text: str) -> str:
        (tmp_path / "module.py").write_text(text)
        records._tree.cache_clear()
        return records._tree("module")

    try:
        first = digest('"""A module."""\nX = 1\n"""About X."""\ndef f():\n    """Do."""\n    return X  # why\n')
        assert digest("X = 1\n\n\ndef f():\n\n    return X\n") == first
        assert digest("X = 2\ndef f():\n    return X\n") != first
    finally:
        records._tree.cache_clear()


def test_a_run_depends_on_the_code_of_its_own_method_alone() -> None:
    plain, (mgd,), (dfmsd, _) = RUN, distilled(recipe="mgd"), distilled()
    assert "distiller" not in records.modules_of(plain)
    assert "losses/mgd" in records.modules_of(mgd)
    assert "losses/dfmsd" not in records.modules_of(mgd)
    assert {"losses/dfmsd", "losses/dmkd", "losses/pearson"} <= set(records.modules_of(dfmsd))
    for run in (plain, mgd, dfmsd):
        for module in records.modules_of(run):
            assert (paths.PACKAGE / f"{module}.py").is_file(), module


def test_stale_means_that_the_digest_differs() -> None:
    assert not records.is_stale(record(RUN), RUN)
    assert records.is_stale(record(RUN, code="0" * 12), RUN)
