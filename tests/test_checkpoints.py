"""Weights into a network: all of them, or an error that says what is wrong."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.model import BaseModule
from mmengine.runner import Runner, load_checkpoint
from torch import nn

from dfmsd import checkpoints
from dfmsd.errors import StudyError
from tests.fixtures_detectors import Payload


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def filled(value: float) -> nn.Module:
    net = network()
    for parameter in net.parameters():
        nn.init.constant_(parameter, value)
    return net


@pytest.mark.parametrize("wrapped", [True, False])
def test_weights_arrive(tmp_path: Path, wrapped: bool) -> None:
    file, target = tmp_path / "w.pth", network()
    state = filled(2.5).state_dict()
    # mmdet's published checkpoints carry numpy scalars beside the weights.
    torch.save({"state_dict": state, "meta": {"mAP": np.float64(0.4), "epoch": 3}} if wrapped else state, file)
    checkpoints.load(target, file)
    assert all((parameter == 2.5).all() for parameter in target.parameters())


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"checkpoint .*absent.pth does not exist"):
        checkpoints.load(network(), tmp_path / "absent.pth")


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint of mmdet's 2.x line as the model zoo offers it: classes and optimiser inside, its hash in its name."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    content = {
        "meta": {"CLASSES": ("a", "b"), "epoch": 12, "mmdet_version": "2.0.0"},
        "optimizer": {"state": {}, "param_groups": []},
    }
    torch.save(content | {"state_dict": filled(2.5).state_dict()}, tmp_path / "zoo.pth")
    digest = hashlib.sha256((tmp_path / "zoo.pth").read_bytes()).hexdigest()
    return (tmp_path / "zoo.pth").rename(tmp_path / f"net_r50-32x4d_1x_coco_20200131-{digest[:8]}.pth")


def test_a_published_checkpoint_is_fetched_once(published: Path) -> None:
    for _ in range(2):
        target = network()
        checkpoints.load(target, published.as_uri())
        assert all((parameter == 2.5).all() for parameter in target.parameters())
        published.unlink(missing_ok=True)


def test_a_published_checkpoint_with_another_hash_is_refused_and_not_kept(published: Path) -> None:
    published.write_bytes(published.read_bytes() + b" ")
    for _ in range(2):
        with pytest.raises(StudyError, match=r"net_r50.*\.pth is not what its name says \(invalid hash value"):
            checkpoints.load(network(), published.as_uri())


def test_a_checkpoint_that_somebody_put_on_the_shelf_is_taken_if_it_is_what_its_name_says(published: Path) -> None:
    checkpoints.shelf().mkdir(parents=True)
    file = published.rename(checkpoints.shelf() / published.name)
    address, target = f"https://nowhere.invalid/{file.name}", network()
    checkpoints.load(target, address)
    assert all((parameter == 2.5).all() for parameter in target.parameters())
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(StudyError, match=rf"{file} is not what its name says \(its SHA-256 begins with \w{{8}}\): delete"):
        checkpoints.load(target, address)


def test_a_checkpoint_that_cannot_be_had_says_where_to_put_it(published: Path) -> None:
    published.unlink()
    with pytest.raises(StudyError, match=r"cannot be had \(.*\): put the file at .*cache/hub/checkpoints/net_r50"):
        checkpoints.read(published.as_uri())


@pytest.mark.parametrize("kept", [0, 100, -10])
def test_damaged_file(tmp_path: Path, kept: int) -> None:
    file = tmp_path / "cut.pth"
    torch.save(network().state_dict(), file)
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(StudyError, match=r"cut.pth cannot be read \(\w+\): delete it"):
        checkpoints.read(file)


def test_a_file_of_something_else(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(StudyError, match="holds a list, not a dictionary of weights"):
        checkpoints.read(tmp_path / "list.pth")


def test_lacking_weights_are_named(tmp_path: Path) -> None:
    state = network().state_dict()
    del state["1.running_mean"]
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(StudyError, match=r"does not fit Sequential: 1 weights are missing, such as '1.running_mean'"):
        checkpoints.load(network(), tmp_path / "w.pth")


def test_other_shapes_are_named(tmp_path: Path) -> None:
    torch.save(nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(3)).state_dict(), tmp_path / "w.pth")
    with pytest.raises(StudyError, match=r"does not fit Sequential: .*0\.bias"):
        checkpoints.load(network(), tmp_path / "w.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    torch.save(filled(value).state_dict(), tmp_path / "w.pth")
    with pytest.raises(StudyError, match=r"w\.pth is of a training that went wrong: '0.weight' has numbers that are not finite"):
        checkpoints.load(network(), tmp_path / "w.pth")


def test_a_deeper_networks_weights_are_refused(tmp_path: Path) -> None:
    """ResNet-101 has every weight of ResNet-50, of the same shapes: what is left over tells them apart."""
    torch.save(nn.Sequential(*network(), nn.Linear(3, 3)).state_dict(), tmp_path / "w.pth")  # type: ignore[misc]
    with pytest.raises(StudyError, match=r"does not fit Sequential: 2 .*'2.weight'"):
        checkpoints.load(network(), tmp_path / "w.pth")


BLOCKS = {"distill.0.0.levels.8.align.weight": torch.ones(1), "distill.0.0.weight_rec": torch.ones(())}


@pytest.mark.parametrize(
    "around",
    [
        pytest.param(lambda state: state | BLOCKS, id="of a distiller"),
        pytest.param(
            lambda state: {f"student.{name}": value for name, value in state.items()} | {"methods.0.0.w": torch.ones(1)},
            id="of one before",
        ),
        pytest.param(lambda state: {f"module.{name}": value for name, value in (state | BLOCKS).items()}, id="of a wrapped one"),
        pytest.param(
            lambda state: {f"module.{name}": value for name, value in state.items()} | {"steps": torch.tensor(3)},
            id="of mmengine's averages",
        ),
        pytest.param(
            lambda state: state | {f"ema_{name.replace('.', '_')}": -value for name, value in state.items()},
            id="of mmdet 2.x with averages",
        ),
        pytest.param(lambda state: state | {"data_preprocessor.mean": torch.ones(3)}, id="of mmdet 3.0 with pixels' statistics"),
    ],
)
def test_a_detectors_weights_are_found_among_others(tmp_path: Path, around: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    torch.save({"state_dict": around(dict(filled(2.5).state_dict()))}, tmp_path / "epoch_1.pth")
    target = network()
    checkpoints.load(target, tmp_path / "epoch_1.pth")
    assert all((parameter == 2.5).all() for parameter in target.parameters())


def test_weights_of_a_layer_that_is_called_like_an_average_stay() -> None:
    state = {"ema_gate": torch.ones(1), "gate.w": torch.ones(1)}
    assert checkpoints.student_of(state).keys() == state.keys()


def test_layers_learn_the_version_of_their_weights(tmp_path: Path) -> None:
    """By it those of mmcv and mmdet tell what had another name once."""
    torch.save(filled(2.5).state_dict(), tmp_path / "w.pth")
    found = checkpoints.student_of(checkpoints.read(tmp_path / "w.pth"))
    assert found._metadata["1"] == {"version": 2}  # type: ignore[attr-defined]


@pytest.mark.parametrize("state", [None, [1, 2]])
def test_a_checkpoint_without_weights(tmp_path: Path, state: Any) -> None:
    torch.save({"state_dict": state}, tmp_path / "w.pth")
    with pytest.raises(StudyError, match=r"w.pth has no weights: its state_dict is a (NoneType|list)"):
        checkpoints.load(network(), tmp_path / "w.pth")


# Code in a checkpoint


class Reached(Payload):
    """A call of the one function that mmengine's checkpoints hold, for what they do not ask of it."""

    def __reduce__(self) -> Any:
        return getattr, (HistoryBuffer, "__init__")


