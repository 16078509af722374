"""Weights into a network, all of them or an error; and a student's weights out of a distiller's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor, nn

from dfmsd.errors import StudyError

STUDENT = "student."


def read(checkpoint: str | Path) -> dict[str, Any]:
    """A checkpoint file's or address's content, on the CPU.

    Raises:
        StudyError: if the file is missing or cannot be read.
    """
    if "://" not in str(checkpoint) and not Path(checkpoint).is_file():
        raise StudyError(f"checkpoint {checkpoint} does not exist")
    try:
        content = CheckpointLoader.load_checkpoint(str(checkpoint), map_location="cpu")
    except Exception as error:  # torch, pickle and zipfile each raise their own on a damaged file
        raise StudyError(f"checkpoint {checkpoint} cannot be read ({type(error).__name__}): delete it and make it again") from error
    if not isinstance(content, dict):
        raise StudyError(f"checkpoint {checkpoint} holds a {type(content).__name__}, not a dictionary of weights")
    return content


def load(network: nn.Module, checkpoint: str | Path) -> None:
    """Load a plain mmdet checkpoint; every parameter of the network must be in it.

    Raises:
        StudyError: if the file is missing or damaged, or lacks a weight, or has one of another shape. A teacher or student that
            is silently left uninitialised is the most common cause of "no gain" in distillation.
    """
    content = read(checkpoint)
    state: Mapping[str, Tensor] = content.get("state_dict", content)
    try:
        missing, unexpected = network.load_state_dict(state, strict=False)
    except RuntimeError as error:
        detail = str(error).splitlines()[-1].strip()
        raise StudyError(f"checkpoint {checkpoint} does not fit {type(network).__name__}: {detail}") from error
    if missing or unexpected:
        what, names = ("are missing", missing) if missing else ("are of another network", unexpected)
        raise StudyError(
            f"checkpoint {checkpoint} does not fit {type(network).__name__}: {len(names)} weights {what}, such as {names[0]!r}"
        )


def student_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The student's part of a distiller's state; a plain detector's state as it is.

    Example:
        >>> import torch
        >>> student_of({"student.w": torch.zeros(1), "methods.0.w": torch.ones(1)})
        {'w': tensor([0.])}
    """
    inner = {name.removeprefix(STUDENT): value for name, value in state.items() if name.startswith(STUDENT)}
    return inner or dict(state)
