"""What a page of features says, from records that were made up."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import papermill
import pytest

from dfmsd.errors import StudyError
from dfmsd.report import featurefigures
from dfmsd.report import features as featurepage
from dfmsd.study import measured as observation
from dfmsd.study import pages, paths
from dfmsd.study.pages import FeaturesPage
from tests import fixtures_features as features

STAGES: tuple[dict[str, Any], ...] = (
    {"name": "baseline", "network": "fcos_r50"},
    {"name": "taught", "network": "fcos_r50", "teachers": ["gfl_r101", "gfl_x101"], "recipe": "dfmsd", "stage": 1},
    {"name": "taught twice", "network": "fcos_r50", "teachers": ["gfl_r101", "gfl_x101"], "recipe": "dfmsd"},
)
WEAK: dict[str, Any] = {"name": "weak", "network": "gfl_r101", "teaches": True}
APART: tuple[dict[str, Any], ...] = (*features.TWINS, {"name": "third", "network": "retinanet_r50"})


@pytest.fixture(autouse=True)
def own_folders(folders: Path) -> None:
    """Runs and records of the test's own."""


def stages(**changes: Any) -> FeaturesPage:
    return features.page(networks=STAGES, **({"scale": "mini"} | changes))


def test_a_network_is_the_student_after_its_stage() -> None:
    page = stages()
    first, second = (page.runs()[name] for name in ("taught", "taught twice"))
    assert first == second.parent  # type: ignore[union-attr]
    assert [runs[-1].key for runs in page.chains()] == [run.key for run in page.runs().values()]
    assert page.pairs() == [("baseline", "teacher"), ("taught", "teacher"), ("taught twice", "teacher")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"networks": [STAGES[0] | {"stages": 1}]}, "unknown parameter 'networks.0.stages': did you mean 'stage'?"),
        ({"networks": [STAGES[0] | {"stage": 2}]}, "'baseline': stage = 2, but baseline has 1 here"),
        ({"networks": [STAGES[0], STAGES[0]]}, "two networks have one name"),
        ({"networks": [STAGES[0]], "teacher": None}, "a comparison needs two networks"),
        ({"networks": [STAGES[0] | {"network": "fcos_r5"}]}, "unknown detector 'fcos_r5': did you mean 'fcos_r50'?"),
        ({"networks": [*STAGES, WEAK | {"stage": 1}]}, "'weak' is a teacher: it has no stage"),
        ({"networks": [STAGES[0] | {"like": "weka"}, WEAK]}, "'baseline' is like 'weka': did you mean 'weak'?"),
        ({"teacher": "gfl_x10"}, "unknown detector 'gfl_x10': did you mean 'gfl_x101'?"),
        ({"view": "stage"}, "view = 'stage'"),
    ],
)
def test_a_wrong_page_is_refused_in_one_line(change: dict[str, Any], message: str) -> None:
    fields = {"page": "mine", "title": "", "question": "", "view": "stages", "claim": "", "networks": STAGES, "teacher": "gfl_x101"}
    with pytest.raises(StudyError) as caught:
        pages.validate(FeaturesPage, fields | change)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_without_a_record_the_page_says_how_to_make_it() -> None:
    page = stages()
    seen = featurepage.look(page)
    assert seen is None
    text = featurepage.status(page, seen).data
    assert text.startswith(
        "**Not observed yet** at scale **mini**; 0 of the 5 runs behind it have a record, the others take about "
    )
    assert "`python -m dfmsd observe mine --scale mini`" in text and "`--train`" in text
    for show in (
        featurepage.answer,
        featurepage.figure,
        featurepage.legend,
        featurepage.measures,
        featurepage.table,
        featurepage.provenance,
    ):
        assert show(page, seen) is None


def test_a_stale_record_is_shown_and_marked() -> None:
    page = stages()
    observation.write(features.seen(page), page.observation())
    assert "Stale" not in featurepage.status(page, featurepage.look(page)).data
    more = stages(images=5)
    text = featurepage.status(more, featurepage.look(more)).data
    assert "**Stale**: the page names other networks, images or levels now; `python -m dfmsd observe mine --scale mini`" in text


