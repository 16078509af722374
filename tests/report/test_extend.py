"""Every addition of book/extend.md, each in as many places as it says, all made in one copy of the study and run there once."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_notebook

from dfmsd.study import paths

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("extend")]


class Copy:
    """A copy of the study that can be changed.

    Args:
        root: Where it lies.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("dfmsd", "params", "notebooks", "book"):
            made = ("_build", "pages", "records") if name == "book" else ("__pycache__",)
            shutil.copytree(paths.ROOT / name, root / name, ignore=shutil.ignore_patterns(*made))
        self.places: dict[str, set[str]] = defaultdict(set)
        """Files that each addition touches."""

    def write(self, addition: str, file: str, text: str) -> None:
        """Add a file."""
        self.places[addition].add(file)
        (self.root / file).parent.mkdir(parents=True, exist_ok=True)
        (self.root / file).write_text(text)

    def insert(self, addition: str, file: str, before: str, text: str) -> None:
        """Put text before the first line that begins so; at the end if it is empty."""
        self.places[addition].add(file)
        known = (self.root / file).read_text()
        place = re.search(f"^{re.escape(before)}", known, re.MULTILINE) if before else None
        assert place or not before, f"{file} has no line {before!r}"
        at = place.start() if place else len(known)
        (self.root / file).write_text(known[:at] + text + known[at:])


NEW = "faster_rcnn_x101"

ROW = """  {name}:
    config: {config}
    weights: {{url: x/y_0-{digits}.pth, ap: 40.0}}
"""


FAMILY = """  atss:
    label: ATSS
    kind: one_stage
    lr: {smoke: 0.01, mini: 0.03, gpu: 0.01, coco: 0.01}
    slim:
      smoke:
        model.neck.out_channels: 64
        model.bbox_head.in_channels: 64
        model.bbox_head.feat_channels: 64
        model.bbox_head.stacked_convs: 2
"""

LOSS = '''"""The largest error, TOP :cite:p:`mgd` (arXiv 2205.01529)."""

from typing import Any, ClassVar

from torch import Tensor

from dfmsd.losses.base import Method, widened


def top_loss(feat_s: Tensor, feat_t: Tensor, *, power: int) -> Tensor:
    """Mean of the errors to some power, ``(B, C, H, W)`` both."""
    return (widened(feat_s) - widened(feat_t.detach())).abs().pow(power).mean()


class TOP(Method):
    """Term ``feat``: :func:`top_loss` summed over the levels."""

    name = "top"
    WEIGHTS: ClassVar = {"feat": "alpha"}

    def level(self, block: Any, feat_s: Tensor, feat_t: Tensor, **_: Any) -> dict[str, Tensor]:
        """See :meth:`Method.level`."""
        return {"feat": top_loss(block.align(feat_s), feat_t, power=self.spec.power)}
'''

MODEL = '''class TOP(_Method):
    """The largest error."""

    type: Literal["TOP"] = "TOP"
    alpha: Weight = 1.0
    """Weight of the error."""
    power: int = Field(default=4, ge=1)
    """Of the errors."""


'''

PAGE = """# TOP: the largest error

```{eval-rst}
.. autofunction:: dfmsd.losses.top.top_loss
.. autoclass:: dfmsd.losses.top.TOP
.. autoclass:: dfmsd.hyper.TOP
```
"""

FIGURE_MODEL = '''"""Pages about how bright images are."""

from dfmsd.study.pages.measured import MeasuredPage
from dfmsd.study.spec import digest


class BrightnessPage(MeasuredPage):
    """How bright images are."""

    images: int = 4

    def asked(self) -> str:
        """Hash of all that decides what the record holds."""
        return digest([self.images])
'''

FIGURE_MEASURE = '''"""How bright images are."""

from typing import Any

import pandas as pd

from dfmsd.report.images import first
from dfmsd.study import scales
from dfmsd.study.pages.brightness import BrightnessPage


def measure(page: BrightnessPage) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A line an image and a half of it."""
    lines = []
    for one in first(scales.get(page.scale), page.images):
        for row, value in (("as it is", one.image.float().mean()), ("darker", one.image.float().mean() / 2)):
            lines.append({"row": row, "image": one.id, "metric": "brightness", "value": float(value), "low": None, "high": None})
    return pd.DataFrame(lines), {}
'''

FIGURE_CODE = """from dfmsd import study
from dfmsd.report import brightness
from dfmsd.study import verdicts

spec = study.page("brightness", globals())
study.make(spec, measure=brightness.measure, jobs=jobs)
frame = study.frame(spec)
print(verdicts.judged(frame)["verdict"].tolist(), len(frame))"""

FIGURE_CLAIM = """  - section: "Ours: brightness"
    page: bright
    unit: of 255
    claims:
      - id: bright-1
        subject: {metric: brightness, row: as it is}
        rivals: [{metric: brightness, row: darker}]
        text: "What is darker is less bright"
"""

