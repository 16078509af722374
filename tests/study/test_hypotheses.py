"""What decides a hypothesis: pairs of student and teachers, counted once, and corrected for the number of hypotheses."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, binomtest

from dfmsd.errors import StudyError
from dfmsd.study import frames, hypotheses, pages, paths, stats
from dfmsd.study.compared import PAIR
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


def test_pairs_that_share_a_run_are_one_replicate() -> None:
    """Twelve pairs of four students with one baseline each: the sign test is over students, and four settle nothing."""
    pairs = [(f"student {place % 4}", f"teachers {place // 4}") for place in range(12)]
    rows = [row("DFMSD", (31.0,), pair) for pair in pairs]
    alone = [[line | {"key": f"alone, {pair[0]}"} for line in row("baseline", (30.0,), pair)] for pair in pairs]
    asked = [{"id": name, "text": "t", "subject": "DFMSD", "rivals": [name]} for name in ("baseline", "DMKD")]
    study = Hypotheses.model_validate({"pages": ["example"], "least": 12, "among": asked})
    found = judged(frame(*rows, *alone, *(row("DMKD", (30.0,), pair) for pair in pairs)), study).set_index("id")
    assert found["pairs"].tolist() == [12, 12] and found["replicates"].tolist() == [4, 12]
    assert found["p"].tolist() == pytest.approx([2 / 2**4, 2 / 2**12])
    assert found["verdict"].tolist() == ["not settled", "supported"] and pd.isna(found.loc["baseline", "holm"])
    linked = {("a", "1"): frozenset("xy"), ("b", "1"): frozenset("z"), ("c", "1"): frozenset("yz"), ("d", "1"): frozenset("w")}
    assert sorted(map(len, stats.replicates(linked))) == [1, 3]


def test_where_nothing_differs_no_more_than_one_study_in_twenty_settles_a_hypothesis(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the study's own pairs, rows and runs; every run's AP is the same but for what seeds of students and of teachers move."""
    monkeypatch.setattr(stats, "RESAMPLES", 199)
    asked, rng = hypotheses.asked(), np.random.default_rng(0)
    planned = pd.concat([frames.frame(pages.get(name)) for name in asked.pages])
    wanted = {name for one in asked.among for name in (one.subject, *one.rivals)}
    rows = planned[(planned["source"] == "ours") & planned["row"].isin(wanted) & planned["seed"].eq(0) & planned["metric"].eq("AP")]
    rows, times, wrong = rows.assign(stale=False), 100, 0
    for _ in range(times):
        moved = {name: rng.standard_normal() for name in {*rows["key"], *rows["teachers"]}}
        taught = rows["recipe"].ne("baseline") * rows["teachers"].map(moved)
        wrong += (
            judged(rows.assign(value=30 + rows["key"].map(moved) + taught))["verdict"].isin(["supported", "contradicted"]).any()
        )
    assert len(rows) > 100 and binom.sf(wrong - 1, times, hypotheses.LEVEL) > 0.01


def test_pairs_that_share_a_baseline_make_a_sign_test_over_pairs_wrong() -> None:
    """What how-to-read says: at an eighth of 5 %, in 4 of 100 studies with the pairs that the study plans."""
    planned = pd.concat([frames.frame(pages.get(name)) for name in hypotheses.asked().pages])
    pairs = planned.loc[planned["row"] == "DFMSD", [*PAIR]].drop_duplicates()
    students, count, rng, times = pairs["student"].factorize()[0], len(pairs), np.random.default_rng(0), 20000
    differences = rng.standard_normal((times, count)) - rng.standard_normal((times, students.max() + 1))[:, students]
    p = np.array([binomtest(above, count).pvalue for above in range(count + 1)])[(differences > 0).sum(axis=1)]
    assert (p <= hypotheses.LEVEL / 8).mean() == pytest.approx(0.04, abs=0.005)
    assert "wrong in 4 of 100 studies" in (paths.book() / "how-to-read.md").read_text()


def test_a_look_after_every_pair_adds_little_to_the_chance_of_a_wrong_verdict() -> None:
    """What how-to-read says: verdicts from the twelfth to the seventeenth pair, at each of Holm's eight levels."""
    first, last = hypotheses.fewest(), 17
    for rank in range(1, 9):
        level, wrong, ways = hypotheses.LEVEL / rank, 0.0, {0: 1.0}  # by how many pairs lie above 0
        for count in range(1, last + 1):
            ways = {above: (ways.get(above - 1, 0.0) + ways.get(above, 0.0)) / 2 for above in range(count + 1)}
            for above in [above for above in ways if count >= first and binomtest(above, count).pvalue <= level]:
                wrong += ways.pop(above)
        assert wrong <= 1.4 * level
    assert "at most 1.4 times" in (paths.book() / "how-to-read.md").read_text()


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