def test_stages_are_told_one_after_the_other() -> None:
    page = stages()
    seen = features.seen(page, maps={"baseline": 0.2, "taught": 0.6, "taught twice": 0.5})
    short, like, first, second, about, *_ = featurepage.answer(page, seen).data.splitlines()  # type: ignore[union-attr]
    assert "like the teacher than the one before on 2 (taught), 0 (taught twice); objects stand out more on 0 (taught)" in short
    assert "0.20 → 0.60 → 0.50 on stride 8, 0.20 → 0.60 → 0.50 on stride 16 (baseline → taught → taught twice)" in like
    assert "Taught against baseline: stride 8 higher, +0.40 [+0.40, +0.40]; stride 16 higher" in first
    assert "Taught twice against taught: stride 8 lower, −0.10 [−0.10, −0.10]" in second
    assert "0.80 → 0.80 → 0.80 → 0.80 on stride 8" in about and "teacher)" in about


def test_a_stage_is_set_beside_its_own_teacher() -> None:
    page = features.page(networks=(STAGES[0], STAGES[1] | {"like": "weak"}, WEAK), scale="mini")
    assert page.pairs() == [("baseline", "teacher"), ("taught", "teacher"), ("weak", "teacher"), ("taught", "weak")]
    assert page.runs()["weak"] == page.runs()["taught"].stage.teacher  # type: ignore[union-attr]
    text = featurepage.answer(page, features.seen(page, maps={"weak": 0.3})).data  # type: ignore[union-attr]
    assert "0.50 → 0.50 on stride 8, 0.50 → 0.50 on stride 16 (baseline → taught)." in text
    assert "Taught and weak correlate by 0.50 on stride 8" in text
    assert "Weak and teacher: 0.30 on stride 8" in text
    assert set(featurefigures.series(page, features.seen(page), "maps")) == {"baseline", "taught", "weak", "taught and weak"}


def test_sfa_is_told_channel_by_channel_and_aligned() -> None:
    page = stages(view="distribution")
    text = featurepage.answer(page, features.seen(page, maps={"baseline": 0.1, "taught": 0.6})).data  # type: ignore[union-attr]
    assert "taught twice against taught**, strides 8, 16: correlation channel by channel −0.05, −0.05; after the" in text
    assert "best 1 × 1 convolution +0.00, +0.00; distance of the distributions +0.00, +0.00; distance of their shapes +0.00" in text
    assert "0.05 [0.00, 0.10] → 0.30 [0.25, 0.35] → 0.25 [0.20, 0.30] on stride 8" in text
    assert "For baseline about 0 is to be expected" in text
    assert text.count("0.60 [0.55, 0.65]") == 6, "three networks, two levels"
    assert "apart from the teacher's, in standard deviations, by 0.00 → 0.00 → 0.00 on stride 8" in text


def test_networks_of_other_widths_have_no_channels_to_compare() -> None:
    page = stages(view="distribution")
    seen = features.seen(page)
    bare = seen.model_copy(update={"pairs": tuple(pair.model_copy(update={"channels": {}}) for pair in seen.pairs)})
    text = featurepage.answer(page, bare).data  # type: ignore[union-attr]
    assert "Channel by channel" not in text and "After the best 1 × 1" in text
    assert set(featurepage.table(page, bare).data["channels"]) == {"", "–"}  # type: ignore[union-attr]
    assert "not defined" in featurepage.measures(page, bare).alt  # type: ignore[union-attr]