RUN = """
import json
import papermill
from dfmsd.__main__ import main
from dfmsd.report import bench, book, methods
from dfmsd.study import pages, paths, plan, records
assert main(["page", "mine", "--scale", "smoke"]) == 0
smoke, options = {"scale": "smoke", "jobs": 1}, {"progress_bar": False, "start_timeout": book.PATIENCE}
papermill.execute_notebook(str(paths.NOTEBOOKS / "brightness.ipynb"), "bright.ipynb", smoke, **options)
# The pages that show all methods do so with no change of their own.
frame, _ = bench.measure(pages.get("losses", scale="smoke").model_copy(update={"repeats": 1}))
found = {
    "trained": [plan.describe(run) for run in plan.order(pages.get("mine", scale="smoke").chains()) if records.find(run.key)],
    "contents": [chapter["file"] for part in book.contents()["parts"] for chapter in part["chapters"]],
    "measured": sorted(set(frame.query("row == 'TOP'")["metric"])),
    "needs": list(methods.needs(frame, frame).index),
}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """With every addition: the rows of the table are of the new detectors and the new method."""
    copy = Copy(tmp_path_factory.mktemp("extended") / "study")
    groups = [
        {"student": "fcos_r50", "teachers": ["gfl_r101"], "recipes": ["baseline", "mgd + pkd", "top"]},
        {"student": "atss_r50", "teachers": ["gfl_r101"], "recipes": ["baseline", "pkd"]},
        {"student": NEW, "teachers": ["retinanet_r101"], "recipes": ["baseline"]},
    ]
    page: dict[str, Any] = {"page": "mine", "title": "Mine", "question": "Is a sum better?"}
    copy.write("table", "params/comparison/mine.yaml", yaml.safe_dump(page | {"groups": groups}))

    row = ROW.format(name=NEW, config="faster_rcnn/faster-rcnn_x101-64x4d_fpn_1x_coco.py", digits="01234567")
    copy.insert("detector", "dfmsd/study/zoo.yaml", "  retinanet_r50:", row)

    copy.insert("family", "dfmsd/study/zoo.yaml", "backbones:", FAMILY)
    row = ROW.format(name="atss_r50", config="atss/atss_r50_fpn_1x_coco.py", digits="01234567")
    copy.insert("family", "dfmsd/study/zoo.yaml", "  retinanet_r50:", row)

    copy.write("method", "dfmsd/losses/top.py", LOSS)
    copy.insert("method", "dfmsd/losses/__init__.py", "", "from dfmsd.losses.top import TOP as TOP\n")
    copy.insert("method", "dfmsd/hyper.py", "METHODS: ", MODEL)
    copy.write("method", "book/methods/top.md", PAGE)
    copy.insert("method", "params/scales.yaml", "    mse: {alpha: 1.0}", "    top: {alpha: 1.0}\n")
    copy.write("method", "tests/losses/test_top.py", "")

    page = {"page": "bright", "title": "Brightness", "question": "How bright?"}
    copy.write("figure", "dfmsd/study/pages/brightness.py", FIGURE_MODEL)
    known = "dfmsd/study/pages/__init__.py"
    copy.insert("figure", known, "from dfmsd.study.pages.comparison ", "from dfmsd.study.pages.brightness import BrightnessPage\n")
    copy.insert("figure", known, '    "comparison": PageSpec', '    "brightness": BrightnessPage,\n')
    copy.write("figure", "dfmsd/report/brightness.py", FIGURE_MEASURE)
    parameters = "\n".join(f"{name} = {value!r}" for name, value in (page | {"images": 4, "scale": None, "jobs": 0}).items())
    cells = [new_code_cell(parameters, metadata={"tags": ["parameters"]}), new_code_cell(FIGURE_CODE)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    copy.write("figure", "notebooks/brightness.ipynb", nbformat.writes(new_notebook(cells=cells, metadata=kernel)))
    copy.write("figure", "params/brightness/bright.yaml", yaml.safe_dump(page))
    copy.insert("figure", "params/claims.yaml", '  - section: "1, Fig. 1', FIGURE_CLAIM)
    return copy


@pytest.fixture(scope="module")
def found(copy: Copy) -> dict[str, list[str]]:
    """What the copy has of all additions, once its two new pages are made: by our command, and by plain papermill."""
    own = {"PYTHONPATH": str(copy.root), "DFMSD_RUNS": str(copy.root / "runs"), "DFMSD_DATA": str(copy.root / "data")}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DFMSD_")}
    done = subprocess.run([sys.executable, "-c", RUN], cwd=copy.root, env=kept | own, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_each_addition_has_its_places(copy: Copy) -> None:
    copy.places["method"].discard("dfmsd/losses/__init__.py")  # an import belongs to the file
    assert {name: len(files) for name, files in copy.places.items() if name != "figure"} == {
        "table": 1,
        "detector": 1,
        "family": 1,
        "method": 5,
    }
    places = {file.rpartition("/")[0].removeprefix("params/brightness") or "notebooks" for file in copy.places["figure"]}
    assert places == {"dfmsd/study/pages", "dfmsd/report", "notebooks", "params"}


def test_a_table_follows_the_last_of_its_folder(found: dict[str, list[str]]) -> None:
    assert found["contents"].index("pages/mine") == found["contents"].index("pages/structural") + 1


@pytest.mark.parametrize(
    "run",
    [
        "FCOS R50 taught by GFL R101: MGD + PKD",
        "FCOS R50 taught by GFL R101: TOP",
        "ATSS R50 taught by GFL R101: PKD",
        "Faster R-CNN X101",
    ],
)
def test_a_sum_a_method_a_family_and_a_detector_are_trained(found: dict[str, list[str]], run: str) -> None:
    assert [one for one in found["trained"] if one.startswith(f"{run}, ")]


def test_a_method_is_on_every_page_of_methods(found: dict[str, list[str]]) -> None:
    assert "methods/top" in found["contents"]
    assert "mse ratio" in found["measured"]
    assert found["needs"][-1] == "TOP"


def test_a_measured_figure_has_its_numbers_and_its_verdict(copy: Copy, found: dict[str, list[str]]) -> None:
    page = nbformat.read(copy.root / "bright.ipynb", as_version=4)
    assert page.cells[-1].outputs[0].text == "['supported'] 8\n"
