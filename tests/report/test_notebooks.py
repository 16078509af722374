"""The notebooks as they are committed: without outputs, thin, and with the parameters that their pages have."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import nbformat
import papermill
import papermill.cli
import pytest
import yaml

from dfmsd.study import pages, paths
from tests.conftest import Built

NOTEBOOKS = sorted(paths.NOTEBOOKS.glob("*.ipynb"))
TEMPLATES = sorted(paths.NOTEBOOKS / f"{name}.ipynb" for name in pages.NOTEBOOKS)
by_name = pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
by_template = pytest.mark.parametrize("file", TEMPLATES, ids=lambda file: file.stem)


def code(file: Path, *, parameters: bool = True) -> list[Any]:
    cells = nbformat.read(file, as_version=4).cells
    tagged = [cell for cell in cells if cell.cell_type == "code"]
    return [cell for cell in tagged if parameters or "parameters" not in cell.metadata.get("tags", [])]


@by_name
def test_no_outputs_are_committed(file: Path) -> None:
    for cell in code(file):
        assert cell.outputs == []
        assert cell.execution_count is None


@by_name
def test_every_cell_has_an_id_of_its_own(file: Path) -> None:
    ids = [cell["id"] for cell in json.loads(file.read_text())["cells"]]
    assert len(set(ids)) == len(ids)


@by_name
def test_runs_with_the_kernel_that_every_environment_has(file: Path) -> None:
    assert nbformat.read(file, as_version=4).metadata.kernelspec.name == "python3"


@by_template
def test_parameters_are_the_fields_of_the_page(file: Path) -> None:
    assert set(papermill.inspect_notebook(str(file))) == set(pages.NOTEBOOKS[file.stem].model_fields)


@by_template
def test_defaults_make_a_page(file: Path) -> None:
    cell = next(cell for cell in code(file) if "parameters" in cell.metadata.get("tags", []))
    names: dict[str, Any] = {}
    exec(cell.source, names)
    names.pop("__builtins__")
    assert pages.validate(pages.NOTEBOOKS[file.stem], names).scale == names["scale"]


@by_template
def test_templates_are_thin(file: Path) -> None:
    for cell in code(file, parameters=False):
        for node in ast.walk(ast.parse(cell.source)):
            assert not isinstance(node, (ast.FunctionDef, ast.Lambda, ast.ClassDef, ast.For, ast.While)), cell.source
            number = isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool)
            assert not number, f"a number outside the parameters: {cell.source}"


@by_name
def test_every_page_ends_with_its_origin(file: Path) -> None:
    *_, last = code(file)
    assert last.source.startswith("origin.of")


@pytest.mark.parametrize("name", pages.names())
def test_every_key_of_a_page_is_a_parameter(name: str) -> None:
    file = pages.file_of(name)
    known = papermill.inspect_notebook(str(paths.NOTEBOOKS / f"{file.parent.name}.ipynb"))
    assert set(yaml.safe_load(file.read_text())) <= set(known)


@pytest.mark.slow
@pytest.mark.xdist_group("book")
@pytest.mark.parametrize("name", {pages.file_of(name).parent.name: name for name in pages.names()}.values())
def test_plain_papermill_runs_a_page_of_each_kind(
    name: str, built_book: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for variable, value in built_book.environment.items():
        monkeypatch.setenv(variable, value)
    file = pages.file_of(name)
    notebook = paths.NOTEBOOKS / f"{file.parent.name}.ipynb"
    monkeypatch.chdir(tmp_path)
    # What the command calls, with the words that it would be given.
    words = [str(notebook), "out.ipynb", "-f", str(file), "-p", "scale", "smoke"]
    papermill.cli.papermill.main(words, standalone_mode=False)
    assert "unknown parameter" not in caplog.text.lower()
    cells = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells
    assert any(cell.outputs for cell in cells if cell.cell_type == "code")
