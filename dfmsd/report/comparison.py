"""What the page of a comparison shows: tables, verdicts and provenance, all computed from records and ``params/published.yaml``.

Every function takes a page and looks its records up, so a notebook cell is one call.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median

import pandas as pd
from IPython.display import Markdown
from pandas.io.formats.style import Styler

from dfmsd.report.tables import (
    NONE,
    STALE,
    below,
    duration,
    grouped,
    number,
    record_link,
    signed,
    spread,
    stale_mark,
    styled,
    threads,
)
from dfmsd.study import pages, plan, records, scales, stats, zoo
from dfmsd.study.frame import Line, comparisons, lines
from dfmsd.study.pages import LABELS, PageSpec, name_of
from dfmsd.study.published import also, published
from dfmsd.study.records import Record
from dfmsd.study.rows import ALONE
from dfmsd.study.spec import RunSpec
from dfmsd.study.stats import Estimate

METRICS = ("AP", "AP_S", "AP_M", "AP_L", "AR", "AR_S", "AR_M", "AR_L")
"""The paper's, in its order."""

NO_EVIDENCE = "\n\n*At the scale smoke these numbers mean nothing: they show that every path runs.*"

BESIDE = METRICS[1:5]
"""Columns beside AP in the table of results."""


def table(page: PageSpec, known: Sequence[Line] | None = None) -> Styler:
    """The page's table: the paper's AP beside ours, with intervals, differences to the baseline, marks, and links to records.

    Args:
        page: The page.
        known: The rows; None: the page's own.
    """
    known = lines(page) if known is None else known
    theirs, ours = _halves(page)
    rows = []
    for line in known:
        baseline = next((b for b in known if b.pair == line.pair and b.row.recipe == "baseline"), None)
        rows.append(
            {(theirs, "AP"): _quotation(page, line, "AP"), (theirs, "Δ"): signed(_quoted_gain(line, baseline))}
            | {(ours, "AP"): _estimated(line), (ours, "Δ"): gain(line, baseline)}
            | {(ours, metric): number(_mean(line.values(metric))) for metric in BESIDE}
            | {(ours, "seeds"): _seeds(line)}
        )
    frame = pd.DataFrame(rows)
    frame.columns = pd.MultiIndex.from_tuples(list(rows[0]))
    return grouped(frame, [line.pair for line in known], [_name(line) for line in known], "results", _caption(page, known))


def metrics(page: PageSpec) -> Styler:
    """All of the paper's metrics, its numbers beside ours: what the text has lost, and what was taken from its prose, is marked."""
    known = lines(page)
    theirs, ours = _halves(page)
    rows = [
        {(theirs, metric): _quotation(page, line, metric) for metric in METRICS}
        | {(ours, metric): number(_mean(line.values(metric))) for metric in METRICS}
        for line in known
    ]
    frame = pd.DataFrame(rows)
    frame.columns = pd.MultiIndex.from_tuples(list(rows[0]))
    caption = (
        "In percent; ours: means over the seeds that were run. AR: over 100 boxes an image. –: the paper has no such row or cell."
    )
    names = [name_of(line.row) + stale_mark(stale=line.stale) for line in known]
    return grouped(frame, [line.pair for line in known], names, "metrics", caption)


def _halves(page: PageSpec) -> tuple[str, str]:
    return "paper, COCO", f"this study, {page.scale}"


def _name(line: Line) -> str:
    marks = ", ".join(line.marks())
    return name_of(line.row) + below(marks, flag=True)


def _caption(page: PageSpec, known: Sequence[Line]) -> str:
    parts = ["AP and AR in percent; Δ: difference to the baseline, seed by seed. Each seed's AP leads to its record."]
    seeds = {len(line.records) for line in known if line.records}
    if seeds and min(seeds) < stats.MIN_SEEDS:
        parts.append("† fewer than three seeds: 95 % interval over validation images, which says nothing about other seeds.")
    if seeds and max(seeds) >= stats.MIN_SEEDS:
        parts.append("Intervals: 95 % bootstrap over seeds.")
    notes = {q.note: None for line in known if (q := line.published) is not None and q.note}
    parts += [f"Paper: {note}." for note in notes]
    others = {" -> ".join(line.row.quotes): None for line in known if line.row.quotes}
    parts += [f"The paper's teachers are others: {names}." for names in others]
    if page.table is not None and (more := also(page.table)):
        parts.append(f"The paper also has: {'; '.join(more)}.")
    if page.scale != "coco":
        parts.append(f"The two halves differ in data and size of networks: compare the Δ, not the AP ({page.scale} is not COCO).")
    return " ".join(parts)


