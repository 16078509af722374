"""What decides a hypothesis: pairs of student and teachers, counted once, and corrected for the number of hypotheses."""

from __future__ import annotations

import pandas as pd
import pytest

from dfmsd.errors import StudyError
from dfmsd.study import hypotheses, paths
from dfmsd.study.hypotheses import Hypotheses, judged
from dfmsd.study.stats import detectable
from tests.study.test_verdicts import frame, row


def test_nine_pairs_are_the_fewest_that_decide_one_of_eight_and_the_study_asks_for_twelve() -> None:
    study = hypotheses.asked()
    assert len(study.among) == 8 and hypotheses.fewest(study.model_copy(update={"least": 1})) == 9
    assert hypotheses.fewest() == study.least == 12
    for file in (paths.book() / "how-to-read.md", paths.NOTEBOOKS / "scoreboard.ipynb"):
        assert "is settled if at least twelve" in file.read_text(), "the prose says what the file does"


def test_a_hypothesis_is_decided_over_pairs() -> None:
    """Eight pairs, one of which is on two pages; 0.5 to 1.2 above DMKD, less above MSE, and nothing of a third."""
    pairs = [(f"student {place}", "fcos_r101") for place in range(8)]
    rows = [row("DMKD", (30.0, 31.0), pair) for pair in pairs]
    rows += [row("DFMSD", (30.5 + place / 10, 31.5 + place / 10), pair) for place, pair in enumerate(pairs)]
    again = [line | {"page": "other"} for line in (*rows[0], *rows[8])]
    mse = [row("MSE", (30.7 + place / 10 * (-1) ** place, None), pair) for place, pair in enumerate(pairs)]
    three = [
        {"id": name, "text": "t", "subject": "DFMSD", "rivals": rivals}
        for name, rivals in (("A", ["DMKD"]), ("B", ["no such row", "MSE"]), ("C", ["SSIM"]))
    ]
    asked = Hypotheses.model_validate({"pages": ["example", "other"], "among": three})
    found = judged(frame(*rows, again, *mse), asked).set_index("id")
    assert found.loc["A", "estimate"] == pytest.approx(0.85) and found.loc["A", "p"] == pytest.approx(2 / 2**8)
    assert found["holm"].tolist()[:2] == pytest.approx([3 * 2 / 2**8, min(1.0, 2 * found.loc["B", "p"])])
    assert found["verdict"].tolist() == ["supported", "not settled", "not run"]
    assert found["pairs"].tolist() == [8, 8, 0] and found["above"].tolist()[0] == "8 of 8"
    assert found["seeds"].tolist() == ["2", "1", ""] and pd.isna(found.loc["C", "p"])
    assert 0.6 < found.loc["A", "low"] < found.loc["A", "high"] < 1.1
    assert found.loc["A", "detectable"] == pytest.approx(detectable([0.5 + place / 10 for place in range(8)]))
    more = judged(frame(*rows, again, *mse), asked.model_copy(update={"least": 9})).set_index("id").loc["A"]
    assert more["verdict"] == "not settled" and pd.isna(more["holm"]) and pd.isna(more["detectable"])
    clash = [line | {"key": "another run"} for line in rows[8]]
    with pytest.raises(StudyError, match=r"two runs of .* are called 'DFMSD'"):
        judged(frame(*rows, clash), asked)


def test_a_lead_by_type_of_teachers_compares_two_groups_of_pairs() -> None:
    own = [
        ("fcos_r50", "fcos_r101 → fcos_x101"),
        ("gfl_r50", "gfl_r101"),
        ("retinanet_r50", "retinanet_r101"),
        ("reppoints_r50", "reppoints_x101"),
    ]
    others = [(student, "mask_rcnn_swint → fcos_x101") for student, _ in own]
    rows = [row("DMKD", (30.0,), pair) for pair in own + others]
    rows += [row("DFMSD", (30.0 + place / 10,), pair) for place, pair in enumerate(own + others)]
    lead = {"id": "A", "text": "t", "subject": "DFMSD", "rivals": ["DMKD"], "by_type": True}
    (line,) = judged(frame(*rows), Hypotheses.model_validate({"pages": ["example"], "among": [lead]})).iloc
    assert line["estimate"] == pytest.approx(0.4) and line["p"] == pytest.approx(2 / 70)
    assert (line["above"], line["verdict"]) == ("4 of 4, 3 of 4", "supported")
