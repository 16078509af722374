"""A run from specification to record, killed, starved and poisoned on the way."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.apis import inference_detector
from mmengine.config import Config
from mmengine.fileio import LocalBackend

from dfmsd import checkpoints
from dfmsd.errors import StudyError
from dfmsd.study import build, exports, files, hooks, paths, plan, records, shapes
from dfmsd.study import rows as stages
from dfmsd.study import run as train
from dfmsd.study.records import Record
from dfmsd.study.scales import Scale
from dfmsd.study.spec import RunSpec
from tests import fixtures_study
from tests.fixtures_detectors import Payload
from tests.fixtures_study import distilled, diverging, folders, killed_at, record  # noqa: F401

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("folders")]


def smoke(**schedule: int) -> Scale:
    """The scale without starts, whose students see all images (tests/study/test_start.py is about starts)."""
    return fixtures_study.smoke(**schedule).model_copy(update={"start": None, "images": None})


def baseline(scale: Scale | None = None, student: str = "fcos_r50") -> RunSpec:
    return fixtures_study.baseline(scale or smoke(), student)


# Enhanced images by the teacher's boxes, random masks, weights as shares: all that a resume could get wrong.
SCALE = smoke(epochs=6)
*TEACHERS, STUDENT = plan.order([distilled(SCALE, sal=False)])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the teachers and the student, trained without an interruption."""
    runs = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DFMSD_RUNS", str(runs))
        patch.setenv("DFMSD_DATA", str(tmp_path_factory.getbasetemp() / "data"))
        for run in (*TEACHERS, STUDENT):
            train.run(run)
    return runs


of_trained = pytest.mark.xdist_group("trained")


def weights_of(run: RunSpec) -> dict[str, torch.Tensor]:
    return torch.load(paths.runs() / run.key / "student.pth")["state_dict"]  # type: ignore[no-any-return]


def result(found: Record) -> Any:
    return found.model_dump(exclude={"provenance"})


