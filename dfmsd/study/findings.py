"""What figures measured for the papers' claims, from the records of their pages (:mod:`dfmsd.study.measured`).

Every number is turned so that it is above 0 where the claim is right, unless the claim says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from dfmsd.errors import StudyError, suggest
from dfmsd.study import measured as observation
from dfmsd.study import stats
from dfmsd.study.measured import Answers, Observation, Pair, Values
from dfmsd.study.pages import FeaturesPage, ObservedPage
from dfmsd.study.stats import Estimate

ByLevel = dict[int, Estimate | None]
"""By stride; None where nothing can be compared."""


@dataclass(frozen=True)
class Finding:
    """The numbers behind a claim."""

    numbers: Mapping[str, Estimate]
    """By what they are of, such as a level; the intervals are over images."""
    about: str
    """How many images, and of whose trainings."""
    tested: bool
    """Whether the intervals decide: over images they tell nothing of other trainings, where trainings are compared."""
    stale: bool = False
    """Whether what was measured is not what the page would measure now."""


def find(page: ObservedPage, claim: str) -> Finding | None:
    """What a page has measured for a claim; None while it has no record of it.

    Raises:
        StudyError: if the page measures no such thing, or its record is damaged.
    """
    if isinstance(page, FeaturesPage):
        if claim not in FEATURES:
            raise StudyError(f"claim {claim}: page {page.page} does not measure it: {suggest(claim, FEATURES)}")
        seen = observation.find(page)
        return None if seen is None else features(page, seen, claim)
    answers = observation.read(page, Answers)
    if answers is None or claim not in answers.claims:
        return None
    values = _present(answers.claims[claim])
    about = f"{len(values)} images" + ", one training of the teacher" * bool(answers.networks)
    numbers = {"": stats.estimate(values)} if values else {}
    return Finding(numbers, about, tested=True, stale=bool(observation.stale(answers, page)))


def features(page: FeaturesPage, seen: Observation, claim: str) -> Finding:
    """What a look into trained networks says to a claim, level by level."""
    numbers = {f"stride {stride}": one for stride, one in FEATURES[claim](page, seen).items() if one is not None}
    about = f"{len(seen.images)} images, one training of each network"
    return Finding(numbers, about, tested=False, stale=bool(observation.stale(seen, page)))


def _types(kind: str) -> Callable[[FeaturesPage, Observation], ByLevel]:
    """How much less alike networks of different type are than two trainings of one, in the mean over their pairs."""

    def measured(page: FeaturesPage, seen: Observation) -> ByLevel:
        networks = {look.name: look.network for look in page.networks}
        twins = [pair for pair in seen.pairs if networks[pair.first] == networks[pair.second]]
        others = [pair for pair in seen.pairs if pair not in twins]
        return {stride: stats.difference(_mean(twins, kind, stride), _mean(others, kind, stride)) for stride in seen.strides}

    return measured


def _mean(pairs: Iterable[Pair], kind: str, stride: int) -> dict[int, float]:
    """The mean over pairs of each image that all of them have a value of."""
    images = enumerate(zip(*(getattr(pair, kind)[stride] for pair in pairs), strict=True))
    return {place: fmean(values) for place, values in images if None not in values}


def _step(number: int, kind: str) -> Callable[[FeaturesPage, Observation], ByLevel]:
    """What a stage adds: to the likeness of the student's maps to the teacher's, or to how far objects stand out."""

    def measured(page: FeaturesPage, seen: Observation) -> ByLevel:
        before, after = _students(page)[number - 1 : number + 1]
        found = seen.objects if kind == "objects" else {pair.first: pair.maps for pair in _taught(page, seen)}
        return {s: stats.difference(_present(found[after][s]), _present(found[before][s])) for s in seen.strides}

    return measured


def _channels(page: FeaturesPage, seen: Observation) -> ByLevel:
    """What the last student's correlation with the teacher has over that of the one before, channel by channel."""
    found = {pair.first: pair.channels for pair in _taught(page, seen)}
    before, after = (found[name] for name in _students(page)[-2:])
    return {s: _alone(after[s].value - before[s].value) for s in seen.strides if s in before and s in after}


def _distributions(page: FeaturesPage, seen: Observation) -> ByLevel:
    """By how much the last student's distribution is nearer to the teacher's than that of the one before."""
    before, after = (seen.values[name] for name in _students(page)[-2:])
    teacher = seen.values[page.TEACHER]
    return {s: _alone(distance(before[s], teacher[s]) - distance(after[s], teacher[s])) for s in seen.strides}


def distance(first: Values, second: Values) -> float:
    """:func:`dfmsd.report.likeness.distance` as it is, which is the area between both cumulative distributions, without torch."""
    shares = [np.array(one.density) / sum(one.density) for one in (first, second)]
    width = (second.high - second.low) / len(second.density)
    return float(np.abs(np.cumsum(shares[0] - shares[1])).sum()) * width / (second.std or 1.0)


def _students(page: FeaturesPage) -> list[str]:
    return [look.name for look in page.networks if not look.teaches]


def _taught(page: FeaturesPage, seen: Observation) -> list[Pair]:
    return [pair for pair in seen.pairs if pair.second == page.TEACHER]


def _present(values: Iterable[float | None]) -> dict[int, float]:
    return {place: value for place, value in enumerate(values) if value is not None}


def _alone(value: float) -> Estimate:
    """A number over all images at once, without an interval."""
    return Estimate({}, value, None)


FEATURES: dict[str, Callable[[FeaturesPage, Observation], ByLevel]] = {
    "f1-maps": _types("maps"),
    "f1-masks": _types("masks"),
    "f4-teacher-1": _step(1, "maps"),
    "f4-teacher-2": _step(2, "maps"),
    "f4-objects-1": _step(1, "objects"),
    "f4-objects-2": _step(2, "objects"),
    "f8-channels": _channels,
    "f8-distributions": _distributions,
}
"""What answers a claim about a look into trained networks, by the claim's id."""
