"""Claims: every one finds its rows, and verdicts by hand for each kind of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from dfmsd.errors import StudyError
from dfmsd.study import claims, pages, paths, records, stats
from dfmsd.study.claims import Claim, FigureClaim, Judgement, judge, load, quote, settle
from dfmsd.study.findings import Finding
from dfmsd.study.frame import Line, between, lines
from dfmsd.study.pages import PageSpec
from tests.conftest import WriteRecord

FCOS, GFL = ("fcos_r101", "fcos_x101"), ("gfl_r101", "gfl_x101")


def page(name: str, *groups: tuple[str, tuple[str, ...], list[Any]], table: int | None = None) -> PageSpec:
    """A page of the test's own, of groups of student, teachers and recipes."""
    fields = [{"student": student, "teachers": teachers, "recipes": recipes} for student, teachers, recipes in groups]
    return pages.spec(page=name, title="t", question="q", scale="mini", table=table, groups=fields, seeds=[0, 1, 2])


EXAMPLE = page("example", ("fcos_r50", GFL, ["baseline", "dmkd", "dfmsd"]), ("gfl_r50", FCOS, ["baseline", "mgd", "dmkd", "dfmsd"]))
OTHER = page("other", ("fcos_r50", FCOS, ["dmkd", "dfmsd"]))
SWEEP = page(
    "sweep",
    ("fcos_r50", GFL, [*({"recipe": "dfmsd", "name": f"theta = {t}", "options": {"theta": t}} for t in (0.1, 0.9)), "dfmsd"]),
)
PAGES = {known.page: known for known in (EXAMPLE, OTHER, SWEEP)}


def rows() -> dict[str, list[Line]]:
    return {name: (found := lines(known)) + between(found) for name, known in PAGES.items()}


def claim(**changes: Any) -> Claim:
    subject = {"name": "DFMSD", "student": "fcos_r50"}
    fields = {"id": "x", "section": "1", "text": "t", "page": "example", "subject": subject, "rivals": ["DMKD"]}
    return Claim.model_validate(fields | changes)


def write(write_record: WriteRecord, name: str, values: tuple[float, ...], *, on: PageSpec = EXAMPLE, **wanted: Any) -> None:
    """Records of a page's rows of some name, an AP for each seed from 0 on; None leaves a seed out."""
    for entry in on.entries():
        fits = pages.name_of(entry.row) == name and all(getattr(entry.row, field) == value for field, value in wanted.items())
        if fits and entry.seed < len(values) and values[entry.seed] is not None:
            write_record(entry.runs[-1], values[entry.seed])


@pytest.mark.usefixtures("write_record")
@pytest.mark.parametrize("found", claims.claims(), ids=lambda found: found.id)
def test_every_claim_finds_its_rows_or_its_figure(found: Claim | FigureClaim) -> None:
    verdict = judge(found, _all_rows(found)) if isinstance(found, Claim) else claims.look(found, "mini")
    assert verdict == Judgement("not run")


_loaded: dict[str, list[Line]] = {}


def _all_rows(found: Claim) -> dict[str, list[Line]]:
    """Without records the rows are the same for all tests."""
    if not set(found.pages()) <= set(_loaded):
        _loaded.update(load([found], "mini"))
    return _loaded


def test_claims_are_many_and_told_apart() -> None:
    known = claims.claims()
    assert len(known) >= 60
    assert len({found.id for found in known}) == len(known)
    said = [(found.section, found.text, str(getattr(found, "subject", None))) for found in known]
    assert len(set(said)) == len(said), "no claim is listed twice"
    assert all(found.section and found.text for found in known)


def test_a_pair_that_cannot_be_run_is_quoted_and_decides_nothing(write_record: WriteRecord) -> None:
    (found,) = (known for known in claims.claims() if known.id == "t5-crosskd")
    table05 = pages.get("table05", seeds=[0, 1, 2])
    assert isinstance(table05, PageSpec)
    write(write_record, "CrossKD", (20.0,) * 3, on=table05)
    write(write_record, "DFMSD", (21.0,) * 3, on=table05)
    known = load([found], "mini", table05)
    # The paper's Table 5: DFMSD 40.0, CrossKD 39.4, with a teacher that CrossKD cannot have.
    assert quote(found, known) == claims.Quote("+0.6, –", True)
    assert judge(found, known) == claims.Judgement("holds", "+1.0 [+1.0, +1.0] AP")


@pytest.mark.usefixtures("write_record")
def test_without_records_nothing_is_said() -> None:
    assert judge(claim(), rows()) == claims.Judgement("not run")


