"""The places that name a dependency agree: pyproject.toml, lock.txt, environment.yml, what is imported, what is installed."""

from __future__ import annotations

import ast
import importlib.metadata
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from dfmsd.study import doctor, paths

CONDA = yaml.safe_load((paths.ROOT / "environment.yml").read_text())
PROJECT = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())["project"]


def _normal(name: str) -> str:
    return str(canonicalize_name(name))


def _needs(*groups: str) -> dict[str, Requirement]:
    """What the package needs in its own right, and what some of its extras do."""
    lines = [*PROJECT["dependencies"], *(line for group in groups for line in PROJECT["optional-dependencies"][group])]
    found = {_normal(need.name): need for need in map(Requirement, lines)}
    return {name: need for name, need in found.items() if name != "dfmsd"}


def test_the_lock_holds_every_package_that_is_installed_and_no_other() -> None:
    assert doctor.pins() == doctor.installed(), "install what changed, then `make lock`"


@pytest.mark.parametrize("python", ["3.11.0", "3.12.0"])
def test_what_is_locked_runs_on_every_python_that_the_package_is_for(python: str) -> None:
    """Debian 12 has 3.11.2: a package may ask for a later one."""
    asked = {name: importlib.metadata.metadata(name).get("Requires-Python") or "" for name in doctor.pins()}
    assert {name: what for name, what in asked.items() if not SpecifierSet(what).contains(python)} == {}


def test_the_lock_is_within_the_ranges() -> None:
    locked = {_normal(name): version for name, version in doctor.pins().items()}
    needs = _needs(*PROJECT["optional-dependencies"].keys() - {"workflow"})  # which has an environment of its own
    assert {name: locked.get(name) for name, need in needs.items() if locked.get(name) not in need.specifier} == {}


def test_conda_users_get_the_versions_of_the_lock() -> None:
    """Of what the study itself needs; the rest comes with `make setup`, as for everybody."""
    pip = next(entry["pip"] for entry in CONDA["dependencies"] if isinstance(entry, dict))
    found = dict(line.split("==") for line in pip)
    assert found.items() <= doctor.pins().items()
    assert set(map(_normal, found)) == set(_needs("mmdet", "study", "book"))


def test_conda_brings_python_and_both_compilers() -> None:
    conda = [entry for entry in CONDA["dependencies"] if isinstance(entry, str)]
    assert "python=3.11" in conda
    assert {"pip", "cxx-compiler", "cuda-nvcc"} <= set(conda)


def test_conda_brings_the_cuda_of_the_installed_torch() -> None:
    torch = pytest.importorskip("torch")
    if torch.version.cuda is None:
        pytest.skip("this torch is built without CUDA")
    assert f"cuda-version={torch.version.cuda}" in CONDA["dependencies"]


def _imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


@pytest.mark.parametrize(
    ("folder", "groups"), [("dfmsd", ["mmdet", "study", "book"]), ("tests", ["mmdet", "study", "book", "test"])]
)
def test_every_imported_package_is_declared(folder: str, groups: list[str]) -> None:
    declared = set(_needs(*groups))
    distributions = importlib.metadata.packages_distributions()
    modules = {module for file in (paths.ROOT / folder).rglob("*.py") for module in _imported(file)}
    own = {"dfmsd", "conftest", "tests"}
    undeclared = {
        module
        for module in modules - own - set(sys.stdlib_module_names)
        if not declared & {_normal(name) for name in distributions.get(module, [])}
    }
    assert undeclared == set()
