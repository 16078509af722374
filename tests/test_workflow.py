"""An engine of the user's own choice runs the study: what it is told, one run at its word, Snakemake here and through Slurm."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dfmsd.__main__ import main
from dfmsd.study import ensure, pages, paths, plan, records
from tests.fixtures_study import folders  # noqa: F401

pytestmark = pytest.mark.usefixtures("folders")

ENGINE = Path(sys.prefix) / "engine" / "bin" / "snakemake"
PAGE = "crossing"
"""A start, a student, its teacher, and what it learns."""
WITHOUT = "no Snakemake: `make engine` installs it"


def listed(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    assert main(["plan", *words, "--json"]) == 0
    return list(json.loads(capsys.readouterr().out))


def test_an_engine_is_told_what_is_left_and_runs_it_key_by_key(capsys: pytest.CaptureFixture[str]) -> None:
    left = listed(capsys, PAGE, "--scale", "smoke")
    runs = {run.key: run for run in plan.order(pages.get(PAGE, scale="smoke").chains())}
    assert [one["key"] for one in left] == list(runs)
    for one in left:
        assert set(one) == {"key", "state", "needs", "seconds", "gpus", "memory", "about"}
        assert one["needs"] == [need.key for need in runs[one["key"]].needs()]
    start, taught = left[0], left[-1]
    assert main(["run", taught["key"]]) == 2
    assert "has not been trained here" in capsys.readouterr().err
    assert main(["run", start["key"]]) == 0
    capsys.readouterr()
    again = listed(capsys, PAGE, "--scale", "smoke")
    assert [one["key"] for one in again] == [one["key"] for one in left[1:]]
    assert all(start["key"] not in one["needs"] for one in again)
    assert {one["gpus"] for one in listed(capsys, PAGE, "--scale", "gpu")} == {1}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "000000000000"], "no page has a run '000000000000': `python -m dfmsd plan PAGE` prints the keys of a page's runs"),
        (["run"], "say what to run: a KEY that `plan` prints, or --student and --method"),
        *(
            (
                ["run", "0", *words],
                f"either KEY, a run of a page as it is, or --student and --method, a row of its own: leave out {words[0]}",
            )
            for words in (["--student", "fcos_r50"], ["--scale", "smoke"])
        ),
    ],
)
def test_a_wrong_word_is_told_in_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


def hashes() -> dict[str, str]:
    """Of the weights of the page's runs."""
    found = {run.key: records.find(run.key) for run in plan.order(pages.get(PAGE, scale="smoke").chains())}
    return {key: record.weights_sha256 for key, record in found.items() if record is not None}


def of_the_pool(monkeypatch: pytest.MonkeyPatch, folder: Path) -> dict[str, str]:
    with monkeypatch.context() as patch:
        patch.setenv("DFMSD_RUNS", str(folder / "pool"))
        assert ensure.ensure(pages.get(PAGE, scale="smoke").chains(), jobs=2, quiet=True).complaints() == []
        return hashes()


def snakemake(folder: Path, profile: str, *more: str) -> list[str]:
    where = ["-s", str(paths.ROOT / "workflow" / "Snakefile"), "--directory", str(folder)]
    profiles = ["--workflow-profile", str(paths.ROOT / "workflow" / "profiles" / profile)]
    return [
        str(ENGINE),
        *where,
        *profiles,
        *more,
        "--config",
        f"python={sys.executable}",
        f"done={folder / 'done'}",
        f"pages={PAGE}",
    ]


@pytest.mark.slow
@pytest.mark.skipif(not ENGINE.exists(), reason=WITHOUT)
def test_snakemake_gives_what_the_studys_own_pool_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(paths.ROOT))
    done = subprocess.run(snakemake(tmp_path, "local"), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = hashes()
    assert len(found) == len(plan.order(pages.get(PAGE, scale="smoke").chains()))
    assert found == of_the_pool(monkeypatch, tmp_path)


SLURM = """
ClusterName=one
SlurmctldHost={host}
NodeName={host} CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
SlurmUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MailProg=/bin/true
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
"""


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[Path]:
    """Debian's Slurm with one node, this machine, for as long as the test takes."""
    file = Path("/etc/slurm/slurm.conf")  # jobs look there, whatever SLURM_CONF says to whom starts them
    if os.geteuid() or shutil.which("apt-get") is None or file.exists():
        pytest.skip("Slurm is installed by root on Debian, where there is none")
    subprocess.run(["apt-get", "install", "-y", "-qq", "slurm-wlm", "munge"], check=True, stdout=subprocess.DEVNULL)
    for name in ("state", "spool"):
        (tmp_path / name).mkdir()
    file.write_text(SLURM.format(host=socket.gethostname().split(".")[0], folder=tmp_path))
    munge = Path("/run/munge")
    munge.mkdir(exist_ok=True)
    shutil.chown(munge, "munge", "munge")
    started = []
    try:
        for words in (["runuser", "-u", "munge", "--", "munged", "-F"], ["slurmctld", "-D"], ["slurmd", "-D"]):
            started.append(subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            time.sleep(2)
        for _ in range(30):
            if "idle" in subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True).stdout:
                break
            time.sleep(1)
        else:
            pytest.fail((tmp_path / "slurmctld.log").read_text()[-2000:])
        yield tmp_path
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait()
        file.unlink()


@pytest.mark.exhaustive
@pytest.mark.skipif(not ENGINE.exists(), reason=WITHOUT)
def test_a_real_slurm_gives_the_same_also_after_the_driver_was_killed(slurm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(paths.ROOT))
    command = snakemake(slurm, "slurm", "--slurm-status-command", "squeue", "--latency-wait", "5")
    with (slurm / "driver.log").open("w") as log:
        driver = subprocess.Popen(command, cwd=slurm, stdout=log, stderr=log)
        while driver.poll() is None and not hashes():
            time.sleep(1)
        driver.kill()
        driver.wait()
    assert hashes(), (slurm / "driver.log").read_text()[-3000:]
    assert len(hashes()) < len(plan.order(pages.get(PAGE, scale="smoke").chains())), "it was killed when all was done"
    subprocess.run([*command, "--unlock"], cwd=slurm, check=True, capture_output=True)
    done = subprocess.run(command, cwd=slurm, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert hashes() == of_the_pool(monkeypatch, slurm)
