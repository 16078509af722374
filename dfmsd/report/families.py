"""Which of mmdet's detector families can be distilled: each as a student and as a teacher, loaded and trained for two steps.

The networks are those of mmdet's own configs, with an eighth of the channels where a config decides them, and with fewer proposals,
queries and layers: what is asked is whether the parts fit together. The other side of each pair is a slim Faster R-CNN, whose
pyramid has the strides of nearly all others.
"""

from __future__ import annotations

import copy
import io
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import ConfigDict
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

from dfmsd import checkpoints, configs
from dfmsd.distiller import Distiller
from dfmsd.errors import StudyError
from dfmsd.study.pages.measured import FamiliesPage

Role = Literal["student", "teacher"]
ROLES: tuple[Role, Role] = ("student", "teacher")
METRICS = ("loads", "trains")

BY = 8
"""What channels are divided by."""
STEPS = 2


@dataclass(frozen=True)
class Family:
    """Detectors of one kind, by one of mmdet's configs."""

    config: str
    """Below mmdet's ``configs``, without its ending."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """To the slim model, by dotted names: what its config leaves to defaults."""
    slim: bool = True
    """Whether its config decides its channels."""
    side: int = 128
    """Of the images, in pixels."""
    quick: bool = True
    """Whether the tests train it, too."""


SLIM_DETR = {"bbox_head.embed_dims": 32}

FAMILIES: dict[str, Family] = {
    "RetinaNet": Family("retinanet/retinanet_r50_fpn_1x_coco"),
    "FCOS": Family("fcos/fcos_r50-caffe_fpn_gn-head_1x_coco", quick=False),
    "GFL": Family("gfl/gfl_r50_fpn_1x_coco", quick=False),
    "ATSS": Family("atss/atss_r50_fpn_1x_coco"),
    "ATSS with DyHead": Family("dyhead/atss_r50_fpn_dyhead_1x_coco", quick=False),
    "TOOD": Family("tood/tood_r50_fpn_1x_coco"),
    "DDOD": Family("ddod/ddod_r50_fpn_1x_coco", side=512, quick=False),
    "VFNet": Family("vfnet/vfnet_r50_fpn_1x_coco"),
    "PAA": Family("paa/paa_r50_fpn_1x_coco"),
    "FoveaBox": Family("foveabox/fovea_r50_fpn_4xb4-1x_coco"),
    "FSAF": Family("fsaf/fsaf_r50_fpn_1x_coco", quick=False),
    "FreeAnchor": Family("free_anchor/freeanchor_r50_fpn_1x_coco", quick=False),
    "AutoAssign": Family("autoassign/autoassign_r50-caffe_fpn_1x_coco", quick=False),
    "RepPoints": Family("reppoints/reppoints-moment_r50_fpn_1x_coco", quick=False),
    "SABL": Family("sabl/sabl-retinanet_r50_fpn_1x_coco", quick=False),
    "Guided anchoring": Family("guided_anchoring/ga-retinanet_r50-caffe_fpn_1x_coco", quick=False),
    "NAS-FCOS": Family("nas_fcos/nas-fcos_r50-caffe_fpn_nashead-gn-head_4xb4-1x_coco", quick=False),
    "NAS-FPN": Family("nas_fpn/retinanet_r50_nasfpn_crop640-50e_coco", quick=False),
    "PVT": Family("pvt/retinanet_pvtv2-b0_fpn_1x_coco", slim=False, quick=False),
    "YOLOF": Family("yolof/yolof_r50-c5_8xb8-1x_coco"),
    "YOLOv3": Family("yolo/yolov3_d53_8xb8-320-273e_coco", slim=False, quick=False),
    "YOLOX": Family("yolox/yolox_s_8xb8-300e_coco"),
    "RTMDet": Family("rtmdet/rtmdet_s_8xb32-300e_coco"),
    "SSD": Family("ssd/ssd300_coco", slim=False, side=320, quick=False),
    "CenterNet": Family("centernet/centernet_r18_8xb16-crop512-140e_coco"),
    "CenterNet2's": Family("centernet/centernet-update_r50-caffe_fpn_ms-1x_coco", quick=False),
    "CornerNet": Family("cornernet/cornernet_hourglass104_8xb6-210e-mstest_coco", {"backbone.feat_channel": 32}, quick=False),
    "Faster R-CNN": Family("faster_rcnn/faster-rcnn_r50_fpn_1x_coco"),
    "Faster R-CNN C4": Family("faster_rcnn/faster-rcnn_r50-caffe_c4-1x_coco", slim=False, quick=False),
    "Faster R-CNN DC5": Family("faster_rcnn/faster-rcnn_r50-caffe-dc5_1x_coco", quick=False),
    "Cascade R-CNN": Family("cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco"),
    "Mask R-CNN": Family("mask_rcnn/mask-rcnn_r50_fpn_1x_coco"),
    "HTC": Family("htc/htc-without-semantic_r50_fpn_1x_coco", quick=False),
    "Dynamic R-CNN": Family("dynamic_rcnn/dynamic-rcnn_r50_fpn_1x_coco", quick=False),
    "Double-Head R-CNN": Family("double_heads/dh-faster-rcnn_r50_fpn_1x_coco", quick=False),
    "Libra R-CNN": Family("libra_rcnn/libra-faster-rcnn_r50_fpn_1x_coco"),
    "Grid R-CNN": Family("grid_rcnn/grid-rcnn_r50_fpn_gn-head_2x_coco", quick=False),
    "Cascade RPN": Family("cascade_rpn/cascade-rpn_faster-rcnn_r50-caffe_fpn_1x_coco", quick=False),
    "CrowdDet": Family("crowddet/crowddet-rcnn_r50_fpn_8xb2-30e_crowdhuman", quick=False),
    "HRNet": Family("hrnet/faster-rcnn_hrnetv2p-w18-1x_coco", slim=False, quick=False),
    "Sparse R-CNN": Family("sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco"),
    "QueryInst": Family("queryinst/queryinst_r50_fpn_1x_coco", quick=False),
    "DETR": Family("detr/detr_r50_8xb2-150e_coco"),
    "Conditional DETR": Family("conditional_detr/conditional-detr_r50_8xb2-50e_coco", slim=False, quick=False),
    "DAB-DETR": Family("dab_detr/dab-detr_r50_8xb2-50e_coco", quick=False),
    "Deformable DETR": Family("deformable_detr/deformable-detr_r50_16xb2-50e_coco", SLIM_DETR),
    "DINO": Family("dino/dino-4scale_r50_8xb2-12e_coco", SLIM_DETR),
    "DDQ": Family("ddq/ddq-detr-4scale_r50_8xb2-12e_coco", SLIM_DETR),
    "CondInst": Family("condinst/condinst_r50_fpn_ms-poly-90k_coco_instance"),
    "YOLACT": Family("yolact/yolact_r50_1xb8-55e_coco"),
}
"""Those of mmdet that learn from boxes, or boxes and masks, one config each."""

OTHER = "Faster R-CNN"

WIDTHS = ("embed_dims", "num_feats", "num_deconv_filters", "rfp_inplanes")
MOST = {"stacked_convs": 2, "num_queries": 20, "num_proposals": 20, "nms_pre": 100, "max_per_img": 50, "num": 32}
"""Numbers that are cut, by their names."""


def model(family: Family) -> dict[str, Any]:
    """A family's slim ``model`` dict, which loads nothing of its own."""
    found = ConfigDict(configs.network(f"{configs.MMDETS}{family.config}.py", "student"))
    _slim(found, family.slim)
    for name, value in family.changes.items():
        *parents, last = name.split(".")
        part = found
        for parent in parents:
            part = part[parent]
        part[last] = value
    return dict(found)


