"""The detector that learns from others: student, hidden frozen teachers, and methods."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.model import BaseModel
from torch import Tensor, nn

import dfmsd.quiet  # noqa: F401
from dfmsd import checkpoints
from dfmsd import levels as pyramids
from dfmsd.adversarial import di2_fgsm
from dfmsd.balance import ShareBalance
from dfmsd.errors import StudyError, suggest
from dfmsd.hyper import METHODS, Kind, for_pair
from dfmsd.losses import Levels, Method
from dfmsd.preprocess import DistillPreprocessor, View

Network = dict[str, Any] | str
"""A detector's ``model`` dict, or the path of an mmdet config that has one (``mmdet::`` names those that mmdet ships)."""

CHANGED = ("aug", "adv")
"""A method's terms on changed images: enhanced ones, and adversarial examples."""


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
        balance: ``dict(iterations=...)``: read the methods' weights as shares of the detection loss, see
            :class:`~dfmsd.balance.ShareBalance`.
        enhance: Masking enhancement, see :class:`~dfmsd.preprocess.DistillPreprocessor`.
        adversarial: Adversarial examples against each teacher, see :func:`dfmsd.adversarial.di2_fgsm`.
        inherit: Start with the (first) teacher's neck and head.

    Raises:
        StudyError: if a teacher has no checkpoint or it does not fit, or two pyramids have no level in common.

    Example:
        In an mmdet config::

            custom_imports = dict(imports=["dfmsd"])
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
        matching: pyramids.Matching = "stride",
        balance: dict[str, Any] | None = None,
        enhance: dict[str, Any] | None = None,
        adversarial: dict[str, Any] | None = None,
        inherit: bool = False,
        data_preprocessor: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        networks: list[Any] = list(teacher) if isinstance(teacher, (list, tuple)) else [teacher]
        files = [teacher_checkpoint] if isinstance(teacher_checkpoint, str) else list(teacher_checkpoint or [])
        if len(files) < len(networks):
            raise StudyError("the teacher has no weights: set teacher_checkpoint (an untrained teacher teaches nothing)")
        student, configs = _model_config(student, "student"), [_model_config(network, "teacher") for network in networks]
        normalisations = [config["data_preprocessor"] for config in configs]
        views = DistillPreprocessor(student["data_preprocessor"], normalisations, enhance, keep_pixels=adversarial is not None)
        super().__init__(data_preprocessor=views, init_cfg=init_cfg)
        self.student = MODELS.build(student)
        self.student_checkpoint = student_checkpoint
        self.inherit = inherit
        self.adversarial = adversarial
        # A tuple, not a ModuleList, keeps the teachers out of the registered modules.
        self.teachers = tuple(_frozen(MODELS.build(config), file) for config, file in zip(configs, files, strict=True))
        strides_s = pyramids.strides(self.student)
        self.pairs = [_pairs(strides_s, pyramids.strides(one), matching) for one in self.teachers]
        built = [[self._build(method, index) for method in methods] for index in range(len(self.teachers))]
        self.methods = nn.ModuleList([method for group in built for method in group])
        names = [f"loss_{method.name}_{term}" for method in built[0] for term in method.term_names]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise StudyError(f"a method is listed twice: {', '.join(sorted(repeated))}")
        # On changed images a method compares sums of the kind of its first term: the published ratio of their weights holds.
        like = {
            f"loss_{method.name}_{term}": f"loss_{method.name}_{method.term_names[0]}" for method in built[0] for term in CHANGED
        }
        self.balance = None if balance is None else ShareBalance(names, like=like, **balance)

    def _build(self, config: dict[str, Any], index: int) -> Method:
        config = dict(config)
        name = str(config.pop("type", ""))
        if name.lower() not in METHODS:
            raise StudyError(f"unknown method {name!r}: {suggest(name, [model.__name__ for model in METHODS.values()])}")
        model = METHODS[name.lower()]
        if unknown := sorted(set(config) - set(model.model_fields)):
            raise StudyError(f"{name} has no hyper-parameter {unknown[0]!r}: {suggest(unknown[0], model.model_fields)}")
        teacher = self.teachers[index]
        fields = dict(for_pair(name.lower(), _kind(self.student), _kind(teacher), _family(self.student), **config))
        wanted = fields["strides"]
        fields["strides"] = [stride for stride in self.pairs[index] if wanted is None or stride in wanted]
        if not fields["strides"]:
            raise StudyError(f"{name}: none of the strides {wanted} is matched; matched are {sorted(self.pairs[index])}")
        channels = {"channels_s": _channels(self.student), "channels_t": _channels(teacher)}
        method: Method = MODELS.build(fields | channels)
        method.connect(self.student, teacher)
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
        with ExitStack() as stack:
            caught = stack.enter_context(_caught(self.student.neck))
            for method in self._methods():
                stack.enter_context(method.watching())
            losses: dict[str, Any] = self.student.loss(inputs, data_samples)
        detection, _ = BaseModel.parse_losses(self, losses)
        features = self.levels(caught[0], inputs_t)
        changed = self._changed(data_samples, enhanced, pixels)
        generator = torch.Generator(inputs.device).manual_seed(int(torch.randint(2**31, ())))
        boxes = [sample.gt_instances.bboxes for sample in data_samples]
        shapes = [tuple(sample.img_shape[:2]) for sample in data_samples]
        terms: dict[str, Tensor] = {}
        weights: dict[str, Tensor] = {}
        # Sums over large maps overflow half precision.
        with torch.autocast(inputs.device.type, enabled=False):
            for place, method in enumerate(self._methods()):
                index = place * len(self.teachers) // len(self.methods)
                pairs = {term: levels[index] for term, levels in changed.items()}
                own = method(*features[index], boxes, shapes, generator=generator, enhanced=pairs)
                for name, value in own.items():
                    terms[name] = terms.get(name, 0.0) + value / len(self.teachers)
                weights |= {f"loss_{method.name}_{term}": method.weight(term) for term in method.term_names}
            if self.balance is not None:
                terms = self.balance(detection.float(), terms, weights)
        return losses | terms  # Eq. (6): the training loop adds them up

    def _methods(self) -> Iterator[Method]:
        """The methods of the first teacher, then those of the second, ..."""
        for method in self.methods:
            assert isinstance(method, Method)
            yield method

    def _changed(
        self, data_samples: Any, enhanced: View | None, pixels: list[Tensor] | None
    ) -> dict[str, list[tuple[Levels, Levels]]]:
        """Levels of student and each teacher on changed images, by the term that compares them."""
        views: dict[str, View] = {}
        if any(method.uses_enhanced for method in self._methods()):
            views |= {} if enhanced is None else {"aug": enhanced}
            views |= {} if pixels is None else {"adv": self._attacked(pixels, data_samples)}
        levels = {}
        for term, (inputs_s, inputs_t) in views.items():
            with _unrecorded_statistics(self.student):
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
            with _heads_in_training(self.teachers):
                found = [teacher.loss(view, samples) for teacher, view in zip(self.teachers, views, strict=True)]
            return torch.stack(
                [value for losses in found for name in losses if "cls" in name for value in _flat(losses[name])]
            ).sum()

        assert self.adversarial is not None
        boxes = [sample.gt_instances.bboxes for sample in data_samples]
        generator = torch.Generator().manual_seed(int(torch.randint(2**31, ())))
        return self.data_preprocessor.view(di2_fgsm(pixels, boxes, loss, **self.adversarial, generator=generator))

    def predict(self, inputs: Tensor, data_samples: Any, rescale: bool = True) -> Any:
        """The student's predictions."""
        return self.student.predict(inputs, data_samples, rescale)

    def extract_feat(self, inputs: Tensor) -> Any:
        """The student's neck features."""
        return self.student.extract_feat(inputs)

    def _forward(self, inputs: Tensor, data_samples: Any = None) -> Any:
        return self.student._forward(inputs, data_samples)

    def levels(self, feats_s: Sequence[Tensor], inputs_t: Sequence[Tensor]) -> list[tuple[Levels, Levels]]:
        """Matched levels of the student and of each teacher."""
        matched: list[tuple[Levels, Levels]] = []
        for teacher, inputs, pairs in zip(self.teachers, inputs_t, self.pairs, strict=True):
            with torch.no_grad():
                feats_t = teacher.extract_feat(inputs)
            levels_t = {stride: feats_t[t].float() for stride, (_, t) in pairs.items()}
            levels_s = {stride: pyramids.resized(feats_s[s].float(), levels_t[stride]) for stride, (s, _) in pairs.items()}
            matched.append((levels_s, levels_t))
        return matched


