"""Effects of parts and of open choices, against numbers worked out by hand."""

from __future__ import annotations

from itertools import product
from typing import Any

import pandas as pd
import pytest

from dfmsd.report import ablation
from dfmsd.study.pages.comparison import PageSpec
from tests.report.conftest import PAIR, lines

# What AP becomes with each part switched on: 40, and 1 for SAL, 2 for ME, 4 for SFA, which together lose 3.
AP = {
    on: 40.0 + sum(gain for gain, is_on in zip((1, 2, 4), on, strict=True) if is_on) - 3 * all(on)
    for on in product((False, True), repeat=3)
}


def variant(name: str, **options: Any) -> dict[str, Any]:
    return {"recipe": "dfmsd", "name": name, "options": options}


def parts(on: tuple[bool, ...]) -> dict[str, Any]:
    return {"sal": on[0], "me": "last" if on[1] else "none", "sfa": on[2]}


def page(*recipes: Any) -> PageSpec:
    group = {"student": "fcos_r50", "teachers": ["gfl_r101", "gfl_x101"], "recipes": recipes}
    return PageSpec(page="example", title="t", question="q", groups=[group])


def frame(recipes: dict[str, dict[int, float | None]]) -> pd.DataFrame:
    return lines({(name, "dfmsd"): aps for name, aps in recipes.items()})


def test_a_part_is_judged_by_the_rows_that_differ_in_it_alone() -> None:
    whole = page(*(variant(str(on), **parts(on)) for on in AP))
    found = ablation.added(frame({str(on): {0: ap, 1: ap + 1} for on, ap in AP.items()}), whole).loc[PAIR]
    assert found["Δ alone"].tolist() == [1, 2, 4]
    assert found["Δ with the two others"].tolist() == [-2, -1, 1]
    assert found["Δ mean"].tolist() == pytest.approx([0.25, 1.25, 3.25])  # the loss of 3 in one of four pairs
    assert set(found["pairs of rows"]) == {"4 of 4 run"}


def test_a_mean_waits_for_all_its_rows() -> None:
    whole = page(*(variant(str(on), **parts(on)) for on in AP))
    aps: dict[str, dict[int, float | None]] = {str(on): {0: ap} for on, ap in AP.items()}
    aps[str((True, True, True))] = {0: None}
    found = ablation.added(frame(aps), whole).loc[PAIR]
    assert found["Δ mean"].isna().all() and found["Δ with the two others"].isna().all()
    assert set(found["pairs of rows"]) == {"3 of 4 run"}


def test_other_changes_are_no_parts() -> None:
    known = page(variant("theta", theta=0.2), variant("first", me="first"), "dfmsd")
    assert ablation.added(frame({"theta": {0: 1.0}, "first": {0: 2.0}, "DFMSD": {0: 3.0}}), known).empty


def test_choices_stand_beside_modules_by_size_whatever_the_sign() -> None:
    known = page(variant("theta", theta=0.2), variant("mean", hyper={"reduction": "mean"}), variant("no SFA", sfa=False), "dfmsd")
    aps: dict[str, dict[int, float | None]] = {
        "theta": {0: 42.0, 1: 42.1, 2: 42.2},
        "mean": {0: None},
        "no SFA": {0: 39.0, 1: 39.1, 2: 39.2},
        "DFMSD": {0: 40.0, 1: 40.1, 2: 40.2},
    }
    found = ablation.moves(frame(aps), known)
    assert found.index.tolist() == ["theta", "no SFA (without semantic alignment)", "mean"]
    assert found["Δ"].tolist()[:2] == pytest.approx([2.0, -1.0]) and pd.isna(found["Δ"].iloc[2])
    assert found["is"].tolist() == [ablation.CHOICE, ablation.MODULE, ablation.CHOICE]
    assert found["moves AP more than"].tolist() == ["SFA", "", ""]
    drawn = ablation.figure(found, "mini")
    assert drawn is not None
    assert str(drawn.get_label()).endswith("theta +2.0; no SFA (without semantic alignment) −1.0.")


def test_a_larger_move_without_a_second_seed_is_doubted() -> None:
    known = page(variant("theta", theta=0.2), variant("no SFA", sfa=False), "dfmsd")
    found = ablation.moves(frame({"theta": {0: 42.0}, "no SFA": {0: 39.0}, "DFMSD": {0: 40.0}}), known)
    assert found.loc["theta", "moves AP more than"] == "SFA?"


def test_a_page_of_modules_alone_has_no_choices_to_show() -> None:
    found = ablation.moves(frame({"no SFA": {0: 39.0}, "DFMSD": {0: 40.0}}), page(variant("no SFA", sfa=False), "dfmsd"))
    assert found.empty and ablation.figure(found, "mini") is None
