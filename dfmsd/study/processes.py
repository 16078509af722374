"""A run in a process of its own, forked from a server that has imported torch."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import traceback
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path

from rich.progress import TaskID

from dfmsd.errors import StudyError
from dfmsd.study import exports, files, paths
from dfmsd.study.records import Record
from dfmsd.study.spec import Run

PRELOADED = [
    "dfmsd.study.run",
    "dfmsd.study.preload",
    "torch._dynamo",  # by torch's optimisers
    "torch.utils.cpp_extension",  # by mmengine, to write down its environment,
    "yapf.yapflib.yapf_api",  # and to write down a config, even as it is
    "mmdet.engine",
    "mmdet.visualization",
]
"""What every run's process would import anew, imported once in the server that they are forked from.

It counts at the scale ``smoke``, whose runs are short. Nothing here may ask for a GPU: forked processes could not use it then.
"""


def log_file(run: Run) -> Path:
    """Where a run writes what it prints."""
    return paths.runs() / "logs" / f"{run.key}.log"


def server() -> ForkServerContext:
    """What forks processes from a server that has imported torch."""
    # To ask the CUDA runtime for devices in the server would break the processes.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def enter(environment: dict[str, str], threads: int) -> None:
    """Begin a process of the server's: with this environment and so many threads; its parent's end is its end."""
    import torch

    files.end_with_parent()
    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(threads)


class Child:
    """A run, whose needs have been trained, in a process of its own with some threads and, out of several GPUs, one."""

    def __init__(self, run: Run, threads: int, gpu: str | None = None) -> None:
        context = server()
        self.run = run
        self.gpu = gpu
        self.task = TaskID(0)
        # Which GPUs there are, torch asks when it first needs one: not in the server.
        environment = dict(os.environ) | ({} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu})
        self.answer, answer = context.Pipe(duplex=False)
        self.process = context.Process(target=_work, args=(run, threads, log_file(run), environment, answer))
        try:
            self.process.start()
        except (EOFError, ConnectionError):
            raise StudyError("the server that processes are forked from was killed: call again; runs go on from here") from None
        answer.close()

    def is_over(self) -> bool:
        """Whether it has answered, or ended without an answer: how, the server that it was forked from knows if it lives."""
        return self.answer.poll()

    def message(self) -> str | None:
        """Why a process that has ended did not succeed; None if it did."""
        with contextlib.suppress(EOFError):
            answer: str | None = self.answer.recv()
            return answer
        self.process.join()
        code = self.process.exitcode or 0
        how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
        return f"its process {how}; called again, it goes on from its last checkpoint"


def _work(run: Run, threads: int, log: Path, environment: dict[str, str], answer: Connection) -> None:
    """A run in its own process: prints go to its log."""
    enter(environment, threads)
    message: str | None = None
    partial = paths.runs() / f"{run.key}.partial"
    again = f"; if it does so again, delete {partial}, and it starts afresh" if partial.exists() else ""
    try:
        with files.shared_as(paths.runs()), files.plain_words(log):
            files.check(log)
            with log.open("a", buffering=1) as stream:
                os.dup2(stream.fileno(), 1)
                os.dup2(stream.fileno(), 2)
        train(run, threads)
    except StudyError as error:
        message = str(error)
        with contextlib.suppress(OSError):
            print(f"error: {message}")
    except BaseException as error:
        with contextlib.suppress(OSError):
            traceback.print_exc()
        message = f"crashed ({type(error).__name__}: {(str(error).splitlines() or [''])[0]}){again}"
    answer.send(message)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    os._exit(0 if message is None else 1)


def train(run: Run, threads: int) -> Record:
    """Train one run in this process, with some threads; on a GPU as many processes load its images. What is published is taken."""
    import torch

    from dfmsd.study import run as training

    torch.set_num_threads(threads)
    with files.shared_as(paths.runs()):
        for one in (*run.needs(), run):
            exports.take(one)
        return training.run(run, workers=threads if torch.cuda.is_available() else 0)
