"""One run in several processes, which ``torchrun`` starts: each has a part of every batch, and the first one does the rest.

A run then gives what one process gives, but for the order in which floats are added, as far as the following goes.

    - The n-th batch of all processes has the images of the n-th batch of one, equally flipped: mmengine's sampler deals them out in
      turn, and :class:`dfmsd.study.loading.FlipInTurn` draws for all. Only images of two shapes, as COCO's, are sorted by each
      process for itself.
    - Batches are normalised over all processes, by :class:`WholeBatchNorm`.
    - FCOS divides its losses by the positives of all processes. GFL does, too, but by 1 at least: before it has learned anything
      its losses count half in two processes. mmdet's other heads divide by the positives of their own process. PKD's and DFMSD's
      correlation is one of a process's images. On several GPUs that is so everywhere.
    - Masks, noise and samples of regions are drawn by each process for itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import torch
from mmengine.config import Config
from mmengine.dist import broadcast_object_list, is_distributed
from torch import Tensor, nn
from torch.distributed import destroy_process_group, init_process_group
from torch.distributed.nn.functional import all_reduce

from dfmsd.errors import StudyError
from dfmsd.study import machine
from dfmsd.study.spec import Run, RunSpec

Made = TypeVar("Made")

PATIENCE = timedelta(days=7)
"""The others wait while the first one measures or evaluates; when a process ends, torchrun ends the rest."""


def once(make: Callable[[], Made]) -> Made:
    """What the first process makes, handed to all; if it raises a StudyError, the others end without a word of their own.

    The processes join here, after the first has made it: what it measures before is that of one process.

    Raises:
        StudyError: that of the first, and if there are fewer GPUs than processes.

    Example:
        >>> once(lambda: 3)
        3
    """
    if machine.processes() == 1:
        return make()
    made: Made | StudyError | None = None
    if machine.is_first():
        try:
            made = make()
        except StudyError as error:
            made = error
    _join()
    broadcast_object_list(answer := [made])
    if not isinstance(answer[0], StudyError):
        return answer[0]  # type: ignore[return-value]
    if machine.is_first():
        raise answer[0]
    raise SystemExit(2)


def _join() -> None:
    """Each process takes a GPU of its own, if there are GPUs."""
    if is_distributed():
        return
    place, here, gpus = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
    if 0 < gpus < here:
        raise StudyError(f"torchrun started {here} processes on {gpus} GPU{'s' * (gpus != 1)}: say --nproc_per_node={gpus}")
    if gpus:
        torch.cuda.set_device(place)
    init_process_group("nccl" if gpus else "gloo", timeout=PATIENCE)


def leave() -> None:
    """The work is done; an error does not come here, where it could wait for processes that are gone."""
    if is_distributed():
        destroy_process_group()


def check(run: Run) -> None:
    """Refuse a run whose batches cannot be divided among the processes.

    Raises:
        StudyError: if it is a start, or its batch is no multiple of their number.
    """
    count = machine.processes()
    if count == 1:
        return
    if not isinstance(run, RunSpec):
        raise StudyError(f"{run.name} is trained by one process: python -m dfmsd run {run.key}")
    if left := run.schedule.batch % count:
        raise StudyError(
            f"{run.name} ({run.key}) trains with batches of {run.schedule.batch} images, which {count} processes cannot share "
            f"({left} left over): say --nproc_per_node={max(n for n in range(1, count) if run.schedule.batch % n == 0)}"
        )


def divided(settings: Config) -> Config:
    """The config of a run, for each of the processes; of one alone it stays as it is.

    The parameters that a loss does not use are looked for in each iteration: those of a head that found nothing to learn.
    """
    if (count := machine.processes()) > 1:
        settings.launcher = "pytorch"
        settings.model_wrapper_cfg = {
            "type": "MMDistributedDataParallel",
            "device_ids": None,  # where the module is, be it a GPU or not
            "broadcast_buffers": False,
            "find_unused_parameters": True,
        }
        settings.train_dataloader.batch_size //= count
        settings.val_evaluator.collect_device = "gpu"  # by messages, not by files in the user's folder
    return settings


class WholeBatchNorm(nn.BatchNorm2d):
    """Batch normalisation over the batch of all processes; PyTorch's ``SyncBatchNorm``, which needs GPUs, on any machine."""

    @classmethod
    def take_over(cls, model: nn.Module) -> None:
        """Make all batch norms of a model such, if several processes train it."""
        if is_distributed():
            for module in model.modules():
                if type(module) is nn.BatchNorm2d:
                    module.__class__ = cls

    def forward(self, input: Tensor) -> Tensor:
        """As of any batch norm."""
        if not self.training:
            return super().forward(input)
        values = input.float()
        count = values.new_tensor([values[:, 0].numel()])
        sums = all_reduce(torch.cat([values.sum((0, 2, 3)), count]))
        mean, count = sums[:-1] / sums[-1], sums[-1].detach()
        centred = values - mean[:, None, None]
        variance = all_reduce(centred.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            assert self.momentum is not None and self.running_mean is not None and self.running_var is not None
            assert self.num_batches_tracked is not None
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)  # type: ignore[no-any-return]