def _quotation(page: PageSpec, line: Line, metric: str) -> str:
    """The paper's number, marked where its row of the table is not its source; what other rows have is lost where one lacks it."""
    if line.published is None or page.table is None:
        return NONE
    value = line.published.metrics.get(metric)
    if value is None:
        return NONE + below("lost" if any(metric in row.metrics for row in published(page.table)) else "")
    marks = [f"from {line.published.source}"] if line.published.source else []
    marks += ["reconstructed"] if metric in line.published.reconstructed else []
    marks += ["label reconstructed"] if "name" in line.published.reconstructed else []
    return number(value) + below(", ".join(marks))


def _quoted(line: Line | None) -> float | None:
    return line.published.metrics.get("AP") if line is not None and line.published is not None else None


def _quoted_gain(line: Line, baseline: Line | None) -> float | None:
    value, base = _quoted(line), _quoted(baseline)
    return None if line is baseline or value is None or base is None else value - base


def _mean(values: Mapping[int, float]) -> float | None:
    return fmean(values.values()) if values else None


def _estimated(line: Line) -> str:
    if line.ap is None:
        return NONE
    if line.ap.interval is not None:
        return number(line.ap.mean) + spread(line.ap.interval)
    # With two seeds the interval of the first one stands for both.
    interval = next(iter(line.records.values())).ap_interval
    return number(line.ap.mean) + spread(interval, mark="†")


def gain(line: Line, baseline: Line | None) -> str:
    """The paired difference in AP to the baseline, with its interval from three seeds on, and a mark if one of them is stale."""
    if baseline is None or line is baseline:
        return NONE
    found = stats.difference(line.values("AP"), baseline.values("AP"))
    if found is None:
        return NONE
    return signed(found.mean) + spread(found.interval, signed) + stale_mark(stale=line.stale or baseline.stale)


def _seeds(line: Line) -> str:
    values = sorted(line.values("AP").items())
    return " ".join(record_link(line.records[seed].key, number(value)) for seed, value in values) or NONE


def status(page: PageSpec) -> Styler:
    """All runs of a page, shared ones once: state, estimate of what is left, and the record behind each."""
    rows = []
    for item in plan.plan(page.chains()):
        key = item.run.key
        name = record_link(key, key) if item.state == "done" else key
        left = "" if item.state == "done" else f"about {duration(item.seconds)}"
        rows.append({"record": name, "run": pages.describe(item.run), "state": item.note or item.state, "left": left})
    return styled(pd.DataFrame(rows), "runs").hide(axis="index")


def tidy(page: PageSpec) -> Styler:
    """All results of a page for further work: a line for each row and seed, the metrics as they are in the records."""
    rows = [
        {"student": line.row.student, "teachers": " ".join(line.row.teachers), "row": name_of(line.row), "seed": str(seed)}
        | {metric: str(value) for metric, value in record.metrics.items()}
        | {STALE: "yes" if records.is_stale(record, entry.runs[-1]) else "no", "record": record_link(record.key, record.key)}
        for line in lines(page)
        for entry in line.entries
        if (record := line.records.get(seed := entry.seed)) is not None
    ]
    return styled(pd.DataFrame(rows), "tidy", f"Metrics in percent, scale {page.scale}.").hide(axis="index")


def progress(page: PageSpec) -> Markdown:
    """How much of a page has been run, and how much of that is stale, in one sentence."""
    planned = plan.plan(page.chains())
    done = [item.run for item in planned if item.state == "done"]
    text = f"{len(done)} of {len(planned)} runs at scale **{page.scale}** have a record"
    if stale := sum((record := records.find(run.key)) is not None and records.is_stale(record, run) for run in done):
        text += f", {stale} of them *{STALE}*"
    if len(done) < len(planned):
        seconds = sum(item.seconds for item in planned)
        text += f"; the rest takes about {duration(seconds)}, one at a time: `{page.command()}`"
    return Markdown(text + ".")


def ladder(page: PageSpec) -> Styler:
    """Teachers and the students they teach, from weak to strong, each with its AP on its own, students after every budget."""
    seen: dict[tuple[str, int], dict[str, str]] = {}
    for line in lines(page):
        if line.row.recipe in ALONE:
            name, run = line.row.student, line.entries[0].runs[-1]
            shown = _estimated(line) + stale_mark(stale=line.stale)
            seen[name, run.schedule.epochs] = _rung(name, "student", shown, list(line.records.values()), run)
        for run in (run for entry in line.entries for run in entry.runs):
            for teacher in run.stage.teachers if run.stage else ():
                if isinstance(teacher, RunSpec):
                    record = records.result(teacher.key)
                    name = teacher.network.name
                    rung = _rung(name, "teacher", _measured(teacher, record), [record] if record else [], teacher)
                    seen.setdefault((name, teacher.schedule.epochs), rung)
    order = sorted(seen, key=lambda rung: (rung[0].rpartition("_")[0], zoo.weights(rung[0]).ap, rung[1]))
    frame = pd.DataFrame([seen[rung] for rung in order])
    caption = "mmdet: AP of the published checkpoint on COCO val2017. † 95 % interval over validation images."
    return styled(frame, "ladder", caption).hide(axis="index")


