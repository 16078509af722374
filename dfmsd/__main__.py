"""The command line: ``python -m dfmsd plan | page | run | publish | observe | check | replay | bench | book | doctor``."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if __name__ == "__main__" and sys.argv[1:] == ["doctor"]:
    # Ahead of the other imports: where packages are missing, this command says which.
    from dfmsd.study import doctor

    sys.exit(doctor.main())

from dfmsd.errors import StudyError, suggest
from dfmsd.study import pages, paths, plan, records, scales
from dfmsd.study.rows import JOIN, RECIPES, Row, chain
from dfmsd.study.spec import RunSpec

if TYPE_CHECKING:
    from dfmsd.study.ensure import Outcome

Chains = list[tuple[RunSpec, ...]]


class _Parser(argparse.ArgumentParser):
    """Errors in one line, with the nearest valid name."""

    def error(self, message: str) -> NoReturn:
        if "invalid choice: " in message:
            name = message.split("invalid choice: ")[1].split(" (")[0].strip("'")
            message = f"unknown command {name!r}: {suggest(name, COMMANDS)}"
        print(f"error: {message}", file=sys.stderr)
        raise SystemExit(2)

    def options_of(self, command: str | None) -> list[str]:
        """The options that a command has, or of the program itself."""
        (commands,) = (action.choices for action in self._actions if isinstance(action, argparse._SubParsersAction))
        parser = commands[command] if command else self
        return [name for name in parser._option_string_actions if name.startswith("--")]


def _arguments() -> _Parser:
    parser = _Parser(prog="python -m dfmsd", description="The DFMSD study: plan it, run it, publish it.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)

    def command(name: str, help: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=help, description=help, allow_abbrev=False)

    def page_options(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("pages", nargs="*", metavar="PAGE", help="names of pages, such as table03")
        sub.add_argument("--all", action="store_true", help="all pages")
        sub.add_argument("--scale", help="smoke, mini, gpu or coco; a page's own if left out")
        sub.add_argument("--seeds", help="comma-separated, such as 0,1; the scale's if left out")

    sub = command("plan", "Print the runs of pages, what is done, and an estimate of the rest.")
    page_options(sub)
    sub = command("page", "Train what is missing for pages, publish the records and execute the notebooks.")
    page_options(sub)
    sub.add_argument("--jobs", type=_number(1), default=1, help="runs at a time")
    sub = command("run", "Train one row: a student, its teachers from weak to strong, a method.")
    sub.add_argument("--student", required=True)
    sub.add_argument("--teachers", nargs="*", default=[])
    sub.add_argument("--any-order", action="store_true", help="teachers in any order, also one twice")
    sub.add_argument("--method", required=True, help=", ".join(RECIPES) + ", or several methods: 'fgd + pkd'")
    sub.add_argument("--scale", default="mini")
    sub.add_argument("--seed", type=_number(0), default=0)
    sub.add_argument("--jobs", type=_number(1), default=1, help="runs at a time")
    sub.add_argument("--rehearse", type=_number(1), metavar="N", help="try it out: N iterations a run, random weights, 2 images")
    page_options(command("publish", "Copy the records of pages into book/records/."))
    sub = command(
        "observe", "Measure what pages of figures show or say to claims, on trained networks and images; write the records."
    )
    sub.add_argument("pages", nargs="*", metavar="PAGE", help="names of pages, such as fig04")
    sub.add_argument("--all", action="store_true", help="all pages that keep such a record")
    sub.add_argument("--scale", help="smoke, mini, gpu or coco; a page's own if left out")
    sub.add_argument("--train", action="store_true", help="train the networks whose weights are not here")
    sub.add_argument("--jobs", type=_number(1), default=1, help="runs at a time")
    page_options(command("check", "List stale, missing, unused and damaged records."))
    page_options(command("replay", "Confirm stale records of pages: run their beginning again with today's code and compare."))
    sub = command("bench", "Measure what the methods' losses cost on this machine, and write the record.")
    sub.add_argument("what", metavar="losses", help="what to measure; there is nothing but losses")
    sub.add_argument("--device", help="cpu or cuda; the GPU, if there is one, if left out")
    sub.add_argument("--threads", type=_number(1), help="of PyTorch on the CPU; as many as it takes by itself if left out")
    sub.add_argument("--repeats", type=_number(1), default=10, help="rounds; every method is timed once in each")
    sub = command("book", "Execute the pages with papermill and build the book.")
    sub.add_argument("--scale", help="execute the pages at this scale instead of their own")
    sub.add_argument("--strict", action="store_true", help="warnings are errors")
    command("doctor", "Check the environment.")
    return parser


def _number(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} on")
        return int(text)

    return number


COMMANDS = ("plan", "page", "run", "publish", "observe", "check", "replay", "bench", "book", "doctor")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status."""
    parser = _arguments()
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:
        name = unknown[0].split("=")[0]
        parser.error(f"unknown option {name!r}: {suggest(name, parser.options_of(arguments.command))}")
    if arguments.command is None:
        parser.print_help()
        return 2
    try:
        with records.full_disk_in_plain_words():
            return int(globals()[f"_{arguments.command}"](arguments) or 0)
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (head, less) has closed; Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _selected(arguments: argparse.Namespace) -> list[pages.Page]:
    names = pages.names() if arguments.all else arguments.pages
    if not names:
        raise StudyError(f"name a page ({', '.join(pages.names())}) or say --all")
    if arguments.all and arguments.pages:
        raise StudyError(f"either --all or {' '.join(arguments.pages)}: --all are all pages")
    seeds = None
    if arguments.seeds is not None:
        words = [word.strip() for word in arguments.seeds.split(",")]
        if not all(word.isdecimal() for word in words):
            raise StudyError(f"--seeds {arguments.seeds!r}: whole numbers separated by commas, such as 0,1,2")
        seeds = list(dict.fromkeys(int(word) for word in words))
    return [pages.get(name, scale=arguments.scale, seeds=seeds) for name in names]


