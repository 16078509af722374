"""The scoreboard: counts, words, figure and table of verdicts that the test has chosen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dfmsd.report import scoreboard
from dfmsd.report.scoreboard import OUTCOMES, Board
from dfmsd.study import claims, pages, records, scales
from dfmsd.study.claims import Claim, Judgement, Quote

FOUND = [
    Judgement("holds", "+2.0 [+1.0, +3.0] AP"),
    Judgement("undecided", "+1.0 AP (1 seed)", "holds"),
    Judgement("undecided", "+0.5 AP (1 seed)", "holds"),
    Judgement("undecided", "−1.0 AP (1 seed)", "fails"),
    Judgement("fails", "−2.0 [−3.0, −1.0] AP"),
    Judgement("not run"),
]


def claim(number: int) -> Claim:
    section = "Table <1>" if number < 4 else "Table 2"
    fields = {"id": f"c{number}", "section": section, "text": f"Claim {number} & more", "page": "table01"}
    return Claim.model_validate(fields | {"subject": "DFMSD", "rivals": ["DMKD"]})


def board(scale: str = "mini", **others: list[Judgement]) -> Board:
    quotes = [Quote("+1.0", True)] * 4 + [Quote("−0.1", False), Quote("–", None)]
    judgements = {scale: tuple(FOUND)} | {name: tuple(found) for name, found in others.items()}
    return Board(scale, tuple(claim(number) for number in range(6)), judgements, tuple(quotes))


def test_the_summary_counts_and_says_what_is_no_test() -> None:
    assert scoreboard.summary(board()).data.split("\n\n") == [
        "Of the papers' 6 claims, at scale **mini**, **1** hold, **1** fail, **3** are undecided "
        "(2 point to *holds*, 1 to *fails*) and 1 not run. Where the undecided point is a direction, not a test.",
        "The papers' own numbers support 4 of their claims and contradict **1**; for 1 they give none, or none that is legible.",
    ]


def test_comparisons_that_the_papers_lack_are_counted_apart() -> None:
    ours = tuple(one.model_copy(update={"ours": number in (0, 3, 5)}) for number, one in enumerate(board().claims))
    assert scoreboard.summary(replace(board(), claims=ours)).data.split("\n\n") == [
        "Of the papers' 3 claims, at scale **mini**, **0** hold, **1** fail, **2** are undecided "
        "(2 point to *holds*, 0 to *fails*) and 0 not run. Of 3 comparisons of ours, which the papers lack, "
        "**1** hold, **0** fail, **1** are undecided (0 point to *holds*, 1 to *fails*) and 1 not run. "
        "Where the undecided point is a direction, not a test.",
        "The papers' own numbers support 2 of their claims and contradict **1**; for 0 they give none, or none that is legible.",
    ]


def test_verdicts_that_rest_on_stale_records_are_counted_and_marked() -> None:
    stale = board(gpu=[replace(found, stale=found.verdict == "fails") for found in FOUND])
    before, after = scoreboard.summary(stale).data.split("\n\n")[:2]
    assert "Stale" not in before
    assert after.endswith(" *Stale* records, whose code has changed since, are behind **1** of the verdicts.")
    frame = scoreboard.table(stale).data
    assert ["stale" in cell for cell in frame["gpu"] if cell] == [found.verdict == "fails" for found in FOUND]
    assert not any("stale" in cell for cell in frame["mini"])


def test_smoke_is_no_evidence() -> None:
    assert "mean nothing" in scoreboard.summary(board("smoke")).data
    assert "mean nothing" not in scoreboard.summary(board()).data


def test_every_scale_with_records_has_its_words_and_its_column() -> None:
    both = board(gpu=[Judgement("not run")] * 6)
    assert [word for word in scoreboard.summary(both).data.split("**") if word in scales.SCALES] == ["mini", "gpu"]
    assert list(scoreboard.table(both).data.columns) == ["paper", "mini", "gpu"]


def test_the_figure_says_what_it_shows_and_is_the_same_each_time() -> None:
    picture = scoreboard.figure(board())
    assert picture == scoreboard.figure(board())
    assert (
        "Table <1>: 1 holds, 2 undecided and points to holds, 1 undecided and points to fails; Table 2: 1 fails, 1 not run."
        in picture.alt
    )
    assert "scale mini" in picture.alt


def test_the_overview_has_a_bar_for_the_papers_and_one_for_ours() -> None:
    assert "in all. the papers' claims: 1 holds, 2 undecided" in scoreboard.overview(board()).alt
    assert "ours" not in scoreboard.overview(board()).alt
    ours = tuple(one.model_copy(update={"ours": number > 3}) for number, one in enumerate(board().claims))
    assert scoreboard.overview(replace(board(), claims=ours)).alt.endswith("; comparisons of ours: 1 fails, 1 not run.")


def test_every_outcome_has_a_colour() -> None:
    words = {Judgement(v, "", p).words for v in claims.VERDICTS for p in (("holds", "fails") if v == "undecided" else (None,))}
    assert words == set(OUTCOMES)
    assert len(set(OUTCOMES.values())) == len(OUTCOMES)


def test_the_table_leads_to_the_pages_and_marks_contradictions() -> None:
    shown = scoreboard.table(board())
    text = shown.to_html()
    frame = shown.data
    assert [name for name in frame.index if "Claim" not in name] == ["Table &lt;1&gt;", "Table 2"]
    assert text.count('href="table01.html#T_results"') == 6
    assert "Claim 3 &amp; more" in text
    assert text.count("contradicts") == 1
    for found in FOUND:
        assert found.words in text and found.numbers in text
    assert "script" not in text


def test_the_answer_has_the_figure() -> None:
    answer = scoreboard.answer(board(), "figures/scoreboard.svg")
    assert answer.endswith("![How many claims hold, fail, are undecided or not run](figures/scoreboard.svg)\n")
    assert answer.startswith("Of the papers' 6 claims")


def page() -> pages.ScoreboardPage:
    found = pages.get("scoreboard")
    assert isinstance(found, pages.ScoreboardPage)
    return found


def test_the_board_is_made_of_all_claims_and_of_scales_with_records(write_record: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    few = tuple(found for found in claims.claims() if found.id in ("t3-rcnn-dmkd", "t3-rcnn-mgd"))
    monkeypatch.setattr(scoreboard, "claims", lambda: few)
    made = scoreboard.board(page())
    assert list(made.judgements) == ["mini"]
    assert made.count("mini") == {"not run": 2}
    assert [found.numbers for found in made.quotes] == ["+0.3", "+0.4"]
    for recipe, ap in (("dmkd", 30.0), ("dfmsd", 31.0)):
        table = pages.get("table03", scale="gpu")
        assert isinstance(table, pages.PageSpec)
        rows = [e for e in table.entries() if (e.row.student, e.row.recipe, e.row.name) == ("faster_rcnn_r50", recipe, "")]
        write_record(rows[0].runs[-1], ap)
    made = scoreboard.board(page())
    assert list(made.judgements) == ["mini", "gpu"]
    assert made.count("gpu") == {"not run": 1, "undecided, points to holds": 1}


def test_a_figure_s_claim_has_its_verdict_beside_the_others(write_record: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    few = tuple(found for found in claims.claims() if found.id in ("f5-small", "t3-rcnn-dmkd"))
    monkeypatch.setattr(scoreboard, "claims", lambda: few)
    assert [found.words for found in scoreboard.board(page()).judgements["mini"]] == ["not run", "not run"]
    monkeypatch.setattr(scoreboard, "look", lambda claim, scale: Judgement("holds", f"{claim.id} {scale}"))
    made = scoreboard.board(page())
    assert [found.numbers for found in made.judgements["mini"]] == ["f5-small mini", ""]
    assert made.quotes[0] == Quote("–", None)
    text = scoreboard.table(made).to_html()
    assert 'href="fig05.html"' in text and "f5-small mini" in text


def test_the_page_depends_on_the_records_of_all_comparisons(write_record: Any) -> None:
    assert page().files() == []
    table = pages.get("table03")
    assert isinstance(table, pages.PageSpec)
    stages = table.entries()[-1].runs
    for run in stages:
        write_record(run, 30.0)
    assert {file.stem for file in page().files()} == {run.key for run in stages}
    assert records.find(stages[0].key) is not None
