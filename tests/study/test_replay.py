"""A replay confirms what is the same, and names what is not."""

from __future__ import annotations

import pytest

from dfmsd import __main__ as cli
from dfmsd.errors import StudyError
from dfmsd.study import paths, records, replay
from dfmsd.study import run as train
from dfmsd.study.records import Record
from tests.fixtures_study import distilled, folders, smoke  # noqa: F401

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("folders")]

*BEFORE, RUN = distilled(smoke(epochs=2), sal=False)


def trained() -> Record:
    from dfmsd.study import plan

    for run in plan.order([(*BEFORE, RUN)]):
        found = train.run(run)
    return found


def test_a_replay_confirms_a_record_under_changed_code(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    record = trained()
    capfd.readouterr()
    monkeypatch.setattr(records, "code_digest", lambda _: "0" * 12)
    assert records.is_stale(record, RUN)
    confirmed = replay.replay(RUN, record)
    assert capfd.readouterr().out == ""
    assert confirmed.iterations == replay.FIRST
    replay.write(confirmed)
    assert not records.is_stale(record, RUN)
    monkeypatch.setattr(records, "code_digest", lambda _: "1" * 12)
    assert records.is_stale(record, RUN), "code that changed once more is not confirmed"
    (paths.records() / "replays" / f"{RUN.key}.json").write_text("{")
    with pytest.raises(StudyError, match=r"replay .* is damaged"):
        records.is_stale(record, RUN)


def test_a_difference_is_named() -> None:
    record = trained()
    first, *rest = record.curve
    other = record.model_copy(update={"curve": (first | {"loss_dfmsd_sfa": 0.5}, *rest)})
    with pytest.raises(
        StudyError, match=r"differs at iteration 1: loss_dfmsd_sfa was 0.5 and is .*: today's code, or this machine"
    ):
        replay.replay(RUN, other)
    other = record.model_copy(update={"metrics": record.metrics | {"AP": 99.0}})
    with pytest.raises(StudyError, match=r"differs in the evaluation: AP was 99\.0"):
        replay.replay(RUN, other)


def test_the_command_leaves_alone_what_is_not_stale(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["replay", "table03", "--scale", "smoke"]) == 0
    assert capfd.readouterr().out == ""
