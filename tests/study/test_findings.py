"""What figures say to claims, from records that were made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dfmsd.errors import StudyError
from dfmsd.report import likeness
from dfmsd.study import claims, findings, pages
from dfmsd.study import measured as observation
from dfmsd.study.claims import FigureClaim
from dfmsd.study.measured import Answers, Looked, Values
from dfmsd.study.pages import EnhancementPage, FeaturesPage
from tests import fixtures_features as features

STAGES: tuple[dict[str, Any], ...] = (
    {"name": "baseline", "network": "fcos_r50"},
    {"name": "taught", "network": "fcos_r50", "teachers": ["gfl_r101", "gfl_x101"], "recipe": "dfmsd", "stage": 1},
    {"name": "taught twice", "network": "fcos_r50", "teachers": ["gfl_r101", "gfl_x101"], "recipe": "dfmsd"},
    {"name": "weak", "network": "gfl_r101", "teaches": True},
)


@pytest.fixture(autouse=True)
def own_folders(folders: Path) -> None:
    """Runs and records of the test's own."""


def means(page: FeaturesPage, seen: observation.Observation, claim: str) -> dict[str, float]:
    return {level: round(one.mean, 4) for level, one in findings.features(page, seen, claim).numbers.items()}


def test_claims_about_looks_into_networks_are_those_that_are_answered() -> None:
    own = [one.id for one in claims.claims() if isinstance(one, FigureClaim) and isinstance(pages.get(one.page), FeaturesPage)]
    assert set(own) == set(findings.FEATURES)


@pytest.mark.parametrize("claim", [one for one in claims.claims() if isinstance(one, FigureClaim)], ids=lambda claim: claim.id)
def test_a_claim_about_a_look_is_answered_for_its_page(claim: FigureClaim) -> None:
    page = pages.get(claim.page)
    if isinstance(page, FeaturesPage):
        found = findings.features(page, features.seen(page), claim.id)
        assert list(found.numbers) == ["stride 8", "stride 16"] and not found.tested
        assert found.about == "4 images, one training of each network"
    assert findings.find(page, claim.id) is None  # type: ignore[arg-type]


def test_types_are_set_against_two_trainings_of_one() -> None:
    """The twins are alike by 0.9, the pairs of different type by 0.5: 0.4 less. The last image has no value."""
    page = features.page(view="masks", networks=(*features.TWINS, {"name": "third", "network": "retinanet_r50"}), teacher=None)
    seen = features.seen(page)
    twins = seen.pairs[0].model_copy(update={"maps": dict.fromkeys((8, 16), (0.9, 0.9, 0.9, 0.9))})
    seen = seen.model_copy(update={"pairs": (twins, *seen.pairs[1:])})
    assert means(page, seen, "f1-maps") == {"stride 8": 0.4, "stride 16": 0.4}
    assert means(page, seen, "f1-masks") == {"stride 8": 0.0, "stride 16": 0.0}
    assert sorted(findings.features(page, seen, "f1-maps").numbers["stride 8"].values) == [0, 1, 2]


def test_each_stage_is_set_against_the_one_before() -> None:
    page = features.page(networks=STAGES, scale="mini")
    seen = features.seen(page, maps={"baseline": 0.2, "taught": 0.6, "taught twice": 0.5})
    assert means(page, seen, "f4-teacher-1") == {"stride 8": 0.4, "stride 16": 0.4}
    assert means(page, seen, "f4-teacher-2") == {"stride 8": -0.1, "stride 16": -0.1}
    clearer = seen.model_copy(update={"objects": seen.objects | {"taught twice": dict.fromkeys((8, 16), (0.9, 1.0, 0.9, None))}})
    assert means(page, clearer, "f4-objects-1") == {"stride 8": 0.0, "stride 16": 0.0}
    assert means(page, clearer, "f4-objects-2") == {
        "stride 8": pytest.approx(0.1333, abs=1e-4),
        "stride 16": pytest.approx(0.1333, abs=1e-4),
    }


