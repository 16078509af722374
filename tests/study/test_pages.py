"""Pages as their YAML has them, and what is said when one is wrong."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from dfmsd.errors import StudyError
from dfmsd.report import contents
from dfmsd.study import build, pages, paths, scales, zoo
from dfmsd.study.pages import PageSpec
from dfmsd.study.rows import check

GROUP = {"student": "fcos_r50", "teachers": ["gfl_r101", "gfl_x101"], "recipes": ["baseline", "dfmsd"]}
GOOD = {"page": "mine", "title": "Mine", "question": "Why?", "groups": [GROUP]}
NAMED = {"recipe": "dfmsd", "name": "other"}


def recipe(own: Any) -> dict[str, Any]:
    return {"groups": [GROUP | {"recipes": [own]}]}


@pytest.mark.parametrize("name", pages.names())
def test_every_page_of_the_study_is_right(name: str) -> None:
    page = pages.get(name)
    assert page.page == name
    keys = [run.key for runs in page.chains() for run in runs]
    assert all(len(key) == 12 for key in keys)


def chapters(found: dict[str, Any]) -> list[str]:
    return [chapter["file"] for part in found["parts"] for chapter in part["chapters"]]


def test_every_page_is_in_the_books_contents_once() -> None:
    listed = chapters(contents.contents())
    assert len(listed) == len(set(listed))
    # The one notebook that is a page by itself, with no file in params/.
    assert {name.removeprefix("pages/") for name in listed if name.startswith("pages/")} == {*pages.names(), "explore"}


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(paths.PARAMS, tmp_path / "params")
    monkeypatch.setattr(paths, "PARAMS", tmp_path / "params")
    return tmp_path / "params"


def test_a_page_is_one_file_and_the_book_finds_its_place(params: Path) -> None:
    (params / "ablation" / "mine.yaml").write_text(yaml.safe_dump(GOOD))
    listed = chapters(contents.contents())
    assert listed[listed.index("pages/mine") - 1] == "pages/table11", "after the last that its notebook makes"
    assert len(listed) == len(chapters(yaml.safe_load((paths.book() / "_toc.yml").read_text()))) + 1
    assert contents.place()("mine") == contents.place()("table11") + 1


def test_two_pages_of_one_name_are_refused(params: Path) -> None:
    (params / "comparison" / "table11.yaml").write_text(yaml.safe_dump(GOOD | {"page": "table11"}))
    with pytest.raises(StudyError, match=r"^params/ablation and params/comparison both have a page table11: rename one$"):
        pages.names()


def test_table03_is_complete() -> None:
    page = pages.get("table03", seeds=[0])
    assert isinstance(page, PageSpec)
    rows = [(row.student, row.teachers[0].split("_")[0], row.recipe) for row in page.rows()]
    # DFMSD with and without the first stage.
    recipes = ("baseline", "longer_baseline", "mse", "mgd", "dmkd", "equal_budget", "dfmsd", "dfmsd")
    groups = (("faster_rcnn_r50", "retinanet"), ("fcos_r50", "retinanet"), ("fcos_r50", "gfl"))
    assert rows == [(student, teacher, recipe) for student, teacher in groups for recipe in recipes]
    keys = [entry.runs[-1].key for entry in page.entries()]
    assert len(set(keys)) == len(keys) - 2, "FCOS's baselines stand in two groups and are one run each"


def test_scale_and_seeds_can_be_given() -> None:
    page = pages.get("table03", scale="smoke", seeds=[3, 4])
    assert isinstance(page, PageSpec)
    assert {(entry.seed, entry.runs[-1].scale) for entry in page.entries()} == {(3, "smoke"), (4, "smoke")}


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
        (
            {"groups": [GROUP | {"options": {"theta": -1}}]},
            "groups.0.options.theta = -1: Input should be greater than or equal to 0",
        ),
        (recipe("mdg"), "unknown method 'mdg': did you mean 'mgd'?"),
        ({"groups": [GROUP | {"teachers": []}]}, "empty list of teachers"),
        ({"groups": [GROUP | {"teachers": ["fcos_r50"]}]}, "fcos_r50 is its own teacher"),
        ({"groups": [GROUP | {"teachers": ["gfl_x101", "gfl_r101"]}]}, "out of order"),
        ({"groups": []}, "groups = []"),
        (
            {"groups": [GROUP | {"recipes": [NAMED | {"options": {"tetha": 0.3}}]}]},
            "recipes.0.options.tetha': did you mean 'theta'?",
        ),
        (
            {"groups": [GROUP | {"recipes": [NAMED | {"options": {"theta": 3}}]}]},
            "recipes.0.options.theta = 3: Input should be less",
        ),
        (recipe(NAMED | {"options": {"me": "lst"}}), "options.me = 'lst': Input should be 'last'"),
        (recipe({"recipe": "dfmsd", "nmae": "x"}), "parameter 'groups.0.recipes.0.name' is missing"),
        (
            {"groups": [GROUP | {"recipes": [NAMED | {"nmae": "y"}]}]},
            "unknown parameter 'groups.0.recipes.0.nmae': did you mean 'name'?",
        ),
        (recipe(3), "groups.0.recipes.0 = 3"),
        ({"seeds": [0, -1]}, "seeds.1 = -1: Input should be greater than or equal to 0"),
        ({"seeds": [0, 0]}, "a seed stands there twice"),
        ({"seeds": []}, "seeds = []"),
        ({"scale": "huge"}, "scale = 'huge'"),
        ({"title": None}, "title = None"),
    ],
)
def test_a_wrong_page_is_refused_in_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError) as caught:
        pages.spec(**(GOOD | change))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_parameter_is_named() -> None:
    with pytest.raises(StudyError, match="the parameter 'question' is missing"):
        pages.spec(**{name: value for name, value in GOOD.items() if name != "question"})


def test_an_unknown_page_is_refused_with_the_nearest() -> None:
    with pytest.raises(StudyError, match="unknown page 'tabel03': did you mean 'table03'"):
        pages.get("tabel03")


CROSSKD = {"recipe": "crosskd", "name": "", "impossible": "its heads differ"}


def test_a_row_that_cannot_be_run_keeps_its_place() -> None:
    groups = [GROUP | {"recipes": ["baseline", CROSSKD, "dfmsd"]}]
    page = pages.spec(**(GOOD | {"groups": groups, "seeds": [0]}))
    assert [entry.place for entry in page.entries()] == [0, 2]
    row = page.rows()[1]
    assert isinstance(row, pages.Impossible)
    assert (row.recipe, row.reason, row.teachers) == ("crosskd", "its heads differ", ("gfl_r101", "gfl_x101"))


def test_a_row_may_be_possible_at_other_scales() -> None:
    recipe = {"recipe": "dfmsd", "name": "inherited", "options": {"inherit": True}, "impossible": "narrow", "possible_at": ["gpu"]}
    groups = [GROUP | {"recipes": [recipe]}]
    possible = [scale for scale in scales.PUBLIC if pages.spec(**(GOOD | {"groups": groups, "scale": scale})).entries()]
    assert possible == ["gpu"]


@pytest.mark.parametrize("scale", ["smoke", *scales.PUBLIC])
def test_rows_that_cannot_be_run_really_cannot(scale: str) -> None:
    for page in pages.comparisons(scale):
        for row in page.rows():
            narrow = row.options.inherit and _neck(row.student, scale) != _neck(row.teachers[0], scale)
            if not isinstance(row, pages.Impossible):
                assert not narrow, (page.page, row)
            elif not narrow:
                with pytest.raises(StudyError, match="crosskd cannot teach"):
                    check(row)


def _neck(name: str, scale: str) -> Any:
    """Widths that a network's neck takes, where they are not mmdet's."""
    return zoo.network(name, scale).overrides.get("model.neck.in_channels")


@pytest.mark.parametrize("student", ["fcos_r50", "retinanet_r50"])
def test_levels_matched_by_index_need_pyramids_that_differ(student: str) -> None:
    recipe = {"recipe": "dfmsd", "name": "by index", "options": {"matching": "index"}}
    with pytest.raises(StudyError, match=f"index changes nothing for {student} <- gfl_r101 -> gfl_x101, whose levels"):
        pages.spec(**(GOOD | {"groups": [GROUP | {"student": student, "recipes": [recipe]}]}))
    pages.spec(**(GOOD | {"groups": [GROUP | {"student": "faster_rcnn_r50", "recipes": [recipe]}]}))


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


TABLES = [page for page in pages.comparisons("mini") if not isinstance(page, pages.SensitivityPage)]


@pytest.mark.parametrize("page", TABLES, ids=lambda page: page.page)
def test_beside_staged_rows_stands_the_same_budget(page: PageSpec) -> None:
    staged = {(row.student, row.teachers) for row in page.rows() if row.recipe == "dfmsd" and row.options.sal}
    for control in ("equal_budget", "longer_baseline"):
        assert staged <= {(row.student, row.teachers) for row in page.rows() if row.recipe == control}, control


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "mine.yaml must hold lines of 'parameter: value'"),
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
    assert pages.describe(page.chains()[-1][-1]) == "FCOS R50 <- GFL X101, DFMSD, stage 2 with ME, 12 epochs, seed 2"


def test_what_a_row_changes_is_in_the_words_of_its_run() -> None:
    found = [pages.describe(chain[-1]) for chain in pages.get("structural", seeds=[0]).chains()[:7]]
    assert found[1] == "RetinaNet R50 <- RetinaNet R101, SSIM (alpha 1.0, distance l1), 12 epochs, seed 0"
    assert found[3] == "RetinaNet R50 <- RetinaNet R101, SSIM (alpha 1.0, luminance 0, contrast 0), 12 epochs, seed 0"
    assert found[6] == "RetinaNet R50 <- RetinaNet R101, SSIM, 12 epochs, seed 0"
