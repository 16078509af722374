"""The doctor finds each fault when it is there, says nothing of it when it is not, and names a command for it."""

from __future__ import annotations

import importlib
import importlib.metadata
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import pytest

from dfmsd.study import doctor, paths
from dfmsd.study.doctor import Finding


def problems() -> list[Finding]:
    found = [finding for finding in doctor.diagnose() if finding.level == "problem"]
    for finding in found:
        assert finding.mend, f"no command mends: {finding.what}"
        assert "\n" not in finding.what
    return found


def only_problem() -> Finding:
    found = problems()
    assert len(found) == 1, found
    return found[0]


@pytest.fixture(autouse=True)
def _sound_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No COCO and no GPU; what else is there is this very environment, which the last test finds sound."""
    for name in ("DFMSD_COCO", "DFMSD_RUNS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    no_gpu = tmp_path / "no_gpu"
    no_gpu.mkdir()
    _command(no_gpu, "nvidia-smi", "exit 9")
    monkeypatch.setenv("PATH", str(no_gpu), prepend=":")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


def _command(folder: Path, name: str, script: str) -> None:
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


def _with_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _command(tmp_path, "nvidia-smi", "echo 'GPU 0: NVIDIA T4 (UUID: GPU-1)'")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")


def test_no_problem_in_the_environment_that_make_setup_made(capsys: pytest.CaptureFixture[str]) -> None:
    assert problems() == []
    assert doctor.main() == 0
    assert capsys.readouterr().out.endswith("ready\n")


def test_unfit_python(monkeypatch: pytest.MonkeyPatch) -> None:
    version = namedtuple("version", "major minor micro releaselevel serial")(3, 10, 4, "final", 0)
    monkeypatch.setattr(sys, "version_info", version)
    assert list(doctor.diagnose()) == [Finding("problem", "Python 3.10.4 runs this and the study needs 3.11 or 3.12", "make setup")]


def test_wrong_version(monkeypatch: pytest.MonkeyPatch) -> None:
    version = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.26.4" if name == "numpy" else version(name))
    assert only_problem() == Finding(
        "problem", f"other versions than the study's: numpy 1.26.4 for {doctor.pins()['numpy']}", "make setup"
    )


def test_local_version_of_torch_is_no_wrong_version(monkeypatch: pytest.MonkeyPatch) -> None:
    version = importlib.metadata.version
    local = f"{doctor.pins()['torch']}+cu130"
    monkeypatch.setattr(importlib.metadata, "version", lambda name: local if name == "torch" else version(name))
    assert problems() == []


def test_missing_packages_share_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    version = importlib.metadata.version

    def without(name: str) -> str:
        if name in ("papermill", "seaborn", "dfmsd"):
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", without)
    assert only_problem() == Finding("problem", "not installed: papermill, seaborn, dfmsd", "make setup")


def test_operations_of_another_torch_do_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def load(name: str) -> object:
        if name == "mmcv._ext":
            raise ImportError("_ext.so: undefined symbol: _ZN3c10\nand more")
        return real(name)

    monkeypatch.setattr(importlib, "import_module", load)
    assert only_problem().what == "mmcv's compiled operations: no import (_ext.so: undefined symbol: _ZN3c10)"


def test_gpu_but_torch_without_cuda_or_with_one_that_its_driver_does_not_know(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _with_gpu(monkeypatch, tmp_path)
    monkeypatch.setattr("torch.version.cuda", None)
    finding = only_problem()
    assert finding.what == "NVIDIA T4 is there but torch is built without CUDA"
    assert f"install torch=={doctor.pins()['torch']}" in str(finding.mend)
    monkeypatch.setattr("torch.version.cuda", "13.0")
    assert "driver does not serve torch's CUDA 13.0" in only_problem().what


def test_gpu_hidden_on_purpose_is_no_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _with_gpu(monkeypatch, tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert problems() == []
    assert Finding("note", "CUDA_VISIBLE_DEVICES hides NVIDIA T4", "unset CUDA_VISIBLE_DEVICES") in doctor.diagnose()


@pytest.mark.parametrize(("compiled_for", "count"), [("not available", 1), ("13.0", 0)])
def test_gpu_and_the_operations_cuda(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, compiled_for: str, count: int) -> None:
    _with_gpu(monkeypatch, tmp_path)
    monkeypatch.setattr("torch.version.cuda", "13.0")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    operations = SimpleNamespace(get_compiling_cuda_version=lambda: compiled_for)
    monkeypatch.setitem(sys.modules, "mmcv._ext", operations)
    found = problems()
    assert len(found) == count
    assert all("compiled for the CPU only" in finding.what for finding in found)


def test_no_coco_is_a_note_and_one_without_annotations_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (finding,) = (finding for finding in doctor.diagnose() if "COCO" in finding.what)
    assert (finding.level, finding.mend.split("=")[0]) == ("note", "export DFMSD_COCO")
    monkeypatch.setenv("DFMSD_COCO", str(tmp_path))
    assert str(tmp_path / "annotations" / "instances_train2017.json") in only_problem().what


def test_browser_needs_its_driver_and_must_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    _command(tmp_path, "chromium", "exit 0")
    assert doctor.find_browser() is None
    _command(tmp_path, "chromedriver", "exit 0")
    assert doctor.find_browser() == doctor.Browser(str(tmp_path / "chromium"), str(tmp_path / "chromedriver"))
    _command(tmp_path, "chromium", "exit 1")  # a launcher whose program is not installed
    assert doctor.find_browser() is None


def test_full_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DFMSD_RUNS", str(tmp_path / "not" / "yet" / "made"))
    usage = namedtuple("usage", "total used free")(10**12, 10**12 - 10**8, 10**8)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    assert only_problem().what.startswith("0.1 GB free")


def test_exit_status_is_one_with_a_problem(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "mmcv._ext", None)
    assert doctor.main() == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "1 problem"
    assert sum(line.startswith("problem") and line.endswith("->  make setup") for line in lines) == 1


def test_runs_on_a_bare_python() -> None:
    """Without site-packages it still starts, and reports what is missing rather than a traceback."""
    done = subprocess.run([sys.executable, "-S", "-m", "dfmsd", "doctor"], cwd=paths.ROOT, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert f"problem  not installed: {', '.join(list(doctor.pins())[:5])} and " in done.stdout
    assert " more  ->  make setup\n" in done.stdout
