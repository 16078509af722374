"""What the papers claim (``params/claims.yaml``)."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict

from dfmsd.errors import StudyError, suggest, validated
from dfmsd.study import pages, params, paths
from dfmsd.study.spec import Frozen


def _side(given: object) -> object:
    """A word alone is a row's name; teachers stand in the frame as one text."""
    if isinstance(given, str):
        return {"row": given}
    if isinstance(given, dict) and isinstance(given.get("teachers"), list):
        return given | {"teachers": " → ".join(given["teachers"])}
    return given


Side = Annotated[dict[str, str | float], BeforeValidator(_side)]
"""Lines of the frame: the value of each column that tells them from others. What a subject leaves out may be anything."""


class Claim(Frozen):
    """A sentence of a paper: something that it says to be larger than others.

    The two sides are paired by seed or, in what was measured, by image; each student with its teachers, and each level, is compared
    for itself. Several lines of one image count as their mean.
    """

    id: str
    paper: Literal["dfmsd", "structural"] = "dfmsd"
    section: str
    text: str
    page: str
    ours: bool = False
    """Whether it is a comparison that the papers lack."""
    subject: Side
    rivals: tuple[Side, ...] | Literal["others"]
    """``others``: every other row of the subject's pair and recipe."""
    metric: str = "AP"
    """Of both sides, unless they name one; ``speed`` is a ratio."""
    over: str | None = None
    """The row of each side's own pair that both are measured from; None: from 0."""
    least: float = 0.0
    """What the difference, or the ratio of speeds, is said to exceed."""
    also: tuple[dict[str, Any], ...] = ()
    """More comparisons that the sentence makes: the fields in which each differs from the first."""
    unit: str = ""
    """What its numbers are, where they are not AP or AR."""
    tested: bool = True
    """Whether images decide: they tell nothing of other trainings, where trainings are compared."""
    at: tuple[Literal["smoke", "mini", "gpu", "coco"], ...] | None = None
    """The scales whose runs can settle it; None: all."""
    says: float | None = None
    """A number that the sentence gives for its first comparison, where the paper's table prints another."""
    prints: float | None = None
    """That other number, where it is not of this comparison."""

    def comparisons(self) -> list[Claim]:
        """The first, and those that the sentence makes besides."""
        first = self.model_dump(exclude={"also"})
        return [
            self,
            *(validated(Claim, f"params/claims.yaml: claim {self.id}", first | change, part="field") for change in self.also),
        ]

    def pages(self) -> set[str]:
        """The pages that its lines are on."""
        found = set()
        for one in self.comparisons():
            rivals = () if one.rivals == "others" else one.rivals
            found |= {str(side.get("page", one.page)) for side in (one.subject, *rivals)}
        return found


class _Section(Frozen):
    """Claims, and beside them the fields that they have in common."""

    model_config = ConfigDict(extra="allow")

    claims: tuple[dict[str, Any], ...]


class _File(Frozen):
    hypotheses: dict[str, Any]
    """For :mod:`dfmsd.study.hypotheses`."""
    sections: tuple[_Section, ...]


@cache
def claims() -> tuple[Claim, ...]:
    """All claims, in the order of the file."""
    found: dict[str, Claim] = {}
    file = validated(_File, "params/claims.yaml", params.read(paths.PARAMS / "claims.yaml"), part="field")
    for section in file.sections:
        for own in section.claims:
            where = f"params/claims.yaml: claim {own.get('id')}"
            claim = validated(Claim, where, (section.model_extra or {}) | own, part="field")
            claim.comparisons()
            if found.setdefault(claim.id, claim) is not claim:
                raise StudyError(f"{where}: two claims have this id: name one otherwise")
            if claim.page not in pages.names():
                raise StudyError(f"{where}: unknown page {claim.page!r}: {suggest(claim.page, pages.names())}")
    return tuple(found.values())
