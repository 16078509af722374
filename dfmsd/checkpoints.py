"""Weights into a network, all of them or an error; and a detector's weights out of whatever holds them. No file's code is run.

A checkpoint is a pickle, and a pickle may run code. Whatever is read here, and whatever mmengine reads in a process that has
imported this module (``load_from``, ``resume``, ``init_cfg``), is read as weights alone: torch refuses all but tensors, plain
containers and the few classes of :func:`_allowed`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, wraps
from importlib import import_module
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import mmengine
import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor, nn

from dfmsd.errors import StudyError, suggest

BLOCKS = "distill."
"""Before the names of what the methods of a distiller learn; all other names in its state are its student's."""

Loader = Callable[..., Any]


def shelf() -> Path:
    """Where published checkpoints are kept: torch's cache, which ``TORCH_HOME`` moves."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def fetched(address: str) -> Path:
    """A published checkpoint on the :func:`shelf`, downloaded unless somebody has put it there.

    Args:
        address: Its URL; the file's name ends in the first digits of its SHA-256, as those of mmdet's model zoo do.

    Raises:
        StudyError: if it cannot be had, or is not what its name says.
    """
    name = address.rsplit("/", 1)[1]
    file, said = shelf() / name, re.search(r"-([0-9a-f]{8,64})\.pth$", name)
    if file.exists():
        with file.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if said and not found.startswith(said[1]):
            raise StudyError(f"checkpoint {file} is not what its name says (its SHA-256 begins with {found[:8]}): delete it")
        return file
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(address, str(file), hash_prefix=said[1] if said else None)
    except RuntimeError as error:
        raise StudyError(f"checkpoint {address} is not what its name says ({error}): nothing was kept, try again") from None
    except OSError as error:
        raise StudyError(f"checkpoint {address} cannot be had ({error}): put the file at {file}") from None
    return file


def read(checkpoint: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """A checkpoint's content, on the CPU, from a file or an address (:func:`fetched`).

    Raises:
        StudyError: if the file is missing or cannot be read, or holds what could run code.
    """
    if re.match("(https?|file)://", str(checkpoint)):
        checkpoint = fetched(str(checkpoint))
    file = Path(os.path.expanduser(checkpoint))
    if (local := "://" not in str(checkpoint)) and not file.is_file():
        raise StudyError(f"checkpoint {str(checkpoint) or repr('')} does not exist")
    try:
        if local:
            with _weights_alone(checkpoint):
                content = torch.load(file, map_location=map_location, weights_only=True)
        else:
            content = CheckpointLoader.load_checkpoint(str(checkpoint), map_location=map_location, logger="silent")
    except StudyError:
        raise
    except Exception as error:  # torch, pickle and zipfile each raise their own on a damaged file
        raise StudyError(f"checkpoint {checkpoint} cannot be read ({type(error).__name__}): delete it and make it again") from error
    if not isinstance(content, dict):
        raise StudyError(f"checkpoint {checkpoint} holds a {type(content).__name__}, not a dictionary of weights")
    return content


@contextmanager
def _weights_alone(checkpoint: str | Path) -> Iterator[None]:
    """While it lasts, torch unpickles nothing but weights, whoever calls it; what it refuses is told in a line."""
    forced = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(forced)
    os.environ[forced] = "1"
    try:
        with torch.serialization.safe_globals(_allowed()):
            yield
    except UnpicklingError as error:
        if (found := re.search(r"GLOBAL (\S+)", str(error))) is None:
            raise
        raise StudyError(
            f"checkpoint {checkpoint} holds more than weights ({found[1]}), which could run code, and is not loaded: whoever "
            "trusts it saves its weights alone, by torch.save({'state_dict': ...}, file)"
        ) from None
    finally:
        del os.environ[forced]
        if before is not None:
            os.environ[forced] = before


@cache
def _allowed() -> list[Any]:
    """What mmengine's checkpoints hold besides weights: averages of losses, in NumPy's numbers and arrays of numbers."""
    arrays = [np.ndarray, np.dtype, *{type(np.dtype(code)) for code in np.typecodes["All"] if code not in "OVSUMm"}]
    made = import_module("numpy._core.multiarray")
    makers = [made._reconstruct, made.scalar]
    older = [(maker, f"numpy.core.multiarray.{maker.__name__}") for maker in makers]
    return [HistoryBuffer, (_statistic, "builtins.getattr"), slice, *arrays, *makers, *older]


def _statistic(owner: Any, name: str) -> Any:
    """In the place of ``getattr``, by which the averages name their own methods."""
    if owner is not HistoryBuffer or name.startswith("_"):
        raise UnpicklingError("GLOBAL builtins.getattr")
    return getattr(owner, name)


def _guarded(loader: Loader) -> Loader:
    """A loader of mmengine's, for its other addresses, that takes weights alone."""

    @wraps(loader)  # mmengine prints its name
    def load(filename: str, map_location: Any = None) -> Any:
        with _weights_alone(filename):
            return loader(filename, map_location)

    return load


