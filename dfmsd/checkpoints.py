"""Weights into a network, all of them or an error; and a student's weights out of a distiller's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor, nn

from dfmsd.errors import StudyError

STUDENT = "student."


def fetched(address: str) -> Path:
    """A published checkpoint in torch's cache, downloaded once.

    Args:
        address: Its URL; the file's name ends in the first digits of its SHA-256, as those of mmdet's model zoo do.

    Raises:
        StudyError: if it cannot be had, or is not what its name says.
    """
    name = address.rsplit("/", 1)[1]
    file = Path(torch.hub.get_dir()) / "checkpoints" / name
    if file.exists():
        return file
    digits = re.search(r"-([0-9a-f]{8,64})\.pth$", name)
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(address, str(file), hash_prefix=digits[1] if digits else None)
    except RuntimeError as error:
        raise StudyError(f"checkpoint {address} is not what its name says ({error}): nothing was kept, try again") from None
    except OSError as error:
        raise StudyError(f"checkpoint {address} cannot be had ({error}): put the file at {file}") from None
    return file


def read(checkpoint: str | Path) -> dict[str, Any]:
    """A checkpoint's content, on the CPU, from a file or an address (:func:`fetched`).

    Raises:
        StudyError: if the file is missing or cannot be read.
    """
    if re.match("(https?|file)://", str(checkpoint)):
        checkpoint = fetched(str(checkpoint))
    if "://" not in str(checkpoint) and not Path(checkpoint).is_file():
        raise StudyError(f"checkpoint {checkpoint} does not exist")
    try:
        content = CheckpointLoader.load_checkpoint(str(checkpoint), map_location="cpu", logger="silent")
    except Exception as error:  # torch, pickle and zipfile each raise their own on a damaged file
        raise StudyError(f"checkpoint {checkpoint} cannot be read ({type(error).__name__}): delete it and make it again") from error
    if not isinstance(content, dict):
        raise StudyError(f"checkpoint {checkpoint} holds a {type(content).__name__}, not a dictionary of weights")
    return content


def load(network: nn.Module, checkpoint: str | Path) -> None:
    """Load an mmdet checkpoint, or the student of a distiller's; every parameter of the network must be in it.

    Raises:
        StudyError: if the file is missing or damaged, or lacks a weight, or has one of another shape. A teacher or student that
            is silently left uninitialised is the most common cause of "no gain" in distillation.
    """
    content = read(checkpoint)
    state = student_of(content.get("state_dict", content))
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