def in_child(run: RunSpec, death: Callable[[], AbstractContextManager[None]]) -> int:
    """Train in a forked process that dies as told; returns its signal, or minus its exit status."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            with death():
                train.run(run)
            status = 0
        finally:
            os._exit(status)
    status = os.waitpid(pid, 0)[1]
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else -os.WEXITSTATUS(status)


def at_iteration(number: int) -> Callable[[], AbstractContextManager[None]]:
    return lambda: killed_at("after_train_iter", hooks.CurveHook, lambda _, runner, *rest: runner.iter + 1 == number)


def half_written(number: int) -> Callable[[], AbstractContextManager[None]]:
    """Die with half of the checkpoint of an epoch on disk."""

    def write_half(_: Any, content: bytes, path: str) -> None:
        Path(path).write_bytes(content[: len(content) // 2])

    return lambda: killed_at("put", LocalBackend, lambda _, content, path: path.endswith(f"epoch_{number}.pth"), write_half)


def pointer_emptied() -> AbstractContextManager[None]:
    """Die after a checkpoint, when mmengine has emptied its pointer to the last one and not yet written it."""

    def empty(_: Any, runner: Any) -> None:
        (Path(runner.work_dir) / "last_checkpoint").write_text("")

    return killed_at("before_train_epoch", hooks.SeedHook, lambda _, runner: runner.epoch == 1, empty)


MOMENTS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "in the first epoch": at_iteration(2),
    "in the first checkpoint": half_written(1),
    "between a checkpoint and its pointer": pointer_emptied,
    "in the second epoch": at_iteration(6),
    "in the last checkpoint": half_written(3),
    "before the evaluation": lambda: killed_at("evaluate", train),
    "in the exported weights": lambda: killed_at(
        "write_bytes", Path, lambda path, _: path.name == "student.pth", lambda path, _: path.write_text("half")
    ),
    "before the record is whole": lambda: killed_at("replace", os, lambda _, target: str(target).endswith("record.json")),
    "between record and move": lambda: killed_at("_move", train),
    "in the move": lambda: killed_at("rename", Path),
}


FEW = ("between a checkpoint and its pointer", "in the last checkpoint", "in the move")


@of_trained
@pytest.mark.parametrize("moments", [FEW, pytest.param(tuple(MOMENTS), marks=pytest.mark.exhaustive)], ids=["some", "every"])
def test_a_run_killed_at_every_moment_ends_as_one_that_never_was(
    moments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, trained: Path
) -> None:
    shutil.copytree(trained, paths.runs())
    whole, wanted = records.read(trained / STUDENT.key / "record.json"), weights_of(STUDENT)
    shutil.rmtree(paths.runs() / STUDENT.key)
    for moment in moments:
        assert in_child(STUDENT, MOMENTS[moment]) == 9, f"nobody died {moment}"
        assert records.find(STUDENT.key) is None, moment
        assert not exports.are_here(STUDENT.key), moment
        assert plan.plan([(STUDENT,)])[-1].state in ("missing", "partial"), moment
    found = train.run(STUDENT)
    assert result(found) == result(whole)
    got = weights_of(STUDENT)
    assert got.keys() == wanted.keys()
    assert all(torch.equal(got[name], wanted[name]) for name in wanted)
    assert not list(paths.runs().glob("*.partial"))
    # Done is done: nothing is trained or written again.
    before = (paths.runs() / STUDENT.key / "record.json").stat()
    monkeypatch.setattr(train, "_train", None)
    assert train.run(STUDENT) == found
    assert (paths.runs() / STUDENT.key / "record.json").stat() == before


def test_stages_methods_and_seeds_of_a_pair_have_the_same_factors_and_read_them_from_one_file() -> None:
    chains = [distilled(smoke()), distilled(smoke(), recipe="dmkd", seed=5)]
    made = {run.key: train.run(run) for run in plan.order(chains)}
    for run in plan.order(chains):
        assert made[run.key].needed == {need.key: made[need.key].weights_sha256 for need in run.needs()}
    found = {key: one.factors for key, one in made.items()}
    first, second = (found[run.key] for run in chains[0])
    assert first.keys() == {"loss_dfmsd_rec", "loss_dfmsd_sfa"}
    assert second == first | {"loss_dfmsd_aug": first["loss_dfmsd_rec"]}
    assert found[chains[1][0].key] == {"loss_dmkd_rec": first["loss_dfmsd_rec"]}
    (file,) = paths.runs().glob("teachers/*/factors-*.json")
    whole = file.read_text()
    assert json.loads(whole).items() >= first.items()
    assert not list(paths.runs().glob("[0-9a-f]*/factors-*")), "a teacher's folder may be another user's"
    file.write_text("[]")
    train.config(chains[0][0], paths.runs())
    assert file.read_text() == whole, "what is damaged is measured again"


def test_the_record_tells_what_was_run() -> None:
    run = baseline()
    found = train.run(run)
    assert (found.key, found.spec) == (run.key, run.flat())
    assert found.state in ("ok", "no detections")
    assert {"AP", "AP50", "AP75"} <= found.metrics.keys()
    assert not records.is_stale(found, run)
    assert found.curve[-1]["iteration"] == plan.iterations(run)
    assert found.provenance.threads == torch.get_num_threads()
    assert str(paths.ROOT) not in records.dump(found)
    assert str(paths.runs()) not in records.dump(found)


PREDICT = """
import sys

class Refuse:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "dfmsd":
            raise ImportError("blocked")

