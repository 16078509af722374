"""Every addition of book/extend.md, made in a copy of the study in as many places as it says, and run there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_notebook

from dfmsd.study import paths

pytestmark = pytest.mark.slow


class Copy:
    """A copy of the study that can be changed and run.

    Args:
        root: Where it lies.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("dfmsd", "params", "notebooks", "book"):
            made = ("_build", "pages", "records") if name == "book" else ("__pycache__",)
            shutil.copytree(paths.ROOT / name, root / name, ignore=shutil.ignore_patterns(*made))
        self.touched: set[str] = set()

    def write(self, file: str, text: str) -> None:
        """Add a file."""
        self.touched.add(file)
        (self.root / file).parent.mkdir(parents=True, exist_ok=True)
        (self.root / file).write_text(text)

    def insert(self, file: str, before: str, text: str) -> None:
        """Put text before the first line that begins so; at the end if it is empty."""
        self.touched.add(file)
        known = (self.root / file).read_text()
        place = re.search(f"^{re.escape(before)}", known, re.MULTILINE) if before else None
        assert place or not before, f"{file} has no line {before!r}"
        at = place.start() if place else len(known)
        (self.root / file).write_text(known[:at] + text + known[at:])

    def run(self, *words: str) -> str:
        """What a command in the copy says.

        Args:
            words: Of ``python``.
        """
        own = {"PYTHONPATH": str(self.root), "DFMSD_RUNS": str(self.root / "runs"), "DFMSD_DATA": str(self.root / "data")}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DFMSD_")}
        done = subprocess.run([sys.executable, *words], cwd=self.root, env=kept | own, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path / "study")


def test_a_table_is_one_file(copy: Copy) -> None:
    group = {"student": "fcos_r50", "teachers": ["gfl_r101", "gfl_x101"], "recipes": ["baseline", "mgd + pkd"]}
    page = {"page": "mine", "title": "Mine", "question": "Is a sum better?", "groups": [group]}
    copy.write("params/comparison/mine.yaml", yaml.safe_dump(page))
    assert "FCOS R50 taught by GFL X101: MGD + PKD" in copy.run("-m", "dfmsd", "plan", "mine", "--scale", "smoke")
    contents = copy.run("-c", "import json; from dfmsd.report import book; print(json.dumps(book.contents()))")
    chapters = [chapter["file"] for part in json.loads(contents)["parts"] for chapter in part["chapters"]]
    assert chapters.index("pages/mine") == chapters.index("pages/structural") + 1
    assert len(copy.touched) == 1


ROW = """  {name}:
    config: {config}
    weights: {{url: x/y_0-{digits}.pth, ap: 40.0}}
"""


def test_a_detector_of_a_known_family_is_one_row(copy: Copy) -> None:
    (known,) = {"faster_rcnn_x101"} - set(yaml.safe_load((copy.root / "dfmsd/study/zoo.yaml").read_text())["networks"])
    row = ROW.format(name=known, config="faster_rcnn/faster-rcnn_x101-64x4d_fpn_1x_coco.py", digits="01234567")
    copy.insert("dfmsd/study/zoo.yaml", "  retinanet_r50:", row)
    assert "Faster R-CNN X101" in copy.run("-m", "dfmsd", "run", "--student", known, "--method", "baseline", "--scale", "smoke")
    assert len(copy.touched) == 1


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


def test_a_new_family_is_one_file(copy: Copy) -> None:
    copy.insert("dfmsd/study/zoo.yaml", "backbones:", FAMILY)
    row = ROW.format(name="atss_r50", config="atss/atss_r50_fpn_1x_coco.py", digits="01234567")
    copy.insert("dfmsd/study/zoo.yaml", "  retinanet_r50:", row)
    words = ("--student", "atss_r50", "--teachers", "gfl_r101", "--method", "pkd", "--scale", "smoke")
    assert "ATSS R50 taught by GFL R101: PKD" in copy.run("-m", "dfmsd", "run", *words)
    assert len(copy.touched) == 1


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


def test_a_method_has_five_places(copy: Copy) -> None:
    copy.write("dfmsd/losses/top.py", LOSS)
    copy.insert("dfmsd/losses/__init__.py", "", "from dfmsd.losses.top import TOP as TOP\n")  # an import belongs to the file
    copy.insert("dfmsd/hyper.py", "METHODS: ", MODEL)
    copy.write("book/methods/top.md", PAGE)
    copy.insert("params/scales.yaml", "    mse: {alpha: 1.0}", "    top: {alpha: 1.0}\n")
    copy.write("tests/losses/test_top.py", "")
    assert len(copy.touched - {"dfmsd/losses/__init__.py"}) == 5
    words = ("--student", "fcos_r50", "--teachers", "gfl_r101", "--method", "top", "--scale", "smoke")
    assert "FCOS R50 taught by GFL R101: TOP" in copy.run("-m", "dfmsd", "run", *words)
    assert "'methods/top'" in copy.run("-c", "from dfmsd.report import book; print(book.contents())")
    # The pages that show all methods do so with no change of their own.
    check = """
from dfmsd.report import bench, figures, methods
from dfmsd.study import pages
frame, _ = bench.measure(pages.get("losses", scale="smoke"))
import pandas as pd
print(sorted(set(frame.query("row == 'TOP'")["metric"])), figures.COLOURS["top"], *methods.needs(frame, frame).index)
"""
    shown = copy.run("-c", check)
    assert "mse ratio" in shown and shown.split()[-1] == "TOP"


FIGURE_MODEL = '''class BrightnessPage(MeasuredPage):
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
from dfmsd.study.pages import BrightnessPage


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
from dfmsd.study import claims

spec = study.page("brightness", globals())
study.make(spec, measure=brightness.measure, jobs=jobs)
frame = study.frame(spec)
print(claims.judged(frame)["verdict"].tolist(), len(frame))"""

FIGURE_CLAIM = """  - section: "Ours: brightness"
    page: bright
    unit: of 255
    claims:
      - id: bright-1
        subject: {metric: brightness, row: as it is}
        rivals: [{metric: brightness, row: darker}]
        text: "What is darker is less bright"
"""


def test_a_measured_figure_has_four_places(copy: Copy) -> None:
    given: dict[str, Any] = {"page": "bright", "title": "Brightness", "question": "How bright?"}
    copy.insert("dfmsd/study/pages.py", "NOTEBOOKS: ", FIGURE_MODEL)
    copy.insert("dfmsd/study/pages.py", '    "comparison": PageSpec', '    "brightness": BrightnessPage,\n')
    copy.write("dfmsd/report/brightness.py", FIGURE_MEASURE)
    parameters = "\n".join(f"{name} = {value!r}" for name, value in (given | {"images": 4, "scale": None, "jobs": 0}).items())
    cells = [new_code_cell(parameters, metadata={"tags": ["parameters"]}), new_code_cell(FIGURE_CODE)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    copy.write("notebooks/brightness.ipynb", nbformat.writes(new_notebook(cells=cells, metadata=kernel)))
    copy.write("params/brightness/bright.yaml", yaml.safe_dump(given))
    copy.insert("params/claims.yaml", '  - section: "1, Fig. 1', FIGURE_CLAIM)
    places = {file.rpartition("/")[0].removeprefix("params/brightness") or "notebooks" for file in copy.touched}
    assert places == {"dfmsd/study", "dfmsd/report", "notebooks", "params"}
    copy.run("-m", "dfmsd", "page", "bright", "--scale", "smoke")
    page = nbformat.read(copy.root / "book" / "pages" / "bright.ipynb", as_version=4)
    assert page.cells[-1].outputs[0].text == "['supported'] 8\n"
