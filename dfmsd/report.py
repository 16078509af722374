"""What a page shows: tables, figure, verdicts and provenance, all computed from records and ``params/published.yaml``.

Every function takes a page and looks its records up, so a notebook cell is one call. Tables are pandas Stylers, the figure is an
image with its own description, and sentences are Markdown; all of them render in a notebook and in the book without scripts.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean, median
from typing import Any

import matplotlib as mpl
import pandas as pd
import seaborn as sns
import yaml
from IPython.display import Markdown
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from dfmsd import pages, paths, plan, records, scales, stats, zoo
from dfmsd.errors import StudyError
from dfmsd.pages import LABELS, Entry, PageSpec, name_of
from dfmsd.records import Record
from dfmsd.spec import Frozen, RunSpec
from dfmsd.stages import JOIN, Row
from dfmsd.stats import Estimate

METRICS = ("AP_S", "AP_M", "AP_L", "AR")
"""Columns beside AP."""

COLOURS = {
    "baseline": "#555555",
    "mse": "#000000",
    "ssim": "#999977",
    "fkd": "#333377",
    "fgd": "#993300",
    "pkd": "#DD00FF",
    "crosskd": "#550000",
    "mgd": "#E69F00",
    "amd": "#33DDFF",
    "dmkd": "#56B4E9",
    "equal_budget": "#0072B2",
    "dfmsd": "#D55E00",
}
"""One colour a method on every page: Okabe and Ito's palette, and colours that any colour vision tells from these."""

IMAGE_DPI = 144
"""Of images inside a drawing; its lines and letters have no resolution."""

NONE = "–"


class Published(Frozen):
    """A row of the paper's tables, as quoted in ``params/published.yaml``."""

    student: str
    recipe: str
    name: str = ""
    """Of a row that its recipe alone does not tell from another, see :class:`dfmsd.stages.Row`."""
    variant: dict[str, str] | None = None
    teachers: tuple[str, ...]
    metrics: dict[str, float]
    reconstructed: tuple[str, ...] = ()
    """What the table itself does not show legibly."""
    note: str = ""


@cache
def _tables() -> dict[int | str, dict[str, Any]]:
    return yaml.safe_load((paths.PARAMS / "published.yaml").read_text())["tables"]  # type: ignore[no-any-return]


def published(table: int | str) -> list[Published]:
    """The rows of a table of the paper, or of a page's other source by its name.

    Raises:
        StudyError: if the paper has no such table.

    Example:
        >>> published(3)[3].metrics["AP"]
        41.2
    """
    if table not in _tables():
        raise StudyError(f"the paper has no table {table}: valid are {', '.join(map(str, _tables()))}")
    return [Published.model_validate(row) for row in _tables()[table]["rows"]]


@dataclass(frozen=True)
class Line:
    """A row of a page's table with everything known about it."""

    row: Row
    entries: tuple[Entry, ...]
    records: Mapping[int, Record]
    """By seed; seeds that have not been run are absent."""
    published: Published | None

    def values(self, metric: str) -> dict[int, float]:
        """A metric by seed, in percent."""
        return {seed: record.metrics[metric] for seed, record in self.records.items() if metric in record.metrics}

    @property
    def pair(self) -> str:
        """Student and teachers in words."""
        teachers = " → ".join(zoo.label(name) for name in self.row.teachers)
        return f"{zoo.label(self.row.student)} ← {teachers}"

    @property
    def ap(self) -> Estimate | None:
        """AP over the seeds that have been run."""
        values = self.values("AP")
        return stats.estimate(values) if values else None

    def marks(self) -> list[str]:
        """What a reader must know about the numbers, or why there are none."""
        if not self.records:
            seconds = sum(item.seconds for item in plan.plan([entry.runs for entry in self.entries]))
            return [f"not run (about {_duration(seconds)})"]
        found = []
        if len(self.records) < len(self.entries):
            found.append(f"{len(self.records)} of {len(self.entries)} seeds")
        if any(record.state == "no detections" for record in self.records.values()):
            found.append("no detections")
        runs = {entry.seed: entry.runs[-1] for entry in self.entries}
        if any(records.is_stale(record, runs[seed]) for seed, record in self.records.items()):
            found.append("stale")
        return found


def lines(page: PageSpec) -> list[Line]:
    """The rows of a page, in the order of its table."""
    quoted = published(page.table) if page.table is not None else []
    entries: dict[int, list[Entry]] = {}
    for entry in page.entries():
        entries.setdefault(entry.place, []).append(entry)
    found = []
    for place, row in enumerate(page.rows()):
        own = tuple(entries[place])
        kept = {entry.seed: record for entry in own if (record := _result(entry.runs[-1])) is not None}
        match = (q for q in quoted if _matches(q, row))
        found.append(Line(row, own, kept, next(match, None)))
    return found


