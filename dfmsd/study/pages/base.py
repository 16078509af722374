"""What every page has, and the files that several kinds of pages show."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, Literal

from dfmsd.study import paths
from dfmsd.study.spec import Frozen, RunSpec, TeacherSpec


class Page(Frozen):
    """What every page has: its fields are the keys of its YAML and the parameters of its notebook."""

    listed: ClassVar[bool] = True
    """Whether the tables of pages have a row for it."""

    page: str
    title: str
    question: str
    scale: Literal["smoke", "mini", "gpu", "coco"] = "mini"

    def chains(self) -> list[tuple[RunSpec, ...]]:
        """The chains of runs that the page shows; none unless its kind says otherwise."""
        return []

    def command(self) -> str:
        """What makes what the page shows, as far as it is missing."""
        return f"python -m dfmsd page {self.page} --scale {self.scale}"

    def files(self) -> list[Path]:
        """Published files that the page shows besides the records of its runs."""
        return []


class ObservedPage(Page):
    """A page for which ``python -m dfmsd observe`` keeps a record of what it measured (:mod:`dfmsd.study.measured`)."""

    def runs(self) -> dict[str, RunSpec | TeacherSpec]:
        """The run behind each network that is looked into, by the page's name for it."""
        return {}

    def chains(self) -> list[tuple[RunSpec, ...]]:
        """Those networks that are trained here, each alone."""
        return [(run,) for run in self.runs().values() if isinstance(run, RunSpec)]

    @abstractmethod
    def asked(self) -> str:
        """Hash of all that decides what the record holds."""

    def observation(self) -> Path:
        """Where the record lies once it is made."""
        return paths.records() / "observations" / f"{self.page}-{self.scale}.json"

    def command(self) -> str:
        """What makes the record."""
        return f"python -m dfmsd observe {self.page} --scale {self.scale}"

    def files(self) -> list[Path]:
        """The record, once it is made."""
        return [file] if (file := self.observation()).exists() else []


def observations() -> list[Path]:
    """The records of all observations."""
    return sorted((paths.records() / "observations").glob("*.json"))


def measurements() -> list[Path]:
    """The records of all measurements."""
    return sorted((paths.records() / "bench").glob("*.json"))


def published(runs: Iterable[RunSpec | TeacherSpec]) -> list[Path]:
    """The published records among those of some runs, each once."""
    files = dict.fromkeys(paths.records() / f"{run.key}.json" for run in runs)
    return [file for file in files if file.exists()]
