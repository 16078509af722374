"""What became of the claims, counted and listed, and the gain that is length of training."""

from __future__ import annotations

import pandas as pd
import pytest

from dfmsd.report import scoreboard
from dfmsd.report.tables import styled
from tests.report.conftest import PAIR, lines

OTHER = "GFL R50 ← FCOS R101"


@pytest.fixture
def judged() -> pd.DataFrame:
    claims = [
        ("a", "1: one", "A helps", False, "holds", "", "+1.0 AP", False, "+0.8", True),
        ("b", "1: one", "B helps", False, "undecided", "fails", "−1.0 AP (1 seed)", True, "−0.2", False),
        ("c", "2: two", "C helps", True, "not run", "", "", False, "", None),
    ]
    names = ["id", "section", "text", "ours", "verdict", "points_to", "numbers", "stale", "paper_numbers", "paper_supports"]
    return pd.DataFrame(claims, columns=names).assign(scale="mini", page="table03")


def test_every_claim_is_counted_once(judged: pd.DataFrame) -> None:
    found = scoreboard.counts(judged, judged["section"])
    assert found.index.tolist() == ["1: one", "2: two"] and found.columns.tolist() == list(scoreboard.OUTCOMES)
    assert found.to_numpy().tolist() == [[1, 0, 1, 0, 0], [0, 0, 0, 0, 1]]
    words = str(scoreboard.figure(found, "mini").get_label())
    assert "1: one 1 holds, 1 undecided, points to fails; 2: two 1 not run." in words


def test_the_board_has_both_scales_and_what_the_paper_contradicts(judged: pd.DataFrame) -> None:
    both = pd.concat([judged, judged.assign(scale="coco", verdict="not run", points_to="", numbers="", stale=False)])
    found = scoreboard.board(both)
    assert found.loc[("1: one", "B helps")].tolist() == [
        "−0.2, contradicts",
        "undecided, points to fails, stale",
        "−1.0 AP (1 seed)",
        "not run",
        "",
    ]
    assert found["paper", "numbers"].tolist() == ["+0.8", "−0.2, contradicts", "ours"]
    page = styled(found).map(scoreboard.coloured).to_html()
    assert scoreboard.OUTCOMES["undecided, points to fails"] in page


def test_length_of_training_counts_the_pairs_with_all_controls() -> None:
    names = {
        "baseline": "baseline",
        "longer_baseline": "baseline, equal budget",
        "equal_budget": "DMKD, equal budget",
        "dfmsd": "DFMSD",
    }
    aps = dict(zip(names, (30.0, 38.0, 39.5, 39.0), strict=True))
    first = lines({(name, recipe): {0: aps[recipe]} for recipe, name in names.items()})
    second = lines({(name, recipe): {0: None if recipe == "equal_budget" else 99.0} for recipe, name in names.items()}, OTHER)
    again = first.assign(page="another")  # the same runs on another page count once
    found = scoreboard.length(pd.concat([first, second, again], ignore_index=True))
    assert found.index.tolist() == list(names.values())[:3]
    assert found["run"].tolist() == [1, 1, 1] and found["Δ mean"].tolist() == [9.0, 1.0, -0.5]
    assert found["above in"].tolist() == [1, 1, 0] and PAIR not in found.index
