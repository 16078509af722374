"""The explore page: its pictures are of what the networks and methods really compute, and its notebook runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import papermill
import pytest
import torch
from torch import Tensor

from dfmsd.errors import StudyError
from dfmsd.hyper import METHODS, for_pair
from dfmsd.losses import AMD, DFMSD, MGD, Method
from dfmsd.report import anatomy, explore, live
from dfmsd.study import data, paths
from dfmsd.study.rows import Options
from dfmsd.study.spec import RunSpec

CHANNELS = 16


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Runs and data of this module's own."""
    home = tmp_path_factory.mktemp("explore")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DFMSD_RUNS", str(home / "runs"))
        patch.setenv("DFMSD_DATA", str(home / "data"))
        yield


@pytest.fixture(scope="module")
def run() -> RunSpec:
    return live.planned("fcos_r50", "gfl_r101", "dfmsd", "smoke", teacher_epochs=0.5, epochs=0.5)


@pytest.fixture(scope="module")
def trained(run: RunSpec) -> live.Live:
    return live.distil(run)


def levels(seed: int) -> dict[int, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {8: torch.randn(1, CHANNELS, 6, 6, generator=generator)}


def method(name: str, cls: type[Method]) -> Method:
    fields = {key: value for key, value in for_pair(name, "one_stage") if key != "type"} | {"strides": [8]}
    torch.manual_seed(0)
    return cls(channels_s=CHANNELS, channels_t=CHANNELS, **fields)


@pytest.mark.parametrize(("name", "cls"), [("mgd", MGD), ("amd", AMD), ("dfmsd", DFMSD)])
def test_the_reconstruction_shown_is_the_one_that_the_loss_compares(name: str, cls: type[Method]) -> None:
    method_ = method(name, cls)
    levels_s, levels_t = levels(1), levels(2)
    shown = explore.reconstruct(method_, 8, levels_s[8], levels_t[8])
    generator = torch.Generator().manual_seed(explore.SEED)
    terms = method_.terms(levels_s, levels_t, boxes=[], image_shapes=[], generator=generator)
    assert (shown.reconstruction - levels_t[8]).square().sum().item() == pytest.approx(terms["rec"].item(), rel=1e-5)


def test_dual_masks_hide_their_share_and_a_random_mask_no_channel() -> None:
    dual = explore.reconstruct(method("dfmsd", DFMSD), 8, levels(1)[8], levels(2)[8])
    assert dual.spatial is not None and dual.channel is not None
    assert int(dual.spatial.sum()) == int(0.65 * 36 + 0.5)
    assert int(dual.channel.sum()) == int(0.65 * CHANNELS + 0.5)
    assert explore.reconstruct(method("mgd", MGD), 8, levels(1)[8], levels(2)[8]).channel is None


def test_a_method_that_hides_nothing_says_so() -> None:
    class Plain(Method):
        name = "plain"

    with pytest.raises(StudyError, match="Plain hides nothing"):
        explore.reconstruct(Plain([8], {}), 8, levels(1)[8], levels(2)[8])


def test_boxes_are_scaled_with_their_image(run: RunSpec) -> None:
    shown = explore.picture(run, 0)
    content = json.loads(data.ensure(run.data).val.annotations.read_text())
    assert shown.image.shape == (3, 64, 64)
    x, y, width, height = next(item["bbox"] for item in content["annotations"] if item["image_id"] == 0)
    # smoke: 128 pixels on disk, 64 in the network
    assert shown.boxes[0].tolist() == pytest.approx([x / 2, y / 2, (x + width) / 2, (y + height) / 2])


def test_an_image_that_is_not_there_is_refused_with_the_range(run: RunSpec) -> None:
    with pytest.raises(StudyError, match="image = 8: the validation images are 0 to 7"):
        explore.picture(run, 8)


def test_parts_of_the_curve_add_up_to_the_loss() -> None:
    curve = [
        {"iteration": 1, "lr": 0.1, "loss": 5.0, "loss_cls": 1.5, "loss_bbox": 0.5, "loss_dfmsd_rec": 2.0, "loss_dfmsd_sfa": 1.0},
        {"iteration": 2, "lr": 0.1, "loss": 3.0, "loss_cls": 1.0, "loss_bbox": 0.5, "loss_dfmsd_rec": 1.0, "loss_dfmsd_sfa": 0.5},
    ]
    table = explore.curve_table(curve, "loss_dfmsd_")
    assert list(table.columns) == ["detection", "rec", "sfa"]
    assert table.sum(axis=1).tolist() == [5.0, 3.0]
    assert table["detection"].tolist() == [2.0, 1.5]


@pytest.mark.slow
@pytest.mark.xdist_group("notebooks")
def test_the_features_shown_are_those_that_training_compares(run: RunSpec, trained: live.Live) -> None:
    shown = explore.picture(run, 0)
    levels_s, levels_t = explore.features(trained.after, shown.image)
    for stride, feat_t in levels_t.items():
        assert levels_s[stride].shape == feat_t.shape
        assert feat_t.shape[2] == -(-64 // stride)
    again, _ = explore.features(trained.before, shown.image)
    assert not torch.equal(again[8], levels_s[8])


@pytest.mark.slow
@pytest.mark.xdist_group("notebooks")
def test_enhancement_follows_theta(run: RunSpec, trained: live.Live) -> None:
    shown = explore.picture(run, 0)
    titles = [explore.enhancement_figure(trained.after, shown, 8, Options(theta=theta)).get_suptitle() for theta in (0.0, 1.0)]
    assert titles[0].endswith("takes a crop")
    assert titles[1].endswith("takes noise")


@pytest.mark.slow
@pytest.mark.xdist_group("notebooks")
def test_a_stride_that_the_method_does_not_have_is_refused(trained: live.Live) -> None:
    with pytest.raises(StudyError, match="stride = 4: the method works on strides 8, 16, 32, 64, 128"):
        explore.pictured(trained.after, 4)


PAIRS = {
    "mse": ("retinanet_r50", "retinanet_r101"),
    "ssim": ("reppoints_r50", "mask_rcnn_swint"),
    "fkd": ("faster_rcnn_r50", "cascade_mask_rcnn_r101"),
    "fgd": ("faster_rcnn_r50", "cascade_mask_rcnn_r101"),
    "pkd": ("reppoints_r50", "mask_rcnn_swint"),
    "crosskd": ("retinanet_r50", "retinanet_r101"),
    "mgd": ("faster_rcnn_r50", "cascade_mask_rcnn_r101"),
    "amd": ("mask_rcnn_swint", "retinanet_r101"),
    "dmkd": ("fcos_r50", "reppoints_x101"),
    "dfmsd": ("fcos_r50", "reppoints_x101"),
}


@pytest.mark.slow
@pytest.mark.xdist_group("notebooks")
@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_shown_with_what_it_hides_or_compares(method: str) -> None:
    trained = live.distil(live.planned(*PAIRS[method], method, "smoke", teacher_epochs=0.25, epochs=0.25))
    inside = explore.pictured(trained.after, 8)
    assert set(explore.curve_table(trained.curve, f"loss_{method}_").columns) == {"detection", *inside.active}
    shown = explore.picture(trained.run, 0)
    taught, progress = anatomy.taught(trained, shown, 8), anatomy.progress(trained, shown, 8)
    masked = method in ("mgd", "amd", "dmkd", "dfmsd")
    assert ("hidden" in taught.alt) == ("after training with error" in progress.alt) == masked
    assert taught.svg != progress.svg


@pytest.mark.slow
@pytest.mark.xdist_group("notebooks")
def test_the_notebook_runs_for_another_pair_and_a_method_without_masks(tmp_path: Path) -> None:
    choice = {"student": "faster_rcnn_r50", "teacher": "retinanet_x101", "method": "pkd", "scale": "smoke"}
    done = papermill.execute_notebook(paths.NOTEBOOKS / "explore.ipynb", tmp_path / "out.ipynb", choice, progress_bar=False)
    outputs = [output for cell in done.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    assert sum('<img class="figure"' in output.get("data", {}).get("text/html", "") for output in outputs) == 3
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert "4 of 4 iterations" in str(outputs)


@pytest.mark.slow
@pytest.mark.xdist_group("notebooks")
def test_a_wrong_name_ends_the_notebook_with_the_study_s_own_line(tmp_path: Path) -> None:
    with pytest.raises(papermill.PapermillExecutionError, match="did you mean 'gfl_r101'"):
        papermill.execute_notebook(
            paths.NOTEBOOKS / "explore.ipynb", tmp_path / "out.ipynb", {"teacher": "gfl_r10"}, progress_bar=False
        )
