"""The book's first screen, as Markdown from records: the answer with its figure, what to take, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import yaml

from dfmsd.report import choosing, figures, gates, ranking, scoreboard
from dfmsd.report.tables import number, pipes, plain, signed
from dfmsd.report.words import bracketed, counted, ends, one_seed, state
from dfmsd.study import frames, hypotheses, pages, paths
from dfmsd.study.pages.base import Page
from dfmsd.study.pages.scale import GatesPage

OPENING = {"supported": "**Yes.**", "contradicted": "**No.**", "not settled": "**Not settled.**", "not run": "**Not known yet.**"}
"""How the answer begins, by the verdict on the first hypothesis."""

RIVALS = {
    "baseline": "the same student without a teacher",
    "DFMSD, strong teacher alone": "DFMSD with the strong teacher in both stages",
    "DFMSD, unchanged images": "DFMSD on unchanged images",
    "SAL + ME": "DFMSD without alignment",
    "l2": "the l2 distance",
}
"""What a sentence calls a row that its own name does not explain."""


def screen() -> dict[str, str]:
    """The parts of the first screen, and what each method did, as Markdown by the names of their files; the figure is HTML."""
    board = pages.get("scoreboard")
    shown = [page for page in board.sources() if page.scale == board.scale]
    frame = pd.concat([frames.frame(page) for page in shown])
    found = hypotheses.judged(frame)
    of_choosing = frames.frame(pages.get("choosing"))
    length, gates = (of_choosing[of_choosing["page"] == name] for name in ("length", "gates"))
    gained = choosing.gains(tables := of_choosing[~of_choosing["page"].isin(["length", "gates"])])
    everything = [page for page in map(pages.get, pages.names()) if page.scale == board.scale]
    return {f"method-{name}.md": choosing.of_method(gained, row) for row, name in choosing.NAMES.items()} | {
        "answer.md": answer(found, hypotheses.judged(frame, hypotheses.asked().model_copy(update={"among": (PLAIN,)}))) + failed(),
        "figure.html": figures.image(scoreboard.forest(found)),
        "take.md": recommendation(gained, gates, length) + pairs(tables, gained),
        "cost.md": cost(everything, board.command()),
    }


PLAIN = hypotheses.Hypothesis(id="plain", text="DFMSD teaches more than plain imitation", subject="DFMSD", rivals=("MSE",))
"""What a reader asks next, though it is none of the study's hypotheses."""


def answer(found: pd.DataFrame, plain: pd.DataFrame) -> str:
    """The answer in words, as Markdown.

    Args:
        found: As :func:`dfmsd.study.hypotheses.judged` gives it, of one scale.
        plain: The same of :data:`PLAIN`.
    """
    lines = {str(line["id"]): line for line in found.to_dict("records")}
    first, *others = (one for one in hypotheses.asked().among)
    of_first = lines[first.id]
    said = f"{OPENING[of_first['verdict']]} "
    if of_first["pairs"]:
        pairs = f"{of_first['pairs']} of {counted(of_first['planned'], 'pair')} of student and teachers"
        seeds = f"{of_first['seeds']} seed{'s' * (of_first['seeds'] != '1')} each"
        said += f"{_said(first, of_first)}, the mean over {pairs} with {seeds}, at equal length of training. "
        said += f"It ends above in {of_first['above']} pairs. "
        if pd.isna(of_first["holm"]):
            said += f"A sign test over pairs gives p = {of_first['p']:.2g}, not corrected for the number of hypotheses. "
            said += f"So few pairs settle nothing, whatever they show: a verdict takes {hypotheses.fewest()}."
        else:
            said += f"A sign test over pairs, corrected for all {len(lines)} hypotheses, gives p = {of_first['holm']:.2g}."
    else:
        said += f"None of the {of_first['planned']} pairs of student and teachers that compare DFMSD with "
        said += "[DMKD](methods/dmkd.md) is run yet. "
        said += "[The gates](pages/gates.ipynb) show what students reach without a teacher, and what teachers reach."
    if (of_plain := plain.to_dict("records")[0])["pairs"]:
        said += f"\n\n{_said(PLAIN, of_plain)}, the mean over {counted(of_plain['pairs'], 'pair')} with {of_plain['seeds']} "
        said += (
            f"seed{'s' * (of_plain['seeds'] != '1')} each. MSE is plain imitation, the simplest rival. This difference is none of "
        )
        said += "our hypotheses, and has no test."
    rest = [f"- {_said(one, line)} ({_brief(one, line)}).\n" for one in others if (line := lines[one.id])["pairs"]]
    return f"{said}\n\n{''.join(rest)}"


def failed() -> str:
    """Which gates of the design fail, as Markdown; empty if none does."""
    page = pages.get("gates")
    assert isinstance(page, GatesPage)
    verdicts = gates.counts(gates.judged(page, frames.frame(page), gates.hours(page)))["verdict"]
    names = list(verdicts.index[verdicts == gates.FAILED])
    said = f"\n{len(names)} of the {len(verdicts)} [gates](pages/gates.ipynb) that this design should pass"
    return f"{said} {'fails' if len(names) == 1 else 'fail'} ({', '.join(names)}). Their page says what follows.\n" * bool(names)


def _brief(asked: hypotheses.Hypothesis, line: Mapping[Any, Any]) -> str:
    above = "" if asked.by_type else f"; above in {line['above']} pairs"
    return f"{asked.id}: {line['verdict']}{above}"


