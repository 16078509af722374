"""How the study decides, against numbers worked out by hand and against data in which nothing differs."""

from __future__ import annotations

from math import comb, sqrt

import numpy as np
import pytest
from scipy.stats import binom, t

from dfmsd.study import stats
from dfmsd.study.stats import Spread


def test_the_pooled_variance_is_that_within_rows() -> None:
    # Squares around 31: 1, 1; around 41: 1, 0, 1; a row of one seed has none. 4 over (2 - 1) + (3 - 1).
    assert stats.pooled([{0: 30.0, 9: 32.0}, {0: 40.0, 1: 41.0, 2: 42.0}, {0: 99.0}]) == Spread(4 / 3, 3)
    assert stats.pooled([{0: 30.0}, {0: 40.0}]) is None


def test_the_pooled_variance_is_what_seeds_were_drawn_with() -> None:
    rng = np.random.default_rng(0)
    rows = [dict(enumerate(mean + 0.7 * rng.standard_normal(3))) for mean in rng.uniform(20, 60, 400)]
    found = stats.pooled(rows)
    assert found is not None and found.dof == 800
    assert found.variance == pytest.approx(0.49, rel=4 * sqrt(2 / 800))


def test_an_interval_is_students_with_the_spread_of_all_rows() -> None:
    found = stats.difference({0: 31.0, 1: 33.0}, {0: 30.0, 1: 30.0, 2: 99.0}, Spread(0.5, 20))
    assert found is not None and found.mean == 2.0
    # Two runs less two: 2 x 0.5 / 2, over the two seeds that both have.
    assert found.interval == pytest.approx((2 - sqrt(0.5) * t.ppf(0.975, 20), 2 + sqrt(0.5) * t.ppf(0.975, 20)))
    assert stats.verdict(found) == "higher"


def test_one_seed_has_an_interval_once_other_rows_tell_how_far_seeds_move() -> None:
    alone, known = stats.difference({0: 31.0}, {0: 30.0}), stats.difference({0: 31.0}, {0: 30.0}, Spread(0.02, 30))
    assert alone is not None and alone.interval is None and stats.verdict(alone) == "not settled"
    assert known is not None and stats.verdict(known) == "higher"
    assert stats.difference({0: 1.0}, {1: 1.0}) is None and stats.verdict(None) == "not settled"
    with pytest.raises(ValueError, match="needs a value"):
        stats.estimate({})


def test_spreads_of_two_students_make_one_by_welch_and_satterthwaite() -> None:
    one, other = Spread(1.0, 8), Spread(4.0, 20)
    found = stats.combined([(0.5, one), (0.5, one), (0.25, other), (0.25, other)])
    assert found is not None and found.variance == pytest.approx(3.0)
    assert found.dof == pytest.approx(9 / (1 / 8 + 4 / 20))
    assert stats.combined([(1.0, one), (1.0, None)]) is None


@pytest.mark.parametrize(("above", "below"), [(5, 0), (9, 1), (4, 4), (11, 3)])
def test_the_sign_test_counts_what_chance_does(above: int, below: int) -> None:
    count, fewer = above + below, min(above, below)
    tail = sum(comb(count, k) for k in range(fewer + 1)) / 2**count
    assert stats.sign_test([1.0] * above + [-2.0] * below + [0.0]) == pytest.approx(min(1.0, 2 * tail))


def test_holm_by_hand() -> None:
    # 4 x 0.01, 3 x 0.02, 2 x 0.03 and 0.3, none below the one before.
    assert stats.holm([0.3, 0.01, 0.03, 0.02]) == pytest.approx([0.3, 0.04, 0.06, 0.06])
    assert stats.holm([0.02, 0.021, 0.9]) == pytest.approx([0.06, 0.06, 0.9]) and stats.holm([0.5, 0.6]) == [1.0, 1.0]
    assert stats.holm([]) == [] == stats.false_discovery([])


def test_false_discoveries_by_hand() -> None:
    # Of four: 0.01 x 4, 0.03 x 4 / 3 over 0.02 x 4 / 2, 0.3.
    assert stats.false_discovery([0.3, 0.01, 0.03, 0.02]) == pytest.approx([0.3, 0.04, 0.04, 0.04])


@pytest.mark.parametrize(("count", "seeds"), [(14, 3), (6, 3), (6, 1)])
def test_the_interval_over_pairs_holds_the_truth_about_as_often_as_it_says(count: int, seeds: int) -> None:
    """Pairs around 0.5 AP, which pairs move by 0.8 and seeds by 0.6."""
    rng, rounds, held = np.random.default_rng(0), 150, 0
    for _ in range(rounds):
        pairs = (0.5 + 0.8 * rng.standard_normal((count, 1, 1)) + 0.6 * rng.standard_normal((count, 1, seeds))).tolist()
        estimate, interval = stats.over_pairs(pairs)
        assert interval is not None and interval[0] < estimate < interval[1]
        held += interval[0] <= 0.5 <= interval[1]
    assert binom.cdf(held, rounds, 0.93) > 0.01 and held < rounds