sys.meta_path.insert(0, Refuse())
import json, numpy as np
from mmdet.apis import inference_detector, init_detector
model = init_detector(sys.argv[1], sys.argv[2], device="cpu")
image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
print("FOUND", json.dumps([inference_detector(model, image).pred_instances.scores.tolist(), list(model.dataset_meta["classes"])]))
"""


def test_a_swin_trains_by_adamw_and_others_by_sgd(tmp_path: Path) -> None:
    scale = smoke()
    swin, other = (stages.teacher_of(name, scale) for name in ("mask_rcnn_swint", "retinanet_r101"))
    assert isinstance(swin, RunSpec) and isinstance(other, RunSpec)
    found = train.config(swin, tmp_path).optim_wrapper
    assert dict(found.optimizer) == {"type": "AdamW", "lr": swin.schedule.lr, "weight_decay": 0.05}
    assert found.paramwise_cfg.custom_keys.norm.decay_mult == 0, "as in mmdet's config"
    assert train.config(other, tmp_path).optim_wrapper.optimizer.type == "SGD"


@of_trained
def test_the_student_is_a_plain_mmdet_checkpoint_beside_its_config(trained: Path) -> None:
    """Loaded and used by mmdet's own API in a process that cannot import this package."""
    folder = trained / STUDENT.key
    done = subprocess.run(
        [sys.executable, "-c", PREDICT, str(folder / "student.py"), str(folder / "student.pth")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-4000:]
    scores, classes = json.loads(done.stdout.split("FOUND ")[1].splitlines()[0])
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    here = build.built(STUDENT.network, len(classes)).eval()
    here.cfg = Config.fromfile(folder / "student.py")
    checkpoints.load(here, folder / "student.pth")
    assert scores == pytest.approx(inference_detector(here, image).pred_instances.scores.tolist(), abs=1e-5)
    assert classes == list(shapes.CLASSES)
    assert len(scores) > 0


def test_a_loss_that_is_not_finite_stops_the_run_and_is_recorded() -> None:
    run = diverging(baseline(smoke(epochs=12)))
    with pytest.raises(StudyError, match=r"fcos_r50: loss is not finite at iteration .*: lower the learning rate") as caught:
        train.run(run)
    assert "\n" not in str(caught.value)
    found = records.failure(run.key)
    assert found is not None
    assert found.state == "nan"
    assert not found.is_result
    assert records.find(run.key) is None
    (item,) = plan.plan([(run,)])
    assert item.state == "failed"
    assert "loss is not finite" in item.note
    with pytest.raises(StudyError, match=r"broke off before .*: change it, or delete"):
        train.run(run)


def test_a_two_stage_detector_diverges_as_clearly() -> None:
    with pytest.raises(StudyError, match="not finite"):
        train.run(diverging(baseline(smoke(epochs=4), student="faster_rcnn_r50")))


def test_weights_that_are_not_finite_are_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    # The loss of the last iteration is finite, its step is not.
    original = train.Runner.train

    def poisoned(runner: Any) -> Any:
        model = original(runner)
        next(model.parameters()).data.fill_(float("nan"))
        return model

    monkeypatch.setattr(train.Runner, "train", poisoned)
    run = baseline()
    with pytest.raises(StudyError, match="weights that are not finite"):
        train.run(run)
    assert plan.plan([(run,)])[0].state == "failed"
    assert (paths.runs() / f"{run.key}.partial" / "epoch_1.pth").is_file()


@pytest.fixture
def interrupted() -> RunSpec:
    """A run killed in its second epoch."""
    run = baseline(smoke(epochs=3))
    assert in_child(run, at_iteration(10)) == 9
    return run


def test_a_damaged_checkpoint_is_named_with_the_way_out(interrupted: RunSpec) -> None:
    partial = paths.runs() / f"{interrupted.key}.partial"
    file = partial / "epoch_2.pth"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(StudyError) as caught:
        train.run(interrupted)
    assert str(caught.value) == f"checkpoint {file} is damaged: delete it, and the run goes on from the one before"
    for other in ({"meta": {}}, {"meta": {}, "state_dict": {}, "optimizer": Payload(partial / "mark")}, []):
        torch.save(other, file)
        with pytest.raises(StudyError, match=r"epoch_2.pth .*[:;] delete it"):
            train.run(interrupted)
    assert not (partial / "mark").exists(), "no code in it was run"
    file.write_bytes(content[:100])
    (partial / "epoch_1.pth").unlink()
    with pytest.raises(StudyError, match="delete it, and the run starts afresh"):
        train.run(interrupted)
    file.unlink()
    assert train.run(interrupted).curve[-1]["iteration"] == 12


def test_whatever_is_damaged_of_an_interrupted_run_is_named_with_the_way_out(interrupted: RunSpec, tmp_path: Path) -> None:
    partial = paths.runs() / f"{interrupted.key}.partial"
    content = torch.load(partial / "epoch_2.pth", weights_only=False)
    state = content["state_dict"]
    weight = next(iter(state))
    others = {
        "another file": {"a": 1},
        "a list": [1],
        "no iteration": content | {"meta": {}},
        "no optimiser": {name: value for name, value in content.items() if name != "optimizer"},
        "another run": content | {"run": "0" * 12},
        "another network": content | {"state_dict": {name: value for name, value in state.items() if name != weight}},
        "another shape": content | {"state_dict": state | {weight: torch.zeros(1)}},
    }
    whole = (partial / "epoch_2.pth").read_bytes()
    for what, other in others.items():
        torch.save(other, partial / "epoch_2.pth")
        with pytest.raises(StudyError, match=r"epoch_2.pth .*[:;] delete it") as caught:
            train.run(interrupted)
        assert "\n" not in str(caught.value), what
    (partial / "epoch_2.pth").write_bytes(whole)
    for name in ("config.py", "curve.jsonl", "last_checkpoint"):
        kept = (partial / name).rename(tmp_path / name)
        os.mkfifo(partial / name)
        with pytest.raises(StudyError, match=f"{name} is a named pipe, where a file should be: remove it$"):
            train.run(interrupted)
        (partial / name).unlink()
        (partial / name).mkdir()
        with pytest.raises(StudyError, match=f"{name} is a folder, where a file should be: remove it$"):
            train.run(interrupted)
        (partial / name).rmdir()
        kept.rename(partial / name)
    (partial / "progress.json").write_text("[]")
    (partial / "last_checkpoint").write_bytes(b"\xff\0" * 9999)
    (partial / "epoch_last.pth").touch()
    assert train.run(interrupted).curve[-1]["iteration"] == 12


def test_speed_counts_the_images_of_this_process_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    run = baseline(smoke(epochs=5))
    assert in_child(run, at_iteration(6)) == 9

    def slow(runner: Any) -> None:
        clock[0] += 100

    clock = [0.0]
    original = train.Runner.train
    monkeypatch.setattr(train.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(train.Runner, "train", lambda runner: (original(runner), slow(runner))[0])
    # 16 of 20 iterations were left, of 4 images each; the checkpoint it went on from is removed on the way.
    assert train.run(run).provenance.images_per_second == pytest.approx(16 * 4 / 100)


def teacher_folder() -> tuple[RunSpec, Path]:
    run = baseline(student="gfl_r101")
    folder = paths.runs() / run.key
    folder.mkdir(parents=True)
    return run, folder


def test_a_teacher_hands_on_the_weights_of_its_record_alone() -> None:
    run, folder = teacher_folder()
    with pytest.raises(StudyError, match="has not been trained here"):
        train.weights(run)
    (folder / "student.pth").write_bytes(b"other")
    files.write_atomic(folder / "record.json", records.dump(record(run)))
    with pytest.raises(StudyError) as caught:
        train.weights(run)
    assert (
        str(caught.value)
        == f"checkpoint {folder / 'student.pth'} is damaged or not of its record: delete {folder} and train it again"
    )


def test_a_teacher_that_detects_nothing_cannot_teach() -> None:
    run, _ = teacher_folder()
    mini = RunSpec.model_construct(**({name: getattr(run, name) for name in RunSpec.model_fields} | {"scale": "mini"}))
    folder = paths.runs() / mini.key
    folder.mkdir()
    (folder / "student.pth").write_bytes(b"")
    nothing = record(mini, state="no detections").model_copy(update={"weights_sha256": hashlib.sha256(b"").hexdigest()})
    files.write_atomic(folder / "record.json", records.dump(nothing))
    with pytest.raises(StudyError, match="detects nothing on this data"):
        train.weights(mini)


def test_deleted_weights_are_trained_again_and_stray_folders_do_no_harm() -> None:
    run = baseline()
    first = train.run(run)
    file = paths.runs() / run.key / "student.pth"
    before = file.read_bytes()
    file.unlink()
    assert result(train.run(run)) == result(first)
    assert file.read_bytes() == before
    assert sorted(path.name for path in paths.runs().iterdir()) == [run.key, f"{run.key}.lock"]


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """A runs folder on a disk with room for no checkpoint; call it to make room."""
    runs = tmp_path / "small"
    runs.mkdir()
    monkeypatch.setenv("DFMSD_RUNS", str(runs))
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(runs)], capture_output=True)
    if mount.returncode == 0:
        yield lambda: subprocess.run(["mount", "-o", "remount,size=64m", str(runs)], check=True) and None
        subprocess.run(["umount", "-l", str(runs)], check=True)
        return
    # Without the right to mount: half of a checkpoint, then what the system says.
    with monkeypatch.context() as patch:

        def put(_: Any, content: bytes, path: str) -> None:
            Path(path).write_bytes(content[: len(content) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch.setattr(LocalBackend, "put", put)
        yield patch.undo


def test_a_full_disk_costs_nothing_that_was_done(small_disk: Callable[[], None]) -> None:
    run = baseline(smoke(epochs=2))
    with pytest.raises(StudyError, match="the disk is full") as caught:
        train.run(run)
    assert "make room, or let DFMSD_RUNS name a folder on a larger one" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert records.find(run.key) is None
    assert records.unfinished(run.key) is None
    small_disk()
    assert train.run(run).curve[-1]["iteration"] == 8
