"""What a page of features shows: sentences, tables, provenance, computed from its record (:mod:`dfmsd.study.measured`)."""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from statistics import quantiles

import pandas as pd
from IPython.display import Markdown
from pandas.io.formats.style import Styler

from dfmsd.errors import StudyError
from dfmsd.report import docstrings, featurefigures, likeness
from dfmsd.report.featurefigures import MEASURES, label, mean, series
from dfmsd.report.figures import Picture
from dfmsd.report.tables import NONE, below, duration, grouped, number, styled
from dfmsd.study import claims, findings, pages, plan, records, stats, zoo
from dfmsd.study import measured as observation
from dfmsd.study.claims import FigureClaim, Judgement
from dfmsd.study.measured import Interval, Observation, PerImage
from dfmsd.study.pages import FeaturesPage
from dfmsd.study.spec import RunSpec
from dfmsd.study.stats import Estimate

PerImages = tuple[float | None, ...]

TOLD = {
    "maps": (likeness.magnitude, likeness.map_correlation),
    "masks": (likeness.mask_agreement,),
    "objects": (likeness.objectness,),
    "channels": (likeness.ChannelSums,),
    "aligned": (likeness.Alignment,),
}
"""What in :mod:`dfmsd.report.likeness` defines each measure."""


def look(page: FeaturesPage) -> Observation | None:
    """The page's record; None while there is none. At the scale smoke, what it needs is trained and read off here.

    Raises:
        StudyError: if a run fails, or the record is damaged.
    """
    if page.scale != "smoke":
        return observation.find(page)
    from dfmsd.report import observe
    from dfmsd.study import ensure as study

    failed = study.ensure(page.chains(), jobs=os.cpu_count() or 1, quiet=True, weights=True).failed
    if failed:
        raise StudyError("; ".join(f"{key}: {message}" for key, message in failed.items()))
    return observe.observe(page)


def status(page: FeaturesPage, seen: Observation | None) -> Markdown:
    """What was looked at, and how far it can be trusted; or the command that looks."""
    if seen is None:
        planned = plan.plan(page.chains())
        done = sum(item.state == "done" for item in planned)
        return Markdown(
            f"**Not observed yet** at scale **{page.scale}**; {done} of the {len(planned)} runs behind it have a record, the "
            f"others take about {duration(sum(item.seconds for item in planned))}. `{page.command()}` reads the numbers off the "
            "trained networks; with `--train` it trains those that have no weights here first."
        )
    many = "s" * (len(seen.images) != 1)
    text = (
        f"Scale **{page.scale}**: numbers over {len(seen.images)} validation image{many}, one training of each network. "
        "Intervals are 95 % bootstrap intervals over images; they say nothing about other trainings."
    )
    if reasons := observation.stale(seen, page):
        text += f' <span class="flag">**Stale**: {"; ".join(reasons)}; `{page.command()}` looks again.</span>'
    if page.scale == "smoke":
        text += " *At the scale smoke these numbers mean nothing: they show that every path runs.*"
    return Markdown(text)


def claim(page: FeaturesPage) -> Markdown:
    """What the paper says."""
    return Markdown(page.claim)


def figure(page: FeaturesPage, seen: Observation | None) -> Picture | None:
    """What is drawn."""
    return None if seen is None else featurefigures.draw(page, seen)


def legend(page: FeaturesPage, seen: Observation | None) -> Markdown | None:
    """How to read the drawing."""
    if seen is None:
        return None
    if page.view == "distribution":
        return Markdown(
            "All values of a level, over images, channels and positions; what lies beyond the axis is counted in the outermost "
            "bins. Below, each network's values are brought to mean 0 and variance 1: only the shape is left."
        )
    return Markdown(
        f"Mean magnitude over channels on the level of stride {page.stride}. Every heat map has a range of its own, from dark "
        "(lowest) to bright: networks differ in the size of their features, and only the pattern is meant. The images are the "
        f"first validation images with an object of each of COCO's sizes ({', '.join(str(shown.id) for shown in seen.shown)})."
    )


def measures(page: FeaturesPage, seen: Observation | None) -> Picture | None:
    """The numbers, drawn."""
    return None if seen is None else featurefigures.measures(page, seen)


def answer(page: FeaturesPage, seen: Observation | None) -> Markdown | None:
    """What the record says, in sentences."""
    if seen is None:
        return None
    found = {"masks": _masks, "stages": _stages, "distribution": _distribution}[page.view](page, seen)
    return Markdown("\n".join(f"- {sentence}" for sentence in found))


