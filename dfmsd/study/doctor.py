"""What is wrong with this environment, and the command that mends it.

``python -m dfmsd doctor`` needs seconds and nothing installed: this module imports the standard library alone, and the
packages it examines only while it examines them.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dfmsd.study import paths

PYTHONS = ((3, 11), (3, 12))
LOW_DISK_GB = 2
LOW_MEMORY_GB = 4
SET_UP = "make setup"


@dataclass(frozen=True)
class Finding:
    """One thing that the doctor looked at.

    Args:
        level: ``problem`` (the study will not work), ``note`` (a part of it will not, or good to know) or ``ok``.
        what: What was found, one line.
        mend: The command that mends it; every problem has one.
    """

    level: Literal["ok", "note", "problem"]
    what: str
    mend: str | None = None

    def __str__(self) -> str:
        """One line for the terminal."""
        return f"{self.level:<8} {self.what}" + (f"  ->  {self.mend}" if self.mend else "")


@dataclass(frozen=True)
class Browser:
    """A Chromium and the driver that steers it, both paths of executables."""

    binary: str
    driver: str


def find_browser() -> Browser | None:
    """The system's Chromium (or Chrome) with its driver; None if either is missing or does not start."""
    driver = shutil.which("chromedriver")
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        binary = shutil.which(name)
        if binary and driver and _output(binary, "--version") is not None:
            return Browser(binary, driver)
    return None


def pins(extra: str | None = None) -> dict[str, str]:
    """The versions that pyproject.toml asks for, by distribution name.

    Args:
        extra: An optional group (``build``, ``test``); None for the study's own dependencies.

    Example:
        >>> pins()["onedl-mmcv"]
        '2.3.6'
    """
    import tomllib

    project = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())["project"]
    lines = project["dependencies"] if extra is None else project["optional-dependencies"][extra]
    return dict(line.split("==") for line in lines)


def diagnose() -> list[Finding]:
    """Everything the doctor looks at, problems and good things alike, in the order of what to mend first."""
    python = _python()
    if python.level == "problem":
        return [python]
    return [python, *_packages(), *_compiled(), _coco(), _browser(), _disk(), _cpu()]


def main() -> int:
    """Print the findings; returns 1 if one of them is a problem, else 0."""
    findings = diagnose()
    for finding in findings:
        print(finding)
    problems = sum(finding.level == "problem" for finding in findings)
    print(f"{problems} problem{'s' * (problems != 1)}" if problems else "ready")
    return int(problems > 0)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] not in PYTHONS:
        return Finding("problem", f"Python {version} runs this and the study needs 3.11 or 3.12", SET_UP)
    own = paths.ROOT / ".venv"
    if own.is_dir() and Path(sys.prefix).resolve() != own.resolve() and "CONDA_PREFIX" not in os.environ:
        return Finding("note", f"this is {sys.executable}, not the study's own .venv", ".venv/bin/python -m dfmsd doctor")
    return Finding("ok", f"Python {version}")


def _packages() -> Iterator[Finding]:
    missing, wrong = [], 0
    groups = {**pins(), **pins("test")}
    for name, version in groups.items():
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
            continue
        if found.split("+")[0] != version:  # torch 2.13.0+cpu is torch 2.13.0
            wrong += 1
            yield Finding("problem", f"{name} is {found}, the study needs {version}", SET_UP)
    try:
        importlib.metadata.version("dfmsd")
    except importlib.metadata.PackageNotFoundError:
        missing.append("dfmsd")
    if missing:
        yield Finding("problem", f"not installed: {', '.join(missing)}", SET_UP)
    if not missing and not wrong:
        yield Finding("ok", f"{len(groups)} packages at their pinned versions")
    try:
        importlib.import_module("cv2")
    except ImportError as error:
        yield Finding("problem", f"OpenCV does not import ({_one_line(error)})", SET_UP)


