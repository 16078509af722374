"""What the file of claims may say."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from dfmsd.errors import StudyError
from dfmsd.study import claims, paths


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metrics": "AP"}, "claim x has no field 'metrics': did you mean 'metric'?"),
        ({"least": "much"}, "claim x: least = 'much': Input should be a valid number"),
        ({"least": float("inf")}, ".inf is not a finite number"),
        ({"page": "tabel03"}, "claim x: unknown page 'tabel03': did you mean 'table03'?"),
        ({"subject": 3}, "claim x: subject = 3: Input should be a valid dictionary"),
        ({"also": [{"rival": []}]}, "claim x has no field 'rival': did you mean 'rivals'?"),
        ({"at": ["mimi"]}, "claim x: at.0 = 'mimi': Input should be 'smoke', 'mini', 'gpu' or 'coco'"),
        (None, "two claims have this id"),
    ],
)
def test_a_claim_that_is_not_well_formed(
    change: dict[str, Any] | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"id": "x", "text": "t", "subject": "A", "rivals": ["B"], "page": "table03"}
    found = [own | change] if change is not None else [own, own]
    content = {"hypotheses": {"pages": [], "among": []}, "sections": [{"section": "1", "claims": found}]}
    shutil.copytree(paths.PARAMS, tmp_path / "params")
    monkeypatch.setattr(paths, "PARAMS", tmp_path / "params")
    (paths.PARAMS / "claims.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(StudyError) as caught:
        claims.claims.__wrapped__()
    assert message in str(caught.value)
    assert str(caught.value).startswith("params/claims.yaml")
    assert "\n" not in str(caught.value)
