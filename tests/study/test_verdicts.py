"""Verdicts by hand, for each kind of claim, from frames that were made up; and every claim of the study finds what it is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, false_discovery_control, t

from dfmsd.errors import StudyError
from dfmsd.report import book
from dfmsd.study import claims, frames, hypotheses, pages, verdicts
from dfmsd.study.claims import Claim
from dfmsd.study.pages.comparison import PageSpec
from dfmsd.study.pages.overview import ScoreboardPage
from dfmsd.study.verdicts import judged, under_null
from tests.conftest import WriteRecord

Values = Sequence[float | None]

FCOS, GFL = ("fcos_r50", "gfl"), ("gfl_r50", "fcos")
"""Students, and who teaches them."""


def row(name: str, values: Values, pair: tuple[str, str] = FCOS, **fields: Any) -> list[dict[str, Any]]:
    """A row's AP, a line a seed; None is a seed that is not run."""
    shared = {"page": "example", "role": "row", "row": name, "pair": " ← ".join(pair), "student": pair[0], "teachers": pair[1]}
    shared |= {"recipe": name.split(",")[0].lower(), "metric": "AP", "hardware": "a processor"} | fields
    states = [{"value": value, "state": "not run" if value is None else "ok"} for value in values]
    keys = [f"{shared['page']} {pair} {name} {seed}" for seed in range(len(values))]
    return [{"seed": seed, "key": keys[seed]} | state | shared for seed, state in enumerate(states)]


def quoted(name: str, value: float, pair: tuple[str, str] = FCOS, **fields: Any) -> list[dict[str, Any]]:
    return row(name, [value], pair, source="paper", seed=None, state="quoted", **fields)


def seen(name: str, *levels: Values, **fields: Any) -> list[dict[str, Any]]:
    """What a figure measured, on levels 8, 16, ...: a line an image."""
    shared = {"page": "figure", "row": name, "metric": "maps", "state": "ok"}
    return [
        shared | {"level": 8 << place, "image": image, "value": value} | fields
        for place, values in enumerate(levels)
        for image, value in enumerate(values)
    ]


def frame(*lines: list[dict[str, Any]]) -> pd.DataFrame:
    shared = {"scale": "mini", "source": "ours", "stale": False, "note": "", "key": "k", "seed": None}
    return pd.DataFrame([shared | line for own in lines for line in own])


def claim(**changes: Any) -> Claim:
    subject = {"row": "DFMSD", "student": "fcos_r50"}
    return Claim.model_validate(
        {"id": "x", "section": "1", "text": "t", "page": "example", "subject": subject, "rivals": ["DMKD"]} | changes
    )


def figure(**changes: Any) -> Claim:
    sides = {"subject": {"metric": "maps", "row": "after"}, "rivals": [{"metric": "maps", "row": "before"}]}
    return claim(**({"page": "figure", "unit": "of correlation"} | sides | changes))


def verdict(found: pd.DataFrame, asked: Claim) -> pd.Series[Any]:
    (line,) = judged(found, [asked]).iloc
    return line


def words(found: pd.DataFrame, asked: Claim) -> str:
    return str(verdict(found, asked)["verdict"])


def noise(*students: str, page: str = "example", size: float = 0.1) -> list[dict[str, Any]]:
    """Rows that tell how far seeds move each student: ten pairs of seeds, by as much up as down, a variance of 2 x size^2."""
    shared = [(student, f"others {place}") for student in students or ("fcos_r50", "gfl_r50") for place in range(10)]
    return [line for pair in shared for line in row("another", (20 - size, 20 + size), pair, page=page)]


