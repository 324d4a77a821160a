"""A mask generator that takes points and needs no weights: it pours paint, as a tester's SAM."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from softmatch_jax.imaging import resize_image
from softmatch_jax.models import Proposals

STEEP, SCALE = 8.0, 4


@dataclass(frozen=True, eq=False)
class FloodEmbedding:
    image: np.ndarray
    image_size: tuple[int, int]


@dataclass
class FloodGenerator:
    """Floods by colour from the positive points of a prompt, on a raster of a quarter of the size.

    Paint passes wherever the colour is within ``tolerance`` of that of the point it is poured on, and never
    within ``reach`` cells of a negative point. A single point is answered by a part, the whole, and too
    much; one with an earlier answer beside it is clear.

    Attributes:
        tolerance: Difference of colour that paint crosses.
        reach: Cells about a negative point that stay dry; with 0 such points count for nothing.
        asked: The prompts of every call.
    """

    tolerance: float = 40.0
    reach: int = 3
    score: float = 0.9
    stability: float = 1.0
    asked: list = field(default_factory=list)
    encodings: int = 0

    @property
    def name(self):
        return "flood"

    @property
    def embedding_name(self):
        return "flood"

    @property
    def promptable(self):
        return True

    def encode(self, image):
        self.encodings += 1
        height, width = (-(-length // SCALE) for length in image.shape[:2])
        padded = cv2.copyMakeBorder(
            image,
            0,
            height * SCALE - image.shape[0],
            0,
            width * SCALE - image.shape[1],
            cv2.BORDER_REPLICATE,
        )
        return FloodEmbedding(resize_image(padded, (height, width)).astype(np.float32), image.shape[:2])

    def pack(self, embedding):
        return {"image": embedding.image}

    def unpack(self, arrays, image_size):
        return FloodEmbedding(arrays["image"], image_size)

    def decode(self, embedding, prompts, *, prior=None):
        self.asked.append(list(prompts))
        masks, answers, scores = [], [], []
        for index, prompt in enumerate(prompts):
            made = self._answers(embedding, prompt)
            masks += [mask for mask, _ in made]
            scores += [score for _, score in made]
            answers += [index] * len(made)
        return Proposals(
            logits=np.where(np.array(masks), STEEP, -STEEP)
            .astype(np.float32)
            .reshape(len(masks), *embedding.image.shape[:2]),
            scores=np.array(scores, np.float32),
            stability=np.full(len(masks), self.stability, np.float32),
            prompts=np.array(answers, np.int32),
            image_size=embedding.image_size,
            content=embedding.image_size,
            scale=SCALE,
        )

    def _answers(self, embedding, prompt):
        shape = embedding.image.shape[:2]
        cells = np.clip((prompt.points / SCALE).astype(int), 0, np.array(shape)[::-1] - 1)
        dry = np.zeros(shape, np.uint8)
        for x, y in cells[~prompt.positive] if self.reach else ():
            cv2.circle(dry, (int(x), int(y)), self.reach, 1, -1)
        if prompt.box is not None:
            x0, y0, x1, y1 = (round(v / SCALE) for v in prompt.box)
            outside = np.ones(shape, np.uint8)
            outside[y0:y1, x0:x1] = 0
            dry |= outside
            if not prompt.positive.any():
                cells = np.array([[(x0 + x1) // 2, (y0 + y1) // 2]])
        poured = cells[prompt.positive] if prompt.positive.any() else cells[:1]
        whole = np.zeros(shape, bool)
        for x, y in poured:
            whole |= self._flood(embedding.image, dry, (int(x), int(y)))
        if prompt.logits is not None or len(prompt.points) != 1:
            return [(whole, self.score)]
        (x, y) = poured[0]
        spot = np.zeros(shape, np.uint8)
        cv2.circle(spot, (int(x), int(y)), 3, 1, -1)
        more = cv2.dilate(whole.astype(np.uint8), np.ones((15, 15), np.uint8)) > 0
        return [(whole & (spot > 0), self.score), (whole, self.score), (more, self.score)]

    def _flood(self, image, dry, seed):
        if dry[seed[1], seed[0]]:
            return np.zeros(dry.shape, bool)
        alike = np.linalg.norm(image - image[seed[1], seed[0]], axis=-1) < self.tolerance
        _, pieces = cv2.connectedComponents((alike & (dry == 0)).astype(np.uint8), connectivity=4)
        return pieces == pieces[seed[1], seed[0]]