def _compiled() -> Iterator[Finding]:
    """Torch and mmcv's compiled operations, on the CPU and the GPU."""
    try:
        torch = importlib.import_module("torch")
    except (ImportError, OSError) as error:
        yield Finding("problem", f"torch does not import ({_one_line(error)})", SET_UP)
        return
    gpu = _gpu()
    cuda = bool(torch.cuda.is_available())
    if gpu and not cuda:
        yield _no_cuda(gpu, torch.version.cuda)
    elif not gpu:
        yield Finding("ok", f"torch {torch.__version__}, no GPU: smoke and mini are made for that")
    else:
        yield Finding("ok", f"torch {torch.__version__} with {gpu}")
    try:
        operations = importlib.import_module("mmcv._ext")
    except (ImportError, OSError) as error:
        yield Finding("problem", f"mmcv is without its compiled operations ({_one_line(error)})", SET_UP)
        return
    compiled_for = operations.get_compiling_cuda_version()
    if cuda and compiled_for == "not available":
        yield Finding(
            "problem",
            "mmcv's operations are compiled for the CPU only though torch uses the GPU",
            f"{SET_UP} (nvcc of CUDA {torch.version.cuda} on PATH; environment.yml brings one)",
        )
    else:
        yield Finding("ok", "mmcv has its compiled operations" + (f", CUDA {compiled_for}" if cuda else ""))


def _no_cuda(gpu: str, torch_cuda: str | None) -> Finding:
    """Why torch does not see a GPU that the system has."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return Finding("note", f"CUDA_VISIBLE_DEVICES hides {gpu}", "unset CUDA_VISIBLE_DEVICES")
    if torch_cuda is None:
        pip = f"{sys.executable} -m pip"
        return Finding(
            "problem",
            f"{gpu} is there but torch is built without CUDA",
            f"{pip} uninstall -y torch && PIP_FIND_LINKS= {pip} install torch=={pins()['torch']} && {SET_UP}",
        )
    return Finding(
        "problem",
        f"{gpu} is there but its driver does not serve torch's CUDA {torch_cuda}: update the driver",
        "nvidia-smi (shows the driver's version and its CUDA)",
    )


def _coco() -> Finding:
    root = paths.coco()
    if root is None:
        return Finding("note", "no COCO, which only the coco scale needs", "export DFMSD_COCO=/path/to/coco")
    for split in ("train", "val"):
        file = root / "annotations" / f"instances_{split}2017.json"
        if not file.is_file():
            return Finding("problem", f"DFMSD_COCO is set but there is no {file}", "export DFMSD_COCO=/path/to/coco")
    return Finding("ok", f"COCO at {root}")


def _browser() -> Finding:
    browser = find_browser()
    if browser is None:
        return Finding(
            "note",
            "no Chromium with chromedriver: the test that opens the book is skipped",
            "sudo apt-get install chromium chromium-driver",
        )
    return Finding("ok", f"{browser.binary} for the test that opens the book")


def _disk() -> Finding:
    runs = paths.runs()
    place = next(folder for folder in (runs, *runs.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free / 1e9
    if free < LOW_DISK_GB:
        return Finding("problem", f"{free:.1f} GB free for {runs}, runs need {LOW_DISK_GB} GB", "export DFMSD_RUNS=/a/larger/disk")
    return Finding("ok", f"{free:.0f} GB free for {runs}")


def _cpu() -> Finding:
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    threads = os.environ.get("OMP_NUM_THREADS", "not set")
    what = f"{cores} CPU cores, {memory:.0f} GB memory, OMP_NUM_THREADS {threads}"
    if memory < LOW_MEMORY_GB:
        return Finding("note", f"{what}: little memory, one run at a time", "make page JOBS=1")
    return Finding("ok", what)


def _gpu() -> str | None:
    """The first NVIDIA GPU's name, as the driver tells it; None without a GPU or driver."""
    nvidia_smi = shutil.which("nvidia-smi")
    listed = _output(nvidia_smi, "-L") if nvidia_smi else None
    match = re.search(r"GPU \d+: (.+?)(?: \(UUID|$)", listed or "", re.MULTILINE)
    return match[1] if match else None


def _output(*command: str) -> str | None:
    """What a command prints; None if it fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _one_line(error: BaseException) -> str:
    """An exception's message, its first line, not too long."""
    lines = str(error).splitlines()
    return lines[0][:120] if lines else type(error).__name__
