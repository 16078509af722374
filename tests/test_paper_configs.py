"""configs/ says what the study's rows say, in mmdet's words, and trains as it stands."""

from __future__ import annotations

import inspect
import os
import runpy
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config, ConfigDict, utils
from mmengine.runner import Runner

from dfmsd import configs, hyper, stages
from dfmsd.distiller import Distiller
from dfmsd.study import build, paths
from dfmsd.study.data import DataRoot, Split
from dfmsd.study.spec import RunSpec
from tests.fixtures_detectors import project

FOLDER = paths.ROOT / "configs"
SCRIPT = runpy.run_path(str(paths.ROOT / "scripts" / "configs.py"))
RUNS: dict[str, RunSpec] = {place: run for place, run, _ in SCRIPT["texts"]()}
"""By the place of its config."""

read = cache(configs.read)


@pytest.fixture(scope="module", autouse=True)
def _bases_are_looked_up_once() -> Iterator[None]:
    """For each, mmengine parses all of mmdet's metafiles: half a second a config."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "load", cache(utils.load))
        yield


def tree(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*.py")}


def test_what_is_committed_is_what_the_script_writes(tmp_path: Path) -> None:
    SCRIPT["main"](tmp_path)
    assert tree(FOLDER) == tree(tmp_path), "write them anew: rm -r configs; python scripts/configs.py"
    assert tree(FOLDER).keys() == RUNS.keys()


def plain(config: Any) -> Any:
    """With lists for tuples, and without the scope that mmengine writes into what comes from mmdet's bases."""
    if isinstance(config, dict):
        return ConfigDict({name: plain(one) for name, one in config.items() if name != "_scope_"})
    return [plain(one) for one in config] if isinstance(config, (list, tuple)) else config


def study(run: RunSpec) -> Any:
    """The study's own config."""
    split = Split(annotations=Path("a.json"), images=Path("img"))
    root = DataRoot(train=split, val=split, tune=None, classes=tuple(map(str, range(80))), fingerprint="f")
    assert run.stage is not None
    checkpoints = [teacher.weights.url for teacher in run.stage.teachers]  # type: ignore[union-attr]
    return plain(build.run_config(run, root, Path("out"), teacher_checkpoints=checkpoints).to_dict())


@pytest.mark.parametrize("place", RUNS)
def test_a_config_trains_what_the_study_trains(place: str) -> None:
    run, config, wanted = RUNS[place], plain(Config.fromfile(FOLDER / place).to_dict()), study(RUNS[place])
    same_schedule_and_images(config, wanted)
    model, other = config.model, wanted.model
    student, teacher = (configs.network(read(model.pop(name)), name) for name in ("student", "teacher"))
    assert plain([student, teacher]) == [other.pop("student"), *other.pop("teacher")]
    assert [model.pop("teacher_checkpoint")] == other.pop("teacher_checkpoint")
    (method,), _ = model.pop("methods"), other.pop("methods")
    kinds = stages.kind_of(student), stages.kind_of(teacher)
    spec = hyper.for_pair(method.pop("type"), *kinds, stages.family_of(student), **method)
    assert run.stage is not None and (spec,) == run.stage.methods
    before = model.pop("student_checkpoint", None)
    if run.parent is None:
        assert before is None and not other.enhance
    else:
        first = Config.fromfile((FOLDER / place).parent / "stage1.py")
        assert before == f"{first.work_dir}/epoch_{first.train_cfg.max_epochs}.pth"
        assert other.enhance.pop("ratios") is None and model.enhance.pop("ratios").startswith("work_dirs/ratios/")
    # All else is the same, or left to the distiller.
    defaults = {name: one.default for name, one in inspect.signature(Distiller).parameters.items()}
    del other["student_checkpoint"]
    assert {name: model.get(name, defaults.get(name)) for name in other} == other
    assert model.keys() <= other.keys()


def same_schedule_and_images(config: Any, wanted: Any) -> None:
    assert config.train_cfg.max_epochs == wanted.train_cfg.max_epochs
    assert config.optim_wrapper.setdefault("paramwise_cfg") == wanted.optim_wrapper.paramwise_cfg
    assert config.optim_wrapper == wanted.optim_wrapper
    found = {one.type: one for one in config.param_scheduler}
    assert found.keys() == {one.type for one in wanted.param_scheduler}
    for scheduler in wanted.param_scheduler:
        assert {name: found[scheduler.type][name] for name in scheduler} == scheduler
    # mmdet's two images on each of eight GPUs.
    assert (config.auto_scale_lr.base_batch_size, config.train_dataloader.batch_size) == (wanted.train_dataloader.batch_size, 2)
    for loader in ("train_dataloader", "val_dataloader"):
        own, other = config[loader], wanted[loader]
        assert (own.sampler, own.get("batch_sampler")) == (other.sampler, other.batch_sampler)
        assert own.dataset.get("filter_cfg") == other.dataset.filter_cfg
        for step in other.dataset.pipeline:
            if step.type == "FlipInTurn":  # RandomFlip, for several processes
                step.type = "RandomFlip"
        steps = {step.type: step for step in own.dataset.pipeline}
        assert steps.keys() == {step.type for step in other.dataset.pipeline}
        for step in other.dataset.pipeline:
            left = {"meta_keys", "with_mask"}  # what mmdet leaves at its defaults
            assert {name: steps[step.type][name] for name in step if name not in left} == {
                name: value for name, value in step.items() if name not in left
            }


def test_a_chain_trains_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two iterations a stage of slim networks on four images, with the weak teacher's ratios between."""
    own = Config.fromfile(project(tmp_path, weak="gfl_r101", strong="gfl_x101"))
    monkeypatch.chdir(tmp_path)
    chain = "dfmsd/retinanet_r50_by_gfl_r101_then_gfl_x101"
    for index, teacher in enumerate(("weak", "strong"), start=1):
        config = Config.fromfile(FOLDER / chain / f"stage{index}.py")
        config.model.update(student="my_detector.py", teacher=f"{teacher}.py", teacher_checkpoint=f"{teacher}.pth")
        for name in ("train_dataloader", "val_dataloader", "val_evaluator"):
            config[name] = own[name]
        config.train_cfg = {"type": "IterBasedTrainLoop", "max_iters": 2, "val_begin": 3}
        config.default_hooks.checkpoint.update(by_epoch=False, interval=2, filename_tmpl="epoch_12.pth")
        config.dump(tmp_path / f"stage{index}.py")
    for index in (1, 2):
        if index == 2:
            assert not Path("work_dirs/ratios").exists()
            runpy.run_path(str(paths.ROOT / "scripts" / "area_ratios.py"))["main"](tmp_path)
        runner = Runner.from_cfg(Config.fromfile(f"stage{index}.py"))
        runner.train()
        assert (runner.iter, runner.model.student_checkpoint is None) == (2, index == 1)
    assert sorted(os.listdir("work_dirs")) == ["dfmsd", "ratios"]
    assert Path("work_dirs", chain, "stage2", "epoch_12.pth").is_file()
    assert Path("work_dirs/ratios/gfl_r101.json").is_file()