@pytest.mark.parametrize(
    ("ours", "least", "expected"),
    [(28.0, 0.0, True), (29.9, 0.0, False), (32.0, 3.5, False), (29.0, -0.5, True), (29.4, -0.5, False)],
)
def test_the_opposite_is_said_of_what_is_on_the_other_side_of_0_and_of_the_margin(
    ours: float, least: float, expected: bool
) -> None:
    """Three seeds, whose interval is about 0.2 AP to either side; an untested claim has no verdict, and says it all the same."""
    own, other = row("DFMSD", (ours,) * 3), row("DMKD", (30.0,) * 3)
    for tested in (True, False):
        assert verdict(frame(own, other, noise()), claim(least=least, tested=tested))["opposite"] == expected


@pytest.mark.parametrize(
    ("ours", "theirs", "least", "expected"),
    [
        ((31.0, 32.0, 33.0), (30.0, 30.0, 30.0), 0.0, "supported"),
        ((29.0, 28.0, 29.5), (30.0, 30.0, 30.0), 0.0, "contradicted"),
        ((30.1, 29.9, 30.1), (30.0, 30.0, 30.0), 0.0, "not settled"),
        # +2 with a standard error of 0.4 or so: margins outside that are settled.
        ((31.0, 32.0, 33.0), (30.0, 30.0, 30.0), 1.0, "supported"),
        ((31.0, 32.0, 33.0), (30.0, 30.0, 30.0), 1.9, "not settled"),
        ((31.0, 32.0, 33.0), (30.0, 30.0, 30.0), 3.5, "contradicted"),
        ((29.9, 30.1, 29.9), (30.0, 30.0, 30.0), -0.5, "supported"),
        # One seed is enough where other rows tell how far seeds move.
        ((32.0,), (30.0,), 0.0, "supported"),
        ((30.1,), (30.0,), 0.0, "not settled"),
        ((None,), (30.0,), 0.0, "not run"),
    ],
)
def test_a_row_against_a_rival(ours: Values, theirs: Values, least: float, expected: str) -> None:
    assert words(frame(row("DFMSD", ours), row("DMKD", theirs), noise()), claim(least=least)) == expected


def test_without_a_second_seed_of_any_row_nothing_is_settled() -> None:
    line = verdict(frame(row("DFMSD", (50.0,)), row("DMKD", (30.0,))), claim())
    assert (line["verdict"], line["numbers"]) == ("not settled", "+20.0 AP (1 seed)") and pd.isna(line["p"])


def test_untaught_students_alone_settle_nothing_about_taught_ones() -> None:
    """Their seeds do not tell how far another training of a teacher moves a number."""
    alone = row("baseline", (29.9, 30.1, 30.0))
    once = frame(row("DFMSD", (50.0, None, None)), alone)
    line = verdict(once, claim(rivals=["baseline"]))
    assert (line["verdict"], line["numbers"]) == ("not settled", "+20.1 AP (1 seed)") and pd.isna(line["p"])
    assert words(frame(row("DFMSD", (50.0, 50.2, None)), alone), claim(rivals=["baseline"])) == "supported"


def test_the_p_value_and_the_interval_are_students_by_all_rows_of_the_student() -> None:
    found = frame(
        row("DFMSD", (31.0, 99.0, 32.0)), row("DMKD", (30.0, None, 30.0)), noise("fcos_r50", size=0.5), noise("gfl_r50", size=9)
    )
    # Seed 1 has no partner: 1.5 over two seeds. Around their means: 0.5 from each of ten rows, and what the two rows have.
    squares = 10 * 0.5 + float(np.var([31, 99, 32]) * 3)
    error = sqrt(squares / (10 + 2 + 1) * 2 / 2)
    line = verdict(found, claim())
    assert line["p"] == pytest.approx(2 * t.sf(1.5 / error, 13))
    reach = error * t.ppf(0.975, 13)
    assert line["numbers"] == f"+1.5 [{verdicts.signed(1.5 - reach)}, {verdicts.signed(1.5 + reach)}] AP (2 seeds)"


