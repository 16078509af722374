"""What this machine is called: a duration belongs to it."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.util import find_spec
from pathlib import Path

from dfmsd.errors import StudyError


def hardware() -> str:
    """The GPU, or the processor if there is none."""
    import torch

    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else processor()


def name() -> str:
    """The hardware, and of a processor the threads that PyTorch takes: what a duration depends on."""
    import torch

    threads = torch.get_num_threads()
    return hardware() if torch.cuda.is_available() else f"{hardware()}, {threads} thread{'s' * (threads != 1)}"


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def threads(jobs: int) -> int:
    """Threads of each of some processes at a time: its share of the cores, or what ``OMP_NUM_THREADS`` says.

    Raises:
        StudyError: if the variable does not begin with a number of threads.

    Example:
        >>> threads(10_000)
        1
    """
    given = os.environ.get("OMP_NUM_THREADS", "").strip()
    if not given:
        return max(1, (os.cpu_count() or 1) // jobs)
    # OpenMP takes a list, a number for each depth of nested parallel regions: ours are not nested.
    first = given.partition(",")[0].strip()
    if not first.isdecimal() or int(first) < 1:
        raise StudyError(f"OMP_NUM_THREADS={given}: it must be a whole number of threads from 1 on")
    return int(first)


def processes() -> int:
    """How many processes ``torchrun`` has started for this run, this one included; 1 without it."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def is_first() -> bool:
    """Whether this is the first of these processes."""
    return processes() == 1 or os.environ["RANK"] == "0"


def gpus() -> list[str]:
    """The GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` calls them; who plans runs does not wait for torch."""
    if (named := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [one.strip() for one in named.split(",") if one.strip() not in ("", "-1")]
    return [str(place) for place in range(len(cards()))]


def cards() -> list[str]:
    """The names of the GPUs that are there, as NVIDIA's own command lists them."""
    return re.findall(r"^GPU \d+: (.+?)(?: \(UUID|$)", output("nvidia-smi", "-L") or "", re.MULTILINE)


def is_live() -> bool:
    """Whether a reader sits before a notebook, so that widgets answer; papermill executes a notebook for later."""
    return "JPY_SESSION_NAME" in os.environ and find_spec("ipywidgets") is not None


def output(*command: str) -> str | None:
    """What a command prints; None if it is not there, fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
