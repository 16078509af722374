"""How the study decides: how far a training or an image moves a number, and what is left when that is allowed for.

Three questions, three tools:

- *One pair of student and teachers, or these few.* Three seeds say little about how far a seed moves AP; all rows of a student
  together say it well. :func:`pooled` is their common variance, :func:`estimate`, :func:`difference` and :func:`over_these` give
  t intervals by its degrees of freedom.
- *All pairs.* Pairs are what a finding must carry over to, so pairs are the replicates: :func:`over_pairs`, :func:`sign_test`,
  :func:`detectable`, and :func:`holm` over the hypotheses.
- *Other images.* :func:`dfmsd.study.evaluate.basic`, from the resamples that a record keeps.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import comb, sqrt
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import stats as scipy_stats

LEVEL = 0.95
POWER = 0.8
RESAMPLES = 9999
SEED = 0
"""Of the resampling, so that a page executed twice shows the same interval."""

Name = TypeVar("Name")

Verdict = Literal["higher", "lower", "not settled"]


@dataclass(frozen=True)
class Spread:
    """How far seeds move a number: the variance of a single run, and the degrees of freedom behind it."""

    variance: float
    dof: float

    def times(self, factor: float) -> Spread:
        """Of what has so many times the variance: 2 for the difference of two runs, 1 / n for a mean of n."""
        return Spread(factor * self.variance, self.dof)


@dataclass(frozen=True)
class Estimate:
    """The mean of values by seed or image, with its 95 % t interval; None where nothing says how far a seed moves it."""

    values: Mapping[int, float]
    mean: float
    interval: tuple[float, float] | None


def pooled(rows: Iterable[Mapping[Any, float]]) -> Spread | None:
    r"""The variance over seeds that rows have in common; None if no row has two seeds.

    .. math:: s^2 = \frac{\sum_i \sum_j (x_{ij} - \bar x_i)^2}{\sum_i (n_i - 1)}

    over the :math:`n_i` seeds of each row :math:`i` that has two or more. It holds if a student's seeds move all its rows about as
    far, whoever teaches it by whatever method.

    Example:
        >>> pooled([{0: 30.0, 1: 32.0}, {0: 40.0, 1: 41.0, 2: 42.0}, {0: 99.0}])
        Spread(variance=1.3333333333333333, dof=3)
    """
    found = [np.array(list(row.values())) for row in rows if len(row) > 1]
    dof = sum(len(row) - 1 for row in found)
    return Spread(sum(float(((row - row.mean()) ** 2).sum()) for row in found) / dof, dof) if dof else None


def combined(parts: Iterable[tuple[float, Spread | None]]) -> Spread | None:
    """The variance of a sum of runs, each times a factor, by Welch and Satterthwaite's degrees of freedom.

    Parts are the square of each factor and the spread of its run; None if one of these is not known. Runs of one student have one
    spread, whose degrees of freedom the result then has.

    Example:
        >>> one, other = Spread(1.0, 10), Spread(3.0, 10)
        >>> combined([(0.5, one), (0.5, one)]), combined([(1.0, one), (1.0, other)])
        (Spread(variance=1.0, dof=10.0), Spread(variance=4.0, dof=16.0))
    """
    squares: dict[Spread, float] = {}
    for square, spread in parts:
        if spread is None:
            return None
        squares[spread] = squares.get(spread, 0.0) + square
    terms = [(square * spread.variance, spread.dof) for spread, square in squares.items()]
    variance = sum(term for term, _ in terms)
    below = sum(term**2 / dof for term, dof in terms)
    return Spread(variance, variance**2 / below if below else min(dof for _, dof in terms)) if terms else None


def t_interval(mean: float, of_mean: Spread | None) -> tuple[float, float] | None:
    """The 95 % interval of a mean whose own variance is given.

    Example:
        >>> t_interval(1.0, Spread(0.25, 10)) == (1 - 0.5 * scipy_stats.t.ppf(0.975, 10), 1 + 0.5 * scipy_stats.t.ppf(0.975, 10))
        True
    """
    if of_mean is None:
        return None
    reach = sqrt(of_mean.variance) * float(scipy_stats.t.ppf((1 + LEVEL) / 2, of_mean.dof))
    return mean - reach, mean + reach


def estimate(values: Mapping[int, float], spread: Spread | None = None) -> Estimate:
    """The mean of one value or more and its t interval, by the spread of a single value or, without it, of the values themselves.

    Example:
        >>> [round(end, 3) for end in estimate({0: 30.0, 1: 31.0}, Spread(1.0, 20)).interval]
        [29.025, 31.975]
        >>> estimate({0: 30.0}).interval is None
        True
    """
    if not values:
        raise ValueError("an estimate needs a value")
    mean = float(np.mean(list(values.values())))
    spread = spread or pooled([values])
    return Estimate(dict(values), mean, t_interval(mean, spread and spread.times(1 / len(values))))


def difference(values: Mapping[int, float], baseline: Mapping[int, float], spread: Spread | None = None) -> Estimate | None:
    """The paired difference ``values - baseline`` of two rows over the seeds that both have; None if they share none.

    One seed gives both rows the same initial student and the same order of images. What the two share by that cancels in the
    difference; its variance is taken to be that of two runs all the same (``spread`` is of one), so that the interval is rather too
    wide than too narrow. Without a spread, it is that of the differences themselves.

    Example:
        >>> difference({0: 31.0, 1: 33.0}, {0: 30.0, 1: 30.0, 2: 30.0}).mean
        2.0
    """
    shared = sorted(values.keys() & baseline.keys())
    if not shared:
        return None
    return estimate({seed: values[seed] - baseline[seed] for seed in shared}, spread and spread.times(2))


def verdict(found: Estimate | None) -> Verdict:
    """What a difference says: its sign if the interval excludes 0.

    Example:
        >>> verdict(estimate({0: 0.1, 1: 0.4}, Spread(0.01, 20))), verdict(estimate({0: 0.4}))
        ('higher', 'not settled')
    """
    if found is None or found.interval is None:
        return "not settled"
    low, high = found.interval
    return "higher" if low > 0 else "lower" if high < 0 else "not settled"


# Over pairs


Runs = tuple[str, str]
"""The keys of two runs, whose numbers are compared."""


def over_these(pairs: Sequence[tuple[Mapping[Runs, float], Spread | None]]) -> tuple[float, tuple[float, float] | None]:
    """The mean over these very pairs of student and teachers, and its 95 % t interval by what seeds move.

    It tells nothing of other pairs. Of each pair come the differences of two runs of a seed, by their keys, and the spread of a
    single run of its student. A run that takes part in several pairs, as a baseline does, moves the mean by each of them.

    Example:
        >>> spread = Spread(0.5, 10)
        >>> mean, (low, high) = over_these([({("a", "b"): 1.0}, spread), ({("c", "d"): 2.0, ("e", "f"): 4.0}, spread)])
        >>> mean, round(high - mean, 3)  # 2.228 x sqrt(2 x 0.5 x (1 + 1 / 2) / 2 ** 2)
        (2.0, 1.364)
        >>> mean, (low, high) = over_these([({("a", "baseline"): 1.0}, spread), ({("b", "baseline"): 3.0}, spread)])
        >>> mean, round(high - mean, 3)  # 2.228 x sqrt(0.5 x (1 / 2 ** 2 + 1 / 2 ** 2 + 1))
        (2.0, 1.93)
    """
    mean = float(np.mean([np.mean(list(seeds.values())) for seeds, _ in pairs]))
    factors: defaultdict[tuple[str, Spread | None], float] = defaultdict(float)
    for seeds, spread in pairs:
        for one, other in seeds:
            factors[one, spread] += 1 / len(seeds) / len(pairs)
            factors[other, spread] -= 1 / len(seeds) / len(pairs)
    return mean, t_interval(mean, combined((factor**2, spread) for (_, spread), factor in factors.items()))


def smallest_p(*counts: int) -> float:
    """The smallest p-value that so many pairs can have: by the sign test, or of two groups by the rank test.

    Example:
        >>> smallest_p(5), round(smallest_p(4, 4), 4)
        (0.0625, 0.0286)
    """
    return 2 / (comb(sum(counts), counts[0]) if len(counts) == 2 else 2 ** counts[0])


def replicates(pairs: Mapping[Name, Iterable[str]]) -> list[list[Name]]:
    """Pairs by what is independent: those that share a run, or are linked by others that do, are together.

    Args:
        pairs: The keys of each pair's runs.

    Example:
        >>> replicates({"one": ["a", "baseline"], "two": ["b", "baseline"], "three": ["c", "d"]})
        [['one', 'two'], ['three']]
    """
    found: list[tuple[set[str], list[Name]]] = []
    for pair, keys in pairs.items():
        linked = [one for one in found if not one[0].isdisjoint(keys)]
        joined = [*(other for _, own in linked for other in own), pair]
        found = [*(one for one in found if one not in linked), (set(keys).union(*(own for own, _ in linked)), joined)]
    return [own for _, own in found]


def over_pairs(*groups: Sequence[Sequence[Sequence[float]]]) -> tuple[float, tuple[float, float] | None]:
    """The mean over pairs of student and teachers, and its 95 % bootstrap interval; of two groups of pairs, their difference.

    A group is of each replicate the differences of its pairs by seed. A replicate is one pair, or several that share a run
    (:func:`replicates`). A resample draws replicates with all their pairs, then seeds within each pair, as often as it has seeds:
    pairs are what a finding must carry over to, and each of them is known as far only as its seeds tell. A mixed model with
    student, pair and seed as random effects would say the same of the mean; its variance components would rest on five students
    and a dozen pairs, and its interval on their being normal. So the bootstrap is taken, which needs neither; drawing seeds within
    pairs counts their noise a little more than once, which makes up for the few pairs.

    Resamples of n replicates spread too little, by the square root of (n - 1) / n, and their tails are a normal's rather than a t
    distribution's: the quantiles are taken further out by both (Hesterberg 2015). The bootstrap of very few replicates cannot
    reach so far, as it ends at the lowest and the highest of them. So there is no interval where no outcome of the test that goes
    with it is below 5 %: for fewer than six replicates, or four in each of two groups.

    Example:
        >>> mean, (low, high) = over_pairs([[[1.0, 1.2]], [[2.0, 1.6]], [[0.4, 0.6]], [[0.9]], [[1.3], [0.6]], [[1.0]]])
        >>> round(mean, 2), 0 < low < mean < high, over_pairs([[[1.0]], [[2.0], [3.0]]])
        (1.03, True, (2.0, None))
    """
    rng = np.random.default_rng(SEED)
    signs = (1, -1)[: len(groups)]
    means = [float(np.mean([np.mean(pair) for own in group for pair in own])) for group in groups]
    whole = sum(sign * mean for sign, mean in zip(signs, means, strict=True))
    fewest = min(map(len, groups))
    if smallest_p(*[fewest] * len(groups)) > 1 - LEVEL:
        return whole, None
    drawn = sum(sign * _resampled(group, rng) for sign, group in zip(signs, groups, strict=True))
    reach = sqrt(fewest / (fewest - 1)) * scipy_stats.t.ppf((1 + LEVEL) / 2, fewest - 1)
    low, high = np.quantile(drawn, scipy_stats.norm.cdf([-reach, reach]))
    return whole, (float(low), float(high))


def _resampled(group: Sequence[Sequence[Sequence[float]]], rng: np.random.Generator) -> NDArray[np.float64]:
    """Means over the pairs of resamples: ``(RESAMPLES,)``."""
    most, longest = max(map(len, group)), max(len(pair) for own in group for pair in own)
    values, seeds = np.zeros((len(group), most, longest)), np.zeros((len(group), most), dtype=int)
    for place, own in enumerate(group):
        for which, pair in enumerate(own):
            values[place, which, : len(pair)], seeds[place, which] = pair, len(pair)
    chosen = rng.integers(len(group), size=(RESAMPLES, len(group)))
    drawn = seeds[chosen]  # of each replicate's pairs; 0 where it has no more pairs
    places = (rng.random((*drawn.shape, longest)) * drawn[..., None]).astype(int)
    counted = np.arange(longest) < drawn[..., None]
    means = (np.take_along_axis(values[chosen], places, axis=-1) * counted).sum(axis=-1) / np.maximum(drawn, 1)
    return means.sum(axis=(1, 2)) / (drawn > 0).sum(axis=(1, 2))  # type: ignore[no-any-return]


def sign_test(differences: Sequence[float]) -> float:
    """The exact two-sided sign test over pairs: whether more of them lie on one side of 0 than chance puts there.

    Differences of exactly 0 say nothing and are left out; without a difference the p-value is 1.

    Example:
        >>> sign_test([0.4, 1.2, 0.3, 0.9, 2.0])
        0.0625
    """
    above, below = sum(one > 0 for one in differences), sum(one < 0 for one in differences)
    return float(scipy_stats.binomtest(above, above + below).pvalue) if above + below else 1.0


def rank_test(these: Sequence[float], those: Sequence[float]) -> float:
    """The exact two-sided test of Mann and Whitney: the sign test's counterpart for two groups of pairs.

    Example:
        >>> rank_test([3.0, 4.0, 5.0], [0.0, 1.0, 2.0])
        0.1
    """
    return float(scipy_stats.mannwhitneyu(these, those, method="exact").pvalue) if these and those else 1.0


def detectable(*groups: Sequence[float], among: int = 1) -> float | None:
    """The smallest mean difference that this many pairs detect with a power of 80 % at a level of 5 %, shared by so many tests.

    The pairs' differences, of one group or two, are taken as normal with the standard deviation that they have. For one group it is
    what the exact sign test detects: with it, n pairs must lie above 0 with the probability that puts enough of them there four
    times out of five. For two groups it is what a t test detects, which a rank test comes close to. None where pairs are too few:
    no outcome of a sign test is below 5 % for fewer than six, and none is below an eighth of it for fewer than nine.

    Example:
        >>> round(detectable([0.0, 2.0] * 6), 2), detectable([0.0, 2.0])
        (1.17, None)
    """
    alpha = (1 - LEVEL) / among
    if smallest_p(*map(len, groups)) > alpha:
        return None
    if len(groups) == 1:
        count = len(groups[0])
        needed = int(scipy_stats.binom.isf(alpha / 2, count, 0.5)) + 1  # the fewest above 0 with P <= alpha / 2
        share = scipy_stats.beta.ppf(POWER, needed, count - needed + 1)
        return float(np.std(groups[0], ddof=1) * scipy_stats.norm.ppf(share))
    spread = pooled([dict(enumerate(group)) for group in groups])
    assert spread is not None
    reach = scipy_stats.t.ppf(1 - alpha / 2, spread.dof) + scipy_stats.t.ppf(POWER, spread.dof)
    return float(reach * sqrt(spread.variance * sum(1 / len(group) for group in groups)))


def holm(p: Sequence[float]) -> list[float]:
    """P-values adjusted for their number: one below 5 % is so with all others allowed for.

    From the smallest on, the i-th of m is multiplied by m - i, i from 0, and is never below the one before (Holm 1979).

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    found, highest = [0.0] * len(p), 0.0
    for place, which in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        highest = found[which] = max(highest, min(1.0, p[which] * (len(p) - place)))
    return found


def false_discovery(p: Sequence[float]) -> list[float]:
    """P-values adjusted by Benjamini and Hochberg: of those below 10 %, no more than a tenth are expected to be chance.

    Example:
        >>> false_discovery([0.01, 0.04, 0.03])
        [0.03, 0.04, 0.04]
    """
    return [float(one) for one in scipy_stats.false_discovery_control(p)] if p else []