def test_a_run_on_two_pages_counts_once_and_cancels_where_both_sides_have_it() -> None:
    """Gains of one student over one baseline: what the baseline's seeds did is in neither."""
    pairs = [("fcos_r50", "weak"), ("fcos_r50", "strong")]
    baselines = [line | {"key": f"baseline {line['seed']}"} for pair in pairs for line in row("baseline", (10.0, 90.0), pair)]
    rows = [row("DFMSD", values, pair) for pair, values in zip(pairs, ((31.0, 31.2), (30.0, 30.2)), strict=True)]
    subject, rival = ({"row": "DFMSD", "student": "fcos_r50", "teachers": name} for name in ("weak", "strong"))
    line = verdict(frame(baselines, *rows), claim(over="baseline", subject=subject, rivals=[rival]))
    squares = 40**2 * 2 + 2 * 0.1**2 * 2
    assert line["p"] == pytest.approx(2 * t.sf(1.0 / sqrt(squares / 3 * 2 / 2), 3))


@pytest.mark.parametrize(("stale", "expected"), [("DFMSD", True), ("DMKD", True), ("MGD", False)])
def test_a_verdict_that_rests_on_a_stale_record_says_so(stale: str, expected: bool) -> None:
    rows = [row(name, (30.0,), stale=name == stale) for name in ("DFMSD", "DMKD", "MGD")]
    assert verdict(frame(*rows), claim())["stale"] == expected


@pytest.mark.parametrize(
    ("gfl", "expected"),
    [((41.0,) * 3, "supported"), ((39.0,) * 3, "contradicted"), ((40.1,) * 3, "not settled"), ((None,) * 3, "not settled")],
)
def test_a_claim_about_several_pairs_is_supported_by_all_and_contradicted_beyond_what_one_of_many_may_do(
    gfl: Values, expected: str
) -> None:
    rows = [row("DFMSD", (32.0,) * 3), row("DMKD", (30.0,) * 3), row("DFMSD", gfl, GFL), row("DMKD", (40.0,) * 3, GFL)]
    assert words(frame(*rows, noise()), claim(subject="DFMSD")) == expected


def test_one_of_many_comparisons_may_point_the_other_way_by_chance() -> None:
    rivals = [f"rival {place}" for place in range(8)]
    values = [29.95] * 7 + [30.27]
    rows = [row("DFMSD", (30.0,) * 2), *(row(name, (value,) * 2) for name, value in zip(rivals, values, strict=True))]
    found = frame(*rows, noise("fcos_r50"))
    alone, among = verdict(found, claim(rivals=rivals[-1:])), verdict(found, claim(rivals=rivals))
    assert among["p"] == pytest.approx(8 * alone["p"])
    assert (alone["verdict"], among["verdict"]) == ("contradicted", "not settled")


def test_a_sentence_may_make_comparisons_of_several_kinds() -> None:
    recall = [row(name, (value,) * 3, metric="AR") for name, value in (("DFMSD", 49.0), ("DMKD", 50.0))]
    asked = claim(also=[{"metric": "AR"}])
    found = frame(row("DFMSD", (31.0,) * 3), row("DMKD", (30.0,) * 3), *recall, noise())
    assert words(found, claim()) == "supported"
    # Of recall nothing tells how far seeds move it but these rows, which they do not.
    assert words(found, asked) == "contradicted" and verdict(found, asked)["numbers"].startswith("+1.0 [")


def test_verdicts_allow_for_the_number_of_claims() -> None:
    rows = [row("DFMSD", (30.0,)), row("DMKD", (29.6,)), *(row(f"rival {n}", (30.0,)) for n in range(20)), noise("fcos_r50")]
    asked = [claim(), *(claim(id=f"x{n}", rivals=[f"rival {n}"]) for n in range(20))]
    assert words(frame(*rows), claim()) == "supported"
    found = judged(frame(*rows), asked)
    assert found["adjusted"].tolist() == pytest.approx(false_discovery_control(found["p"]))
    assert set(found["verdict"]) == {"not settled"}


