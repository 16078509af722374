"""Verdicts by hand, for each kind of claim, from frames that were made up; and every claim of the study finds what it is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from dfmsd.errors import StudyError
from dfmsd.study import claims, frames, pages, paths
from dfmsd.study.claims import Claim, judged

Values = Sequence[float | None]

FCOS, GFL = ("fcos_r50", "gfl"), ("gfl_r50", "fcos")
"""Students, and who teaches them."""


def row(name: str, values: Values, pair: tuple[str, str] = FCOS, **fields: Any) -> list[dict[str, Any]]:
    """A row's AP, a line a seed; None is a seed that is not run."""
    shared = {"page": "example", "role": "row", "row": name, "pair": " ← ".join(pair), "student": pair[0], "teachers": pair[1]}
    shared |= {"recipe": name.split(",")[0].lower(), "metric": "AP", "hardware": "a processor"}
    states = [{"value": value, "state": "not run" if value is None else "ok"} for value in values]
    return [shared | state | {"seed": seed} | fields for seed, state in enumerate(states)]


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
    """The verdict, and where it points."""
    line = verdict(found, asked)
    return " ".join(filter(None, [line["verdict"], line["points_to"]]))


@pytest.mark.parametrize(
    ("ours", "theirs", "least", "expected"),
    [
        ((31.0, 32.0, 33.0), (30.0, 30.0, 30.0), 0.0, "holds"),
        ((29.0, 28.0, 29.5), (30.0, 30.0, 30.0), 0.0, "fails"),
        ((31.0, 29.0, 31.0), (30.0, 30.0, 30.0), 0.0, "undecided holds"),
        ((31.0, 28.0, 30.0), (30.0, 30.0, 30.0), 0.0, "undecided fails"),
        # The interval of +1, +2 and +3 is [1, 3]: it decides about margins outside it alone.
        ((31.0, 32.0, 33.0), (30.0, 30.0, 30.0), 1.0, "holds"),
        ((31.0, 32.0, 33.0), (30.0, 30.0, 30.0), 1.5, "undecided holds"),
        ((31.0, 32.0, 33.0), (30.0, 30.0, 30.0), 2.5, "undecided fails"),
        ((31.0, 32.0, 33.0), (30.0, 30.0, 30.0), 3.5, "fails"),
        ((29.7, 30.0, 29.6), (30.0, 30.0, 30.0), -0.5, "holds"),
        ((29.0, 29.2, 29.1), (30.0, 30.0, 30.0), -0.5, "fails"),
        # One seed decides nothing and points somewhere.
        ((50.0,), (30.0,), 0.0, "undecided holds"),
        ((20.0,), (30.0,), 0.0, "undecided fails"),
        ((None,), (30.0,), 0.0, "not run"),
    ],
)
def test_a_row_against_a_rival(ours: Values, theirs: Values, least: float, expected: str) -> None:
    assert words(frame(row("DFMSD", ours), row("DMKD", theirs)), claim(least=least)) == expected


def test_numbers_are_paired_by_seed_and_say_how_many_there_are() -> None:
    # Seed 1 has no partner; +1 and +3 are left.
    found = frame(row("DFMSD", (31.0, 99.0, 33.0)), row("DMKD", (30.0, None, 30.0)))
    assert verdict(found, claim())["numbers"] == "+2.0 AP (2 seeds)"
    found = frame(row("DFMSD", (31.0, 32.0, 33.0)), row("DMKD", (30.0, 30.0, 30.0)))
    assert verdict(found, claim())["numbers"] == "+2.0 [+1.0, +3.0] AP"


@pytest.mark.parametrize(("stale", "expected"), [("DFMSD", True), ("DMKD", True), ("MGD", False)])
def test_a_verdict_that_rests_on_a_stale_record_says_so(stale: str, expected: bool) -> None:
    rows = [row(name, (30.0,), stale=name == stale) for name in ("DFMSD", "DMKD", "MGD")]
    assert verdict(frame(*rows), claim())["stale"] == expected