def _said(asked: hypotheses.Hypothesis, line: Mapping[Any, Any]) -> str:
    interval = None if pd.isna(line["low"]) else (line["low"], line["high"])
    rival = " or ".join(RIVALS.get(name, name) for name in asked.rivals)
    if asked.by_type:
        more = f"{number(abs(line['estimate']))} AP {'larger' if line['estimate'] > 0 else 'smaller'}{bracketed(interval)}"
        others = "than with teachers of the student's own type"
        return f"With teachers of another type, {asked.subject}'s lead over {rival} is {more} {others}"
    return ends(asked.subject, rival, line["estimate"], interval)


def recommendation(gained: pd.DataFrame, gates: pd.DataFrame, length: pd.DataFrame) -> str:
    """What to take, by what a reader has, as Markdown.

    Args:
        gained: As :func:`dfmsd.report.choosing.gains` gives it.
        gates: The frame of the gates' page.
        length: The frame of the page about length.
    """
    if gained.empty:
        return "No method is run yet beside its baseline, so we cannot recommend one.\n"
    rows, found = [], ranking.recommended(gained)
    for case, line in found.iterrows():
        take, cheaper = "no pair has two methods yet", ""
        if not pd.isna(line["pairs"]):
            above = f"above 0 in {line['above 0 in']} of {counted(line['pairs'], 'pair')}"
            gain = f"{signed(line['Δ'])} AP{bracketed(line['95 %'])}, {above}"
            take, cheaper = f"{line['highest gain']}: {gain}", line["cheaper and perhaps as good"]
            take += f"; not ranked: {line['not ranked']}" * bool(line["not ranked"])
        rows.append(tuple(map(plain, (str(case), take, cheaper))))
    if len(twice := choosing.doubled(gates)):
        gain = f"{signed(twice.mean())} AP, above 0 in {(twice > 0).sum()} of {counted(len(twice), 'student')}"
        rows.append(("No teacher, but twice the time to train", f"twice the epochs: {gain}", ""))
    heads = ["you have", "highest gain over no teacher and the usual epochs", "cheaper and perhaps as good"]
    left = "Pairs in which a run of these methods is missing are not counted; [choosing a method](pages/choosing.ipynb) names them."
    said = [
        ranking.none(found),
        ranking.nothing_gains(gained),
        left * bool(ranking.out(gained)),
        choosing.off_mean(gained),
        one_seed(gained),
        choosing.longer(gates, length),
    ]
    return "\n\n".join([pipes(heads, rows), *filter(None, said)]) + "\n"


EXAMPLE = "Faster R-CNN R50 taught by Mask R-CNN Swin-T, then Mask R-CNN Swin-S"
"""A pair that a reader may look for."""


def pairs(frame: pd.DataFrame, gained: pd.DataFrame) -> str:
    """How many pairs of student and teachers are run, as Markdown.

    Args:
        frame: Of the pages with tables.
        gained: As :func:`dfmsd.report.choosing.gains` gives it.
    """
    missing, run = choosing.missing(frame, gained), gained["pair"].nunique()
    left = {str(pair): str(kind) for kind, pair in missing.index}
    have = "has" if run == 1 else "have"
    said = f"{run} of {counted(run + len(left), 'pair')} of student and teachers {have} a method beside a baseline."
    if kind := left.get(EXAMPLE):
        said += f" {EXAMPLE}, for example, is not run yet. Until then, the line “{kind}” comes nearest to it."
        said += _with_a_teacher_of(frame.loc[frame["pair"] == EXAMPLE, "teachers"].iloc[0], gained)
    elif len(own := gained[gained["pair"] == EXAMPLE]):
        said += f" For {EXAMPLE}, for example, {_highest(own)}."
    return f"\n{said}\n"


def _with_a_teacher_of(teachers: str, gained: pd.DataFrame) -> str:
    """What gains most in each pair that has one of these teachers."""
    cells = [cell for cell in gained["teachers"].unique() if not set(hypotheses.named(cell)).isdisjoint(hypotheses.named(teachers))]
    shared = gained[gained["teachers"].isin(cells)]
    said = ""
    for pair, own in shared.groupby("pair", sort=False):
        said += f" One of its teachers is in {pair}: there {_highest(own)}."
    return said


def _highest(own: pd.DataFrame) -> str:
    """The method that gains most in a pair."""
    means = own.groupby("row")["gain"].mean()
    best, methods = str(means.idxmax()), counted(len(means), "method")
    if means.max() <= 0:
        return f"none of {methods} helps: {ends(f'the best of them, {best},', 'the baseline', means.max())}"
    return f"{best} gains most of {methods}: {ends('it', 'the baseline', means.max())}"


def cost(shown: list[Page], command: str) -> str:
    """What the study took so far by its records, what is left, its version and its last record's date, as Markdown.

    Args:
        shown: All pages of a scale.
        command: What makes what they lack.
    """
    made = pd.concat([frames.origins(page) for page in shown])
    said = "Nothing is run yet."
    if len(made):
        made = made.drop_duplicates("key")
        hours = (made["seconds"] * made["threads"]).sum() / 3600
        said = f"{counted(len(made), 'run')} took {hours:,.0f} core-hours; the last one ended on {max(made['finished'])[:10]}."
    version = yaml.safe_load((paths.ROOT / "CITATION.cff").read_text())["version"]
    return f"{said} {state(shown, command)}\n\nVersion {version}.\n"