def test_a_rival_that_one_pair_lacks_is_judged_on_the_others() -> None:
    found = frame(row("DFMSD", (40.0,) * 3), row("DFMSD", (32.0,) * 3, GFL), row("MGD", (30.0,) * 3, GFL))
    assert verdict(found, claim(subject="DFMSD", rivals=["MGD"]))["numbers"] == "+2.0 [+2.0, +2.0] AP (3 seeds)"


def test_three_comparisons_or_more_are_their_range_in_one_line() -> None:
    rivals = ["MGD", "FGD", "FKD"]
    rows = [row("DFMSD", (30.0,) * 2), *(row(name, (value,) * 2) for name, value in zip(rivals, (28.0, 30.5, 29.6), strict=True))]
    found = frame(*rows, noise())
    assert verdict(found, claim(subject="DFMSD", rivals=rivals))["brief"] == "−0.5 to +2.0 AP in 3 comparisons (2 seeds)"
    two = verdict(found, claim(subject="DFMSD", rivals=rivals[:2]))
    assert two["brief"] == two["numbers"] and two["numbers"].startswith("+2.0 [")
    levels = frame(seen("after", UP, UP, UP), seen("before", *[[0.0] * 12] * 3))
    asked = figure(unit="of correlation (of two networks, over positions)")
    assert verdict(levels, asked)["brief"] == "+0.2 to +0.2 of correlation in 3 comparisons (12 images)"


def test_a_row_that_cannot_be_run_decides_nothing() -> None:
    impossible = row("DMKD", (None,), GFL, state="cannot be run")
    found = frame(row("DFMSD", (32.0,) * 3), row("DMKD", (30.0,) * 3), row("DFMSD", (1.0,) * 3, GFL), impossible)
    assert words(found, claim(subject="DFMSD")) == "supported"


def test_a_seed_that_cannot_be_run_leaves_the_others() -> None:
    """The first stage of DFMSD's first seed has no detections, so it has no second one; the other two seeds are 2 AP above."""
    ours = row("DFMSD", (None, 32.0, 32.2))
    ours[0]["state"] = "cannot be run"
    found = frame(ours, row("DMKD", (30.0, 30.1, 29.9)), noise())
    line = verdict(found, claim(subject="DFMSD"))
    assert line["numbers"].startswith("+2.1 [") and line["numbers"].endswith("(2 seeds)")


def test_a_comparison_whose_run_lacks_the_metric_is_not_run() -> None:
    """Against DMKD all is well; MSE's rows have no such number, which does not take MSE out of the claim."""
    lacking = [line | {"metric": "AP50"} for line in row("MSE", (20.0,) * 3)]
    found = frame(row("DFMSD", (32.0,) * 3), row("DMKD", (30.0,) * 3), lacking, noise())
    assert words(found, claim(subject="DFMSD", rivals=[{"row": "DMKD"}, {"row": "MSE"}])) != "supported"


@pytest.mark.parametrize(
    ("gfl", "expected"), [((43.5, 44.0, 43.5), "contradicted"), ((40.5, 40.0, 41.0), "supported"), ((None,) * 3, "not run")]
)
def test_gains_of_two_students(gfl: Values, expected: str) -> None:
    """FCOS gains 2 AP over its baseline; GFL, from 40, more or less than that."""
    students = [row("baseline", (30.0, 31.0, 30.0)), row("DFMSD", (32.0, 33.0, 32.0)), row("baseline", (40.0,) * 3, GFL)]
    other = {"row": "DFMSD", "student": "gfl_r50", "teachers": "fcos"}
    assert words(frame(*students, row("DFMSD", gfl, GFL), noise()), claim(over="baseline", rivals=[other])) == expected


