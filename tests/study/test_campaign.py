"""The order of runs: trials, the hypotheses' rows seed by seed, the rest; and which must wait."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import pytest

from dfmsd.study import campaign, hypotheses, pages, trials
from dfmsd.study.pages.comparison import RowsPage
from dfmsd.study.spec import RunSpec
from tests.conftest import WriteRecord


def test_what_decides_most_comes_first_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "unsettled", lambda scale: {})
    selected = [page for name in pages.names() if (page := pages.get(name, scale="mini")).page != "gates"]
    chains = campaign.ready(selected).chains
    assert sorted(runs[-1].key for runs in chains) == sorted(runs[-1].key for page in selected for runs in page.chains())
    taught = [runs[-1] for runs in chains if isinstance(runs[-1], RunSpec) and runs[-1].stage]
    tried, rows, *others = [list(runs) for _, runs in groupby(taught, lambda run: run.eval_split)]
    assert [tried[0].eval_split, rows[0].eval_split, *(own[0].eval_split for own in others)] == ["tune", "val", "tune", "val"]
    assert {run.stage.methods[0].type for run in tried if run.stage} == {"MSE", "SSIM", "DMKD", "DFMSD"}


def test_every_hypothesis_has_its_first_seed_before_any_has_its_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "unsettled", lambda scale: {})
    asked = hypotheses.asked()
    selected = [pages.get(name, scale="mini") for name in asked.pages]
    entries = {entry.runs[-1].key: entry for page in selected if isinstance(page, RowsPage) for entry in page.entries}
    chains = campaign.ready(selected).chains
    seeds = [entries[runs[-1].key].seed for runs in chains]
    assert [seed for seed, _ in groupby(seeds)][:3] == [0, 1000, 2000]
    first = [entries[runs[-1].key].row.recipe for runs in chains[: seeds.index(1000)]]
    assert {"baseline", "mse", "ssim", "dmkd", "dfmsd"} == set(first)


def test_no_row_is_trained_before_the_trials_of_its_weights(folders: Path) -> None:
    """Without records: baselines and trials alone are; not DFMSD's, which need DMKD's share. Other scales have no trials."""
    ready = campaign.ready([pages.get(name, scale="mini") for name in ("table03", "shares", "alignment")])
    runs = [runs[-1] for runs in ready.chains]
    assert {run.stage.methods[0].type for run in runs if run.stage and run.eval_split == "tune"} >= {"MSE", "DMKD", "PKD"}
    assert [run.key for run in runs if run.stage and run.eval_split == "val"] == []
    assert "DFMSD" not in {run.stage.methods[0].type for run in runs if run.stage}
    assert any(
        line.endswith("DMKD has trials without a record: `python -m dfmsd page shares --scale mini` makes them")
        for line in ready.waiting
    )
    page = pages.get("table03", scale="gpu")
    assert (len(campaign.ready([page]).chains), campaign.ready([page]).waiting) == (len(page.chains()), [])


def test_a_row_that_has_a_record_does_not_wait(write_record: WriteRecord) -> None:
    page = pages.get("table03", scale="mini")
    run = page.chains()[-1][-1]
    write_record(run, 30.0)
    assert run.key in {runs[-1].key for runs in campaign.ready([page]).chains}


def test_every_page_that_is_named_exists() -> None:
    assert set(campaign.PAGES) <= set(pages.names())
