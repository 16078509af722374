"""Planning: every run once, in order, with its state, fast and without torch."""

from __future__ import annotations

import json

import pytest

from dfmsd.study import files, pages, paths, plan, records
from dfmsd.study.spec import RunSpec, StartSpec
from tests.fixtures_study import baseline, distilled, finish, folders, publish, record, smoke  # noqa: F401

pytestmark = pytest.mark.usefixtures("folders")


def states(chains: list[tuple[RunSpec, ...]]) -> dict[str, str]:
    return {item.run.key: item.state for item in plan.plan(chains)}


def test_shared_runs_are_planned_once_and_after_what_they_need() -> None:
    chains = [runs for name in pages.names() for runs in pages.get(name).chains()]
    runs = plan.order(chains)
    keys = [run.key for run in runs]
    assert len(keys) == len(set(keys))
    for place, run in enumerate(runs):
        assert {needed.key for needed in run.needs()} <= set(keys[:place])
    teachers = {run.key for run in runs if isinstance(run, RunSpec) and run.stage is None and run.seed == 100}
    starts = [run for run in runs if isinstance(run, StartSpec)]
    assert 0 < len(starts) < len(teachers)
    assert len(teachers) < sum(1 for chain in chains for run in chain if getattr(run, "stage", None))


def test_a_run_goes_from_missing_to_done() -> None:
    run = baseline()
    assert run.start is not None
    start = {run.start.key: "missing"}
    assert states([(run,)]) == start | {run.key: "missing"}
    partial = paths.runs() / f"{run.key}.partial"
    partial.mkdir(parents=True)
    (partial / "progress.json").write_text(json.dumps({"iteration": 1, "of": 4}))
    _, item = plan.plan([(run,)])
    assert (item.state, item.progress) == ("partial", 0.25)
    assert item.seconds == pytest.approx(0.75 * item.whole)
    (partial / "progress.json").write_text('{"iteration": 1, ')
    assert states([(run,)]) == start | {run.key: "missing"}, "a progress file cut short by a kill"
    finish(run)
    _, item = plan.plan([(run,)])
    assert (item.state, item.seconds) == ("done", 0.0)


def test_a_run_that_broke_off_is_shown_with_its_note() -> None:
    run = baseline()
    file = paths.runs() / f"{run.key}.partial" / "record.json"
    files.write_atomic(file, records.dump(record(run, state="nan", note="loss is not finite at iteration 3")))
    _, item = plan.plan([(run,)])
    assert (item.state, item.note) == ("failed", "loss is not finite at iteration 3")


def test_a_damaged_record_is_shown_and_stops_no_plan() -> None:
    run, other = baseline(), baseline(seed=1)
    finish(run).write_text("{")
    _, first, second = plan.plan([(run,), (other,)])
    assert first.state == "damaged"
    assert "delete it" in first.note
    assert second.state == "missing"


def test_published_records_without_weights_are_done_unless_others_need_them() -> None:
    chain = distilled()
    for run in plan.order([chain]):
        publish(run)
    assert set(states([chain]).values()) == {"done"}
    # Stage 2 is wanted anew: it needs the weights of stage 1 and of both teachers, and stage 1 those of its teacher.
    (paths.records() / f"{chain[1].key}.json").unlink()
    assert set(states([chain]).values()) == {"missing"}
    notes = {item.note for item in plan.plan([chain]) if item.run.key != chain[1].key}
    assert notes == {"it has a record, but others need its weights"}
    # With stage 1's weights here, its teacher is still needed: it decides where to enhance in stage 2.
    finish(chain[0])
    assert [key for key, state in states([chain]).items() if state == "done"] == [chain[0].key]


def test_published_weights_need_no_training() -> None:
    run = baseline()
    (start,) = run.needs()
    publish(start)
    assert states([(run,)]) == {start.key: "missing", run.key: "missing"}
    files.write_atomic(paths.records() / "weights" / f"{start.key}.pth", b"weights")
    assert states([(run,)]) == {start.key: "done", run.key: "missing"}
    publish(start, digest="0" * 12)  # of other code
    assert states([(run,)]) == {start.key: "missing", run.key: "missing"}


def test_estimates_are_the_median_speed_of_alike_runs() -> None:
    for seed, speed in enumerate((10.0, 20.0, 60.0)):
        finish(baseline(seed=seed), speed=speed)
    finish(distilled(recipe="mgd")[0], speed=5.0)
    _, item = plan.plan([(baseline(smoke(epochs=10), seed=9),)])
    images = 10 * 4
    assert item.seconds == pytest.approx(images / 20)
    (item,) = (i for i in plan.plan([distilled(recipe="mgd", seed=1)]) if isinstance(i.run, RunSpec) and i.run.stage)
    assert item.seconds == pytest.approx(4 / 5)
    first, second = distilled(recipe="dfmsd", seed=1)
    chain = first, second
    assert [i.seconds for i in plan.plan([chain]) if i.run in chain] == pytest.approx([4 / 5, 4 / 5])
    finish(distilled(recipe="dfmsd", seed=2)[1], speed=2.0)
    assert [i.seconds for i in plan.plan([chain]) if i.run in chain] == pytest.approx([4 / 5, 4 / 2])


def test_iterations_count_the_last_small_batch() -> None:
    assert plan.iterations(baseline(smoke(epochs=3, batch=3))) == 3 * 2  # of 4 labelled images
    every = smoke(epochs=3, batch=5).model_copy(update={"images": None})
    assert plan.iterations(baseline(every)) == 3 * 4
    assert plan.iterations(baseline(smoke().rehearse(2))) == 2


def test_the_command_prints_every_run_with_its_state(capsys: pytest.CaptureFixture[str]) -> None:
    from dfmsd.__main__ import main

    page = pages.get("table03", scale="smoke")
    runs = plan.order(page.chains())
    finish(runs[0])
    assert main(["plan", "table03", "--scale", "smoke"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:12] for line in lines[:-1]] == [run.key for run in runs]
    assert lines[0].split()[1] == "done"
    assert lines[1].split()[1] == "missing"
    assert lines[-1].startswith(f"{len(runs)} runs, 1 done; the rest takes about ")