@pytest.mark.parametrize(
    ("ours", "theirs", "least", "verdict", "points_to"),
    [
        ((31.0, 32.0, 33.0), (30.0, 30.0, 30.0), 0.0, "holds", None),
        ((29.0, 28.0, 29.5), (30.0, 30.0, 30.0), 0.0, "fails", None),
        ((31.0, 29.0, 31.0), (30.0, 30.0, 30.0), 0.0, "undecided", "holds"),
        ((31.0, 28.0, 30.0), (30.0, 30.0, 30.0), 0.0, "undecided", "fails"),
        # The interval of +1, +2 and +3 is [1, 3]: it decides about margins outside it alone.
        ((31.0, 32.0, 33.0), (30.0, 30.0, 30.0), 0.5, "holds", None),
        ((31.0, 32.0, 33.0), (30.0, 30.0, 30.0), 1.0, "holds", None),
        ((31.0, 32.0, 33.0), (30.0, 30.0, 30.0), 1.5, "undecided", "holds"),
        ((31.0, 32.0, 33.0), (30.0, 30.0, 30.0), 2.5, "undecided", "fails"),
        ((31.0, 32.0, 33.0), (30.0, 30.0, 30.0), 3.0, "undecided", "fails"),
        ((31.0, 32.0, 33.0), (30.0, 30.0, 30.0), 3.5, "fails", None),
        ((29.7, 30.0, 29.6), (30.0, 30.0, 30.0), -0.5, "holds", None),
        ((29.4, 30.0, 29.7), (30.0, 30.0, 30.0), -0.5, "undecided", "holds"),
        ((29.0, 29.2, 29.1), (30.0, 30.0, 30.0), -0.5, "fails", None),
    ],
)
def test_a_row_against_a_rival(
    write_record: WriteRecord,
    ours: tuple[float, ...],
    theirs: tuple[float, ...],
    least: float,
    verdict: str,
    points_to: str | None,
) -> None:
    write(write_record, "DFMSD", ours, student="fcos_r50")
    write(write_record, "DMKD", theirs, student="fcos_r50")
    found = judge(claim(least=least), rows())
    assert (found.verdict, found.points_to) == (verdict, points_to)


@pytest.mark.parametrize(("ours", "words"), [(50.0, "undecided, points to holds"), (20.0, "undecided, points to fails")])
def test_one_seed_decides_nothing_and_points_somewhere(write_record: WriteRecord, ours: float, words: str) -> None:
    write(write_record, "DFMSD", (ours,), student="fcos_r50")
    write(write_record, "DMKD", (30.0,), student="fcos_r50")
    found = judge(claim(), rows())
    assert found.words == words
    assert found.numbers == {50.0: "+20.0 AP (1 seed)", 20.0: "−10.0 AP (1 seed)"}[ours]


def test_seeds_are_paired_and_missing_ones_left_out(write_record: WriteRecord) -> None:
    write(write_record, "DFMSD", (31.0, 99.0, 33.0), student="fcos_r50")
    write(write_record, "DMKD", (30.0, None, 30.0), student="fcos_r50")  # type: ignore[arg-type]
    assert judge(claim(), rows()).numbers == "+2.0 AP (2 seeds)"


@pytest.mark.parametrize(("row", "changes"), [("DFMSD", {}), ("DMKD", {}), ("baseline", {"over": "baseline"})])
def test_a_verdict_that_rests_on_a_stale_record_says_so(write_record: WriteRecord, row: str, changes: dict[str, Any]) -> None:
    for name, ap in (("baseline", 20.0), ("DMKD", 21.0), ("DFMSD", 24.0)):
        write(write_record, name, (ap,), student="fcos_r50")
    assert not judge(claim(**changes), rows()).stale
    (entry,) = (e for e in EXAMPLE.entries() if (pages.name_of(e.row), e.row.student, e.seed) == (row, "fcos_r50", 0))
    record = records.read(paths.records() / f"{entry.runs[-1].key}.json")
    write_record(entry.runs[-1], 20.0, provenance=record.provenance.model_copy(update={"code_digest": "another"}))
    assert judge(claim(**changes), rows()).stale
    assert not judge(claim(rivals=["DMKD"], subject={"name": "DFMSD", "student": "gfl_r50"}), rows()).stale, "not run"


def test_intervals_stand_beside_the_numbers(write_record: WriteRecord) -> None:
    write(write_record, "DFMSD", (31.0, 32.0, 33.0), student="fcos_r50")
    write(write_record, "DMKD", (30.0, 30.0, 30.0), student="fcos_r50")
    assert judge(claim(), rows()).numbers == "+2.0 [+1.0, +3.0] AP"


