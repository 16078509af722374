"""The optimiser of a family that has another than SGD: a module of its own, so that only its runs' records depend on it."""

from __future__ import annotations

from typing import Any

from dfmsd.spec import ScheduleSpec


def adamw(schedule: ScheduleSpec) -> dict[str, Any]:
    """AdamW with PyTorch's own betas and a schedule's rate and decay, for mmengine's ``optim_wrapper.optimizer``."""
    return {"type": "AdamW", "lr": schedule.lr, "weight_decay": schedule.weight_decay}
