"""What a promptable generator is measured against: rules that take a picture and a box, and people."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from softmatch_jax.evaluation.regions import Predict, mask_proposals, predictor
from softmatch_jax.models import GrabCut, Proposals
from softmatch_jax.prompting import Prompt

ROUNDS = 5  # of plain GrabCut


def from_boxes(draw: Callable[[np.ndarray, Sequence[int]], np.ndarray]) -> Predict:
    """A rule that needs no more than the picture and whole-numbered ``x0, y0, x1, y1``."""

    def predict(image: np.ndarray, prompts: Sequence[Prompt]) -> Proposals:
        boxes = [[round(end) for end in prompt.box] for prompt in prompts]
        return mask_proposals(np.array([draw(image, box) for box in boxes]))

    return predict


def filled(image: np.ndarray, box: Sequence[int]) -> np.ndarray:
    x0, y0, x1, y1 = box
    mask = np.zeros(image.shape[:2], bool)
    mask[y0:y1, x0:x1] = True
    return mask


def ellipse(image: np.ndarray, box: Sequence[int]) -> np.ndarray:
    x0, y0, x1, y1 = box
    y, x = np.ogrid[: image.shape[0], : image.shape[1]]
    across, down = (2 * x + 1 - x0 - x1) / (x1 - x0), (2 * y + 1 - y0 - y1) / (y1 - y0)
    return across**2 + down**2 <= 1


def grabcut(image: np.ndarray, box: Sequence[int]) -> np.ndarray:
    """OpenCV's own, at full size; a box around everything leaves it no background, and is the answer."""
    x0, y0, x1, y1 = box
    inside = filled(image, box)
    if inside.all():
        return inside
    labels, models = np.zeros(image.shape[:2], np.uint8), np.zeros((2, 1, 65))
    cv2.setRNGSeed(0)
    bgr = np.ascontiguousarray(image[..., ::-1])
    rectangle = (x0, y0, x1 - x0, y1 - y0)
    labels, _, _ = cv2.grabCut(bgr, labels, rectangle, *models, ROUNDS, cv2.GC_INIT_WITH_RECT)
    return (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)


BASELINES: dict[str, Predict] = {
    "filled box": from_boxes(filled),
    "ellipse in the box": from_boxes(ellipse),
    "cv2.grabCut": from_boxes(grabcut),
    "GrabCut mask generator": predictor(GrabCut()),
}


def best_region(mask: np.ndarray, labels: np.ndarray) -> float:
    """IoU of the region of a map that fits a mask best."""
    areas = np.bincount(labels.ravel())
    both = np.bincount(labels[mask], minlength=len(areas))
    return float((both / (areas + mask.sum() - both)).max())
