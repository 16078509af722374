"""Which share is the best over several pairs, and whether it lies at the edge of what was tried."""

from __future__ import annotations

import pandas as pd
import pytest

from dfmsd.errors import StudyError
from dfmsd.report import tuning
from dfmsd.study import pages
from dfmsd.study.pages import TuningPage

GIVEN = {
    "page": "made-up",
    "title": "t",
    "question": "q",
    "notes": "n",
    "pairs": [{"student": "fcos_r50", "teachers": ["gfl_r101"]}, {"student": "retinanet_r50", "teachers": ["retinanet_r101"]}],
    "methods": {"mgd": ["alpha"], "pkd": {"weights": ["alpha"], "shares": [1, 2, 4, 8]}},
    "shares": [1, 2, 4],
    "seed": 5000,
}
PAGE = pages.validate(TuningPage, GIVEN)
Gains = dict[float, tuple[float | None, float | None]]


def frame(mgd: Gains, pkd: Gains) -> pd.DataFrame:
    """Trials on two pairs whose baselines have 10 and 30 AP."""
    shared = {"metric": "AP", "source": "ours"}
    lines = [shared | {"row": "baseline", "recipe": "baseline", "pair": i, "share": None, "value": 10 + 20 * i} for i in (0, 1)]
    for name, tried in (("mgd", mgd), ("pkd", pkd)):
        for share, own in tried.items():
            for i, gain in enumerate(own):
                value = None if gain is None else 10 + 20 * i + gain
                lines.append(shared | {"row": name.upper(), "recipe": name, "pair": i, "share": share, "value": value})
    return pd.DataFrame(lines).astype({"value": float, "share": float})


def test_weights_are_not_tuned_on_a_seed_of_the_tables() -> None:
    with pytest.raises(StudyError, match=r"seed 1000 is one of the tables' at this scale, 0, 1000, 2000: take another$"):
        pages.validate(TuningPage, GIVEN | {"seed": 1000})


def test_the_best_share_has_the_largest_mean_gain_over_the_pairs() -> None:
    found = frame({1: (5.0, 0.0), 2: (3.0, 3.0), 4: (0.0, 5.5)}, {1: (1.0, 1.0), 2: (0.0, 0.0), 4: (2.0, 2.0), 8: (4.0, 3.0)})
    assert tuning.gains(found).loc["MGD", [1.0, 2.0, 4.0]].tolist() == [2.5, 3.0, 2.75]
    chosen = tuning.chosen(found, PAGE, {"mgd": 4.0})
    assert chosen["best"].tolist() == [2.0, 8.0]
    assert chosen["Δ"].tolist() == [3.0, 3.5]
    # MGD's 4 was the largest of its own shares, though PKD's go further; the best is inside.
    assert chosen.loc["MGD", "at the edge"] == ""
    assert "largest" in chosen.loc["PKD", "at the edge"]
    assert chosen["note"].tolist() == ["not the best", ""]
    assert tuning.said(chosen).splitlines() == [
        "- MGD gains most at a share of 2: +3.0 AP. The share in use is not the best.",
        "- PKD gains most at a share of 8: +3.5 AP. It is the largest share tried: a better one may lie beyond.",
    ]


def test_the_edge_is_that_of_a_methods_own_shares() -> None:
    found = frame({1: (0.0, 0.0), 2: (1.0, 1.0), 4: (2.0, 2.0)}, {1: (3.0, 3.0), 2: (0.0, 0.0), 4: (1.0, 1.0), 8: (1.0, 1.0)})
    edges = tuning.chosen(found, PAGE, {})["at the edge"]
    assert "largest" in edges["MGD"] and "smallest" in edges["PKD"]


def test_a_missing_trial_leaves_no_best() -> None:
    found = frame({1: (0.0, 0.0), 2: (9.0, None), 4: (2.0, 2.0)}, {1: (0.0, 0.0), 2: (2.0, 2.0), 4: (1.0, 1.0), 8: (1.0, 1.0)})
    assert tuning.gains(found).loc["MGD"].isna()[2.0]
    chosen = tuning.chosen(found, PAGE, {})
    assert chosen["best"].isna().tolist() == [True, False]
