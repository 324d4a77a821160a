"""From predicted prompts to the map of one class: of the mean prompt or samples, and their disagreement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from softmatch_jax._types import Map
from softmatch_jax.models import Proposals
from softmatch_jax.models.prosam.distribution import PromptDistribution, sample
from softmatch_jax.models.prosam.frozen_sam import EncodedScene
from softmatch_jax.models.prosam.predictor import Predictor
from softmatch_jax.models.prosam.strategies import Disagreement, Strategy, disagreement, merge_samples
from softmatch_jax.pipelines.prosam_config import ProSamConfig

Raster = Float[np.ndarray, "h w"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Decoded:
    """What was decoded for one class, on the raster of the masks.

    Attributes:
        proposals: The masks that were merged: that of the mean prompt, or of every sample.
        logits: Merged, above 0 on the object.
        confidence: Mean probability over the masks that were merged.
        uncertainty: How far sampled masks disagree, in 0..1; ``None`` where nothing was sampled.
        disagreement: The same as one number.
    """

    proposals: Proposals
    logits: Raster
    confidence: Raster
    uncertainty: Raster | None
    disagreement: float | None

    def large(self, raster: Raster) -> Map:
        """A map of the raster at the size of the picture.

        What lies beyond the picture, of which the decoder was taught nothing, is made to continue its rim.
        """
        inside, held = self.proposals.inside, raster.copy()
        rows, columns = int(inside.any(axis=1).sum()), int(inside.any(axis=0).sum())
        held[rows:] = held[rows - 1]
        held[:, columns:] = held[:, columns - 1 : columns]
        return self.proposals.enlarge(held)


def samples_wanted(predictor: Predictor, config: ProSamConfig) -> bool:
    """Whether prompts are to be drawn: not from an encoder that predicts no distribution (VRP-SAM)."""
    drawn = predictor.config.variational and predictor.distribution.family != "none"
    return drawn and (config.uncertainty or config.strategy != "mean")


def decode(
    predictor: Predictor,
    predicted: Sequence[PromptDistribution],
    scene: EncodedScene,
    config: ProSamConfig,
    *,
    key: jax.Array,
) -> Decoded:
    """Decodes the prompts of one class.

    Args:
        predictor: Holds the frozen SAM.
        predicted: Of each reference; their prompts stand in a row, as VRP-SAM's n-shot code has it.
        scene: The target.
        config: Settings.
        key: Of the samples.
    """
    sets = []
    if config.strategy == "mean":
        sets.append(jnp.concatenate([each.mean for each in predicted])[None])
    if samples_wanted(predictor, config):
        drawn = [
            _sample(each, predictor.distribution, config.samples, key=jax.random.fold_in(key, index))
            for index, each in enumerate(predicted)
        ]
        sets.append(jnp.concatenate(drawn, axis=1))
    prompts = jnp.concatenate(sets)
    together = config.together or (1 if jax.default_backend() == "cpu" else len(prompts))
    logits = predictor.decode(scene, prompts, chunk=together)
    first = len(sets[0])
    samples = logits[-len(sets[-1]) :] if samples_wanted(predictor, config) else None
    merged, confidence, apart = _merge(
        logits[:first], samples, jnp.asarray(scene.raster.inside), strategy=config.strategy
    )
    return Decoded(
        proposals=scene.proposals(np.asarray(logits[:first])),
        logits=np.asarray(merged),
        confidence=np.asarray(confidence),
        uncertainty=None if apart is None or not config.uncertainty else np.asarray(apart.map),
        disagreement=None if apart is None or not config.uncertainty else float(apart.value),
    )


_sample = partial(jax.jit, static_argnums=(1, 2))(sample)


@partial(jax.jit, static_argnames="strategy")
def _merge(
    deciding: Array, samples: Array | None, inside: Bool[Array, "h w"], *, strategy: Strategy
) -> tuple[Array, Array, Disagreement | None]:
    apart = None if samples is None else disagreement(samples, inside)
    return merge_samples(deciding, strategy).logits, jax.nn.sigmoid(deciding).mean(axis=0), apart
