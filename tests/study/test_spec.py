"""Identity: what a run's key depends on, and what not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from dfmsd.hyper import DFMSD, MGD
from dfmsd.stages import Attack
from dfmsd.study.spec import (
    Balance,
    CocoData,
    EnhanceSpec,
    NetworkSpec,
    RunSpec,
    ScheduleSpec,
    ShapesData,
    StageSpec,
    StartSpec,
    TeacherSpec,
    Weights,
)

NETWORK = NetworkSpec(name="fcos_r50", config="fcos/a.py", overrides={"model.neck.out_channels": 64}, kind="one_stage")
TEACHER = RunSpec(
    scale="smoke",
    network=NETWORK.model_copy(update={"name": "gfl_r101"}),
    data=ShapesData(version=1, seed=7, train=16, val=8, tune=4, size=128),
    image_size=(64, 64),
    schedule=ScheduleSpec(epochs=2, batch=4, lr=0.01, warmup=0),
    seed=100,
)


def fields(run: Any) -> dict[str, Any]:
    """Its fields alone: a key that was computed is kept beside them."""
    return {name: getattr(run, name) for name in type(run).model_fields}


def changed(run: Any, place: tuple[str, ...], value: Any) -> Any:
    """The same with another value at this place, unchecked."""
    name, *rest = place
    new = changed(getattr(run, name), tuple(rest), value) if rest else value
    return type(run).model_construct(**(fields(run) | {name: new}))


WEAK, STRONG = (changed(TEACHER, ("seed",), seed) for seed in (101, 102))
ATTACK = Attack(epsilon=0.03, step=0.01, steps=5, decay=1.0, resize=0.9, diversity=0.5)
START = StartSpec(
    scale="smoke",
    backbone={"type": "ResNet", "depth": 18},
    data=ShapesData(version=1, seed=8, train=16, val=8, tune=0, size=128),
    crop=64,
    epochs=1,
    batch=8,
    lr=0.1,
    warmup=0,
    seed=0,
)
STAGE = StageSpec(
    index=1,
    teacher=TEACHER,
    methods=(MGD(), DFMSD()),
    balance=Balance(iterations=5, seed=9, teacher=STRONG),
    enhance=EnhanceSpec(weak=WEAK, theta=0.5, score=0.3, sigma=0.08, noise_probability=0.3, crop=(0.8, 1.0)),
)
STUDENT = RunSpec.model_validate(fields(TEACHER) | {"network": NETWORK, "seed": 0, "stage": STAGE})


def test_keys_are_those_of_the_first_records() -> None:
    # These literals may change only together with SPEC_VERSION: every published record is named by such a hash.
    assert TEACHER.key == "2a8661d97f66"
    # This one did: the crop became a range of sides, and a balance names the teacher that weights go by.
    assert STUDENT.key == "b86614b0634b"


@pytest.mark.parametrize(
    ("crop", "message"), [((0.9, 0.8), "smallest side 0.9 is larger than the largest, 0.8"), ((0.0, 1.0), "than 0")]
)
def test_sides_of_a_crop_that_make_no_sense_are_refused(crop: tuple[float, float], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        EnhanceSpec(weak=WEAK, theta=0.5, score=0.3, sigma=0.08, noise_probability=0.3, crop=crop)


def others(run: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each field of a specification and of those inside it, with another value."""
    for name, value in fields(run).items():
        if isinstance(value, BaseModel):
            yield from (((name, *place), other) for place, other in others(value))
        elif name in OTHERS:
            yield (name,), OTHERS[name]
        elif isinstance(value, (int, float)):
            yield (name,), not value if isinstance(value, bool) else value + 1
        elif isinstance(value, (str, tuple, dict)):
            yield (name,), value * 2 if isinstance(value, (str, tuple)) else value | {"other": 1}
        else:
            pytest.fail(f"{name} is empty: give it a value among OTHERS")


OTHERS: dict[str, Any] = {
    "images": 8,
    "start": START,
    "weights": Weights(url="https://example.org/a.pth", sha256_prefix="01234567", ap=1.0),
    "parent": changed(TEACHER, ("network",), NETWORK),
    "stage": StageSpec(index=1, teacher=WEAK, methods=(MGD(),)),
    "max_iters": 2,
    "beside": (WEAK,),
    "adversarial": ATTACK,
}
"""Values for fields that are empty."""
INSIDE: list[tuple[tuple[str, ...], Any]] = [
    (("stage",), None),
    (("stage", "balance"), None),
    (("stage", "enhance"), None),
    *((("stage", "methods"), (MGD(), method)) for method in (DFMSD(beta=1.0), DFMSD(sfa_strides=(8,)), DFMSD(adv=0.5))),
]

