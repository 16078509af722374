"""Which runs a page leaves out because they learned from another training of a teacher."""

from __future__ import annotations

from pathlib import Path

from dfmsd.report import words
from dfmsd.study import frames, pages, trainings, trials
from dfmsd.study.pages.comparison import PageSpec
from dfmsd.study.pages.tuning import TuningPage
from dfmsd.study.spec import RunSpec
from tests.fixtures_study import finish, folders, publish  # noqa: F401

RECIPES = ["baseline", "mse", "mgd", "pkd"]
GROUP = {"student": "fcos_r50", "teachers": ("gfl_r101", "gfl_x101"), "recipes": [*RECIPES, "dfmsd"]}
PAGE = PageSpec(page="table03", title="t", question="q", scale="smoke", groups=[GROUP], seeds=[0, 1])
OTHER = PageSpec(page="table06", title="t", question="q", scale="smoke", groups=[GROUP | {"student": "gfl_r50"}], seeds=[0])


def last(recipe: str, seed: int = 0, page: PageSpec = PAGE) -> RunSpec:
    return next(entry.runs[-1] for entry in page.entries if (entry.row.recipe, entry.seed) == (recipe, seed))


def taught(recipe: str, sha: str, hour: int = 0, seed: int = 0, *, local: bool = False) -> str:
    """A run that learned from a teacher with these weights; its key."""
    run = last(recipe, seed)
    made = publish(run)
    finished = made.provenance.model_copy(update={"finished": f"2026-01-01T{hour:02}:00:00+00:00"})
    assert run.stage is not None
    (finish if local else publish)(run, needed={run.stage.teacher.key: sha * 64}, provenance=finished)
    return run.key


def test_runs_with_another_training_than_most_of_their_student_and_seed_are_left_out(folders: Path) -> None:  # noqa: F811
    odd = [taught("mse", "a"), taught("mgd", "b"), taught("pkd", "b")][0]
    taught("mse", "a", seed=1)
    publish(last("baseline"))
    assert trainings.left_out() == {odd}, "with seed 1 it is the only one, and right"
    run, own = last("mse", page=OTHER), last("mse")
    assert run.stage is not None and own.stage is not None and run.stage.teacher.key == own.stage.teacher.key
    publish(run, needed={run.stage.teacher.key: "a" * 64})
    assert trainings.left_out() == {odd}, "another student is compared with rows of its own"


def test_what_a_teacher_began_with_does_not_part_students(folders: Path) -> None:  # noqa: F811
    group = GROUP | {"teachers": ("retinanet_r101", "retinanet_x101")}
    crossed = PageSpec(page="table01", title="t", question="q", scale="smoke", groups=[group], seeds=[0])
    begun = set()
    for page, sha in ((PAGE, "a"), (crossed, "b")):
        run = last("mse", page=page)
        assert run.stage is not None
        teacher = run.stage.teacher
        (start,) = teacher.needs()
        begun.add(start.key)
        publish(teacher, needed={start.key: sha * 64}, weights_sha256=sha * 64)
        publish(run, needed={teacher.key: sha * 64})
    assert len(begun) == 1 and not trainings.left_out(), "two teachers, which began with two trainings of one start"


def test_of_equally_many_the_later_ones_stay(folders: Path) -> None:  # noqa: F811
    one, other = taught("mse", "a", hour=2), taught("mgd", "b", hour=1)
    assert trainings.left_out() == {other}
    taught("mgd", "b", hour=3)
    assert trainings.left_out() == {one}


def test_of_a_run_in_both_folders_the_one_from_here_counts(folders: Path) -> None:  # noqa: F811
    odd = [taught("mse", "a"), taught("mgd", "b"), taught("pkd", "b")][0]
    assert trainings.left_out() == {odd}
    taught("mse", "b", local=True)
    assert not trainings.left_out()


def test_what_the_stage_before_learned_from_counts(folders: Path) -> None:  # noqa: F811
    first, second = next(entry.runs for entry in PAGE.entries if (entry.row.recipe, entry.seed) == ("dfmsd", 0))
    assert first.stage is not None
    weak = first.stage.teacher
    publish(first, needed={weak.key: "a" * 64}, weights_sha256="c" * 64)
    publish(second, needed={first.key: "c" * 64})
    others = [last("mse"), last("mgd")]
    for run in others:
        publish(run, needed={weak.key: "b" * 64})
    assert trainings.left_out() == {first.key, second.key}


def test_a_page_shows_no_number_of_a_run_that_is_left_out(folders: Path) -> None:  # noqa: F811
    odd = [taught("mse", "a"), taught("mgd", "b"), taught("pkd", "b")][0]
    frame = frames.frame(PAGE)
    own = frame[frame["key"] == odd]
    assert set(own["state"]) == {"other training"} and own[["value", "low", "high"]].isna().all(axis=None)
    shown = frame[(frame["source"] == "ours") & frame["value"].notna() & (frame["metric"] == "AP")]
    assert set(shown["recipe"]) == {"mgd", "pkd"}
    said = words.state([PAGE])
    assert " 1 run learned from another training " in said and f"`{odd}`" in said


def test_a_run_that_is_left_out_has_no_learning_curve_on_its_page(folders: Path) -> None:  # noqa: F811
    curve = ({"iteration": 1, "loss": 2.0}, {"iteration": 2, "loss": 1.0})
    for recipe, sha in (("mse", "a"), ("mgd", "b"), ("pkd", "b")):
        run = last(recipe)
        assert run.stage is not None
        publish(run, curve=curve, needed={run.stage.teacher.key: sha * 64})
    assert set(frames.curves(PAGE)["recipe"]) == {"mgd", "pkd"}


def test_a_method_that_waits_for_trials_that_are_left_out_says_what_to_delete(folders: Path) -> None:  # noqa: F811
    page = pages.get("shares", scale="mini")
    assert isinstance(page, TuningPage)
    assert "must be deleted first" not in trials.unsettled("mini")["mse"]
    for entry in page.entries:
        run = entry.runs[-1]
        if run.stage is not None and run.network.name == "fcos_r50" and entry.row.recipe in ("mse", "dmkd"):
            publish(run, needed={run.stage.teacher.key: ("a" if entry.row.recipe == "dmkd" else "b") * 64})
    waiting = trials.unsettled("mini")
    assert "must be deleted first" in waiting["dmkd"] and "must be deleted first" not in waiting["mse"]