@pytest.mark.parametrize(
    ("gfl", "expected", "numbers"),
    [
        ((41.0,) * 3, "holds", "+2.0 [+2.0, +2.0], +1.0 [+1.0, +1.0] AP"),
        ((39.0,) * 3, "fails", "+2.0 [+2.0, +2.0], −1.0 [−1.0, −1.0] AP"),
        ((41.0, None, None), "undecided holds", "+2.0 [+2.0, +2.0], +1.0 AP (1 seed)"),
        ((None,) * 3, "undecided holds", "+2.0 [+2.0, +2.0] AP; 1 not run"),
    ],
)
def test_a_claim_about_several_pairs_needs_all_of_them(gfl: Values, expected: str, numbers: str) -> None:
    found = frame(row("DFMSD", (32.0,) * 3), row("DMKD", (30.0,) * 3), row("DFMSD", gfl, GFL), row("DMKD", (40.0,) * 3, GFL))
    asked = claim(subject="DFMSD")
    assert (words(found, asked), verdict(found, asked)["numbers"]) == (expected, numbers)


def test_a_rival_that_one_pair_lacks_is_judged_on_the_others() -> None:
    found = frame(row("DFMSD", (40.0,) * 3), row("DFMSD", (32.0,) * 3, GFL), row("MGD", (30.0,) * 3, GFL))
    assert verdict(found, claim(subject="DFMSD", rivals=["MGD"]))["numbers"] == "+2.0 [+2.0, +2.0] AP"


def test_a_row_that_cannot_be_run_decides_nothing() -> None:
    impossible = row("DMKD", (None,), GFL, state="cannot be run")
    found = frame(row("DFMSD", (32.0,) * 3), row("DMKD", (30.0,) * 3), row("DFMSD", (1.0,) * 3, GFL), impossible)
    assert words(found, claim(subject="DFMSD")) == "holds"


@pytest.mark.parametrize(
    ("gfl", "expected"), [((43.0, 44.0, 43.0), "fails"), ((40.5, 40.0, 41.0), "holds"), ((None,) * 3, "not run")]
)
def test_gains_of_two_students(gfl: Values, expected: str) -> None:
    """FCOS gains 2 AP over its baseline; GFL, from 40, more or less than that."""
    students = [row("baseline", (30.0, 31.0, 30.0)), row("DFMSD", (32.0, 33.0, 32.0)), row("baseline", (40.0,) * 3, GFL)]
    other = {"row": "DFMSD", "student": "gfl_r50", "teachers": "fcos"}
    assert words(frame(*students, row("DFMSD", gfl, GFL)), claim(over="baseline", rivals=[other])) == expected


@pytest.mark.parametrize(("elsewhere", "expected"), [(29.0, "holds"), (33.0, "fails")])
def test_one_row_under_two_sets_of_teachers(elsewhere: float, expected: str) -> None:
    other = row("DFMSD", (elsewhere,) * 3, ("fcos_r50", "fcos_r101 → fcos_x101"), page="other")
    rivals = [{"row": "DFMSD", "page": "other", "teachers": ["fcos_r101", "fcos_x101"]}]
    assert words(frame(row("DFMSD", (32.0,) * 3), other), claim(rivals=rivals)) == expected


@pytest.mark.parametrize(("last", "expected"), [((29.0,) * 3, "holds"), ((33.0,) * 3, "fails"), ((None,) * 3, "undecided holds")])
def test_the_best_of_its_pair_and_recipe(last: Values, expected: str) -> None:
    others = [row("baseline", (50.0,) * 3), row("DFMSD, stage 1", (60.0,) * 3, role="stage"), row("DFMSD, theta 0.1", (30.0,) * 3)]
    found = frame(row("DFMSD", (32.0,) * 3), *others, row("DFMSD, theta 0.9", last))
    assert words(found, claim(rivals="others")) == expected


def test_a_metric_that_a_run_lacks_is_not_run() -> None:
    """A short run has no speed, and one without detections no AP of small objects."""
    found = frame(row("DFMSD", (30.0,)), row("DMKD", (30.0,)), row("DMKD", (9.0,), metric="AP_S"))
    assert words(found, claim(metric="speed", least=0.9)) == "not run"
    assert words(found, claim(metric="AP_S")) == "not run"


@pytest.mark.parametrize(("least", "expected"), [(0.9, "undecided holds"), (1.1, "undecided fails")])
def test_speed_points_somewhere_and_decides_nothing(least: float, expected: str) -> None:
    speeds = [row(name, (100.0,) * 3, metric="images_per_second") for name in ("DFMSD", "DMKD")]
    assert words(frame(*speeds), claim(metric="speed", least=least)) == expected
    elsewhere = row("DMKD", (100.0,), metric="images_per_second", hardware="another")
    assert words(frame(speeds[0], elsewhere), claim(metric="speed")) == "not run", "on other hardware"


