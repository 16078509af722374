"""Hyper-parameters: the papers' values, and bounds."""

from __future__ import annotations

import ast
import inspect
import re
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from dfmsd.hyper import DFMSD, DMKD, METHODS, MGD, Kind, for_pair
from dfmsd.report import floors
from dfmsd.study import pages, paths, records, scales

if TYPE_CHECKING:
    from dfmsd.losses import Method


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


@pytest.mark.parametrize(("field", "value"), [("ratio", 1.1), ("ratio", -0.1), ("alpha", -1.0), ("alpha", "much"), ("beta", 1.0)])
def test_values_that_make_no_sense_are_refused(field: str, value: object) -> None:
    with pytest.raises(ValidationError):
        MGD.model_validate({field: value})


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


@pytest.mark.parametrize("kind", ["one_stage", "two_stage"])
@pytest.mark.parametrize("name", METHODS)
def test_the_module_of_a_method_takes_its_fields(name: str, kind: Kind) -> None:
    spec = for_pair(name, kind)
    assert type(built(spec)).__name__ == spec.type


def built(spec: Any) -> Method:
    from mmdet.registry import MODELS

    import dfmsd.losses  # noqa: F401

    module: Method = MODELS.build(dict(spec) | {"strides": [8, 16], "channels_s": 16, "channels_t": 32})
    return module


def weights_of(name: str) -> set[str]:
    """The hyper-parameters that weigh a method's terms."""

    def weights(**changes: float) -> list[float]:
        module = built(METHODS[name](**changes))
        return [module.weight(term).item() for term in module.term_names]

    numbers = {field: value for field, value in METHODS[name]() if isinstance(value, float)}
    return {field for field, value in numbers.items() if weights(**{field: value / 2}) != weights()}


def neighbours(name: str) -> set[str]:
    """The modules of dfmsd/losses that one of them imports, and what these import."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((paths.PACKAGE / "losses" / f"{name}.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "dfmsd.losses":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dfmsd.losses."):
            found.add(str(node.module).rpartition(".")[2])
    return found.union(*map(neighbours, found))


@pytest.mark.parametrize("name", METHODS)
def test_a_method_has_all_that_belongs_to_it(name: str) -> None:
    """What book/extend.md asks for; a method that lacks a part is told which."""
    from dfmsd.report import anatomy, docstrings, figures
    from dfmsd.report import methods as methodpage

    module = methodpage.module_of(name)
    assert re.search(r"arXiv \d{4}\.\d{5}|[A-Z]{2,} \d{4}", module.__doc__ or ""), (
        "its docstring names no source: arXiv id or venue"
    )
    keys = docstrings.citations(module)
    assert keys, "its docstring cites nothing"
    assert all(methodpage.title_of(key) for key in keys)
    own = [value for value in vars(module).values() if inspect.isfunction(value) and value.__module__ == module.__name__]
    assert any(docstrings.read(function).equations for function in own), "no function carries its equation"
    assert (paths.ROOT / f"tests/losses/test_{name}.py").exists()
    page = pages.get(name)
    assert isinstance(page, pages.MethodPage)
    assert (pages.file_of(name).parent.name, page.method) == ("method", name)
    assert any(docstrings.read(function).equations for function in methodpage.functions(page).values())
    assert "{cite:p}" in page.idea or name == "mse"
    assert anatomy.draw.dispatch(METHODS[name]) is not anatomy.draw.dispatch(object), "no drawing in dfmsd/report/anatomy.py"
    assert name in figures.COLOURS and name in pages.LABELS
    assert (name in floors.PASSES) != (name in floors.LEFT_OUT), "dfmsd/report/floors.py tells neither its passes nor why not"
    for scale in ("smoke", "mini"):
        assert weights_of(name) <= set(scales.get(scale).methods.get(name, {})), f"no shares at {scale} in params/scales.yaml"
    shared = neighbours(name) - {shared.removeprefix("losses/") for shared in records.DISTILLATION}
    assert set(records.SHARED.get(METHODS[name].__name__, ())) == shared, "dfmsd/study/records.py: SHARED is not what it imports"