def verdicts(page: FeaturesPage, seen: Observation | None) -> Styler | Markdown:
    """What becomes of the paper's claims about the figure."""
    own = [one for one in claims.claims() if isinstance(one, FigureClaim) and one.page == page.page]
    if not own:
        return Markdown("No claim is about this figure.")
    rows = []
    for one in own:
        judged = Judgement("not run") if seen is None else claims.settle(one, findings.features(page, seen, one.id))
        rows.append({"claim": html.escape(one.text), page.scale: judged.words, "numbers": judged.numbers})
    return styled(pd.DataFrame(rows), "claims").hide(axis="index")


def _masks(page: FeaturesPage, seen: Observation) -> list[str]:
    stride = page.stride
    chance = f" Masks that have nothing to do with each other: {seen.ratio:.2f}."
    objects = {name: one for name, found in series(page, seen, "objects").items() if (one := found.get(stride)) is not None}
    told = "; ".join(f"{name} {_shown(one)}" for name, one in objects.items())
    inverse = [name for name, one in objects.items() if one.high < 0.5]
    larger = f" Larger on the background, and hidden there first, are the features of {' and '.join(inverse)}." if inverse else ""
    return [
        f"**Maps of magnitude** correlate on stride {stride}: {_pairs(page, seen, 'maps')}",
        f"**Masks** have in common on stride {stride}: {_pairs(page, seen, 'masks')}{chance}",
        f"**Objects** stand out from the background on stride {stride}: {told}. 0.5 is chance.{larger}",
    ]


def _pairs(page: FeaturesPage, seen: Observation, kind: str) -> str:
    """Every pair on the page's level, and on how many levels pairs of different type differ from two trainings of one."""
    looks = {look.name: look.model_copy(update={"name": "", "seed": None}) for look in page.networks}
    twins = [pair for pair in seen.pairs if looks[pair.first] == looks[pair.second]]
    others = [pair for pair in seen.pairs if pair not in twins]
    text = "; ".join(f"{p.first} and {p.second} {_shown(mean(getattr(p, kind)[page.stride]))}" for p in [*others, *twins]) + "."
    if not twins:
        return text
    counts = []
    for stride in seen.strides:
        alike = getattr(twins[0], kind)[stride]
        found = [_difference(getattr(pair, kind)[stride], alike) for pair in others]
        counts.append(f"{sum(stats.verdict(one) == 'lower' for one in found)} of {len(found)} on stride {stride}")
    return f"{text} Pairs of different type that are less alike than {twins[0].first} and {twins[0].second}: {', '.join(counts)}."


def _stages(page: FeaturesPage, seen: Observation) -> list[str]:
    students = [look.name for look in page.networks if not look.teaches]
    teachers = [look.name for look in page.networks if look.teaches]
    maps: dict[str, PerImage] = {pair.first: pair.maps for pair in seen.pairs if pair.second == page.TEACHER}
    nearer, clearer = (
        ", ".join(f"{_higher(found, before, after)} ({after})" for before, after in pairwise(students))
        for found in (maps, seen.objects)
    )
    return [
        f"**Stage by stage**, out of {len(seen.strides)} levels: more like the teacher than the one before on {nearer}; "
        f"objects stand out more on {clearer}.",
        f"**Like the teacher?** The maps of magnitude correlate with the teacher's by {_course(seen, maps, students)}.",
        *_steps(seen, maps, students),
        *(
            f"{_capital(pair.first)} and {pair.second} correlate by {_course(seen, {pair.first: pair.maps}, [pair.first])}."
            for pair in seen.pairs
            if pair.second != page.TEACHER
        ),
        *(f"{_capital(name)} and {page.TEACHER}: {_course(seen, maps, [name])}." for name in teachers),
        "**Objects?** They stand out from the background by "
        f"{_course(seen, seen.objects, [*students, *teachers, page.TEACHER])}; 0.5 is chance.",
        *_steps(seen, seen.objects, students),
    ]


def _course(seen: Observation, found: Mapping[str, PerImage], names: Sequence[str]) -> str:
    return _levels(seen, names, lambda name, stride: _plain(mean(found[name][stride])))


def _levels(seen: Observation, names: Sequence[str], cell: Callable[[str, int], str]) -> str:
    """Level by level from one network to the next."""
    parts = [f"{' → '.join(cell(name, stride) for name in names)} on stride {stride}" for stride in seen.strides]
    return ", ".join(parts) + (f" ({' → '.join(names)})" if len(names) > 1 else "")