def _slim(part: Any, widths: bool) -> None:
    if isinstance(part, (list, tuple)):
        for one in part:
            _slim(one, widths)
    if not isinstance(part, dict):
        return
    if "checkpoint" in str(part.get("init_cfg")):
        part["init_cfg"] = None
    kind = str(part.get("type"))
    if widths and kind.endswith("ResNet"):
        part["base_channels"] = 64 // BY
    if widths and kind.startswith("CSP") and "widen_factor" in part:
        part["widen_factor"] /= BY
    for name, value in list(part.items()):
        if name in MOST and isinstance(value, int):
            part[name] = min(value, MOST[name])
        elif name in ("encoder", "decoder") and isinstance(value, dict) and "num_layers" in value:
            value["num_layers"] = min(value["num_layers"], 2)
            _slim(value, widths)
        elif widths and ("channel" in name or name in WIDTHS):
            part[name] = _cut(value)
        else:
            _slim(value, widths)


def _cut(width: Any) -> Any:
    if isinstance(width, (list, tuple)):
        return [_cut(one) for one in width]
    return width // BY if isinstance(width, int) and width >= 32 else width


def batch(side: int, seed: int, *, masks: bool) -> dict[str, Any]:
    """Two images with two objects each, as mmdet's loader hands them to a data preprocessor."""
    generator = torch.Generator().manual_seed(seed)
    inputs, samples = [], []
    for index in range(2):
        inputs.append(torch.randint(0, 256, (3, side, side), generator=generator, dtype=torch.uint8))
        corners = torch.randint(0, side // 2, (2, 2), generator=generator).float()
        boxes = torch.cat([corners, corners + side / 3], dim=1)
        sample = DetDataSample(
            metainfo={"img_id": index, "img_shape": (side, side), "ori_shape": (side, side), "scale_factor": (1, 1)}
        )
        sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.zeros(2, dtype=torch.long))
        sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
        if masks:
            filled = np.zeros((2, side, side), dtype=np.uint8)
            for mask, (left, top, right, bottom) in zip(filled, boxes.int().tolist(), strict=True):
                mask[top:bottom, left:right] = 1
            sample.gt_instances.masks = BitmapMasks(filled, side, side)
        samples.append(sample)
    return {"inputs": inputs, "data_samples": samples}


