"""The gates of a scale: what its untaught students, its teachers and plain imitation must reach so that methods can be compared."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from dfmsd.report import figures, tables
from dfmsd.report.figures import COLOURS, MISSING, PALETTE
from dfmsd.study import pages, plan, scales, stats, zoo
from dfmsd.study.pages.scale import GatesPage
from dfmsd.study.rows import in_words

GATES = {
    "length": "1 length",
    "teachers": "2 teachers",
    "noise": "3 noise",
    "room": "4 room",
    "cost": "5 cost",
}
"""What a table calls each gate."""

PASSED, FAILED, UNMEASURED = "passed", "failed", "not measured"

Line = dict[str, Any]


class _Aps:
    """AP of the runs of the page's frame; NaN where there is none."""

    def __init__(self, page: GatesPage, frame: pd.DataFrame) -> None:
        ours = frame[frame["metric"] == "AP"]
        rows, teachers = ours[ours["role"] == "row"], ours[ours["role"] == "teacher"]
        alone = rows[rows["recipe"] == "baseline"]
        self.untaught = alone.set_index(["student", "length", "seed"])["value"].sort_index()
        self.taught = rows[rows["recipe"] == "mse"].set_index(["student", "teachers"])["value"]
        self.teachers = teachers.set_index("student")["value"]
        self.first = scales.get(page.scale).seeds[0]

    def alone(self, student: str, length: float = 1.0) -> float:
        """Of an untaught student with the first seed."""
        return float(self.untaught.get((student, length, self.first), float("nan")))

    def teacher(self, name: str) -> float:
        """Of a teacher's own run."""
        return float(self.teachers.get(name, float("nan")))

    def noise(self, *students: str) -> float:
        """Standard deviation over seeds, pooled over some students; NaN while one of them lacks a seed."""
        found = stats.pooled(dict(self.untaught[student, 1.0]) for student in students)
        return float("nan") if found is None else math.sqrt(found.variance)


def hours(page: GatesPage) -> float:
    """Core-hours of all pages at this scale, at all its seeds, by the speeds of recorded runs: one thread a run."""
    chains = (runs for name in pages.names() for runs in pages.get(name, scale=page.scale).chains())
    return sum(item.whole for item in plan.plan(chains)) / 3600


def judged(page: GatesPage, frame: pd.DataFrame, cost: float) -> pd.DataFrame:
    """Every number that a gate is about, from the page's frame; ``cost`` as :func:`hours` has it.

    The cost counts as measured once all runs of the page have a result.

    Returns:
        A line each: ``gate``, ``about``, ``measured`` in words, ``value``, its bounds ``low`` and ``high``, and the ``verdict``:
        passed, failed or not measured. A bound itself passes.
    """
    found = pd.DataFrame(_lines(page, _Aps(page, frame)))
    known = bool((frame.loc[frame["source"] == "ours", "state"] != "not run").all())
    last = {"gate": "cost", "about": "all pages", "measured": "core-hours", "value": cost, "high": page.bounds.cost}
    found = pd.concat([found, pd.DataFrame([last | {"low": None}])], ignore_index=True)
    found = found.astype({"value": float, "low": float, "high": float})
    inside = found["value"].round(6).between(found["low"].fillna(-float("inf")), found["high"].fillna(float("inf")))
    verdict = inside.map({True: PASSED, False: FAILED})
    bounded = found["low"].notna() | found["high"].notna()
    measured = found["value"].notna() & bounded & ((found["gate"] != "cost") | known)
    found["verdict"] = verdict.where(measured, UNMEASURED)
    return found


def _lines(page: GatesPage, aps: _Aps) -> Iterator[Line]:
    bounds, sd = page.bounds, aps.noise(*page.students)
    for student in page.students:
        value = aps.alone(student, 2.0) - aps.alone(student)
        about = {"gate": "length", "about": zoo.label(student), "measured": "gain in AP by twice the epochs"}
        yield about | {"value": value, "low": None, "high": bounds.length}
    for pair in page.pairs:
        names = [zoo.label(name) for name in pair.teachers]
        values = [aps.teacher(name) for name in pair.teachers]
        about = {"gate": "teachers", "about": in_words(pair.student, pair.teachers)}
        before = aps.alone(pair.student, 2.0)
        for place, name in enumerate(names):
            above = {"measured": f"{name} above the untaught student (2E)", "value": values[place] - before}
            limits = bounds.above if place == 0 else None, bounds.most if place == len(names) - 1 else None
            if place > 0:
                step = {"measured": f"{name} above {names[place - 1]}", "value": values[place] - values[place - 1]}
                yield about | step | {"low": bounds.step, "high": None}
            if any(limits):
                yield about | above | dict(zip(("low", "high"), limits, strict=True))
    yield {
        "gate": "noise",
        "about": "all students",
        "measured": "standard deviation over seeds, pooled",
        "value": sd,
        "low": None,
        "high": bounds.noise,
    }
    for pair in page.tuning:
        taught = aps.taught.get((pair.student, " → ".join(pair.teachers)), float("nan"))
        about = {"gate": "room", "about": in_words(pair.student, pair.teachers)}
        gain = {"measured": "gain of plain MSE in AP", "value": taught - aps.alone(pair.student)}
        yield about | gain | {"low": bounds.room * sd, "high": None}


