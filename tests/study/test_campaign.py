"""The order of runs: trials, the hypotheses' rows seed by seed, the rest."""

from __future__ import annotations

from itertools import groupby

from dfmsd.study import campaign, claims, pages
from dfmsd.study.pages import RowsPage
from dfmsd.study.spec import RunSpec


def test_what_decides_most_comes_first_and_nothing_is_lost() -> None:
    selected = [page for name in pages.names() if (page := pages.get(name, scale="mini")).page != "gates"]
    chains = campaign.ordered(selected)
    assert sorted(runs[-1].key for runs in chains) == sorted(runs[-1].key for page in selected for runs in page.chains())
    taught = [runs[-1] for runs in chains if isinstance(runs[-1], RunSpec) and runs[-1].stage]
    trials, rows, *others = [list(runs) for _, runs in groupby(taught, lambda run: run.eval_split)]
    assert [trials[0].eval_split, rows[0].eval_split, *(own[0].eval_split for own in others)] == ["tune", "val", "tune", "val"]
    assert {run.stage.methods[0].type for run in trials if run.stage} == {"MSE", "SSIM", "DMKD", "DFMSD"}


def test_every_hypothesis_has_its_first_seed_before_any_has_its_second() -> None:
    asked = claims.asked()
    selected = [pages.get(name, scale="mini") for name in asked.pages]
    entries = {entry.runs[-1].key: entry for page in selected if isinstance(page, RowsPage) for entry in page.entries}
    seeds = [entries[runs[-1].key].seed for runs in campaign.ordered(selected)]
    assert [seed for seed, _ in groupby(seeds)][:3] == [0, 1000, 2000]
    first = [entries[runs[-1].key].row.recipe for runs in campaign.ordered(selected)[: seeds.index(1000)]]
    assert {"baseline", "mse", "ssim", "dmkd", "dfmsd"} == set(first)


def test_every_page_that_is_named_exists() -> None:
    assert set(campaign.PAGES) <= set(pages.names())
