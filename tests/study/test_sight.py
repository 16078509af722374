"""What shows a run while it trains is outside of its key and changes nothing of it."""

from __future__ import annotations

import json
import shutil

import pytest
from mmengine.config import Config

from dfmsd.errors import StudyError
from dfmsd.study import paths, sight
from dfmsd.study import run as train
from tests.fixtures_study import baseline, folders, smoke  # noqa: F401


@pytest.mark.slow
@pytest.mark.usefixtures("folders")
def test_a_run_that_is_looked_at_ends_in_the_same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    run = baseline(smoke(epochs=5).model_copy(update={"start": None}))
    plain = train.run(run)
    shutil.rmtree(paths.runs() / run.key)
    monkeypatch.setitem(sight.BACKENDS, "json", "LocalVisBackend")
    monkeypatch.setenv("DFMSD_VIS", "json")
    monkeypatch.setenv("DFMSD_AP_EVERY", "2")
    looked_at = train.run(run)
    assert looked_at.model_dump(exclude={"provenance"}) == plain.model_dump(exclude={"provenance"})
    (file,) = (paths.runs() / run.key).glob("*/vis_data/scalars.json")
    shown = [json.loads(line) for line in file.read_text().splitlines()]
    assert [point["step"] for point in shown if "AP" in point] == [2, 4, 5, 5], "each epoch has one iteration"
    assert [point["AP"] for point in shown if "AP" in point][-1] == plain.metrics["AP"]
    assert any("loss_cls" in point for point in shown)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("DFMSD_VIS", "tensorbord", "DFMSD_VIS=tensorbord: did you mean 'tensorboard'?"),
        ("DFMSD_VIS", "absent", "DFMSD_VIS=absent: the package absent is not installed: pip install absent"),
        ("DFMSD_AP_EVERY", "0", "DFMSD_AP_EVERY=0: it must be a whole number of epochs from 1 on"),
        ("DFMSD_AP_EVERY", "two", "DFMSD_AP_EVERY=two: it must be a whole number of epochs from 1 on"),
    ],
)
def test_a_wrong_value_is_told_in_one_line(variable: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sight.BACKENDS, "absent", "TensorboardVisBackend")
    monkeypatch.setenv(variable, value)
    with pytest.raises(StudyError) as caught:
        sight.added(Config())
    assert str(caught.value) == message
