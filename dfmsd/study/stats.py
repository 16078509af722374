"""How sure a number is: intervals over seeds, and paired differences between two methods.

A method is judged by runs that differ in their seed alone. With one or two seeds nothing is tested: the values are shown, and the
record's own interval over images (:attr:`dfmsd.study.records.Record.ap_interval`) tells how much the choice of validation images
matters, not how much the training does. From three seeds on, means carry a percentile bootstrap interval over seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import bootstrap

MIN_SEEDS = 3
"""From this number of seeds on there is an interval, and with it a verdict."""
LEVEL = 0.95
RESAMPLES = 9999
SEED = 0
"""Of the resampling, so that a page executed twice shows the same interval."""

Verdict = Literal["higher", "lower", "undecided", "no test"]


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its interval.

    Args:
        values: The value of each seed, by seed.
        mean: Their mean.
        interval: 95 % percentile bootstrap interval of the mean over seeds; None for fewer than three seeds.
    """

    values: Mapping[int, float]
    mean: float
    interval: tuple[float, float] | None


def estimate(values: Mapping[int, float]) -> Estimate:
    """The mean over seeds and its percentile bootstrap interval.

    With three seeds the interval is the range of the three values: 1 of 27 resamples holds the smallest value three times, more
    than the 2.5 % that the interval leaves out at that end. Such a range covers the median of the runs one could have made with
    probability 1 - 2 / 2^3 = 75 %, so "95 %" is the procedure's nominal level, and small numbers of seeds fall short of it.

    Args:
        values: One value or more, by seed.

    Raises:
        ValueError: without a value.

    Example:
        >>> estimate({0: 30.0, 1: 31.0, 2: 35.0})
        Estimate(values={0: 30.0, 1: 31.0, 2: 35.0}, mean=32.0, interval=(30.0, 35.0))
        >>> estimate({0: 30.0}).interval is None
        True
    """
    if not values:
        raise ValueError("an estimate needs a value")
    sample = np.array([values[seed] for seed in sorted(values)])
    mean = float(sample.mean())
    if len(sample) < MIN_SEEDS:
        return Estimate(dict(values), mean, None)
    if np.ptp(sample) == 0:
        return Estimate(dict(values), mean, (mean, mean))
    found = bootstrap(
        (sample,),
        np.mean,
        confidence_level=LEVEL,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    return Estimate(dict(values), mean, (float(found.low), float(found.high)))


def difference(values: Mapping[int, float], baseline: Mapping[int, float]) -> Estimate | None:
    """The paired difference of two methods: seed by seed, over the seeds that both have.

    One seed gives both methods the same initial student and the same order of images, so a pair differs by the method. What the
    two share cancels, and the interval is narrower than that of two independent means.

    Args:
        values: Of the method, by seed.
        baseline: Of what it is compared with.

    Returns:
        The estimate of ``values - baseline``; None if they share no seed.

    Example:
        >>> difference({0: 31.0, 1: 33.0}, {0: 30.0, 1: 30.0, 2: 30.0}).mean
        2.0
    """
    shared = sorted(values.keys() & baseline.keys())
    return estimate({seed: values[seed] - baseline[seed] for seed in shared}) if shared else None


def verdict(found: Estimate | None) -> Verdict:
    """What a difference says: its sign if the interval excludes 0.

    Example:
        >>> verdict(estimate({0: 0.1, 1: 0.4, 2: 0.2}))
        'higher'
        >>> verdict(estimate({0: -0.1, 1: 0.4, 2: 0.2})), verdict(estimate({0: 0.4}))
        ('undecided', 'no test')
    """
    if found is None or found.interval is None:
        return "no test"
    low, high = found.interval
    return "higher" if low > 0 else "lower" if high < 0 else "undecided"
