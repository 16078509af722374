"""The detector that learns from others: student, hidden frozen teachers, and methods."""

from __future__ import annotations

import copy
import inspect
import io
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS
from mmengine.model import BaseModel
from torch import Tensor, nn

from dfmsd import checkpoints, configs, losses, stages
from dfmsd.augment import di2_fgsm
from dfmsd.errors import StudyError, suggest, validated
from dfmsd.hyper import METHODS, for_pair
from dfmsd.levels import Level, match, pyramid, resized
from dfmsd.losses import Levels, Method
from dfmsd.losses.base import CHANGED
from dfmsd.preprocess import DistillPreprocessor, Enhancement, View
from dfmsd.stages import Matching

with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
    # This first import shows no notices about optional packages that nobody here uses (OneDL, faster_coco_eval).
    warnings.simplefilter("ignore")
    import mmdet.datasets
    import mmdet.evaluation  # noqa: F401

Network = dict[str, Any] | str
"""A detector's ``model`` dict, or the path of an mmdet config that has one (``mmdet::`` names those that mmdet ships)."""

Files = str | Path | Sequence[str | Path]

for _model in METHODS.values():
    MODELS.register_module(module=getattr(losses, _model.__name__))


@MODELS.register_module()
class Distiller(BaseDetector):
    """Train a student with its own losses plus those of distillation methods; for all else it is that student.

    It has the student's parts under the student's names (``backbone``, ``neck``, ``bbox_head``, ...), so that hooks and optimizer
    constructors find them and its checkpoint is a checkpoint of the student. What the methods learn is in ``distill``, and what
    else is asked of it is the student's answer. The student's features are caught when its own loss asks for them, so they are
    computed once. A teacher runs backbone and neck without gradients, in eval mode whatever happens, on images normalised its own
    way; it appears neither in ``parameters()`` nor in ``state_dict()``, yet follows every move to a device or dtype.

    Args:
        student: The student's config.
        teacher: The teacher's config, or a list of several: each has its own alignment and generation blocks, and every term is
            the mean over the teachers.
        methods: Configs of :class:`~dfmsd.losses.base.Method` subclasses, such as ``dict(type="DMKD")``; what is left out takes
            the paper's value for this pair (:mod:`dfmsd.hyper`). The terms of several methods add up.
        teacher_checkpoint: The teacher's weights, a file or an address; as many as there are teachers.
        student_checkpoint: Weights to start the student from; None: its own initialisation.
        matching: How levels of the two pyramids are matched, see :func:`dfmsd.levels.match`.
        factors: A number for each term, by the loss's name, that multiplies it besides its weight: those of
            :func:`dfmsd.balance.factors` make the weights shares of the detection loss. None: the weights alone.
        enhance: Masking enhancement, see :class:`~dfmsd.preprocess.DistillPreprocessor`.
        adversarial: Adversarial examples against the teachers: an :class:`dfmsd.stages.Attack`, or its dict.
        inherit: Start with the (first) teacher's neck and head.
        remember: Keep the teachers' features of every training image, and of its flip, in memory: each is computed once. Only for
            images that come back as they were, or flipped: not where the pipeline crops, resizes or recolours them at random.
        data_preprocessor: Not used, as each network has its own; mmengine gives one if the config has it outside of ``model``.
        init_cfg: The student's, instead of its own.
        **left: None; what a config inherits from its student's and has not deleted is refused.

    Raises:
        StudyError: if a teacher has no checkpoint or it does not fit, a method or an option makes no sense, or two pyramids have no
            level in common.

    Example:
        In an mmdet config::

            custom_imports = dict(imports=["dfmsd.distiller"])
            model = dict(
                type="Distiller",
                student="mmdet::retinanet/retinanet_r50_fpn_1x_coco.py",
                teacher="mmdet::retinanet/retinanet_r101_fpn_2x_coco.py",
                teacher_checkpoint="retinanet_r101.pth",
                methods=[dict(type="DMKD")],
            )
    """

    data_preprocessor: DistillPreprocessor
    student: BaseDetector
    teachers: tuple[BaseDetector, ...]
    distill: nn.ModuleList

    def __init__(
        self,
        student: Network | None = None,
        teacher: Network | Sequence[Network] | None = None,
        methods: Sequence[Mapping[str, Any]] = (),
        teacher_checkpoint: Files | None = None,
        student_checkpoint: str | Path | None = None,
        matching: Matching = "stride",
        factors: Mapping[str, float] | None = None,
        enhance: Enhancement | Mapping[str, Any] | None = None,
        adversarial: stages.Attack | Mapping[str, Any] | None = None,
        inherit: bool = False,
        remember: bool = False,
        data_preprocessor: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | None = None,
        **left: Any,
    ) -> None:
        _check_names({name: value for name, value in left.items() if value or name != "backbone"})
        _check_methods(methods)
        networks: list[Any] = list(teacher) if isinstance(teacher, (list, tuple)) else [teacher]
        files = _listed(teacher_checkpoint)
        if networks in ([], [None]):
            raise StudyError("there is no teacher: give the path of its mmdet config, or its model dict")
        if len(files) < len(networks):
            raise StudyError("the teacher has no weights: set teacher_checkpoint (an untrained teacher teaches nothing)")
        if len(files) > len(networks):
            raise StudyError(f"teacher_checkpoint lists {len(files)} files for {len(networks)} teachers: give one for each")
        if len(start := _listed(student_checkpoint)) > 1:
            raise StudyError(f"student_checkpoint lists {len(start)} files: give one")
        for name, value in (("inherit", inherit), ("remember", remember)):
            if not isinstance(value, bool):
                raise StudyError(f"{name} = {value!r}: it must be True or False")
        config, taught_by = configs.network(student, "student"), [configs.network(one, "teacher") for one in networks]
        if init_cfg is not None:
            config["init_cfg"] = init_cfg
        own, hidden = configs.built(config, "student"), [configs.built(one, "teacher") for one in taught_by]
        normalisations = [one["data_preprocessor"] for one in taught_by]
        views = DistillPreprocessor(config["data_preprocessor"], normalisations, enhance, keep_pixels=adversarial is not None)
        super().__init__(data_preprocessor=views)
        self._stand_in_for(own)
        self.student_checkpoint = start[0] if start else None
        self.inherit = inherit
        # Of each teacher: no module and no buffer, so they are in no checkpoint.
        self.remembered: tuple[Memory, ...] | None = tuple(Memory() for _ in networks) if remember else None
        self.attack = None if adversarial is None else validated(stages.Attack, "adversarial", adversarial).model_dump()
        # A tuple, not a ModuleList, keeps the teachers out of the registered modules.
        self.teachers = tuple(map(_frozen, hidden, files))
        if self.attack is not None:
            _check_attack(self.teachers)
        provided = zip(CHANGED, (enhance, adversarial), strict=True)
        self.changed = [term for term, images in provided if images is not None]
        # The teacher's stride of each matched level, and its places in the two pyramids.
        self.pairs: list[dict[int, tuple[int, int]]] = []
        self.distill = nn.ModuleList()
        levels_s = pyramid(own)
        for other, network in zip(taught_by, self.teachers, strict=True):
            levels_t = pyramid(network)
            places = match([level.stride for level in levels_s], [level.stride for level in levels_t], matching)
            pairs = {levels_t[t].stride: (s, t) for s, t in places}
            pair = {stride: (levels_s[s], levels_t[t]) for stride, (s, t) in pairs.items()}
            self.pairs.append(pairs)
            self.distill.append(nn.ModuleList(self._build(method, config, other, network, pair) for method in methods))
        first = self.methods_by_teacher[0]
        names = [f"loss_{method.name}_{term}" for method in first for term in method.WEIGHTS]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise StudyError(f"a method is listed twice: {', '.join(sorted(repeated))}")
        self.factors = None if factors is None else self._checked(factors, names)

    def _stand_in_for(self, student: BaseDetector) -> None:
        """Take a student's parts and parameters for one's own; it stays hidden beside them, and has its parts still."""
        student.data_preprocessor = self.data_preprocessor.student
        self._modules.update({name: part for name, part in student._modules.items() if name != "data_preprocessor"})
        # One dictionary for both: a move to another device may replace what is in it.
        for kept in ("_parameters", "_buffers", "_non_persistent_buffers_set"):
            object.__setattr__(self, kept, getattr(student, kept))
        object.__setattr__(self, "student", student)

    def __getattr__(self, name: str) -> Any:
        """What is not the distiller's own is the student's, such as ``set_epoch``."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if "student" not in self.__dict__:
                raise
            return getattr(self.student, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """A part that is replaced is the student's, too."""
        if "student" in self.__dict__ and name in self.student._modules and name != "data_preprocessor":
            setattr(self.student, name, value)
        super().__setattr__(name, value)

    def _checked(self, factors: Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
        """Factors for all terms that are on, and for none that no method has."""
        if not isinstance(factors, Mapping):
            raise StudyError(f"factors = {factors!r}: give a dict with a number for each term")
        for unknown in (name for name in factors if name not in names):
            raise StudyError(f"factors: no method has a term {unknown!r}: {suggest(unknown, names)}")
        active = [f"loss_{method.name}_{term}" for method in self.methods_by_teacher[0] for term in method.active]
        if missing := sorted(set(active) - set(factors)):
            raise StudyError(f"factors: a number is missing for {', '.join(missing)}: give one for every term")
        for name, value in factors.items():
            if not isinstance(value, (int, float)) or not math.isfinite(value):
                raise StudyError(f"factors: {name} = {value!r}: it must be a finite number")
        return {name: float(value) for name, value in factors.items()}

    def _build(
        self,
        config: Mapping[str, Any],
        student: Mapping[str, Any],
        teacher: Mapping[str, Any],
        network: BaseDetector,
        pair: Mapping[int, tuple[Level, Level]],
    ) -> Method:
        """One method for one teacher, on those of its levels that are matched."""
        changes = dict(config)
        name = str(changes.pop("type", ""))
        kinds = stages.kind_of(student), stages.kind_of(teacher)
        fields = dict(for_pair(name, *kinds, stages.family_of(student), **changes))
        wanted = fields["strides"]
        fields["strides"] = [stride for stride in pair if wanted is None or stride in wanted]
        if not fields["strides"]:
            raise StudyError(f"{name}: none of the strides {wanted} is matched; matched are {sorted(pair)}")
        sides = [{stride: levels[side].channels for stride, levels in pair.items()} for side in (0, 1)]
        channels = dict(zip(("channels_s", "channels_t"), sides, strict=True))
        method: Method = MODELS.build(fields | channels | {"changed": self.changed})
        method.connect(self.student, network)
        return method

    def init_weights(self) -> None:
        """Initialise the student: its own way, then from its checkpoint, then with the teacher's neck and head if it inherits."""
        self.student.init_weights()
        if self.student_checkpoint is not None:
            checkpoints.load(self.student, self.student_checkpoint)
        if self.inherit:
            for part in ("neck", "bbox_head"):
                try:
                    getattr(self.student, part).load_state_dict(getattr(self.teachers[0], part).state_dict())
                except (AttributeError, RuntimeError) as error:
                    raise StudyError(f"inherit: the teacher's {part} does not fit the student; switch inherit off") from error

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Distiller:
        super()._apply(fn, recurse)
        for teacher in self.teachers:
            teacher._apply(fn, recurse)
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *arguments: Any) -> None:
        """Into the blocks of methods, too; a checkpoint of a plain student has none, and leaves them as they are."""
        named = checkpoints.current(state_dict, prefix)
        blocks = prefix + checkpoints.BLOCKS
        if not any(name.startswith(blocks) for name in named):
            named |= {blocks + name: value for name, value in self.distill.state_dict().items()}
        state_dict.clear()
        state_dict.update(named)
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def train(self, mode: bool = True) -> Distiller:
        """Set the student's mode; teachers stay in eval mode (Swin's drop path would act otherwise)."""
        super().train(mode)
        self.student.train(mode)
        for teacher in self.teachers:
            teacher.eval()
        return self

    def forward(self, inputs: Tensor, data_samples: Any = None, mode: str = "tensor", **views: Any) -> Any:
        """As any mmdet detector; ``views`` are the preprocessor's extra images."""
        if mode == "loss":
            return self.loss(inputs, data_samples, **views)
        return super().forward(inputs, data_samples, mode)

    def loss(
        self,
        inputs: Tensor,
        data_samples: Any,
        inputs_t: Sequence[Tensor],
        enhanced: View | None = None,
        pixels: list[Tensor] | None = None,
    ) -> dict[str, Any]:
        """The student's losses and ``loss_<method>_<term>`` for each method.

        Args:
            inputs: Images as the student sees them, ``(B, 3, H, W)``.
            data_samples: mmdet's data samples with ground truth.
            inputs_t: The same images as each teacher sees them.
            enhanced: Enhanced images for student and teachers.
            pixels: The images before normalisation, for adversarial examples.
        """
        caught: list[Sequence[Tensor]] = []
        with ExitStack() as stack:
            stack.enter_context(_caught(self.student, caught))
            for method in chain(*self.methods_by_teacher):
                stack.enter_context(method.watching())
            losses: dict[str, Any] = self.student.loss(inputs, data_samples)
        if not caught:
            raise StudyError(f"{type(self.student).__name__} does not call its extract_feat for its loss: it cannot be distilled")
        if (made := len(caught[0][0])) != len(inputs):
            raise StudyError(
                f"{type(self.student).__name__} makes maps of {made} images out of {len(inputs)} while it trains: they cannot be "
                "compared with a teacher's"
            )
        features = self.levels(caught[0], inputs_t, data_samples)
        changed = self._changed(data_samples, enhanced, pixels)
        generator = torch.Generator(inputs.device).manual_seed(int(torch.randint(2**31, ())))
        boxes = [sample.gt_instances.bboxes for sample in data_samples]
        shapes = [tuple(sample.img_shape[:2]) for sample in data_samples]
        terms: dict[str, Tensor] = {}
        # Sums over large maps overflow half precision.
        with torch.autocast(inputs.device.type, enabled=False):
            for index, methods in enumerate(self.methods_by_teacher):
                pairs = {term: levels[index] for term, levels in changed.items()}
                for method in methods:
                    own = method(*features[index], boxes, shapes, generator=generator, enhanced=pairs)
                    for name, value in own.items():
                        terms[name] = terms.get(name, 0.0) + value / len(self.teachers)
            if self.factors is not None:
                terms = {name: self.factors[name] * value for name, value in terms.items()}
        return losses | terms  # Eq. (6): the training loop adds them up

    @property
    def methods_by_teacher(self) -> list[list[Method]]:
        """The methods of each teacher, with blocks of their own."""
        return [list(methods) for methods in self.distill]  # type: ignore[call-overload]

    @property
    def weights(self) -> dict[str, float]:
        """What each term that is on is multiplied by, by the loss's name: its weight, and its factor if there is one."""
        weights = {f"loss_{one.name}_{term}": float(one.weight(term)) for one in self.methods_by_teacher[0] for term in one.active}
        return {name: weight * (self.factors or {}).get(name, 1.0) for name, weight in weights.items()}

    def _changed(
        self, data_samples: Any, enhanced: View | None, pixels: list[Tensor] | None
    ) -> dict[str, list[tuple[Levels, Levels]]]:
        """Levels of student and each teacher on changed images, by the term that compares them."""
        compared = {term for method in chain(*self.methods_by_teacher) for term in method.active}
        views: dict[str, View] = {}
        if enhanced is not None and "aug" in compared:
            views["aug"] = enhanced
        if pixels is not None and "adv" in compared:
            views["adv"] = self._attacked(pixels, data_samples)
        levels = {}
        for term, (inputs_s, inputs_t) in views.items():
            norms = [module for module in self.student.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
            # The running statistics learn nothing from these images: momentum 0 keeps them.
            with _changed_attribute(norms, "momentum", 0.0):
                feats_s = self.student.extract_feat(inputs_s)
            levels[term] = self.levels(feats_s, inputs_t)
        return levels

    def _attacked(self, pixels: list[Tensor], data_samples: Any) -> View:
        """Images that raise the sum of the teachers' classification losses, as student and teachers see them."""

        def loss(images: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
            samples = [copy.copy(sample) for sample in data_samples]
            for sample, moved in zip(samples, boxes, strict=True):
                sample.gt_instances = sample.gt_instances.clone()
                sample.gt_instances.bboxes = moved
            views = self.data_preprocessor.teachers_view(list(images))
            # Some dense heads, such as RepPoints', return what their loss needs in training mode only. Their layers keep theirs.
            heads = [teacher.bbox_head for teacher in self.teachers if hasattr(teacher, "bbox_head")]
            with _changed_attribute(heads, "training", True):
                found = [teacher.loss(view, samples) for teacher, view in zip(self.teachers, views, strict=True)]
            parts = [{name: value for name, value in losses.items() if "cls" in name} for losses in found]
            return torch.stack([BaseModel.parse_losses(self, part)[0] for part in parts]).sum()

        assert self.attack is not None
        boxes = [sample.gt_instances.bboxes for sample in data_samples]
        generator = torch.Generator().manual_seed(int(torch.randint(2**31, ())))
        return self.data_preprocessor.view(di2_fgsm(pixels, boxes, loss, **self.attack, generator=generator))

    def predict(self, inputs: Tensor, data_samples: Any, rescale: bool = True) -> Any:
        """The student's predictions."""
        return self.student.predict(inputs, data_samples, rescale)

    def extract_feat(self, inputs: Tensor) -> Any:
        """The student's neck features."""
        return self.student.extract_feat(inputs)

    def _forward(self, inputs: Tensor, data_samples: Any = None) -> Any:
        return self.student._forward(inputs, data_samples)

    def levels(self, feats_s: Sequence[Tensor], inputs_t: Sequence[Tensor], samples: Any = None) -> list[tuple[Levels, Levels]]:
        """Matched levels of the student and of each teacher; ``samples`` tell which images they are, unless these were changed."""
        matched: list[tuple[Levels, Levels]] = []
        for index, (teacher, inputs, pairs) in enumerate(zip(self.teachers, inputs_t, self.pairs, strict=True)):
            if samples is not None and self.remembered is not None:
                names = [(sample.img_id, sample.get("flip", False), sample.get("flip_direction")) for sample in samples]
                feats_t = self.remembered[index](teacher.extract_feat, inputs, names)
            else:
                with torch.no_grad():
                    feats_t = teacher.extract_feat(inputs)
            levels_t = {stride: feats_t[t].float() for stride, (_, t) in pairs.items()}
            levels_s = {stride: resized(feats_s[s].float(), levels_t[stride]) for stride, (s, _) in pairs.items()}
            matched.append((levels_s, levels_t))
        return matched


def _listed(files: Files | None) -> list[str]:
    return [str(file) for file in ([files] if isinstance(files, (str, Path)) else files or [])]


def _check_names(left: Mapping[str, Any]) -> None:
    """Refuse what is no option: a student's parts, which a config inherits and has not deleted, or a slip of the pen."""
    if "backbone" in left:
        raise StudyError(
            f"the model has {', '.join(sorted(left))} besides the distiller's options: it inherits them from the config of a "
            "detector; write _delete_=True into model=dict(...)"
        )
    options = [name for name in inspect.signature(Distiller).parameters if name != "left"]
    for name in left:
        raise StudyError(f"the distiller has no option {name!r}: {suggest(name, options)}")


def _check_methods(methods: Any) -> None:
    if not isinstance(methods, (list, tuple)) or not all(isinstance(method, Mapping) for method in methods):
        raise StudyError(f"methods = {methods!r}: give a list of dicts, such as [dict(type='DFMSD')]")
    if not methods:
        raise StudyError("the list of methods is empty, so nothing is distilled: name at least one, such as [dict(type='DFMSD')]")


def _check_attack(teachers: Sequence[BaseDetector]) -> None:
    for teacher in teachers:
        if teacher.with_mask and not hasattr(teacher, "roi_head"):
            raise StudyError(f"adversarial: the loss of {type(teacher).__name__} needs masks: take a teacher of boxes")


def _frozen(teacher: BaseDetector, checkpoint: str) -> BaseDetector:
    checkpoints.load(teacher, checkpoint)
    # Features and class scores are asked of it, and students' data have no masks.
    if teacher.with_mask and hasattr(teacher, "roi_head"):
        teacher.roi_head.mask_head = None
    return teacher.requires_grad_(False).eval()


@contextmanager
def _caught(student: BaseDetector, features: list[Sequence[Tensor]]) -> Iterator[None]:
    """Keep what a student's ``extract_feat`` gives, while it lasts."""
    plain, own = student.extract_feat, student.__dict__.get("extract_feat")

    def extract_feat(*arguments: Any, **options: Any) -> Any:
        features.append(plain(*arguments, **options))
        return features[-1]

    student.extract_feat = extract_feat
    try:
        yield
    finally:
        del student.extract_feat
        if own is not None:
            student.extract_feat = own


class Memory(dict[Any, tuple[Tensor, ...]]):
    """A frozen network's features of images that come back, by the image's name and its padded size."""

    @torch.no_grad()
    def __call__(self, network: Callable[[Tensor], Sequence[Tensor]], inputs: Tensor, names: Sequence[Any]) -> list[Tensor]:
        """Features of a batch, ``(B, C, H, W)`` for each level; the network sees the images that are new.

        It sees them one at a time: the last bits of a batch's features depend, on some machines, on the batch's size and on an
        image's place in it. So what is kept does not depend on when it was seen first, and a run that is resumed ends like one
        that was not.
        """
        keys = [(name, tuple(inputs.shape[1:])) for name in names]
        for place, key in enumerate(keys):
            if key not in self:
                self[key] = tuple(level[0] for level in network(inputs[place : place + 1]))
        return [torch.stack(level) for level in zip(*(self[key] for key in keys), strict=True)]


@contextmanager
def _changed_attribute(modules: Sequence[nn.Module], name: str, value: Any) -> Iterator[None]:
    """Give an attribute of some modules another value for a while."""
    before = [getattr(module, name) for module in modules]
    for module in modules:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, own in zip(modules, before, strict=True):
            setattr(module, name, own)
