"""What this machine is called: a duration belongs to it."""

from __future__ import annotations

import platform
from pathlib import Path


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