@pytest.mark.parametrize(
    ("gfl", "verdict", "numbers"),
    [
        ((41.0, 41.0, 41.0), "holds", "+2.0 [+2.0, +2.0], +1.0 [+1.0, +1.0] AP"),
        ((39.0, 39.0, 39.0), "fails", "+2.0 [+2.0, +2.0], −1.0 [−1.0, −1.0] AP"),
        ((41.0,), "undecided, points to holds", "+2.0 [+2.0, +2.0], +1.0 AP (1 seed)"),
        ((), "undecided, points to holds", "+2.0 [+2.0, +2.0] AP; 1 not run"),
    ],
)
def test_a_claim_about_several_pairs_needs_all_of_them(
    write_record: WriteRecord, gfl: tuple[float, ...], verdict: str, numbers: str
) -> None:
    write(write_record, "DFMSD", (32.0,) * 3, student="fcos_r50")
    write(write_record, "DMKD", (30.0,) * 3, student="fcos_r50")
    write(write_record, "DFMSD", gfl, student="gfl_r50")
    write(write_record, "DMKD", (40.0,) * 3, student="gfl_r50")
    found = judge(claim(subject="DFMSD"), rows())
    assert (found.words, found.numbers) == (verdict, numbers)


def test_a_rival_that_one_pair_lacks_is_judged_on_the_others(write_record: WriteRecord) -> None:
    write(write_record, "DFMSD", (32.0,) * 3, student="gfl_r50")
    write(write_record, "MGD", (30.0,) * 3, student="gfl_r50")
    assert judge(claim(subject="DFMSD", rivals=["MGD"]), rows()).numbers == "+2.0 [+2.0, +2.0] AP"


@pytest.mark.parametrize(("gfl", "verdict"), [((43.0, 44.0, 43.0), "fails"), ((40.5, 40.0, 41.0), "holds"), ((), "not run")])
def test_gains_of_two_students(write_record: WriteRecord, gfl: tuple[float, ...], verdict: str) -> None:
    """FCOS gains 2 AP over its baseline; GFL, from 40, more or less than that."""
    write(write_record, "baseline", (30.0, 31.0, 30.0), student="fcos_r50")
    write(write_record, "DFMSD", (32.0, 33.0, 32.0), student="fcos_r50")
    write(write_record, "baseline", (40.0,) * 3, student="gfl_r50")
    write(write_record, "DFMSD", gfl, student="gfl_r50")
    other = {"name": "DFMSD", "student": "gfl_r50", "teachers": FCOS}
    found = judge(claim(over="baseline", rivals=[other]), rows())
    assert found.verdict == verdict
    if verdict == "holds":
        assert found.numbers == "+1.5 [+1.0, +2.0] AP"


@pytest.mark.parametrize(("elsewhere", "verdict"), [((29.0,) * 3, "holds"), ((33.0,) * 3, "fails")])
def test_one_row_under_two_sets_of_teachers(write_record: WriteRecord, elsewhere: tuple[float, ...], verdict: str) -> None:
    write(write_record, "DFMSD", (32.0,) * 3, student="fcos_r50")
    write(write_record, "DFMSD", elsewhere, on=OTHER)
    other = {"name": "DFMSD", "page": "other", "teachers": FCOS}
    assert judge(claim(rivals=[other]), rows()).verdict == verdict


@pytest.mark.parametrize(("last", "verdict"), [((29.0,) * 3, "holds"), ((33.0,) * 3, "fails"), ((), "undecided")])
def test_the_best_of_its_pair(write_record: WriteRecord, last: tuple[float, ...], verdict: str) -> None:
    write(write_record, "DFMSD", (32.0,) * 3, on=SWEEP)
    write(write_record, "baseline", (20.0,) * 3, on=SWEEP)
    assert judge(claim(page="sweep", rivals="others"), rows()).verdict == "not run", "the baseline is no other value"
    write(write_record, "theta = 0.1", (30.0,) * 3, on=SWEEP)
    write(write_record, "theta = 0.9", last, on=SWEEP)
    assert judge(claim(page="sweep", rivals="others"), rows()).verdict == verdict


@pytest.mark.parametrize(("first", "verdict"), [(29.0, "holds"), (33.0, "fails")])
def test_a_student_between_its_stages(write_record: WriteRecord, first: float, verdict: str) -> None:
    write(write_record, "DFMSD", (32.0,) * 3, student="fcos_r50")
    for entry in EXAMPLE.entries():
        if (entry.row.recipe, entry.row.student) == ("dfmsd", "fcos_r50"):
            write_record(entry.runs[0], first)
    assert judge(claim(rivals=["DFMSD, stage 1"]), rows()).verdict == verdict


