"""What the losses cost: the measurement on tiny maps, its record."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from dfmsd import study
from dfmsd.errors import StudyError
from dfmsd.hyper import METHODS
from dfmsd.report import bench, choosing, step
from dfmsd.study import pages, records, scales
from dfmsd.study.pages.measured import BenchPage
from dfmsd.study.rows import LABELS

CPU = torch.device("cpu")
(TINY,) = bench.TINY


@pytest.fixture(scope="module")
def page() -> BenchPage:
    found = pages.get("losses", scale="smoke")
    assert isinstance(found, BenchPage)
    return found.model_copy(update={"repeats": 1})


@pytest.fixture(scope="module")
def measured(page: BenchPage) -> tuple[pd.DataFrame, dict[str, Any]]:
    return bench.measure(page)


def test_all_methods_are_measured(measured: tuple[pd.DataFrame, dict[str, Any]]) -> None:
    frame, pictures = measured
    frame = frame[~frame["metric"].isin(step.METRICS)]
    table = frame.pivot(index="row", columns="metric", values="value")
    assert set(table.index) == {LABELS[name] for name in METHODS if name not in bench.LEFT_OUT}
    assert (table[["ms", "mse ratio", "peak MiB"]] > 0).all(axis=None)
    assert (frame["low"] <= frame["value"]).all() and (frame["value"] <= frame["high"]).all()
    assert pictures["settings"]["float32 matrix products"] == torch.get_float32_matmul_precision()


def test_whole_steps_are_measured_beside_one_without_a_teacher(measured: tuple[pd.DataFrame, dict[str, Any]]) -> None:
    frame, _ = measured
    whole = frame[frame["metric"].isin(step.METRICS)]
    table = whole.pivot(index="row", columns="metric", values="value")
    assert list(dict.fromkeys(whole["row"])) == [step.ALONE, "MSE", "DFMSD", step.ENHANCED]
    assert table.loc[step.ALONE, "× the baseline"] == table.loc["MSE", "× MSE"] == 1
    assert (table > 0).all(axis=None)
    peak = table["step peak MiB"]
    assert peak[step.ENHANCED] > peak["DFMSD"] >= peak[step.ALONE]


def test_pairs_are_those_of_mmdet_and_of_the_runs() -> None:
    small, large = step.mini(), step.coco()
    assert set(small.methods) == set(large.methods) == set(METHODS)
    assert [one["neck"]["out_channels"] for one in (small.student, large.student)] == [bench.MINI.channels, 256]
    assert small.methods["mse"]["alpha"] == scales.get("mini").methods["mse"]["alpha"] != large.methods["mse"]["alpha"]
    image = scales.get("mini").image_size
    assert bench.MINI.image == image and bench.MINI.batch == scales.get("mini").schedule_of("retinanet_r50").batch
    assert choosing.SIZE == large.size in bench.STEPS
    assert all(one["backbone"].get("init_cfg") is None for pair in (small, large) for one in (pair.student, pair.teacher)), (
        "a download"
    )


def test_gradients_reach_features_and_parameters_and_are_given_back() -> None:
    inputs = bench.Inputs(TINY, CPU)
    method = inputs.method("mgd")
    learned = [*inputs.levels_s.values(), *method.parameters()]
    seen: dict[int, float] = {}
    for place, one in enumerate(learned):
        one.register_post_accumulate_grad_hook(lambda own, place=place: seen.update({place: own.grad.abs().sum().item()}))
    inputs.call(method)()
    assert set(seen) == set(range(len(learned))) and all(value > 0 for value in seen.values())
    assert all(one.grad is None for one in learned)


def test_inputs_are_the_same_every_time() -> None:
    one, other = bench.Inputs(TINY, CPU), bench.Inputs(TINY, CPU)
    assert [len(boxes) for boxes in one.boxes] == [1, 3]
    for boxes, same in zip(one.boxes, other.boxes, strict=True):
        assert torch.equal(boxes, same)
        assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] > boxes[:, :2]).all()
        assert (boxes[:, 2:] <= torch.tensor([128.0, 96.0])).all()
    assert all(torch.equal(one.levels_s[stride], other.levels_s[stride]) for stride in TINY.sizes)
    assert not torch.equal(one.levels_s[8], one.levels_t[8])


def test_time_and_memory_of_a_call_that_is_known() -> None:
    assert step.seconds(lambda: time.sleep(0.02), CPU) >= 0.02
    kib = 256  # float32 numbers
    # A temporary of 4 KiB is gone when the one of 2 KiB comes.
    assert step.peak_bytes(lambda: torch.ones(4 * kib).sum() + torch.ones(2 * kib).sum(), CPU) == pytest.approx(4096, abs=64)


def test_a_record_is_kept_for_each_machine(
    page: BenchPage, measured: tuple[pd.DataFrame, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DFMSD_RECORDS", str(tmp_path))
    full = page.model_copy(update={"scale": "mini"})
    assert study.frame(full)["state"].tolist() == ["not run"]
    for machine in ("AMD EPYC, 2 threads", "NVIDIA H200"):
        monkeypatch.setattr("dfmsd.study.machine.name", lambda machine=machine: machine)
        frame, pictures = measured
        records.keep(frame.assign(beside=machine), pictures, full)
    assert [file.name for file in full.measured_files()] == ["losses-amd-epyc-2-threads.json", "losses-nvidia-h200.json"]
    assert set(study.frame(full)["beside"]) == {"AMD EPYC, 2 threads", "NVIDIA H200"}
    full.measured_file().write_text("{}")
    with pytest.raises(StudyError, match=r"losses-nvidia-h200\.json is damaged"):
        study.frame(full)


def test_costs_are_the_same_at_every_scale() -> None:
    assert {pages.get("losses", scale=scale).scale for scale in ("mini", "gpu", "coco")} == {"mini"}
