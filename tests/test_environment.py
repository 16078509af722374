"""The places that name a dependency agree: pyproject.toml, environment.yml, what is imported, what is installed."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from dfmsd.study import doctor, paths

CONDA = yaml.safe_load((paths.ROOT / "environment.yml").read_text())


def test_conda_users_get_the_pins_of_pyproject() -> None:
    pip = next(entry["pip"] for entry in CONDA["dependencies"] if isinstance(entry, dict))
    assert dict(line.split("==") for line in pip) == doctor.pins()


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


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize(("folder", "groups"), [("dfmsd", [None]), ("tests", [None, "test"])])
def test_every_imported_package_is_declared(folder: str, groups: list[str | None]) -> None:
    declared = {_normal(name) for group in groups for name in doctor.pins(group)}
    distributions = importlib.metadata.packages_distributions()
    modules = {module for file in (paths.ROOT / folder).rglob("*.py") for module in _imported(file)}
    own = {"dfmsd", "conftest", "tests"}
    undeclared = {
        module
        for module in modules - own - set(sys.stdlib_module_names)
        if not declared & {_normal(name) for name in distributions.get(module, [])}
    }
    assert undeclared == set()
