"""The zoo's rows as specifications."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from dfmsd import checkpoints
from dfmsd.errors import StudyError
from dfmsd.study import build, pages, rows, run, scales, zoo
from dfmsd.study.spec import Run, RunSpec, TeacherSpec

MASK_TEACHERS = {
    "mask_rcnn_swint": "Mask R-CNN Swin-T",
    "mask_rcnn_swins": "Mask R-CNN Swin-S",
    "cascade_mask_rcnn_r50": "Cascade Mask R-CNN R50",
    "cascade_mask_rcnn_r101": "Cascade Mask R-CNN R101",
    "cascade_mask_rcnn_x101": "Cascade Mask R-CNN X101",
}


PUBLISHED = {
    "retinanet_r50": ("fdb43119", 37.4),
    "retinanet_r101": ("5560aee8", 38.9),
    "retinanet_x101": ("366f5af1", 41.0),
    "gfl_r50": ("25944287", 40.2),
    "gfl_r101": ("dd12f847", 44.7),
    "gfl_x101": ("50c1ffdb", 45.9),
    "fcos_r50": ("821213aa", 36.6),
    "fcos_r101": ("511424d6", 40.8),
    "fcos_x101": ("ede514a8", 42.6),
    "reppoints_r50": ("91babaa2", 38.6),
    "reppoints_r101": ("4fbc7310", 40.5),
    "reppoints_x101": ("f87da1ea", 44.2),
    "faster_rcnn_r50": ("a5d8aa15", 38.4),
    "faster_rcnn_r101": ("1d2dac9c", 39.8),
    "mask_rcnn_swint": ("bacf6f7b", 46.0),
    "mask_rcnn_swins": ("b92c91f1", 48.2),
    "cascade_mask_rcnn_r50": ("4af8e66e", 41.9),
    "cascade_mask_rcnn_r101": ("005947da", 43.4),
    "cascade_mask_rcnn_x101": ("bdb5126a", 45.6),
}
"""First digits of the hash and COCO AP of each checkpoint, as mmdet lists them."""


def test_checkpoints_and_their_ap_are_mmdets() -> None:
    assert {name: ((found := zoo.weights(name)).sha256_prefix, found.ap) for name in zoo.names()} == PUBLISHED


def test_a_published_teacher_is_held_against_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    checkpoints.shelf().mkdir(parents=True)
    scale = scales.get("coco")
    teachers = {name for page in pages.names() for chain in pages.get(page, scale="coco").chains() for name in taught_by(chain)}
    assert len(teachers - {"faster_rcnn_r101"}) == 13, "those of the papers' tables"
    for name in teachers:
        teacher = rows.teacher_of(name, scale)
        assert isinstance(teacher, TeacherSpec)
        address = run.weights(teacher)
        (checkpoints.shelf() / address.rsplit("/", 1)[1]).write_bytes(b"another file")
        with pytest.raises(StudyError, match=rf"-{PUBLISHED[name][0]}\.pth is not what its name says"):
            checkpoints.read(address)


def taught_by(chain: tuple[Run, ...]) -> set[str]:
    """The teachers of some runs."""
    return {teacher.name for run in chain if isinstance(run, RunSpec) and run.stage for teacher in run.stage.teachers}


def test_a_network_has_its_label_and_kind() -> None:
    assert {name: zoo.label(name) for name in MASK_TEACHERS} == MASK_TEACHERS
    for name in zoo.names():
        assert zoo.label(name).split()[-1].replace("-", "").upper() == name.rpartition("_")[2].upper()
        assert zoo.network(name, "mini").kind == ("two_stage" if "rcnn" in name else "one_stage")


@pytest.mark.parametrize("name", zoo.names())
def test_the_papers_own_architectures_are_unchanged_at_full_scale(name: str) -> None:
    """On generated data they start from scratch, with nothing frozen; depth and width are the paper's there, too."""
    assert zoo.network(name, "coco").overrides == {}
    scratch = zoo.network(name, "gpu").overrides
    assert set(scratch) == {"model.backbone"}
    # A Swin Transformer has no batch norms, and its own config freezes nothing.
    thawed = set() if "swin" in name else {"frozen_stages", "norm_eval", "norm_cfg"}
    assert set(scratch["model.backbone"]) == {"init_cfg"} | thawed
    assert scratch["model.backbone"]["init_cfg"] is None
    assert zoo.network(name, "mini").overrides


@pytest.mark.parametrize("name", zoo.names())
def test_nothing_starts_from_others_weights_on_generated_data(name: str) -> None:
    for scale in ("smoke", "mini", "gpu"):
        backbone = build.model_config(zoo.network(name, scale), 10).backbone
        assert backbone.get("init_cfg") is None
        assert backbone.get("frozen_stages", -1) == -1


def test_networks_of_a_family_go_from_weak_to_strong_on_coco() -> None:
    families: dict[str, list[float]] = {}
    for name in zoo.names():
        families.setdefault(zoo.family(name), []).append(zoo.weights(name).ap)
    for published in families.values():
        assert published == sorted(published)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ssd_r50", "ssd_r50 needs a row 'ssd' in families, or another name: valid: cascade_mask_rcnn, "),
        ("gfl_r150", "gfl_r150 needs a row 'r150' in backbones, or another name: did you mean 'r50'?"),
    ],
)
def test_a_row_of_an_unknown_family_or_backbone_is_refused(name: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = copy.deepcopy(zoo._rows())
    rows["networks"][name] = rows["networks"]["gfl_r50"]
    monkeypatch.setattr(zoo, "_rows", lambda: rows)
    with pytest.raises(StudyError) as caught:
        zoo.network(name, "mini")
    assert str(caught.value).startswith(f"dfmsd/study/zoo.yaml: {message}")
