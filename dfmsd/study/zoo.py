"""The networks of ``zoo.yaml`` as specifications."""

from __future__ import annotations

from functools import cache
from typing import Any

from dfmsd.errors import StudyError, suggest
from dfmsd.study import params, paths
from dfmsd.study.spec import NetworkSpec, Weights

CHECKPOINTS = "https://download.openmmlab.com/mmdetection/v2.0/"


@cache
def _rows() -> dict[str, Any]:
    return params.read(paths.PACKAGE / "study" / "zoo.yaml")


def names() -> list[str]:
    """All networks, in the order of the file."""
    return list(_rows()["networks"])


def _row(name: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    networks = _rows()["networks"]
    if name not in networks:
        raise StudyError(f"unknown detector {name!r}: {suggest(name, networks)}")
    return networks[name], _part(name, "families", family(name)), _part(name, "backbones", name.rpartition("_")[2])


def _part(name: str, kind: str, part: str) -> dict[str, Any]:
    """What a network shares with others of its family or its backbone."""
    rows = _rows()[kind]
    if part not in rows:
        raise StudyError(f"dfmsd/study/zoo.yaml: {name} needs a row {part!r} in {kind}, or another name: {suggest(part, rows)}")
    return rows[part]  # type: ignore[no-any-return]


def family(name: str) -> str:
    """The family of a network: ``faster_rcnn`` of ``faster_rcnn_r50``."""
    return name.rpartition("_")[0]


def learning_rate(name: str, scale: str) -> float:
    """The learning rate of a network's family, for the batch of a scale."""
    rates = _row(name)[1].get("lr", {})
    if scale not in rates:
        raise StudyError(f"dfmsd/study/zoo.yaml: families: {family(name)}: lr has none for the scale {scale}: add it")
    return float(rates[scale])


def label(name: str) -> str:
    """The name that a table prints.

    Example:
        >>> label("faster_rcnn_r50")
        'Faster R-CNN R50'
    """
    _, kin, backbone = _row(name)
    return f"{kin['label']} {backbone['label']}"


def network(name: str, scale: str) -> NetworkSpec:
    """The network as it is built at a scale."""
    row, kin, backbone = _row(name)
    overrides: dict[str, Any] = {}
    for part in (kin, backbone, row):
        overrides |= part.get("slim", {}).get(scale, {})
    return NetworkSpec(name=name, config=row["config"], overrides=overrides, kind=kin["kind"])


def backbone(name: str, scale: str) -> dict[str, Any] | None:
    """The whole backbone of a network that a scale replaces; None if it has mmdet's own, as it is or changed.

    A replaced backbone may not be changed by a dotted key, too: networks with equal ones share their start.
    """
    overrides = network(name, scale).overrides
    whole = overrides.get("model.backbone", {})
    if not whole.get("_delete_"):
        return None
    if changed := [key for key in overrides if key.startswith("model.backbone.")]:
        raise StudyError(f"dfmsd/study/zoo.yaml: {name}: {changed[0]!r} changes a backbone that {scale} replaces: write it there")
    return {key: value for key, value in whole.items() if key != "_delete_"}


def weights(name: str) -> Weights:
    """Mmdet's published checkpoint: address, first digits of its SHA-256 (its file name ends in them), and AP on COCO val2017."""
    entry = _row(name)[0]["weights"]
    prefix = entry["url"].rsplit("-", 1)[1].removesuffix(".pth")
    return Weights(url=CHECKPOINTS + entry["url"], sha256_prefix=prefix, ap=entry["ap"])