@pytest.mark.parametrize("together", [True, False])
def test_the_interval_over_pairs_resamples_those_that_share_a_baseline_together(together: bool) -> None:
    """Eight students of four pairs each, in which nothing differs. Taken for 32 pairs, they would make it wrong too often."""
    rng, rounds, held = np.random.default_rng(0), 150, 0
    for _ in range(rounds):
        found = (rng.standard_normal((8, 4)) - rng.standard_normal((8, 1)))[..., None].tolist()
        _, interval = stats.over_pairs(found if together else [[pair] for own in found for pair in own])
        assert interval is not None
        held += interval[0] <= 0 <= interval[1]
    assert (binom.cdf(held, rounds, 0.93) > 0.01) == together and held < rounds


def test_the_mean_over_pairs_gives_each_pair_the_same_weight_however_many_share_a_run() -> None:
    linked, alone = [[1.0], [3.0], [5.0, 7.0]], [[[0.0]]] * 5
    assert stats.over_pairs([linked, *alone])[0] == pytest.approx((1 + 3 + 6) / 8)
    assert stats.over_pairs([linked, *alone[1:]])[1] is None, "five replicates, although seven pairs"


def test_so_few_pairs_that_no_test_settles_anything_have_no_interval() -> None:
    """A bootstrap of three pairs is the range from the lowest to the highest of them."""
    assert stats.over_pairs([[[10.0]], [[0.6]], [[0.1]], [[3.0]], [[2.0]]])[1] is None
    three = [[[1.0]], [[2.0]], [[3.0]]]
    assert stats.over_pairs(three, [[[0.0]]] * 20)[1] is None, "the smaller group decides, however large the other is"
    assert stats.smallest_p(6) == stats.sign_test([1.0] * 6)
    assert stats.smallest_p(4, 4) == stats.rank_test([5.0, 6.0, 7.0, 8.0], [1.0, 2.0, 3.0, 4.0])


def test_the_mean_over_these_pairs_moves_as_their_seeds_do() -> None:
    """Of two students: 2 (0.5 / 3 + 2 / 1) / 2 ** 2, by Welch and Satterthwaite."""
    seeds = {(f"a {seed}", f"b {seed}"): value for seed, value in enumerate((1.0, 2.0, 3.0))}
    pairs = [(seeds, stats.Spread(0.5, 20)), ({("c", "d"): 4.0}, stats.Spread(2.0, 8))]
    parts = 2 * 0.5 / 3 / 4, 2 * 2.0 / 4
    dof = sum(parts) ** 2 / (parts[0] ** 2 / 20 + parts[1] ** 2 / 8)
    mean, interval = stats.over_these(pairs)
    assert mean == 3.0 and interval == pytest.approx((mean - (reach := t.ppf(0.975, dof) * sqrt(sum(parts))), mean + reach))
    assert stats.over_these([({("a", "b"): 1.0}, None)]) == (1.0, None)


@pytest.mark.parametrize("pairs", [2, 5, 8])
def test_a_baseline_that_pairs_share_counts_with_each_of_them(pairs: int) -> None:
    """Of means over pairs with one baseline, in which nothing differs, 95 of 100 intervals hold 0."""
    rng, rounds, within = np.random.default_rng(0), 2000, 0
    for _ in range(rounds):
        baseline, *taught = rng.standard_normal(pairs + 1)
        found = [({(f"taught {place}", "baseline"): one - baseline}, stats.Spread(1.0, 1e6)) for place, one in enumerate(taught)]
        _, interval = stats.over_these(found)
        assert interval is not None
        within += interval[0] <= 0 <= interval[1]
    assert within / rounds == pytest.approx(0.95, abs=4 * sqrt(0.95 * 0.05 / rounds))


def test_two_types_of_pairs_differ_by_their_means() -> None:
    estimate, interval = stats.over_pairs([[[2.0, 2.2]], [[1.8]], [[2.0]], [[1.9]]], [[[1.0]], [[0.9, 0.7]], [[1.1]], [[1.0]]])
    assert estimate == pytest.approx(np.mean([2.1, 1.8, 2.0, 1.9]) - np.mean([1.0, 0.8, 1.1, 1.0]))
    assert interval is not None and 0.5 < interval[0] < interval[1] < 1.5
    assert stats.over_pairs([[[2.0]], [[1.8]]], [[[1.0]]]) == (pytest.approx(0.9), None)
    assert stats.rank_test([2.1, 1.8, 2.0], [1.0, 0.8, 1.1]) == pytest.approx(2 / comb(6, 3))


def test_what_is_detectable_is_detected_four_times_out_of_five() -> None:
    rng, count, rounds = np.random.default_rng(0), 14, 2000
    pairs = rng.standard_normal(count)
    reach = stats.detectable((pairs / pairs.std(ddof=1)).tolist())
    assert reach is not None
    found = sum(stats.sign_test((reach + rng.standard_normal(count)).tolist()) <= 0.05 for _ in range(rounds))
    assert 0.8 == pytest.approx(found / rounds, abs=4 * sqrt(0.16 / rounds))
    assert stats.detectable([0.0, 1.0, 2.0, 3.0, 4.0]) is None, "of five pairs no outcome is below 5 %"
    assert stats.detectable(list(range(8)), among=8) is None, "of eight pairs no outcome is below an eighth of 5 %"
    assert stats.detectable([0.0, 1.0, 2.0], [5.0, 6.0, 7.0]) is None, "of three against three neither"
    two = stats.detectable([0.0, 1.0, 2.0, 1.0], [5.0, 6.0, 7.0, 6.0])
    assert two == pytest.approx((t.ppf(0.975, 6) + t.ppf(0.8, 6)) * sqrt(1 / 3))
