"""A small SAM, random encoders on a cheap descriptor, and pictures of discs, for all studies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from small_sam import drawn_weights, small_config

from softmatch_jax.data.annotating import Annotator
from softmatch_jax.data.corrected import CorrectedEpisodes
from softmatch_jax.data.episodes import ClassLists, Sample, Truth
from softmatch_jax.imaging import write_image
from softmatch_jax.models.embedded import DenseDescriptor, DescriptorConfig
from softmatch_jax.models.proposals import Proposals
from softmatch_jax.models.prosam.config import DistributionConfig, PromptEncoderConfig
from softmatch_jax.models.prosam.distribution import PromptDistribution
from softmatch_jax.models.prosam.encoder import PromptEncoder
from softmatch_jax.models.prosam.frozen_sam import EncodedScene, FrozenSam
from softmatch_jax.models.prosam.predictor import Predictor
from softmatch_jax.models.sam.tiny_generator import TinySam, TinySamConfig
from softmatch_jax.models.sam.tiny_network import TinyNetwork
from softmatch_jax.studies.question import Contender, Question, load_questions


def disc(x: float, y: float, radius: float, size=(48, 64)) -> np.ndarray:
    rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
    return np.hypot(rows - y, columns - x) < radius


class DiscTruth:
    """A disc, with a ring of void around it."""

    def __init__(self, mask: np.ndarray, void: np.ndarray) -> None:
        self.mask, self.void, self.path = mask, void, Path("disc.png")

    def read(self, size) -> Truth:
        return Truth(self.mask, self.void)


def disc_episodes(root: Path, pictures: int = 3) -> CorrectedEpisodes:
    """Red discs and blue ones on green."""
    samples = {}
    for name, colour in (("red", (210, 40, 40)), ("blue", (40, 40, 210))):
        of_class = []
        for n in range(pictures):
            x, y, radius = 16 + 12 * n, 20 + 3 * n, 9 + n
            mask = disc(x, y, radius)
            path = root / f"{name}{n}.png"
            write_image(path, np.where(mask[..., None], colour, (60, 130, 60)).astype(np.uint8))
            truth = DiscTruth(mask, disc(x, y, radius + 2) & ~mask)
            of_class.append(Sample(name=path.stem, image=path, truth=truth))
        samples[name] = tuple(of_class)
    return CorrectedEpisodes(ClassLists(name="discs", samples=samples), 1)


@cache
def models() -> tuple[DenseDescriptor, FrozenSam]:
    """The descriptor, and a SAM of the shipped one's kind, smaller and with drawn weights."""
    network = TinyNetwork(drawn_weights(), size=64, source="drawn")
    network.config = small_config(64)
    descriptor = DenseDescriptor(DescriptorConfig(longest=64))
    return descriptor, FrozenSam(TinySam(network, TinySamConfig(size=64)))


def disc_questions(root: Path, *, shots: int = 1, count: int | None = None) -> tuple[Question, ...]:
    features, sam = models()
    episodes = CorrectedEpisodes(disc_episodes(root).lists, shots)
    annotate = Annotator(kind="mask", mode="fixed")
    return load_questions(features, sam, episodes, annotate, to_grid="area", count=count)


def contender(
    name: str,
    seed: int = 0,
    *,
    constant: bool = False,
    gain: float = 1.0,
    distribution: DistributionConfig | None = None,
    **changes,
) -> Contender:
    """A random encoder; a constant one has the same prompts whatever it sees."""
    features, sam = models()
    sizes = {"channels": features.dim, "dim": sam.dim, "prompts": 3, "to_grid": "area", **changes}
    encoder = PromptEncoder(PromptEncoderConfig(**sizes), rngs=nnx.Rngs(seed))
    if constant or gain != 1:
        head = encoder.mean_head
        head.kernel[...] = jnp.zeros_like(head.kernel[...]) if constant else gain * head.kernel[...]
        head.bias[...] = gain * head.bias[...]
    return Contender(name=name, predictor=Predictor(features, sam, encoder, distribution))


def stand_in_questions(masks: Sequence[np.ndarray], classes: Sequence[str], void: Any = None) -> list[Any]:
    """Questions about pictures of 48x64 pixels that nobody has drawn, on a raster of 16x16 cells."""
    raster = replace(Proposals.empty((16, 16)), image_size=(48, 64), content=(48, 64), scale=4)
    return [
        Question(
            index=i,
            class_name=name,
            target=f"{name}{i}",
            scene=EncodedScene(i, raster),
            features=i,
            truth=mask,
            void=void,
            references=("reference",),
            to_grid="area",
        )
        for i, (mask, name) in enumerate(zip(masks, classes, strict=True))
    ]


class StandIn:
    """Predicts prompts from the place of the question, and decodes them, by two functions."""

    def __init__(
        self,
        prompts: Callable[[int], np.ndarray],
        logits: Callable[[int, np.ndarray], np.ndarray],
        *,
        log_sigma: float = -np.inf,
        family: str = "none",
        sam: Any = None,
    ) -> None:
        self._prompts, self._logits, self._log_sigma = prompts, logits, log_sigma
        self.config, self.features = SimpleNamespace(to_grid="area"), SimpleNamespace(name="no features")
        self.sam = sam or SimpleNamespace(name="no SAM")
        self.distribution = DistributionConfig(family=family)

    def prompts(self, reference: Any, target: int) -> PromptDistribution:
        mean = jnp.asarray(self._prompts(target), jnp.float32)
        return PromptDistribution(mean, jnp.full_like(mean, self._log_sigma))

    def decode(self, scene: EncodedScene, prompts: Any, *, chunk: int = 1) -> np.ndarray:
        made = [self._logits(scene.scene, np.asarray(each)) for each in prompts]
        return np.stack(made).astype(np.float32)


def truth_logits(questions: Sequence[Any]) -> Callable[[int, np.ndarray], np.ndarray]:
    """Decodes prompts of ones to the truth; the farther they are from that, the smaller the object."""
    small = [question.small_truth - 0.5 for question in questions]
    return lambda place, prompts: small[place] - np.sqrt(np.mean((prompts - 1) ** 2)) / 4
