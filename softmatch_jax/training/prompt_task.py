"""Training of a prompt encoder on a frozen SAM (VRP-SAM; ProSAM, 4.3 and eq. 8 to 10), as a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from softmatch_jax._checks import InputError
from softmatch_jax.models.prosam.config import DistributionConfig, PromptEncoderConfig
from softmatch_jax.models.prosam.distribution import PromptDistribution, noise_ratio, sample
from softmatch_jax.models.prosam.encoder import PromptEncoder
from softmatch_jax.models.prosam.frozen_sam import FrozenSam
from softmatch_jax.models.prosam.losses import mask_loss
from softmatch_jax.models.prosam.weights import encoder_of
from softmatch_jax.models.sam.aligned import enlarge_aligned
from softmatch_jax.models.sam.flat_weights import flatten
from softmatch_jax.models.sam.losses import hard_iou
from softmatch_jax.training.prompt_batches import scene_of
from softmatch_jax.training.prompt_config import PromptTrainConfig
from softmatch_jax.training.task import Metrics


class PromptTask:
    """Trains the prompt encoder; the SAM's decoder is among the parameters and never moved.

    Attributes:
        name: ``prosam`` or ``vrp-sam``.
        encoder: Sizes of the encoder.
        distribution: What prompts are drawn from.
        config: What the prompts are trained for.
        settings: All three and the SAM, for checkpoints; how memory is saved may differ.
    """

    def __init__(
        self,
        sam: FrozenSam,
        encoder: PromptEncoderConfig,
        distribution: DistributionConfig | None = None,
        config: PromptTrainConfig | None = None,
        *,
        initial: Mapping[str, Any] | None = None,
    ) -> None:
        """Puts a task together.

        Args:
            sam: The frozen SAM.
            encoder: Sizes of the encoder.
            distribution: What prompts are drawn from; the paper's, or none where the encoder is not
                variational, when ``None``.
            config: The defaults when ``None``.
            initial: Weights to start from by name; random ones when ``None``.

        Raises:
            InputError: Encoder and SAM do not fit, or there is nothing to draw for several samples.
        """
        self.encoder, self.distribution = encoder, distribution or encoder.usual_distribution
        self.config = config or PromptTrainConfig(samples=10 if encoder.variational else 1)
        self.name = "prosam" if encoder.variational else "vrp-sam"
        _check(sam, encoder, self.distribution, self.config)
        self._sam, self._initial = sam, initial
        self._ratio = noise_ratio(self.distribution, encoder.prompts, encoder.dim)
        leaves, self._weights_tree = jax.tree.flatten(sam.weights)
        self._weights = {f"{index:03}": leaf for index, leaf in enumerate(leaves)}
        self.settings: Mapping[str, Any] = {
            "encoder": asdict(encoder),
            "distribution": asdict(self.distribution),
            "prompts": {"samples": self.config.samples, "loss_side": self.config.loss_side},
            "sam": sam.name,
        }

    def init(self, key: jax.Array) -> dict[str, Any]:
        """See :class:`~softmatch_jax.training.task.Task`."""
        if self._initial is not None:
            start = {name: jnp.asarray(array, jnp.float32) for name, array in self._initial.items()}
            encoder_of(self.encoder, start)  # which checks them
        else:
            start = flatten(nnx.split(PromptEncoder(self.encoder, rngs=nnx.Rngs(key)))[1])
        return {"encoder": start, "sam": dict(self._weights)}

    def trainable(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The encoder alone."""
        return {
            name: jax.tree.map(lambda _, own=name == "encoder": own, part) for name, part in params.items()
        }

    def decayed(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Everything that is trained, biases, norms and queries too, as in the published code."""
        return self.trainable(params)

    def loss(
        self, params: Mapping[str, Any], batch: Mapping[str, Array], key: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        """The loss of a batch of :class:`~softmatch_jax.training.prompt_batches.PromptBatches`.

        With ``chunk`` it can be differentiated once, and in the encoder alone.
        """
        encoder = encoder_of(self.encoder, params["encoder"])
        weights = jax.tree.unflatten(self._weights_tree, list(params["sam"].values()))
        keys = jax.random.split(key, len(batch["truth"]))

        def one(pair: Mapping[str, Array], key: jax.Array) -> tuple[Array, Metrics]:
            return self._pair_loss(encoder, weights, pair, key)

        losses, metrics = jax.vmap(one)(dict(batch), keys)
        return losses.mean(), jax.tree.map(jnp.mean, metrics)

    def _pair_loss(
        self, encoder: PromptEncoder, weights: Any, pair: Mapping[str, Array], key: jax.Array
    ) -> tuple[Array, Metrics]:
        dropout, noise = jax.random.split(key)
        predicted = predict_pair(encoder, pair, dropout)
        prompts = sample(predicted, self.distribution, self.config.samples, key=noise)
        losses, ious = self._answers(weights, pair, prompts)
        return losses.mean(), {"iou": ious.mean(), **self._spread(predicted)}

    def _answers(
        self, weights: Any, pair: Mapping[str, Array], prompts: Float[Array, "K n dim"]
    ) -> tuple[Float[Array, " K"], Float[Array, " K"]]:
        """Loss and IoU of every sample."""
        scene, truth, inside = scene_of(pair), pair["truth"], pair["inside"]

        def answer(each: Array) -> tuple[Array, Array]:
            logits = enlarge(self._sam.logits(weights, scene, each), self.config.loss_side)
            return mask_loss(logits, truth, inside), hard_iou(logits, truth, inside)

        if self.config.recompute:
            answer = jax.checkpoint(answer)
        chunk = self.config.chunk
        if chunk is None or chunk >= len(prompts):
            return jax.vmap(answer)(prompts)
        if self.config.recompute:
            return jax.lax.map(answer, prompts, batch_size=chunk)
        # A loop would keep what the gradient of every round needs; taken at once, it is not kept.
        fixed = jax.lax.stop_gradient(prompts)
        graded = jax.value_and_grad(answer, has_aux=True)
        (losses, ious), slopes = jax.lax.map(graded, fixed, batch_size=chunk)
        return losses + jnp.sum(slopes * (prompts - fixed), axis=(1, 2)), ious

    def _spread(self, predicted: PromptDistribution) -> Metrics:
        """How far the samples are from the mean: what would show that sigma collapses."""
        size = jnp.sqrt(jnp.mean(predicted.mean**2))
        if self.distribution.family == "none":
            return {"prompt_rms": size}
        sigma = jnp.exp(predicted.log_sigma)
        noise = jnp.float32(min(self._ratio, np.finfo(np.float32).max)) * jnp.sqrt(jnp.mean(sigma**2))
        return {"prompt_rms": size, "sigma": sigma.mean(), "noise_to_mean": noise / size}


def predict_pair(
    encoder: PromptEncoder, pair: Mapping[str, Array], key: jax.Array | None = None
) -> PromptDistribution:
    """The prompts for one pair of a batch."""
    return encoder(
        pair["reference"],
        pair["mask"],
        pair["target"],
        pair["pseudo"],
        reference_valid=pair["reference_valid"],
        target_valid=pair["target_valid"],
        key=key,
    )


def enlarge(logits: Float[Array, "s s"], side: int | None) -> Float[Array, "S S"]:
    """Logits on a raster of another side, bilinear with aligned corners as published; ``None`` keeps them."""
    if side is None or side == len(logits):
        return logits
    return enlarge_aligned(logits, side)


def _check(
    sam: FrozenSam, encoder: PromptEncoderConfig, distribution: DistributionConfig, config: PromptTrainConfig
) -> None:
    if encoder.dim != sam.dim:
        raise InputError(
            f"encoder.dim is {encoder.dim}, but the prompts of {sam.name} have {sam.dim} numbers; expected "
            "the same."
        )
    if not encoder.variational and distribution.family != "none":
        raise InputError(
            f"distribution.family is {distribution.family!r} for an encoder that is not variational; "
            "expected 'none' (or a variational encoder)."
        )
    if distribution.family == "none" and config.samples > 1:
        raise InputError(
            f"prompts.samples (K) is {config.samples}, but all samples are equal without a distribution; "
            "expected 1."
        )