def _model_config(network: Network, role: str) -> dict[str, Any]:
    """A detector's model dict, from itself or from a config file."""
    if not isinstance(network, str):
        model = copy.deepcopy(dict(network))
    elif network.startswith("mmdet::"):
        model = dict(get_config(network).model)
    else:
        model = dict(Config.fromfile(network).model)
    if "data_preprocessor" not in model:
        raise StudyError(f"the {role}'s config has no data_preprocessor: each network normalises images its own way")
    return model


def _frozen(teacher: BaseDetector, checkpoint: str) -> BaseDetector:
    checkpoints.load(teacher, checkpoint)
    if teacher.with_mask:  # features and class scores are asked of it, and students' data have no masks
        teacher.roi_head.mask_head = None
    return teacher.requires_grad_(False).eval()


def _pairs(strides_s: Sequence[int], strides_t: Sequence[int], matching: pyramids.Matching) -> dict[int, tuple[int, int]]:
    """The teacher's stride of each matched level, and its places in the two pyramids."""
    return {strides_t[t]: (s, t) for s, t in pyramids.match(strides_s, strides_t, matching)}


def _kind(detector: BaseDetector) -> Kind:
    return "two_stage" if hasattr(detector, "roi_head") else "one_stage"


def _family(detector: BaseDetector) -> str:
    """The family by which :mod:`dfmsd.hyper` knows a detector: its class's name, which mmdet does not always end in Detector."""
    return type(detector).__name__.lower().removesuffix("detector")


def _flat(value: Tensor | Sequence[Tensor]) -> list[Tensor]:
    """An entry of a detector's losses: a tensor, or one a level."""
    return [value.mean()] if isinstance(value, Tensor) else [one.mean() for one in value]


def _channels(detector: BaseDetector) -> int:
    return int(detector.neck.out_channels)


@contextmanager
def _caught(module: nn.Module) -> Iterator[list[Sequence[Tensor]]]:
    outputs: list[Sequence[Tensor]] = []
    handle = module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    try:
        yield outputs
    finally:
        handle.remove()


@contextmanager
def _heads_in_training(teachers: Iterable[BaseDetector]) -> Iterator[None]:
    """Some dense heads, RepPoints' for one, return what their loss needs in training mode only. Their layers stay in eval mode."""
    heads = [teacher.bbox_head for teacher in teachers if hasattr(teacher, "bbox_head")]
    for head in heads:
        head.training = True
    try:
        yield
    finally:
        for head in heads:
            head.training = False


@contextmanager
def _unrecorded_statistics(network: nn.Module) -> Iterator[None]:
    """Batch normalisation does not learn its running statistics from what passes here (momentum 0 keeps them)."""
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