def _matches(quoted: Published, row: Row) -> bool:
    ours = row.student, row.quotes or row.teachers, row.recipe, row.name
    return (quoted.student, quoted.teachers, quoted.recipe, quoted.name) == ours


def _result(run: RunSpec) -> Record | None:
    record = records.find(run.key)
    return record if record is not None and record.is_result else None


def table(page: PageSpec) -> Styler:
    """The page's table: the paper's AP beside ours, with intervals, differences to the baseline, and marks."""
    known = lines(page)
    theirs, ours = "paper, COCO", f"this study, {page.scale}"
    rows = []
    for line in known:
        baseline = next((b for b in known if b.pair == line.pair and b.row.recipe == "baseline"), None)
        rows.append(
            {(theirs, "AP"): _number(_quoted(line)), (theirs, "Δ"): _signed(_quoted_gain(line, baseline))}
            | {(ours, "AP"): _estimate(line), (ours, "Δ"): _gain(line, baseline)}
            | {(ours, metric): _number(_mean(line.values(metric))) for metric in METRICS}
            | {(ours, "seeds"): _seeds(line)}
        )
    frame = pd.DataFrame(rows)
    frame.columns = pd.MultiIndex.from_tuples(list(rows[0]))
    return _grouped(frame, [line.pair for line in known], [_name(line) for line in known], "results", _caption(page, known))


def _name(line: Line) -> str:
    marks = ", ".join(line.marks())
    return name_of(line.row) + (f'<span class="interval flag">{marks}</span>' if marks else "")


def _caption(page: PageSpec, known: Sequence[Line]) -> str:
    parts = ["AP and AR in percent; Δ: difference to the baseline, seed by seed."]
    seeds = {len(line.records) for line in known if line.records}
    if seeds and min(seeds) < stats.MIN_SEEDS:
        parts.append("† fewer than three seeds: 95 % interval over validation images, which says nothing about other seeds.")
    if seeds and max(seeds) >= stats.MIN_SEEDS:
        parts.append("Intervals: 95 % bootstrap over seeds.")
    notes = {q.note: None for line in known if (q := line.published) is not None and q.note}
    parts += [f"Paper: {note}." for note in notes]
    others = {" -> ".join(line.row.quotes): None for line in known if line.row.quotes}
    parts += [f"The paper's teachers are others: {names}." for names in others]
    if page.scale != "coco":
        parts.append(f"The two halves differ in data and size of networks: compare the Δ, not the AP ({page.scale} is not COCO).")
    return " ".join(parts)


def _quoted(line: Line | None) -> float | None:
    return line.published.metrics.get("AP") if line is not None and line.published is not None else None


def _quoted_gain(line: Line, baseline: Line | None) -> float | None:
    value, base = _quoted(line), _quoted(baseline)
    return None if line is baseline or value is None or base is None else value - base


def _mean(values: Mapping[int, float]) -> float | None:
    return fmean(values.values()) if values else None


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.1f}"


def _signed(value: float | None) -> str:
    return NONE if value is None else f"{value:+.1f}".replace("-", "−")


def _range(interval: tuple[float, float] | None, show: Callable[[float], str], mark: str = "") -> str:
    if interval is None:
        return ""
    return f'<span class="interval">{show(interval[0])} to {show(interval[1])}{mark}</span>'


def _estimate(line: Line) -> str:
    if line.ap is None:
        return NONE
    if line.ap.interval is not None:
        return _number(line.ap.mean) + _range(line.ap.interval, _number)
    # With two seeds the interval of the first one stands for both.
    interval = next(iter(line.records.values())).ap_interval
    return _number(line.ap.mean) + _range(interval, _number, "†")


def _gain(line: Line, baseline: Line | None) -> str:
    if baseline is None or line is baseline:
        return NONE
    found = stats.difference(line.values("AP"), baseline.values("AP"))
    return NONE if found is None else _signed(found.mean) + _range(found.interval, _signed)


def _seeds(line: Line) -> str:
    return " ".join(f"{value:.1f}" for _, value in sorted(line.values("AP").items())) or NONE


def styled(frame: pd.DataFrame, name: str, caption: str = "") -> Styler:
    """A table without scripts; names instead of random ids, so that one input gives one output."""
    styler = Styler(frame, uuid=name, cell_ids=False, table_attributes='class="study"')
    return styler.set_caption(caption) if caption else styler