def _measured(run: RunSpec, record: Record | None) -> str:
    """AP of one run, with a link to its record."""
    if record is None:
        return NONE
    shown = record_link(record.key, number(record.metrics["AP"])) + spread(record.ap_interval, mark="†")
    return shown + stale_mark(stale=records.is_stale(record, run))


def _rung(name: str, role: str, shown: str, found: Sequence[Record], run: RunSpec) -> dict[str, str]:
    return {
        "network": zoo.label(name),
        "role": role,
        "mmdet": number(zoo.weights(name).ap),
        f"AP, {run.scale}": shown,
        **{metric: number(_mean(dict(enumerate(r.metrics[metric] for r in found if metric in r.metrics)))) for metric in BESIDE},
        "epochs": str(run.schedule.epochs),
        "images/s": _speed(found),
    }


def _speed(found: Iterable[Record]) -> str:
    """The median of the images per second; a run that was resumed for nothing but its evaluation measured none."""
    measured = [speed for record in found if (speed := record.provenance.images_per_second) > 0]
    return f"{median(measured):.0f}" if measured else NONE


def shares(page: PageSpec) -> Styler:
    """How large each distillation term was, relative to the student's own loss, over the whole run of each stage."""
    sizes: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    for line in lines(page):
        for run in (run for entry in line.entries for run in entry.runs):
            record = records.result(run.key)
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
    caption = (
        "rec: masked reconstruction; sfa: semantic alignment; aug: enhanced images. 1.00 is as large as the detection loss. "
        f"Scale {page.scale}."
    )
    return grouped(frame, [pair for pair, _, _ in sizes], [method for _, method, _ in sizes], "shares", caption)


def provenance(page: PageSpec) -> Styler:
    """Where the page's numbers come from."""
    found = [(run, record) for run in plan.order(page.chains()) if (record := records.result(run.key)) is not None]
    kept = [record.provenance for _, record in found]
    scale = scales.get(page.scale)
    kinds: dict[str, list[Record]] = {}
    for run, record in found:
        kinds.setdefault(f"{zoo.label(run.network.name)}, {'distilled' if run.stage else 'alone'}", []).append(record)
    names = kept[0].versions if kept else {}
    facts = {
        "scale": page.scale,
        "seeds": ", ".join(map(str, page.seeds or scale.seeds)) + f" (teachers {scale.teacher_seed})",
        "data": f"{scale.data.source}, fingerprint {_all(p.data_fingerprint for p in kept)}",
        "commit": _all(p.commit[:12] for p in kept),
        "hardware": _all(f"{p.hardware}, {threads(p.threads)}" for p in kept),
        "computing time": f"{duration(sum(p.seconds for p in kept))} for {len(kept)} run{'s' * (len(kept) != 1)}",
        "images per second": "; ".join(f"{kind}: {_speed(values)}" for kind, values in sorted(kinds.items())) or NONE,
        "versions": ", ".join(f"{name} {_all(p.versions.get(name, '') for p in kept)}" for name in names) or NONE,
    }
    frame = pd.DataFrame({"": facts.keys(), "these numbers": [html.escape(value) for value in facts.values()]})
    return styled(frame, "provenance").hide(axis="index").hide(axis="columns")


def _all(values: Iterable[str]) -> str:
    return " and ".join(sorted(set(values))) or NONE


def verdicts(page: PageSpec) -> Markdown:
    """The answer to the page's question, as far as the records give one."""
    names = [name for name in dict.fromkeys(name_of(row) for row in page.rows()) if name != page.subject]
    known = {rival: found for rival in names if (found := comparisons(page, rival))}
    sentences = [_sentence(page.subject, rival, found) for rival, found in known.items() if any(found.values())]
    if waiting := [_said(rival) for rival, found in known.items() if not any(found.values())]:
        sentences.append(f"{page.subject} against {'; '.join(waiting)}: **not run**.")
    text = "\n".join(f"- {sentence}" for sentence in sentences)
    if page.scale == "smoke":
        text += NO_EVIDENCE
    return Markdown(text)


def _said(rival: str) -> str:
    said = {"baseline": "the baseline", "longer_baseline": "the baseline of equal budget", "equal_budget": "DMKD of equal budget"}
    return {LABELS[recipe]: words for recipe, words in said.items()}.get(rival, rival)


def _sentence(subject: str, rival: str, found: Mapping[str, Estimate | None]) -> str:
    name = _said(rival)
    run = {pair: difference for pair, difference in found.items() if difference is not None}
    verdict = [stats.verdict(difference) for difference in run.values()]
    gains = ", ".join(signed(difference.mean) for difference in run.values())
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