def counts(found: pd.DataFrame) -> pd.DataFrame:
    """By gate: how many numbers passed, failed or are not measured, and the gate's verdict.

    A gate fails if one of its numbers does, and is passed if all are.
    """
    table = pd.crosstab(found["gate"], found["verdict"])
    table = table.reindex(index=list(GATES), columns=[PASSED, FAILED, UNMEASURED], fill_value=0)
    table["verdict"] = [FAILED if line[FAILED] else UNMEASURED if line[UNMEASURED] else PASSED for _, line in table.iterrows()]
    return table.rename(index=GATES)


def consequences(found: pd.DataFrame, page: GatesPage) -> str:
    """What follows from the gates that fail, as Markdown: a line for each, with whom it fails for."""
    lines = []
    for gate, own in found[found["verdict"] == FAILED].groupby("gate", sort=False):
        number, name = GATES[str(gate)].split()
        lines.append(f"- **Gate {number} ({name}) fails.** {page.touches[gate]}")  # type: ignore[index]
        for (measured, _), same in own.groupby(["measured", "value"], sort=False):
            about = "; ".join(dict.fromkeys(same["about"]))
            lines.append(f"  - {measured}: {tables.number(same.iloc[0]['value'])}, where {bound(same.iloc[0])} is asked ({about}).")
    if lines:
        return "\n".join(lines)
    return "No gate that has been measured fails."


def students(page: GatesPage, frame: pd.DataFrame) -> pd.DataFrame:
    """Each student without a teacher: AP with the first seed, of twice the epochs, and its standard deviation over seeds."""
    aps = _Aps(page, frame)
    lines = {
        name: {"AP": aps.alone(name), "AP, twice the epochs": aps.alone(name, 2.0), "sd over seeds": aps.noise(name)}
        for name in page.students
    }
    table = pd.DataFrame.from_dict(lines, orient="index")
    table.insert(2, "Δ", table["AP, twice the epochs"] - table["AP"])
    return table.rename(index=zoo.label)


def bound(line: pd.Series[Any]) -> str:
    """A bound in words, which stay in one line."""
    ends = [f"{word} {line[end]:.1f}" for word, end in (("at least", "low"), ("at most", "high")) if pd.notna(line[end])]
    return ", ".join(end.replace(" ", "\N{NO-BREAK SPACE}") for end in ends)


def figure(page: GatesPage, frame: pd.DataFrame) -> Figure:
    """A panel for each student: its untaught AP after E and 2E, its teachers, and the band in which they should lie."""
    aps, colours = _Aps(page, frame), sns.color_palette(PALETTE)
    names = ["untaught, E", "untaught, 2E", *map(zoo.label, page.teachers)]
    said: dict[tuple[str, str], float] = {}
    with figures.style():
        drawn, axes = figures.panels(map(zoo.label, page.students), 0.8 + 0.19 * len(names), 0.3 + 0.08 * max(map(len, names)))
        for ax, student in zip(axes, page.students, strict=True):
            ax.tick_params(axis="y", labelsize=8)
            own = dict.fromkeys(name for pair in page.pairs if pair.student == student for name in pair.teachers)
            values = {"untaught, E": aps.alone(student), "untaught, 2E": aps.alone(student, 2.0)}
            values |= {zoo.label(name): aps.teacher(name) for name in own}
            said |= {(zoo.label(student), name): value for name, value in values.items()}
            if pd.notna(before := values["untaught, 2E"]):
                band = before + page.bounds.above, before + page.bounds.most
                ax.axvspan(*band, color=colours[2], alpha=0.18, linewidth=0)
                ax.axvline(before, color=COLOURS["baseline"], linewidth=1, linestyle="--")
            for name, value in values.items():
                y, alone = names.index(name), name.startswith("untaught")
                if pd.isna(value):
                    ax.text(0.98, y, "not run", transform=ax.get_yaxis_transform(), ha="right", va="center", **MISSING)
                else:
                    ax.scatter(value, y, s=40, color=COLOURS["baseline"] if alone else colours[0], edgecolor="white", zorder=3)
            if not any(map(pd.notna, values.values())):
                ax.set_xticks([])
        axes[0].set_yticks(range(len(names)), labels=names)
        axes[0].set_ylim(len(names) - 0.5, -0.5)
        drawn.supxlabel(f"AP in percent, scale {page.scale}; green: where teachers should lie", fontsize=10)
    words = f"AP in percent at scale {page.scale} of each student without a teacher and of its teachers"
    return figures.described(drawn, figures.alt(words, pd.Series(said, dtype=float)))
