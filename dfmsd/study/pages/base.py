"""What every page has, whatever it shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, field_validator

from dfmsd.study.spec import Frozen, Run


def _without_html(title: str) -> str:
    if set(title) & set("<>"):
        raise ValueError("a title is in places where a theme takes it for HTML: leave out < and >")
    return title


class Page(Frozen):
    """What every page has: its fields are the keys of its YAML and the parameters of its notebook."""

    AS_TOY: ClassVar[bool] = False
    """Whether the book executes it at the scale smoke: for minutes it would train what no record holds."""

    page: str
    title: Annotated[str, AfterValidator(_without_html)]
    question: str
    scale: Literal["smoke", "mini", "gpu", "coco"] = "mini"

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth(cls, value: object) -> object:
        if isinstance(value, bool):
            raise ValueError("true and false are no numbers here")
        return value

    def chains(self) -> Sequence[tuple[Run, ...]]:
        """The chains of runs that the page shows; none unless its kind says otherwise."""
        return []

    def sources(self) -> Sequence[Page]:
        """The pages whose numbers it shows: its own, unless it is about others."""
        return [self]

    def command(self) -> str:
        """What makes what the page shows, as far as it is missing."""
        return making(self)


def making(*shown: Page) -> str:
    """The command that makes what some pages of one scale show, and no more, as far as it is missing."""
    return f"python -m dfmsd page {' '.join(page.page for page in shown)} --scale {shown[0].scale}"


class Pair(Frozen):
    """A student and its teachers, from weak to strong."""

    student: str
    teachers: tuple[str, ...] = Field(min_length=1)
