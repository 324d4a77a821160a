"""GrabCut as a mask generator: an iterated graph cut on colour models (Rother et al., SIGGRAPH 2004)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from softmatch_jax._checks import InputError, check_finite, check_image
from softmatch_jax._types import Image, Map, Mask, Size
from softmatch_jax.imaging import fit_longest, resize_image, resize_map
from softmatch_jax.models.proposals import Proposals
from softmatch_jax.prompting import Prompt

SURE = 10.0
"""Logit of a pixel within the cut, which knows no degrees."""


@dataclass(frozen=True, kw_only=True)
class GrabCutConfig:
    """Settings of the GrabCut mask generator.

    Attributes:
        longest: Length in pixels the longer side is resized to for the cut.
        iterations: Rounds of fitting the colour models and cutting.
        certain: A prior at or above this is object for sure, at or below one minus this is not; the
            cut decides what lies between.
        seed_radius: Radius in pixels of the disc that a point fixes, in the resized picture.
        band: Half-width in pixels of the band about the prior's contour that the second cut may move in.
    """

    longest: int = 448
    iterations: int = 3
    certain: float = 0.95
    seed_radius: float = 1.5
    band: int = 4

    def __post_init__(self) -> None:
        if self.longest < 1 or self.iterations < 1 or not 0.5 < self.certain <= 1 or self.band < 1:
            raise InputError(
                f"{self} is out of range; expected longest >= 1, iterations and band >= 1 and certain in "
                "(0.5, 1]."
            )
        if not self.seed_radius >= 0 or int(self.band) != self.band:
            raise InputError(
                f"{self} is out of range; expected seed_radius >= 0 and a whole number for band."
            )


@dataclass(frozen=True, eq=False)
class GrabCutEmbedding:
    """What is kept of a picture: a small copy.

    Attributes:
        small: ``uint8 [h, w, 3]``, the resized picture, in OpenCV's BGR order.
        edges: ``float32 [h, w]``, gradient magnitude in Lab.
        image_size: ``(H, W)`` of the original.
    """

    small: Image
    edges: Map
    image_size: Size


@dataclass(frozen=True)
class GrabCut:
    """The embedded :class:`~softmatch_jax.models.MaskGenerator`.

    With a prior, two cuts are made: one is free to follow the colours anywhere, which finds the whole of
    an object the prior saw in part; the other stays within a narrow band about the prior's contour, which
    keeps what is thin, or of the colour of its surroundings. The one whose outline lies on the stronger
    edges is kept. OpenCV's generator of random numbers, which belongs to the thread, is seeded anew.

    All prompts are cut together, since each one's object is evidence on the colours of the next. The
    cut is then taken apart into connected pieces, and a prompt's proposal is the pieces that its points
    (or its box's centre) lie on.

    Attributes:
        config: Settings.
    """

    config: GrabCutConfig = field(default_factory=GrabCutConfig)

    @property
    def name(self) -> str:
        """Model and settings in one line."""
        return f"grabcut({self.config})"

    @property
    def promptable(self) -> bool:
        """False: it takes a prior to know what is meant by a point."""
        return False

    def encode(self, image: Image) -> GrabCutEmbedding:
        """Shrinks the picture to working size.

        Raises:
            InputError: ``image`` is not ``uint8 [H, W, 3]``.
        """
        check_image("image", image)
        size = fit_longest((image.shape[0], image.shape[1]), self.config.longest, enlarge=False)
        small = np.ascontiguousarray(resize_image(image, size)[..., ::-1])
        return GrabCutEmbedding(small, _gradient_magnitude(small), (image.shape[0], image.shape[1]))

    def decode(
        self, embedding: GrabCutEmbedding, prompts: Sequence[Prompt], *, prior: Map | None = None
    ) -> Proposals:
        """Cuts the picture along its prompts; see :class:`~softmatch_jax.models.MaskGenerator`.

        The score of a proposal is the mean of the prior over it, one half everywhere without a prior.
        """
        if not prompts:
            raise InputError("decode got no prompts; expected at least one.")
        size = embedding.small.shape[:2]
        if prior is None:
            probability = np.full(size, 0.5, np.float32)
        elif prior.shape != embedding.image_size:
            raise InputError(
                f"prior is {list(prior.shape)} but the picture is {list(embedding.image_size)}; expected one "
                "probability per pixel of the original picture."
            )
        else:
            check_finite("prior", prior, "expected a probability for every pixel.")
            probability = resize_map(prior, size)
        trimap = self._trimap(probability, prompts, embedding, prior is not None)
        cut = self._cut(embedding.small, trimap)
        if prior is not None:
            banded = self._cut(embedding.small, self._banded(trimap, probability))
            if _edge_strength(banded, embedding.edges) > _edge_strength(cut, embedding.edges):
                cut = banded
        return self._proposals(cut, prompts, probability, embedding)

    def _trimap(
        self, probability: Map, prompts: Sequence[Prompt], embedding: GrabCutEmbedding, has_prior: bool
    ) -> np.ndarray:
        """OpenCV's four labels for every pixel."""
        certain = self.config.certain
        likely = probability > 0.5
        trimap = np.where(likely, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
        trimap[probability >= certain] = cv2.GC_FGD
        trimap[probability <= 1 - certain] = cv2.GC_BGD
        boxes = [prompt.box for prompt in prompts]
        if any(box is not None for box in boxes):
            inside = _inside_boxes([box for box in boxes if box is not None], embedding)
            if not has_prior:
                trimap[inside] = cv2.GC_PR_FGD
            if None not in boxes:
                trimap[~inside] = cv2.GC_BGD
        for sign, label in ((True, cv2.GC_FGD), (False, cv2.GC_BGD)):
            for prompt in prompts:
                _stamp(trimap, _scaled(prompt.points[prompt.positive == sign], embedding), label, self.config)
        return trimap

    def _banded(self, trimap: np.ndarray, probability: Map) -> np.ndarray:
        """The trimap with everything fixed but a band about the prior's contour."""
        likely = (probability > 0.5).astype(np.uint8)
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * self.config.band + 1,) * 2)
        fixed = trimap.copy()
        open_ = (trimap == cv2.GC_PR_FGD) | (trimap == cv2.GC_PR_BGD)
        fixed[open_ & (cv2.erode(likely, disc) > 0)] = cv2.GC_FGD
        fixed[open_ & (cv2.dilate(likely, disc) == 0)] = cv2.GC_BGD
        return fixed

    def _cut(self, small: Image, trimap: np.ndarray) -> Mask:
        """Runs the cut; a trimap with one class only is its own answer."""
        object_like = (trimap == cv2.GC_FGD) | (trimap == cv2.GC_PR_FGD)
        if object_like.all() or not object_like.any():
            return object_like
        # OpenCV seeds its colour clusters from this generator, which belongs to the thread.
        cv2.setRNGSeed(0)
        models = np.zeros((2, 1, 65))
        whole = (0, 0, small.shape[1], small.shape[0])  # unused with a trimap, but wanted by the signature
        result, _, _ = cv2.grabCut(
            small, trimap.copy(), whole, models[0], models[1], self.config.iterations, cv2.GC_INIT_WITH_MASK
        )
        return (result == cv2.GC_FGD) | (result == cv2.GC_PR_FGD)

    def _proposals(
        self, cut: Mask, prompts: Sequence[Prompt], probability: Map, embedding: GrabCutEmbedding
    ) -> Proposals:
        """One proposal per distinct set of pieces that a prompt touches."""
        _, pieces = cv2.connectedComponents(cut.astype(np.uint8), connectivity=8)
        found: dict[frozenset[int], int] = {}
        for index, prompt in enumerate(prompts):
            points = prompt.points[prompt.positive]
            if len(points) == 0 and prompt.box is not None:
                touched = pieces[_inside_boxes([prompt.box], embedding)]
            else:
                x, y = _scaled(points, embedding).T.astype(int)
                height, width = pieces.shape
                touched = pieces[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
            names = frozenset(int(i) for i in np.unique(touched) if i)
            if names:
                found.setdefault(names, index)
        masks, scores = [], []
        for names in found:
            mask = np.isin(pieces, list(names))
            masks.append(mask)
            scores.append(float(probability[mask].mean()))
        size = pieces.shape
        logits = np.where(np.array(masks, bool).reshape(-1, *size), SURE, -SURE).astype(np.float32)
        return Proposals(
            logits=logits,
            scores=np.array(scores, np.float32),
            stability=np.ones(len(masks), np.float32),
            prompts=np.array(list(found.values()), np.int32),
            image_size=embedding.image_size,
            content=size,
            # Pixels of which one half is covered count, whatever the rounding.
            threshold=-2e-5 * SURE,
        )


def _gradient_magnitude(small: Image) -> Map:
    """Norm of the colour gradient, CIE Lab, after a Gaussian of one pixel."""
    smooth = cv2.GaussianBlur(small, (0, 0), 1.0).astype(np.float32) / 255
    lab = cv2.cvtColor(smooth, cv2.COLOR_BGR2LAB)
    slopes = [cv2.Sobel(lab, cv2.CV_32F, *order) for order in ((1, 0), (0, 1))]
    return np.linalg.norm(np.concatenate(slopes, axis=-1), axis=-1).astype(np.float32)


def _edge_strength(mask: Mask, edges: Map) -> float:
    """Mean gradient on a mask's outline, the picture's border left out; 0 without an outline."""
    outline = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    outline[[0, -1]] = outline[:, [0, -1]] = False
    return float(edges[outline].mean()) if outline.any() else 0.0


def _scaled(points: np.ndarray, embedding: GrabCutEmbedding) -> np.ndarray:
    """Points ``(x, y)`` of the original picture, in the resized one."""
    ratio = np.divide(embedding.small.shape[:2], embedding.image_size)
    return points * ratio[::-1]


def _stamp(trimap: np.ndarray, points: np.ndarray, label: int, config: GrabCutConfig) -> None:
    """Sets a disc about each point, at least the pixel it lies in."""
    height, width = trimap.shape
    reach = int(np.ceil(config.seed_radius))
    offsets = np.indices((2 * reach + 1, 2 * reach + 1)).reshape(2, -1).T - reach
    offsets = offsets[np.hypot(*offsets.T) <= config.seed_radius]
    rows_columns = np.floor(points[:, ::-1]).astype(int)[:, None] + offsets[None]
    rows, columns = rows_columns.reshape(-1, 2).T
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    trimap[rows[inside], columns[inside]] = label


def _inside_boxes(boxes: Sequence[tuple[float, float, float, float]], embedding: GrabCutEmbedding) -> Mask:
    """Pixels of the resized picture whose centre lies in any box."""
    height, width = embedding.small.shape[:2]
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    inside = np.zeros((height, width), bool)
    for box in boxes:
        (x0, y0), (x1, y1) = _scaled(np.reshape(box, (2, 2)), embedding)
        inside |= ((y >= y0) & (y <= y1))[:, None] & ((x >= x0) & (x <= x1))[None]
    return inside