def by_runner(file: Path, resume: bool) -> None:
    name = f"{file.parent.name} {resume}"
    runner = Runner(BaseModule(), str(file.parent), load_from=str(file), resume=resume, experiment_name=name, log_level="ERROR")
    runner.load_or_resume()


READERS: dict[str, Callable[[Path], Any]] = {
    "read": checkpoints.read,
    "load": lambda file: checkpoints.load(network(), file),
    "mmengine": lambda file: load_checkpoint(network(), str(file)),
    "init_cfg": lambda file: BaseModule({"type": "Pretrained", "checkpoint": str(file)}).init_weights(),
    "a part": lambda file: BaseModule({"type": "Pretrained", "checkpoint": str(file), "prefix": "backbone."}).init_weights(),
    "load_from": lambda file: by_runner(file, resume=False),
    "resume": lambda file: by_runner(file, resume=True),
}


@pytest.mark.parametrize("form", ["zip", "legacy"])
@pytest.mark.parametrize("kind", [Payload, Reached])
def test_code_in_a_checkpoint_is_never_run(tmp_path: Path, kind: type, form: str) -> None:
    mark, file = tmp_path / "mark", tmp_path / "evil.pth"
    content = {"state_dict": filled(2.5).state_dict(), "meta": {"epoch": kind(mark)}}
    torch.save(content, file, _use_new_zipfile_serialization=form == "zip")
    for name, reader in READERS.items():
        with pytest.raises(StudyError, match=r"evil.pth holds more than weights \((io.open|builtins.getattr)\)") as caught:
            reader(file)
        assert not mark.exists() and "\n" not in str(caught.value), name