def _higher(found: Mapping[str, PerImage], before: str, after: str) -> int:
    """On how many levels one network is above another, beyond chance of the images."""
    return sum(stats.verdict(_difference(found[after][stride], found[before][stride])) == "higher" for stride in found[after])


def _steps(seen: Observation, found: Mapping[str, PerImage], names: Sequence[str]) -> list[str]:
    """Each network against the one before it, image by image."""
    return [
        f"{_capital(after)} against {before}: "
        + "; ".join(f"stride {stride} {_against(found[after][stride], found[before][stride])}" for stride in seen.strides)
        + "."
        for before, after in pairwise(names)
    ]


def _against(first: PerImages, second: PerImages) -> str:
    """The paired difference of two networks over images, in words.

    Example:
        >>> _against((0.5, 0.6, 0.7), (0.1, 0.2, 0.3))
        'higher, +0.40 [+0.40, +0.40]'
        >>> _against((0.5, None), (0.4, 0.2))
        'no test, +0.10'
    """
    found = _difference(first, second)
    if found is None:
        return NONE
    interval = "" if found.interval is None else " [" + ", ".join(map(_signed, found.interval)) + "]"
    return f"{stats.verdict(found)}, {_signed(found.mean)}{interval}"


def _difference(first: PerImages, second: PerImages) -> Estimate | None:
    values = [{place: value for place, value in enumerate(one) if value is not None} for one in (first, second)]
    return stats.difference(*values)


def _distribution(page: FeaturesPage, seen: Observation) -> list[str]:
    students = [look.name for look in page.networks if not look.teaches]
    alone = [look.name for look in page.networks if not look.teachers]
    apart = f" For {' and '.join(alone)} about 0 is to be expected: trained apart, its channels come in any order." if alone else ""
    sentences = []
    for kind, text, note in (
        ("channels", "**Channel by channel**, which is what SFA raises, student and teacher correlate by", apart),
        ("aligned", "**After the best 1 × 1 convolution**, which undoes any order and mixture of channels, they correlate by", ""),
    ):
        found = series(page, seen, kind)
        if all(found.values()):
            sentences.append(f"{text} {_levels(seen, students, _cells(found))}.{note}")
    whole = _levels(seen, students, lambda name, stride: f"{_distance(seen, name, stride, standardised=False):.2f}")
    shape = _levels(seen, students, lambda name, stride: f"{_distance(seen, name, stride, standardised=True):.2f}")
    return [
        _effect(page, seen, *students[-2:]),
        *sentences,
        f"**The distributions** are apart from the teacher's, in standard deviations, by {whole}.",
        f"**Their shapes**, once each has mean 0 and variance 1, are apart by {shape}.",
    ]


def _effect(page: FeaturesPage, seen: Observation, before: str, after: str) -> str:
    """What changes from the last network but one to the last, level by level."""
    parts = []
    for kind, text in (("channels", "correlation channel by channel"), ("aligned", "after the best 1 × 1 convolution")):
        found = series(page, seen, kind)
        if found[before] and found[after]:
            parts.append((text, [found[after][stride].value - found[before][stride].value for stride in seen.strides]))
    for standardised, text in ((False, "distance of the distributions"), (True, "distance of their shapes")):
        apart = [[_distance(seen, name, stride, standardised=standardised) for stride in seen.strides] for name in (before, after)]
        parts.append((text, [new - old for old, new in zip(*apart, strict=True)]))
    changes = "; ".join(f"{text} {', '.join(map(_signed, found))}" for text, found in parts)
    return f"**{after} against {before}**, strides {', '.join(map(str, seen.strides))}: {changes}."


def _cells(found: Mapping[str, Mapping[int, Interval]]) -> Callable[[str, int], str]:
    return lambda name, stride: _shown(found[name][stride])


def _distance(seen: Observation, name: str, stride: int, *, standardised: bool) -> float:
    return likeness.distance(seen.values[name][stride], seen.values[FeaturesPage.TEACHER][stride], standardised=standardised)


def _plain(found: Interval | None) -> str:
    return NONE if found is None else f"{found.value:.2f}".replace("-", "−")


