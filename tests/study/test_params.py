"""YAML files: what they say is taken as it stands there, or refused in one line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dfmsd.errors import StudyError
from dfmsd.study import params

PAIRS = zip("abcdef", "bcdefg", strict=True)
LAUGHS = "a: &a [x, x]\n" + "".join(f"{own}: &{own} [{', '.join([f'*{last}'] * 9)}]\n" for last, own in PAIRS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 0\nepochs: 1\nseed: 2", "mine.yaml, line 3: 'seed' stands there twice"),
        ("a: {b: 1, c: {d: 1,\n d: 2}}", "mine.yaml, line 2: 'd' stands there twice"),
        ("1: a\n1.0: b", "line 2: 1.0 stands there twice"),
        ("a: [1.0, .inf]", "mine.yaml, line 1: .inf is not a finite number"),
        ("a: -.INF", "-.INF is not a finite number"),
        ("a: .nan", ".nan is not a finite number"),
        ("a: 1.0e+999", "1.0e+999 is not a finite number"),
        (LAUGHS, "mine.yaml says more than 100000 values by its aliases"),
        ("a: &a [*a]", "mine.yaml, line 1: an alias names what it is part of"),
        ("a: " + "[" * 5000, "mine.yaml is not YAML: maximum recursion depth exceeded"),
        ("a: " + "9" * 5000, "mine.yaml is not YAML: Exceeds the limit"),
        ("a: [1", "mine.yaml is not YAML in line 1: "),
        ("a: *b", "mine.yaml is not YAML in line 1: found undefined alias 'b'"),
        ("a: 2026-13-45", "mine.yaml is not YAML: month must be in 1..12"),
        ("a: \0", "mine.yaml is not YAML: unacceptable character"),
        ('a: "\\ud800"', "mine.yaml is not YAML: 'utf-8' codec can't encode"),
        ("a: !!python/object/apply:os.getcwd []", "could not determine a constructor for the tag"),
        ("? [1]\n: 2", "found unhashable key"),
        ("a: 1\n---\nb: 2", "mine.yaml is not YAML in line 2: but found another document"),
        ("- a", "mine.yaml must hold lines of 'parameter: value'"),
        ("", "mine.yaml must hold lines of 'parameter: value'"),
    ],
)
def test_a_file_that_does_not_mean_one_thing_is_refused_in_one_line(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(StudyError) as caught:
        params.read(file)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_aliases_and_merges_may_repeat_what_is_written_once(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("a: &a {b: 1, c: 2}\nd: {<<: *a, c: 3}\ne: [*a, *a]")
    first = {"b": 1, "c": 2}
    assert params.read(tmp_path / "mine.yaml") == {"a": first, "d": {"b": 1, "c": 3}, "e": [first, first]}


def test_what_is_no_readable_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"a: \xff")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name, message in {
        "none": "none cannot be read",
        "text": "text cannot be read",
        "pipe": "pipe is a named pipe, where a file should be: remove it",
        "folder": "folder is a folder, where a file should be: remove it",
    }.items():
        with pytest.raises(StudyError, match=message):
            params.read(tmp_path / name)
