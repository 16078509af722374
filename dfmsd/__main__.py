"""The command line: ``python -m dfmsd plan | run | page | book | check | clean | coco | doctor``."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn, TextIO

if __name__ == "__main__" and sys.argv[1:] == ["doctor"]:
    # Ahead of the other imports: where packages are missing, this command says which.
    from dfmsd.study import doctor

    try:
        sys.exit(doctor.main())
    except OSError as error:
        sys.exit(f"error: what is printed cannot be written: {error.strerror}")

from dfmsd.errors import StudyError, suggest
from dfmsd.study import clean, doctor, files, machine, pages, paths, plan, records, scales
from dfmsd.study.pages.base import Page
from dfmsd.study.pages.measured import MeasuredPage
from dfmsd.study.pages.scale import GatesPage
from dfmsd.study.rows import RECIPES, Row, chain

COMMANDS = {
    "plan": "Print the runs of pages, what is done, and an estimate of the rest.",
    "run": "Train one row: a student, its teachers from weak to strong, a method.",
    "page": "Make what pages show: train, measure, publish the records, execute the notebooks.",
    "book": "Execute the pages with papermill and build the book.",
    "check": "List stale, missing, unused and damaged records.",
    "clean": "List what runs have left behind and nobody needs; with --yes remove it.",
    "coco": "Print how to get COCO and mmdet's checkpoints, and what is there.",
    "doctor": "Check the environment.",
}


class _Once(argparse.Action):
    """An option with a value, which is given once: of two the first would be lost without a word."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: str | None = None) -> None:
        if option_string is not None and self in (given := namespace.__dict__.setdefault("given", [])):
            parser.error(f"{option_string} is given twice: say it once")
        elif option_string is not None:
            given.append(self)
        setattr(namespace, self.dest, values)


