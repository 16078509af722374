"""The detector that learns from another: student, hidden frozen teacher, and methods."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.model import BaseModel
from torch import Tensor, nn

import dfmsd.quiet  # noqa: F401
from dfmsd import checkpoints, pyramids
from dfmsd.balance import ShareBalance
from dfmsd.errors import StudyError, suggest
from dfmsd.losses import Method
from dfmsd.methods import METHODS, Kind, for_student
from dfmsd.preprocess import DistillPreprocessor

Network = dict[str, Any] | str
"""A detector's ``model`` dict, or the path of an mmdet config that has one (``mmdet::`` names those that mmdet ships)."""


@MODELS.register_module()
class Distiller(BaseDetector):
    """Train a student with its own losses plus those of distillation methods.

    The student's features are caught by a forward hook on its neck during its own loss, so they are computed once. The teacher runs
    backbone and neck without gradients, in eval mode whatever happens, on images normalised its own way; it appears neither in
    ``parameters()`` nor in ``state_dict()``, yet follows every move to a device or dtype.

    Args:
        student: The student's config.
        teacher: The teacher's config.
        methods: Configs of :class:`~dfmsd.losses.base.Method` subclasses, such as ``dict(type="DMKD")``; what is left out takes
            the paper's value for this kind of student (:mod:`dfmsd.methods`).
        teacher_checkpoint: The teacher's weights, a file or an address.
        student_checkpoint: Weights to start the student from; None: its own initialisation.
        matching: How levels of the two pyramids are matched, see :func:`dfmsd.pyramids.match`.
        balance: ``dict(iterations=...)``: read the methods' weights as shares of the detection loss, see
            :class:`~dfmsd.balance.ShareBalance`.
        enhance: Masking enhancement, see :class:`~dfmsd.preprocess.DistillPreprocessor`.
        inherit: Start with the teacher's neck and head.

    Raises:
        StudyError: if the teacher has no checkpoint or it does not fit, or the two pyramids have no level in common.

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

    teacher: BaseDetector
    methods: nn.ModuleList

    def __init__(
        self,
        student: Network,
        teacher: Network,
        methods: Sequence[dict[str, Any]],
        teacher_checkpoint: str | None = None,
        student_checkpoint: str | None = None,
        matching: pyramids.Matching = "stride",
        balance: dict[str, Any] | None = None,
        enhance: dict[str, Any] | None = None,
        inherit: bool = False,
        data_preprocessor: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        if teacher_checkpoint is None:
            raise StudyError("the teacher has no weights: set teacher_checkpoint (an untrained teacher teaches nothing)")
        student, teacher = _model_config(student, "student"), _model_config(teacher, "teacher")
        views = DistillPreprocessor(student["data_preprocessor"], teacher["data_preprocessor"], enhance)
        super().__init__(data_preprocessor=views, init_cfg=init_cfg)
        self.student = MODELS.build(student)
        self.student_checkpoint = student_checkpoint
        self.inherit = inherit
        # object.__setattr__ keeps the teacher out of the registered modules.
        object.__setattr__(self, "teacher", _frozen(MODELS.build(teacher), teacher_checkpoint))
        strides_t = pyramids.strides(self.teacher)
        pairs = pyramids.match(pyramids.strides(self.student), strides_t, matching)
        self.pairs = {strides_t[t]: (s, t) for s, t in pairs}
        built = [self._build(method) for method in methods]
        self.methods = nn.ModuleList(built)
        names = [f"loss_{method.name}_{term}" for method in built for term in method.term_names]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise StudyError(f"a method is listed twice: {', '.join(sorted(repeated))}")
        self.balance = None if balance is None else ShareBalance(names, **balance)

    def _build(self, config: dict[str, Any]) -> Method:
        config = dict(config)
        name = str(config.pop("type", ""))
        if name.lower() not in METHODS:
            raise StudyError(f"unknown method {name!r}: {suggest(name, [model.__name__ for model in METHODS.values()])}")
        model = METHODS[name.lower()]
        if unknown := sorted(set(config) - set(model.model_fields)):
            raise StudyError(f"{name} has no hyper-parameter {unknown[0]!r}: {suggest(unknown[0], model.model_fields)}")
        kind: Kind = "two_stage" if hasattr(self.student, "roi_head") else "one_stage"
        fields = for_student(name.lower(), kind, **config).model_dump()
        wanted = fields["strides"]
        fields["strides"] = [stride for stride in self.pairs if wanted is None or stride in wanted]
        if not fields["strides"]:
            raise StudyError(f"{name}: none of the strides {wanted} is matched; matched are {sorted(self.pairs)}")
        channels = {"channels_s": _channels(self.student), "channels_t": _channels(self.teacher)}
        return MODELS.build(fields | channels)  # type: ignore[no-any-return]

    def init_weights(self) -> None:
        """Initialise the student: its own way, then from its checkpoint, then with the teacher's neck and head if it inherits."""
        self.student.init_weights()
        if self.student_checkpoint is not None:
            checkpoints.load(self.student, self.student_checkpoint)
        if self.inherit:
            for part in ("neck", "bbox_head"):
                try:
                    getattr(self.student, part).load_state_dict(getattr(self.teacher, part).state_dict())
                except (AttributeError, RuntimeError) as error:
                    raise StudyError(f"inherit: the teacher's {part} does not fit the student; switch inherit off") from error

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Distiller:
        super()._apply(fn, recurse)
        self.teacher._apply(fn, recurse)
        return self

    def train(self, mode: bool = True) -> Distiller:
        """Set the student's mode; the teacher stays in eval mode (Swin's drop path would act otherwise)."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, inputs: Tensor, data_samples: Any = None, mode: str = "tensor", **views: Any) -> Any:
        """As any mmdet detector; ``views`` are the preprocessor's extra images."""
        if mode == "loss":
            return self.loss(inputs, data_samples, **views)
        return super().forward(inputs, data_samples, mode)

    def loss(
        self, inputs: Tensor, data_samples: Any, inputs_t: Tensor, enhanced: tuple[Tensor, Tensor] | None = None
    ) -> dict[str, Any]:
        """The student's losses and ``loss_<method>_<term>`` for each method.

        Args:
            inputs: Images as the student sees them, ``(B, 3, H, W)``.
            data_samples: mmdet's data samples with ground truth.
            inputs_t: The same images as the teacher sees them.
            enhanced: Enhanced images for student and teacher.
        """
        with _caught(self.student.neck) as caught:
            losses: dict[str, Any] = self.student.loss(inputs, data_samples)
        features = self._levels(caught[0], self._teach(inputs_t))
        enhanced_features = None
        if enhanced is not None and any(method.uses_enhanced for method in self.methods):
            with _unrecorded_statistics(self.student):
                feats_s = self.student.extract_feat(enhanced[0])
            enhanced_features = self._levels(feats_s, self._teach(enhanced[1]))
        detection, _ = BaseModel.parse_losses(self, losses)
        generator = torch.Generator(inputs.device).manual_seed(int(torch.randint(2**31, ())))
        boxes = [sample.gt_instances.bboxes for sample in data_samples]
        shapes = [tuple(sample.img_shape[:2]) for sample in data_samples]
        for method in self.methods:
            assert isinstance(method, Method)
            # Sums over large maps overflow half precision.
            with torch.autocast(inputs.device.type, enabled=False):
                terms = method(*features, boxes, shapes, generator=generator, enhanced=enhanced_features)
                if self.balance is not None:
                    weights = {f"loss_{method.name}_{term}": method.weight(term) for term in method.term_names}
                    terms = self.balance(detection.float(), terms, weights)
            losses.update(terms)
        return losses

    def predict(self, inputs: Tensor, data_samples: Any, rescale: bool = True) -> Any:
        """The student's predictions."""
        return self.student.predict(inputs, data_samples, rescale)

    def extract_feat(self, inputs: Tensor) -> Any:
        """The student's neck features."""
        return self.student.extract_feat(inputs)

    def _forward(self, inputs: Tensor, data_samples: Any = None) -> Any:
        return self.student._forward(inputs, data_samples)

    @torch.no_grad()
    def _teach(self, inputs: Tensor) -> Sequence[Tensor]:
        return self.teacher.extract_feat(inputs)  # type: ignore[no-any-return]

    def _levels(self, feats_s: Sequence[Tensor], feats_t: Sequence[Tensor]) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        levels_t = {stride: feats_t[t].float() for stride, (_, t) in self.pairs.items()}
        levels_s = {stride: pyramids.resized(feats_s[s].float(), levels_t[stride]) for stride, (s, _) in self.pairs.items()}
        return levels_s, levels_t


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
    return teacher.requires_grad_(False).eval()


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
