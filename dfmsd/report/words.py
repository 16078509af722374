"""Estimates in words: the one place where a page's finding becomes a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from dfmsd.hyper import DFMSD
from dfmsd.report.tables import number, signed
from dfmsd.study import plan, records, trainings
from dfmsd.study.divergence import diverged
from dfmsd.study.pages.base import Page, making
from dfmsd.study.pages.comparison import RowsPage
from dfmsd.study.pages.scale import GatesPage
from dfmsd.study.pages.tuning import TuningPage
from dfmsd.study.records import Record
from dfmsd.study.spec import Run

MEASURES = {
    "maps": (
        "Pearson's correlation of two networks' maps of magnitude over the positions of an image. It is 1 if they are large in the "
        "same places."
    ),
    "masks": (
        "one network's magnitude decides which positions its mask hides. The number is the share of them that the other network's "
        f"mask hides, too. Masks that have nothing to do with each other agree on {DFMSD().spatial_ratio:g}, the share that is "
        "hidden."
    ),
    "objects": "the area under the ROC curve by which magnitude tells positions on objects from background. 0.5 is chance.",
    "channels": (
        "Pearson's correlation channel by channel, over positions and images, averaged over channels. This is what SFA, Eq. (5), "
        "raises. Networks that were trained apart have about 0, because their channels come in any order."
    ),
    "distance": "Wasserstein's distance of the distributions of student and teacher, in standard deviations of the teacher's.",
}
"""What is measured of the features of networks (:mod:`dfmsd.report.features`)."""


def ends(subject: str, rival: str, mean: float, found: Iterable[float] | None = None) -> str:
    """An estimated difference in AP as a sentence without its point.

    Args:
        subject: What ends so much above the rival.
        rival: The rival.
        mean: The subject's AP minus the rival's.
        found: Its 95 % interval.

    Example:
        >>> ends("DFMSD", "DMKD", -0.52, (-1.7, 0.7))
        'DFMSD ends 0.5 AP below DMKD [−1.7, +0.7]'
        >>> ends("DFMSD", "DMKD", 0.01)
        'DFMSD ends as high as DMKD'
    """
    size = number(abs(mean))
    there = f"ends as high as {rival}" if size == "0.0" else f"ends {size} AP {'above' if mean > 0 else 'below'} {rival}"
    return f"{subject} {there}{bracketed(found)}"


def bracketed(found: Iterable[float] | None) -> str:
    """An interval of a difference as it follows its number; nothing where there is none.

    Example:
        >>> bracketed((-1.7, 0.7)), bracketed(None)
        (' [−1.7, +0.7]', '')
    """
    return f" [{', '.join(map(signed, found))}]" if isinstance(found, Iterable) else ""


def one_seed(taught: pd.DataFrame) -> str:
    """That intervals over seeds are those of untaught students, as long as it is so; empty where nothing is run.

    Args:
        taught: A line for each ``pair``, ``row`` and ``seed`` of students with a teacher.
    """
    if taught.empty or (taught.groupby(["pair", "row"])["seed"].nunique() > 1).any():
        return ""
    return (
        "No row with a teacher has two seeds yet. So intervals over seeds come from untaught students, and are too narrow: they do "
        "not count how far another training of a teacher would move a number."
    )


def counted(count: int, noun: str) -> str:
    """A number of things.

    Example:
        >>> counted(1, "pair"), counted(1135, "run")
        ('1 pair', '1,135 runs')
    """
    return f"{count:,} {noun}{'s' * (count != 1)}"


def border(cycles: float) -> str:
    """Where low frequencies end; ``cycles`` as a page of spectra has them.

    Example:
        >>> border(1.0)
        'The border of low and high frequencies is the wave that fits once on an object of 32 pixels, the limit of small ones.'
    """
    fits = "once" if cycles == 1 else f"{cycles:g} times"
    return (
        f"The border of low and high frequencies is the wave that fits {fits} on an object of 32 pixels, the limit of small ones."
    )


def measures(names: Iterable[str]) -> str:
    """What each measure of features is, as Markdown."""
    return "\n".join(f"- `{name}`: {MEASURES[name]}" for name in names)


def alike(frame: pd.DataFrame, stride: int) -> str:
    """How alike the maps of each pair of networks are on a level, in words; empty where no two are trainings of one network.

    Example:
        >>> pairs = [("A", "B", "others", -0.5), ("A", "C", "others", 0.9), ("A", "A again", "twins", 0.8)]
        >>> frame = pd.DataFrame(pairs, columns=["row", "beside", "kind", "value"]).assign(metric="maps", level=8)
        >>> for sentence in alike(frame, 8).split(". "):
        ...     print(sentence)
        On the level of stride 8, maps of two trainings of one detector correlate by 0.800 (A and A again)
        Maps of detectors of different type correlate by 0.900 (A and C), −0.500 (A and B)
        Of these 2 pairs, 1 is at least as alike as two trainings of one detector.
    """
    own = frame[(frame["metric"] == "maps") & (frame["level"] == stride) & frame["beside"].notna()]
    means = own.groupby(["kind", "row", "beside"])["value"].mean().sort_values(ascending=False)
    if not {"twins", "others"} <= set(means.index.get_level_values("kind")):
        return ""
    twins, others = (
        ", ".join(f"{value:.3f} ({one} and {two})".replace("-", "−", value < 0) for (one, two), value in means[kind].items())
        for kind in ("twins", "others")
    )
    count = int((means["others"] >= means["twins"].min()).sum())
    return (
        f"On the level of stride {stride}, maps of two trainings of one detector correlate by {twins}. Maps of detectors of "
        f"different type correlate by {others}. Of these {len(means['others'])} pairs, {count} {'is' if count == 1 else 'are'} at "
        "least as alike as two trainings of one detector."
    )


def trained(families: pd.DataFrame) -> str:
    """How many detector families can be student and teacher, from the table of the page about them."""
    fails = families.index[(families == "no").any(axis="columns")]
    said = f"{len(families) - len(fails)} of {len(families)} families can be both student and teacher."
    return f"{said} A note says why these cannot: {', '.join(map(str, fails))}." if len(fails) else said


def extra(parameters: pd.Series[Any]) -> str:
    """What methods learn besides the student, by their names.

    Example:
        >>> extra(pd.Series({"MSE": 0.0, "MGD": 5_900_800.0, "DMKD": 11_886_250.0}))
        'Million parameters that a method learns besides the student: MSE 0.0, MGD 5.9, DMKD 11.9.'
    """
    said = ", ".join(f"{row} {count / 1e6:.1f}" for row, count in parameters.dropna().items())
    return f"Million parameters that a method learns besides the student: {said}."


def left(planned: Iterable[plan.Planned]) -> list[float]:
    """How long each run takes that has no result, in seconds.

    Records are counted: what else this machine has of the runs, such as weights, changes nothing.
    """
    return [item.whole for item in planned if records.result(item.run.key) is None]


def state(pages: Sequence[Page], command: str = "") -> str:
    """How many runs of some pages have a record, and how long the others take, as Markdown.

    Args:
        pages: The pages, of one scale.
        command: What makes the others; empty: that of these pages.
    """
    planned, scale = plan.plan(chain for page in pages for chain in page.chains()), pages[0].scale
    found = [(item.run, records.result(item.run.key)) for item in planned]
    known = [(run, record) for run, record in found if record is not None]
    amiss = _stale(known) + _others(known) + _left_out(pages) + _amiss(known)
    missing = left(planned)
    if not missing:
        return f"All {counted(len(planned), 'run')} at scale {scale} have a record.{amiss}"
    return (
        f"{len(planned) - len(missing):,} of {counted(len(planned), 'run')} at scale {scale} have a record. "
        f"`{command or making(*pages)}` makes the others, in about {plan.duration(sum(missing))}, one at a time.{amiss}"
    )


def _stale(known: Iterable[tuple[Run, Record]]) -> str:
    count = sum(records.is_stale(record, run) for run, record in known)
    are = "is" if count == 1 else "are"
    return f" {counted(count, 'record')} {are} stale: the code has changed since." * bool(count)


def _others(known: Iterable[tuple[Run, Record]]) -> str:
    count = sum(records.had_others(record, run) for run, record in known)
    had = (
        f" {counted(count, 'run')} used a teacher or a start whose weights differ from those of the record that is shown for it. "
        "The same training ends in other weights on another kind of processor."
    )
    return had * bool(count)


def _left_out(shown: Iterable[Page]) -> str:
    """How many runs of students cannot be compared with the others of their student and seed."""
    entries = [entry for page in shown if isinstance(page, RowsPage | TuningPage | GatesPage) for entry in page.entries]
    keys = sorted({run.key for entry in entries for run in entry.runs} & trainings.left_out())
    said = (
        f" {counted(len(keys), 'run')} learned from another training of a network than most of the same student and seed. "
        f"Pages leave out: {', '.join(f'`{key}`' for key in keys)}. Without their records they are trained anew."
    )
    return said * bool(keys)


def _amiss(known: Iterable[tuple[Run, Record]]) -> str:
    said = [f"\n- {plan.describe(run)} (`{run.key}`)" for run, record in known if diverged(record)]
    return f"\n\n**{counted(len(said), 'run')} diverged**, and the AP is that of a failed training:\n{''.join(said)}" * bool(said)


def hides_background(frame: pd.DataFrame) -> str:
    """Which networks' features are smaller on objects than beside them on every level, in words.

    Example:
        >>> lines = [("A", 8, 0.2), ("A", 16, 0.3), ("B", 8, 0.4), ("B", 16, 0.6)]
        >>> frame = pd.DataFrame(lines, columns=["row", "level", "value"]).assign(metric="objects")
        >>> for sentence in hides_background(frame).split(": "):
        ...     print(sentence)
        Features of A are smaller on objects than on the background (`objects` is 0.20 to 0.30)
        a mask that hides the largest ones hides background.
    """
    means = frame[frame["metric"] == "objects"].groupby(["row", "level"], sort=False)["value"].mean().groupby("row", sort=False)
    below = means.agg(["min", "max"]).query("max < 0.5")
    return " ".join(
        f"Features of {row} are smaller on objects than on the background (`objects` is {low:.2f} to {high:.2f}): "
        "a mask that hides the largest ones hides background."
        for row, low, high in below.itertuples()
    )
