"""The notebooks as they are committed, and how papermill executes them: real notebooks in real kernels."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import nbformat
import papermill
import papermill.cli
import pytest
from IPython.core.interactiveshell import InteractiveShell
from nbformat.v4 import new_code_cell, new_notebook, new_output
from papermill.exceptions import PapermillExecutionError

from dfmsd.errors import StudyError
from dfmsd.report import book, home
from dfmsd.report.book import Job
from dfmsd.study import pages, paths, records
from tests import fixtures_study

NOTEBOOKS = sorted(paths.NOTEBOOKS.glob("*.ipynb"))
by_name = pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
by_page = pytest.mark.parametrize("name", pages.NOTEBOOKS)


def code(file: Path) -> list[Any]:
    return [cell for cell in nbformat.read(file, as_version=4).cells if cell.cell_type == "code"]


def parameters(name: str) -> dict[str, Any]:
    """What the cell of parameters says."""
    (cell,) = [cell for cell in code(paths.NOTEBOOKS / f"{name}.ipynb") if "parameters" in cell.metadata.get("tags", [])]
    found: dict[str, Any] = {}
    exec(cell.source, found)
    return {key: value for key, value in found.items() if not key.startswith("_")}


@by_name
def test_no_outputs_are_committed_and_cells_have_ids_of_their_own(file: Path) -> None:
    assert [cell for cell in code(file) if cell.outputs or cell.execution_count is not None] == []
    ids = [cell["id"] for cell in json.loads(file.read_text())["cells"]]
    assert len(set(ids)) == len(ids)
    assert nbformat.read(file, as_version=4).metadata.kernelspec.name == "python3"


@by_name
def test_cells_define_nothing(file: Path) -> None:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    cells = {cell["id"] for cell in code(file) for node in ast.walk(ast.parse(cell.source)) if isinstance(node, kinds)}
    assert cells == ({"define"} if file.stem == "loss" else set()), "one notebook shows how a loss is defined"


@by_name
def test_no_cell_gives_another_meaning_to_what_a_cell_imports(file: Path) -> None:
    """Or the cells that use it could not be run again, by a reader who changes one of them."""
    nodes = [node for cell in code(file) for node in ast.walk(ast.parse(cell.source))]
    imports = [node for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom))]
    imported = {name.asname or name.name.partition(".")[0] for node in imports for name in node.names}
    assert imported.isdisjoint(node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))


@by_name
def test_markdown_is_shown_by_tables_alone(file: Path) -> None:
    """It makes records' words safe, and shows nothing where there are none."""
    assert [cell.source for cell in code(file) if re.search(r"IPython\.display import .*(Markdown|HTML)", cell.source)] == []


