"""What to take: like with like, every pair once, and nothing where nothing is run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import sqrt

import pandas as pd
import pytest
from scipy.stats import t

from dfmsd.report import choosing, ranking, step, tables, words
from dfmsd.report.tables import plain
from dfmsd.study import pages, zoo
from tests.report.conftest import run

OWN, OTHER = choosing.KINDS.values()
GFL, RETINANET = "gfl_r101 → gfl_x101", "retinanet_r101 → retinanet_x101"


def rows(teachers: str, aps: Mapping[str, float], end: int = 12) -> pd.DataFrame:
    """Rows of one RetinaNet by its teachers, each with two seeds that lie 0.2 AP apart."""
    recipes = {"baseline": "baseline"} | choosing.NAMES
    lines = []
    for row, ap in aps.items():
        for seed in (0, 1):
            own = {"row": row, "recipe": recipes.get(row, "dfmsd"), "end": end, "seed": seed, "key": f"{teachers}, {row}, {seed}"}
            lines.append(own | {"metric": "AP", "value": ap + 0.2 * seed})
    shared = {"source": "ours", "role": "row", "student": "retinanet_r50", "teachers": teachers, "pair": teachers}
    return pd.DataFrame(lines).assign(**shared, page="table03", stale=False)


COSTS = {"MSE": 1.2, "DMKD": 1.3, "DFMSD": 1.4, step.ENHANCED: 2.6}
"""A step takes so many times as long as one of the student alone, 0.02 less and more in other rounds."""


def gained(*tables: pd.DataFrame) -> pd.DataFrame:
    lines = [{"row": row, "value": value, "low": value - 0.02, "high": value + 0.02} for row, value in COSTS.items()]
    measured = pd.DataFrame(lines).assign(metric=step.METRICS[1], page="losses", stale=False, size="coco")
    others = [
        measured.assign(beside="this machine", value=8.0, size="mini"),
        measured.assign(beside="this machine"),
        measured.assign(beside="another", value=9.0),
    ]
    return choosing.gains(pd.concat([*tables, *others]))


def test_gains_are_over_a_baseline_of_the_same_seed_that_trained_as_long_and_a_pair_counts_once() -> None:
    short = rows(GFL, {"baseline": 30.0, "MGD": 33.0, "without stages": 40.0})
    long = rows(GFL, {"baseline": 50.0, "DFMSD": 51.0}, end=24)
    alone = rows(RETINANET, {"PKD": 60.0}, end=36)
    found = gained(short, long, alone, short.assign(page="table05"))
    means = found.groupby("row")["gain"].mean().round(9)
    assert means.to_dict() == {"DFMSD": 1.0, "MGD": 3.0}, "no baseline trained as long as PKD"
    assert len(found) == 4 and found.loc[found["row"] == "MGD", "cost"].isna().all(), "no step of MGD is measured"
    assert found.loc[found["row"] == "DFMSD", "cost"].tolist() == pytest.approx([2.0, 2.0]), "the mean of its stages"
    assert set(found["kind"]) == {OTHER} and zoo.family("gfl_r101") != zoo.family("retinanet_r50")


def test_only_methods_with_all_pairs_are_ranked_and_the_cheapest_that_is_not_told_apart_is_named() -> None:
    first = rows(GFL, {"baseline": 30.0, "MSE": 33.0, "DMKD": 33.1, "DFMSD": 31.0, "PKD": 39.0})
    second = rows("fcos_r101", {"baseline": 30.0, "MSE": 34.0, "DMKD": 33.95, "DFMSD": 31.0})
    found = ranking.best(gained(first, second))
    assert found is not None
    assert (found["method"], found["cheapest"], found["pairs"], found["above"]) == ("DMKD", "MSE", 2, 2)
    assert found["gain"] == pytest.approx(3.525)
    apart = ranking.told_apart(gained(first, second), "DMKD", "DFMSD")
    assert apart is True and ranking.told_apart(gained(first), "DMKD", "MSE") is False


def test_without_boxes_there_is_a_line_of_its_own_where_a_method_that_needs_them_is_run() -> None:
    boxes = gained(rows(GFL, {"baseline": 30.0, "MSE": 31.0, "DMKD": 32.0, "FGD": 35.0}))
    found = ranking.recommended(boxes)["highest gain"]
    assert found.loc[[OTHER, f"{OTHER}, no boxes used"]].tolist() == ["FGD", "DMKD"]
    assert list(found.index) == [OWN, OTHER, f"{OTHER}, no boxes used"]
    more = gained(
        rows(GFL, {"baseline": 30.0, "MSE": 31.0, "FGD": 35.0, "DMKD": 32.0}),
        *(rows(pair, {"baseline": 30.0, "MSE": 31.0, "DMKD": 32.0}) for pair in ("gfl_r101", "fcos_r101")),
    )
    assert list(ranking.recommended(more).index) == [OWN, OTHER], "FGD is in one pair of three, and is not ranked"


def test_a_pair_that_lacks_methods_takes_none_of_them_out_of_the_ranking() -> None:
    """Three pairs have three methods, a fourth has the first two alone: nine cells, not eight."""
    aps = {"baseline": 30.0, "MSE": 31.0, "DMKD": 30.5, "DFMSD": 33.0}
    whole = [rows(teachers, aps) for teachers in (GFL, "fcos_r101", "gfl_r101")]
    half = rows("fcos_x101", {"baseline": 30.0, "MSE": 25.0, "DMKD": 24.0})
    found = ranking.best(gained(*whole, half))
    assert found is not None and (found["method"], found["pairs"], found["left"]) == ("DFMSD", 3, {})
    assert ranking.out(gained(*whole, half)).endswith(f": {plain('fcos_x101')} (MSE −5.0, DMKD −6.0).")
    assert ranking.out(gained(*whole)) == ""


def test_nothing_is_cheaper_whose_step_is_not_measured_or_not_told_apart() -> None:
    aps = {"baseline": 30.0, "MGD": 33.0, "PKD": 32.9, "MSE": 32.9}
    found = ranking.best(gained(rows(GFL, aps)))
    assert found is not None and found["method"] == "MGD" and found["cheapest"] is None, "nobody knows what a step of MGD takes"
    line = ranking.recommended(gained(rows(GFL, aps))).loc[OTHER]
    assert line["cheaper and perhaps as good"] == "not known: no step is measured"
    close = gained(rows(GFL, {"baseline": 30.0, "DMKD": 33.0, "MSE": 32.9})).assign(least=1.1, most=1.4)
    assert ranking.best(close)["cheapest"] == "DMKD", "a round of MSE took as long as one of DMKD"  # type: ignore[index]


def test_each_pair_stands_once_with_every_method_and_a_pair_without_a_choice_has_nothing_to_take() -> None:
    alike = rows(RETINANET, {"baseline": 30.0, "MSE": 29.0, "DMKD": 28.0})
    other, single = (
        rows(GFL, {"baseline": 30.0, "MSE": 33.0, "DFMSD": 35.0}),
        rows("retinanet_r101", {"baseline": 30.0, "SSIM": 31.0}),
    )
    found = gained(other, alike, single)
    table = ranking.by_pair(found)
    assert table["highest gain"].to_dict() == {(OWN, RETINANET): "none (MSE)", (OTHER, GFL): "DFMSD"}
    assert ranking.recommended(gained(single))["highest gain"].isna().all(), "one method alone is no choice"
    gains = choosing.all_gains(found)
    assert list(gains.columns) == ["MSE", "SSIM", "DMKD", "DFMSD"] and gains.index.is_unique
    assert gains.index.get_level_values("kind").tolist() == [OWN, OWN, OTHER]
    summary = choosing.by_method(found)
    assert summary.loc[(OTHER, "DFMSD"), ["Δ", "pairs", "above 0 in"]].tolist() == [pytest.approx(5.0), 1, 1]
    words = str(choosing.figure(summary, "mini").get_label())
    assert f"{OTHER}: MSE +3.0; DFMSD +5.0." in words


def test_a_ranking_takes_the_seeds_that_all_its_methods_have() -> None:
    """MSE lacks the first seed, which lies 0.2 AP below the second: the baselines are as far apart, the gains alike."""
    frame = rows(GFL, {"baseline": 30.0, "MSE": 33.0, "DMKD": 32.0})
    frame.loc[(frame["row"] == "DMKD") & (frame["seed"] == 0) & (frame["metric"] == "AP"), "value"] = 50.0
    found = ranking.best(gained(frame.query("row != 'MSE' or seed == 1")))
    assert found is not None and found["method"] == "MSE", "DMKD's 20 AP of the first seed do not count"


def test_steps_are_told_in_words_the_shortest_first() -> None:
    measured = gained(rows(GFL, {"baseline": 30.0, "MSE": 33.0}))
    assert choosing.slower(measured[:0].assign(metric="AP")) == ""
    lines = pd.DataFrame({"row": list(COSTS), "value": list(COSTS.values())}).assign(metric=step.METRICS[1], beside="a machine")
    said = choosing.slower(lines.assign(low=1.0, high=2.0, stale=False, size="coco"))
    assert said.endswith("relative to one without a teacher: MSE 1.20, DMKD 1.30, DFMSD 2.00.")


def test_nothing_is_called_cheaper_where_no_row_of_a_student_has_two_seeds() -> None:
    cheaper = "cheaper and perhaps as good"
    once = rows(GFL, {"baseline": 30.0, "MSE": 20.0, "DFMSD": 35.0}).query("seed == 0")
    assert set(ranking.recommended(gained(once))[cheaper]) == {"", "not known: no second seed"}


def test_few_pairs_have_an_interval_by_seeds_of_any_row_and_a_method_that_lacks_a_pair_is_named() -> None:
    once = [
        rows(GFL, {"MSE": 33.0, "DMKD": 32.9}).query("seed == 0"),
        rows("gfl_r101", {"MSE": 33.0, "DMKD": 32.9, "PKD": 31.0}).query("seed == 0"),
    ]
    line = ranking.recommended(gained(*once, rows(GFL, {"baseline": 30.0}), rows("gfl_r101", {"baseline": 30.0}))).loc[OTHER]
    assert (line["highest gain"], line["not ranked"]) == ("MSE", "PKD +1.0 in 1 pair")
    # Both baselines have two seeds 0.2 apart: a variance of 0.02, two degrees of freedom. Both differences are to one baseline.
    reach = t.ppf(0.975, 2) * sqrt(0.02 * (1 / 4 + 1 / 4 + 1))
    assert line["95 %"] == pytest.approx((3.0 - reach, 3.0 + reach))


def test_a_method_says_what_it_did_and_leads_to_its_rows() -> None:
    found = gained(rows(GFL, {"baseline": 30.0, "MSE": 33.0}), rows(RETINANET, {"baseline": 30.0, "MSE": 31.0}))
    own, other, cost, _, *_, last, before = choosing.of_method(found, "MSE").splitlines()
    assert own.startswith(f"- {OWN}: MSE ends 1.0 AP above the same student without a teacher [")
    assert other.endswith(", the mean over 1 pair.")
    assert (
        cost == "- With MSE, [a training step at COCO's size](../pages/losses.ipynb) takes 1.20 times as long as without a teacher."
    )
    pairs = {plain(GFL): "+3.0", plain(RETINANET): "+1.0"}
    assert {last, before} == {f"| {pair} | {gain} | [table03](../pages/table03.ipynb) |" for pair, gain in pairs.items()}
    assert "not run yet" in choosing.of_method(found, "PKD")


def test_more_training_is_set_beside_what_methods_add() -> None:
    def trained(student: str, *aps: float) -> pd.DataFrame:
        own = [rows(GFL, {"baseline": ap, "MSE": ap + 2}).assign(length=length) for length, ap in zip((1.0, 2.0), aps, strict=True)]
        return pd.concat(own).assign(student=student)

    gates = pd.concat([trained("fcos_r50", 30.0, 31.5), trained("gfl_r50", 30.0, 30.5)])
    assert choosing.doubled(gates).to_dict() == pytest.approx({"FCOS R50": 1.5, "GFL R50": 0.5})
    assert choosing.longer(gates, trained("fcos_r50", 30.0, 31.5)) == (
        "A student that trains twice as long without a teacher ends 1.0 AP above one of the usual length, the mean over 2 students "
        "with 2 seeds (FCOS R50 +1.5, GFL R50 +0.5). Beside a student that trains twice as long, methods gain: MSE +2.0 AP in 1 "
        "pair."
    )
    assert choosing.longer(gates[gates["length"] == 2], gates) == ""


def test_a_pair_that_no_method_ran_on_is_missing() -> None:
    done, other = (rows(teachers, {"baseline": 30.0, "MSE": 33.0}) for teachers in (GFL, RETINANET))
    assert choosing.missing(pd.concat([done, other]), gained(done))["page"].to_dict() == {(OWN, RETINANET): "table03"}


def test_baselines_of_the_seeds_that_methods_have_are_set_beside_those_of_all_seeds() -> None:
    """They are 0.2 AP apart, so that the first is 0.1 below their mean."""
    frame = rows(GFL, {"baseline": 30.0, "MSE": 33.0})
    assert choosing.off_mean(gained(frame)) == ""
    one_seed = frame.query("row != 'MSE' or seed == 0")
    assert "the means over all seeds by −0.1 AP for RetinaNet R50. " in choosing.off_mean(gained(one_seed))
    assert "too narrow" in words.one_seed(gained(one_seed)) and words.one_seed(gained(frame)) == words.one_seed(frame[:0]) == ""


def test_without_a_record_the_page_says_how_many_runs_are_left_and_recommends_nothing(folders: object) -> None:
    shown = run("choosing", scale="smoke")
    asked = " ".join([*(page.page for page in pages.get("choosing").sources() if page.page != "losses"), "choosing"])
    assert re.match(r"0 of \d+ runs at scale smoke have a record", shown["finding"].data)
    assert f"`python -m dfmsd page {asked} --scale smoke` makes" in shown["finding"].data, "the hours are those of the command"
    missing = shown["missing"].data
    commands = {f"python -m dfmsd page {page.page} --scale smoke" for page in pages.tables("smoke")}
    assert set(missing["command"].dropna()) == commands, "each table has a pair that stands first on it"
    assert missing["command"].isna().sum() == len(choosing.KINDS), "heads alone have none"
    assert (OTHER, "FCOS R50 taught by GFL R101, then GFL X101") in missing.index
    assert set(shown) & {"take", "figure", "methods", "gains", "longer"} == set() and shown["pairs"] is tables.NOTHING
