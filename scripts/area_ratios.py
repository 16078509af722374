"""Measure how much of each training image the weak teacher's objects cover: ``python scripts/area_ratios.py FOLDER``.

FOLDER has a chain's ``stage1.py``, whose teacher is the weak one, and ``stage2.py``, which names the file and the least score.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from mmdet.apis import init_detector
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.runner import Runner

from dfmsd import augment, configs


def main(folder: Path) -> None:
    """Write the file that masking enhancement takes."""
    first, second = (Config.fromfile(folder / f"stage{index}.py") for index in (1, 2))
    weak = init_detector(configs.read(first.model.teacher), first.model.teacher_checkpoint, device=get_device())
    images = dict(first.train_dataloader.dataset, pipeline=first.val_dataloader.dataset.pipeline, test_mode=True)
    loader = Runner.build_dataloader(dict(first.val_dataloader, dataset=images))
    ratios = augment.area_ratios(weak, loader, score=second.model.enhance.score)
    file = Path(second.model.enhance.ratios)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(ratios))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
