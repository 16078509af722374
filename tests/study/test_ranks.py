"""One run in several processes: what is equal to that of one, and what is left when one of them dies."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
import torch

from dfmsd.__main__ import main
from dfmsd.errors import StudyError
from dfmsd.study import hooks, paths, plan, ranks, records
from dfmsd.study import run as train
from dfmsd.study.rows import Row, chain
from dfmsd.study.spec import RunSpec
from tests.fixtures_study import baseline, folders, killed_at, smoke  # noqa: F401

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("folders")]

# Batch norms that learn, images that are flipped, two epochs of two batches.
SCALE = smoke(epochs=2).model_copy(update={"start": None, "images": 8})


def taught(recipe: str) -> RunSpec:
    return chain(Row(student="fcos_r50", teachers=("gfl_r101",), recipe=recipe), SCALE, 0)[0]


def together(
    run: RunSpec, log: Path, *, count: int = 2, death: Callable[[], AbstractContextManager[None]] = nullcontext
) -> list[int]:
    """Train in forked processes, told what torchrun tells its own; the last dies as told. Returns minus signals, or statuses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    told = {"TORCHELASTIC_RUN_ID": "test", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    children = []
    for rank in range(count):
        if (child := os.fork()) == 0:
            status = 1
            try:
                os.environ |= told | {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
                os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
                with death() if rank == count - 1 else nullcontext():
                    train.run(run)
                status = 0
            except SystemExit as end:
                status = int(end.code or 0)
            except BaseException:
                with log.open("a") as file:
                    traceback.print_exc(file=file)
            finally:
                os._exit(status)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def weights_of(run: RunSpec) -> dict[str, torch.Tensor]:
    return torch.load(paths.runs() / run.key / "student.pth")["state_dict"]  # type: ignore[no-any-return]


def test_two_processes_give_the_record_of_one_also_after_one_of_them_was_killed(tmp_path: Path) -> None:
    """Within 1e-5, a hundred times the rounding of a float32: it grows from one of four steps to the next."""
    log = tmp_path / "log"
    student, masked = taught("fgd"), taught("dfmsd")
    assert student.stage is not None and isinstance(student.stage.teacher, RunSpec)
    train.run(student.stage.teacher)
    one, weights = train.run(student), weights_of(student)
    (paths.runs() / student.key).rename(tmp_path / "one")

    def death() -> AbstractContextManager[None]:
        return killed_at("after_train_iter", hooks.CurveHook, lambda _, runner, *rest: runner.iter == 2)

    assert together(student, log, death=death) == [1, -9], "the first does not wait for one that is dead"
    assert plan.plan([(student,)])[-1].state == "partial"
    assert together(student, log) == [0, 0], log.read_text()
    two = records.read(paths.runs() / student.key / "record.json")
    assert (one.provenance.gpus, two.provenance.gpus) == (1, 2)
    assert two.factors == one.factors and two.metrics == pytest.approx(one.metrics, abs=0.1)
    assert [dict(point) for point in two.curve] == [pytest.approx(point, rel=1e-5, abs=2e-6) for point in one.curve]
    for name, value in weights_of(student).items():
        torch.testing.assert_close(value, weights[name], rtol=1e-5, atol=1e-5, msg=name)
    # Of its own masks in each process, and a correlation of each one's images, only the sizes can be told.
    assert together(masked, log) == [0, 0], log.read_text()
    assert {"loss_dfmsd_rec", "loss_dfmsd_sfa"} <= records.read(paths.runs() / masked.key / "record.json").shares.keys()
    assert not list(paths.runs().glob("*.partial"))


def test_a_batch_that_cannot_be_shared_is_refused_by_one_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert together(baseline(), tmp_path / "log", count=3) == [1, 2, 2]
    told = (tmp_path / "log").read_text()
    message = f"fcos_r50 ({baseline().key}) trains with batches of 4 images, which 3 processes cannot share (1 left over): "
    assert told.splitlines()[-1] == f"dfmsd.errors.StudyError: {message}say --nproc_per_node=2"
    assert told.count("Traceback") == 1
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    monkeypatch.setenv("WORLD_SIZE", "2")
    start = baseline().start
    assert start is not None
    with pytest.raises(StudyError, match=rf"start of a ResNet .* is trained by one process: python -m dfmsd run {start.key}"):
        ranks.check(start)


@pytest.mark.parametrize("rank", ["0", "1"])
def test_torchrun_is_for_one_run(rank: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "test", "WORLD_SIZE": "2", "RANK": rank}.items():
        monkeypatch.setenv(name, value)
    assert main(["page", "table03"]) == 2
    message = "error: torchrun starts one run: torchrun --nproc_per_node=N -m dfmsd run KEY\n"
    assert capsys.readouterr().err == (message if rank == "0" else "")


@pytest.mark.exhaustive
def test_torchrun_trains_a_run_of_the_study() -> None:
    run = baseline()
    assert run.start is not None
    train.run(run.start)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "-m", "dfmsd", "run", run.key]
    done = subprocess.run(torchrun, cwd=paths.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (found := records.find(run.key)) is not None and found.provenance.gpus == 2