def _grouped(frame: pd.DataFrame, groups: Sequence[str], labels: Sequence[str], name: str, caption: str) -> Styler:
    """A table with a line of its own above each group: a first column of long names would push the numbers off the page."""
    if frame.empty:
        return styled(frame, name, caption)
    frame = frame.reset_index(drop=True)
    pieces: list[pd.DataFrame] = []
    names: list[str] = []
    heads: list[int] = []
    for group in dict.fromkeys(groups):
        places = [place for place, other in enumerate(groups) if other == group]
        head = pd.DataFrame("", index=[0], columns=frame.columns)
        pieces += [head, frame.loc[places]]
        heads.append(len(names))
        names += [group, *(labels[place] for place in places)]
    whole = pd.concat(pieces)
    whole.index = pd.Index(names)
    # Taking no width, the long name runs over the empty cells beside it.
    style = "max-width: 0; overflow: visible; padding-top: 0.8rem"
    styler = styled(whole, name, caption)
    styler.apply_index(lambda index: [style if place in heads else "font-weight: normal" for place in range(len(index))])
    return styler


def status(page: PageSpec) -> Styler:
    """All runs of a page, shared ones once: state, estimate of what is left, and the record behind each."""
    rows = []
    for item in plan.plan(page.chains()):
        key = item.run.key
        name = f'<a href="../records/{key}.json">{key}</a>' if item.state == "done" else key
        left = "" if item.state == "done" else f"about {_duration(item.seconds)}"
        rows.append({"record": name, "run": pages.describe(item.run), "state": item.note or item.state, "left": left})
    return styled(pd.DataFrame(rows), "runs").hide(axis="index")


def progress(page: PageSpec) -> Markdown:
    """How much of a page has been run, in one sentence."""
    planned = plan.plan(page.chains())
    done = sum(item.state == "done" for item in planned)
    text = f"{done} of {len(planned)} runs at scale **{page.scale}** have a record"
    if done < len(planned):
        seconds = sum(item.seconds for item in planned)
        command = f"python -m dfmsd page {page.page} --scale {page.scale}"
        text += f"; the rest takes about {_duration(seconds)}, one at a time: `{command}`"
    return Markdown(text + ".")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def ladder(page: PageSpec) -> Styler:
    """Teachers and the students they teach, from weak to strong, each with its AP on its own."""
    seen: dict[str, dict[str, str]] = {}
    for line in lines(page):
        if line.row.recipe == "baseline":
            name = line.row.student
            found = list(line.records.values())
            seen[name] = _rung(name, "student", line.ap, _estimate(line), found, line.entries[0].runs[-1])
        for run in (run for entry in line.entries for run in entry.runs):
            for teacher in run.stage.teachers if run.stage else ():
                if isinstance(teacher, RunSpec):
                    record = _result(teacher)
                    own = None if record is None else stats.estimate({teacher.seed: record.metrics["AP"]})
                    shown = NONE if own is None or record is None else _number(own.mean) + _range(record.ap_interval, _number, "†")
                    name = teacher.network.name
                    seen.setdefault(name, _rung(name, "teacher", own, shown, [record] if record else [], teacher))
    order = sorted(seen, key=lambda name: (name.rpartition("_")[0], zoo.weights(name).ap))
    frame = pd.DataFrame([seen[name] for name in order])
    caption = "mmdet: AP of the published checkpoint on COCO val2017. † 95 % interval over validation images."
    return styled(frame, "ladder", caption).hide(axis="index")


def _rung(name: str, role: str, ap: Estimate | None, shown: str, found: Sequence[Record], run: RunSpec) -> dict[str, str]:
    speed = [record.provenance.images_per_second for record in found]
    return {
        "network": zoo.label(name),
        "role": role,
        "mmdet": _number(zoo.weights(name).ap),
        f"AP, {run.scale}": shown,
        **{metric: _number(_mean(dict(enumerate(r.metrics[metric] for r in found if metric in r.metrics)))) for metric in METRICS},
        "epochs": str(run.schedule.epochs),
        "images/s": f"{median(speed):.0f}" if speed else NONE,
    }


