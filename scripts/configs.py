"""Write configs/, mmengine configs of the papers' pairs, from the study's own rows: ``python scripts/configs.py [FOLDER]``.

DFMSD has a folder for each pair of the papers' comparison tables, with a file a stage. Of every other method there is a file for
each pair with RetinaNet R50 in the tables that compare all of them. A file says what the scale ``coco`` does, in mmdet's own words.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dfmsd.study import build, pages, paths, plan, rows, scales, zoo
from dfmsd.study.spec import RunSpec

COMPARED = ("table05", "table06", "structural")
"""Pages that compare all methods."""

SCHEDULES = {12: "schedule_1x", 24: "schedule_2x"}
"""mmdet's, by their epochs."""

FIRST = """\
# {title}. Written by scripts/configs.py.
_base_ = [
    "mmdet::_base_/datasets/coco_detection.py",
    "mmdet::_base_/schedules/{schedule}.py",
    "mmdet::_base_/default_runtime.py",
]
custom_imports = dict(imports=["dfmsd.distiller"], allow_failed_imports=False)
work_dir = "{work_dir}"
model = dict(
    type="Distiller",
    student="mmdet::{student}",
    teacher="mmdet::{teacher}",
    teacher_checkpoint="{weights}",
    methods=[{method}],
)
optim_wrapper = {optimizer}
"""

LATER = """\
# {title}. Written by scripts/configs.py.
# It starts from the student that the stage before leaves. Whether an image is cropped depends on the boxes that {weak} finds in it:
#   python scripts/area_ratios.py {folder}
_base_ = "stage1.py"
work_dir = "{work_dir}"
model = dict(
    teacher="mmdet::{teacher}",
    teacher_checkpoint="{weights}",
    student_checkpoint="{before}",
    methods=[{method}],
    enhance={enhance},
)
"""


def chains() -> Iterator[tuple[str, tuple[RunSpec, ...]]]:
    """What is written: the place of a config, or of the folder of a chain's, and its runs."""
    scale, found = scales.get("coco"), set()
    for page in pages.comparisons("coco"):
        if page.table is None or pages.file_of(page.page).parent.name != "comparison":
            continue
        for row in page.rows():
            compared = row.recipe == "dfmsd" or (row.student == "retinanet_r50" and page.page in COMPARED)
            if row.recipe == "baseline" or row.options != rows.Options() or isinstance(row, rows.Impossible) or not compared:
                continue
            runs = rows.chain(row, scale, scale.seeds[0])
            place = f"{row.recipe}/{row.student}_by_{'_then_'.join(run.stage.teacher.name for run in runs)}"
            if place not in found:
                found.add(place)
                yield place, runs


def _dict(values: Mapping[str, Any]) -> str:
    """As a config has it; what is None or off is left out."""
    said = {name: value for name, value in values.items() if value is not None and value is not False}
    return f"dict({', '.join(f'{name}={said[name]!r}' for name in sorted(said, key=lambda name: name != 'type'))})"


def _optimizer(run: RunSpec) -> str:
    own = build.network_config(run.network).optim_wrapper.get("paramwise_cfg")
    more = f", paramwise_cfg={_dict(own)}" if own else ""
    return f"dict(optimizer=dict(lr={run.schedule.lr}), clip_grad=dict(max_norm={run.schedule.clip}, norm_type=2){more})"


def texts() -> Iterator[tuple[str, RunSpec, str]]:
    """Each config's place, run and text."""
    for place, runs in chains():
        work_dirs = [f"work_dirs/{place}" + f"/stage{run.stage.index}" * (len(runs) > 1) for run in runs]
        for run, work_dir in zip(runs, work_dirs, strict=True):
            words = {
                "title": plan.describe(run).rpartition(", seed")[0],
                "schedule": SCHEDULES[run.schedule.epochs],
                "work_dir": work_dir,
                "student": run.network.config,
                "teacher": run.stage.teacher.network.config,
                "weights": run.stage.teacher.weights.url,
                "method": _dict(run.stage.methods[0].model_dump()),
                "optimizer": _optimizer(run),
            }
            if run.parent is not None:
                weak = run.stage.enhance.weak.name
                enhance = run.stage.enhance.model_dump(exclude={"weak"}) | {"ratios": f"work_dirs/ratios/{weak}.json"}
                before = f"{work_dirs[0]}/epoch_{run.parent.schedule.epochs}.pth"
                words |= {"weak": zoo.label(weak), "folder": f"configs/{place}", "before": before, "enhance": _dict(enhance)}
            file = f"{work_dir.removeprefix('work_dirs/')}.py"
            yield file, run, (FIRST if run.parent is None else LATER).format(**words)


def main(folder: Path) -> None:
    """Write all of them."""
    for place, _, text in texts():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text(text)
    subprocess.run([sys.executable, "-m", "ruff", "format", "-q", "--config", paths.ROOT / "pyproject.toml", folder], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else paths.ROOT / "configs")
