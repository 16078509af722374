"""Which chain of runs a row stands for, and which rows are refused."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from dfmsd.errors import StudyError
from dfmsd.study import plan, scales
from dfmsd.study.rows import Options, Row, chain, check, teacher_of
from dfmsd.study.spec import RunSpec, ShapesData, StartSpec, TeacherSpec

MINI = scales.get("mini")
PAIR = ("gfl_r101", "gfl_x101")


def row(recipe: str = "dfmsd", student: str = "fcos_r50", teachers: tuple[str, ...] = PAIR, **options: Any) -> Row:
    return Row(student=student, teachers=teachers, recipe=recipe, options=Options(**options))


def teachers_of(runs: tuple[RunSpec, ...]) -> list[str]:
    return [run.stage.teacher.network.name for run in runs if run.stage]


def test_dfmsd_is_a_stage_for_each_teacher_each_on_the_one_before() -> None:
    first, second = chain(row(), MINI, seed=0)
    assert teachers_of((first, second)) == list(PAIR)
    assert first.parent is None
    assert second.parent == first


def test_one_stage_recipes_use_the_strongest_teacher_and_the_baseline_none() -> None:
    for recipe in ("mgd", "dmkd"):
        assert teachers_of(chain(row(recipe), MINI, seed=0)) == ["gfl_x101"]
    assert teachers_of(chain(row(sal=False), MINI, seed=0)) == ["gfl_x101"] * 2
    (baseline,) = chain(row("baseline"), MINI, seed=0)
    assert baseline.stage is None


@pytest.mark.parametrize("length", [0.5, 1.0, 2.0])
def test_every_row_trains_as_long_whatever_its_stages(length: float) -> None:
    whole = length * MINI.schedule.epochs
    for recipe, options in (("baseline", {}), ("dmkd", {}), ("dfmsd", {}), ("dfmsd", {"sal": False})):
        assert sum(run.schedule.epochs for run in chain(row(recipe, length=length, **options), MINI, seed=0)) == whole


def test_a_row_may_have_more_labelled_images() -> None:
    assert MINI.images is not None
    runs = chain(row(images=4.0), MINI, seed=0)
    assert {run.images for run in runs} == {4 * MINI.images}
    for teacher in (teacher for run in runs if run.stage for teacher in run.stage.teachers):
        assert isinstance(teacher, RunSpec) and teacher.images == MINI.teacher_images_of(teacher.network.name)
    gpu = scales.get("gpu")
    assert isinstance(gpu.data, ShapesData)
    assert chain(row("baseline", images=0.5), gpu, seed=0)[0].images == gpu.data.train // 2
    with pytest.raises(StudyError, match="the number of training images of coco is not known"):
        chain(row("baseline", images=0.5), scales.get("coco"), seed=0)
    with pytest.raises(ValueError, match="labelled images were asked for, but the data have"):
        chain(row("baseline", images=1000.0), MINI, seed=0)


@pytest.mark.parametrize(
    ("me", "on"), [("last", [False, True]), ("first", [True, False]), ("all", [True, True]), ("none", [False, False])]
)
def test_masking_enhancement_is_in_the_stages_that_the_options_name(me: str, on: list[bool]) -> None:
    runs = chain(row(me=me), MINI, seed=0)
    enhanced = [run.stage.enhance for run in runs if run.stage]
    assert [found is not None for found in enhanced] == on
    assert all(found.weak.network.name == "gfl_r101" for found in enhanced if found)


def test_each_part_can_be_switched_off_and_makes_another_run() -> None:
    whole = chain(row(), MINI, seed=0)[-1].key
    others = [
        chain(row(**change), MINI, seed=0)[-1].key
        for change in ({"sfa": False}, {"me": "none"}, {"sal": False}, {"theta": 0.4}, {"hyper": {"tau": 0.6}}, {"inherit": True})
    ]
    assert len({whole, *others}) == 7


def test_a_teacher_is_one_run_whichever_student_it_serves() -> None:
    runs = plan.order(chain(row(student=student), MINI, seed) for student in ("fcos_r50", "faster_rcnn_r50") for seed in (0, 1))
    kinds = [type(run).__name__ if isinstance(run, StartSpec) or run.stage else "teacher" for run in runs]
    # Three backbones: the students', and one for each teacher.
    assert Counter(kinds) == {"StartSpec": 3, "teacher": 2, "RunSpec": 2 * 2 * 2}


def test_students_of_each_seed_have_teachers_trained_anew_and_all_seeds_have_one_weight() -> None:
    first, second, third, other = (chain(row(), MINI, seed) for seed in (*MINI.seeds, 7))
    taught_by = [[one.stage.teacher.seed for one in runs] for runs in (first, second, third, other)]
    assert taught_by == [[100] * 2, [1100] * 2, [2100] * 2, [100] * 2]
    assert [runs[-1].stage.enhance.weak.seed for runs in (first, second)] == [100, 1100]
    assert len({runs[0].stage.balance.teacher.key for runs in (first, second, third)}) == 1


def test_coco_takes_mmdets_teachers_and_a_rehearsal_takes_none() -> None:
    coco = scales.get("coco")
    assert isinstance(teacher_of("gfl_r101", coco), TeacherSpec)
    assert isinstance(teacher_of("gfl_r101", coco.rehearse(2)), RunSpec)


def test_a_rehearsal_fetches_nothing_and_is_not_the_run_it_rehearses() -> None:
    coco = scales.get("coco")
    (plain,) = chain(row("dmkd", "retinanet_r50", ("retinanet_r101",)), coco, seed=0)
    (rehearsed,) = chain(row("dmkd", "retinanet_r50", ("retinanet_r101",)), coco.rehearse(2), seed=0)
    assert plain.network.overrides == {}
    assert rehearsed.network.overrides == {"model.backbone.init_cfg": None, "model.test_cfg.score_thr": 0.0}
    assert rehearsed.schedule.max_iters == 2
    assert rehearsed.key != plain.key


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (row("dmdk"), "unknown method 'dmdk': did you mean 'dmkd'?"),
        (row(student="fcos_r5"), "unknown detector 'fcos_r5': did you mean 'fcos_r50'?"),
        (row(teachers=("gfl_r110",)), "unknown detector 'gfl_r110': did you mean 'gfl_r101'?"),
        (row(teachers=()), "dfmsd of fcos_r50 has an empty list of teachers: name at least one"),
        (row(teachers=("fcos_r50",)), "fcos_r50 is its own teacher: take another one"),
        (row(teachers=("gfl_r101", "gfl_r101")), "name a teacher twice"),
        (row(teachers=PAIR[::-1]), "the stages gfl_x101 -> gfl_r101 are out of order"),
        (row("fgd + pdk"), "unknown method 'pdk': did you mean 'pkd'?"),
        (row("fgd + baseline"), "recipe 'fgd + baseline': baseline is a recipe of its own, only methods can be joined"),
        (row(teachers=("gfl_r101 + gfl_x10",)), "unknown detector 'gfl_x10': did you mean 'gfl_x101'?"),
        (row("crosskd"), "crosskd cannot teach fcos_r50 by gfl_x101: it needs two dense heads of one type"),
        (row("crosskd", "faster_rcnn_r50"), "these are faster_rcnn and gfl"),
    ],
)
def test_rows_that_make_no_sense_are_refused(wrong: Row, message: str) -> None:
    with pytest.raises(StudyError) as caught:
        check(wrong)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_methods_joined_in_a_recipe_share_one_stage_with_hyper_parameters_of_their_own() -> None:
    (run,) = chain(row("fgd + pkd", hyper={"fgd.tau": 0.7, "pkd.levels": 2}), MINI, seed=0)
    assert run.stage is not None
    fgd, pkd = run.stage.methods
    assert (fgd.type, fgd.tau, pkd.type, pkd.levels) == ("FGD", 0.7, "PKD", 2)
    with pytest.raises(StudyError, match=r"hyper-parameter 'tau' of 'fgd \+ pkd': say whose it is, such as fgd.tau"):
        chain(row("fgd + pkd", hyper={"tau": 0.7}), MINI, seed=0)


def test_teachers_joined_in_a_stage_teach_at_the_same_time() -> None:
    first, second = chain(row(teachers=("gfl_r101 + retinanet_r101", "gfl_x101")), MINI, seed=0)
    assert first.stage is not None and second.stage is not None
    assert [teacher.network.name for teacher in first.stage.teachers] == ["gfl_r101", "retinanet_r101"]
    assert len(second.stage.teachers) == 1
    assert second.stage.enhance is not None
    assert second.stage.enhance.weak == first.stage.teacher


def test_papers_values_go_by_student_teacher_and_family() -> None:
    def method(recipe: str, student: str, teacher: str) -> Any:
        (run,) = chain(row(recipe, student, (teacher,)), scales.get("coco"), seed=0)
        assert run.stage is not None
        return run.stage.methods[0]

    assert method("fgd", "fcos_r50", "gfl_x101").tau == 0.8
    assert method("fgd", "retinanet_r50", "gfl_x101").alpha == 1e-3
    assert method("fgd", "faster_rcnn_r50", "gfl_x101").lam == 5e-7
    assert method("pkd", "retinanet_r50", "faster_rcnn_r50").alpha == 6
    assert method("pkd", "faster_rcnn_r50", "gfl_x101").alpha == 10
    assert method("dfmsd", "retinanet_r50", "faster_rcnn_r50").sfa == 6
    assert method("crosskd", "gfl_r101", "gfl_x101").reg == 4


def test_adversarial_examples_are_in_the_last_stage_with_the_weight_beta() -> None:
    first, second = chain(row(adversarial=True), MINI, seed=0)
    assert first.stage is not None and second.stage is not None
    assert first.stage.adversarial is None
    assert first.key == chain(row(), MINI, seed=0)[0].key, "the first stage is the default's own"
    assert second.stage.adversarial is not None
    assert second.stage.methods[0].adv == second.stage.methods[0].beta > 0
    assert chain(row(), MINI, seed=0)[-1].key != second.key


@pytest.mark.parametrize("options", [{"times": {"beta": 2.0}}, {"hyper": {"enhanced_masked": True}}])
def test_what_changed_images_alone_decide_leaves_the_first_stage_as_it_is(options: dict[str, Any]) -> None:
    first, second = chain(row(**options), MINI, seed=0)
    assert first.key == chain(row(), MINI, seed=0)[0].key
    assert second.key != chain(row(), MINI, seed=0)[1].key


def test_teachers_of_two_kinds_cannot_teach_at_the_same_time() -> None:
    with pytest.raises(
        StudyError, match=r"^retinanet_r101 \+ faster_rcnn_r101 cannot teach at the same time: a method's values differ"
    ):
        chain(row("mgd", teachers=("retinanet_r101 + faster_rcnn_r101",)), MINI, seed=0)


def test_stages_may_be_out_of_order_when_that_is_asked_for() -> None:
    runs = chain(row(teachers=PAIR[::-1]).model_copy(update={"any_order": True}), MINI, seed=0)
    assert teachers_of(runs) == list(PAIR[::-1])


def test_an_unknown_hyper_parameter_is_refused_with_the_nearest() -> None:
    with pytest.raises(StudyError, match="DMKD has no hyper-parameter 'taw': did you mean 'tau'"):
        chain(row("dmkd", hyper={"taw": 1.0}), MINI, seed=0)


def test_a_hyper_parameter_out_of_range_is_refused_in_one_line() -> None:
    with pytest.raises(StudyError, match=r"spatial_ratio = 1.5: Input should be less than or equal to 1") as caught:
        chain(row("dmkd", hyper={"spatial_ratio": 1.5}), MINI, seed=0)
    assert "\n" not in str(caught.value)


def test_each_stage_may_have_all_epochs() -> None:
    assert [run.schedule.epochs for run in chain(row(epochs="each"), MINI, seed=0)] == [MINI.schedule.epochs] * 2
