"""Intervals over seeds, against an enumeration of every resample."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from dfmsd.study import stats


def exact_interval(values: list[float]) -> tuple[float, float]:
    """Percentiles over all n**n resamples, not over random ones."""
    means = sorted(float(np.mean(resample)) for resample in product(values, repeat=len(values)))
    low, high = np.quantile(means, [0.025, 0.975], method="inverted_cdf")
    return float(low), float(high)


@pytest.mark.parametrize("values", [[30.0, 31.0, 35.0], [1.0, 2.0, 4.0, 8.0], [0.3, -0.2, 0.1, 0.6, 0.9]])
def test_interval_agrees_with_all_resamples(values: list[float]) -> None:
    found = stats.estimate(dict(enumerate(values)))
    assert found.mean == pytest.approx(np.mean(values))
    # Random resampling misses an exact quantile by at most one step of the resampled means.
    assert found.interval == pytest.approx(exact_interval(values), abs=0.06 * float(np.ptp(values)))


def test_three_seeds_give_their_range() -> None:
    assert stats.estimate({0: 2.5, 1: 1.0, 2: 2.0}).interval == (1.0, 2.5)


def test_the_order_of_seeds_does_not_matter() -> None:
    forward = {0: 1.0, 1: 5.0, 2: 2.0, 3: 4.0}
    assert stats.estimate(forward).interval == stats.estimate(dict(reversed(forward.items()))).interval, "nor is it drawn anew"


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_than_three_seeds_are_not_tested(count: int) -> None:
    found = stats.estimate({seed: 1.0 + seed for seed in range(count)})
    assert found.interval is None
    assert stats.verdict(found) == "no test"


def test_equal_values_have_an_interval_of_no_width() -> None:
    assert stats.estimate({0: 3.0, 1: 3.0, 2: 3.0}).interval == (3.0, 3.0)


def test_no_value_is_no_estimate() -> None:
    with pytest.raises(ValueError, match="needs a value"):
        stats.estimate({})


def test_pairing_removes_what_both_share() -> None:
    baseline = {0: 10.0, 1: 20.0, 2: 30.0}
    method = {seed: value + 1.0 for seed, value in baseline.items()}
    found = stats.difference(method, baseline)
    assert found is not None
    assert found.interval == pytest.approx((1.0, 1.0))
    assert stats.verdict(found) == "higher"


def test_only_shared_seeds_are_paired() -> None:
    found = stats.difference({0: 5.0, 7: 100.0}, {0: 4.0, 3: -100.0})
    assert found is not None
    assert dict(found.values) == {0: 1.0}
    assert stats.difference({0: 1.0}, {1: 1.0}) is None
    assert stats.verdict(None) == "no test"


@pytest.mark.parametrize(
    ("values", "expected"),
    [((0.5, 0.6, 0.7), "higher"), ((-0.5, -0.6, -0.7), "lower"), ((-0.5, 0.6, 0.7), "undecided"), ((0.0, 0.0, 0.0), "undecided")],
)
def test_verdict_is_the_sign_unless_the_interval_holds_zero(values: tuple[float, ...], expected: str) -> None:
    assert stats.verdict(stats.estimate(dict(enumerate(values)))) == expected
