"""The notebook that distils a detector of one's own says what is wrong with its parameters before it computes anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dfmsd.errors import StudyError
from dfmsd.report import distil
from tests.fixtures_detectors import project


def test_a_wrong_parameter_is_one_clear_line(tmp_path: Path) -> None:
    config = str(project(tmp_path, weak="gfl_r101"))
    pair = [str(tmp_path / "weak.py"), str(tmp_path / "weak.pth")]
    right: dict[str, Any] = {"config": config, "teachers": [pair, pair], "work_dir": "work", "switches": {"theta": 0.2}}
    assert distil.asked(**right).switches == {"theta": 0.2}
    wrong = {
        "config": [(None, "config = None"), ("gone.py", "config gone.py does not exist"), (5, "config = 5")],
        "teachers": [
            (None, "teachers = None"),
            ([], r"teachers = \(?\[?"),
            (pair, "teachers"),
            ([[pair[0], "gone.pth"]], "checkpoint gone.pth does not exist"),
        ],
        "work_dir": [(float("nan"), "work_dir = nan")],
        "switches": [
            (5, "switches = 5"),
            ({"tehta": 0.2}, "did you mean 'theta'"),
            ({"theta": float("nan")}, "theta = nan"),
            ({"epochs": 1e9}, "epochs = 1000000000.0"),
        ],
    }
    for name, values in wrong.items():
        for value, message in values:
            with pytest.raises(StudyError, match=message) as caught:
                distil.asked(**right | {name: value})
            assert "\n" not in str(caught.value)
