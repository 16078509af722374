"""Hyper-parameters: the papers' values, and bounds."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from dfmsd.methods import DFMSD, DMKD, METHODS, MGD, Kind, for_student


def test_mgd_has_its_papers_values() -> None:
    one, two = for_student("mgd", "one_stage"), for_student("mgd", "two_stage")
    assert (one.alpha, one.ratio) == (2e-5, 0.65)
    assert (two.alpha, two.ratio) == (5e-7, 0.45)


def test_dfmsd_weighs_enhanced_images_half_as_much() -> None:
    for kind in ("one_stage", "two_stage"):
        method = for_student("dfmsd", kind)
        assert method.beta == pytest.approx(method.alpha / 2)


def test_dfmsd_is_dmkd_with_more() -> None:
    dmkd = DMKD().model_dump()
    assert {name: value for name, value in DFMSD().model_dump().items() if name in dmkd} == dmkd | {"type": "DFMSD"}


def test_a_change_wins_over_the_papers_value() -> None:
    assert for_student("mgd", "two_stage", ratio=0.1).ratio == 0.1


@pytest.mark.parametrize(("field", "value"), [("ratio", 1.1), ("ratio", -0.1), ("alpha", -1.0), ("alpha", "much"), ("beta", 1.0)])
def test_values_that_make_no_sense_are_refused(field: str, value: object) -> None:
    with pytest.raises(ValidationError):
        MGD.model_validate({field: value})


@pytest.mark.parametrize("kind", ["one_stage", "two_stage"])
@pytest.mark.parametrize("name", METHODS)
def test_the_module_of_a_method_takes_its_fields(name: str, kind: Kind) -> None:
    from mmdet.registry import MODELS

    import dfmsd.losses  # noqa: F401

    spec = for_student(name, kind)
    built = MODELS.build(spec.model_dump() | {"strides": [8, 16], "channels_s": 16, "channels_t": 32})
    assert type(built).__name__ == spec.type