unchecked = pytest.mark.filterwarnings("ignore:Pydantic serializer")


@unchecked
def test_every_field_is_in_the_key() -> None:
    found = [*others(STUDENT), *INSIDE]
    assert [place for place, value in found if changed(STUDENT, place, value).key == STUDENT.key] == []


@pytest.mark.parametrize("field", Attack.model_fields)
def test_an_attacks_fields_are_in_the_key(field: str) -> None:
    attacked = changed(STUDENT, ("stage", "adversarial"), ATTACK)
    assert changed(attacked, ("stage", "adversarial", field), getattr(ATTACK, field) / 2).key != attacked.key


@unchecked
def test_every_field_of_a_start_is_in_its_key_and_reaches_the_students() -> None:
    places = list(others(START))
    assert {place[0] for place, _ in places} == set(StartSpec.model_fields)
    for place, value in places:
        other = changed(START, place, value)
        assert other.key != START.key, place
        assert changed(STUDENT, ("start",), other).key != changed(STUDENT, ("start",), START).key, place


def test_a_teacher_beside_another_is_needed_and_its_changes_reach_the_student() -> None:
    pair = changed(STUDENT, ("stage", "beside"), (WEAK,))
    assert WEAK in list(pair.needs())
    assert changed(STUDENT, ("stage", "beside"), (changed(WEAK, ("seed",), 7),)).key != pair.key


def test_a_teachers_change_reaches_the_students_of_its_students() -> None:
    def grandchild(seed: int) -> RunSpec:
        stage = StageSpec(index=1, teacher=changed(STUDENT, ("stage", "teacher", "seed"), seed), methods=(MGD(),))
        return RunSpec.model_validate(fields(TEACHER) | {"stage": stage})

    assert grandchild(100).key == grandchild(100).key != grandchild(101).key


def test_a_changed_copy_has_a_key_of_its_own() -> None:
    first = TEACHER.key  # computed before the copy is made
    assert TEACHER.model_copy(update={"seed": 1}).key != first == TEACHER.model_copy().key


def test_a_record_of_a_run_holds_no_run_inside() -> None:
    flat = STUDENT.flat()
    assert flat["stage"]["teacher"] == TEACHER.key
    assert flat["stage"]["enhance"]["weak"] == WEAK.key
    assert flat["stage"]["balance"] == {"iterations": 5, "seed": 9, "teacher": STRONG.key}
    assert flat["stage"]["methods"][1]["beta"] == DFMSD().beta  # a subclass of DMKD keeps its own fields


def test_needs_are_parent_teacher_weak_teacher_and_the_one_that_the_weights_go_by() -> None:
    assert [run.key for run in STUDENT.needs()] == [TEACHER.key, WEAK.key, STRONG.key]
    zoo = TeacherSpec(network=NETWORK, weights=Weights(url="https://example.org/a.pth", sha256_prefix="0", ap=1.0))
    fetched = changed(STUDENT, ("stage",), StageSpec(index=1, teacher=zoo, methods=(MGD(),)))
    assert list(fetched.needs()) == []


def test_stages_are_numbered_without_gaps() -> None:
    start = changed(TEACHER, ("network",), NETWORK)
    with pytest.raises(ValidationError, match="stage 2 has no parent"):
        RunSpec.model_validate(fields(start) | {"stage": STAGE.model_copy(update={"index": 2})})
    with pytest.raises(ValidationError, match="stage 3 cannot follow stage 1"):
        RunSpec.model_validate(fields(start) | {"stage": STAGE.model_copy(update={"index": 3}), "parent": STUDENT})
    with pytest.raises(ValidationError, match="the parent trained gfl_r101, not fcos_r50"):
        RunSpec.model_validate(fields(start) | {"stage": STAGE, "parent": TEACHER})
    with pytest.raises(ValidationError, match="needs a teacher and a method"):
        RunSpec.model_validate(fields(start) | {"parent": TEACHER})


def test_theta_is_a_share() -> None:
    good = EnhanceSpec(weak=WEAK, theta=1.0, score=0.3, sigma=0.08, noise_probability=0.3, crop=(0.8, 1.0))
    for theta in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValidationError, match="theta"):
            EnhanceSpec.model_validate(fields(good) | {"theta": theta})


def test_a_specification_is_frozen_and_closed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        TEACHER.seed = 1
    with pytest.raises(ValidationError, match="Extra inputs"):
        CocoData.model_validate({"digest": "0", "path": "/here"})
