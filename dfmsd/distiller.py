"""The detector that learns from others: student, hidden frozen teachers, and methods."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from itertools import chain
from typing import Any

import torch
from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS
from mmengine.model import BaseModel
from torch import Tensor, nn

from dfmsd import checkpoints, losses, stages
from dfmsd.augment import di2_fgsm
from dfmsd.errors import StudyError, suggest, validated
from dfmsd.hyper import METHODS, for_pair
from dfmsd.levels import match, resized, strides
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

for _model in METHODS.values():
    MODELS.register_module(module=getattr(losses, _model.__name__))


@MODELS.register_module()
class Distiller(BaseDetector):
    """Train a student with its own losses plus those of distillation methods.

    The student's features are caught by a forward hook on its neck during its own loss, so they are computed once. A teacher runs
    backbone and neck without gradients, in eval mode whatever happens, on images normalised its own way; it appears neither in
    ``parameters()`` nor in ``state_dict()``, yet follows every move to a device or dtype.

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
    teachers: tuple[BaseDetector, ...]
    methods: nn.ModuleList

    def __init__(
        self,
        student: Network,
        teacher: Network | Sequence[Network],
        methods: Sequence[dict[str, Any]],
        teacher_checkpoint: str | Sequence[str] | None = None,
        student_checkpoint: str | None = None,
        matching: Matching = "stride",
        factors: Mapping[str, float] | None = None,
        enhance: Enhancement | Mapping[str, Any] | None = None,
        adversarial: stages.Attack | Mapping[str, Any] | None = None,
        inherit: bool = False,
        remember: bool = False,
        data_preprocessor: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        networks: list[Any] = list(teacher) if isinstance(teacher, (list, tuple)) else [teacher]
        files = [teacher_checkpoint] if isinstance(teacher_checkpoint, str) else list(teacher_checkpoint or [])
        if len(files) < len(networks):
            raise StudyError("the teacher has no weights: set teacher_checkpoint (an untrained teacher teaches nothing)")
        if len(files) > len(networks):
            raise StudyError(f"teacher_checkpoint lists {len(files)} files for {len(networks)} teachers: give one for each")
        student, configs = _model_config(student, "student"), [_model_config(network, "teacher") for network in networks]
        normalisations = [config["data_preprocessor"] for config in configs]
        views = DistillPreprocessor(student["data_preprocessor"], normalisations, enhance, keep_pixels=adversarial is not None)
        super().__init__(data_preprocessor=views, init_cfg=init_cfg)
        self.student = MODELS.build(student)
        self.student_checkpoint = student_checkpoint
        self.inherit = inherit
        # Of each teacher: no module and no buffer, so they are in no checkpoint.
        self.remembered: tuple[Memory, ...] | None = tuple(Memory() for _ in networks) if remember else None
        self.attack = None if adversarial is None else validated(stages.Attack, "adversarial", dict(adversarial)).model_dump()
        # A tuple, not a ModuleList, keeps the teachers out of the registered modules.
        self.teachers = tuple(_frozen(MODELS.build(config), file) for config, file in zip(configs, files, strict=True))
        provided = zip(CHANGED, (enhance, adversarial), strict=True)
        self.changed = [term for term, images in provided if images is not None]
        # The teacher's stride of each matched level, and its places in the two pyramids.
        self.pairs: list[dict[int, tuple[int, int]]] = []
        for pyramid in map(strides, self.teachers):
            self.pairs.append({pyramid[t]: (s, t) for s, t in match(strides(self.student), pyramid, matching)})
        self.methods = nn.ModuleList(
            nn.ModuleList(self._build(method, student, config, teacher, pairs) for method in methods)
            for config, teacher, pairs in zip(configs, self.teachers, self.pairs, strict=True)
        )
        first = self.methods_by_teacher[0]
        names = [f"loss_{method.name}_{term}" for method in first for term in method.WEIGHTS]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise StudyError(f"a method is listed twice: {', '.join(sorted(repeated))}")
        self.factors = None if factors is None else self._checked(factors, names)

    def _checked(self, factors: Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
        """Factors for all terms that are on, and for none that no method has."""
        for unknown in (name for name in factors if name not in names):
            raise StudyError(f"factors: no method has a term {unknown!r}: {suggest(unknown, names)}")
        active = [f"loss_{method.name}_{term}" for method in self.methods_by_teacher[0] for term in method.active]
        if missing := sorted(set(active) - set(factors)):
            raise StudyError(f"factors: a number is missing for {', '.join(missing)}: give one for every term")
        return {name: float(value) for name, value in factors.items()}

    def _build(
        self,
        config: Mapping[str, Any],
        student: Mapping[str, Any],
        teacher: Mapping[str, Any],
        network: BaseDetector,
        pairs: Iterable[int],
    ) -> Method:
        """One method for one teacher, on those of its levels that are matched."""
        changes = dict(config)
        name = str(changes.pop("type", ""))
        kinds = stages.kind_of(student), stages.kind_of(teacher)
        fields = dict(for_pair(name, *kinds, stages.family_of(student), **changes))
        wanted = fields["strides"]
        fields["strides"] = [stride for stride in pairs if wanted is None or stride in wanted]
        if not fields["strides"]:
            raise StudyError(f"{name}: none of the strides {wanted} is matched; matched are {sorted(pairs)}")
        channels = {"channels_s": self.student.neck.out_channels, "channels_t": network.neck.out_channels}
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

    def train(self, mode: bool = True) -> Distiller:
        """Set the student's mode; teachers stay in eval mode (Swin's drop path would act otherwise)."""
        super().train(mode)
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
            stack.enter_context(self.student.neck.register_forward_hook(lambda _, __, output: caught.append(output)))
            for method in chain(*self.methods_by_teacher):
                stack.enter_context(method.watching())
            losses: dict[str, Any] = self.student.loss(inputs, data_samples)
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
        return [list(methods) for methods in self.methods]  # type: ignore[call-overload]

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


def _model_config(network: Network, role: str) -> dict[str, Any]:
    """A detector's model dict, from itself or from a config file."""
    model = dict(stages.read(network).model) if isinstance(network, str) else copy.deepcopy(dict(network))
    if "data_preprocessor" not in model:
        raise StudyError(f"the {role}'s config has no data_preprocessor: each network normalises images its own way")
    return model


def _frozen(teacher: BaseDetector, checkpoint: str) -> BaseDetector:
    checkpoints.load(teacher, checkpoint)
    if teacher.with_mask:  # features and class scores are asked of it, and students' data have no masks
        teacher.roi_head.mask_head = None
    return teacher.requires_grad_(False).eval()


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
