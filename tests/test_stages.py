"""The rule of stages; and the chain of configs for a user's detector, planned, trained, and as the notebook has it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, ClassVar

import papermill
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from dfmsd import checkpoints, stages
from dfmsd.errors import StudyError
from dfmsd.report import book
from dfmsd.stages import Enhance, Switches
from dfmsd.study import build, paths, zoo
from tests.fixtures_detectors import CLASSES, project


@pytest.mark.parametrize(
    ("count", "method", "switches", "expected"),
    [
        # teacher, enhanced, attacked, inherits, share of the epochs
        (2, "dfmsd", {}, [(0, False, False, False, 0.5), (1, True, False, False, 0.5)]),
        (2, "dfmsd", {"me": "first"}, [(0, True, False, False, 0.5), (1, False, False, False, 0.5)]),
        (2, "dfmsd", {"me": "all", "epochs": "each"}, [(0, True, False, False, 1), (1, True, False, False, 1)]),
        (2, "dfmsd", {"me": "none", "adversarial": True}, [(0, False, False, False, 0.5), (1, False, True, False, 0.5)]),
        (4, "dfmsd", {"inherit": True}, [(place, place == 3, False, place == 0, 0.25) for place in range(4)]),
        (2, "dfmsd", {"sal": False}, [(1, False, False, False, 0.5), (1, True, False, False, 0.5)]),
        (1, "dfmsd", {}, [(0, True, False, False, 1)]),
        (3, "dmkd", {"me": "all", "adversarial": True}, [(2, False, False, False, 1)]),
    ],
)
def test_the_rule(count: int, method: str, switches: dict[str, Any], expected: list[Any]) -> None:
    made = stages.stages(count, method, Switches(**switches))
    assert [stage.index for stage in made] == list(range(1, len(expected) + 1))
    found = [(one.teacher, one.enhance is not None, one.adversarial is not None, one.inherit, one.share) for one in made]
    assert found == expected


def test_enhanced_stages_have_the_switches_numbers() -> None:
    chosen = {"theta": 0.2, "score": 0.1, "sigma": 0.5, "noise_probability": 1.0, "crop": (0.5, 0.6)}
    assert stages.stages(2, switches=Switches(**chosen))[-1].enhance == Enhance(**chosen)


def test_a_stage_decides_about_dfmsds_numbers() -> None:
    def method(stage: int, changes: dict[str, Any] | None = None, times: dict[str, float] | None = None, **switches: Any) -> Any:
        made = stages.stages(2, switches=Switches(**switches))[stage]
        return made.method("dfmsd", "one_stage", "two_stage", "", changes or {}, times or {})

    assert (method(0).sfa, method(0, sfa=False).sfa) == (6.0, 0.0)
    assert method(1, times={"alpha": 4.0, "beta": 2.0}).model_dump(include={"alpha", "beta"}) == {"alpha": 8e-5, "beta": 2e-5}
    assert method(1, adversarial=True).adv == method(1).beta == 1e-5
    assert method(1).adv == 0
    # Without changed images nothing hangs on these: both chains have one first stage.
    assert method(0, {"enhanced_masked": True}, {"beta": 2.0}) == method(0)
    assert method(1, {"enhanced_masked": True}).enhanced_masked


@pytest.mark.parametrize("method", ["mgd", "fkd"])
def test_other_methods_have_their_weights_in_any_stage(method: str) -> None:
    (stage,) = stages.stages(2, method, Switches(sfa=False))
    plain, doubled = (stage.method(method, "one_stage", "one_stage", "", {}, times) for times in ({}, {"alpha": 2.0}))
    assert doubled.alpha == 2 * plain.alpha


# A detector of one's own


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    project(folder, weak="gfl_r101", strong="gfl_x101")
    return folder


def teachers(folder: Path) -> list[Any]:
    return [(folder / f"{name}.py", folder / f"{name}.pth") for name in ("weak", "strong")]


def chain(folder: Path, config: Any = None, **options: Any) -> list[Any]:
    options = {"work_dir": folder / "work", "ratios": stages.GROUND_TRUTH} | options
    return stages.configs(config or folder / "my_detector.py", options.pop("teachers", teachers(folder)), **options)


def test_each_config_starts_where_the_one_before_ends(folder: Path) -> None:
    config = Config.fromfile(folder / "my_detector.py")
    config.load_from, config.custom_imports = "pretrained.pth", {"imports": "json"}
    (folder / "ratios.json").write_text("{}")
    first, second = chain(folder, config, ratios=folder / "ratios.json", theta=0.25)
    assert (first.work_dir, second.work_dir) == (f"{folder}/work/stage1", f"{folder}/work/stage2")
    assert (first.model.student_checkpoint, second.model.student_checkpoint) == (
        "pretrained.pth",
        f"{folder}/work/stage1/epoch_1.pth",
    )
    assert first.load_from is second.load_from is None
    assert first.custom_imports.imports == ["json", "dfmsd.distiller"]
    assert first.model.student == second.model.student == config.model
    assert [one.model.teacher_checkpoint for one in (first, second)] == [[f"{folder}/weak.pth"], [f"{folder}/strong.pth"]]
    assert first.model.enhance is None
    assert second.model.enhance == Enhance(theta=0.25).model_dump() | {"ratios": f"{folder}/ratios.json"}
    assert config.model.type == "RetinaNet", "the user's config stays as it is"
    written = Config.fromstring(second.pretty_text, ".py")
    assert written.model.to_dict() == second.model.to_dict() | {"enhance": written.model.enhance.to_dict()}


def test_modules_that_register_a_teachers_parts_are_imported(folder: Path) -> None:
    weak = Config.fromfile(folder / "weak.py")
    weak.custom_imports = {"imports": ["json", "dfmsd.distiller"]}
    first, second = chain(folder, teachers=[(weak, folder / "weak.pth"), teachers(folder)[1]])
    assert (first.custom_imports.imports, second.custom_imports.imports) == (["json", "dfmsd.distiller"], ["dfmsd.distiller"])


def test_stages_share_the_epochs_and_the_schedule(folder: Path) -> None:
    config = Config.fromfile(folder / "my_detector.py")
    config.train_cfg.max_epochs, config.param_scheduler[1].milestones = 24, [16, 22]
    for epochs, length, milestones in (("each", 24, [16, 22]), ("shared", 12, [8, 11])):
        first, second = chain(folder, config, epochs=epochs)
        assert [one.train_cfg.max_epochs for one in (first, second)] == [length] * 2
        assert second.param_scheduler[1].milestones == milestones
        assert second.param_scheduler[0].end == 2, "a warm-up in iterations stays"
        assert second.model.student_checkpoint.endswith(f"stage1/epoch_{length}.pth")


def test_stages_share_iterations(folder: Path) -> None:
    config = Config.fromfile(folder / "my_detector.py")
    config.train_cfg = {"type": "IterBasedTrainLoop", "max_iters": 1000}
    config.param_scheduler = {"type": "CosineAnnealingLR", "by_epoch": False, "begin": 100, "end": 1000, "T_max": 900}
    config.default_hooks.checkpoint = {"type": "CheckpointHook", "by_epoch": False, "interval": 300}
    _, second = chain(folder, config, epochs="shared")
    assert second.param_scheduler == {"type": "CosineAnnealingLR", "by_epoch": False, "begin": 50, "end": 500, "T_max": 450}
    assert second.model.student_checkpoint.endswith("stage1/iter_500.pth")
    config.default_hooks.checkpoint.by_epoch = True
    with pytest.raises(StudyError, match="by_epoch=True and train_cfg max_iters: let both count the same"):
        chain(folder, config)


def test_teachers_in_a_list_teach_at_the_same_time(folder: Path) -> None:
    (only,) = chain(folder, teachers=[teachers(folder)], method={"type": "MGD", "alpha": 3.0})
    assert only.model.teacher_checkpoint == [f"{folder}/weak.pth", f"{folder}/strong.pth"]
    assert [method.alpha for method in only.model.methods] == [3.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"ratios": None},
            "needs ratios, and none are given: give the file of augment.area_ratios by the weakest teacher, or 'ground truth'",
        ),
        ({"ratios": "none.json"}, "masking enhancement needs ratios, and there is no none.json"),
        ({"thetta": 0.5}, "a chain of stages has no option 'thetta': did you mean 'theta'?"),
        ({"me": "frist"}, "a chain of stages: me = 'frist': Input should be 'last', 'first', 'all' or 'none'"),
        ({"crop": (1.0, 0.5)}, "the smallest side 1.0 is larger than the largest, 0.5: swap them"),
        ({"method": "dmfsd"}, "unknown method 'dmfsd': did you mean 'dfmsd'?"),
        ({"method": {"alpha": 1.0}}, "unknown method ''"),
        ({"method": {"type": "DFMSD", "alhpa": 1.0}}, "DFMSD has no hyper-parameter 'alhpa': did you mean 'alpha'?"),
        (
            {"method": {"type": "DFMSD", "spatial_ratio": 1.5}},
            "DFMSD: spatial_ratio = 1.5: Input should be less than or equal to 1",
        ),
        ({"teachers": []}, "the list of teachers is empty"),
        ({"teachers": [("no.py", "weak.pth")]}, "config no.py does not exist"),
        (
            {"teachers": [("mmdet::gfl/gfl_r50_fpn_1x_coco.py", "no.pth")]},
            "the teacher has no weights: checkpoint no.pth does not exist",
        ),
    ],
)
def test_mistakes_in_plain_words(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError) as caught:
        chain(folder, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@HOOKS.register_module()
class StartOfEachStage(Hook):
    """Keeps the student of every run as it is before the first step."""

    states: ClassVar[list[dict[str, torch.Tensor]]] = []

    def before_train(self, runner: Runner) -> None:
        self.states.append({name: value.clone() for name, value in runner.model.student.state_dict().items()})


@pytest.mark.slow
def test_what_readme_shows_trains_a_users_detector_in_two_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ratios of the training images by the weak teacher, then one stage after the other, each on the student before."""
    monkeypatch.chdir(tmp_path)
    with project(tmp_path, weak="gfl_r101", strong="gfl_x101").open("a") as config:
        config.write('custom_hooks = [dict(type="StartOfEachStage")]\n')
    (shown,) = [
        text for text in re.findall(r"```python\n(.*?)```", (paths.ROOT / "README.md").read_text(), re.S) if "stages" in text
    ]
    assert len(shown.splitlines()) <= 25
    variables: dict[str, Any] = {}
    exec(shown.replace("score=0.3", "score=0.0"), variables)  # so that teachers that know nothing have boxes
    ratios = json.loads(Path("ratios.json").read_text())
    assert set(ratios) == {"0", "1", "2", "3"} and all(0 < ratio <= 1 for ratio in ratios.values())
    assert variables["stage"].model.enhance.ratios == "ratios.json"
    left = checkpoints.student_of(checkpoints.read("work/stage1/epoch_1.pth")["state_dict"])
    _, start = StartOfEachStage.states
    assert start.keys() == left.keys()
    assert all(torch.equal(value, left[name]) for name, value in start.items())
    plain = build.built(zoo.network("retinanet_r50", "smoke"), CLASSES)
    checkpoints.load(plain, "work/stage2/epoch_1.pth")
    learned = [name for name, value in plain.state_dict().items() if not torch.equal(value, left[name])]
    assert "backbone.conv1.weight" in learned and "bbox_head.retina_cls.weight" in learned
    assert all(value.isfinite().all() for value in plain.state_dict().values())
    assert MessageHub.get_current_instance().get_scalar("train/loss_dfmsd_aug").current() > 0


@pytest.mark.slow
def test_the_notebook_trains_both_stages(folder: Path, tmp_path: Path) -> None:
    parameters = {
        "config": str(folder / "my_detector.py"),
        "teachers": [[str(part) for part in pair] for pair in teachers(folder)],
        "work_dir": str(tmp_path),
        "switches": {"theta": 0.2},
    }
    out = tmp_path / "out.ipynb"
    papermill.execute_notebook(paths.NOTEBOOKS / "distil.ipynb", out, parameters, progress_bar=False, start_timeout=book.PATIENCE)
    student = build.built(zoo.network("retinanet_r50", "smoke"), CLASSES)
    for stage in ("stage1", "stage2"):
        checkpoints.load(student, tmp_path / stage / "epoch_1.pth")