def shares(page: PageSpec) -> Styler:
    """How large each distillation term was, relative to the student's own loss, over the whole run of each stage."""
    sizes: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    for line in lines(page):
        for run in (run for entry in line.entries for run in entry.runs):
            record = _result(run)
            if record is None or run.stage is None:
                continue
            index = line.pair, name_of(line.row), str(run.stage.index)
            for name, share in record.shares.items():
                sizes.setdefault(index, {}).setdefault(name.rpartition("_")[2], []).append(share)
    terms = list(dict.fromkeys(["rec", "sfa", "aug", *sorted({t for found in sizes.values() for t in found})]))
    rows = [
        {"stage": stage} | {term: f"{fmean(found[term]):.2f}" if term in found else NONE for term in terms}
        for (_, _, stage), found in sizes.items()
    ]
    frame = pd.DataFrame(rows, columns=["stage", *terms])
    caption = "rec: masked reconstruction; sfa: semantic alignment; aug: enhanced images. 1.00 is as large as the detection loss."
    return _grouped(frame, [pair for pair, _, _ in sizes], [method for _, method, _ in sizes], "shares", caption)


def provenance(page: PageSpec) -> Styler:
    """Where the page's numbers come from."""
    found = [(run, record) for run in plan.order(page.chains()) if (record := _result(run)) is not None]
    kept = [record.provenance for _, record in found]
    scale = scales.get(page.scale)
    speed: dict[str, list[float]] = {}
    for run, record in found:
        kind = f"{zoo.label(run.network.name)}, {'distilled' if run.stage else 'alone'}"
        speed.setdefault(kind, []).append(record.provenance.images_per_second)
    names = kept[0].versions if kept else {}
    facts = {
        "scale": page.scale,
        "seeds": ", ".join(map(str, page.seeds or scale.seeds)) + f" (teachers {scale.teacher_seed})",
        "data": f"{scale.data.source}, fingerprint {_all(p.data_fingerprint for p in kept)}",
        "commit": _all(p.commit[:12] for p in kept),
        "hardware": _all(f"{p.hardware}, {p.threads} thread{'s' * (p.threads != 1)}" for p in kept),
        "computing time": f"{_duration(sum(p.seconds for p in kept))} for {len(kept)} run{'s' * (len(kept) != 1)}",
        "images per second": "; ".join(f"{kind}: {median(values):.0f}" for kind, values in sorted(speed.items())) or NONE,
        "versions": ", ".join(f"{name} {_all(p.versions.get(name, '') for p in kept)}" for name in names) or NONE,
    }
    frame = pd.DataFrame({"": facts.keys(), "these numbers": [html.escape(value) for value in facts.values()]})
    return styled(frame, "provenance").hide(axis="index").hide(axis="columns")


def _all(values: Iterable[str]) -> str:
    return " and ".join(sorted(set(values))) or NONE


def comparisons(page: PageSpec, rival: str) -> dict[str, Estimate | None]:
    """The paired difference in AP of the page's subject to another row, by pair of student and teachers; None where one is not run.

    Args:
        page: The page.
        rival: The other row's name.
    """
    by_pair: dict[str, dict[str, Line]] = {}
    for line in lines(page):
        by_pair.setdefault(line.pair, {})[name_of(line.row)] = line
    return {
        pair: stats.difference(rows[page.subject].values("AP"), rows[rival].values("AP"))
        for pair, rows in by_pair.items()
        if page.subject in rows and rival in rows
    }


def verdicts(page: PageSpec) -> Markdown:
    """The answer to the page's question, as far as the records give one."""
    names = [name for name in dict.fromkeys(name_of(row) for row in page.rows()) if name != page.subject]
    sentences = [_sentence(page.subject, rival, found) for rival in names if (found := comparisons(page, rival))]
    text = "\n".join(f"- {sentence}" for sentence in sentences)
    if page.scale == "smoke":
        text += "\n\n*At the scale smoke these numbers mean nothing: they show that every path runs.*"
    return Markdown(text)


def _sentence(subject: str, rival: str, found: Mapping[str, Estimate | None]) -> str:
    name = {LABELS["equal_budget"]: "the equal-budget control", LABELS["baseline"]: "the baseline"}.get(rival, rival)
    run = {pair: difference for pair, difference in found.items() if difference is not None}
    if not run:
        return f"{subject} against {name}: **not run**."
    verdict = [stats.verdict(difference) for difference in run.values()]
    gains = ", ".join(_signed(difference.mean) for difference in run.values())
    if set(verdict) == {"no test"}:
        above = sum(difference.mean > 0 for difference in run.values())
        seeds = max(len(difference.values) for difference in run.values())
        count = "one seed" if seeds == 1 else f"{seeds} seeds"
        text = f"{subject} is above {name} in **{above} of {len(run)}** pairs ({gains} AP; {count}: no test)"
    else:
        counts = {kind: verdict.count(kind) for kind in ("higher", "lower", "undecided", "no test")}
        text = f"{subject} beats {name} in **{counts['higher']} of {len(run)}** pairs"
        rest = {"lower": "loses in", "undecided": "undecided in", "no test": "without a test in"}
        text += "".join(f", {words} {counts[kind]}" for kind, words in rest.items() if counts[kind]) + f" ({gains} AP)"
    if missing := len(found) - len(run):
        text += f"; {missing} not run"
    return text + "."


