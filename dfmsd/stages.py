"""The order of things: which teacher teaches in which stage, and which stage has masking enhancement.

The rule stands here and nowhere else. The study makes its runs by it (:mod:`dfmsd.study.rows`), and :func:`configs` makes the chain
of mmdet configs for a detector, data and teachers of your own.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from dfmsd.errors import StudyError, suggest, validated
from dfmsd.hyper import Kind, for_pair

if TYPE_CHECKING:
    from mmengine.config import Config

GROUND_TRUTH = "ground truth"
"""In place of a file of area ratios: the boxes of the training data decide."""

REGISTERS = "dfmsd.distiller"
"""The module whose import puts the distiller and the methods into mmdet's registry."""


def _ordered(sides: tuple[float, float]) -> tuple[float, float]:
    if sides[0] > sides[1]:
        raise ValueError(f"the smallest side {sides[0]} is larger than the largest, {sides[1]}: swap them")
    return sides


Matching = Literal["stride", "index"]
Side = Annotated[float, Field(gt=0, le=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class Enhance(_Frozen):
    """Masking enhancement (ME), Eq. (4): noise for images dominated by small objects, a crop for the others."""

    theta: Share = 0.5
    """Share of the image that objects cover; below it, small objects dominate."""
    score: Share = 0.3
    """Boxes of the weak teacher count from this score on. 0.3 is mmdet's threshold for showing a box; the paper gives none."""
    sigma: float = Field(default=0.08, ge=0)
    """Standard deviation of the noise, in units of the full pixel range. 20.4 of 255: severity 1 of IKD."""
    noise_probability: Share = 0.3
    """Probability of the noise; otherwise the image stays as it is."""
    crop: Annotated[tuple[Side, Side], AfterValidator(_ordered)] = (0.8, 1.0)
    """Smallest and largest side of the crop relative to the image's, drawn for height and width each for itself (IKD's
    ``relative_range``)."""


class Attack(_Frozen):
    """Adversarial examples against the teacher (:func:`dfmsd.augment.di2_fgsm`) as further changed images; IKD's values."""

    epsilon: Share = 8 / 255
    """Largest change of a value, in units of the image's range."""
    step: Share = 2 / 255
    """Change of a value in one step, likewise."""
    steps: int = Field(default=5, gt=0)
    decay: float = Field(default=1.0, ge=0)
    """Factor on the momentum in each step."""
    resize: Side = 0.9
    """Smallest side that diversity shrinks an image to, relative to its own."""
    diversity: Share = 0.5
    """Probability of shrinking in a step."""


class Switches(Enhance):
    """DFMSD's parts, each of which can be switched off, and what Eq. (4) leaves open."""

    sal: bool = True
    """Stage-wise adaptation: each stage has a teacher of its own; off: the strongest teacher teaches in every stage."""
    me: Literal["last", "first", "all", "none"] = "last"
    """The stages with masking enhancement."""
    sfa: bool = True
    """Semantic feature alignment."""
    matching: Matching = "stride"
    """How levels of two pyramids are matched (:func:`dfmsd.levels.match`)."""
    inherit: bool = False
    """Start with the first teacher's neck and head."""
    epochs: Literal["shared", "each"] = "shared"
    """Whether the stages of a chain share the epochs, or each has all of them. The paper gives 24 epochs and does not say which;
    stages that share them train as long as a method of one stage, so that the two can be compared."""
    adversarial: bool = False
    """Adversarial examples in the last stage, beside or instead of masking enhancement, with the weight beta."""


class Stage(_Frozen):
    """One stage of a chain. It starts from the student of the stage before with fresh blocks, optimiser and schedule."""

    index: int = Field(ge=1)
    teacher: int = Field(ge=0)
    """The teacher's place in the list from weak to strong, from 0. Masking enhancement goes by the boxes of the weakest."""
    enhance: Enhance | None = None
    adversarial: Attack | None = None
    sfa: bool = True
    inherit: bool = False
    matching: Matching = "stride"
    share: float = Field(default=1.0, gt=0, le=1)
    """Of the epochs that a run of one stage has."""

    def method(
        self, name: str, student: Kind, teacher: Kind, family: str, changes: Mapping[str, Any], times: Mapping[str, float]
    ) -> Any:
        """A method's numbers in this stage: the paper's for the pair, then the changes, then what the stage asks for.

        Args:
            name: The method's.
            student: The student's kind.
            teacher: The teacher's kind.
            family: The student's family.
            changes: Hyper-parameters and their values.
            times: Factors on weights.

        Raises:
            StudyError: for an unknown method, hyper-parameter or weight, or a value out of range.
        """
        changes, times = dict(changes), dict(times)
        if name == "dfmsd" and not self.sfa:
            changes["sfa"] = 0.0
        if name == "dfmsd" and self.enhance is None and self.adversarial is None:
            # Without changed images these decide nothing: chains that differ in them alone share their first stage.
            times.pop("beta", None)
            changes.pop("enhanced_masked", None)
        method = for_pair(name, student, teacher, family, **changes)
        known = type(method).model_fields
        if unknown := sorted(set(times) - set(known)):
            raise StudyError(f"{method.type} has no weight {unknown[0]!r} to multiply: {suggest(unknown[0], known)}")
        method = method.model_copy(update={weight: factor * getattr(method, weight) for weight, factor in times.items()})
        return method if self.adversarial is None else method.model_copy(update={"adv": method.beta})


def stages(teachers: int, method: str = "dfmsd", switches: Switches | None = None) -> tuple[Stage, ...]:
    """The stages by which a method distils teachers into one student.

    DFMSD has a stage for each teacher, from weak to strong, and without SAL as many stages, all by the strongest. Any other method
    has one stage, by the strongest.

    Args:
        teachers: How many there are. Those that teach at the same time count as one.
        method: Its name; what is no single method of :mod:`dfmsd.hyper` has one stage.
        switches: Which of DFMSD's parts are on.

    Example:
        >>> [(stage.teacher, stage.enhance is not None) for stage in stages(2)]
        [(0, False), (1, True)]
        >>> [stage.teacher for stage in stages(2, switches=Switches(sal=False))]
        [1, 1]
        >>> [stage.teacher for stage in stages(2, "mgd")]
        [1]
    """
    switches = switches or Switches()
    whole = method == "dfmsd"
    places = [place if switches.sal else teachers - 1 for place in range(teachers)] if whole else [teachers - 1]
    enhance = Enhance(**{name: getattr(switches, name) for name in Enhance.model_fields})
    made = []
    for index, place in enumerate(places, start=1):
        first, last = index == 1, index == len(places)
        enhanced = {"last": last, "first": first, "all": True, "none": False}[switches.me]
        made.append(
            Stage(
                index=index,
                teacher=place,
                enhance=enhance if whole and enhanced else None,
                adversarial=Attack() if whole and switches.adversarial and last else None,
                sfa=switches.sfa,
                inherit=switches.inherit and first,
                matching=switches.matching,
                share=1 / len(places) if switches.epochs == "shared" else 1,
            )
        )
    return tuple(made)


def kind_of(model: Mapping[str, Any]) -> Kind:
    """Whether a detector, given by its ``model`` dict, has one stage or two."""
    return "two_stage" if "roi_head" in model else "one_stage"


def family_of(model: Mapping[str, Any]) -> str:
    """The family by which :mod:`dfmsd.hyper` knows a detector: its class's name, which mmdet does not always end in Detector.

    Example:
        >>> family_of({"type": "mmdet.RepPointsDetector"})
        'reppoints'
    """
    name = model["type"] if isinstance(model["type"], str) else model["type"].__name__
    return str(name).rpartition(".")[2].lower().removesuffix("detector")


Teacher = tuple[Any, str | Path]
"""An mmdet config as :func:`dfmsd.configs.read` takes it, and the checkpoint of its weights, a file or an address."""


def configs(
    config: Config | str | Path,
    teachers: Sequence[Teacher | list[Teacher]],
    *,
    work_dir: str | Path,
    method: str | Mapping[str, Any] = "dfmsd",
    ratios: str | Path | None = None,
    factors: Mapping[str, float] | None = None,
    **switches: Any,
) -> list[Config]:
    """The chain of mmdet configs that distil teachers into a detector of your own, one a stage, to be trained in this order.

    Each is the detector's config with the :class:`~dfmsd.distiller.Distiller` for its model. It writes to ``stage1``, ``stage2``
    and so on, and starts from the last checkpoint of the stage before. Train them by mmengine's ``Runner``, or write them by
    ``dump`` and use mmdet's ``tools/train.py``.

    Args:
        config: The student's whole config. Its ``load_from`` is what the first stage starts from.
        teachers: Configs and checkpoints, from weak to strong; a list in the place of one are teachers at the same time, all of
            one kind.
        work_dir: The folder for the stages' own.
        method: A method's name, or its dict: ``dict(type="DFMSD", alpha=...)``.
        ratios: For masking enhancement: a JSON file of :func:`dfmsd.augment.area_ratios` by the weakest teacher over the training
            images, or ``"ground truth"``.
        factors: See :class:`~dfmsd.distiller.Distiller`; the same in every stage.
        **switches: Fields of :class:`Switches`. Stages that share the epochs have schedules shortened likewise, but for a warm-up
            counted in iterations.

    Raises:
        StudyError: for a teacher without weights, an unknown option, no ratios, or a length of training that is not known.

    Example:
        ::

            chain = stages.configs("retinanet.py", [("weak.py", "weak.pth"), ("strong.py", "strong.pth")],
                                   work_dir="work", ratios="ratios.json")
            for stage in chain:
                Runner.from_cfg(stage).train()
    """
    from mmengine.utils import import_modules_from_strings

    from dfmsd.configs import network, read

    import_modules_from_strings(REGISTERS)  # a config that is read from a file does this by its custom_imports

    numbers = {"type": method} if isinstance(method, str) else dict(method)
    name = str(numbers.pop("type", "")).lower()
    groups: list[Any] = [group if isinstance(group[0], (list, tuple)) else [group] for group in teachers]
    if not groups:
        raise StudyError("the list of teachers is empty: name at least one, from weak to strong")
    chain = stages(len(groups), name, validated(Switches, "a chain of stages", switches))
    if any(stage.enhance for stage in chain) and ratios != GROUND_TRUTH and not (ratios and Path(ratios).is_file()):
        given = f"there is no {ratios}" if ratios else "none are given"
        raise StudyError(
            f"masking enhancement needs ratios, and {given}: give the file of augment.area_ratios by the weakest teacher, or "
            f"{GROUND_TRUTH!r}; me='none' switches it off"
        )
    plain = read(config)
    student = network(plain, "student")
    made: list[Config] = []
    for stage in chain:
        one = copy.deepcopy(plain)
        taught_by = [read(given) for given, _ in groups[stage.teacher]]
        models = [network(whole, "teacher") for whole in taught_by]
        if len(kinds := {kind_of(model) for model in models}) > 1:
            raise StudyError("teachers of one and of two stages cannot teach at the same time: a method's values differ for them")
        enhance = None
        if stage.enhance is not None:
            enhance = stage.enhance.model_dump() | {"ratios": None if ratios == GROUND_TRUTH else str(ratios)}
        method_spec = stage.method(name, kind_of(student), kinds.pop(), family_of(student), numbers, {})
        one.model = {
            "type": "Distiller",
            "student": student,
            "teacher": models,
            "methods": [method_spec.model_dump()],
            "teacher_checkpoint": [_checked(checkpoint) for _, checkpoint in groups[stage.teacher]],
            "student_checkpoint": _last_checkpoint(made[-1]) if made else plain.get("load_from"),
            "matching": stage.matching,
            "factors": factors,
            "enhance": enhance,
            "adversarial": stage.adversarial and stage.adversarial.model_dump(),
            "inherit": stage.inherit,
            "backbone": {},  # mmdet's init_detector looks into it
        }
        imports = dict.fromkeys(module for whole in (plain, *taught_by) for module in _imports(whole)) | {REGISTERS: None}
        one.custom_imports = dict(plain.get("custom_imports") or {}) | {"imports": list(imports)}
        one.default_scope = plain.get("default_scope", "mmdet")
        one.work_dir = str(Path(work_dir) / f"stage{stage.index}")
        one.load_from = None
        _shorten(one, stage.share)
        made.append(one)
    return made


def _imports(config: Config) -> list[str]:
    found = (config.get("custom_imports") or {}).get("imports") or []
    return [found] if isinstance(found, str) else list(found)


def _checked(checkpoint: str | Path) -> str:
    if "://" not in str(checkpoint) and not Path(checkpoint).is_file():
        raise StudyError(f"the teacher has no weights: checkpoint {checkpoint} does not exist")
    return str(checkpoint)


def _unit(config: Config) -> str:
    for unit in ("max_epochs", "max_iters"):
        if unit in (config.get("train_cfg") or {}):
            return unit
    raise StudyError("the config has no train_cfg with max_epochs or max_iters: how long a stage trains is not known")


def _shorten(config: Config, share: float) -> None:
    """Train for a share of the config's epochs, with the same schedule in small."""
    unit = _unit(config)
    if share == 1:
        return
    config.train_cfg[unit] = max(1, round(share * config.train_cfg[unit]))
    schedulers = config.get("param_scheduler") or []
    for scheduler in schedulers if isinstance(schedulers, (list, tuple)) else [schedulers]:
        if scheduler.get("by_epoch", True) == (unit == "max_epochs"):
            for name in {"begin", "end", "T_max", "total_iters", "step_size"} & set(scheduler):
                scheduler[name] = round(share * scheduler[name])
            if "milestones" in scheduler:
                scheduler["milestones"] = [max(1, round(share * milestone)) for milestone in scheduler["milestones"]]


def _last_checkpoint(config: Config) -> str:
    """The file that a stage's training ends with, by the name that mmengine's CheckpointHook gives it."""
    unit = _unit(config)
    by_epoch = ((config.get("default_hooks") or {}).get("checkpoint") or {}).get("by_epoch", True)
    if by_epoch != (unit == "max_epochs"):
        raise StudyError(
            f"default_hooks.checkpoint has by_epoch={by_epoch} and train_cfg {unit}: let both count the same, so that the last "
            "checkpoint's name is known"
        )
    return str(Path(config.work_dir) / f"{'epoch' if by_epoch else 'iter'}_{config.train_cfg[unit]}.pth")
