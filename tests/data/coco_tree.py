"""A COCO 2014 of a few small pictures, whose lists are counted by hand."""

from __future__ import annotations

import json

import numpy as np

from softmatch_jax.imaging import write_image

H, W = 100, 110


def box(x, y, width, height):
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]


# Of each picture its objects: number of the class, segmentation, crowd.
VAL = {
    "COCO_val2014_2": [(1, box(0, 0, 64, 32), 0)],  # 2048 pixels
    "COCO_val2014_1": [(1, box(0, 0, 89, 23), 0), (5, box(0, 30, 46, 46), 0)],  # 2047, too few; and 2116
    "COCO_val2014_3": [(1, box(0, 0, 50, 50), 0), (2, box(25, 0, 50, 50), 0)],  # 1250 stay of the first
    "COCO_val2014_4": [(1, box(0, 0, 64, 32), 0), (5, {"counts": [0, H * W], "size": [H, W]}, 1)],
    "COCO_val2014_5": [],
    "COCO_val2014_6": [(1, box(0, 0, 80, 80), 0)],  # its picture is not there
    "COCO_val2014_7": [(1, box(0, 0, 90, 90), 0), (4, box(50, 50, 90, 90), 0), (2, box(200, 0, 9, 9), 0)],
}
TRAIN = {
    "COCO_train2014_1": [(2, box(0, 0, 60, 60), 0), (1, box(90, 90, 1, 1), 0)],
    "COCO_train2014_2": [(2, box(0, 0, 60, 60), 0)],
}


def write_coco(root, *, split="val", pictures=VAL, absent=("COCO_val2014_6",)):
    """Writes annotations and pictures; ids of categories and of pictures have gaps."""
    images, annotations = [], []
    (root / f"{split}2014").mkdir(parents=True, exist_ok=True)
    (root / "annotations").mkdir(exist_ok=True)
    for index, (name, objects) in enumerate(pictures.items()):
        images.append({"id": 10 * index, "file_name": f"{name}.jpg", "height": H, "width": W})
        for number, segmentation, crowd in objects:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 10 * index,
                    "category_id": number + number // 12,
                    "iscrowd": crowd,
                    "segmentation": segmentation,
                }
            )
        if name not in absent:
            write_image(root / f"{split}2014" / f"{name}.jpg", np.full((H, W, 3), 9 * index, np.uint8))
    categories = [{"id": k + k // 12, "name": f"class {k}"} for k in range(1, 81)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / f"annotations/instances_{split}2014.json").write_text(json.dumps(content))