class _Parser(argparse.ArgumentParser):
    """Errors in one line, with the nearest valid name."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.register("action", None, _Once)

    def error(self, message: str) -> NoReturn:
        if unknown := re.search(r"invalid choice: '([^']*)'", message):
            message = f"unknown command {unknown[1]!r}: {suggest(unknown[1], COMMANDS)}"
        print(f"error: {message}", file=sys.stderr)
        raise SystemExit(2)


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _Parser(prog="python -m dfmsd", description="The DFMSD study: plan it, run it, publish it.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    sub = {name: commands.add_parser(name, help=text, description=text, allow_abbrev=False) for name, text in COMMANDS.items()}
    for name in ("plan", "page", "check"):
        sub[name].add_argument("pages", nargs="*", metavar="PAGE", help="names of pages, such as table03")
        sub[name].add_argument("--all", action="store_true", help="all pages")
        sub[name].add_argument("--scale", help="smoke, mini, gpu or coco; a page's own if left out")
        sub[name].add_argument("--seeds", help="comma-separated, such as 0,1; the scale's if left out")
    sub["plan"].add_argument("--json", action="store_true", help="for a workflow engine: the runs that are left, with their needs")
    for name in ("page", "run"):
        sub[name].add_argument("--jobs", type=_number(1), default=1, help="runs at a time")
    sub["run"].add_argument("key", nargs="?", metavar="KEY", help="one run of a page, whose needs are trained; or a row:")
    sub["run"].add_argument("--student")
    sub["run"].add_argument("--teachers", nargs="*", default=[])
    sub["run"].add_argument("--any-order", action="store_true", help="teachers in any order, also one twice")
    sub["run"].add_argument("--method", help=", ".join(RECIPES) + ", or several methods: 'fgd + pkd'")
    sub["run"].add_argument("--scale", default="mini")
    own = "a YAML that names your own annotation files and image folders; the scale's data if left out"
    sub["run"].add_argument("--data", type=Path, metavar="FILE", help=own)
    sub["run"].add_argument("--seed", type=_number(0), default=0)
    rehearse = "try it out: N iterations a run, random weights, 2 images with objects"
    sub["run"].add_argument("--rehearse", type=_number(1), metavar="N", help=rehearse)
    sub["clean"].add_argument("--yes", action="store_true", help="remove what is listed")
    sub["book"].add_argument("--scale", help="execute the pages at this scale instead of their own")
    sub["book"].add_argument("--strict", action="store_true", help="warnings are errors")
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:
        options = re.findall(r"--[\w-]+", sub[arguments.command].format_help() if arguments.command else parser.format_help())
        name = unknown[0].split("=")[0]
        parser.error(f"unknown option {name!r}: {suggest(name, options)}")
    if arguments.command is None:
        parser.print_help()
        raise SystemExit(2)
    arguments.command_line = shlex.join(["python", "-m", "dfmsd", *(sys.argv[1:] if argv is None else argv)])
    return arguments


def _number(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or not least <= int(text[:11]) < 2**32:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} on")
        return int(text)

    return number


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status."""
    arguments = _parsed(argv)
    try:
        if machine.processes() > 1 and getattr(arguments, "key", None) is None:
            raise StudyError("torchrun starts one run: torchrun --nproc_per_node=N -m dfmsd run KEY")
        with files.plain_words(), redirect_stdout(_Output(sys.stdout or open(os.devnull, "w"))) as output:
            status = int(globals()[f"_{arguments.command}"](arguments) or 0)
            output.flush()
            return status
    except StudyError as error:
        if machine.is_first():  # of several processes, which have the same to say
            print(f"error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if (error.name or "dfmsd").startswith("dfmsd"):
            raise
        print(f"error: {doctor.lacking(arguments.command, error.name)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0


class _Output:
    """Standard output, which says of itself that it cannot be written to."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with self._told():
            return self._stream.write(text)

    def flush(self) -> None:
        with self._told():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # Python would complain once more at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            if isinstance(error, BrokenPipeError):  # its reader (head, less) has closed
                raise
            raise StudyError(f"what is printed cannot be written: {error.strerror}") from None


def _selected(arguments: argparse.Namespace) -> list[Page]:
    names = pages.names() if arguments.all else arguments.pages
    if not names:
        raise StudyError(f"name a page ({', '.join(pages.names())}) or say --all")
    if arguments.all and arguments.pages:
        raise StudyError(f"either --all or {' '.join(arguments.pages)}: --all are all pages")
    seeds = None
    if arguments.seeds is not None:
        words = [word.strip() for word in arguments.seeds.split(",")]
        if not all(word.isdecimal() and int(word[:11]) < 2**32 for word in words):
            raise StudyError(f"--seeds {arguments.seeds!r}: whole numbers below 2^32 separated by commas, such as 0,1,2")
        seeds = [int(word) for word in words]
        if twice := [seed for seed in seeds if seeds.count(seed) > 1]:
            raise StudyError(f"--seeds {arguments.seeds!r}: {twice[0]} stands there twice")
    return [pages.get(name, scale=arguments.scale, seeds=seeds) for name in names]


def _plan(arguments: argparse.Namespace) -> None:
    planned = plan.plan(runs for page in _selected(arguments) for runs in page.chains())
    if arguments.json:
        print(json.dumps(_for_engines(planned), indent=1))
        return
    for item in planned:
        state = f"{item.progress:.0%}" if item.state == "partial" else item.state
        left = plan.duration(item.seconds) if item.state != "done" else ""
        print(f"{item.run.key}  {state:8} {left:>8}  {plan.describe(item.run)}{f'  ({item.note})' if item.note else ''}")
    done, left = sum(item.state == "done" for item in planned), plan.duration(sum(item.seconds for item in planned))
    print(f"{len(planned)} runs, {done} done; the rest takes about {left}, one at a time")


def _for_engines(planned: Sequence[plan.Planned]) -> list[dict[str, object]]:
    """The runs that are left; they need each other alone, as the rest is done."""
    left = {item.run.key: item for item in planned if item.state != "done"}
    return [
        {
            "key": key,
            "state": item.state,
            "needs": [need.key for need in item.run.needs() if need.key in left],
            "seconds": round(item.seconds),
            "gpus": int(item.run.scale in ("gpu", "coco")),
            "memory": round(item.memory),
            "about": plan.describe(item.run),
        }
        for key, item in left.items()
    ]


def _run(arguments: argparse.Namespace) -> int:
    from dfmsd.study import ensure
    from dfmsd.study.divergence import diverged

    if arguments.key is not None:
        if given := getattr(arguments, "given", []):
            option = given[0].option_strings[0]
            raise StudyError(
                f"either KEY, a run of a page as it is, or --student and --method, a row of its own: leave out {option}"
            )
        return _run_key(arguments.key)
    if not (arguments.student and arguments.method):
        raise StudyError("say what to run: a KEY that `plan` prints, or --student and --method")
    if arguments.method == "baseline" and arguments.teachers:
        raise StudyError("a baseline learns from no teacher: leave out --teachers, or name a method")
    scale = scales.get(arguments.scale, data=arguments.data)
    if arguments.rehearse is not None:
        scale = scale.rehearse(arguments.rehearse)
    row = Row(
        student=arguments.student,
        teachers=tuple(arguments.teachers),
        recipe=arguments.method,
        any_order=arguments.any_order,
    )
    runs = chain(row, scale, arguments.seed)
    outcome = ensure.ensure([runs], jobs=arguments.jobs, asked=arguments.command_line)
    for run in runs:
        if run.key not in outcome.failed and (record := records.find(run.key)) is not None:
            print(f"{run.key}  {plan.describe(run)}: AP {record.metrics['AP']:.1f}  {paths.runs() / run.key}")
            if why := diverged(record):
                print(f"warning: {run.key} diverged: {why}. Smaller weights or a lower learning rate may help.", file=sys.stderr)
    print("".join(f"error: {line}\n" for line in outcome.complaints()), end="", file=sys.stderr)
    return 1 if outcome.failed else 0


def _run_key(key: str) -> int:
    """Train one run in this process, as an engine's job does, or in those that torchrun has started."""
    from dfmsd.study import campaign, ensure, processes

    waiting: list[str] = []
    for page in (pages.get(name, scale=scale) for scale in scales.SCALES for name in pages.names()):
        if (found := next((one for one in plan.order(page.chains()) if one.key == key), None)) is not None:
            ensure.check_gates([found])
            ready = campaign.ready([page])
            if found in plan.order(ready.chains):
                processes.train(found, machine.threads(int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
                return 0
            waiting = waiting or ready.waiting  # another page may have it that need not wait, as the gates
    if waiting:
        raise StudyError("; ".join(waiting))
    raise StudyError(f"no page has a run {key!r}: `python -m dfmsd plan PAGE` prints the keys of a page's runs")


def _page(arguments: argparse.Namespace) -> int:
    from dfmsd.report import book
    from dfmsd.study import campaign, committed, ensure

    selected = _selected(arguments)
    # The runs of all pages at once keep all jobs busy. What fails costs the pages that show it, and no other.
    # The gates come first, as methods wait for them.
    rows = [page for page in selected if not isinstance(page, MeasuredPage)]
    asked = "" if arguments.seeds is None else arguments.command_line  # of other seeds a page knows nothing
    complaints: list[str] = []
    for first in (True, False):
        if own := [page for page in rows if isinstance(page, GatesPage) == first]:
            ready = campaign.ready(own)
            complaints += ensure.ensure(ready.chains, jobs=arguments.jobs, asked=asked).complaints() + ready.waiting
    for page in selected:
        try:
            with files.plain_words():
                book.measure(page, arguments.jobs)
                if page.scale != "smoke":
                    committed.publish(page.chains())
                print(f"{page.page}: {book.execute(page)}", flush=True)
        except Exception as error:
            complaints.append(f"{page.page}: {error}")
            if not isinstance(error, StudyError):
                traceback.print_exc()
    print("".join(f"error: {line}\n" for line in complaints), end="", file=sys.stderr)
    return 1 if complaints else 0


def _book(arguments: argparse.Namespace) -> None:
    if find_spec("jupyter_book") is None:
        raise doctor.lacking("the book", "jupyter-book", "book")
    if not (sources := paths.book() / "_toc.yml").is_file():
        raise StudyError(f"there is no {sources}: the book's sources are in the repository; export DFMSD_BOOK=/path/to/its/book")
    from dfmsd.report import book

    print(f"open {book.build(scale=arguments.scale, strict=arguments.strict)}")


def _check(arguments: argparse.Namespace) -> int:
    from dfmsd.study import committed

    arguments.all = arguments.all or not arguments.pages
    others = [runs for name in pages.names() for scale in scales.SCALES for runs in pages.get(name, scale=scale).chains()]
    result = committed.check(_selected(arguments), others=others)
    for name, found in vars(result).items():
        print("\n  ".join([f"{name}: {len(found)}", *found]))
    return 1 if result.damaged else 0


def _clean(arguments: argparse.Namespace) -> None:
    found = clean.leftovers()
    for one in found:
        print(f"{one.size / 1e6:9.1f} MB  {one.place}  ({one.why})")
    total = f"{len(found)} leftovers, {sum(one.size for one in found) / 1e6:.1f} MB"
    if arguments.yes:
        clean.remove(found)
    done = "removed" if arguments.yes else "`python -m dfmsd clean --yes` removes them"
    print(f"{total}: {done}" if found else "nothing is left over")


def _coco(_: argparse.Namespace) -> None:
    from dfmsd.study import getting

    print(*getting.lines(), sep="\n")


def _doctor(_: argparse.Namespace) -> int:
    return doctor.main()


if __name__ == "__main__":
    sys.exit(main())
