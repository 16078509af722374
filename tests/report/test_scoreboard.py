"""What is decided, counted and listed."""

from __future__ import annotations

import pandas as pd
import pytest

from dfmsd.report import scoreboard
from dfmsd.report.tables import styled


@pytest.fixture
def judged() -> pd.DataFrame:
    claims = [
        ("a", "1: one", "A helps", False, "supported", "+1.0 AP", 0.001, False, "+0.8", True),
        ("b", "1: one", "B helps", False, "not settled", "−1.0 AP (1 seed)", 0.4, True, "−0.2", False),
        ("c", "2: two", "C helps", True, "not run", "", None, False, "", None),
    ]
    names = ["id", "section", "text", "ours", "verdict", "numbers", "p", "stale", "paper_numbers", "paper_supports"]
    found = pd.DataFrame(claims, columns=names).assign(
        scale="mini", page="table03", opposite=[False, True, False], tested=[True, False, True]
    )
    return found.assign(brief=found["numbers"])


def test_every_claim_is_counted_once_beside_what_chance_makes_of_it(judged: pd.DataFrame) -> None:
    shares = [("a", 0.25, 0.5), ("b", 0.125, 0.0), ("c", 0.0, 0.0)]
    chance = pd.DataFrame(shares, columns=["id", "supported", "contradicted"]).assign(scale="mini")
    found = scoreboard.counts(judged, judged["section"], chance)
    assert found.index.tolist() == ["1: one", "2: two"]
    beside = ["supported", "supported by chance", "contradicted", "contradicted by chance", "not settled", "not run"]
    assert found.columns.tolist() == beside
    assert found.to_numpy().tolist() == [[1, 0.375, 0, 0.5, 1, 0], [0, 0, 0, 0, 0, 1]]
    asked = pd.DataFrame({"verdict": ["supported", "not run"]})
    assert scoreboard.summary(asked, judged, chance) == (
        "- Hypotheses (2): 1 supported, 0 contradicted, 0 not settled, 1 not run.\n"
        "- Claims of the papers (2): 1 supported (0.4 by chance), 0 contradicted (0.5 by chance), 1 not settled, 0 not run.\n"
        "- Our own comparisons (1): 0 supported (fewer than 0.1 by chance), 0 contradicted (fewer than 0.1 by chance), "
        "0 not settled, 1 not run.\n"
        "- Decided are 1 of 3 about what students reach."
    )
    of_images = judged.assign(page=["table03", "fig07", "fig07"])
    assert scoreboard.summary(asked, of_images, chance).endswith(
        "- Decided are 1 of 1 about what students reach, 0 of 2 about features and images."
    )
    words = str(scoreboard.figure(found, "mini").get_label())
    assert "1: one 1 supported, 1 not settled; 2: two 1 not run." in words


def test_the_board_has_both_scales_and_what_the_paper_contradicts(judged: pd.DataFrame) -> None:
    both = pd.concat([judged, judged.assign(scale="coco", verdict="not run", brief="", p=None, stale=False)])
    found = scoreboard.board(both)
    numbers = ["not settled, stale", "−1.0 AP (1 seed); p = 0.4", "not run", ""]
    assert found.loc[("1: one", "B helps")].tolist() == [*numbers, "−0.2, contradicts"]
    assert found["paper", "numbers"].tolist() == ["+0.8", "−0.2, contradicts", "ours"]
    page = styled(found).map(scoreboard.coloured).to_html()
    assert scoreboard.COLOURS["not settled"] in page and "transparent" in page and scoreboard.COLOURS["not run"] not in page


def test_a_claim_is_said_with_its_verdict_and_its_numbers(judged: pd.DataFrame) -> None:
    assert scoreboard.said(judged).splitlines() == [
        "- **Supported**: A helps: +1.0 AP.",
        "- **Not settled**, as there is one training of each network: B helps: −1.0 AP (1 seed). "
        "What is measured says the opposite.",
        "- **Not run**: C helps.",
    ]


def test_hypotheses_are_a_table_and_a_figure_whether_they_are_run_or_not() -> None:
    lines = [
        ("mini", "H1", "A teaches", "supported", 0.8, 0.4, 1.2, 14, "13 of 14", 17, "3", 0.002, 0.016, 0.6, False),
        ("mini", "H2", "B teaches", "not run", None, None, None, 0, "0 of 0", 17, "", None, None, None, False),
    ]
    names = "scale id text verdict estimate low high pairs above planned seeds p holm detectable stale".split()
    found = pd.DataFrame(lines, columns=names)
    table = scoreboard.over_pairs(found)
    assert table.loc["H1: A teaches"].tolist() == ["supported", 0.8, (0.4, 1.2), "13 of 14", "14 of 17", "3", 0.002, 0.016, 0.6]
    assert "0.4 to 1.2" in styled(table).to_html() and table.loc["H2: B teaches", "pairs run"] == "0 of 17"
    assert str(scoreboard.forest(found).get_label()).endswith("H1 +0.8; H2 not run.")