def test_a_notebook_runs_again_in_its_kernel_and_still_refuses_a_misspelt_parameter(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its cells have assigned meanwhile are no parameters."""
    shell = InteractiveShell(user_module=ModuleType("notebook"))
    monkeypatch.setattr(shell, "showtraceback", lambda *_, **__: None)
    cells = [cell.source for cell in code(paths.NOTEBOOKS / "comparison.ipynb")]
    (place,) = [place for place, cell in enumerate(cells) if "study.page(" in cell]
    for cell in [*cells, *cells[: place + 1]]:
        shell.run_cell(cell, store_history=True, silent=False).raise_error()
    shell.run_cell(f"{cells[0]}\nsede = 3", store_history=True)
    with pytest.raises(StudyError, match=r"has no parameter 'sede': did you mean 'seeds'\?"):
        shell.run_cell(cells[place], store_history=True).raise_error()


def test_every_kind_of_page_has_a_notebook_and_a_folder() -> None:
    assert set(pages.NOTEBOOKS) <= {file.stem for file in NOTEBOOKS}
    assert set(pages.NOTEBOOKS) == {file.name for file in paths.PARAMS.iterdir() if file.is_dir()}


@by_page
def test_parameters_are_the_fields_of_the_page_and_make_one(name: str) -> None:
    given = parameters(name)
    assert set(given) - {"jobs"} == set(pages.NOTEBOOKS[name].model_fields)
    assert isinstance(pages.page(name, given), pages.NOTEBOOKS[name])


@pytest.mark.parametrize("name", ["explore", "loss", "own"])
def test_a_notebook_of_one_page_shows_by_itself_what_the_page_shows(name: str) -> None:
    """Its own cell and the model's defaults under the page's file say the same."""
    assert pages.page(name, parameters(name)) == pages.get(name)


@by_page
def test_every_parameter_is_checked_before_anything_is_made(name: str) -> None:
    """A value of another kind or far too large is one clear line; None is one, unless a page may be without."""
    given = parameters(name)
    may_lack = {
        "scale",
        *(field for field, info in pages.NOTEBOOKS[name].model_fields.items() if type(None) in get_args(info.annotation)),
    }
    for parameter in given:
        huge = [10**9] * (parameter not in ("seed", "seeds"))
        for value in (float("nan"), {"a": {}}, -1.5, True, *huge, *[None] * (parameter not in may_lack)):
            with pytest.raises(StudyError) as caught:
                pages.page(name, given | {parameter: value})
            assert "\n" not in str(caught.value) and parameter in str(caught.value)


def test_readmes_command_starts_jupyterlab_at_the_root_of_the_repository() -> None:
    assert "make lab" in (paths.ROOT / "README.md").read_text()
    done = subprocess.run(["make", "-n", "-C", paths.ROOT, "lab"], check=True, capture_output=True, text=True)
    assert f'--ServerApp.root_dir="{paths.ROOT}"' in done.stdout


def run_by_papermill(name: str, folder: Path, *words: str) -> list[Any]:
    """What the command of plain papermill does; returns the code cells."""
    target, patience = folder / "out.ipynb", ["--start-timeout", str(book.PATIENCE)]
    papermill.cli.papermill.main([str(paths.NOTEBOOKS / f"{name}.ipynb"), str(target), *patience, *words], standalone_mode=False)
    return code(target)


@pytest.mark.slow
def test_papermill_alone_executes_a_table(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With jobs it trains what is missing."""
    monkeypatch.chdir(folders)
    monkeypatch.setenv("PYTHONPATH", str(paths.ROOT))
    alone = ("-p", "scale", "smoke", "-p", "seeds", "[3]", "-y", "groups: [{student: fcos_r50, teachers: [], recipes: [baseline]}]")
    cells = run_by_papermill("comparison", folders, *alone, "-p", "jobs", "1")
    shown = "".join(output.get("data", {}).get("text/html", "") for cell in cells for output in cell.outputs)
    assert "not run" not in shown and "<svg" in shown
    streams = [output for cell in cells for output in cell.outputs if output.output_type == "stream"]
    assert "2 runs" in streams[0].text and "100%" in streams[0].text, "a bar, as text that stays readable"
    assert len(list(paths.runs().glob("*/record.json"))) == 2, "the run and its start"


@pytest.mark.slow
def test_a_wrong_parameter_stops_a_notebook_with_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(paths.ROOT))
    with pytest.raises(PapermillExecutionError) as caught:
        run_by_papermill("comparison", tmp_path, "-p", "sede", "3")
    assert caught.value.ename == "StudyError"
    assert "comparison.ipynb has no parameter 'sede': did you mean 'seeds'?" in caught.value.evalue
    assert len(caught.value.traceback) == 1 and "\n" not in caught.value.traceback[0]


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study of one notebook that the test writes: ``notebook(folder, code)``."""
    monkeypatch.setenv("DFMSD_BOOK", str(tmp_path / "book"))
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path)
    return tmp_path


def notebook(folder: Path, code: str) -> Path:
    cells = [new_code_cell("page = 'x'", metadata={"tags": ["parameters"]}), new_code_cell(code)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=kernel), folder / "small.ipynb")
    return folder / "small.ipynb"


@pytest.mark.parametrize("text", ["", "{half", "[]", '{"metadata": {}}'])
def test_a_damaged_page_is_made_anew(small: Path, text: str) -> None:
    job = Job(notebook(small, "1"), "x")
    job.target.parent.mkdir(parents=True)
    job.target.write_text(text)
    assert not job.is_done()


@pytest.mark.slow
def test_a_failing_notebook_leaves_the_page_that_was_there(small: Path) -> None:
    page = book.run(Job(notebook(small, "import os\nprint(40 + 2, os.getpid())"), "x"))
    before = page.read_text()
    kernel = re.search(r"42 (\d+)", before)
    assert kernel is not None and not Path(f"/proc/{kernel[1]}").exists(), "it has ended with the notebook"
    with pytest.raises(StudyError, match=r"^small\.ipynb failed for page x, cell \d: ValueError: the second$"):
        book.run(Job(notebook(small, "raise ValueError('the second\\nline')"), "x"))
    assert page.read_text() == before
    with pytest.raises(StudyError, match=r"page x wants the notebook gone\.ipynb"):
        book.run(Job(small / "gone.ipynb", "x"))


def test_each_figure_of_a_cell_has_a_caption_and_a_name_of_its_own() -> None:
    shown = ['<svg class="drawn desk">1', "words", '<svg class="drawn">2']
    cell = new_code_cell("code", id="chart", metadata={"mystnb": {"figure": {"caption": "What."}}, "tags": ["hide-input"]})
    cell.outputs = [new_output("display_data", {"text/html": text, "text/plain": "<Figure at 0x7f>"}) for text in shown]
    found = new_notebook(cells=[cell])
    book._finish(found, {"page": "fig01"})
    assert [cell.metadata["mystnb"].get("figure") for cell in found.cells] == [
        {"caption": "What.", "name": "fig01-chart"},
        None,
        {"caption": "What.", "name": "fig01-chart-3"},
    ]
    assert [cell.outputs[0].data for cell in found.cells] == [{"text/html": text} for text in shown]
    assert [cell.metadata["tags"] for cell in found.cells] == [["hide-input"], ["remove-input"], ["remove-input"]]


@pytest.mark.slow
def test_a_page_is_the_same_whatever_was_trained_on_the_machine(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It shows published records, and plans by their speeds; at the scale smoke it is about the runs that are here."""
    monkeypatch.setenv("PYTHONPATH", str(paths.ROOT))
    monkeypatch.setenv("DFMSD_BOOK", str(folders / "book"))
    page, look, small = pages.get("length"), pages.get("fig04"), pages.get("length", scale="smoke")
    published, unpublished, *_ = (runs[-1] for runs in page.chains())
    monkeypatch.setattr(home, "screen", lambda: {"answer": str(records.find(unpublished.key))})
    monkeypatch.setattr(book, "_drawings", dict)
    monkeypatch.setattr(book, "table_of_pages", str)
    fixtures_study.publish(published, speed=100.0)
    built = {}
    for machine in ("one", "other"):
        monkeypatch.setenv("DFMSD_RUNS", str(folders / machine))
        if machine == "other":
            fixtures_study.finish(unpublished, speed=50.0)
            fixtures_study.finish(small.chains()[0][-1])
            fixtures_study.finish(look.chains()[0][-1])
        files = [book.execute(page), book.execute(look)]
        assert "not run" in files[0].read_text() and "nothing is measured yet" in files[1].read_text()
        book._generate([page, look])
        shown = {str(one): one.read_text() for one in [*files, *paths.pages().glob("*/**/*")] if one.is_file()}
        built[machine] = shown, book.job(page).digest, book.job(small).digest
        for file in files:
            file.unlink()
    one, other = built["one"], built["other"]
    assert {name for name in one[0] | other[0] if one[0].get(name) != other[0].get(name)} == set()
    assert one[1] == other[1]
    assert one[2] != other[2]
    assert records.find(unpublished.key) is not None


WAIT = """
import pathlib, time
pathlib.Path({folder!r}, page).touch()
while not pathlib.Path({folder!r}, "ab".replace(page, "")).exists():
    time.sleep(0.1)
"""


@pytest.mark.slow
def test_pages_are_executed_side_by_side_and_told_of_in_order(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    file = notebook(small, WAIT.format(folder=str(small)))
    jobs = [Job(file, name, {"page": name}) for name in "ba"]
    book.run_all(jobs)
    assert capsys.readouterr().out == "page b\npage a\n"
    assert all(job.is_done() for job in jobs)


@pytest.mark.slow
def test_a_page_that_fails_stops_the_others(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    file = notebook(small, "import time\nassert page != 'bad', 'it is bad'\ntime.sleep(36000)")
    with pytest.raises(StudyError, match=r"^small\.ipynb failed for page bad, cell \d: AssertionError: it is bad$"):
        book.run_all([Job(file, name, {"page": name}) for name in ("bad", "long")])
    assert not list(paths.pages().glob("*"))
