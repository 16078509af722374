"""Install the study's environment: ``python scripts/setup_env.py ENV [--again]`` (``make setup`` calls it).

ENV is a folder: a virtual environment, made if missing, or an existing conda environment. Every step is safe to repeat,
so an interrupted set-up goes on where it stopped; one that is complete and still answers lock.txt is left alone,
unless ``--again`` asks to go through the steps anyway (the repair of a damaged environment).

Runs under a bare Python 3.11 or 3.12: the standard library only.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NEEDED_GB = 4  # 2.5 GB stand in the end without CUDA, and pip unpacks beside
MMCV_CPU_MINUTES = 8.5  # core-minutes to compile without debug symbols, measured on 2 cores (4 min 14 s)

# Printed as JSON by the environment's own Python; mmcv._ext holds the compiled operations.
PROBE = """
import json, torch
state = {"gpu": torch.cuda.is_available(), "cuda": torch.version.cuda, "ops": False, "cuda_ops": False}
try:
    from mmcv import _ext
    state["ops"] = True
    state["cuda_ops"] = _ext.get_compiling_cuda_version() != "not available"
except ImportError:
    pass
print(json.dumps(state))
"""


def stop(message: str) -> None:
    """End with one line that says what is missing."""
    sys.exit(f"setup: {message}")


def say(message: str) -> None:
    """Print one line at once."""
    print(f"setup: {message}", flush=True)


class Clock:
    """A line that tells what is going on and for how long, renewed each second (in a log, each half minute)."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._start = time.monotonic()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Clock:
        print(f"setup: {self.text}", end="" if sys.stdout.isatty() else "\n", flush=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        if sys.stdout.isatty():
            print()

    def _tick(self) -> None:
        terminal = sys.stdout.isatty()
        while not self._done.wait(1 if terminal else 30):
            seconds = int(time.monotonic() - self._start)
            line = f"setup: {self.text}, {seconds // 60}:{seconds % 60:02d}"
            print(f"\r\033[K{line}" if terminal else line, end="" if terminal else "\n", flush=True)


class Environment:
    """One environment folder and the pip inside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "bin" / "python"
        # ninja is looked up on PATH by torch's build.
        self.variables = {
            **os.environ,
            "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }

    def create(self) -> None:
        """Make the virtual environment, or mend one whose making was interrupted."""
        if self._runs("-m", "pip", "--version"):
            if not self._runs("-c", "import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))"):
                stop(f"{self.folder} is not Python 3.11 or 3.12: rm -rf {self.folder} && make setup")
            return
        if (self.folder / "conda-meta").is_dir():
            stop("the conda environment has no pip: conda install pip")
        say(f"making {self.folder} with Python {sys.version.split()[0]}")
        made = subprocess.run([sys.executable, "-m", "venv", "--clear", str(self.folder)])
        if made.returncode:
            stop(f"{sys.executable} could not make {self.folder} (its message is above)")

    def install(self, step: str, *arguments: str) -> None:
        """Run ``pip install`` under a clock, and show what it says only if it fails."""
        with Clock(step):
            done = subprocess.run(
                [str(self.python), "-m", "pip", "install", "-qq", *arguments],
                env=self.variables,
                capture_output=True,
                text=True,
            )
        if done.returncode:
            print(done.stdout + done.stderr, file=sys.stderr)
            stop("pip could not install the packages, see above; the same command goes on from here")

    def probe(self) -> dict[str, object]:
        """What torch and mmcv in this environment can do."""
        done = subprocess.run([str(self.python), "-c", PROBE], env=self.variables, capture_output=True, text=True)
        if done.returncode:
            stop(f"torch does not import: {done.stderr.strip().splitlines()[-1]}")
        return dict(json.loads(done.stdout.splitlines()[-1]))

    def _runs(self, *arguments: str) -> bool:
        try:
            done = subprocess.run([str(self.python), *arguments], env=self.variables, capture_output=True)
        except OSError:
            return False
        return done.returncode == 0


def nvcc_release() -> str | None:
    """The CUDA release of the nvcc that torch's build would use, as "13.0"; None without one."""
    home = os.environ.get("CUDA_HOME")
    places = [f"{home}/bin/nvcc" if home else None, shutil.which("nvcc"), "/usr/local/cuda/bin/nvcc"]
    for nvcc in places:
        if nvcc and Path(nvcc).exists():
            text = subprocess.run([nvcc, "--version"], capture_output=True, text=True).stdout
            if match := re.search(r"release (\d+\.\d+)", text):
                return match[1]
    return None


def wants_cuda(state: dict[str, object]) -> bool:
    """Whether mmcv's CUDA operations can be built: a GPU that torch sees, and an nvcc of torch's CUDA generation."""
    if not state["gpu"]:
        return False
    release = nvcc_release()
    if release and release.split(".")[0] == str(state["cuda"]).split(".")[0]:
        return True
    found = f"nvcc is of CUDA {release}" if release else "there is no nvcc"
    say(f"a GPU is there but {found} (torch has CUDA {state['cuda']}): mmcv's operations are built for the CPU only")
    return False


def install_mmcv(environment: Environment, pin: str) -> None:
    """Install mmcv with its compiled operations: a prebuilt wheel if pip finds one that works, else compiled here.

    mmcv is published as source alone, and compiles its operations only where torch is installed beforehand and the
    build is not isolated; elsewhere it silently builds without them. So what counts is what can be imported.
    """
    state = environment.probe()
    cuda = wants_cuda(state)

    def complete() -> bool:
        now = environment.probe()
        return bool(now["cuda_ops"] if cuda else now["ops"])

    name = pin.split("==")[0]
    if installed(environment, pin) and complete():
        return
    pip = [str(environment.python), "-m", "pip", "install", "--no-deps", "--force-reinstall"]
    wheel = subprocess.run([*pip, "-q", "--only-binary", name, pin], env=environment.variables, capture_output=True, text=True)
    if wheel.returncode == 0 and complete():
        say("mmcv came as a prebuilt wheel")
        return
    check_compiler()
    cores = len(os.sched_getaffinity(0))
    minutes = max(1, round(MMCV_CPU_MINUTES / cores))
    longer = ", several times longer for its CUDA operations" if cuda else ""
    say(f"mmcv compiles its operations, once: about {minutes} min on {cores} cores{longer}")
    variables = dict(environment.variables)
    # Debug symbols would take half of the time and fifteen times the space.
    for flags in ("CFLAGS", "CXXFLAGS"):
        variables[flags] = f"{variables.get(flags, '')} -g0".strip()
    variables |= {"FORCE_CUDA": "1"} if cuda else {"CUDA_VISIBLE_DEVICES": ""}
    log = environment.folder / "mmcv-build.log"
    command = [*pip, "-v", "--no-build-isolation", "--no-cache-dir", "--no-binary", name, pin]
    if compile_with_progress(command, variables, log):
        stop(f"mmcv did not compile; the reason is near the end of {log}")
    if not complete():
        stop(f"mmcv compiled, but its operations do not import; see {log}")


def compile_with_progress(command: list[str], variables: dict[str, str], log: Path) -> int:
    """Run a build, its output in ``log``, and show ninja's count of compiled files; returns the exit status."""
    with (
        Clock("mmcv: unpacking") as clock,
        log.open("w") as file,
        subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as build,
    ):
        assert build.stdout is not None
        for line in build.stdout:
            file.write(line)
            if step := re.match(r"\s*\[(\d+)/(\d+)\]", line):
                clock.text = f"mmcv: {step[1]} of {step[2]} files compiled"
    return build.returncode


def check_compiler() -> None:
    """Stop unless a C++ compiler and Python's headers are there."""
    if not shutil.which(os.environ.get("CXX", "c++").split()[0]):
        stop("mmcv must be compiled and there is no C++ compiler: sudo apt-get install g++")
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        stop(f"mmcv must be compiled and Python's headers are missing: sudo apt-get install python{version}-dev")


def installed(environment: Environment, pin: str) -> bool:
    """Whether the environment holds exactly this pinned version."""
    name, version = pin.split("==")
    code = f"import importlib.metadata as m, sys; sys.exit(m.version({name!r}) != {version!r})"
    return environment._runs("-c", code)


def remove_other_opencv(environment: Environment) -> None:
    """Take out an opencv-python of earlier set-ups, and the headless one with it: both were unpacked into one folder."""
    if environment._runs("-c", "import importlib.metadata as m; m.version('opencv-python')"):
        names = ("opencv-python", "opencv-python-headless")
        subprocess.run([str(environment.python), "-m", "pip", "uninstall", "-q", "-y", *names], env=environment.variables)


def main(arguments: list[str]) -> None:
    """Bring the environment named on the command line to what lock.txt says."""
    folders = [argument for argument in arguments if argument != "--again"]
    if len(folders) != 1:
        stop("usage: setup_env.py ENV [--again]")
    environment = Environment(Path(folders[0]).absolute())
    pins = {line.split("==")[0]: line for line in (ROOT / "lock.txt").read_text().splitlines() if not line.startswith("#")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    tools = [re.split(r"[<>=]", need)[0] for need in project["optional-dependencies"]["build"]]
    wanted = json.dumps([str(ROOT), pins, project["scripts"]])
    stamp = environment.folder / ".dfmsd-setup"
    key = hashlib.sha256(wanted.encode()).hexdigest()
    if "--again" not in arguments and stamp.exists() and stamp.read_text() == key:
        return

    start = time.monotonic()
    free_gb = shutil.disk_usage(ROOT).free / 1e9
    if not stamp.exists() and free_gb < NEEDED_GB:
        stop(f"{free_gb:.1f} GB are free on this disk and the environment needs about {NEEDED_GB} GB")
    stamp.unlink(missing_ok=True)
    environment.create()
    mmcv, torch = pins.pop("onedl-mmcv"), pins.pop("torch")
    # With what torch itself asks for, which differs with the CUDA that it is built for.
    first = "1 of 4: torch and the build tools (the largest download)"
    environment.install(first, "-c", str(ROOT / "lock.txt"), torch, *(pins[tool] for tool in tools))
    # Exactly these: mmcv and mmdet ask for an OpenCV that wants display libraries, and would unpack it over the headless one.
    remove_other_opencv(environment)
    environment.install("2 of 4: the study's packages", "--no-build-isolation", "--no-deps", *pins.values())
    say("3 of 4: mmcv")
    install_mmcv(environment, mmcv)
    environment.install("4 of 4: the study itself", "--no-build-isolation", "--no-deps", "-e", str(ROOT))
    stamp.write_text(key)
    say(f"{environment.folder} is ready, {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit("\nsetup: interrupted; the same command goes on from here")
