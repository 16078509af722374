"""Detectors' configs: from a file, from mmdet's own or in memory; and what a distiller's config needs to be one of mmdet's.

mmengine makes a config of a file in one place, ``Config``. Where its model is a distiller, two things are done there: relative
paths are found from the folder of the file that names them, as those of ``_base_`` are, and the model gets the key ``backbone``,
which mmdet's ``init_detector`` looks into.
"""

from __future__ import annotations

import copy
import inspect
import os
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import wraps
from pathlib import Path
from typing import Any

import mmdet
from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS, TASK_UTILS
from mmengine.config import Config, ConfigDict
from mmengine.model import ImgDataPreprocessor

from dfmsd.errors import StudyError, suggest

MMDETS = "mmdet::"
"""Before the name of a config that mmdet ships."""


def read(config: Any) -> Config:
    """A copy of a whole mmdet config: of one in memory, from a file, or from mmdet's own by ``mmdet::``.

    Raises:
        StudyError: if there is no such file, of mmdet's own the nearest is suggested; or it cannot be read.
    """
    if isinstance(config, Config):
        return copy.deepcopy(config)
    name = str(config)
    if name.startswith(MMDETS):
        folder = Path(mmdet.__file__).parent / ".mim" / "configs"
        if not (file := folder / name.removeprefix(MMDETS)).is_file():
            known = {MMDETS + str(found.relative_to(folder)) for found in folder.glob("*/*.py")}
            hint = suggest(name, known) if get_close_matches(name, known, n=1) else "its configs are called mmdet::FOLDER/NAME.py"
            raise StudyError(f"mmdet has no config {name}: {hint}")
    elif not (file := Path(os.path.expanduser(name))).is_file():
        raise StudyError(
            f"config {name} does not exist: a relative path is taken from the folder of the config that names it, else from "
            f"{Path.cwd()}"
        )
    try:
        return Config.fromfile(file)
    except Exception as error:  # a config is a program
        raise StudyError(f"config {name} cannot be read ({type(error).__name__}: {_first_line(error)})") from error


def built(model: Mapping[str, Any], role: str) -> BaseDetector:
    """The detector of a ``model`` dict.

    Args:
        model: As :func:`network` gives it.
        role: What an error calls it, such as ``student``.

    Raises:
        StudyError: if it cannot be built; the nearest name of a part or an option is suggested.
    """
    try:
        detector = MODELS.build(model)
    except Exception as error:  # whatever a network of anybody's raises
        raise StudyError(f"the {role} cannot be built: {_reason(error)}") from error
    if not isinstance(detector, BaseDetector) or not isinstance(detector.data_preprocessor, ImgDataPreprocessor):
        raise StudyError(f"the {role} is a {type(detector).__name__}, no detector of single images: name the one that it trains")
    return detector


def _reason(error: Exception) -> str:
    """Why a network cannot be built, with the nearest name."""
    parts = {name: part for one in (MODELS, MODELS.parent, TASK_UTILS) for name, part in one.module_dict.items()}
    reason = _first_line(error)
    if unknown := re.match(r"(\S+) is not in the .* registry", reason):
        return f"there is no {unknown[1]!r}: {suggest(unknown[1], parts)}"
    if (unknown := re.match(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(.*)'", reason)) and unknown[1] in parts:
        options = [name for name in inspect.signature(parts[unknown[1]]).parameters]
        return f"{unknown[1]} has no option {unknown[2]!r}: {suggest(unknown[2], options)}"
    return f"{type(error).__name__}: {reason}"


def _first_line(error: Exception) -> str:
    return (str(error.args[0] if isinstance(error, KeyError) and error.args else error).strip().splitlines() or [""])[0]


def network(given: Any, role: str) -> dict[str, Any]:
    """A detector's ``model`` dict, out of a config (:func:`read`) or as it is; of a distiller's, the student's.

    Args:
        given: The path of a config, a whole config, or the dict.
        role: What an error calls it, such as ``student``.

    Raises:
        StudyError: if it is no detector, or says nothing of how its images are normalised.
    """
    if isinstance(given, (str, Path, Config)):
        whole = read(given)
        if not isinstance(whole.get("model"), Mapping):
            raise StudyError(
                f"{role}: config {whole.filename if isinstance(given, Config) else given} has no model: name a detector's"
            )
        model = dict(whole.model)
        model.setdefault("data_preprocessor", whole.get("data_preprocessor"))  # as mmengine's runner does
    elif not isinstance(given, Mapping):
        raise StudyError(f"{role} = {given!r}: give the path of an mmdet config, or a detector's model dict")
    elif "type" not in given:
        path = given.get("cfg_path")
        shown = f"the path itself, {role}={path!r}" if path else f"the path of an mmdet config, {role}='mmdet::FOLDER/NAME.py'"
        raise StudyError(f"{role} is a dict without type, so it is no detector's model: give {shown}")
    else:
        model = copy.deepcopy(dict(given))
    if is_distiller(model):
        return network(model.get("student"), role)
    if not model.get("data_preprocessor"):
        raise StudyError(f"the {role}'s config has no data_preprocessor: each network normalises images its own way")
    return model


def is_distiller(model: Any) -> bool:
    """Whether a ``model`` dict is a distiller's."""
    kind = dict.get(model, "type") if isinstance(model, dict) else None  # of a lazy config as it stands: nothing is imported
    return str(getattr(kind, "__name__", kind)).rpartition(".")[2] == "Distiller"


def complete(config: Config) -> None:
    """Make a distiller's config one that mmdet's tools take, see above; any other stays as it is."""
    model: Any = dict.get(config._cfg_dict, "model")
    if not is_distiller(model):
        return
    model.setdefault("backbone", ConfigDict())
    if config.filename is None:
        return
    file = Path(os.path.abspath(os.path.expanduser(config.filename)))
    for name in ("student", "teacher", "student_checkpoint", "teacher_checkpoint"):
        if name in model:
            model[name] = _placed(model[name], file)
    if isinstance(model.get("enhance"), dict) and "ratios" in model.enhance:
        model.enhance.ratios = _placed(model.enhance.ratios, file)


def _placed(path: Any, file: Path) -> Any:
    """A relative path as an absolute one, if it leads to a file from the folder of a config or of one of its bases."""
    if isinstance(path, (list, tuple)):
        return [_placed(one, file) for one in path]
    if not isinstance(path, str) or ":" in path or Path(path).is_absolute():
        return path
    return next((str(folder / path) for folder in _folders(file) if (folder / path).is_file()), path)


def _folders(file: Path) -> Iterator[Path]:
    yield file.parent
    for base in Config._get_base_files(str(file)):
        yield from _folders(Path(os.path.abspath(Config._get_cfg_path(base, str(file))[0])))


_plain = Config.__init__


@wraps(_plain)
def _completed(self: Config, *arguments: Any, **options: Any) -> None:
    _plain(self, *arguments, **options)
    complete(self)


Config.__init__ = _completed
