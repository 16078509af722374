"""What is wrong with this environment, and the command that mends it.

``python -m dfmsd doctor`` needs seconds and nothing installed: this module imports the standard library alone, and the packages it
examines only while it examines them.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import re
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from typing import Literal, NamedTuple

from dfmsd.errors import StudyError
from dfmsd.study import machine, paths

SET_UP = "make setup"
if paths.INSTALLED:
    # mmcv is compiled against the torch that is there, which pip hides from what it builds unless told not to.
    SET_UP = 'pip install "dfmsd[build]" && pip install --no-build-isolation "dfmsd[study]"'


class Finding(NamedTuple):
    """One thing that the doctor looked at: a problem (the study will not work), a note (a part of it will not), or good."""

    level: Literal["ok", "note", "problem"]
    what: str
    mend: str = ""
    """The command that mends it."""


class Browser(NamedTuple):
    """A Chromium and the driver that steers it, both paths of executables."""

    binary: str
    driver: str


def find_browser() -> Browser | None:
    """The system's Chromium (or Chrome) with its driver; None if either is missing or does not start."""
    driver = shutil.which("chromedriver")
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        binary = shutil.which(name)
        if binary and driver and machine.output(binary, "--version") is not None:
            return Browser(binary, driver)
    return None


def pins() -> dict[str, str]:
    """The study's environment, ``lock.txt``: every package's version by distribution name; outside of a checkout there is none.

    Example:
        >>> pins()["onedl-mmcv"]
        '2.3.6'
    """
    lines = [] if paths.INSTALLED else (paths.ROOT / "lock.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def installed() -> dict[str, str]:
    """What a lock of this environment would hold; ``make lock`` writes it.

    Not pip, this package, what torch brings for a GPU (it pins that itself), and the OpenCV that mmdet asks for by its metadata.
    """
    apart = re.compile(r"pip|dfmsd|opencv-python|triton|(nvidia|cuda)-.*")
    here = sorted({sysconfig.get_path(kind) for kind in ("purelib", "platlib")})  # not what setuptools has inside of itself
    found = {one.name: one.version.split("+")[0] for one in importlib.metadata.distributions(path=here)}
    return {name: found[name] for name in sorted(found, key=str.lower) if not apart.fullmatch(name)}


def lacking(what: str, module: str | None, extra: str = "study") -> StudyError:
    """What to say where a package is not installed that only a part of the study needs.

    Args:
        what: That part.
        module: The missing one's name.
        extra: Of this package, which brings it.
    """
    return StudyError(f"{what} needs {module}, which is not installed: {SET_UP.replace('[study]', f'[{extra}]')}")


def main() -> int:
    """Print what was found, what to mend first at the top; returns 1 if something is a problem, else 0."""
    findings = list(diagnose())
    for level, what, mend in findings:
        print(f"{level:<8} {what}" + (f"  ->  {mend}" if mend else ""))
    problems = sum(finding.level == "problem" for finding in findings)
    print(f"{problems} problem{'s' * (problems != 1)}" if problems else "ready")
    return int(problems > 0)


def diagnose() -> Iterator[Finding]:
    """Everything the doctor looks at."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] not in ((3, 11), (3, 12)):
        yield Finding("problem", f"Python {version} runs this and the study needs 3.11 or 3.12", SET_UP)
        return
    yield Finding("ok", f"Python {version}, {sys.executable}")
    wanted = pins()
    missing = [name for name in (*wanted, "dfmsd") if _installed(name) is None]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        yield Finding("problem", f"not installed: {', '.join(missing[:5])}{more}", SET_UP)
    there = {name: _installed(name) for name in wanted}
    other = [f"{name} {there[name]} for {wanted[name]}" for name in wanted if there[name] not in (None, wanted[name])]
    if other:
        yield Finding("problem", f"other versions than the study's: {', '.join(other)}", SET_UP)
    if paths.INSTALLED:
        yield Finding("ok", f"dfmsd {_installed('dfmsd')} in {paths.PACKAGE}, beside packages of other versions than its records'")
    elif not missing and not other:
        yield Finding("ok", f"{len(wanted)} packages at their pinned versions")
    for name, package in (("cv2", "OpenCV"), ("torch", "torch"), ("mmcv._ext", "mmcv's compiled operations")):
        try:
            importlib.import_module(name)
        except (ImportError, OSError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
            yield Finding("problem", f"{package}: no import ({reason})", SET_UP)
            return
    yield _device()
    yield _coco()
    if browser := find_browser():
        yield Finding("ok", f"{browser.binary} for the test that opens the book")
    else:
        lacking = "no Chromium with chromedriver: the test that opens the book is skipped"
        yield Finding("note", lacking, "sudo apt-get install chromium chromium-driver")
    try:
        runs = paths.runs()
    except StudyError as error:
        yield Finding("problem", str(error), "export DFMSD_RUNS=/a/folder")
        return
    free = shutil.disk_usage(next(folder for folder in (runs, *runs.absolute().parents) if folder.exists())).free / 1e9
    if free < 2:
        yield Finding("problem", f"{free:.1f} GB free for {runs}, runs need 2 GB", "export DFMSD_RUNS=/a/larger/disk")
    else:
        yield Finding("ok", f"{free:.0f} GB free for {runs}")
    threads = os.environ.get("OMP_NUM_THREADS", "not set")
    yield Finding("ok", f"{len(os.sched_getaffinity(0))} CPU cores, OMP_NUM_THREADS {threads}")


def _installed(name: str) -> str | None:
    """The version of a package here; torch 2.13.0+cpu is torch 2.13.0."""
    try:
        return importlib.metadata.version(name).split("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return None


def _device() -> Finding:
    """Whether torch and mmcv's operations use the GPU that is there."""
    import torch

    listed = machine.cards()
    if not listed:
        return Finding("ok", f"torch {torch.__version__}, no GPU: smoke and mini are made for that")
    gpu, cuda = listed[0], torch.version.cuda
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return Finding("note", f"CUDA_VISIBLE_DEVICES hides {gpu}", "unset CUDA_VISIBLE_DEVICES")
    if cuda is None:
        pip = f"{sys.executable} -m pip"
        mend = f"{pip} uninstall -y torch && PIP_FIND_LINKS= {pip} install torch=={_installed('torch')} && {SET_UP}"
        return Finding("problem", f"{gpu} is there but torch is built without CUDA", mend)
    if not torch.cuda.is_available():
        old = f"{gpu} is there but its driver does not serve torch's CUDA {cuda}: update the driver"
        return Finding("problem", old, "nvidia-smi (shows the driver's version and its CUDA)")
    compiled_for = importlib.import_module("mmcv._ext").get_compiling_cuda_version()
    if compiled_for == "not available":
        mend = f"{SET_UP} (nvcc of CUDA {cuda} on PATH; environment.yml brings one)"
        return Finding("problem", "mmcv's operations are compiled for the CPU only though torch uses the GPU", mend)
    return Finding("ok", f"torch {torch.__version__} with {gpu}, mmcv's operations for CUDA {compiled_for}")


def _coco() -> Finding:
    root, name = paths.coco(), "export DFMSD_COCO=/path/to/coco"
    if root is None:
        return Finding("note", "no COCO, which only the coco scale needs", name)
    for split in ("train", "val"):
        file = root / "annotations" / f"instances_{split}2017.json"
        if not file.is_file():
            return Finding("problem", f"DFMSD_COCO is set but there is no {file}", name)
    return Finding("ok", f"COCO at {root}")