@pytest.mark.parametrize(("metric", "numbers"), [("AP_S", "+1.0 AP_S (1 seed)"), ("AR", "+2.0 AR (1 seed)")])
def test_other_metrics(write_record: WriteRecord, metric: str, numbers: str) -> None:
    write(write_record, "DFMSD", (32.0,), student="fcos_r50")
    write(write_record, "DMKD", (30.0,), student="fcos_r50")
    assert judge(claim(metric=metric), rows()).numbers == numbers


@pytest.mark.parametrize(("least", "words"), [(0.9, "undecided, points to holds"), (1.1, "undecided, points to fails")])
def test_speed_points_somewhere_and_decides_nothing(write_record: WriteRecord, least: float, words: str) -> None:
    assert judge(claim(metric="speed", least=least), rows()).verdict == "not run"
    write(write_record, "DFMSD", (32.0,) * 3, student="fcos_r50")
    write(write_record, "DMKD", (30.0,) * 3, student="fcos_r50")
    found = judge(claim(metric="speed", least=least), rows())
    assert (found.words, found.numbers) == (words, "1.00 of the speed, measured beside other processes")


def test_speeds_of_different_hardware_are_not_compared(write_record: WriteRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    write(write_record, "DFMSD", (32.0,), student="fcos_r50")
    write(write_record, "DMKD", (30.0,), student="fcos_r50")
    known, asked = rows(), claim(metric="speed", least=0.9)
    for line in known["example"]:
        for seed, record in line.records.items():
            machine = record.provenance.model_copy(update={"hardware": pages.name_of(line.row)})
            monkeypatch.setitem(line.records, seed, record.model_copy(update={"provenance": machine}))  # type: ignore[arg-type]
    assert judge(asked, known) == Judgement("not run")


def figure_claim(**changes: Any) -> FigureClaim:
    fields = {"id": "x", "section": "1", "text": "t", "page": "fig05", "unit": "times the mean"}
    return FigureClaim.model_validate(fields | changes)


def finding(*values: list[float], tested: bool = True) -> Finding:
    """Numbers of images on strides 8, 16, ..."""
    numbers = {f"stride {8 << place}": stats.estimate(dict(enumerate(own))) for place, own in enumerate(values)}
    return Finding(numbers, "3 images", tested)


UP, DOWN, AROUND = [0.1, 0.2, 0.3], [-0.3, -0.2, -0.1], [-0.1, 0.2, 0.2]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([UP], "holds"),
        ([DOWN], "fails"),
        ([AROUND], "undecided, points to holds"),
        ([UP, UP], "holds"),
        ([UP, DOWN], "fails"),
        ([UP, AROUND], "undecided, points to holds"),
        ([[5.0, 5.0]], "undecided, points to holds"),
        ([], "not run"),
    ],
)
def test_a_claim_about_a_figure_is_judged_over_images(values: list[list[float]], words: str) -> None:
    assert settle(figure_claim(), finding(*values)).words == words


def test_its_numbers_have_a_place_a_unit_and_an_origin() -> None:
    found = settle(figure_claim(), finding(UP, DOWN))
    assert found.numbers == "stride 8 +0.2 [+0.1, +0.3], stride 16 −0.2 [−0.3, −0.1] times the mean (3 images)"


@pytest.mark.parametrize(("values", "words"), [(UP, "undecided, points to holds"), (DOWN, "undecided, points to fails")])
def test_one_training_of_each_decides_nothing_whatever_the_images_say(values: list[float], words: str) -> None:
    found = settle(figure_claim(), finding(values, tested=False))
    assert found.words == words
    assert "[" in found.numbers, "the interval is shown all the same"


@pytest.mark.parametrize(
    ("values", "words"),
    [([1e-9, 2e-9, 3e-9], "holds"), ([0.1, 0.2, 0.3], "fails"), ([0.0, 1e-3, 1e-9], "undecided, points to fails")],
)
def test_a_claim_that_nothing_changes_has_a_largest_number(values: list[float], words: str) -> None:
    assert settle(figure_claim(most=1e-6), finding(values)).words == words


def test_a_claim_about_a_figure_needs_a_page_that_measures() -> None:
    with pytest.raises(StudyError, match="claim x: page table03 measures nothing by itself"):
        claims.look(figure_claim(page="table03"), "mini")
    with pytest.raises(StudyError, match="claim x: unknown page 'fig050': did you mean 'fig05'"):
        claims.look(figure_claim(page="fig050"), "mini")
    with pytest.raises(StudyError, match="no claim 'f5-smal' about a figure: did you mean 'f5-small'"):
        claims.of_figure("f5-smal")


