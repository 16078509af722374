"""Hyper-parameters: the papers' values, and bounds."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from dfmsd import losses
from dfmsd.hyper import DFMSD, DMKD, METHODS, for_pair
from dfmsd.losses import Method
from dfmsd.study import scales

ROOT = Path(__file__).parents[1]


def test_mgd_has_its_papers_values() -> None:
    one, two = for_pair("mgd", "one_stage"), for_pair("mgd", "two_stage")
    assert (one.alpha, one.ratio) == (2e-5, 0.65)
    assert (two.alpha, two.ratio) == (5e-7, 0.45)


def test_dfmsd_weighs_enhanced_images_half_as_much() -> None:
    for kind in ("one_stage", "two_stage"):
        method = for_pair("dfmsd", kind)
        assert method.beta == pytest.approx(method.alpha / 2)


def test_dfmsd_is_dmkd_with_more() -> None:
    dmkd = DMKD().model_dump()
    assert {name: value for name, value in DFMSD().model_dump().items() if name in dmkd} == dmkd | {"type": "DFMSD"}


def test_a_change_wins_over_the_papers_value() -> None:
    assert for_pair("mgd", "two_stage", ratio=0.1).ratio == 0.1


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("amd", {"hide": "high"}, "'highest', 'lowest' or 'random'"),
        ("amd", {"hide": "random", "threshold": 1.0}, "no attention to compare with threshold: leave it out"),
        ("dmkd", {"hide": "random", "channel_threshold": 1.0}, "no attention to compare with channel_threshold: leave it out"),
        ("dmkd", {"spatial_threshold": 0.0}, "greater than 0"),
        ("dfmsd", {"hide": "random", "enhanced_masked": True}, "enhanced_masked counts what the teacher's attention hides"),
    ],
)
def test_masks_that_contradict_themselves_are_refused(name: str, fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        METHODS[name].model_validate(fields)


def test_a_switch_at_its_default_is_left_out_of_the_key() -> None:
    """Records made before the switch was there keep their keys."""
    assert not {"hide", "reduction", "spatial_threshold", "channel_threshold", "threshold"} & set(DFMSD().model_dump())
    assert DFMSD(hide="lowest").model_dump()["hide"] == "lowest"


def test_every_method_has_one_specification_and_one_module() -> None:
    modules = {kind for kind in vars(losses).values() if isinstance(kind, type) and issubclass(kind, Method)} - {Method}
    assert {kind.name: kind.__name__ for kind in modules} == {name: model.__name__ for name, model in METHODS.items()}
    assert all(model().type == model.__name__ for model in METHODS.values())  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", METHODS)
def test_a_module_holds_the_numbers_of_its_specification(name: str) -> None:
    spec = for_pair(name, "two_stage", strides=(8, 16))
    module = getattr(losses, METHODS[name].__name__)(channels_s=16, channels_t=32, **dict(spec))
    assert module.spec == spec
    assert {term: module.weight(term).item() for term in module.WEIGHTS} == pytest.approx(
        {term: getattr(spec, field) for term, field in module.WEIGHTS.items()}
    )


@pytest.mark.parametrize("name", METHODS)
def test_a_method_has_all_that_belongs_to_it(name: str) -> None:
    """What book/extend.md asks for; a method that lacks a part is told which."""
    module = importlib.import_module(f"dfmsd.losses.{name}")
    source = module.__doc__ or ""
    assert re.search(r"arXiv \d{4}\.\d{5}|[A-Z]{2,} \d{4}", source), "its docstring names no source: arXiv id or venue"
    bibliography = (ROOT / "book/references.bib").read_text()
    cited = re.findall(r":cite:p:`(\w+)`", source)
    assert cited and all(f"{{{key}," in bibliography for key in cited), "its docstring cites nothing of book/references.bib"
    own = [value for value in vars(module).values() if inspect.isfunction(value) and value.__module__ == module.__name__]
    assert any(".. math::" in (function.__doc__ or "") for function in own), "no function carries its equation"
    for file in (f"tests/losses/test_{name}.py", f"book/methods/{name}.md"):
        assert (ROOT / file).exists(), f"there is no {file}"
    weights = set(getattr(losses, METHODS[name].__name__).WEIGHTS.values())
    optional = {field for field, info in METHODS[name].model_fields.items() if info.default == 0}
    for scale in ("smoke", "mini"):
        assert weights - optional <= set(scales.get(scale).methods.get(name, {})), f"no shares at {scale}"


def test_every_page_of_a_method_has_a_method() -> None:
    assert {page.stem for page in (ROOT / "book/methods").glob("*.md")} - {"shared"} == set(METHODS)
