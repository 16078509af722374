"""Pages of trials: each tells of its own trials and of what these decided."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from IPython.display import Markdown
from pandas.io.formats.style import Styler

from dfmsd.hyper import METHODS
from dfmsd.report import tuning
from dfmsd.report.figures import COLOURS
from dfmsd.study import pages, paths, scales
from dfmsd.study.pages import LABELS, PageSpec, TuningPage
from tests.conftest import WriteRecord

PAGES = sorted(file.stem for file in (paths.ROOT / "params" / "tuning").glob("*.yaml"))


@pytest.fixture(autouse=True)
def published_records_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What else was run on this machine does not count."""
    monkeypatch.setenv("DFMSD_RUNS", str(tmp_path))
    monkeypatch.delenv("DFMSD_RECORDS", raising=False)


def trials(name: str, scale: str = "mini") -> TuningPage:
    page = pages.get(name, scale=scale)
    assert isinstance(page, TuningPage)
    return page


def test_a_page_shows_what_its_own_trials_chose() -> None:
    shares, crossing = tuning.chosen(trials("shares")), tuning.chosen(trials("crossing"))
    assert isinstance(shares, Styler) and isinstance(crossing, Styler)
    assert set(shares.index) == {LABELS[name] for name in METHODS if name != "crosskd"}
    assert list(crossing.index) == ["CrossKD"]
    weights = scales.get("mini").methods
    assert shares.data.loc["DFMSD", ["alpha", "sfa"]].to_dict() == {name: weights["dfmsd"][name] for name in ("alpha", "sfa")}
    assert "beta" not in shares.data.loc["DFMSD"].dropna(), "beta was fixed"
    assert "Of MSE, AMD the best share is the smallest or the largest" in shares.caption
    assert "beyond" not in crossing.caption
    assert list(tuning.table(trials("shares")).index)[:3] == ["baseline", "MSE", "SSIM"]
    assert shares.data.loc["FKD", "share"] == 2 * (weights["fkd"]["alpha"] + weights["fkd"]["beta"]), "two terms each"


def test_a_tables_variants_are_those_that_were_tried() -> None:
    parts = trials("parts")
    structural = pages.get("structural")
    assert isinstance(structural, PageSpec)
    used = {row.options.variant: row for row in structural.rows() if row.options.variant}
    assert set(used) == set(parts.methods) == set(scales.get("mini").variants) == set(scales.get("smoke").variants)
    for name, tried in parts.methods.items():
        assert (used[name].recipe, used[name].options.hyper) == (tried.variant_of, tried.fixed), name
    weights = {entry.row.name: entry.runs[-1].stage for entry in parts.entries() if entry.row.name}
    assert {name: stage.methods[0].alpha for name, stage in weights.items() if stage} == dict.fromkeys(
        parts.methods, parts.shares[-1]
    )


def test_trials_of_what_is_not_used_chose_nothing() -> None:
    found = tuning.chosen(trials("detached"))
    assert isinstance(found, Markdown)
    assert found.data == "Nothing: the scale mini uses SSIM with another `detach_range`."


def test_where_the_papers_weights_apply_nothing_is_chosen() -> None:
    found = tuning.chosen(trials("shares", "gpu"))
    assert isinstance(found, Markdown)
    assert found.data == "Nothing: the scale gpu uses the weights of the papers."


@pytest.mark.parametrize("name", PAGES)
def test_a_share_was_chosen_for_its_ap(name: str) -> None:
    page = trials(name)
    best = tuning.trials(page).groupby("recipe")["AP"].max().rename(tuning.label)
    chosen = tuning.chosen(page)
    own = {} if isinstance(chosen, Markdown) else chosen.data["AP"].dropna().to_dict()
    assert own == best[list(own)].to_dict()


def test_the_template_leaves_the_methods_to_its_pages() -> None:
    cells = nbformat.read(paths.NOTEBOOKS / "tuning.ipynb", as_version=4).cells
    prose = " ".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert not [label for label in LABELS.values() if label != "baseline" and label in prose]
    assert tuning.notes(trials("detached")).data == trials("detached").notes


@pytest.fixture
def page(write_record: WriteRecord) -> TuningPage:
    found = pages.get("shares")
    assert isinstance(found, TuningPage)
    return found


def test_without_records_no_trial_has_a_number(page: TuningPage) -> None:
    frame = tuning.table(page).data
    assert set(frame.to_numpy().ravel()) == {"–"}
    assert list(frame.columns) == ["none", *(f"{share:g}" for share in page.shares)]
    assert tuning.figure(page).alt == "AP against the share of each method; baseline not run; best: no trial is run."


def test_the_figure_tells_the_best_share(page: TuningPage, write_record: WriteRecord) -> None:
    baseline, *trials = page.entries()
    write_record(baseline.runs[-1], 18.25)
    for ap, entry in zip((20.0, 25.0, 22.0), (entry for entry in trials if entry.row.recipe == "mgd"), strict=False):
        write_record(entry.runs[-1], ap)
    best = page.shares[1]
    assert tuning.figure(page).alt == f"AP against the share of each method; baseline 18.2; best: MGD 25.0 at {best:g}."


def test_each_trial_leads_to_its_record_and_the_best_is_bold(page: TuningPage, write_record: WriteRecord) -> None:
    trials = [entry for entry in page.entries() if entry.row.recipe == "mgd"]
    for ap, entry in zip((20.0, 25.0, 22.0), trials, strict=False):
        write_record(entry.runs[-1], ap)
    text = tuning.table(page).to_html()
    assert re.findall(r'records/(\w+).json">([\d.]+)<', text) == [
        (entry.runs[-1].key, ap) for entry, ap in zip(trials, ("20.0", "25.0", "22.0"), strict=False)
    ]
    (bold,) = re.findall(r"#T_trials_(\w+) \{\s*font-weight: bold", text)
    assert f'id="T_trials_{bold}"' in next(cell for cell in text.split("<td") if "25.0" in cell)


def test_a_stale_trial_is_marked(page: TuningPage, write_record: WriteRecord) -> None:
    first, second = [entry.runs[-1] for entry in page.entries() if entry.row.recipe == "mgd"][:2]
    write_record(page.entries()[0].runs[-1], 15.0)
    fresh = write_record(first, 20.0)
    write_record(second, 19.0)
    before = tuning.figure(page)
    assert "stale" not in tuning.table(page).to_html() + before.alt
    write_record(first, 20.0, provenance=fresh.provenance.model_copy(update={"code_digest": "another"}))
    assert tuning.table(page).to_html().count(">stale<") == 1
    assert tuning.figure(page).svg != before.svg
    assert f"MGD 20.0 at {page.shares[0]:g} (stale)" in tuning.figure(page).alt


def test_both_tables_say_their_scale(page: TuningPage) -> None:
    assert "mini" in tuning.table(page).caption
    assert "mini" in tuning.chosen(page).caption


def test_variants_have_their_methods_colour_and_lines_of_their_own() -> None:
    page = pages.get("parts")
    assert isinstance(page, TuningPage)
    drawn = tuning.figure(page).svg
    assert COLOURS["ssim"].lower() in drawn
    assert not [name for name, colour in COLOURS.items() if name not in ("ssim", "baseline", "mse") and colour.lower() in drawn]
    ours = re.findall(rf"stroke-dasharray: ([^;]+); stroke-dashoffset: 0; stroke: {COLOURS['ssim'].lower()}", drawn)
    assert len(set(ours)) == len(page.methods) - 1, "all but the first, which is solid, have dashes of their own"