def _chains(arguments: argparse.Namespace) -> Chains:
    return [runs for page in _selected(arguments) for runs in page.chains()]


def _plan(arguments: argparse.Namespace) -> None:
    planned = plan.plan(_chains(arguments))
    for item in planned:
        state = f"{item.progress:.0%}" if item.state == "partial" else item.state
        left = _duration(item.seconds) if item.state != "done" else ""
        print(f"{item.run.key}  {state:8} {left:>8}  {pages.describe(item.run)}{f'  ({item.note})' if item.note else ''}")
    done = sum(item.state == "done" for item in planned)
    print(f"{len(planned)} runs, {done} done; the rest about {_duration(sum(item.seconds for item in planned))} one at a time")


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{round(seconds)} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02} min"


def _page(arguments: argparse.Namespace) -> int:
    from dfmsd.report import book
    from dfmsd.study import ensure as study

    selected = _selected(arguments)
    chains = [runs for page in selected for runs in page.chains()]
    outcome = study.ensure(chains, jobs=arguments.jobs)
    complaints = 0
    for page in selected:
        # What one page lacks costs no other page.
        try:
            with records.full_disk_in_plain_words():
                if page.scale != "smoke":
                    study.publish(page.chains())
                    _look(page)
                print(f"{page.page}: {book.execute(page)}")
        except Exception as error:
            complaints += 1
            if not isinstance(error, StudyError):
                traceback.print_exc()
            print(f"error: {page.page}: {error}", file=sys.stderr)
    return max(_report(outcome, chains), min(complaints, 1))


def _look(page: pages.Page) -> None:
    """Measure what a page keeps a record of, where its weights are here and no record of today's code and networks is."""
    if not isinstance(page, pages.ObservedPage):
        return
    from dfmsd.study import measured as observation

    seen = observation.read(page, observation.Observation if isinstance(page, pages.FeaturesPage) else observation.Answers)
    trained = all(plan.has_weights(run) for run in page.runs().values() if isinstance(run, RunSpec))
    if trained and (seen is None or observation.stale(seen, page)):
        _measured(page)


def _measured(page: pages.ObservedPage) -> Path:
    """Measure it; returns the record's file."""
    from dfmsd.report import answers, observe

    if isinstance(page, pages.FeaturesPage):
        return observe.run(page)
    assert isinstance(page, (pages.SpectraPage, pages.EnhancementPage))
    return answers.run(page)


