"""Pages that look into trained networks, from a record of what was read off them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from dfmsd.errors import StudyError, suggest
from dfmsd.study import pages, scales, zoo
from dfmsd.study.pages.base import Page
from dfmsd.study.pages.measured import MeasuredPage, Network
from dfmsd.study.rows import Options, Row, chain, teacher_of
from dfmsd.study.spec import Frozen, RunSpec, Seed, digest

Stride = Literal[4, 8, 16, 32, 64, 128]
"""Of a level that some network of the zoo has, in pixels."""


class Look(Frozen):
    """A network to look into: the student of a row, after its last stage or an earlier one, or a teacher."""

    name: str
    """What the page calls it."""
    network: str
    """Of the zoo."""
    teaches: bool = False
    """It is the run that teaches others; nothing else is to be said of it."""
    like: str | None = None
    """The name of a network that it is compared with besides the page's teacher."""
    teachers: tuple[str, ...] = ()
    recipe: str = "baseline"
    options: Options = Options()
    stage: int | None = Field(default=None, ge=1)
    """None: the last."""
    seed: Seed | None = None
    """None: the scale's first."""

    def run(self, scale: scales.Scale) -> Network:
        """The run whose network it is, or the published teacher."""
        return teacher_of(self.network, scale) if self.teaches else self.chain(scale)[-1]

    def chain(self, scale: scales.Scale) -> tuple[RunSpec, ...]:
        """The chain of runs that ends in the network; none for a published teacher.

        Raises:
            StudyError: if the recipe has no such stage, or a teacher has a recipe.
        """
        if self.teaches:
            if given := sorted(self.model_fields_set - {"name", "network", "teaches", "like"}):
                raise StudyError(f"{self.name!r} is a teacher: it has no {given[0]}")
            teacher = teacher_of(self.network, scale)
            return (teacher,) if isinstance(teacher, RunSpec) else ()
        row = Row(student=self.network, teachers=self.teachers, recipe=self.recipe, options=self.options)
        runs = chain(row, scale, scale.seeds[0] if self.seed is None else self.seed)
        if self.stage is not None and self.stage > len(runs):
            raise StudyError(f"{self.name!r}: stage = {self.stage}, but {self.recipe} has {len(runs)} here")
        return runs[: self.stage]


class FeaturesPage(MeasuredPage):
    """A look into trained networks, from a record of what was read off them (:mod:`dfmsd.study.measured`)."""

    TEACHER: ClassVar[str] = "teacher"
    """What the page calls the teacher."""

    view: Literal["masks", "stages", "distribution"]
    """What is drawn: where features are large and what masks hide of it, the same beside the teacher's, or distributions."""
    networks: tuple[Look, ...] = Field(min_length=1)
    teacher: str | None = None
    """A network of the zoo that all are compared with; None: each is compared with each."""
    claim: str
    """What the paper says of its figure, as MyST Markdown."""
    stride: Stride = 8
    """Of the level that is drawn."""
    images: int = Field(default=200, gt=0, le=100_000)
    """Validation images over which numbers are taken, from the first on."""
    shown: int = Field(default=3, gt=0, le=50)
    """Images that are drawn: the first ones that have an object of each of COCO's sizes."""

    @model_validator(mode="after")
    def _check(self) -> FeaturesPage:
        names = [look.name for look in self.networks] + [self.TEACHER] * (self.teacher is not None)
        if len(set(names)) < len(names):
            raise StudyError(f"page {self.page!r}: two networks have one name: {', '.join(names)}")
        if len(names) < 2:
            raise StudyError(f"page {self.page!r}: a comparison needs two networks, or one and a teacher")
        for look in self.networks:
            look.chain(scales.get(self.scale))
            if look.like is not None and look.like not in set(names) - {look.name}:
                raise StudyError(f"page {self.page!r}: {look.name!r} is like {look.like!r}: {suggest(look.like, names)}")
        if self.teacher is not None:
            zoo.label(self.teacher)
        return self

    def runs(self) -> dict[str, Network]:
        """The run behind each network, by the page's name for it; the teacher comes last."""
        scale = scales.get(self.scale)
        found = {look.name: look.run(scale) for look in self.networks}
        return found | ({} if self.teacher is None else {self.TEACHER: teacher_of(self.teacher, scale)})

    def pairs(self) -> list[tuple[str, str]]:
        """Which networks are compared: each with the teacher and with what it is like, or each with each."""
        names = [look.name for look in self.networks]
        if self.teacher is None:
            return list(combinations(names, 2))
        likes = [(look.name, look.like) for look in self.networks if look.like is not None]
        return [*((name, self.TEACHER) for name in names), *likes]

    def chains(self) -> list[tuple[RunSpec, ...]]:
        """The chains of runs that end in the networks."""
        scale = scales.get(self.scale)
        teacher = self.runs().get(self.TEACHER)
        chains = [*(look.chain(scale) for look in self.networks), (teacher,) if isinstance(teacher, RunSpec) else ()]
        return [runs for runs in chains if runs]

    def asked(self) -> str:
        """Hash of all that decides what the record holds."""
        return digest([self.keys(), self.pairs(), self.stride, self.images, self.shown])


class EnhancementPage(MeasuredPage):
    """What a teacher attends to in changed versions of images (:mod:`dfmsd.report.enhancement`)."""

    view: Literal["frequencies", "augmentation"]
    """The versions: low and high frequencies as both teachers see them, or Eq. (4)'s changes as the strong one does."""
    weak: str = "retinanet_r101"
    """The teacher whose boxes decide which objects dominate an image."""
    strong: str = "retinanet_x101"
    """The teacher of the last stage."""
    images: int = Field(default=100, gt=0, le=100_000)
    """Validation images over which numbers are taken, from the first on."""
    stride: Stride = 8
    """Of the level to look at."""
    cycles: float = Field(default=1.0, gt=0, le=32)
    """As on the page of spectra."""
    options: Options = Options()
    """What Eq. (4) leaves open: theta, score, sigma, crop; the rest is not used."""

    @property
    def teachers(self) -> tuple[str, ...]:
        """Both: the weak one decides what dominates an image, and the strong one's attention is compared with its, or shown."""
        return (self.weak, self.strong)

    def runs(self) -> dict[str, Network]:
        """The teachers' runs, by their names in the zoo."""
        scale = scales.get(self.scale)
        return {name: teacher_of(name, scale) for name in self.teachers}

    def asked(self) -> str:
        """Hash of all that decides what the record holds."""
        options = self.options.model_dump(mode="json", include={"theta", "score", "sigma", "crop"})
        return digest([self.keys(), self.view, self.images, self.stride, self.cycles, options])


class MethodsPage(MeasuredPage):
    """All methods side by side (:mod:`dfmsd.report.methods`): what they need, cost, and look at in one image."""

    student: str = "retinanet_r50"
    """With the teacher it is a pair that every method can work on."""
    teacher: str = "retinanet_r101"
    image: int = Field(default=3, ge=0, le=100_000)
    """Of the validation images."""
    stride: Stride = 8
    """Of the level to look at."""

    def runs(self) -> dict[str, Network]:
        """The two networks, each trained alone."""
        scale = scales.get(self.scale)
        (alone,) = chain(Row(student=self.student, teachers=(), recipe="baseline"), scale, scale.seeds[0])
        return {"student": alone, "teacher": teacher_of(self.teacher, scale)}

    def asked(self) -> str:
        """Hash of all that decides what the record holds."""
        return digest([self.keys(), self.image, self.stride])

    def sources(self) -> Sequence[Page]:
        """Itself, and what the losses cost."""
        return [self, pages.get("losses", scale=self.scale)]
