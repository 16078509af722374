"""Seeds that survive a resume, the guard against NaN, and the learning curve, in mmengine's own training loop."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from dfmsd.errors import StudyError
from dfmsd.study import hooks, plan
from dfmsd.study.hooks import CurveHook, LossGuard, NaNLoss, SeedHook, read_curve, shares

EPOCHS, ITERATIONS = 2, 5


class Noisy(torch.utils.data.Dataset[Any]):
    """Samples that draw from numpy's global generator, as mmcv's transforms do."""

    metainfo: dict[str, Any] = {}  # noqa: RUF012

    def __len__(self) -> int:
        return 2 * ITERATIONS

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor([index, np.random.rand()], dtype=torch.float32)  # noqa: NPY002


class Toy(BaseModel):
    """A linear model with noise in its loss."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 1)

    def init_weights(self) -> None:
        nn.init.normal_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, batch: list[torch.Tensor], mode: str = "loss") -> dict[str, torch.Tensor]:
        value = self.linear(torch.stack(list(batch)) / 10).square().mean()
        return {"loss_a": value + 0 * torch.rand(()), "loss_mgd_rec": value * torch.rand(()), "acc": torch.tensor(9.0)}

    def train_step(self, data: Any, optim_wrapper: Any) -> Any:
        losses, logs = self.parse_losses(self(data))
        optim_wrapper.update_params(losses)
        return logs


class Kill(Hook):
    """Stand in for a kill signal in the middle of an iteration."""

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        if runner.iter == ITERATIONS + 2:
            raise KeyboardInterrupt


def train(folder: Path, *extra: Hook, seed: int = 0, resume: Path | None = None, model: BaseModel | None = None) -> Runner:
    runner = Runner(
        model=model or Toy(),
        work_dir=str(folder),
        train_dataloader={
            "dataset": Noisy(),
            "sampler": {"type": "DefaultSampler", "shuffle": True},
            "batch_size": 2,
            "num_workers": 0,
            "collate_fn": {"type": "pseudo_collate"},
        },
        train_cfg={"by_epoch": True, "max_epochs": EPOCHS},
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.1, "momentum": 0.9}},
        default_hooks={"logger": None, "checkpoint": {"type": "CheckpointHook", "interval": 1}},
        custom_hooks=[SeedHook(seed), LossGuard(), CurveHook(str(folder)), *extra],
        randomness={"seed": seed},
        resume=resume is not None,
        load_from=None if resume is None else str(resume),
        experiment_name=f"{folder.name}-{len(list(folder.iterdir()))}",
        log_level="ERROR",
    )
    runner.train()
    return runner


@pytest.fixture
def coarse_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    """A point every three iterations, so that an epoch ends between two points."""
    monkeypatch.setattr(hooks, "POINTS", 3)


@pytest.mark.usefixtures("coarse_curve")
def test_a_killed_and_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    expected = train(whole)
    with pytest.raises(KeyboardInterrupt):
        train(broken, Kill())
    before = json.loads((broken / "progress.json").read_text())
    (broken / "progress.json").write_text(json.dumps(before | {"seconds": 100.0}))
    torch.manual_seed(12345)
    np.random.seed(12345)  # noqa: NPY002
    resumed = train(broken, resume=broken / "epoch_1.pth")
    assert torch.equal(expected.model.linear.weight, resumed.model.linear.weight)
    assert [point["iteration"] for point in read_curve(whole / "curve.jsonl")] == [3, 6, 9, 10]
    assert read_curve(whole / "curve.jsonl") == read_curve(broken / "curve.jsonl")
    progress = json.loads((broken / "progress.json").read_text())
    assert (progress["iteration"], progress["of"]) == (10, 10)
    assert 100 <= progress["seconds"] < 200


def test_a_point_is_the_mean_since_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every, coarse = tmp_path / "every", tmp_path / "coarse"
    for folder in (every, coarse):
        folder.mkdir()
    train(every)
    monkeypatch.setattr(hooks, "POINTS", 3)
    train(coarse)
    fine, points = read_curve(every / "curve.jsonl"), read_curve(coarse / "curve.jsonl")
    assert len(fine) == 10
    for name in ("loss", "loss_a", "loss_mgd_rec"):
        assert points[1][name] == pytest.approx(np.mean([point[name] for point in fine[3:6]]), abs=2e-6)
    assert "acc" not in fine[0]
    assert fine[0]["lr"] == 0.1


