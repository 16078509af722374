"""Pages as their YAML has them, and what is said when one is wrong."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from dfmsd.errors import StudyError
from dfmsd.study import build, pages, paths, plan, scales, zoo
from dfmsd.study.pages.comparison import PageSpec, SensitivityPage
from dfmsd.study.pages.networks import Stride
from dfmsd.study.rows import Impossible, Row, chain, check
from tests.fixtures_coco import pets

GROUP = {"student": "fcos_r50", "teachers": ["gfl_r101", "gfl_x101"], "recipes": ["baseline", "dfmsd"]}
GOOD = {"page": "mine", "title": "Mine", "question": "Why?", "groups": [GROUP]}
NAMED = {"recipe": "dfmsd", "name": "other"}


def recipe(own: Any) -> dict[str, Any]:
    return {"groups": [GROUP | {"recipes": [own]}]}


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(paths.PARAMS, tmp_path / "params")
    monkeypatch.setattr(paths, "PARAMS", tmp_path / "params")
    return tmp_path / "params"


def test_a_page_is_one_file(params: Path) -> None:
    (params / "ablation" / "mine.yaml").write_text(yaml.safe_dump(GOOD))
    assert "mine" in pages.names()
    assert pages.get("mine").chains() == PageSpec(**GOOD).chains()


def test_two_pages_of_one_name_are_refused(params: Path) -> None:
    (params / "comparison" / "table11.yaml").write_text(yaml.safe_dump(GOOD | {"page": "table11"}))
    with pytest.raises(StudyError, match=r"^params/ablation and params/comparison both have a page table11: rename one$"):
        pages.names()


def test_a_page_may_be_about_a_users_own_data(params: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DFMSD_DATA", str(tmp_path / "data"))
    file = pets(tmp_path / "mine", train=6, val=2)
    own = GOOD | {"scale": "smoke", "data": str(file)}
    (params / "comparison" / "mine.yaml").write_text(yaml.safe_dump(own))
    page = pages.get("mine")
    runs = [run for chain in page.chains() for run in chain]
    assert {run.data.source for run in runs} == {"own"}
    assert {teacher.data.source for run in runs if run.stage for teacher in run.stage.teachers} == {"own"}
    assert {run.key for run in runs}.isdisjoint(
        run.key for chain in PageSpec(**GOOD | {"scale": "smoke"}).chains() for run in chain
    )
    assert "mine" not in [other.page for other in pages.comparisons("smoke")], "the gates and claims are about the study's data"
    with pytest.raises(StudyError, match=r"none\.yaml is no file: name a YAML"):
        PageSpec(**own | {"data": "none.yaml"}).chains()


def test_table03_is_complete() -> None:
    page = pages.get("table03", seeds=[0])
    assert isinstance(page, PageSpec)
    rows = [(row.student, row.teachers[0].split("_")[0], row.recipe) for row in page.rows()]
    # DFMSD whole, and less each of its parts.
    recipes = ("baseline", "mse", "ssim", "mgd", "dmkd", *["dfmsd"] * 4)
    groups = (("faster_rcnn_r50", "retinanet"), ("fcos_r50", "retinanet"), ("fcos_r50", "gfl"))
    assert rows == [(student, teacher, recipe) for student, teacher in groups for recipe in recipes]
    keys = [entry.runs[-1].key for entry in page.entries]
    assert len(set(keys)) == len(keys) - 1, "FCOS's baseline stands in two groups and is one run"


def test_scale_and_seeds_can_be_given() -> None:
    page = pages.get("table03", scale="smoke", seeds=[3, 4])
    assert isinstance(page, PageSpec)
    assert {(entry.seed, entry.runs[-1].scale) for entry in page.entries} == {(3, "smoke"), (4, "smoke")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sedes": [0]}, "unknown parameter 'sedes': did you mean 'seeds'?"),
        ({"groups": [GROUP | {"teacher": "x"}]}, "unknown parameter 'groups.0.teacher': did you mean 'teachers'?"),
        ({"groups": [GROUP | {"options": {"tetha": 0.5}}]}, "unknown parameter 'groups.0.options.tetha': did you mean 'theta'?"),
        (
            {"groups": [GROUP | {"options": {"theta": 1.5}}]},
            "groups.0.options.theta = 1.5: Input should be less than or equal to 1",
        ),
        (recipe("mdg"), "unknown method 'mdg': did you mean 'mgd'?"),
        (recipe(NAMED | {"options": {"tetha": 0.3}}), "recipes.0.options.tetha': did you mean 'theta'?"),
        (recipe(NAMED | {"options": {"me": "lst"}}), "options.me = 'lst': Input should be 'last'"),
        (recipe({"recipe": "dfmsd", "nmae": "x"}), "parameter 'groups.0.recipes.0.name' is missing"),
        (recipe(NAMED | {"nmae": "y"}), "unknown parameter 'groups.0.recipes.0.nmae': did you mean 'name'?"),
        (recipe(3), "groups.0.recipes.0 = 3"),
        ({"seeds": [0, -1]}, "seeds.1 = -1: Input should be greater than or equal to 0"),
        ({"seeds": [0, 0]}, "a seed stands there twice"),
        ({"scale": "huge"}, "scale = 'huge'"),
        ({"title": "<b>"}, "title = '<b>': a title is in places where a theme takes it for HTML: leave out < and >"),
        ({"groups": [GROUP | {"options": {"times": {"alpha": float("inf")}}}]}, "alpha = inf: Input should be a finite number"),
        ({"groups": [GROUP | {"options": {"length": float("nan")}}]}, "length = nan: Input should be"),
        ({"groups": [GROUP | {"options": {"length": 1e9}}]}, "length = 1000000000.0: Input should be less than or equal to 100"),
        ({"table": 99}, "the paper has no table 99: valid are"),
        ({"seeds": [float("nan")]}, "seeds.0 = nan: Input should be a finite number"),
        ({"groups": [GROUP | {"teachers": {"a": ["b"] * 99}}]}, "groups.0.teachers = {'a': ['b', 'b'"),
    ],
)
def test_a_wrong_page_is_refused_in_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError) as caught:
        pages.validate(PageSpec, GOOD | change)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


CROSSKD = {"recipe": "crosskd", "name": "", "impossible": "its heads differ"}


def test_a_row_that_cannot_be_run_keeps_its_place() -> None:
    groups = [GROUP | {"recipes": ["baseline", CROSSKD, "dfmsd"]}]
    page = PageSpec(**(GOOD | {"groups": groups, "seeds": [0]}))
    assert [entry.place for entry in page.entries] == [0, 2]
    row = page.rows()[1]
    assert isinstance(row, Impossible)
    assert (row.recipe, row.reason, row.teachers) == ("crosskd", "its heads differ", ("gfl_r101", "gfl_x101"))


def test_a_row_may_be_possible_at_other_scales() -> None:
    recipe = {"recipe": "dfmsd", "name": "inherited", "options": {"inherit": True}, "impossible": "narrow", "possible_at": ["gpu"]}
    groups = [GROUP | {"recipes": [recipe]}]
    possible = [scale for scale in scales.PUBLIC if PageSpec(**(GOOD | {"groups": groups, "scale": scale})).entries]
    assert possible == ["gpu"]


@pytest.mark.parametrize("scale", ["smoke", *scales.PUBLIC])
def test_rows_that_cannot_be_run_really_cannot(scale: str) -> None:
    for page in pages.comparisons(scale):
        for row in page.rows():
            narrow = row.options.inherit and _neck(row.student, scale) != _neck(row.teachers[0], scale)
            if not isinstance(row, Impossible):
                assert not narrow, (page.page, row)
            elif not narrow:
                with pytest.raises(StudyError, match="crosskd cannot teach"):
                    check(row)


def _neck(name: str, scale: str) -> Any:
    """Widths that a network's neck takes, where they are not mmdet's."""
    return zoo.network(name, scale).overrides.get("model.neck.in_channels")


def test_levels_matched_by_index_need_pyramids_that_differ() -> None:
    by_index = GROUP | {"recipes": [{"recipe": "dfmsd", "name": "by index", "options": {"matching": "index"}}]}
    with pytest.raises(StudyError, match="index changes nothing for FCOS R50 taught by GFL R101, then GFL X101, whose levels"):
        pages.validate(PageSpec, GOOD | {"groups": [by_index]})
    PageSpec(**(GOOD | {"groups": [by_index | {"student": "faster_rcnn_r50"}]}))


@pytest.mark.parametrize("scale", ["smoke", *scales.PUBLIC])
def test_networks_of_one_kind_have_the_same_strides(scale: str) -> None:
    """What the refusal above relies on."""
    strides: dict[str, set[tuple[int, ...]]] = {}
    for name in zoo.names():
        network = zoo.network(name, scale)
        config = build.model_config(network, 10)
        head = config.get("rpn_head") or config.bbox_head
        generator = head.get("anchor_generator") or head.get("prior_generator") or {}
        strides.setdefault(network.kind, set()).add(tuple(generator.get("strides") or head.get("strides") or head.point_strides))
    assert all(len(found) == 1 for found in strides.values())
    assert {stride for found in strides.values() for own in found for stride in own} == set(get_args(Stride))


def test_beside_staged_rows_stand_an_untaught_and_a_masked_one_of_equal_length() -> None:
    for page in pages.comparisons("mini"):
        lengths = {
            recipe: {
                (entry.row.student, entry.row.teachers, sum(run.schedule.epochs for run in entry.runs))
                for entry in page.entries
                if entry.row.recipe == recipe
            }
            for recipe in ("baseline", "dmkd", "dfmsd")
        }
        assert isinstance(page, SensitivityPage) or lengths["dfmsd"] <= lengths["baseline"] & lengths["dmkd"], page.page


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "mine.yaml must hold lines"),
        ("page: [", "mine.yaml is not YAML"),
        (yaml.safe_dump(GOOD | {"page": "yours"}), "mine.yaml says page: yours; it must be mine"),
    ],
)
def test_a_params_file_that_is_no_page_is_refused(text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "PARAMS", tmp_path)
    (tmp_path / "comparison").mkdir()
    (tmp_path / "comparison" / "mine.yaml").write_text(text)
    with pytest.raises(StudyError) as caught:
        pages.get("mine")
    assert message in str(caught.value)


def test_a_run_is_described_in_words() -> None:
    page = pages.get("table03", seeds=[2])
    end = f"{scales.get('mini').schedule.epochs // 2} epochs, seed 2"
    assert [plan.describe(run) for run in page.chains()[-1]] == [
        f"FCOS R50 taught by GFL R101: DFMSD, stage 1, {end}",
        f"FCOS R50 taught by GFL R101, then GFL X101: DFMSD, stage 2 with ME, {end}",
    ]
    two = Row(student="fcos_r50", teachers=("gfl_r101 + gfl_x101",), recipe="mgd")
    assert plan.describe(chain(two, scales.get("mini"), 0)[0]).startswith("FCOS R50 taught by GFL R101 + GFL X101: MGD, ")


def test_what_a_row_changes_is_in_the_words_of_its_run() -> None:
    epochs = scales.get("mini").schedule.epochs
    found = [plan.describe(chain[-1]) for chain in pages.get("structural", seeds=[0]).chains()[:8]]
    assert found[2] == f"RetinaNet R50 taught by RetinaNet R101: SSIM (alpha 1.0, distance l1), {epochs} epochs, seed 0"
    assert found[4] == f"RetinaNet R50 taught by RetinaNet R101: SSIM (alpha 1.0, luminance 0, contrast 0), {epochs} epochs, seed 0"
    assert found[7] == f"RetinaNet R50 taught by RetinaNet R101: SSIM, {epochs} epochs, seed 0"


NOTEBOOK = GOOD | {"scale": None, "seeds": None, "jobs": 0}
"""The variables of a notebook, after its cell of parameters."""


def test_a_notebook_is_the_page_of_its_parameters() -> None:
    made = {"In": [""], "_": 3, "study": yaml, "get_ipython": print}
    assert pages.page("comparison", NOTEBOOK | made) == PageSpec(**GOOD)
    assert pages.page("comparison", NOTEBOOK | {"scale": "smoke"}).scale == "smoke"


@pytest.mark.parametrize(
    ("given", "seeds"), [(0, (0,)), ("0", (0,)), ("[0, 200]", (0, 200)), ("0,200", (0, 200)), ([0, 200], (0, 200)), (None, None)]
)
def test_papermill_may_give_one_seed_or_several(given: object, seeds: tuple[int, ...] | None) -> None:
    page = pages.page("comparison", NOTEBOOK | {"seeds": given})
    assert isinstance(page, PageSpec) and page.seeds == seeds


@pytest.mark.parametrize(
    ("notebook", "change", "message"),
    [
        ("comparison", {"sedes": 0}, "comparison.ipynb has no parameter 'sedes': did you mean 'seeds'?"),
        ("comparison", {"page": "table11"}, "page 'table11' is of notebooks/ablation.ipynb, not of comparison.ipynb"),
        ("comparison", {"seeds": "0, x"}, "seeds.1 = 'x'"),
        ("comparison", {"seeds": True}, "seeds = True"),
        ("comparison", {"jobs": "two"}, "jobs = 'two': 0 reads records"),
        ("comparison", {"jobs": -1}, "jobs = -1"),
        ("comparison", {"scale": "huge"}, "scale = 'huge'"),
        ("tuning", {}, "tuning.ipynb has no parameter 'groups'"),
        ("sensitivity", {"vary": ["thta"]}, "a row has no option 'thta': did you mean 'theta'?"),
    ],
)
def test_wrong_parameters_of_a_notebook_are_refused_in_one_line(notebook: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError) as caught:
        pages.page(notebook, NOTEBOOK | change)
    assert message in str(caught.value)
    assert caught.value._render_traceback_() == [f"StudyError: {caught.value}"]