def test_code_behind_a_published_name_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Backbones are fetched by name; torch keeps the files, and whoever may write there may put another in its place."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    kept = tmp_path / "hub" / "checkpoints"
    kept.mkdir(parents=True)
    for file in ("resnet50_caffe-788b5fa3.pth", "resnet50-0676ba61.pth", "some.pth"):
        torch.save({"state_dict": Payload(tmp_path / "mark")}, kept / file)
    with pytest.raises(StudyError, match="is not what its name says"):
        load_checkpoint(network(), "torchvision://resnet50")
    for name in ("open-mmlab://detectron/resnet50_caffe", "https://nowhere.invalid/some.pth"):
        with pytest.raises(StudyError, match=r"holds more than weights \((io\.)?open\), which could run code, and is not loaded"):
            load_checkpoint(network(), name)
    assert not (tmp_path / "mark").exists()
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


def test_the_backbones_of_mmdets_configs_need_no_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "hub" / "checkpoints" / "resnet50-0676ba61.pth"
    kept.parent.mkdir(parents=True)
    torch.save(filled(2.5).state_dict(), kept)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: SimpleNamespace(hexdigest=lambda: "0676ba61"))
    target = network()
    load_checkpoint(target, "torchvision://resnet50")
    assert all((parameter == 2.5).all() for parameter in target.parameters())
    with pytest.raises(StudyError, match="torchvision has no weights 'resnet5': did you mean 'resnet50'"):
        load_checkpoint(target, "torchvision://resnet5")


def test_what_mmengine_puts_into_checkpoints_is_read(tmp_path: Path) -> None:
    hub = MessageHub("some")
    for value in (0.5, 0.25):
        hub.update_scalar("train/loss", value)
    numbers = {name: np.dtype(name).type(3) for name in ("float64", "float32", "float16", "int64", "int32", "uint8", "bool")}
    content = {
        "state_dict": {},
        "message_hub": hub.state_dict(),
        "meta": numbers | {"shape": np.arange(3), "places": {1}, "cut": slice(2)},
    }
    for form in (True, False):
        torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=form)
        found = checkpoints.read(tmp_path / "w.pth")
        assert found["message_hub"]["log_scalars"]["train/loss"].mean() == 0.375
        assert found["meta"]["float64"] == 3 and found["meta"]["shape"].tolist() == [0, 1, 2]
