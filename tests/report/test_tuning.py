"""What a page of trials says in words."""

from __future__ import annotations

import pandas as pd

from dfmsd.report import tuning


def test_the_best_shares_stand_in_words_with_what_speaks_against_them() -> None:
    columns = ["best", "Δ", "at the edge", "in use", "note"]
    lines = {
        "MGD": (2.0, 3.0, "", 4.0, "not the best"),
        "PKD": (8.0, 3.5, "the largest share tried: a better one may lie beyond", None, ""),
        "FGD": (None, None, "", 1.0, ""),
    }
    assert tuning.said(pd.DataFrame.from_dict(lines, orient="index", columns=columns)).splitlines() == [
        "- MGD gains most at a share of 2: +3.0 AP. The share in use is not the best.",
        "- PKD gains most at a share of 8: +3.5 AP. It is the largest share tried: a better one may lie beyond.",
    ]