UP, DOWN, AROUND = [0.1, 0.2, 0.3], [-0.3, -0.2, -0.1], [-0.1, 0.2, 0.2]


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ([UP], "holds"),
        ([DOWN], "fails"),
        ([AROUND], "undecided holds"),
        ([UP, UP], "holds"),
        ([UP, DOWN], "fails"),
        ([UP, AROUND], "undecided holds"),
        ([[5.0, 5.0]], "undecided holds"),
    ],
)
def test_a_claim_about_a_figure_is_judged_over_images_on_each_level(levels: list[Values], expected: str) -> None:
    before = [[0.0 for _ in values] for values in levels]
    assert words(frame(seen("after", *levels), seen("before", *before)), figure()) == expected


def test_its_numbers_have_a_level_and_a_unit() -> None:
    found = frame(seen("after", UP, DOWN), seen("before", [0.0] * 3, [0.0] * 3))
    assert (
        verdict(found, figure())["numbers"] == "stride 8 +0.2 [+0.1, +0.3], stride 16 −0.2 [−0.3, −0.1] of correlation (3 images)"
    )


def test_several_lines_of_an_image_are_their_mean_and_an_image_without_one_of_them_is_left_out() -> None:
    twins = [seen("before", [0.1, 0.1, 0.1], beside="a"), seen("before", [0.3, 0.3, float("nan")], beside="b")]
    found = frame(seen("after", [0.3, 0.4, 9.0]), *twins)
    # Less the means 0.2 and 0.2: 0.1 and 0.2.
    assert verdict(found, figure())["numbers"] == "stride 8 +0.15 of correlation (2 images)"


def test_where_trainings_are_compared_images_decide_nothing() -> None:
    found = frame(seen("after", UP), seen("before", [0.0] * 3))
    assert words(found, figure(tested=False)) == "undecided holds"
    assert "[" in verdict(found, figure(tested=False))["numbers"], "the interval is shown all the same"


def test_a_number_over_all_images_points_somewhere() -> None:
    found = frame(seen("after", [0.5], image=None), seen("before", [0.4], image=None))
    assert (words(found, figure()), verdict(found, figure())["numbers"]) == ("undecided holds", "stride 8 +0.1 of correlation")


@pytest.mark.parametrize(
    ("values", "expected"), [([1e-9, 2e-9, 3e-9], "holds"), (UP, "fails"), ([0.0, 1e-3, 1e-9], "undecided fails")]
)
def test_a_claim_that_nothing_changes_has_a_largest_number_and_no_rival(values: Values, expected: str) -> None:
    assert words(frame(seen("after", values)), figure(rivals=[], most=1e-6)) == expected


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
        ({"rivals": ["DFMSD, stage 1"]}, "", None),
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


def test_a_frame_judges_the_claims_whose_pages_it_has() -> None:
    found = frame(row("DFMSD", (31.0,)), row("DMKD", (30.0,)))
    elsewhere = [{"row": "DFMSD", "page": "other"}]
    assert judged(found, [claim(), claim(id="y", rivals=elsewhere)])["id"].tolist() == ["x"]


def test_every_claim_of_the_study_finds_its_rows_or_its_figure(folders: Path) -> None:
    found = judged(frames.frame(pages.get("scoreboard")).query("scale == 'mini'"))
    assert found["id"].tolist() == [one.id for one in claims.claims()]
    assert found["id"].is_unique
    assert len({(one.section, one.text, str(one.subject)) for one in claims.claims()}) == len(found), "no claim is listed twice"
    assert set(found["verdict"]) == {"not run"}


def test_a_claim_that_is_not_well_formed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"id": "x", "text": "t", "subject": "A", "rivals": ["B"], "metrics": "AP"}
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump({"sections": [{"section": "1", "page": "p", "claims": [own]}]}))
    monkeypatch.setattr(paths, "PARAMS", tmp_path)
    with pytest.raises(StudyError, match=r"^claims\.yaml: claim x has no field 'metrics': did you mean 'metric'\?$"):
        claims.claims.__wrapped__()
