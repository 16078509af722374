"""What was measured on images or read off trained networks: a small JSON record for each page and scale, read without weights."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import TypeVar

from pydantic import Field, ValidationError

from dfmsd.errors import StudyError
from dfmsd.study import records
from dfmsd.study.pages import EnhancementPage, FeaturesPage, ObservedPage, SpectraPage
from dfmsd.study.spec import Frozen, RunSpec

MEASURING: dict[type[ObservedPage], tuple[str, ...]] = {
    FeaturesPage: ("report/likeness", "report/observe", "losses/masking"),
    SpectraPage: ("report/spectra", "report/fourier", "report/answers", "augment"),
    EnhancementPage: ("report/enhancement", "report/fourier", "report/answers", "losses/attention", "losses/masking", "augment"),
}
"""Modules whose code decides what is measured, by the kind of page."""

DIGITS = 4
"""Significant digits that a record keeps."""

PerImage = dict[int, tuple[float | None, ...]]
"""By stride: a value for each image, in the order of :attr:`Observation.images`; None where it is not defined."""


class Interval(Frozen):
    """A number over all images, with the 95 % percentile bootstrap interval over images."""

    value: float
    low: float
    high: float


class Looked(Frozen):
    """A network that was looked at."""

    key: str
    """Of its run."""
    weights: str
    """SHA-256 of its weights; of mmdet's published ones the first digits."""


class Values(Frozen):
    """The distribution of a level's values over all images, channels and positions."""

    mean: float
    std: float
    low: float
    high: float
    """Where the bins begin and end, the same for all networks; what lies beyond is counted in the outermost bins."""
    density: tuple[float, ...]
    """Per unit of the feature, in bins of equal width."""


class Pair(Frozen):
    """How alike two networks are; see :mod:`dfmsd.report.likeness` for each measure."""

    first: str
    second: str
    """The teacher, if the page has one."""
    maps: PerImage
    """Correlation of where the features are large."""
    masks: PerImage
    """Share of the cells hidden by the first that the second hides, too."""
    channels: dict[int, Interval]
    """Correlation channel by channel, by stride; empty where the numbers of channels differ."""
    aligned: dict[int, Interval]
    """The same after the best 1 x 1 convolution of the first, on images that did not choose it."""


class Shown(Frozen):
    """An image of the figure."""

    id: int
    size: tuple[int, int]
    """Height and width in pixels, as the networks see it."""
    boxes: tuple[tuple[float, float, float, float], ...]
    """Of its objects: x1, y1, x2, y2 in pixels."""
    jpeg: str
    """Its pixels in base 64; empty for images that are not ours to pass on."""
    maps: dict[str, tuple[tuple[float, ...], ...]]
    """By network: the mean magnitude over channels at each position of the page's level."""


class Origin(Frozen):
    """Where an observation comes from."""

    commit: str
    versions: dict[str, str]
    hardware: str
    finished: str
    data_fingerprint: str
    code_digest: str


class Seen(Frozen):
    """What every record has."""

    page: str
    scale: str
    asked: str
    """:meth:`dfmsd.study.pages.ObservedPage.asked` when it was made."""
    networks: dict[str, Looked]
    """By the page's name for each, in its order; the teacher comes last."""
    images: tuple[int, ...]
    """Ids of all images that were measured."""
    origin: Origin


class Answers(Seen):
    """What a page that measures when it is executed says to the papers' claims, so that it can be read elsewhere."""

    claims: dict[str, tuple[float | None, ...]]
    """By the claim's id: a number of each image, as the claim wants it; None where the image has no such objects."""


class Observation(Seen):
    """Everything that a page shows of its networks."""

    ratio: float
    """Share of the positions that a mask hides."""
    shown: tuple[Shown, ...]
    pairs: tuple[Pair, ...] = Field(min_length=1)
    objects: dict[str, PerImage]
    """By network: how well its magnitude tells objects from background, :func:`dfmsd.report.likeness.objectness`."""
    values: dict[str, dict[int, Values]]
    """By network and stride."""

    @property
    def strides(self) -> list[int]:
        """The levels that were compared, finest first."""
        return sorted(self.pairs[0].maps)


def rounded(value: float) -> float:
    """A number with as many digits as a record keeps.

    Example:
        >>> rounded(0.123456), rounded(123456.0)
        (0.1235, 123500.0)
    """
    return float(f"{value:.{DIGITS}g}")


def write(seen: Seen, file: Path) -> None:
    """Keep an observation; a row of numbers takes one line."""
    text = json.dumps(seen.model_dump(mode="json"), indent=1)
    compact = re.sub(r"\[\s+([^\[\]\"]*?)\s+\]", lambda row: f"[{' '.join(row[1].split())}]", text)
    records.write_atomic(file, compact + "\n")


AnySeen = TypeVar("AnySeen", bound=Seen)


def find(page: FeaturesPage) -> Observation | None:
    """A page's observation; None while there is none.

    Raises:
        StudyError: if it is damaged, or of another page.
    """
    return read(page, Observation)


def read(page: ObservedPage, kind: type[AnySeen]) -> AnySeen | None:
    """A page's record of some kind; None while there is none.

    Raises:
        StudyError: if it is damaged, or of another page.
    """
    file = page.observation()
    if not file.exists():
        return None
    mend = f"delete it and make it again: `{page.command()}`"
    try:
        seen = kind.model_validate_json(file.read_text())
    except (ValidationError, OSError, UnicodeDecodeError) as error:
        raise StudyError(f"observation {file} is damaged ({records._reason(error)}): {mend}") from None
    if (seen.page, seen.scale) != (page.page, page.scale):
        raise StudyError(f"observation {file} is of {seen.page}, {seen.scale}: it was renamed or edited; {mend}")
    return seen


def code_digest(kind: type[ObservedPage] = FeaturesPage) -> str:
    """Hash of the code that measures for a kind of page; comments and docstrings do not count."""
    return hashlib.sha256("".join(records._tree(module) for module in MEASURING[kind]).encode()).hexdigest()[:12]


def stale(seen: Seen, page: ObservedPage) -> list[str]:
    """Why an observation is not what the page would show if it were made now; empty if it is."""
    found = []
    if seen.asked != page.asked():
        found.append("the page names other networks, images or levels now")
    for name, run in page.runs().items():
        looked = seen.networks.get(name)
        if looked is None or looked.key != run.key or not isinstance(run, RunSpec):
            continue
        record = records.result(run.key)
        if record is not None and record.weights_sha256 != looked.weights:
            found.append(f"{name} was trained again since")
    if seen.origin.code_digest != code_digest(type(page)):
        found.append("the code that measures has changed since")
    return found
