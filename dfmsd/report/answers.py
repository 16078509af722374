"""What the pages of Figs. 5 to 7 say to the papers' claims: measured when they are executed, kept for the scoreboard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dfmsd.report import enhancement as attending
from dfmsd.report import spectra
from dfmsd.report.enhancement import CROP, HIGH, IMAGE, LOW, NOISE, Attended
from dfmsd.report.spectra import Spectra
from dfmsd.study import data, provenance, stats
from dfmsd.study import measured as observation
from dfmsd.study.measured import Answers, rounded
from dfmsd.study.pages import EnhancementPage, SpectraPage
from dfmsd.study.scales import get
from dfmsd.study.stats import Estimate


@dataclass(frozen=True)
class Contrast:
    """Where a claim of the paper says that some objects are attended to more."""

    size: str
    """Of the objects."""
    version: str
    """In which they are claimed to be attended to more."""
    rival: str
    """Than in this one."""
    below: bool | None = None
    """In the images that small objects dominate, in the others, or in all."""


CONTRASTS = {
    "frequencies": {"f5-small": Contrast("small", HIGH, LOW), "f5-large": Contrast("large", LOW, HIGH)},
    "augmentation": {"f7-noise": Contrast("small", NOISE, IMAGE, True), "f7-crop": Contrast("large", CROP, IMAGE, False)},
}
"""What answers a claim about attention, by the page's view and the claim's id."""


def change(found: Attended, contrast: Contrast, column: str) -> Estimate | None:
    """By how much ``attention`` or ``hidden`` is higher, image by image; None if no image has such objects."""
    values, rival = (found.values(name, contrast.size, column, below=contrast.below) for name in (contrast.version, contrast.rival))
    return stats.difference(values, rival)


def attention(found: Attended) -> dict[str, Mapping[int, float]]:
    """How much more attention some objects get, by claim and image."""
    changes = {name: change(found, one, "attention") for name, one in CONTRASTS[found.page.view].items()}
    return {name: {} if one is None else one.values for name, one in changes.items()}


def power(found: Spectra) -> dict[str, Mapping[int, float]]:
    """What a flip changes at most, and which share of the power noise and crops move, by claim and image."""
    before, after = found.profiles[spectra.AS_IS], found.profiles[spectra.FLIP]
    flipped = np.nanmax(np.abs(after / before - 1), axis=1).tolist()

    def points(version: str, sign: int) -> dict[int, float]:
        return {image: 100 * sign * value for image, value in found.change(version).values.items()}

    return {
        "f6-flip": dict(enumerate(flipped)),
        "f6-noise": points(spectra.NOISE, -1),
        "f6-crop": points(spectra.CROP, 1),
        "f6-crop-enlarged": points(spectra.ENLARGED, 1),
    }


def run(page: SpectraPage | EnhancementPage) -> Path:
    """Measure, and keep the record with the published ones; returns its file.

    Raises:
        StudyError: if a teacher's weights are not here, or the page cannot be measured.
    """
    provenance.check_weights(page)
    found = attention(attending.measure(page)) if isinstance(page, EnhancementPage) else power(spectra.measure(page))
    scale = get(page.scale)
    root = data.ensure(scale.data)
    _, indices = spectra.images_of(scale, page.images)
    ids = provenance.image_ids(root.val)
    seen = Answers(
        page=page.page,
        scale=page.scale,
        asked=page.asked(),
        networks=provenance.looked(page),
        images=tuple(ids[index] for index in indices),
        claims={name: tuple(_kept(values.get(index)) for index in indices) for name, values in found.items()},
        origin=provenance.origin(page, root),
    )
    observation.write(seen, page.observation())
    return page.observation()


def _kept(value: float | None) -> float | None:
    return None if value is None else rounded(value)
