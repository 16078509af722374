"""Hyper-parameters of every distillation method, with their sources. No torch here: a plan needs the numbers, not the code.

Each model below belongs to the module of the same name in :mod:`dfmsd.losses`, whose constructor takes exactly these fields. The
defaults are the papers' values for a one-stage student; ``TWO_STAGE`` holds what differs for a two-stage one.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal["one_stage", "two_stage"]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]


class _Method(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    TWO_STAGE: ClassVar[dict[str, Any]] = {}

    strides: tuple[int, ...] | None = None
    """Levels that take part, by stride in pixels; None: every stride that both pyramids have."""


class MGD(_Method):
    """Masked generative distillation (arXiv 2205.01529)."""

    TWO_STAGE: ClassVar[dict[str, Any]] = {"alpha": 5e-7, "ratio": 0.45}

    type: Literal["MGD"] = "MGD"
    alpha: Weight = 2e-5
    ratio: Share = 0.65
    """Share of the positions that is hidden (the paper's lambda)."""


class DMKD(_Method):
    """Dual masking (arXiv 2309.02719). Its own values are not public: MGD's weight and ratio, FGD's temperature."""

    TWO_STAGE: ClassVar[dict[str, Any]] = {"alpha": 5e-7, "spatial_ratio": 0.45, "channel_ratio": 0.45}

    type: Literal["DMKD"] = "DMKD"
    alpha: Weight = 2e-5
    tau: float = Field(default=0.5, gt=0)
    """Temperature of both attention maps."""
    spatial_ratio: Share = 0.65
    """Share of the positions that is hidden: those of highest attention."""
    channel_ratio: Share = 0.65
    """Share of the channels that is hidden, likewise."""
    se_ratio: int = Field(default=16, ge=1)
    """Reduction of the squeeze-and-excitation blocks."""


class DFMSD(DMKD):
    """Dual feature masking, one stage of it, with semantic alignment and the loss on enhanced images (arXiv 2407.13147)."""

    TWO_STAGE: ClassVar[dict[str, Any]] = DMKD.TWO_STAGE | {"beta": 2.5e-7}

    type: Literal["DFMSD"] = "DFMSD"  # type: ignore[assignment]
    beta: Weight = 1e-5
    """Weight of Eq. (8), the loss on enhanced images; used in stages with masking enhancement only."""
    sfa: Weight = 10.0
    """Weight of Eq. (5), semantic feature alignment; 0 is off. PKD's: 10 for a one-stage teacher, 6 for a two-stage one."""
    sfa_strides: tuple[int, ...] = (8, 16, 32)
    sfa_inside: bool = False
    """Standardise inside the reconstruction error instead of adding a term (an ambiguity of the paper)."""
    enhanced_masked: bool = False
    """Compare enhanced images on the teacher's masked elements only (an ambiguity of the paper)."""


MethodSpec = Annotated[MGD | DMKD | DFMSD, Field(discriminator="type")]

METHODS: dict[str, type[_Method]] = {"mgd": MGD, "dmkd": DMKD, "dfmsd": DFMSD}


def for_student(name: str, student: Kind, **changes: Any) -> Any:
    """The specification of a method with the paper's values for this kind of student, then the changes.

    Example:
        >>> for_student("mgd", "two_stage").ratio
        0.45
    """
    model = METHODS[name]
    return model(**((model.TWO_STAGE if student == "two_stage" else {}) | changes))
