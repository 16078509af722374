"""The code behind a number: whoever changes it makes records stale, whoever only moves it does not."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from dfmsd.hyper import METHODS
from dfmsd.study import code, pages, paths, records
from dfmsd.study.pages.measured import MeasuredPage
from tests import test_layers
from tests.fixtures_study import baseline, distilled

RUNS = {"plain": baseline(), "mgd": distilled(recipe="mgd")[0], "dfmsd": distilled()[1]}
STAGED = {"mgd", "dfmsd"}
TODAY = {name: code.digest(run) for name, run in RUNS.items()}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of this package that a test may change."""
    copy = Path(shutil.copytree(paths.PACKAGE, tmp_path / "dfmsd", ignore=shutil.ignore_patterns("__pycache__")))
    monkeypatch.setattr(paths, "PACKAGE", copy)
    code.forget()
    yield copy
    code.forget()


def stale() -> set[str]:
    """The runs whose digest is another one than that of the code before its change."""
    code.forget()
    return {name for name, run in RUNS.items() if code.digest(run) != TODAY[name]}


def replace(file: Path, before: str, after: str) -> None:
    text = file.read_text()
    assert before in text, f"{file} has no {before!r}"
    file.write_text(text.replace(before, after, 1))


@pytest.mark.parametrize(
    ("file", "before", "after", "wanted"),
    [
        ("study/data.py", "JPEG_QUALITY = 95", "JPEG_QUALITY = 10", set(RUNS)),
        ("study/hooks.py", "POINTS = 100", "POINTS = 101", set(RUNS)),
        ("study/plan.py", "COCO_TRAIN = 117_266", "COCO_TRAIN = 1", set()),
        ("hyper.py", "class MGD(_Method):", "class Other(_Method):\n    pass\n\n\nclass MGD(_Method):", set()),
        ("hyper.py", "class MGD(_Method):", "class MGD(_Method):\n    x: int = 1", {"mgd"}),
    ],
)
def test_a_changed_definition_makes_the_runs_stale_that_use_it(
    package: Path, file: str, before: str, after: str, wanted: set[str]
) -> None:
    replace(package / file, before, after)
    assert stale() == wanted


@pytest.mark.parametrize(
    ("file", "wanted"),
    [
        ("study/shapes.py", set(RUNS)),
        ("checkpoints.py", set(RUNS)),
        ("distiller.py", STAGED),
        ("losses/base.py", STAGED),
        ("losses/attention.py", STAGED),
        ("losses/mgd.py", {"mgd"}),
        ("losses/dmkd.py", {"dfmsd"}),
        ("losses/pearson.py", {"dfmsd"}),
        ("losses/fgd.py", set()),
        ("augment.py", {"dfmsd"}),
    ],
)
def test_a_new_definition_makes_the_runs_stale_that_import_its_module(package: Path, file: str, wanted: set[str]) -> None:
    first = "from __future__ import annotations\n"
    replace(package / file, first, f"{first}\nx = 1\n")
    assert stale() == wanted


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("study/evaluate.py", '"""COCO\'s metrics', '"""Metrics'),
        ("study/data.py", "JPEG_QUALITY = 95", "JPEG_QUALITY = 95  # of 100"),
        ("study/data.py", "JPEG_QUALITY = 95", 'JPEG_QUALITY = 95\n"""As sharp as needed."""'),
        ("study/evaluate.py", "import json\n", ""),
        ("study/evaluate.py", "import numpy as np\n", "import numpy as np\nimport os\n"),
    ],
)
def test_words_and_imports_make_no_run_stale(package: Path, file: str, before: str, after: str) -> None:
    replace(package / file, before, after)
    assert stale() == set()


def test_an_order_of_definitions_makes_no_run_stale(package: Path) -> None:
    file = package / "study" / "evaluate.py"
    head, function = file.read_text().split("def basic(")
    start = head.index("METRICS = ")
    file.write_text(f"{head[:start]}def basic({function}\n\n{head[start:]}")
    assert stale() == set()


@pytest.mark.parametrize(("old", "new"), [("study/evaluate", "study/judge"), ("levels", "pyramids"), ("study/build", "recipes")])
def test_a_renamed_or_moved_file_makes_no_run_stale(package: Path, old: str, new: str) -> None:
    (package / f"{old}.py").rename(package / f"{new}.py")
    (place, _, name), (new_place, _, new_name) = (f"dfmsd/{path}".rpartition("/") for path in (old, new))
    dotted, new_dotted = (path.replace("/", ".") for path in (place, new_place))
    for file in package.rglob("*.py"):
        text = file.read_text().replace(f"{dotted}.{name}", f"{new_dotted}.{new_name}")
        # A name imported among others gets an import of its own.
        lines = []
        for line in text.splitlines():
            found = re.fullmatch(rf"(\s*)from {re.escape(dotted)} import (.*)", line)
            names = found[2].split(", ") if found else []
            wanted = [one for one in names if one.split(" as ")[0] == name]
            if found and wanted:
                rest = [one for one in names if one not in wanted]
                lines += [f"{found[1]}from {dotted} import {', '.join(rest)}"] * bool(rest)
                alias = wanted[0].partition(" as ")[2] or name
                lines.append(f"{found[1]}from {new_dotted} import {new_name} as {alias}")
            else:
                lines.append(line)
        file.write_text("\n".join(lines) + "\n")
    assert stale() == set()


@test_layers.in_one_process
def test_no_module_that_a_run_loads_is_left_out() -> None:
    loaded = {name for name in test_layers.loaded()[1] if name.split(".")[0] == "dfmsd"}
    counted = code.modules([model.__name__ for model in METHODS.values()])
    apart = {name for name in loaded if any(name == one or name.startswith(f"{one}.") for one in code.APART)}
    passing_on = {"dfmsd", "dfmsd.study", "dfmsd.losses"}
    assert {"dfmsd.study.data", "dfmsd.losses.dmkd", "dfmsd.checkpoints"} <= counted
    assert loaded - counted - apart - passing_on == set()


def test_what_a_function_reaches_in_its_own_module_counts_and_the_rest_does_not(package: Path) -> None:
    def digest(text: str) -> str:
        (package / "report" / "looked.py").write_text(text)
        code.forget()
        return code.digest_of("dfmsd.report.looked:measure")

    text = "from dfmsd.augment import area_ratio\nfrom dfmsd.report import figures\nN = 1\ndef inner():\n    return N, area_ratio\n"
    text += "def measure(page):\n    return inner()\ndef draw():\n    return figures\n"
    first = digest(text)
    assert digest(text.replace("return figures", "return 2")) == first
    assert digest(text.replace("N = 1", "N = 2")) != first
    augment = package / "augment.py"
    augment.write_text(augment.read_text() + "\n\nx = 1\n")
    assert digest(text) != first


def test_the_code_of_every_measured_page_is_found() -> None:
    measured = [page for page in map(pages.get, pages.names()) if isinstance(page, MeasuredPage)]
    digests = {records.measuring(page): code.digest_of(records.measuring(page)) for page in measured}
    assert len(set(digests.values())) == len(digests) > 3