def _run(arguments: argparse.Namespace) -> int:
    from dfmsd.study import ensure as study

    scale = scales.get(arguments.scale)
    if arguments.rehearse is not None:
        scale = scale.rehearse(arguments.rehearse)
    row = Row(
        student=arguments.student,
        teachers=tuple(map(_joined, arguments.teachers)),
        recipe=_joined(arguments.method),
        any_order=arguments.any_order,
    )
    runs = chain(row, scale, arguments.seed)
    outcome = study.ensure([runs], jobs=arguments.jobs)
    for run in runs:
        if run.key not in outcome.failed and (record := records.find(run.key)) is not None:
            print(f"{run.key}  {pages.describe(run)}: AP {record.metrics['AP']:.1f}  {study.folder(run)}")
    return _report(outcome, [runs])


def _joined(names: str) -> str:
    """Several names with ``+`` between them as the study writes them, with spaces or without."""
    return JOIN.join(name.strip() for name in names.split("+"))


def _report(outcome: Outcome, chains: Chains) -> int:
    runs = {run.key: run for run in plan.order(chains)}
    for key, message in outcome.failed.items():
        print(f"error: {key} ({pages.describe(runs[key])}): {message}", file=sys.stderr)
    for run in outcome.skipped:
        print(f"skipped: {run.key} ({pages.describe(run)}): a run that it needs failed", file=sys.stderr)
    return 1 if outcome.failed else 0


def _publish(arguments: argparse.Namespace) -> None:
    from dfmsd.study import ensure as study

    chains = _chains(arguments)
    new = study.publish(chains)
    lacking = [run for run in plan.order(chains) if not (paths.records() / f"{run.key}.json").exists()]
    print(f"{len(new)} new records; {len(lacking)} runs have none yet")


def _observe(arguments: argparse.Namespace) -> int:
    from dfmsd.study import ensure as study

    looking = sorted(name for name in pages.names() if isinstance(pages.get(name), pages.ObservedPage))
    names = looking if arguments.all else arguments.pages
    if not names:
        raise StudyError(f"name a page ({', '.join(looking)}) or say --all")
    complaints = 0
    for name in names:
        if name not in looking:
            raise StudyError(f"no page {name!r} keeps a record of what it measures: {suggest(name, looking)}")
    for name in names:
        page = pages.get(name, scale=arguments.scale)
        assert isinstance(page, pages.ObservedPage)
        try:
            if arguments.train:
                outcome = study.ensure(page.chains(), jobs=arguments.jobs, weights=True)
                complaints = max(complaints, _report(outcome, page.chains()))
            print(f"{name}: {_measured(page)}", flush=True)
        except StudyError as error:
            complaints = 1
            print(f"error: {error}", file=sys.stderr)
    return complaints


def _check(arguments: argparse.Namespace) -> int:
    from dfmsd.study import ensure as study

    arguments.all = arguments.all or not arguments.pages
    others = [runs for name in pages.names() for scale in scales.SCALES for runs in pages.get(name, scale=scale).chains()]
    result = study.check(_chains(arguments), others=others)
    for name in ("stale", "missing", "unused", "damaged"):
        found = getattr(result, name)
        print(f"{name}: {len(found)}")
        for line in found:
            print(f"  {line}")
    return 1 if result.damaged else 0


def _replay(arguments: argparse.Namespace) -> int:
    from dfmsd.study import replay

    complaints = 0
    for run in plan.order(_chains(arguments)):
        record = records.find(run.key)
        if record is None or not records.is_stale(record, run):
            continue
        try:
            replay.write(replay.replay(run, record))
            print(f"{run.key}  the same numbers  {pages.describe(run)}", flush=True)
        except StudyError as error:
            complaints += 1
            print(f"error: {error}", file=sys.stderr)
    return min(complaints, 1)


def _bench(arguments: argparse.Namespace) -> None:
    if arguments.what != "losses":
        raise StudyError(f"unknown measurement {arguments.what!r}: {suggest(arguments.what, ['losses'])}")
    from dfmsd.report import bench as measure

    print(f"wrote {measure.run(device=arguments.device, threads=arguments.threads, repeats=arguments.repeats)}")


def _book(arguments: argparse.Namespace) -> None:
    from dfmsd.report import book

    print(f"open {book.build(scale=arguments.scale, strict=arguments.strict)}")


def _doctor(_: argparse.Namespace) -> int:
    from dfmsd.study import doctor

    return doctor.main()


if __name__ == "__main__":
    sys.exit(main())
