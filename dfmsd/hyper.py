"""Hyper-parameters of every distillation method, with their sources. No torch here: a plan needs the numbers, not the code.

Each model below belongs to the module of the same name in :mod:`dfmsd.losses`, which takes its fields and holds it. The
defaults are the papers' values for a one-stage student and a one-stage teacher; class variables hold what differs for others.
"""

from __future__ import annotations

from functools import cache, reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from dfmsd.errors import StudyError, suggest, validated

Kind = Literal["one_stage", "two_stage"]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
Hide = Literal["highest", "lowest", "random"]
"""Which attention is hidden; at random, attention plays no part."""
Reduction = Literal["sum", "mean"]
"""Over the channels and positions of a level: with the sum a level four times as large weighs four times as much."""
Distance = Literal["ssim", "l1", "l2"]
Mask = Literal["spatial", "spatial_channel"]
Threshold = Annotated[float | None, Field(gt=0, exclude_if=lambda value: value is None)]


class _Method(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    if TYPE_CHECKING:
        type: str = ""  # each has its own, a literal: its name

    TWO_STAGE: ClassVar[dict[str, Any]] = {}
    """What differs for a two-stage student."""
    TEACHER_TWO_STAGE: ClassVar[dict[str, Any]] = {}
    """What differs for a two-stage teacher."""
    BOTH_TWO_STAGE: ClassVar[dict[str, Any]] = {}
    """What differs for a two-stage student of a two-stage teacher."""
    FAMILIES: ClassVar[dict[str, dict[str, Any]]] = {}
    """What differs for a family of students such as ``fcos``."""
    ANOTHER_TERM: ClassVar[tuple[str, ...]] = ()
    """Fields that make another quantity of a term, so that it has a factor of its own where weights are shares of the detection
    loss. All other fields vary a term whose factor is the one of the paper's values, so that rows that differ in them compare."""
    FACTORS_OF: ClassVar[str] = ""
    """Name of the method whose terms' factors it has, if not its own, so that what two methods have in common has one weight."""

    strides: tuple[int, ...] | None = None
    """Levels that take part, by stride in pixels. None is every stride that both pyramids have."""


LATERAL = {"strides": (4, 8, 16, 32)}
"""The levels that MGD and FGD hook between two-stage networks: all but the pooled one."""


class MSE(_Method):
    """Plain feature distillation, Eq. (1) of DFMSD: the control that every masked method must beat. Its weight is not published."""

    type: Literal["MSE"] = "MSE"
    alpha: Weight = 1.0
    """Weight of the mean squared error."""


class SSIM(_Method):
    """Structural knowledge distillation (arXiv 2211.13133), and the l1 and l2 norms that it is compared with."""

    ANOTHER_TERM = ("distance", "luminance", "contrast", "structure", "adapter")

    type: Literal["SSIM"] = "SSIM"
    alpha: Weight = 4.0
    """The paper's lambda, 2 or 4."""
    distance: Distance = "ssim"
    """How the features, rescaled to the range 1, are compared."""
    luminance: int = Field(default=1, ge=0)
    """Exponent of the luminance; 0 switches it off."""
    contrast: int = Field(default=1, ge=0)
    """Exponent of the contrast; 0 switches it off."""
    structure: int = Field(default=1, ge=0)
    """Exponent of the structure; 0 switches it off."""
    window: int = Field(default=11, ge=1)
    """Side of the Gaussian window in positions, odd."""
    sigma: float = Field(default=1.5, gt=0)
    """Standard deviation of the window in positions."""
    detach_range: bool = False
    """Whether the student's range counts as a constant in the gradient."""
    adapter: bool = False
    """A 1 x 1 convolution on the student's side even where the channels agree."""

    @property
    def comparison(self) -> dict[str, Any]:
        """How two maps are compared, by the names of the loss's arguments."""
        return self.model_dump(exclude={"type", "strides", "alpha", "adapter"})

    @field_validator("window")
    @classmethod
    def _has_a_centre(cls, window: int) -> int:
        if window % 2 == 0:
            raise ValueError("the window has a position in its centre: its side is odd")
        return window

    @model_validator(mode="after")
    def _compares_something(self) -> Self:
        if self.luminance == self.contrast == self.structure == 0:
            raise ValueError("luminance, contrast and structure are all 0, so nothing is compared: switch one on")
        return self


class FKD(_Method):
    """Attention-guided and non-local distillation (Zhang & Ma, ICLR 2021), weights of its released code."""

    TWO_STAGE: ClassVar[dict[str, Any]] = {"tau": 0.5, "alpha": 7e-5, "beta": 4e-3, "mask": "spatial"}

    type: Literal["FKD"] = "FKD"
    tau: float = Field(default=0.1, gt=0)
    """Temperature of the attention maps."""
    alpha: Weight = 4.2e-4
    """Weight of the masked features and of the non-local relation."""
    beta: Weight = 2.4e-2
    """Weight of the channel and of the spatial attention."""
    mask: Mask = "spatial_channel"
    """Which attention weighs the features."""


class FGD(_Method):
    """Focal and global distillation (arXiv 2111.11837), weights of its released configs."""

    TWO_STAGE: ClassVar[dict[str, Any]] = {"alpha": 5e-5, "beta": 2.5e-5, "gamma": 5e-5, "lam": 5e-7}
    BOTH_TWO_STAGE: ClassVar[dict[str, Any]] = LATERAL
    FAMILIES: ClassVar[dict[str, dict[str, Any]]] = {
        "fcos": {"tau": 0.8, "alpha": 1.6e-3, "beta": 8e-4, "gamma": 8e-4, "lam": 8e-6},
        "reppoints": {"alpha": 1.6e-3, "beta": 8e-4, "gamma": 8e-4, "lam": 8e-6},
    }

    type: Literal["FGD"] = "FGD"
    tau: float = Field(default=0.5, gt=0)
    """Temperature of the attention maps."""
    alpha: Weight = 1e-3
    """Weight of the foreground."""
    beta: Weight = 5e-4
    """Weight of the background."""
    gamma: Weight = 5e-4
    """Weight of the attention maps' difference."""
    lam: Weight = 5e-6
    """Weight of the global relation (the paper's lambda)."""


class PKD(_Method):
    """Pearson correlation (arXiv 2207.02039)."""

    TEACHER_TWO_STAGE: ClassVar[dict[str, Any]] = {"alpha": 6.0}

    type: Literal["PKD"] = "PKD"
    alpha: Weight = 10.0
    """Weight of the correlation."""
    levels: int | None = Field(default=4, ge=1)
    """How many of the finest matched levels take part. None is all."""


class CrossKD(_Method):
    """Cross-head predictions (arXiv 2306.11369), for dense heads of the same type."""

    FAMILIES: ClassVar[dict[str, dict[str, Any]]] = {"gfl": {"reg": 4.0}, "fcos": {"layer": 2, "cls": 0.4, "reg": 0.75}}
    ANOTHER_TERM = ("layer",)

    type: Literal["CrossKD"] = "CrossKD"
    layer: int = Field(default=3, ge=1)
    """Convolutions of the student's head before its feature crosses over to the teacher's head."""
    before_activation: bool = False
    """Whether the feature is taken before the last one's ReLU, as the paper has it, or after it, as in the released code."""
    cls: Weight = 1.0
    """Weight of the class scores."""
    reg: Weight = 1.0
    """Weight of the boxes."""
    beta: float = Field(default=1.0, ge=0)
    """Exponent of the difference of the scores."""


class MGD(_Method):
    """Masked generative distillation (arXiv 2205.01529)."""

    TWO_STAGE: ClassVar[dict[str, Any]] = {"alpha": 5e-7, "ratio": 0.45}
    BOTH_TWO_STAGE: ClassVar[dict[str, Any]] = LATERAL

    type: Literal["MGD"] = "MGD"
    alpha: Weight = 2e-5
    """Weight of the reconstruction."""
    ratio: Share = 0.65
    """Share of the positions that is hidden (the paper's lambda)."""


class _Attentive(_Method):
    """What is hidden follows from the teacher's attention. A field at its default is left out of a specification's key."""

    THRESHOLDS: ClassVar[tuple[str, ...]]
    RATIOS: ClassVar[tuple[str, ...]]

    tau: float = Field(default=0.5, gt=0)
    """Temperature of the attention; without effect on what a share hides."""
    hide: Hide = Field(default="highest", exclude_if=lambda value: value == "highest")
    """Whether the highest attention is hidden, the lowest, or a share at random (an ambiguity of the paper)."""

    @property
    def masking(self) -> dict[str, Any]:
        """What decides the masks, by the names of the losses' arguments."""
        return {name: getattr(self, name) for name in ("tau", "hide", *self.RATIOS, *self.THRESHOLDS)}

    @model_validator(mode="after")
    def _random_has_no_threshold(self) -> Self:
        given = [name for name in self.THRESHOLDS if getattr(self, name) is not None]
        if self.hide == "random" and given:
            raise ValueError(f"masks at random have no attention to compare with {', '.join(given)}: leave it out")
        return self


class AMD(_Attentive):
    """Attention-guided masking with one, spatial, branch (arXiv 2301.13538). Its own values are not at hand: as :class:`DMKD`."""

    TWO_STAGE: ClassVar[dict[str, Any]] = {"alpha": 5e-7, "ratio": 0.45}
    BOTH_TWO_STAGE: ClassVar[dict[str, Any]] = LATERAL
    RATIOS = ("ratio",)
    THRESHOLDS = ("threshold",)

    type: Literal["AMD"] = "AMD"
    alpha: Weight = 2e-5
    """Weight of the reconstruction."""
    ratio: Share = 0.65
    """Share of the positions that is hidden."""
    threshold: Threshold = None
    """Hide the positions whose attention is at least this, whatever their share; 1 is the mean."""
    se_ratio: int = Field(default=16, ge=1)
    """Reduction of the squeeze-and-excitation block."""


class DMKD(_Attentive):
    """Dual masking (arXiv 2309.02719). Its own values are not at hand: MGD's weight and ratio, FGD's temperature, SE's usual 16."""

    TWO_STAGE: ClassVar[dict[str, Any]] = {"alpha": 5e-7, "spatial_ratio": 0.45, "channel_ratio": 0.45}
    BOTH_TWO_STAGE: ClassVar[dict[str, Any]] = LATERAL
    RATIOS = ("spatial_ratio", "channel_ratio")
    THRESHOLDS = ("spatial_threshold", "channel_threshold")
    ANOTHER_TERM: ClassVar[tuple[str, ...]] = ("reduction",)
    FACTORS_OF = "dfmsd"

    type: Literal["DMKD"] = "DMKD"
    alpha: Weight = 2e-5
    """Weight of the reconstruction."""
    spatial_ratio: Share = 0.65
    """Share of the positions that is hidden."""
    channel_ratio: Share = 0.65
    """Share of the channels that is hidden."""
    spatial_threshold: Threshold = None
    """Hide the positions whose attention is at least this, whatever their share; 1 is the mean."""
    channel_threshold: Threshold = None
    """The same for channels."""
    reduction: Reduction = Field(default="sum", exclude_if=lambda value: value == "sum")
    """Of the squared errors over channels and positions. With the sum fine levels weigh more (an ambiguity of the paper)."""
    se_ratio: int = Field(default=16, ge=1)
    """Reduction of the squeeze-and-excitation blocks."""


class DFMSD(DMKD):
    """Dual feature masking, one stage of it, with semantic alignment and the loss on enhanced images (arXiv 2407.13147)."""

    TWO_STAGE: ClassVar[dict[str, Any]] = DMKD.TWO_STAGE | {"beta": 2.5e-7}
    TEACHER_TWO_STAGE: ClassVar[dict[str, Any]] = {"sfa": 6.0}
    ANOTHER_TERM = ("reduction", "sfa_inside")

    type: Literal["DFMSD"] = "DFMSD"  # type: ignore[assignment]
    beta: Weight = 1e-5
    """Weight of Eq. (8), the loss on enhanced images; used in stages with masking enhancement only."""
    sfa: Weight = 10.0
    """Weight of Eq. (5), semantic feature alignment; 0 is off. PKD's, which is 6 for a two-stage teacher."""
    sfa_strides: tuple[int, ...] = (8, 16, 32)
    """Levels of Eq. (5), by stride in pixels; those that both pyramids have."""
    sfa_inside: bool = False
    """Standardise inside the reconstruction error instead of adding a term (an ambiguity of the paper)."""
    enhanced_masked: bool = False
    """Compare enhanced images on the teacher's masked elements only (an ambiguity of the paper)."""
    adv: Weight = Field(default=0.0, exclude_if=lambda value: value == 0)
    """Weight of Eq. (8) on adversarial examples; 0 is off."""

    @model_validator(mode="after")
    def _masked_by_attention(self) -> Self:
        if self.enhanced_masked and self.hide == "random":
            raise ValueError("enhanced_masked counts what the teacher's attention hides, and hide is 'random': choose one")
        return self


METHODS: dict[str, type[_Method]] = {
    model.__name__.lower(): model
    for model in list(globals().values())
    if isinstance(model, type) and issubclass(model, _Method) and "type" in model.model_fields
}
"""Every method by its name in a recipe, in the order of this file."""

if TYPE_CHECKING:
    MethodSpec = _Method
else:
    MethodSpec = Annotated[reduce(or_, METHODS.values()), Field(discriminator="type")]
    """Any of them, told by its ``type``."""


@cache
def weights(name: str) -> tuple[str, ...]:
    """The fields of a method that are weights of terms which are on.

    Example:
        >>> weights("dfmsd")
        ('alpha', 'beta', 'sfa')
    """
    model = METHODS[name]
    hints = get_type_hints(model, include_extras=True)
    return tuple(field for field, info in model.model_fields.items() if hints[field] == Weight and info.default)


def for_pair(name: str, student: Kind, teacher: Kind = "one_stage", family: str = "", **changes: Any) -> Any:
    """The specification of a method with its paper's values for a pair of networks, then the changes.

    Args:
        name: A key of :data:`METHODS`, in any case.
        student: The student's kind.
        teacher: The teacher's kind.
        family: The student's family, such as ``fcos``.
        **changes: Hyper-parameters and their values.

    Raises:
        StudyError: for an unknown method or hyper-parameter (the nearest is suggested), or a value out of range.

    Example:
        >>> for_pair("mgd", "two_stage").ratio
        0.45
        >>> for_pair("fgd", "one_stage", family="fcos").tau
        0.8
    """
    if name.lower() not in METHODS:
        known = METHODS if name.islower() else [model.__name__ for model in METHODS.values()]
        raise StudyError(f"unknown method {name!r}: {suggest(name, known)}")
    model = METHODS[name.lower()]
    values = model.TWO_STAGE if student == "two_stage" else {}
    values = values | (model.TEACHER_TWO_STAGE if teacher == "two_stage" else {})
    values = values | (model.BOTH_TWO_STAGE if student == teacher == "two_stage" else {}) | model.FAMILIES.get(family, {})
    return validated(model, model.__name__, values | changes, "hyper-parameter")