@pytest.mark.parametrize(("elsewhere", "expected"), [(29.0, "supported"), (33.0, "contradicted")])
def test_one_row_under_two_sets_of_teachers(elsewhere: float, expected: str) -> None:
    other = row("DFMSD", (elsewhere,) * 3, ("fcos_r50", "fcos_r101 → fcos_x101"), page="other")
    rivals = [{"row": "DFMSD", "page": "other", "teachers": ["fcos_r101", "fcos_x101"]}]
    assert words(frame(row("DFMSD", (32.0,) * 3), other), claim(rivals=rivals)) == expected


@pytest.mark.parametrize(
    ("last", "expected"), [((29.0,) * 3, "supported"), ((33.0,) * 3, "contradicted"), ((None,) * 3, "not settled")]
)
def test_the_best_of_its_pair_and_recipe(last: Values, expected: str) -> None:
    others = [row("baseline", (50.0,) * 3), row("DFMSD, stage 1", (60.0,) * 3, role="stage"), row("DFMSD, theta 0.1", (30.0,) * 3)]
    found = frame(row("DFMSD", (32.0,) * 3), *others, row("DFMSD, theta 0.9", last))
    assert words(found, claim(rivals="others")) == expected


def test_a_metric_that_a_run_lacks_is_not_run() -> None:
    """A short run has no speed, and one without detections no AP of small objects."""
    found = frame(row("DFMSD", (30.0,)), row("DMKD", (30.0,)), row("DMKD", (9.0,), metric="AP_S"))
    assert words(found, claim(metric="speed", least=0.9)) == "not run"
    assert words(found, claim(metric="AP_S")) == "not run"


def test_speed_decides_nothing() -> None:
    speeds = [row(name, (speed,) * 3, metric="images_per_second") for name, speed in (("DFMSD", 90.0), ("DMKD", 100.0))]
    line = verdict(frame(*speeds), claim(metric="speed", least=0.5))
    assert line["verdict"] == "not settled" and line["numbers"].startswith("0.90 of the speed")
    elsewhere = row("DMKD", (100.0,), metric="images_per_second", hardware="another")
    assert words(frame(speeds[0], elsewhere), claim(metric="speed")) == "not run", "on other hardware"


UP, DOWN, AROUND = [0.1, 0.2, 0.3] * 4, [-0.3, -0.2, -0.1] * 4, [-0.3, 0.2, 0.2] * 4


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ([UP], "supported"),
        ([DOWN], "contradicted"),
        ([AROUND], "not settled"),
        ([UP, UP], "supported"),
        ([UP, DOWN], "contradicted"),
        ([UP, AROUND], "not settled"),
        ([[5.0]], "not settled"),
    ],
)
def test_a_claim_about_a_figure_is_judged_over_images_on_each_level(levels: list[Values], expected: str) -> None:
    before = [[0.0 for _ in values] for values in levels]
    assert words(frame(seen("after", *levels), seen("before", *before)), figure()) == expected


def test_its_numbers_have_a_level_and_a_unit() -> None:
    line = verdict(frame(seen("after", UP, DOWN), seen("before", [0.0] * 12, [0.0] * 12)), figure())
    reach = float(np.std(UP, ddof=1)) / sqrt(12) * t.ppf(0.975, 11)
    ends = f"{0.2 - reach:.2g}, +{0.2 + reach:.2g}"
    assert line["numbers"].startswith(f"stride 8 +0.2 [+{ends}], stride 16 −0.2 [") and line["numbers"].endswith(
        "of correlation (12 images)"
    )


def test_several_lines_of_an_image_are_their_mean_and_an_image_without_one_of_them_is_left_out() -> None:
    twins = [seen("before", [0.1, 0.1, 0.1], beside="a"), seen("before", [0.3, 0.3, float("nan")], beside="b")]
    found = frame(seen("after", [0.3, 0.4, 9.0]), *twins)
    # Less the means 0.2 and 0.2: 0.1 and 0.2.
    assert verdict(found, figure())["numbers"].startswith("stride 8 +0.15 [")