def test_alignment_is_the_last_student_against_the_one_before() -> None:
    """Channels correlate by half of what the fixture is told; distributions are one bin apart, and then none."""
    page = features.page(networks=STAGES[:3], view="distribution", scale="mini")
    seen = features.seen(page, maps={"taught": 0.2, "taught twice": 0.8})
    assert means(page, seen, "f8-channels") == {"stride 8": 0.3, "stride 16": 0.3}
    assert findings.features(page, seen, "f8-channels").numbers["stride 8"].interval is None
    teacher, apart = (
        Values(mean=0.0, std=2.0, low=-2.0, high=2.0, density=density) for density in ((0.5, 0.5, 0.0, 0.0), (0.0, 0.5, 0.5, 0.0))
    )
    values = {"baseline": apart, "taught": apart, "taught twice": teacher, "teacher": teacher}
    moved = seen.model_copy(update={"values": {name: dict.fromkeys((8, 16), own) for name, own in values.items()}})
    assert means(page, moved, "f8-distributions") == {"stride 8": 0.5, "stride 16": 0.5}


def test_networks_of_other_widths_have_no_channels_to_compare() -> None:
    page = features.page(networks=STAGES[:3], view="distribution", scale="mini")
    seen = features.seen(page)
    bare = seen.model_copy(update={"pairs": tuple(pair.model_copy(update={"channels": {}}) for pair in seen.pairs)})
    assert findings.features(page, bare, "f8-channels").numbers == {}


def test_the_distance_is_that_of_the_page() -> None:
    random = np.random.default_rng(0)
    for _ in range(5):
        one, other = (
            Values(mean=m, std=s, low=-3.0, high=5.0, density=tuple(random.random(60).tolist())) for m, s in random.random((2, 2))
        )
        assert findings.distance(one, other) == pytest.approx(likeness.distance(one, other, standardised=False))


def answers(page: EnhancementPage, **changes: Any) -> Answers:
    """A record of a page's own claims."""
    fields = {
        "page": page.page,
        "scale": page.scale,
        "asked": page.asked(),
        "networks": {name: Looked(key=run.key, weights="") for name, run in page.runs().items()},
        "images": (3, 4, 5, 6),
        "claims": {"f5-small": (0.1, None, 0.2, 0.3), "f5-large": (None,) * 4},
        "origin": features.seen(features.page()).origin.model_copy(update={"code_digest": observation.code_digest(type(page))}),
    }
    return Answers.model_validate(fields | changes)


def test_a_record_answers_with_the_images_that_have_such_objects() -> None:
    page = pages.get("fig05")
    assert isinstance(page, EnhancementPage)
    observation.write(answers(page), page.observation())
    found = findings.find(page, "f5-small")
    assert found is not None and found.tested
    assert found.numbers[""].values == {0: 0.1, 2: 0.2, 3: 0.3}
    assert found.about == "3 images, one training of the teacher"
    empty = findings.find(page, "f5-large")
    assert empty is not None and claims.settle(claims.of_figure("f5-large"), empty).verdict == "not run"
    assert claims.look(claims.of_figure("f5-small"), "mini").words == "holds"
    assert findings.find(page, "f5-later") is None, "a record from before there was such a claim"


def test_a_stale_record_is_marked() -> None:
    page = pages.get("fig05")
    assert isinstance(page, EnhancementPage)
    observation.write(answers(page, asked="0" * 12), page.observation())
    assert claims.look(claims.of_figure("f5-small"), "mini").stale
    observation.write(answers(page), page.observation())
    assert not claims.look(claims.of_figure("f5-small"), "mini").stale


def test_what_a_page_does_not_measure_is_refused() -> None:
    with pytest.raises(StudyError, match="claim f4-objets-1: page mine does not measure it: did you mean 'f4-objects-1'"):
        findings.find(features.page(), "f4-objets-1")
