"""Rooms and their direction: core, then the study, then reports, then the command line."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from dfmsd.study import paths

PLANNING = ("plan", "pages", "rows", "spec", "zoo", "scales", "records", "data", "code", "files", "ensure")


def room(module: str) -> int:
    """How far from the core a module stands: 0, 1 for the study, 2 for reports, 3 for the command line."""
    parts = module.split(".")
    return {"study": 1, "report": 2, "__main__": 3}.get(parts[1], 0) if len(parts) > 1 else 0


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_imports_lead_towards_the_core() -> None:
    wrong = []
    for file in sorted(paths.PACKAGE.rglob("*.py")):
        module = ".".join(file.relative_to(paths.ROOT).with_suffix("").parts)
        wrong += [f"{module} imports {one}" for one in imports(file) if one.startswith("dfmsd.") and room(one) > room(module)]
    assert wrong == []


def loaded_by(statement: str) -> set[str]:
    script = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=paths.ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_all_pages_are_planned_without_torch() -> None:
    plan = "from dfmsd.__main__ import main\nassert main(['plan', '--all']) == 0"
    loaded = loaded_by(f"from dfmsd.study import {', '.join(PLANNING)}\n{plan}")
    assert "dfmsd.study.ensure" in loaded
    assert not {"torch", "mmengine", "mmdet", "mmcv", "cv2", "pandas", "pycocotools"} & loaded


LOADED = """
import sys
import dfmsd.distiller, dfmsd.augment
from dfmsd import hyper, losses
print(*sys.modules)
from mmdet.registry import MODELS
for model in hyper.METHODS.values():
    built = MODELS.build(dict(type=model.__name__, channels_s=16, channels_t=16, strides=[8]))
    assert type(built) is getattr(losses, model.__name__)
import dfmsd.study.run
print(*sys.modules)
"""
in_one_process = pytest.mark.xdist_group("loaded")


@cache
def loaded() -> tuple[set[str], set[str]]:
    """The modules that the core loads in a process of its own, whose distiller registers every method, and then those of a run."""
    done = subprocess.run([sys.executable, "-c", LOADED], cwd=paths.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    core, run = done.stdout.splitlines()[-2:]
    return set(core.split()), set(run.split())


@in_one_process
def test_the_core_loads_neither_study_nor_report() -> None:
    assert not [name for name in loaded()[0] if name.startswith(("dfmsd.study", "dfmsd.report"))]


@pytest.mark.parametrize("name", ["page", "make", "frame", "curves"])
def test_a_notebook_finds_what_it_needs_in_the_study(name: str) -> None:
    script = f"from dfmsd import study, report\nimport dfmsd.study.frames\nassert callable(study.{name})"
    assert subprocess.run([sys.executable, "-c", script], cwd=paths.ROOT, check=False).returncode == 0
