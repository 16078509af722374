"""Figures and tables of the generated data set."""

from __future__ import annotations

import json
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from pycocotools import mask as codec

from dfmsd.errors import StudyError
from dfmsd.study import data
from dfmsd.study.spec import DataSpec, ShapesData

Json = dict[str, Any]

KINDS = {"small": "small objects dominate", "mixed": "mixed", "large": "large objects dominate"}
SIZES = ("small", "medium", "large")
PALETTE = "colorblind"
DECIMALS = 2


def generated(spec: DataSpec) -> ShapesData:
    """The specification, if it is of a generated data set.

    Raises:
        StudyError: if it is COCO, whose images have no kind.
    """
    if not isinstance(spec, ShapesData):
        raise StudyError("this page shows generated data, which the scale coco has not: take smoke, mini or gpu")
    return spec


def samples(spec: DataSpec, images: int) -> Figure:
    """The first training images of each kind, with the boxes and masks of their objects.

    Args:
        spec: The data set; generated first if it is missing.
        images: Columns: images of each kind. Where there are fewer, panels stay empty.
    """
    split = data.ensure(generated(spec)).train
    content = json.loads(split.annotations.read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    colours = dict(zip(names, sns.color_palette(PALETTE, len(names)), strict=True))
    rows, width = len(KINDS), 2.2
    figure, axes = plt.subplots(rows, images, figsize=(width * images, width * rows), squeeze=False, layout="constrained")
    for line, (kind, title) in zip(axes, KINDS.items(), strict=True):
        chosen = [image for image in content["images"] if image["kind"] == kind][:images]
        for axis in line:
            axis.set(xticks=[], yticks=[])
            axis.set_frame_on(False)
        line[0].set_ylabel(title)
        for axis, image in zip(line, chosen, strict=False):
            axis.imshow(plt.imread(split.images / image["file_name"]))
            for item in content["annotations"]:
                if item["image_id"] == image["id"]:
                    _draw(axis, item, names[item["category_id"]], colours[item["category_id"]])
    plt.close(figure)
    return figure


def _draw(axis: Axes, item: Json, name: str, colour: tuple[float, float, float]) -> None:
    mask = codec.decode(item["segmentation"])
    axis.contour(mask, levels=[0.5], colors="white", linewidths=0.9)
    x, y, width, height = item["bbox"]
    axis.add_patch(Rectangle((x - 0.5, y - 0.5), width, height, fill=False, edgecolor=colour, linewidth=1.4))
    # Above the box, or inside it where the image ends.
    place, side = ((x, y - 2), "bottom") if y > mask.shape[0] / 12 else ((x, y + 2), "top")
    dark = sum(colour) < 1.5
    label = {"facecolor": colour, "edgecolor": "none", "pad": 0.8}
    axis.annotate(name, place, va=side, fontsize=7, color="white" if dark else "black", bbox=label)


def split_table(tables: dict[str, list[Json]]) -> pd.DataFrame:
    """One row a split: images, objects, their mean, objects by COCO's size classes, share of images of each kind.

    Args:
        tables: What :func:`dfmsd.study.data.statistics` returns.
    """
    frame = pd.DataFrame(tables["splits"]).set_index("split").rename_axis(None)
    return frame.round(DECIMALS).rename(
        columns={"mean_objects": "objects per image"}
        | {size: f"{size} objects" for size in SIZES}
        | {f"{kind}_images": f"images: {title}" for kind, title in KINDS.items()}
    )


def statistics(tables: dict[str, list[Json]]) -> Figure:
    """Objects per image, size classes and classes, as shares of each split.

    Args:
        tables: What :func:`dfmsd.study.data.statistics` returns.
    """
    splits = pd.DataFrame(tables["splits"])
    counts = pd.DataFrame(tables["objects_per_image"])
    counts["share"] = counts["images"] / counts.groupby("split")["images"].transform("sum")
    sizes = splits.drop(columns="objects").melt("split", list(SIZES), "size", "objects")
    classes = pd.DataFrame(tables["classes"])
    for frame in (sizes, classes):
        frame["share"] = frame["objects"] / frame.groupby("split")["objects"].transform("sum")
    figure, axes = plt.subplots(1, 3, figsize=(10, 3), width_ratios=(3, 2, 4), layout="constrained")
    panels = (
        (counts, "objects", "objects in an image", "share of the images"),
        (sizes, "size", "COCO's size class", "share of the objects"),
        (classes, "class", "class", "share of the objects"),
    )
    for axis, (frame, x, name, share) in zip(axes, panels, strict=True):
        sns.barplot(frame, x=x, y="share", hue="split", palette=PALETTE, ax=axis, legend=axis is axes[1])
        axis.set(xlabel=name, ylabel=share)
    axes[1].legend(frameon=False)
    axes[2].tick_params(axis="x", rotation=60)
    sns.despine(figure)
    plt.close(figure)
    return figure
