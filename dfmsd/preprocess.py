"""The same images as each network wants them: the student's view, the teachers', and the enhanced ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from mmdet.registry import MODELS
from mmengine.model import BaseDataPreprocessor
from pydantic import Field, TypeAdapter
from torch import Tensor, nn

from dfmsd.augment import area_ratio, enhance
from dfmsd.errors import StudyError, validated
from dfmsd.stages import Enhance

Batch = dict[str, Any]
RATIOS = TypeAdapter(dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]])
View = tuple[Tensor, list[Tensor]]
"""One batch of images as the student and as each teacher sees it, each ``(B, 3, H, W)``."""


class Enhancement(Enhance):
    """Masking enhancement, and whose boxes decide about it."""

    ratios: Path | None = None
    """JSON file from image id to area ratio (:func:`dfmsd.augment.area_ratios`); None: the ground-truth boxes decide."""


@MODELS.register_module()
class DistillPreprocessor(BaseDataPreprocessor):
    """Run each network's own data preprocessor on the raw images.

    Teachers differ from students in channel order, mean and scale (a caffe FCOS and a ResNeXt, say): feeding both one tensor ruins
    the teacher without a word. Where they pad to different divisors, all views are padded to the smallest common multiple while
    training. What the student's preprocessor does to whole batches (``batch_augments``) is done once, to all views in one.

    Args:
        student: Config of the student's data preprocessor.
        teachers: Config of each teacher's.
        enhance: Masking enhancement: an :class:`Enhancement`, or its fields as a dict.
        keep_pixels: Hand on the images as they are, too, as ``pixels``.

    Raises:
        StudyError: if ``enhance`` makes no sense or its file is missing, or the pixels are wanted of batches that the student's
            preprocessor changes.
    """

    def __init__(
        self,
        student: Batch,
        teachers: Sequence[Batch],
        enhance: Enhancement | Mapping[str, Any] | None = None,
        keep_pixels: bool = False,
    ) -> None:
        super().__init__()
        augments = student.get("batch_augments") or []
        if augments and keep_pixels:
            raise StudyError("adversarial: the student's data_preprocessor has batch_augments, which move its boxes: remove them")
        self.augments = nn.ModuleList([MODELS.build(augment) for augment in augments])
        self.student = MODELS.build(student)
        divisor = math.lcm(*(one.get("pad_size_divisor", 1) for one in (student, *teachers)))
        self.own, *others = (
            MODELS.build({**one, **({"pad_size_divisor": divisor} if one.get("pad_size_divisor", 1) != divisor else {})})
            for one in ({name: value for name, value in student.items() if name != "batch_augments"}, *teachers)
        )
        self.teachers = nn.ModuleList(others)
        self.keep_pixels = keep_pixels
        self.enhance: dict[str, Any] | None = None
        self.ratios: Mapping[str, float] | None = None
        if enhance is not None:
            chosen = validated(Enhancement, "enhance", enhance)
            self.enhance = chosen.model_dump(exclude={"score", "ratios"})
            if chosen.ratios is not None:
                if not chosen.ratios.is_file():
                    raise StudyError(f"the file of area ratios {chosen.ratios} does not exist")
                try:
                    self.ratios = RATIOS.validate_json(chosen.ratios.read_bytes())
                except ValueError:
                    raise StudyError(f"{chosen.ratios} holds no area ratios: make it of dfmsd.augment.area_ratios") from None

    def forward(self, data: Batch, training: bool = False) -> Batch:
        """The student's batch; while training also ``inputs_t``, a list with each teacher's view, and what the options ask for."""
        if not training:
            return self.student(data, False)  # type: ignore[no-any-return]
        raw = [image.to(self.device) for image in data["inputs"]]
        batch: Batch = self.own({"inputs": raw, "data_samples": data["data_samples"]}, True)
        batch["inputs_t"] = self.teachers_view(raw)
        if self.augments:
            views = torch.cat([batch["inputs"], *batch["inputs_t"]], dim=1)  # their sizes agree, and each channel is changed alone
            for augment in self.augments:
                views, batch["data_samples"] = augment(views, batch["data_samples"])
            batch["inputs"], *batch["inputs_t"] = (view.contiguous() for view in views.split(raw[0].shape[0], dim=1))
        if self.keep_pixels:
            batch["pixels"] = raw
        if self.enhance is not None:
            generator = torch.Generator().manual_seed(int(torch.randint(2**31, ())))
            changed = [
                enhance(image, self._ratio(sample), **self.enhance, generator=generator)
                for image, sample in zip(raw, batch["data_samples"], strict=True)
            ]
            batch["enhanced"] = self.view(changed)
        return batch

    def view(self, images: list[Tensor]) -> View:
        """Raw images as the student and as each teacher sees them."""
        return _inputs(self.own, images), self.teachers_view(images)

    def teachers_view(self, images: list[Tensor]) -> list[Tensor]:
        """Raw images, ``(3, H, W)`` with values in [0, 255], as each teacher sees them."""
        return [_inputs(teacher, images) for teacher in self.teachers]

    def _ratio(self, sample: Any) -> float:
        if self.ratios is None:
            boxes, (height, width) = sample.gt_instances.bboxes, sample.img_shape[:2]
            return area_ratio(boxes, boxes.new_ones(len(boxes)), score=0.0, height=height, width=width)
        try:
            return self.ratios[str(sample.img_id)]
        except KeyError:
            raise StudyError(f"image {sample.img_id} has no area ratio: the weak teacher's boxes are of another data set") from None


def _inputs(preprocessor: BaseDataPreprocessor, images: list[Tensor]) -> Tensor:
    return preprocessor({"inputs": images, "data_samples": None}, False)["inputs"]  # type: ignore[no-any-return]