def test_where_trainings_are_compared_images_decide_nothing() -> None:
    found = frame(seen("after", UP), seen("before", [0.0] * 12))
    assert words(found, figure(tested=False)) == "not settled"
    assert "[" in verdict(found, figure(tested=False))["numbers"], "the interval is shown all the same"


def test_a_number_over_all_images_has_no_interval() -> None:
    found = frame(seen("after", [0.5], image=None), seen("before", [0.4], image=None))
    assert (words(found, figure()), verdict(found, figure())["numbers"]) == ("not settled", "stride 8 +0.1 of correlation")


def test_a_figure_that_is_not_measured_is_not_run() -> None:
    nothing = {"page": "figure", "row": "", "metric": "", "state": "not run"}
    assert words(frame([nothing]), figure()) == "not run"
    assert words(frame(seen("after", UP, metric="masks")), figure()) == "not run", "its networks may have nothing to compare"


@pytest.mark.parametrize(
    ("changes", "numbers", "supports"),
    [
        # Table 4: GFL 40.7 by DFMSD, 40.4 by DMKD; FCOS stands for a row whose number is lost.
        ({"subject": "DFMSD"}, "–, +0.3", True),
        ({"subject": "DFMSD", "least": 0.5}, "–, +0.3", False),
        ({"subject": "DFMSD", "over": "DMKD", "rivals": ["MGD"]}, "+0.6", True),
        (
            {"subject": "DFMSD", "rivals": [{"row": "DMKD", "student": "gfl_r50"}], "says": 0.2},
            "+0.3 in the table, +0.2 in the text",
            True,
        ),
        ({"rivals": ["DFMSD, stage 1"]}, "", None),
        ({"subject": "DFMSD", "says": 42.9, "prints": 42.0}, "DFMSD: 42.0 AP in the tables, 42.9 in the text", None),
        ({"ours": True, "subject": "DFMSD"}, "", None),
    ],
)
def test_the_papers_own_numbers(changes: Mapping[str, Any], numbers: str, supports: bool | None) -> None:
    rows = [row(name, (None,), pair) for name in ("DFMSD", "DMKD") for pair in (FCOS, GFL)] + [row("MGD", (None,), GFL)]
    paper = [quoted("DFMSD", 40.7, GFL), quoted("DMKD", 40.4, GFL), quoted("MGD", 40.1, GFL), quoted("DMKD", 39.0)]
    stage = row("DFMSD, stage 1", (None,), role="stage")
    line = verdict(frame(*rows, *paper, stage), claim(**changes))
    assert (line["paper_numbers"], line["paper_supports"]) == (numbers, supports)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rivals": ["DKMD"]}, "claim x: page example has no row 'DKMD': did you mean 'DMKD'"),
        ({"subject": "DFSMD"}, "claim x: page example has no row 'DFSMD': did you mean 'DFMSD'"),
        ({"rivals": ["MGD"]}, "page example has 'MGD' for other students or teachers alone: gfl_r50 ← fcos"),
        ({"over": "basline"}, "claim x: page example has no row 'basline': did you mean 'baseline'"),
        ({"subject": {"row": "DFMSD", "studnt": "fcos_r50"}}, "claim x: page example has no 'studnt': did you mean 'student'"),
        ({"subject": "MGD", "rivals": "others"}, "claim x: 'MGD' has no rivals on page example"),
    ],
)
def test_a_row_that_is_not_there(changes: Mapping[str, Any], message: str) -> None:
    rows = [row(name, (30.0,)) for name in ("baseline", "DFMSD", "DMKD")]
    with pytest.raises(StudyError, match=message):
        judged(frame(*rows, row("MGD", (30.0,), GFL)), [claim(**changes)])


