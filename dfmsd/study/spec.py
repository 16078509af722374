"""What a run is: frozen, typed specifications whose content is their identity.

A :class:`RunSpec` is fully resolved: it holds every number that can change the result and nothing that cannot (no path, label or
caption). Its key is a hash of that content. A run that starts from another run, or learns from one, *contains* that run's
specification, so keys form a Merkle chain: change a teacher's seed and every student of it gets a new key, while a baseline that
four tables share has one key and is trained once.

This module imports no torch: a whole study is planned from here in well under a second.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from dfmsd.hyper import MethodSpec
from dfmsd.stages import Attack, Enhance, Matching

SPEC_VERSION = 1
"""Raised when the meaning of a field changes, so that old records cannot pass for new ones."""


class Frozen(BaseModel):
    """A value: immutable, and closed to fields that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A changed copy; unlike pydantic's, it does not keep what was computed and cached before the change."""
        copy = super().model_copy(update=update, deep=deep)
        for computed in copy.__dict__.keys() - type(self).model_fields.keys():
            del copy.__dict__[computed]
        return copy


def _unlike(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("a seed stands there twice: the same run would count twice")
    return seeds


Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""What NumPy's generators take."""

Seeds = Annotated[tuple[Seed, ...], Field(min_length=1), AfterValidator(_unlike)]


class ShapesData(Frozen):
    """The generated data set: everything that determines its annotations (see :mod:`dfmsd.study.shapes`)."""

    source: Literal["shapes"] = "shapes"
    version: int
    seed: Seed
    train: int = Field(gt=0)
    val: int = Field(gt=0)
    tune: int = Field(ge=0)
    size: int = Field(ge=64)
    """Side of the square images on disk in pixels; COCO's size classes are judged at this size."""


class CocoData(Frozen):
    """COCO 2017, or a user's own data in its format."""

    source: Literal["coco", "own"] = "coco"
    digest: str
    """Hash of the annotation files and the images, or ``absent`` while planning without COCO."""
    train: int | None = Field(default=None, gt=0)
    """Number of training images with an object, from the front; all images if None."""
    val: int | None = Field(default=None, gt=0)
    file: Path | None = Field(default=None, exclude=True)
    """The YAML that says where a user's own data lie: no part of what they are."""


Precision = Literal["float32", "amp"]
"""Mixed precision (``amp``) is a GPU's: without one it is float32, as mmcv's operations know no bfloat16.

The losses of distillation are computed in float32 either way.
"""

DataSpec = Annotated[ShapesData | CocoData, Field(discriminator="source")]


class NetworkSpec(Frozen):
    """A detector: an mmdet config and the changes made to it."""

    name: str
    """Its row in ``dfmsd/study/zoo.yaml``."""
    config: str
    """Path below mmdet's ``configs`` folder."""
    overrides: dict[str, Any]
    """Dotted config keys and their values: the slimming at this scale."""
    kind: Literal["one_stage", "two_stage"]


class Weights(Frozen):
    """A published checkpoint that stands in for a run of ours (mmdet's model zoo)."""

    url: str
    sha256_prefix: str
    ap: float


class ScheduleSpec(Frozen):
    """Linear warm-up and two steps down, at 2/3 and 11/12 of the epochs, as in mmdet's schedules (16 and 22 of 24)."""

    epochs: int = Field(gt=0)
    batch: int = Field(gt=0)
    lr: float = Field(gt=0)
    warmup: int = Field(ge=0)
    """Iterations of linear warm-up."""
    momentum: float = 0.9
    """Of SGD; AdamW has PyTorch's own."""
    weight_decay: float = 1e-4
    clip: float = 35.0
    """Maximum norm of the gradient (mmengine's ``clip_grad``)."""
    optimizer: Literal["SGD", "AdamW"] = Field(default="SGD", exclude_if=lambda value: value == "SGD")
    max_iters: int | None = None
    """Stop after this many iterations, whatever the epochs say: for trying a path out."""


class Balance(Frozen):
    """Loss weights are read as shares of the detection loss: a term's factor is measured before any training, then fixed.

    It is measured on the student's start and one teacher of the pair, with a seed of its own, so that every stage, method and arm
    of a pair names the same and has the same factors. Departure from the papers, for the miniature scales only: their absolute
    weights belong to 256 channels at 800 x 1333 pixels.
    """

    iterations: int = Field(gt=0)
    """Batches of training images, from the front, over which the losses are summed."""
    seed: Seed
    """Of what the student's start leaves random, of the method's blocks and of masks."""
    teacher: RunSpec | TeacherSpec
    """The strongest of the pair."""


class EnhanceSpec(Enhance):
    """Masking enhancement, and the teacher whose boxes decide about it."""

    weak: RunSpec | TeacherSpec
    """The weaker (first-stage) teacher."""


MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""How all networks that begin with a start normalise red, green and blue, as mmdet does for backbones of PyTorch."""


class StartSpec(Frozen):
    """The pretraining of a backbone by telling crops of objects apart (:mod:`dfmsd.study.start`), fully resolved."""

    version: int = SPEC_VERSION
    scale: str
    backbone: dict[str, Any]
    """As mmdet builds it."""
    data: ShapesData
    """A set that nothing evaluates."""
    crop: int = Field(ge=32)
    """Side of the crops in pixels."""
    epochs: int = Field(gt=0)
    batch: int = Field(gt=0)
    lr: float = Field(gt=0)
    """Falls to 0 by half a cosine."""
    warmup: int = Field(ge=0)
    """Iterations of linear warm-up."""
    weight_decay: float = 1e-4
    optimizer: Literal["SGD", "AdamW"] = "SGD"
    """SGD has momentum 0.9."""
    seed: Seed

    @cached_property
    def key(self) -> str:
        """Twelve hex digits: the hash of everything above."""
        return digest(self.flat())

    def flat(self) -> dict[str, Any]:
        """The specification as plain data."""
        return self.model_dump(mode="json")

    @property
    def name(self) -> str:
        """What to call it, such as ``start of a ResNet of width 8``, or ``start of a ResNeXt of width 16, 8x4d``."""
        own = self.backbone
        groups = f", {own['groups']}x{own['base_width']}d" if "groups" in own else ""
        return f"start of a {own['type']} of width {own.get('base_channels', own.get('embed_dims'))}{groups}"

    def needs(self) -> Iterator[StartSpec]:
        """Nothing: a start begins with random weights."""
        yield from ()


class TeacherSpec(Frozen):
    """A teacher taken from mmdet's model zoo instead of a run of ours."""

    network: NetworkSpec
    weights: Weights

    @property
    def name(self) -> str:
        """Of its network."""
        return self.network.name

    @cached_property
    def key(self) -> str:
        """Its identity: network and weights."""
        return digest(self.model_dump(mode="json"))


class StageSpec(Frozen):
    """One stage of distillation."""

    index: int = Field(ge=1)
    teacher: RunSpec | TeacherSpec
    methods: tuple[MethodSpec, ...] = Field(min_length=1)
    matching: Matching = "stride"
    balance: Balance | None = None
    enhance: EnhanceSpec | None = None
    inherit: bool = False
    """Start with the teacher's neck and head (MGD's and FGD's "inheriting strategy")."""
    # What was added after the first records were published counts in the key only where it is used.
    beside: tuple[RunSpec | TeacherSpec, ...] = ()
    """Further teachers at the same time: every term is the mean over all of them."""
    adversarial: Attack | None = Field(default=None, exclude_if=lambda value: value is None)

    @property
    def teachers(self) -> tuple[RunSpec | TeacherSpec, ...]:
        """All teachers of the stage."""
        return (self.teacher, *self.beside)


class RunSpec(Frozen):
    """One training run, fully resolved."""

    version: int = SPEC_VERSION
    scale: str
    network: NetworkSpec
    data: DataSpec
    eval_split: Literal["val", "tune"] = "val"
    image_size: tuple[int, int]
    """Scale of mmdet's ``Resize`` (longest, shortest) in pixels."""
    flip: float = 0.5
    schedule: ScheduleSpec
    precision: Precision = "float32"
    seed: Seed
    weights: Weights | None = None
    """Pretrained backbone or detector to start from; None: from scratch."""
    images: int | None = Field(default=None, gt=0, exclude_if=lambda value: value is None)
    """Labelled images that it learns from, from the front of the data's training images; all of them if None."""
    start: StartSpec | None = Field(default=None, exclude_if=lambda value: value is None)
    """The pretraining of its backbone; None: random weights, or the parent's."""
    stage: StageSpec | None = None
    parent: RunSpec | None = None
    """The run whose student this one goes on with."""

    @model_validator(mode="after")
    def _check(self) -> RunSpec:
        if self.parent is not None:
            if self.stage is None:
                raise ValueError("a run with a parent is a stage of distillation: it needs a teacher and a method")
            before = self.parent.stage.index if self.parent.stage else 0
            if self.stage.index != before + 1:
                raise ValueError(f"stage {self.stage.index} cannot follow stage {before}: stages go 1, 2, 3, ...")
            if self.parent.network != self.network:
                raise ValueError(f"the parent trained {self.parent.network.name}, not {self.network.name}")
            if self.start is not None:
                raise ValueError("a run with a parent begins with the parent's weights: it has no start of its own")
        elif self.stage is not None and self.stage.index != 1:
            raise ValueError(f"stage {self.stage.index} has no parent: only stage 1 starts afresh")
        if self.images is not None and self.data.train is not None and self.images > self.data.train:
            raise ValueError(f"{self.images} labelled images were asked for, but the data have {self.data.train}")
        return self

    @cached_property
    def key(self) -> str:
        """Twelve hex digits: the hash of everything above, with runs it contains replaced by their keys."""
        return digest(self.flat())

    @property
    def name(self) -> str:
        """Of its network."""
        return self.network.name

    def flat(self) -> dict[str, Any]:
        """The specification as plain data, with the runs it contains replaced by their keys."""
        plain = self.model_dump(mode="json", exclude={"parent", "stage", "start"})
        if self.start is not None:
            plain["start"] = self.start.key
        plain["parent"] = self.parent.key if self.parent else None
        plain["stage"] = None
        if self.stage is not None:
            stage = self.stage.model_dump(mode="json", exclude={"teacher", "enhance", "beside", "balance"})
            stage["teacher"] = self.stage.teacher.key
            stage["balance"] = None
            if self.stage.balance is not None:
                balance = self.stage.balance.model_dump(mode="json", exclude={"teacher"})
                stage["balance"] = balance | {"teacher": self.stage.balance.teacher.key}
            if self.stage.beside:
                stage["beside"] = [teacher.key for teacher in self.stage.beside]
            stage["enhance"] = None
            if self.stage.enhance is not None:
                enhance = self.stage.enhance.model_dump(mode="json", exclude={"weak"})
                stage["enhance"] = enhance | {"weak": self.stage.enhance.weak.key}
            plain["stage"] = stage
        return plain

    def needs(self) -> Iterator[Run]:
        """The runs whose weights this run starts from, learns from or is weighed by."""
        if self.start is not None:
            yield self.start
        if self.parent is not None:
            yield self.parent
        if self.stage is not None:
            yield from (teacher for teacher in self.stage.teachers if isinstance(teacher, RunSpec))
            if self.stage.enhance is not None and isinstance(self.stage.enhance.weak, RunSpec):
                yield self.stage.enhance.weak
            if self.stage.balance is not None and isinstance(self.stage.balance.teacher, RunSpec):
                yield self.stage.balance.teacher


Run = RunSpec | StartSpec
"""What is trained once, under its key."""


def canonical(plain: Any) -> str:
    """Plain data as JSON that is the same for equal data."""
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(plain: Any) -> str:
    """Twelve hex digits that identify plain data."""
    return hashlib.sha256(canonical(plain).encode()).hexdigest()[:12]


for _model in (Balance, EnhanceSpec, StageSpec, RunSpec):
    _model.model_rebuild()
