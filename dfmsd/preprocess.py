"""The same images as each network wants them: the student's view, the teacher's, and the enhanced ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.fileio import load as load_file
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from dfmsd.augment import area_ratio, enhance
from dfmsd.errors import StudyError

Batch = dict[str, Any]


@MODELS.register_module()
class DistillPreprocessor(BaseDataPreprocessor):
    """Run each network's own data preprocessor on the raw images.

    Teachers differ from students in channel order, mean and scale (a caffe FCOS and a ResNeXt, say): feeding both one tensor ruins
    the teacher without a word.

    Args:
        student: Config of the student's data preprocessor.
        teacher: Config of the teacher's.
        enhance: Masking enhancement: ``theta``, ``sigma``, ``noise_probability``, ``crop`` as in :func:`dfmsd.augment.enhance`,
            and ``ratios``: a JSON file from image id to area ratio, or None to take the ratio of the ground-truth boxes.

    Raises:
        StudyError: if the student's preprocessor changes batches at random, which the teacher's could not follow, or the two pad
            to different divisors.
    """

    def __init__(self, student: Batch, teacher: Batch, enhance: Batch | None = None) -> None:
        super().__init__()
        if student.get("batch_augments"):
            raise StudyError(
                "the student's data_preprocessor has batch_augments: distillation needs both networks to see one batch"
            )
        divisors = student.get("pad_size_divisor", 1), teacher.get("pad_size_divisor", 1)
        if divisors[0] != divisors[1]:
            raise StudyError(f"pad_size_divisor of student and teacher differ ({divisors[0]} and {divisors[1]}): make them equal")
        self.student = MODELS.build(student)
        self.teacher = MODELS.build(teacher)
        self.enhance = None if enhance is None else dict(enhance)
        self.ratios: Mapping[str, float] | None = None
        if self.enhance is not None:
            ratios = self.enhance.pop("ratios", None)
            self.ratios = None if ratios is None else _read_ratios(ratios)

    def forward(self, data: Batch, training: bool = False) -> Batch:
        """The student's batch; while training also ``inputs_t`` and, with enhancement, ``enhanced`` for student and teacher."""
        if not training:
            return self.student(data, False)  # type: ignore[no-any-return]
        raw = [image.to(self.device) for image in data["inputs"]]
        batch: Batch = self.student({"inputs": raw, "data_samples": data["data_samples"]}, True)
        batch["inputs_t"] = _inputs(self.teacher, raw)
        if self.enhance is not None:
            generator = torch.Generator().manual_seed(int(torch.randint(2**31, ())))
            changed = [
                enhance(image, self._ratio(image, sample), **self.enhance, generator=generator)
                for image, sample in zip(raw, batch["data_samples"], strict=True)
            ]
            batch["enhanced"] = (_inputs(self.student, changed), _inputs(self.teacher, changed))
        return batch

    def _ratio(self, image: Tensor, sample: Any) -> float:
        if self.ratios is None:
            boxes = sample.gt_instances.bboxes
            return area_ratio(boxes, boxes.new_ones(len(boxes)), score=0.0, height=image.shape[1], width=image.shape[2])
        try:
            return self.ratios[str(sample.img_id)]
        except KeyError:
            raise StudyError(f"image {sample.img_id} has no area ratio: the weak teacher's boxes are of another data set") from None


def _inputs(preprocessor: BaseDataPreprocessor, images: list[Tensor]) -> Tensor:
    return preprocessor({"inputs": images, "data_samples": None}, False)["inputs"]  # type: ignore[no-any-return]


def _read_ratios(file: str | Path) -> Mapping[str, float]:
    if not Path(file).is_file():
        raise StudyError(f"the file of area ratios {file} does not exist")
    return load_file(str(file))  # type: ignore[no-any-return]