def test_the_paper_gives_no_numbers_for_what_its_figures_show() -> None:
    assert quote(figure_claim(), {}) == claims.Quote("–", None)


def test_a_size_that_a_paper_gives_is_not_its_own_margin() -> None:
    """The same size measured again must be able to confirm the claim: +3.5 AP, give or take what seeds do."""
    given = next(found for found in claims.claims() if found.id == "ssim-rcnn")
    assert given.least == pytest.approx(3.5 - 0.5) and "no more than 0.5 AP less" in given.text


TABLE4 = page("four", ("gfl_r50", FCOS, ["baseline", "mgd", "dmkd", "dfmsd"]), ("retinanet_r50", FCOS, ["dmkd", "dfmsd"]), table=4)
TABLE6 = page("six", ("gfl_r50", GFL, ["dmkd", "dfmsd"]), table=6)


@pytest.mark.parametrize(
    ("changes", "numbers", "supports"),
    [
        # Table 4: GFL 40.7 by DFMSD, 40.4 by DMKD; RetinaNet 40.2 and 39.7.
        ({"rivals": ["DMKD"]}, "+0.3, +0.5", True),
        ({"rivals": ["DMKD"], "least": 0.5}, "+0.3, +0.5", False),
        # Table 6: GFL 42.2 by DFMSD, 40.8 by DMKD; the lead is 1.4 there and 0.3 in table 4.
        (
            {
                "subject": {"name": "DFMSD", "student": "gfl_r50"},
                "over": "DMKD",
                "rivals": [{"name": "DFMSD", "page": "six", "teachers": GFL}],
            },
            "−1.1",
            False,
        ),
        ({"subject": "MGD", "rivals": ["baseline"], "metric": "AR"}, "+0.6", True),
        ({"subject": "DFMSD", "rivals": ["DFMSD, stage 1"]}, "–", None),
    ],
)
@pytest.mark.usefixtures("write_record")
def test_the_papers_own_numbers(changes: dict[str, Any], numbers: str, supports: bool | None) -> None:
    known = {name: (found := lines(spec)) + between(found) for name, spec in {"four": TABLE4, "six": TABLE6}.items()}
    found = quote(claim(**({"page": "four", "subject": "DFMSD"} | changes)), known)
    assert (found.numbers, found.supports) == (numbers, supports)
    assert ("contradicts" in found.cell) == (supports is False)


@pytest.mark.usefixtures("write_record")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rivals": ["DKMD"]}, "claim x: page example has no row 'DKMD': did you mean 'DMKD'"),
        ({"subject": "DFSMD"}, "claim x: page example has no row 'DFSMD': did you mean 'DFMSD'"),
        ({"rivals": ["MGD"]}, r"page example has 'MGD' for other students or teachers alone: GFL R50 ← FCOS R101 → FCOS X101"),
        ({"over": "basline"}, "claim x: page example has no row 'basline': did you mean 'baseline'"),
        ({"subject": {"name": "DFMSD", "student": "retinanet_r50"}}, "page example has 'DFMSD' for other students"),
    ],
)
def test_a_row_that_is_not_there(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        judge(claim(**changes), rows())


@pytest.mark.parametrize(
    ("name", "message"), [("tabel03", "claim x: unknown page 'tabel03': did you mean 'table03'"), ("shapes", "shapes has no rows")]
)
def test_a_page_that_is_not_there(name: str, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        load([claim(page=name)], "mini")


def test_a_claim_that_is_not_well_formed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"id": "x", "text": "t", "subject": "A", "rivals": ["B"], "metrics": "AP"}
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump({"sections": [{"section": "1", "page": "p", "claims": [own]}]}))
    monkeypatch.setattr(paths, "PARAMS", tmp_path)
    with pytest.raises(StudyError, match=r"claims\.yaml: claim x: metrics: Extra inputs are not permitted"):
        claims.claims.__wrapped__()


@pytest.mark.usefixtures("write_record")
def test_a_page_shows_the_claims_that_it_settles_by_itself() -> None:
    known = pages.get("table03", seeds=[0])
    assert isinstance(known, PageSpec)
    shown = claims.table(known).data
    assert isinstance(shown, pd.DataFrame)
    own = [found for found in claims.claims() if isinstance(found, Claim) and found.page == "table03"]
    assert shown["claim"].tolist() == [found.text for found in own if found.pages() == ["table03"]]
    assert len(shown) < len(own), "some ask for a row of another page"
    assert set(shown["mini"]) == {"not run"}
    assert "+0.4" in set(shown["paper"])


def test_a_page_without_claims_says_so() -> None:
    assert claims.table(EXAMPLE).data == "No claim is about these rows alone."
