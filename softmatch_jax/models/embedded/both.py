"""Two generators' answers to every prompt: GrabCut, which follows colours, and one that has learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float

from softmatch_jax._types import Image, Map, Size
from softmatch_jax.models.embedded.grabcut import GrabCut, GrabCutEmbedding
from softmatch_jax.models.proposals import Proposals
from softmatch_jax.models.protocols import MaskGenerator
from softmatch_jax.prompting import Prompt


class Learned(MaskGenerator, Protocol):
    """A mask generator that can correct its masks, such as the tiny model."""

    def raster(self, image_size: Size) -> Proposals:
        """No proposals, on the raster that those of a picture of ``image_size`` lie on."""


@dataclass(frozen=True, eq=False)
class EitherEmbedding:
    """A picture as both generators see it.

    Attributes:
        cut: GrabCut's.
        learned: The other's.
        size: ``(h, w)`` of the raster that all proposals lie on: the finer of the two generators' own.
    """

    cut: GrabCutEmbedding
    learned: Any
    size: Size


@dataclass(frozen=True)
class EitherGenerator:
    """Proposals of both generators for every prompt; who asks takes the better.

    GrabCut's mask of an object is a proposal of every prompt on it. The generators' own scores do not
    compare. With a prior the score of every proposal is the mean of the prior over it, which is GrabCut's
    own. Without one GrabCut scores one half, and the other what it says itself.

    Attributes:
        cut: GrabCut, which takes the prior.
        learned: The other one.
    """

    cut: GrabCut
    learned: Learned

    @property
    def name(self) -> str:
        """Both generators in one line."""
        return f"either({self.cut.name}, {self.learned.name})"

    @property
    def promptable(self) -> bool:
        """As the learned generator: what it makes of scribbles needs no prior."""
        return self.learned.promptable

    def encode(self, image: Image) -> EitherEmbedding:
        """Runs both.

        Raises:
            InputError: ``image`` is not ``uint8 [H, W, 3]``.
        """
        cut, learned = self.cut.encode(image), self.learned.encode(image)
        height, width = cut.small.shape[:2]
        cells = _cells(self.learned.raster(cut.image_size))
        size = max((height, width), cells, key=lambda size: size[0] * size[1])
        return EitherEmbedding(cut, learned, size)

    def decode(
        self, embedding: EitherEmbedding, prompts: Sequence[Prompt], *, prior: Map | None = None
    ) -> Proposals:
        """Masks of both for the prompts; see :class:`~softmatch_jax.models.MaskGenerator`.

        Args:
            embedding: From :meth:`encode`.
            prompts: GrabCut passes over the earlier logits in them.
            prior: Goes to both.

        Raises:
            InputError: No prompts, logits that are not of this raster, or a prior of another size.
        """
        cut = _shared(self.cut.decode(embedding.cut, prompts, prior=prior), prompts)
        asked = self._for_learned(embedding, prompts)
        learned = self.learned.decode(embedding.learned, asked, prior=prior)
        size = embedding.size
        made = Proposals(
            logits=np.concatenate([_placed(cut, size), _placed(learned, size)]),
            scores=np.concatenate([cut.scores, learned.scores]),
            stability=np.concatenate([cut.stability, learned.stability]),
            prompts=np.concatenate([cut.prompts, learned.prompts]),
            image_size=embedding.cut.image_size,
            content=size,
        )
        if prior is not None:
            made = replace(made, scores=_mean_prior(made, prior))
        return made[np.argsort(made.prompts, kind="stable")]

    def _for_learned(self, embedding: EitherEmbedding, prompts: Sequence[Prompt]) -> list[Prompt]:
        """The prompts with earlier logits on the learned generator's raster."""
        raster = replace(self.learned.raster(embedding.cut.image_size), image_size=embedding.size)
        return [
            prompt
            if prompt.logits is None or prompt.logits.shape != embedding.size  # which the other will refuse
            else replace(prompt, logits=raster.reduce(prompt.logits))
            for prompt in prompts
        ]


def _cells(proposals: Proposals) -> Size:
    """Rows and columns of the raster that show the picture."""
    height, width = (-(-length // proposals.scale) for length in proposals.content)
    return height, width


def _placed(proposals: Proposals, size: Size) -> Float[np.ndarray, "n h w"]:
    """Logits about zero on a raster of that size that the picture fills."""
    there = replace(proposals, image_size=size)
    logits = [there.enlarge(each - proposals.threshold) for each in proposals.logits]
    return np.array(logits, np.float32).reshape(-1, *size)


def _mean_prior(proposals: Proposals, prior: Map) -> Float[np.ndarray, " n"]:
    """Mean of a map over each mask; zero for an empty one."""
    masks = proposals.small_masks.reshape(len(proposals), -1).astype(np.float32)
    totals = masks @ proposals.reduce(prior).ravel()
    means: np.ndarray = (totals / np.maximum(masks.sum(axis=1), 1)).astype(np.float32)
    return means


def _shared(cut: Proposals, prompts: Sequence[Prompt]) -> Proposals:
    """GrabCut's proposals, each for all prompts on it and not just for the first of them."""
    answered, masks = set(cut.prompts.tolist()), cut.small_masks
    owners, chosen = cut.prompts.tolist(), list(range(len(cut)))
    ratio = np.divide(cut.content, cut.image_size)[::-1]
    bounds = np.array(cut.content[::-1]) - 1
    for index, prompt in enumerate(prompts if len(cut) else ()):
        if index in answered:
            continue
        xy = prompt.points[prompt.positive]
        if not len(xy) and prompt.box is not None:
            xy = np.reshape(prompt.box, (2, 2)).mean(axis=0, keepdims=True)
        x, y = np.clip((xy * ratio).astype(int), 0, bounds).T
        hits = masks[:, y, x].sum(axis=1)
        if hits.any():
            owners.append(index)
            chosen.append(int(np.argmax(hits)))
    return replace(cut[chosen], prompts=np.array(owners, np.int32))
