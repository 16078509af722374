"""Where a page comes from: links that lead somewhere, and commands that exist."""

from __future__ import annotations

import re
import shlex

import papermill
import pytest

from dfmsd.__main__ import _arguments
from dfmsd.report import origin
from dfmsd.study import pages, paths


def links(text: str) -> list[str]:
    """The files of the repository that a text links to."""
    return [link for link in re.findall(r'href="\.\./([^"]*)"', text) if link.startswith(("params/", "notebooks/"))]


@pytest.mark.parametrize("name", pages.names())
def test_every_page_leads_to_its_parameters_and_its_notebook(name: str) -> None:
    file = pages.file_of(name)
    found = links(origin.of(pages.get(name)).data)
    assert found[0] == f"params/{file.parent.name}/{name}.yaml"
    assert f"notebooks/{file.parent.name}.ipynb" in found
    assert all((paths.ROOT / link).exists() for link in found)


@pytest.mark.parametrize("name", pages.names())
def test_its_commands_are_commands(name: str) -> None:
    text = origin.of(pages.get(name, scale="smoke")).data
    ours, alone = (shlex.split(code) for code in re.findall("<code>(.*?)</code>", text))
    assert ours[:3] == ["python", "-m", "dfmsd"]
    assert _arguments().parse_args(ours[3:]).command in ("page", "observe", "bench")
    program, notebook, output, *options = alone
    assert (program, output) == ("papermill", f"{name}.ipynb")
    assert options == ["-f", f"params/{pages.file_of(name).parent.name}/{name}.yaml", "-p", "scale", "smoke"]
    assert "scale" in papermill.inspect_notebook(str(paths.ROOT / notebook))


def test_numbers_of_the_paper_have_their_file_where_there_are_any() -> None:
    assert "params/published.yaml" in links(origin.of(pages.get("table03")).data)
    assert "params/claims.yaml" in links(origin.of(pages.get("scoreboard")).data)
    assert "params/published.yaml" not in links(origin.of(pages.get("fig06")).data)


def test_a_page_that_keeps_a_record_leads_to_it() -> None:
    assert "records/observations/fig05-mini.json" not in origin.of(pages.get("table03")).data
    found = pages.get("fig05", scale="mini")
    assert isinstance(found, pages.ObservedPage)
    leads = "../records/observations/fig05-mini.json" in origin.of(found).data
    assert leads == found.observation().exists()


def test_a_page_of_ones_own_has_no_file() -> None:
    assert "no params file" in origin.of(pages.get("table03").model_copy(update={"page": "mine"})).data


def test_a_notebook_that_is_a_page_leads_to_itself() -> None:
    (link,) = links(origin.of_notebook("explore").data)
    assert (paths.ROOT / link).exists()