@pytest.mark.parametrize("seeds", [1, 3])
def test_where_nothing_differs_verdicts_are_as_rare_as_promised(seeds: int) -> None:
    """Students of thirty rows each, all of one distribution; claims of one comparison and of four, on a page of a frame."""
    rng = np.random.default_rng(seeds)
    names = [f"row {place}" for place in range(30)]
    pairs = [(student, "fcos") for student in ("retinanet_r50", "gfl_r50")]
    rows = [row(name, (30 + rng.standard_normal(seeds)).tolist(), pair) for pair in pairs for name in names]
    known = [] if seeds > 1 else [line for student, _ in pairs for line in noise(student, size=sqrt(0.5))]
    sides = [{"row": name, "student": student} for student, _ in pairs for name in names]
    asked = [claim(id=f"one {n}", subject=side, rivals=["row 0"]) for n, side in enumerate(sides) if side["row"] != "row 0"]
    asked += [
        claim(id=f"four {n}", subject=side, rivals=names[n % 7 + 1 : n % 7 + 5]) for n, side in enumerate(sides) if n % 30 > 15
    ]
    times = 100
    found = under_null(frame(*rows, known), asked, times=times)
    assert found["id"].tolist() == [one.id for one in asked] and (found["not run"] == 0).all()
    # A false discovery rate of 10 % where all is chance: a verdict anywhere in 10 % of the simulations, and then few of them.
    wrong = found[["supported", "contradicted"]].sum().sum()
    assert wrong < 0.1 * len(asked) * 0.1 + 3 * sqrt(0.1 * 0.9 / times) * len(asked) * 0.1
    four = found[found["id"].str.startswith("four")]
    assert binom.sf(round(times * four["contradicted"].sum()) - 1, times * len(four), 0.1) > 0.01


def test_a_frame_judges_the_claims_whose_pages_it_has() -> None:
    found = frame(row("DFMSD", (31.0,)), row("DMKD", (30.0,)))
    elsewhere = [{"row": "DFMSD", "page": "other"}]
    assert judged(found, [claim(), claim(id="y", rivals=elsewhere)])["id"].tolist() == ["x"]


def test_every_claim_of_the_study_finds_its_rows_or_its_figure(folders: Path) -> None:
    frame = pd.concat([frames.frame(page) for page in pages.get("scoreboard").sources() if page.scale == "mini"])
    found = judged(frame)
    assert found["id"].tolist() == [one.id for one in claims.claims()]
    assert found["id"].is_unique
    assert len({(one.section, one.text, str(one.subject)) for one in claims.claims()}) == len(found), "no claim is listed twice"
    assert set(found["verdict"]) == {"not run"}
    asked = hypotheses.judged(frame)
    assert asked["id"].tolist() == [f"H{place}" for place in range(1, 9)] and set(asked["verdict"]) == {"not run"}
    assert (asked["planned"] >= hypotheses.fewest()).all()


def test_a_page_of_claims_follows_the_records_of_other_pages(
    write_record: WriteRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two seeds of another page tell how far seeds move a student of this one; its verdicts are judged anew, and only then."""
    monkeypatch.setenv("DFMSD_BOOK", str(tmp_path / "book"))
    page, other = (pages.get(name) for name in ("table03", "table01"))
    assert isinstance(page, PageSpec) and isinstance(other, PageSpec)
    monkeypatch.setattr(ScoreboardPage, "sources", lambda *_: [page, other])
    for entry in page.entries:
        if entry.seed == 0:
            write_record(entry.runs[-1], 40.0 if entry.row.recipe == "dfmsd" else 30.0)
    before, digest = verdicts.of(page), book.job(page).digest
    assert "not settled" in set(before["verdict"]) <= {"not settled", "not run"}
    with monkeypatch.context() as patch:
        patch.delattr(verdicts, "judged")
        pd.testing.assert_frame_equal(verdicts.of(page), before)
    own = {run.key for entry in page.entries for run in entry.runs}
    for entry in other.entries:
        if entry.runs[-1].key not in own:
            write_record(entry.runs[-1], 30.0 + entry.seed / 1e4)
    assert "supported" in set(verdicts.of(page)["verdict"])
    assert book.job(page).digest != digest
