"""Where a page comes from: what it names exists."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from dfmsd.report import origin, tables
from dfmsd.study import frames, pages, paths
from dfmsd.study.pages.comparison import PageSpec
from tests.conftest import WriteRecord


@pytest.mark.parametrize("name", pages.names())
def test_files_exist_and_the_command_makes_the_page(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(paths.NOTEBOOKS)
    page = pages.get(name)
    text = origin.of(page).data
    files = re.findall(r'href="\.\./([^"]+)"', text)
    assert files and all((paths.ROOT / file).exists() for file in files), "elsewhere than in the book, too"
    assert page.command() in text and f"papermill notebooks/{pages.file_of(name).parent.name}.ipynb" in text


def test_links_to_the_books_own_pages_are_in_the_book_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    page, executed = pages.get("scoreboard"), "../_sources/pages/scoreboard.ipynb"
    assert executed not in origin.of(page).data
    monkeypatch.setenv(tables.IN_BOOK, "1")
    assert executed in origin.of(page).data


def test_provenance_names_each_version_and_commit_once(write_record: WriteRecord) -> None:
    page = PageSpec(
        page="example",
        title="t",
        question="q",
        scale="smoke",
        seeds=[0, 1],
        groups=[{"student": "fcos_r50", "teachers": [], "recipes": ["baseline"]}],
    )
    for runs in page.chains():
        write_record(runs[-1], 30.0)
    found = origin.provenance(frames.origins(page))["these numbers"]
    assert found["runs"] == 2 and found["computing time"] == "4 min" and found["images per second"] == "FCOS R50, alone: 100"
    assert found["commit"] == "0123456789abcdef" and found["versions"] == "torch 2.13.0"


def test_nothing_run_has_no_provenance() -> None:
    assert origin.provenance(pd.DataFrame()).to_numpy().tolist() == [["not run"]]
