"""Estimates in words: the one place where a page's finding becomes a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dfmsd.report.tables import number, signed
from dfmsd.study import plan, records
from dfmsd.study.divergence import diverged
from dfmsd.study.pages import Page, describe
from dfmsd.study.spec import Run


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


def counted(count: int, noun: str) -> str:
    """A number of things.

    Example:
        >>> counted(1, "pair"), counted(1135, "run")
        ('1 pair', '1,135 runs')
    """
    return f"{count:,} {noun}{'s' * (count != 1)}"


def left(chains: Iterable[tuple[Run, ...]]) -> tuple[int, int, float]:
    """How many runs some chains need, how many of them have no result, and how many seconds those take, one at a time.

    Records are counted: what else this machine has of the runs, such as weights, changes nothing.
    """
    planned = plan.plan(chains)
    missing = [item.whole for item in planned if records.result(item.run.key) is None]
    return len(planned), len(missing), sum(missing)


def state(pages: Sequence[Page], command: str = "") -> str:
    """How many runs of some pages have a record, and how long the others take, as Markdown.

    Args:
        pages: The pages, of one scale.
        command: What makes the others; empty: that of the first page.
    """
    count, missing, seconds = left(chain for page in pages for chain in page.chains())
    scale = pages[0].scale
    amiss = _amiss(plan.order(chain for page in pages for chain in page.chains()))
    if not missing:
        return f"All {counted(count, 'run')} at scale {scale} have a record.{amiss}"
    return (
        f"{count - missing:,} of {counted(count, 'run')} at scale {scale} have a record. "
        f"`{command or pages[0].command()}` makes the others, in about {plan.duration(seconds)}, one at a time.{amiss}"
    )


def _amiss(runs: Iterable[Run]) -> str:
    found = [(run, records.result(run.key)) for run in runs]
    said = [f"\n- `{run.key}` {describe(run)}: {why}" for run, one in found if one is not None and (why := diverged(one))]
    return f"\n\n**{counted(len(said), 'run')} diverged**, and the AP is that of a failed training:\n{''.join(said)}" * bool(said)
