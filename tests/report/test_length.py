"""DFMSD's gains over its controls, from records that the test has written."""

from __future__ import annotations

import pytest

from dfmsd.report import length, scoreboard
from dfmsd.study import pages
from dfmsd.study.pages import PageSpec, name_of
from tests.conftest import WriteRecord

FCOS, FASTER = ("fcos_r50", "retinanet_r101"), ("faster_rcnn_r50", "retinanet_r101")
AP = {"baseline": 30.0, "baseline, equal budget": 38.0, "DMKD, equal budget": 39.0, "DFMSD": 40.0}


def write(write_record: WriteRecord, above: dict[tuple[str, str], float], seeds: tuple[int, ...], *, without: str = "") -> None:
    """Records of Table 3's rows for some pairs: DFMSD's AP is that much higher than in :data:`AP`."""
    page = pages.get("table03", seeds=list(seeds))
    assert isinstance(page, PageSpec)
    for entry in page.entries():
        pair, name = (entry.row.student, entry.row.teachers[0]), name_of(entry.row)
        if pair in above and name in AP and name != without:
            write_record(entry.runs[-1], AP[name] + (above[pair] + entry.seed / 100) * (name == "DFMSD"))


def test_gains_are_of_pairs_in_which_every_control_is_run(write_record: WriteRecord) -> None:
    write(write_record, {FCOS: 0.0}, (0,))
    write(write_record, {FASTER: 2.0}, (0,), without="baseline, equal budget")
    ((pair, own),) = length.gains("mini").items()
    assert pair == "FCOS R50 ← RetinaNet R101 → RetinaNet X101"
    assert {control: gain.mean for control, gain in own.items()} == {"baseline": 10, "longer_baseline": 2, "equal_budget": 1}


def test_the_sentence_has_means_over_pairs(write_record: WriteRecord) -> None:
    write(write_record, {FCOS: -1.5, FASTER: 2.5}, (0,))
    assert length.sentence(length.gains("mini")) == (
        "**Length of training.** DFMSD's student is trained once in every stage. Its mean gain, over 2 pairs: **+10.5 AP** to the "
        "baseline, **+2.5 AP** to the baseline trained as long (above it in 2), **+1.5 AP** to DMKD trained as long (above it in "
        "1); no test."
    )


def test_three_seeds_are_a_test(write_record: WriteRecord) -> None:
    write(write_record, {FCOS: 0.0}, (0, 200, 400))
    assert "+12.0 AP" in length.sentence(length.gains("mini"))  # 10 + the mean of 0, 2 and 4
    assert "no test" not in length.sentence(length.gains("mini"))


@pytest.mark.parametrize("run", [True, False])
def test_the_scoreboard_says_it_if_there_is_a_pair(write_record: WriteRecord, *, run: bool) -> None:
    write(write_record, {FCOS: 0.0} if run else {}, (0,))
    page = pages.get("scoreboard")
    assert isinstance(page, pages.ScoreboardPage)
    assert ("**Length of training.**" in scoreboard.summary(scoreboard.board(page)).data) == run
