"""How much of DFMSD's gain is length of training: its student is trained once in every stage, the baseline once in all."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

from dfmsd.report.tables import signed
from dfmsd.study import pages
from dfmsd.study.frame import comparisons
from dfmsd.study.pages import LABELS, name_of
from dfmsd.study.stats import MIN_SEEDS, Estimate

CONTROLS = ("baseline", "longer_baseline", "equal_budget")
"""What DFMSD is set against, as recipes: the baseline with one stage's epochs, then what trains for those of all stages."""

Gains = dict[str, dict[str, Estimate]]
"""DFMSD's paired differences in AP, by pair of student and teachers, to each of :data:`CONTROLS`."""


def gains(scale: str) -> Gains:
    """DFMSD's gains in the pairs of ``params/comparison`` in which it and every control have been run.

    Args:
        scale: The scale.
    """
    found: Gains = {}
    for page in pages.comparisons(scale):
        names = {name_of(row) for row in page.rows()}
        if pages.file_of(page.page).parent.name == "comparison" and names >= {LABELS[control] for control in CONTROLS}:
            by_control = {control: comparisons(page, LABELS[control]) for control in CONTROLS}
            for pair in by_control[CONTROLS[0]]:
                own = {control: gain for control, by_pair in by_control.items() if (gain := by_pair.get(pair)) is not None}
                if len(own) == len(CONTROLS):
                    found[pair] = own
    return found


def sentence(found: Mapping[str, Mapping[str, Estimate]]) -> str:
    """Its gains in words, the means over pairs; empty without a pair.

    Example:
        >>> own = {name: Estimate({0: gain}, gain, None) for name, gain in zip(CONTROLS, (9.0, 1.0, -0.5), strict=True)}
        >>> said = sentence({"FCOS R50 ← GFL X101": own})
        >>> "**+9.0 AP** to the baseline, **+1.0 AP** to the baseline trained as long (above it in 1)" in said
        True
    """
    if not found:
        return ""
    by_control = {control: [own[control].mean for own in found.values()] for control in CONTROLS}
    mean = {control: f"**{signed(fmean(values))} AP**" for control, values in by_control.items()}
    above = {control: f"(above it in {sum(value > 0 for value in values)})" for control, values in by_control.items()}
    few = any(len(one.values) < MIN_SEEDS for own in found.values() for one in own.values())
    pairs = "1 pair" if len(found) == 1 else f"{len(found)} pairs"
    return (
        f"**Length of training.** DFMSD's student is trained once in every stage. Its mean gain, over {pairs}: {mean['baseline']} "
        f"to the baseline, {mean['longer_baseline']} to the baseline trained as long {above['longer_baseline']}, "
        f"{mean['equal_budget']} to DMKD trained as long {above['equal_budget']}{'; no test' * few}."
    )