@dataclass(frozen=True)
class Picture:
    """A drawing with the words for those who cannot see it; it renders in notebooks and on pages."""

    svg: str
    alt: str

    @classmethod
    def of(cls, drawing: Figure, alt: str) -> Picture:
        """A figure as SVG, the same bytes for the same figure."""
        stream = io.StringIO()
        with mpl.rc_context({"svg.hashsalt": "dfmsd"}):
            drawing.savefig(stream, format="svg", dpi=IMAGE_DPI, metadata={"Date": None, "Creator": None})
        return cls(stream.getvalue(), alt)

    def _repr_html_(self) -> str:
        data = base64.b64encode(self.svg.encode()).decode()
        return f'<img class="figure" src="data:image/svg+xml;base64,{data}" alt="{html.escape(self.alt, quote=True)}">'

    def save(self, file: Path) -> None:
        """Write the drawing, unless the file holds it already."""
        if not file.exists() or file.read_text() != self.svg:
            records.write_atomic(file, self.svg)


def figure(page: PageSpec) -> Picture:
    """AP of every method, a panel for each pair: seeds as small points, means with their intervals, the baseline as a line."""
    known = lines(page)
    by_pair: dict[str, list[Line]] = {}
    for line in known:
        by_pair.setdefault(line.pair, []).append(line)
    with mpl.rc_context(), sns.axes_style("whitegrid"), mpl.rc_context({"font.size": 10}):
        names = list(dict.fromkeys(name_of(line.row) for line in known))
        drawing = Figure(figsize=(1.2 + 2.5 * len(by_pair), 1.2 + 0.4 * len(names)), layout="constrained")
        axes = drawing.subplots(1, len(by_pair), sharey=True, squeeze=False)[0]
        for ax, (pair, rows) in zip(axes, by_pair.items(), strict=True):
            _panel(ax, pair, rows, names)
        axes[0].set_yticks(range(len(names)), labels=names)
        axes[0].set_ylim(len(names) - 0.5, -0.5)
        drawing.supxlabel(f"AP in percent, scale {page.scale}", fontsize=10)
        return Picture.of(drawing, _alt(page, by_pair))


def _panel(ax: Axes, pair: str, rows: Sequence[Line], names: Sequence[str]) -> None:
    student, _, teachers = pair.partition(" ← ")
    ax.set_title(f"{student}\n← {teachers}", fontsize=9)
    ax.grid(axis="y", visible=False)
    for line in rows:
        if line.ap is None:
            continue
        place, colour = names.index(name_of(line.row)), COLOURS[line.row.recipe.split(JOIN)[0]]
        if line.row.recipe == "baseline":
            ax.axvline(line.ap.mean, color=colour, linewidth=1, linestyle="--", zorder=1)
        interval = line.ap.interval or next(iter(line.records.values())).ap_interval
        if interval is not None:
            # Over images the interval is thin: it is not about seeds.
            ax.hlines(place, *interval, color=colour, linewidth=3 if line.ap.interval else 1, alpha=0.6, zorder=2)
        ax.scatter(list(line.values("AP").values()), [place + 0.22] * len(line.records), s=12, color=colour, alpha=0.7, zorder=3)
        ax.scatter(line.ap.mean, place, s=50, color=colour, edgecolor="white", zorder=4)
        ax.annotate(_number(line.ap.mean), (line.ap.mean, place), (0, 7), textcoords="offset points", ha="center", fontsize=8)
    if all(line.ap is None for line in rows):
        ax.text(0.5, 0.5, "not run", transform=ax.transAxes, ha="center", va="center", color="#777777")
        ax.set_xticks([])


def _alt(page: PageSpec, by_pair: Mapping[str, Sequence[Line]]) -> str:
    parts = [f"Average precision at scale {page.scale}, a panel for each student with its teachers."]
    for pair, rows in by_pair.items():
        values = ", ".join(f"{name_of(line.row)} {_number(line.ap.mean) if line.ap else 'not run'}" for line in rows)
        parts.append(f"{pair}: {values}.")
    return " ".join(parts)


def answer(page: PageSpec) -> str:
    """A page in short, as Markdown: its question and the verdicts, for the home page."""
    return f"**{page.question}**\n\n{progress(page).data}\n\n{verdicts(page).data}\n"