def _shown(found: Interval | None) -> str:
    return NONE if found is None else f"{_plain(found)} [{found.low:.2f}, {found.high:.2f}]".replace("-", "−")


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def table(page: FeaturesPage, seen: Observation | None) -> Styler | None:
    """All measures of the page, level by level."""
    if seen is None:
        return None
    kinds = MEASURES[page.view]
    found = {kind: series(page, seen, kind) for kind in kinds}
    labels = list(dict.fromkeys(name for kind in kinds for name in found[kind]))
    if page.view == "distribution":
        labels = list(seen.networks)
    rows, groups, names = [], [], []
    for stride in seen.strides:
        for name in labels:
            row = {COLUMNS[kind]: _cell(found[kind].get(name, {}).get(stride)) for kind in kinds}
            if "maps" in kinds:
                row["half of the images"] = _quartiles(page, seen, name, stride)
            if page.view == "distribution":
                row |= _moments(page, seen, name, stride)
            rows.append(row)
            groups.append(f"stride {stride}")
            names.append(html.escape(name))
    caption = (
        f"Scale {page.scale}. Means over images with 95 % intervals. Half of the images: the correlation of their maps lies in this"
        " range."
    )
    if page.view == "distribution":
        caption += " Apart: Wasserstein distance to the teacher's values, as they are and standardised, in standard deviations."
    return grouped(pd.DataFrame(rows), groups, names, "measures", caption)


COLUMNS = {"maps": "maps", "masks": "masks", "objects": "objects", "channels": "channels", "aligned": "1 × 1"}


def _cell(found: Interval | None) -> str:
    if found is None:
        return NONE
    return _plain(found) + below(f"{found.low:.2f} – {found.high:.2f}".replace("-", "−"))


def _quartiles(page: FeaturesPage, seen: Observation, name: str, stride: int) -> str:
    for pair in seen.pairs:
        if label(page, pair.first, pair.second) == name:
            values = [value for value in pair.maps[stride] if value is not None]
            if len(values) > 1:
                low, _, high = quantiles(values, n=4, method="inclusive")
                return f"{low:.2f} – {high:.2f}".replace("-", "−")
    return NONE


def _moments(page: FeaturesPage, seen: Observation, name: str, stride: int) -> dict[str, str]:
    own = seen.values[name][stride]
    apart = [
        NONE if name == page.TEACHER else f"{_distance(seen, name, stride, standardised=standardised):.2f}"
        for standardised in (False, True)
    ]
    return {"mean": f"{own.mean:.2f}".replace("-", "−"), "std": f"{own.std:.2f}", "apart": apart[0], "apart, shape": apart[1]}


def defined(page: FeaturesPage) -> Markdown:
    """What each measure is."""
    functions: list[Callable[..., object]] = [one for kind in MEASURES[page.view] for one in TOLD[kind]]
    if page.view == "distribution":
        functions.append(likeness.distance)
    whole = docstrings.read(likeness)
    parts = [
        whole.text.partition("\n\n")[2],
        f"*Where this departs from the paper:* {' '.join(whole.sections['Deviations'].split())}",
    ]
    for one in functions:
        found = docstrings.read(one)
        result = f"*Result:* {found.sections['Returns']}" if "Returns" in found.sections else ""
        parts.append(f"**`{one.__name__}`.** {found.text}\n\n{result}")
    return Markdown("\n\n".join(parts))


def networks(page: FeaturesPage) -> Styler:
    """The networks with the run behind each, and its AP."""
    rows = []
    for name, run in page.runs().items():
        row = {"name": html.escape(name), "network": html.escape(zoo.label(run.network.name)), "run": "mmdet's checkpoint"}
        record = None
        if isinstance(run, RunSpec):
            record = records.result(run.key)
            row["run"] = html.escape(pages.describe(run))
        row["record"] = f'<a href="../records/{run.key}.json">{run.key}</a>' if record is not None else NONE
        row[f"AP, {page.scale}"] = number(record.metrics.get("AP")) if record is not None else NONE
        rows.append(row)
    return styled(pd.DataFrame(rows), "networks").hide(axis="index")


def provenance(page: FeaturesPage, seen: Observation | None) -> Styler | None:
    """Where the numbers come from."""
    if seen is None:
        return None
    origin, file = seen.origin, page.observation()
    facts = {
        "record": f'<a href="../records/observations/{file.name}">{file.name}</a>' if file.exists() else "made with this page",
        "images": f"{len(seen.images)} of the validation split, from {seen.images[0]} to {seen.images[-1]}",
        "data": f"fingerprint {origin.data_fingerprint}",
        "weights": ", ".join(f"{html.escape(name)} {looked.weights[:12]}" for name, looked in seen.networks.items()),
        "commit": origin.commit,
        "hardware": html.escape(origin.hardware),
        "versions": ", ".join(f"{name} {version}" for name, version in origin.versions.items()),
    }
    frame = pd.DataFrame({"": facts.keys(), "these numbers": facts.values()})
    return styled(frame, "provenance").hide(axis="index").hide(axis="columns")
