"""What `pip install .` brings: pages and notebooks inside of the package, and a line for each part that is not there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from dfmsd.study import pages, paths, plan

SHIPPED = {"dfmsd": "dfmsd", "params": "dfmsd/params", "notebooks": "dfmsd/notebooks"}
"""Folders of the checkout, and where they are in a wheel."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made of a copy without leftovers of other builds."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SHIPPED:
        shutil.copytree(paths.ROOT / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(paths.ROOT / name, folder / "source")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder), "."]
    subprocess.run(command, cwd=folder / "source", check=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_a_wheel_has_the_package_its_types_pages_and_notebooks_and_no_more(wheel: Path) -> None:
    wanted = {
        f"{place}/{file.relative_to(paths.ROOT / name).as_posix()}"
        for name, place in SHIPPED.items()
        for file in (paths.ROOT / name).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts and ".ipynb_checkpoints" not in file.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        assert {name for name in archive.namelist() if ".dist-info/" not in name} == wanted
    assert "dfmsd/py.typed" in wanted


def of(installed: Path, home: Path, code: str) -> list[str]:
    """The lines that Python prints where the package is installed, and the checkout is not found."""
    own = {"PYTHONPATH": str(installed), "HOME": str(home)}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DFMSD_", "XDG_"))}
    done = subprocess.run([sys.executable, "-c", code], cwd=home, env=kept | own, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_an_installed_package_plans_what_the_checkout_plans_and_writes_among_the_users_files(
    installed: Path, tmp_path: Path
) -> None:
    code = """
from dfmsd.__main__ import main
from dfmsd.study import pages, paths, records

print(*(place().relative_to(paths.Path.home()) for place in (paths.runs, paths.data, paths.records)), records.commit())
print(*pages.names())
assert main(["plan", "table03", "--json"]) == 0
"""
    places, names, *said = of(installed, tmp_path, code)
    assert places == ".cache/dfmsd/runs .cache/dfmsd/data .cache/dfmsd/book/records version 0.1.0"
    assert names.split() == pages.names()
    assert [run["key"] for run in json.loads("\n".join(said))] == [run.key for run in plan.order(pages.get("table03").chains())]
    assert not any(tmp_path.iterdir())


def test_a_command_names_the_extra_that_brings_what_it_lacks(installed: Path, tmp_path: Path) -> None:
    code = """
import sys
from contextlib import redirect_stderr
from dfmsd.__main__ import main
from dfmsd.study import doctor

run = ["run", "--student", "fcos_r50", "--method", "baseline", "--scale", "smoke"]
with redirect_stderr(sys.stdout):
    for module, words in (("rich", run), ("mmdet", run), ("nbformat", ["page", "table03"]), ("jupyter_book", ["book"])):
        sys.modules[module] = None
        assert main(words) == 2
        del sys.modules[module]
    assert main(["book"]) == 2
print([finding.what for finding, _ in zip(doctor.diagnose(), "ab")][-1])
"""
    pip = 'is not installed: pip install "dfmsd[build]" && pip install --no-build-isolation "dfmsd[{}]"'
    sources = f"there is no {tmp_path}/.cache/dfmsd/book/_toc.yml: the book's sources are in the repository"
    assert list(of(installed, tmp_path, code)) == [
        f"error: run needs rich.console, which {pip.format('study')}",
        f"error: training needs mmdet, which {pip.format('study')}",
        f"error: page needs nbformat, which {pip.format('study')}",
        f"error: the book needs jupyter-book, which {pip.format('book')}",
        f"error: {sources}; export DFMSD_BOOK=/path/to/its/book",
        f"dfmsd 0.1.0 in {installed}/dfmsd, beside packages of other versions than its records'",
    ]
