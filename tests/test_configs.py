"""Configs of detectors and of distillers: found, completed, and refused in a line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from dfmsd import configs
from dfmsd.errors import StudyError

RETINANET = "mmdet::retinanet/retinanet_r50_fpn_1x_coco.py"
PLAIN = 'model = dict(type="RetinaNet", data_preprocessor=dict(type="DetDataPreprocessor"))'


def test_a_model_is_the_one_of_a_path_a_config_or_itself(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(PLAIN)
    for given in (
        str(tmp_path / "a.py"),
        tmp_path / "a.py",
        Config.fromfile(tmp_path / "a.py"),
        dict(Config.fromfile(tmp_path / "a.py").model),
    ):
        assert configs.network(given, "student") == {"type": "RetinaNet", "data_preprocessor": {"type": "DetDataPreprocessor"}}
    assert configs.network(RETINANET, "student")["backbone"]["depth"] == 50


def test_a_preprocessor_beside_the_model_is_the_models() -> None:
    """As in mmengine's runner; some of mmdet's configs rely on it."""
    config = Config({"model": {"type": "SSD"}, "data_preprocessor": {"type": "DetDataPreprocessor"}})
    assert configs.network(config, "student")["data_preprocessor"] == {"type": "DetDataPreprocessor"}


def test_a_distillers_config_stands_for_its_student(tmp_path: Path) -> None:
    """As that of a stage, whose checkpoint teaches another."""
    (tmp_path / "plain.py").write_text(PLAIN)
    (tmp_path / "distiller.py").write_text('model = dict(type="Distiller", student="plain.py", teacher="plain.py")')
    assert configs.network(tmp_path / "distiller.py", "teacher")["type"] == "RetinaNet"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"cfg_path": RETINANET},
            f"student is a dict without type, so it is no detector's model: give the path itself, student='{RETINANET}'",
        ),
        (
            {"backbone": {}},
            "so it is no detector's model: give the path of an mmdet config, student='mmdet::FOLDER/NAME.py'",
        ),
        (None, "student = None: give the path of an mmdet config, or a detector's model dict"),
        (["a.py"], "student = ['a.py']: give the path of an mmdet config"),
        (
            "nowhere.py",
            "config nowhere.py does not exist: a relative path is taken from the folder of the config that names it, else from ",
        ),
        (
            "mmdet::retinanet/retinanet_r50_fpn_1x_cocoo.py",
            f"mmdet has no config mmdet::retinanet/retinanet_r50_fpn_1x_cocoo.py: did you mean '{RETINANET}'?",
        ),
        (RETINANET[:-3], f"mmdet has no config {RETINANET[:-3]}: did you mean '{RETINANET}'?"),
        (RETINANET.replace("net/", "nett/"), f"nett/retinanet_r50_fpn_1x_coco.py: did you mean '{RETINANET}'?"),
        ("~nosuchuser/a.py", "config ~nosuchuser/a.py does not exist"),
        ("mmdet::nothing/at_all.py", "mmdet has no config mmdet::nothing/at_all.py: its configs are called"),
        ({"type": "RetinaNet"}, "the student's config has no data_preprocessor"),
        (Config({"lr": 1}), "student: config None has no model: name a detector's"),
    ],
    ids=str,
)
def test_what_is_no_detector_is_refused_in_a_line(given: Any, message: str) -> None:
    with pytest.raises(StudyError, match=re.escape(message)) as caught:
        configs.network(given, "student")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.py", "model = dict(", "SyntaxError: '(' was never closed"),
        ("a.py", "_base_ = 'b.py'", "FileNotFoundError: "),
        ("a.txt", PLAIN, "OSError: Only py/yml/yaml/json type are supported now!"),
    ],
)
def test_a_config_that_cannot_be_read_is_named(tmp_path: Path, name: str, text: str, reason: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(StudyError, match=re.escape(f"config {tmp_path / name} cannot be read ({reason}")) as caught:
        configs.read(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"type": "RetinaNett"}, "there is no 'RetinaNett': did you mean 'RetinaNet'?"),
        ({"backbone": {"type": "ResNett"}}, "there is no 'ResNett': did you mean 'ResNet'?"),
        ({"bakbone": {}}, "RetinaNet has no option 'bakbone': did you mean 'backbone'?"),
        ({"backbone": {"type": "ResNet", "deepth": 50}}, "ResNet has no option 'deepth': did you mean 'depth'?"),
        ({"backbone": {"type": "ResNet", "depth": 7}}, "KeyError: invalid depth 7 for resnet"),
        ({"data_preprocessor": {"type": "DetDataPreprocessor", "meen": 1}}, "has no option 'meen': did you mean 'mean'?"),
    ],
    ids=str,
)
def test_a_network_that_cannot_be_built_says_why_in_a_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=re.escape(message)) as caught:
        configs.built(configs.network(RETINANET, "student") | changes, "student")
    assert str(caught.value).startswith("the student cannot be built: ") and "\n" not in str(caught.value)


def test_a_detector_of_several_views_is_refused() -> None:
    name = "mmdet::soft_teacher/soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco.py"
    with pytest.raises(StudyError, match="the student is a SoftTeacher, no detector of single images"):
        configs.built(configs.network(name, "student"), "student")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Configs in two folders, the upper one the base of the lower one; the current folder is neither."""
    for folder in ("configs", "configs/mine", "elsewhere"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for name in ("configs/student.py", "configs/mine/teacher.py"):
        (tmp_path / name).write_text(PLAIN)
    for name in ("configs/mine/t.pth", "configs/mine/ratios.json", "elsewhere/here.pth"):
        (tmp_path / name).touch()
    (tmp_path / "configs" / "base.py").write_text(
        'custom_imports = dict(imports=["dfmsd.distiller"])\n'
        'model = dict(type="Distiller", student="student.py", student_checkpoint="here.pth", methods=[dict(type="MGD")])'
    )
    (tmp_path / "configs" / "mine" / "distil.py").write_text(
        '_base_ = "../base.py"\n'
        'model = dict(teacher=["teacher.py", "mmdet::a/b.py"], teacher_checkpoint=["t.pth", "https://x.org/t.pth"],\n'
        '             enhance=dict(ratios="ratios.json"))'
    )
    return tmp_path / "configs"


def test_relative_paths_are_found_from_the_file_that_names_them(project: Path) -> None:
    """As those of ``_base_``; what is not there is left for the current folder."""
    model = Config.fromfile("../configs/mine/distil.py").model
    assert model.student == str(project / "student.py"), "from the base's own folder"
    assert model.teacher == [str(project / "mine" / "teacher.py"), "mmdet::a/b.py"]
    assert model.teacher_checkpoint == [str(project / "mine" / "t.pth"), "https://x.org/t.pth"]
    assert model.enhance.ratios == str(project / "mine" / "ratios.json")
    assert model.student_checkpoint == "here.pth"


def test_a_distillers_config_has_the_backbone_that_init_detector_looks_into(project: Path, tmp_path: Path) -> None:
    assert "init_cfg" not in Config.fromfile(project / "mine" / "distil.py").model.backbone
    assert Config({"model": {"type": "mmdet.Distiller"}}).model.backbone == {}


@pytest.mark.parametrize(
    "content", [{}, {"model": None}, {"model": {"type": "RetinaNet", "student": "student.py"}}, {"model": {}}], ids=str
)
def test_other_configs_stay_as_they_are(project: Path, content: dict[str, Any]) -> None:
    file = project / "mine" / "distil.py"
    assert Config(content, filename=str(file)).to_dict() == content
