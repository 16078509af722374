"""What the page of the losses' cost shows, computed from the records of measurements."""

from __future__ import annotations

import html
from collections.abc import Sequence
from statistics import median

import pandas as pd
from IPython.display import Markdown
from pandas.io.formats.style import Styler

from dfmsd.report import floors, plain
from dfmsd.report.tables import NONE, grouped, spread, stale_mark, styled, threads
from dfmsd.study import benchrecord as record
from dfmsd.study.benchrecord import Bench, Cost
from dfmsd.study.pages import LABELS, BenchPage
from dfmsd.study.pages.methods import MEASURE

Shown = Styler | Markdown


def costs(page: BenchPage) -> Shown:
    """Time and memory of every method on every machine and at all shapes, with the targets and whether they are met."""
    rows: list[dict[tuple[str, str], str]] = []
    groups: list[str] = []
    names: list[str] = []
    for bench in record.all_records():
        for measured in bench.results:
            for name, cost in measured.costs.items():
                rows.append(_row(page, cost))
                groups.append(f"{measured.shapes.name}, {measured.shapes.kind.replace('_', '-')} networks, {machine(bench)}")
                names.append(LABELS[name] + stale_mark(stale=cost.code != record.code_digest(name)))
    if not rows:
        return not_measured()
    frame = pd.DataFrame(rows)
    frame.columns = pd.MultiIndex.from_tuples(list(rows[0]))
    return grouped(frame, groups, names, "costs", _caption(page))


def not_measured() -> Markdown:
    """What there is to do while there is no record."""
    return Markdown(f"**Not measured yet**: run `{MEASURE}`.")


def machine(bench: Bench) -> str:
    """What was measured on; threads do not matter on a GPU."""
    return html.escape(bench.hardware if bench.device == "cuda" else f"{bench.hardware}, {threads(bench.threads)}")


def _row(page: BenchPage, cost: Cost) -> dict[tuple[str, str], str]:
    convolutions = median(sample.convolutions_ms for sample in cost.samples)
    memory = median(cost.memory_ms(sample) for sample in cost.samples)
    return {
        ("forward and backward", "ms"): _number(cost.ms),
        ("forward and backward", "× MSE"): _spread(cost.times_mse()),
        ("floor, ms", "memory"): _number(memory),
        ("floor, ms", "convolutions"): _number(convolutions) if cost.convolutions else NONE,
        ("against it", "× floor"): _spread(cost.times_floor()),
        ("against it", "target"): _verdict(page, cost),
        ("peak", "MiB"): f"{cost.peak_mb:.0f}",
    }


def target(page: BenchPage, cost: Cost) -> float:
    """How many times its floor a method may take: one number where convolutions are most of the floor, another elsewhere."""
    return page.target_convolutions if cost.convolutions_share > 0.5 else page.target_memory


def meets(page: BenchPage, cost: Cost) -> bool:
    """Whether the median of the rounds is within :func:`target`."""
    return median(cost.times_floor()) <= target(page, cost)


def _verdict(page: BenchPage, cost: Cost) -> str:
    return "met" if meets(page, cost) else '<span class="flag">missed</span>'


def _number(value: float) -> str:
    """Three digits, whatever the size.

    Example:
        >>> _number(0.01234), _number(1.234), _number(1234.5)
        ('0.0123', '1.23', '1234')
    """
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _spread(ratios: Sequence[float]) -> str:
    return f"{median(ratios):.2f}" + spread((min(ratios), max(ratios)), "{:.2f}".format)


def _caption(page: BenchPage) -> str:
    public = ", ".join(f"{LABELS[name]} {times:g}" for name, times in page.public.times_mse.items())
    parts = [
        "Medians over the rounds, with the smallest and the largest ratio of a round below.",
        f"The methods' released code, {page.public.where}: {public} times a plain MSE that need not be as fast as this one.",
        f"Target: at most {page.target_convolutions:g} times the floor where most of it is convolutions,"
        f" {page.target_memory:g} times elsewhere.",
        "Peak: beyond features and parameters, gradients included.",
    ]
    parts += [f"{LABELS[name]} is left out: {why}." for name, why in left_out().items()]
    return " ".join(parts)


def improvements() -> Shown:
    """What a method gains over its straightforward version, on every machine and at all shapes."""
    rows, groups, names = [], [], []
    for bench in record.all_records():
        for measured in bench.results:
            for name, cost in measured.costs.items():
                if cost.plain_peak_mb is not None and (times := cost.plain_times()):
                    rows.append({"time": _spread(times), "memory": f"{cost.plain_peak_mb / cost.peak_mb:.2f}"})
                    groups.append(f"{measured.shapes.name}, {machine(bench)}")
                    names.append(LABELS[name] + stale_mark(stale=cost.code != record.code_digest(name)))
    if not rows:
        return not_measured()
    caption = "What the straightforward version takes, in times of ours: medians, with the smallest and largest of a round below."
    return grouped(pd.DataFrame(rows), groups, names, "improvements", caption)


def instead() -> Styler:
    """What the library does in place of the straightforward versions."""
    rows = [{"method": LABELS[name], "instead": words} for name, words in plain.INSTEAD.items()]
    return styled(pd.DataFrame(rows), "instead").hide(axis="index")


def left_out() -> dict[str, str]:
    """Methods that no record has, and why."""
    return {name: why for bench in record.all_records() for name, why in bench.left_out.items()}


def passes() -> Styler:
    """What each method must read and write, as :mod:`dfmsd.report.floors` has it."""
    rows = [
        {"method": LABELS[name], "maps": f"{floors.maps(steps, inner=0.25):g}", "passes": "; ".join(steps).replace("->", "→")}
        for name, steps in floors.PASSES.items()
    ]
    caption = "Maps: how many are read and written on a level; small letters of FKD are a quarter of one on its two finest levels."
    return styled(pd.DataFrame(rows), "passes", caption).hide(axis="index")


def provenance() -> Shown:
    """Where the numbers come from, a column for each machine."""
    found = record.all_records()
    if not found:
        return not_measured()
    columns = {bench.name: _facts(bench) for bench in found}
    frame = pd.DataFrame(columns).rename_axis(index="", columns="")
    frame.insert(0, "", frame.index)
    return styled(frame, "provenance").hide(axis="index").hide(axis="columns")


def _facts(bench: Bench) -> dict[str, str]:
    rates = [sample.copy_gb_s for measured in bench.results for cost in measured.costs.values() for sample in cost.samples]
    facts = {
        "bandwidth of a copy": f"{median(rates):.1f} GB/s, read and written ({min(rates):.1f} to {max(rates):.1f})",
        "clock": bench.clock,
        "memory": bench.memory,
        "rounds": str(bench.repeats),
        "versions": ", ".join(f"{name} {number}" for name, number in bench.versions.items()),
        "TF32 convolutions": "allowed" if bench.tf32 and bench.device == "cuda" else "no",
        "commit": bench.commit,
        "date": bench.finished[:10],
        "again": f"{MEASURE} --device {bench.device} --threads {bench.threads} --repeats {bench.repeats}",
    }
    link = f'<a href="../records/bench/{bench.name}.json">{bench.name}.json</a>'
    return {"record": link, "hardware": machine(bench)} | {name: html.escape(value) for name, value in facts.items()}