@CheckpointLoader.register_scheme(prefixes="", force=True)
def load_from_local(filename: str, map_location: Any = None) -> dict[str, Any]:
    """In the place of mmengine's own, which loads a file with its code where torch refuses to."""
    return read(filename, map_location)


for _prefix, _loader in list(CheckpointLoader._schemes.items()):
    if _prefix:
        CheckpointLoader.register_scheme(_prefix, _guarded(_loader), force=True)


@CheckpointLoader.register_scheme(prefixes=("modelzoo://", "torchvision://"), force=True)
def load_from_torchvision(filename: str, map_location: Any = None) -> dict[str, Any]:
    """In the place of mmengine's own, which wants torchvision for a list of addresses that it has itself."""
    known: dict[str, str] = json.loads((Path(mmengine.__file__).parent / "hub" / "torchvision_0.12.json").read_text())
    name = filename.partition("://")[2]
    if name not in known:
        raise StudyError(f"torchvision has no weights {name!r}: {suggest(name, known)}")
    return read(known[name], map_location)


def load(network: nn.Module, checkpoint: str | Path) -> None:
    """Load a detector's checkpoint, or the student of a distiller's; every parameter of the network must be in it.

    Raises:
        StudyError: if the file is missing or damaged, or lacks a weight, or has one of another shape or that is not finite. A
            teacher or student that is silently left uninitialised is the most common cause of "no gain" in distillation.
    """
    content = read(checkpoint)
    state = content.get("state_dict", content)
    if not isinstance(state, Mapping):
        raise StudyError(f"checkpoint {checkpoint} has no weights: its state_dict is a {type(state).__name__}")
    try:
        missing, unexpected = network.load_state_dict(student_of(state), strict=False)
    except RuntimeError as error:
        detail = str(error).splitlines()[-1].strip()
        raise StudyError(f"checkpoint {checkpoint} does not fit {type(network).__name__}: {detail}") from error
    if missing or unexpected:
        what, names = ("are missing", missing) if missing else ("are of another network", unexpected)
        raise StudyError(
            f"checkpoint {checkpoint} does not fit {type(network).__name__}: {len(names)} weights {what}, such as {names[0]!r}"
        )
    if (bad := next((name for name, weight in network.named_parameters() if not weight.isfinite().all()), None)) is not None:
        raise StudyError(f"checkpoint {checkpoint} is of a training that went wrong: {bad!r} has numbers that are not finite")


def student_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A detector's weights out of a state that holds others besides.

    What is left out: the blocks of a distiller's methods, the copies ``ema_*`` that mmdet 2.x keeps of every weight, the number
    of ``steps`` that mmengine's averages count, and the statistics of pixels, which are no weights. The prefix of a model that
    was wrapped goes.

    Example:
        >>> import torch
        >>> student_of({"module.w": torch.zeros(1), "ema_w": torch.ones(1), "distill.0.w": torch.ones(1)})
        {'w': tensor([0.])}
    """
    plain = current({re.sub(r"^(module\.)+", "", name): value for name, value in state.items()})
    copies = {f"ema_{name.replace('.', '_')}" for name in plain} | {"steps"}
    left = {
        name: value for name, value in plain.items() if name not in copies and not name.startswith((BLOCKS, "data_preprocessor."))
    }
    if (versions := getattr(state, "_metadata", None)) is None:
        return left
    versioned = OrderedDict(left)
    versioned._metadata = versions  # type: ignore[attr-defined]  # by which layers tell older checkpoints of theirs
    return versioned


def current(state: Mapping[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """A distiller's state with today's names: once the student's began with ``student.``, and its blocks' with ``methods.``.

    Example:
        >>> current({"student.w": 0, "methods.0.w": 1})
        {'w': 0, 'distill.0.w': 1}
    """
    student, blocks = f"{prefix}student.", f"{prefix}methods."
    if not any(name.startswith(student) for name in state):
        return dict(state)
    return {
        (
            prefix + name.removeprefix(student)
            if name.startswith(student)
            else prefix + BLOCKS + name.removeprefix(blocks)
            if name.startswith(blocks)
            else name
        ): value
        for name, value in state.items()
    }