class Other:
    """The network on the other side of every pair, with its checkpoint, and a folder for those of the families."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = model(FAMILIES[OTHER])
        with DefaultScope.overwrite_default_scope("mmdet"):
            self.checkpoint = self.keep(MODELS.build(copy.deepcopy(self.config)))

    def keep(self, network: torch.nn.Module) -> str:
        """A checkpoint of a network, in a file of its own."""
        file = self.folder / f"{len(list(self.folder.iterdir()))}.pth"
        torch.save({"state_dict": network.state_dict()}, file)
        return str(file)


def tried(name: str, other: Other) -> list[dict[str, Any]]:
    """Whether a family loads and trains, as student and as teacher: a line for each of both metrics.

    A student **loads** if its weights come back from the distiller's checkpoint, a teacher if the distiller takes its checkpoint.
    Either **trains** if two steps of DFMSD have finite losses and change the student. Where it does not, the line says why.
    """
    family = FAMILIES[name]
    lines: list[dict[str, Any]] = []
    with quiet(), DefaultScope.overwrite_default_scope("mmdet"):
        torch.manual_seed(0)
        config = model(family)
        network = MODELS.build(copy.deepcopy(config))
        network.init_weights()
        own = other.keep(network)
        for role in ROLES:
            student, teacher, file = (config, other.config, other.checkpoint) if role == "student" else (other.config, config, own)
            found = {metric: "" for metric in METRICS}
            strides = ""
            try:
                distiller = Distiller(student, teacher, [{"type": "DFMSD", "se_ratio": 4}], teacher_checkpoint=file)
                strides = ", ".join(map(str, distiller.pairs[0]))
                distiller.init_weights()
                if role == "student":
                    checkpoints.load(network, other.keep(distiller))
            except (StudyError, RuntimeError) as error:
                found = dict.fromkeys(METRICS, _reason(error))
            else:
                try:
                    _train(distiller, family, masks=_has_masks(student))
                except (StudyError, RuntimeError, ImportError) as error:
                    found["trains"] = _reason(error)
            lines += [
                {"row": name, "beside": role, "metric": metric, "value": float(not why), "strides": strides, "note": why}
                for metric, why in found.items()
            ]
    return lines


def _has_masks(config: Mapping[str, Any]) -> bool:
    return "mask_head" in config or "mask_head" in config.get("roi_head", {})


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _train(distiller: Distiller, family: Family, *, masks: bool) -> None:
    before = [parameter.clone() for parameter in distiller.student.parameters()]
    optimizer = torch.optim.SGD(distiller.train().parameters(), lr=1e-3)
    for step in range(STEPS):
        data = distiller.data_preprocessor(batch(family.side, step, masks=masks), True)
        loss, parts = distiller.parse_losses(distiller(**data, mode="loss"))
        if not loss.isfinite():
            bad = ", ".join(name for name, value in parts.items() if not torch.as_tensor(value).isfinite().all())
            raise StudyError(f"step {step + 1}: the loss is not finite ({bad})")
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(distiller.parameters(), 10.0)
        optimizer.step()
    if all(torch.equal(*pair) for pair in zip(before, distiller.student.parameters(), strict=True)):
        raise StudyError("two steps change nothing")


@contextmanager
def quiet() -> Iterator[None]:
    """Without a word of each weight that mmengine initialises."""
    logger = MMLogger.get_current_instance()
    level, hub = logger.level, MessageHub.get_current_instance()
    hub.update_info("iter", 0)
    hub.update_info("epoch", 0)
    logger.setLevel("ERROR")
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def measure(page: FamiliesPage) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Try all families in their order, at the scale smoke the first two: lines of :func:`tried`, and no pictures."""
    names = list(FAMILIES)[:2] if page.scale == "smoke" else list(FAMILIES)
    with tempfile.TemporaryDirectory(prefix="dfmsd-") as folder, torch.random.fork_rng():
        other = Other(Path(folder))
        return pd.DataFrame([line for name in names for line in tried(name, other)]), {}


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """The page's table: a row a family with mmdet's config, what it does on either side, the levels that met, and what is amiss."""
    frame = frame[frame["metric"].isin(METRICS)]
    said = frame.assign(said=frame["value"].map({1.0: "yes", 0.0: "no"}), column=frame["beside"] + " " + frame["metric"])
    columns = [f"{role} {metric}" for role in ROLES for metric in METRICS]
    found = said.pivot(index="row", columns="column", values="said").reindex(index=said["row"].unique(), columns=columns)
    found["strides"] = frame.groupby("row")["strides"].first()
    found["note"] = frame.groupby("row")["note"].agg(lambda notes: "; ".join(dict.fromkeys(filter(None, notes))))
    found["config"] = [FAMILIES[name].config if name in FAMILIES else "" for name in found.index]
    return found
