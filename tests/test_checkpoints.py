"""Weights into a network: all of them, or an error that says what is wrong."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dfmsd import checkpoints
from dfmsd.errors import StudyError


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


def test_a_deeper_networks_weights_are_refused(tmp_path: Path) -> None:
    """ResNet-101 has every weight of ResNet-50, of the same shapes: what is left over tells them apart."""
    torch.save(nn.Sequential(*network(), nn.Linear(3, 3)).state_dict(), tmp_path / "w.pth")  # type: ignore[misc]
    with pytest.raises(StudyError, match=r"does not fit Sequential: 2 .*'2.weight'"):
        checkpoints.load(network(), tmp_path / "w.pth")


def test_a_distillers_checkpoint_loads_as_its_student(tmp_path: Path) -> None:
    state = {f"student.{name}": value for name, value in filled(2.5).state_dict().items()}
    torch.save({"state_dict": state | {"methods.0.0.student.w": torch.ones(1)}}, tmp_path / "epoch_1.pth")
    target = network()
    checkpoints.load(target, tmp_path / "epoch_1.pth")
    assert all((parameter == 2.5).all() for parameter in target.parameters())
