"""Which share is the best over several pairs, whether it lies at the edge of what was tried, and which methods must wait."""

from __future__ import annotations

import pandas as pd
import pytest

from dfmsd.errors import StudyError
from dfmsd.study import pages, trials
from dfmsd.study.pages.tuning import Tried, TuningPage
from dfmsd.study.rows import Options, Row
from dfmsd.study.spec import RunSpec
from tests.conftest import WriteRecord

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


def test_the_best_share_has_the_largest_mean_gain_over_the_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    found = frame({1: (5.0, 0.0), 2: (3.0, 3.0), 4: (0.0, 5.5)}, {1: (1.0, 1.0), 2: (0.0, 0.0), 4: (2.0, 2.0), 8: (4.0, 3.0)})
    assert trials.gains(found).loc["MGD", [1.0, 2.0, 4.0]].tolist() == [2.5, 3.0, 2.75]
    monkeypatch.setattr(trials, "in_use", lambda page: {"mgd": 4.0, "pkd": 3.0})
    chosen = trials.chosen(found, PAGE)
    assert chosen["best"].tolist() == [2.0, 8.0]
    assert chosen["Δ"].tolist() == [3.0, 3.5]
    # MGD's 4 was the largest of its own shares, though PKD's go further; the best is inside.
    assert chosen.loc["MGD", "at the edge"] == ""
    assert "largest" in chosen.loc["PKD", "at the edge"]
    assert chosen["note"].tolist() == ["not the best", "not among those of the trials"]


def test_the_edge_is_that_of_a_methods_own_shares() -> None:
    found = frame({1: (0.0, 0.0), 2: (1.0, 1.0), 4: (2.0, 2.0)}, {1: (3.0, 3.0), 2: (0.0, 0.0), 4: (1.0, 1.0), 8: (1.0, 1.0)})
    edges = trials.chosen(found, PAGE)["at the edge"]
    assert "largest" in edges["MGD"] and "smallest" in edges["PKD"]


def test_a_missing_trial_leaves_no_best() -> None:
    found = frame({1: (0.0, 0.0), 2: (9.0, None), 4: (2.0, 2.0)}, {1: (0.0, 0.0), 2: (2.0, 2.0), 4: (1.0, 1.0), 8: (1.0, 1.0)})
    assert trials.gains(found).loc["MGD"].isna()[2.0]
    chosen = trials.chosen(found, PAGE)
    assert chosen["best"].isna().tolist() == [True, False]


def publish(page: TuningPage, write_record: WriteRecord, best: float, *, method: str = "mse", left_out: int = 0) -> None:
    """Records of the trials of one method, the first ones left out, with one share the best; and of the baselines."""
    own = [entry for entry in page.entries if entry.row.recipe in ("baseline", method)]
    for entry in own[left_out:]:
        run = entry.runs[-1]
        assert isinstance(run, RunSpec)
        write_record(run, 20.0 + 5.0 * (entry.row.options.hyper.get("alpha") == best))


@pytest.mark.parametrize(
    ("best", "left_out", "said"),
    [
        (8.0, 0, None),
        (1.0, 0, "MSE's best share in its trials is 1: set it in params/scales.yaml"),
        (8.0, 1, "MSE has trials without a record: `python -m dfmsd page shares --scale mini` makes them"),
    ],
)
def test_a_method_is_settled_once_its_best_share_is_in_use(
    write_record: WriteRecord, monkeypatch: pytest.MonkeyPatch, best: float, left_out: int, said: str | None
) -> None:
    given = pages.get("shares", scale="mini").model_copy(update={"methods": {"mse": Tried(weights=("alpha",))}})
    page = pages.validate(TuningPage, given.model_dump() | {"shares": [1.0, 8.0]})
    monkeypatch.setattr(pages, "names", lambda: ["shares"])
    monkeypatch.setattr(pages, "get", lambda *args, **kwargs: page)
    monkeypatch.setattr(trials, "in_use", lambda page: {"mse": 8.0})
    publish(page, write_record, best, left_out=left_out)
    assert trials.unsettled("mini") == ({} if said is None else {"mse": said})


def test_rows_need_the_trials_of_their_methods_and_of_what_these_take_over() -> None:
    pair = {"student": "fcos_r50", "teachers": ("gfl_r101",)}
    assert trials.needed(Row(student="fcos_r50", teachers=(), recipe="baseline"), trial=False) == []
    assert trials.needed(Row(**pair, recipe="mse"), trial=True) == []
    assert trials.needed(Row(**pair, recipe="fgd + pkd"), trial=False) == ["fgd", "pkd"]
    assert trials.needed(Row(**pair, recipe="ssim", options=Options(variant="l1")), trial=False) == ["l1"]
    assert trials.needed(Row(**pair, recipe="dfmsd"), trial=False) == ["dfmsd", "dmkd"]
    assert trials.needed(Row(**pair, recipe="dfmsd"), trial=True) == ["dmkd"], "its reconstruction has DMKD's share"