def test_types_are_set_against_two_trainings_of_one() -> None:
    page = features.page(view="masks", networks=APART, teacher=None)
    seen = features.seen(page)
    twins = seen.pairs[0].model_copy(update={"maps": dict.fromkeys((8, 16), (0.9, 0.9, 0.9, 0.9))})
    background = dict.fromkeys((8, 16), (0.1, 0.2, 0.3, None))
    changed = {"pairs": (twins, *seen.pairs[1:]), "objects": seen.objects | {"third": background}}
    maps, masks, objects = featurepage.answer(page, seen.model_copy(update=changed)).data.splitlines()  # type: ignore[union-attr]
    assert "one and third 0.50 [0.49, 0.51]; other and third 0.50 [0.49, 0.51]; one and other 0.90 [0.90, 0.90]." in maps
    assert "less alike than one and other: 2 of 2 on stride 8, 2 of 2 on stride 16" in maps
    assert "less alike than one and other: 0 of 2 on stride 8" in masks and "each other: 0.65" in masks
    assert "one 0.80 [0.79, 0.81]; " in objects and "hidden there first, are the features of third." in objects


@pytest.mark.parametrize("view", featurefigures.MEASURES)
def test_every_view_is_drawn_with_words_and_numbers(view: str) -> None:
    page = features.page(view="masks", networks=APART, teacher=None) if view == "masks" else stages(view=view)
    seen = features.seen(page)
    for drawn in (featurepage.figure(page, seen), featurepage.measures(page, seen)):
        assert drawn is not None and drawn.svg.startswith("<?xml")
        assert drawn.alt.endswith(".") and len(drawn.alt) > 100
        assert all(name in drawn.alt for name in page.runs() if name != page.TEACHER)
    assert featurepage.figure(page, seen) == featurepage.figure(page, seen), "one record gives one drawing"
    table = featurepage.table(page, seen)
    assert table is not None and len(table.data) > 4
    assert featurepage.legend(page, seen) is not None
    assert featurepage.provenance(page, seen) is not None
    assert ".. math" not in featurepage.defined(page).data and "$$" in featurepage.defined(page).data


def test_what_a_params_file_leaves_out_is_the_same_in_the_notebook() -> None:
    said = papermill.inspect_notebook(str(paths.NOTEBOOKS / "features.ipynb"))
    for name, field in FeaturesPage.model_fields.items():
        if not field.is_required() and name != "scale":
            assert ast.literal_eval(said[name]["default"]) == field.default, name


def test_networks_without_a_record_are_listed_too() -> None:
    frame = featurepage.networks(stages()).data
    assert list(frame["name"]) == ["baseline", "taught", "taught twice", "teacher"]
    assert set(frame["record"]) == {"–"} and set(frame["AP, mini"]) == {"–"}


def test_a_view_can_be_had_at_coco_with_the_published_teacher() -> None:
    page = stages(scale="coco")
    frame = featurepage.networks(page).data
    assert list(frame["run"])[-1] == "mmdet's checkpoint"
    assert len(page.chains()) == 3, "nothing of the teacher is to be trained"


def test_colours_are_those_of_the_methods() -> None:
    found = featurefigures.colours(stages())
    assert found["baseline"] == "#555555" and found["taught twice"] == "#d55e00" and found["taught"] != found["taught twice"]


def test_an_image_that_is_not_ours_is_grey() -> None:
    shown = features.seen(stages()).shown[0]
    assert featurefigures.pixels(shown).shape == (3, 64, 64)
    assert featurefigures.pixels(shown.model_copy(update={"jpeg": ""})).unique().tolist() == [127.0]


def test_claims_about_the_figure_have_their_verdicts() -> None:
    page = stages(page="fig04")
    seen = features.seen(page, maps={"baseline": 0.2, "taught": 0.6, "taught twice": 0.5})
    frame = featurepage.verdicts(page, seen).data
    assert frame["mini"].tolist() == ["undecided, points to holds", *["undecided, points to fails"] * 3]
    assert "stride 8 +0.4 [+0.4, +0.4], stride 16 +0.4 [+0.4, +0.4] of correlation (4 images, one training" in frame["numbers"][0]
    assert set(featurepage.verdicts(page, None).data["mini"]) == {"not run"}
    assert featurepage.verdicts(stages(), None).data == "No claim is about this figure."