def test_the_seed_decides_start_and_run(tmp_path: Path) -> None:
    curves = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        train(tmp_path / name, seed=seed)
        curves.append(read_curve(tmp_path / name / "curve.jsonl"))
    assert curves[0] == curves[1]
    assert curves[0][0]["loss_a"] != curves[2][0]["loss_a"]


def test_every_iteration_has_its_own_stream_in_every_generator() -> None:
    hook = SeedHook(3)

    def draws(iteration: int) -> tuple[float, float, float]:
        hook.before_train_iter(type("At", (), {"iter": iteration})(), 0)
        return random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002

    first = draws(7)
    random.random(), np.random.rand(), torch.rand(5)  # noqa: NPY002
    assert draws(7) == first
    assert all(a != b for a, b in zip(first, draws(8), strict=True))


class Exploding(Toy):
    """Its loss is no number from an iteration on."""

    def __init__(self, last_good: int) -> None:
        super().__init__()
        self.calls, self.last_good = 0, last_good

    def forward(self, batch: list[torch.Tensor], mode: str = "loss") -> dict[str, torch.Tensor]:
        self.calls += 1
        losses = super().forward(batch, mode)
        if self.calls > self.last_good:
            losses["loss_mgd_rec"] = losses["loss_mgd_rec"] * float("nan")
        return losses


@pytest.mark.parametrize("last_good", [5, 9])
def test_nan_stops_before_the_next_checkpoint(tmp_path: Path, last_good: int) -> None:
    with pytest.raises(NaNLoss, match=r"not finite at iteration 10 \(loss, .*loss_mgd_rec\): lower the learning rate"):
        train(tmp_path, model=Exploding(last_good))
    assert sorted(file.name for file in tmp_path.glob("epoch_*.pth")) == ["epoch_1.pth"]
    state = torch.load(tmp_path / "epoch_1.pth", weights_only=False)["state_dict"]
    assert all(value.isfinite().all() for value in state.values())


def test_curve_that_a_kill_cut_short(tmp_path: Path) -> None:
    file = tmp_path / "curve.jsonl"
    assert read_curve(file) == []
    file.write_text('{"iteration": 1, "loss": 2.0}\n{"iteration": 2, "lo')
    assert read_curve(file) == [{"iteration": 1, "loss": 2.0}]


@pytest.mark.parametrize(
    "line", ["[]", "3", '{"loss": 2.0}', '{"iteration": 2, "loss": NaN}', '{"iteration": 2, "loss": "x"}', "\udcff"]
)
def test_a_damaged_curve_is_named_with_the_way_out(tmp_path: Path, line: str) -> None:
    file = tmp_path / "curve.jsonl"
    text = f'{{"iteration": 1, "loss": 2.0}}\n{line}\n{{"iteration": 3, "loss": 2.0}}\n'
    file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(StudyError, match=rf"^{file} is damaged.*: delete the folder {tmp_path}, and the run starts afresh$"):
        read_curve(file)


@pytest.mark.usefixtures("coarse_curve")
def test_a_run_whose_curve_has_lost_points_does_not_go_on_without_them(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, Kill())
    (tmp_path / "curve.jsonl").unlink()
    with pytest.raises(StudyError, match=r"lacks points up to iteration 5: delete the folder"):
        train(tmp_path, resume=tmp_path / "epoch_1.pth")


def test_shares_are_relative_to_the_students_own_loss() -> None:
    curve = [
        {"iteration": 1, "loss": 10.0, "loss_cls": 6.0, "loss_dfmsd_rec": 3.0, "loss_dfmsd_sfa": 1.0},
        {"iteration": 2, "loss": 8.0, "loss_cls": 6.0, "loss_dfmsd_rec": 2.0},
    ]
    assert shares(curve) == {"loss_dfmsd_rec": round(5 / 12, 6), "loss_dfmsd_sfa": round(1 / 12, 6)}
    assert shares([{"iteration": 1, "loss": 2.0, "loss_cls": 2.0}]) == {}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, 0.0),
        ('{"iteration": 4, "of": 9, "seconds": 12.5}', 12.5),
        ('{"iteration": 4, "of": 9}', 0.0),
        *(
            (text, 0.0)
            for text in ("{", "[]", "3", "null", '{"iteration": 4, "of": 9, "seconds": -5}', '{"iteration": 4, "of": 0}')
        ),
        ('{"iteration": 4, "of": 9, "seconds": Infinity}', 0.0),
    ],
)
def test_the_seconds_before_an_interruption(tmp_path: Path, text: str | None, seconds: float) -> None:
    if text is not None:
        (tmp_path / "progress.json").write_text(text)
    assert plan.seconds_so_far(tmp_path) == seconds
