"""SAM's training recipe for the tiny model (Kirillov et al. 2023, A), as a task of the training loop.

Every region is asked for by a prompt that is drawn anew: a box, a point, both. One mask answers it as a clear
prompt and three as an ambiguous one, of which the best is trained. At some steps the one is then corrected by
points in what is wrong with it; the earlier mask is then part of the prompt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from softmatch_jax.models.sam.config import SamConfig
from softmatch_jax.models.sam.flat_weights import Weights, buffers, initial_weights, merge
from softmatch_jax.models.sam.losses import cross_entropy, dice_loss, focal_loss, hard_iou
from softmatch_jax.models.sam.tiny import TinySamModel
from softmatch_jax.models.sam.tiny_encoder import TinyFeatures, standardise
from softmatch_jax.training.sam_config import SamTrainConfig
from softmatch_jax.training.sam_prompting import AMBIGUOUS, KINDS, Marks, correct, draw_marks
from softmatch_jax.training.task import Metrics, Weighted


class _Picture(NamedTuple):
    """One picture of a batch, as the decoder's raster has it."""

    features: TinyFeatures
    truth: Float[Array, "K h w"]
    inside: Float[Array, "h w"]
    weights: Float[Array, " K"]


class _Answer(NamedTuple):
    """What the decoder made of one prompt for each region, and how good it is; four masks each."""

    logits: Float[Array, "K 4 h w"]
    loss: Float[Array, "K 4"]
    iou: Float[Array, "K 4"]
    error: Float[Array, " K"]


class SamTask:
    """Trains the tiny model.

    Args:
        config: What the masks are trained for.
        initial: Weights to start from, all arrays by name; by default random ones.

    Attributes:
        name: ``sam tiny``.
        config: What the masks are trained for.
        settings: The same, the model's sizes and a checksum of the weights to start from, for checkpoints.
    """

    name = "sam tiny"

    def __init__(
        self, config: SamTrainConfig | None = None, *, initial: Mapping[str, Any] | None = None
    ) -> None:
        self.config = SamTrainConfig() if config is None else config
        self._initial = None if initial is None else {n: np.float32(array) for n, array in initial.items()}
        self.settings: Mapping[str, Any] = {
            **asdict(self.config),
            "initial": None if self._initial is None else _digest(self._initial),
            "model": asdict(SamConfig.tiny()),
        }

    def init(self, key: jax.Array) -> Weights:
        """See :class:`~softmatch_jax.training.task.Task`."""
        if self._initial is not None:
            return {name: jnp.array(array) for name, array in self._initial.items()}
        return initial_weights(SamConfig.tiny(), key)

    def trainable(self, params: Weights) -> dict[str, bool]:
        """All but the random matrix of the positions."""
        fixed = buffers(SamConfig.tiny())
        return {name: name not in fixed for name in params}

    def decayed(self, params: Weights) -> dict[str, bool]:
        """The kernels; tokens, tables of positions, gains and biases are not drawn to zero."""
        return {name: name.endswith("kernel") for name in params}

    def loss(self, params: Weights, batch: Mapping[str, Array], key: jax.Array) -> tuple[jax.Array, Metrics]:
        """The loss of a batch of :class:`~softmatch_jax.training.region_batches.RegionBatches`."""
        images = batch["images"]
        model = merge(SamConfig.tiny(images.shape[1]), params)
        keys = jax.random.split(key, len(images))
        rounds = self.config.rounds if "correct" in batch else 0
        arrays = {name: array for name, array in batch.items() if name != "correct"}

        def one(arrays: Mapping[str, Array], key: jax.Array) -> tuple[Array, Metrics]:
            return self._picture_loss(model, arrays, key, rounds)

        losses, metrics = jax.vmap(one)(arrays, keys)
        return losses.mean(), jax.tree.map(jnp.mean, metrics)

    def _picture_loss(
        self, model: TinySamModel, arrays: Mapping[str, Array], key: jax.Array, rounds: int
    ) -> tuple[Array, Metrics]:
        picture = _prepare(model, arrays)
        mark_key, *round_keys = jax.random.split(key, 1 + rounds)
        marks = draw_marks(
            mark_key,
            arrays["centres"],
            arrays["points"],
            arrays["boxes"],
            shares=self.config.shares,
            sparse=self.config.sparse,
            bare=self.config.bare,
        )
        answer = self._answer(model, picture, marks, None)
        best = answer.loss[:, 1:].min(axis=1)
        three = best + self.config.every_mask * answer.loss[:, 1:].mean(axis=1)
        total = answer.loss[:, 0] + three + self.config.iou_weight * answer.error
        values = {
            "iou": answer.iou[:, 0],
            "iou_of_three": answer.iou[:, 1:].max(axis=1),
            "iou_error": jnp.sqrt(answer.error),
        }
        metrics: Metrics = {name: _mean(value, picture.weights) for name, value in values.items()}
        metrics |= _by_kind(answer.iou[:, 0], marks.kinds, picture.weights)
        stride = arrays["images"].shape[0] // answer.logits.shape[-1]
        for round_key in round_keys:
            # Beyond the picture nothing is trained, and nothing must come back from there.
            logits = jax.lax.stop_gradient(answer.logits[:, 0]) * picture.inside
            marks = correct(round_key, marks, logits, picture.truth, picture.inside, stride)
            answer = self._answer(model, picture, marks, logits)
            total = total + (answer.loss[:, 0] + self.config.iou_weight * answer.error) / rounds
        if rounds:
            metrics["iou_corrected"] = _mean(answer.iou[:, 0], picture.weights)
        return _mean(total, picture.weights), metrics

    def _answer(self, model: TinySamModel, picture: _Picture, marks: Marks, logits: Array | None) -> _Answer:
        """Decodes the prompts of a picture and compares with the truth."""

        def one(xy: Array, labels: Array, dense: Array, pooled: Array, logits: Array | None) -> Any:
            return model.decode(picture.features, xy, labels, logits, dense=dense, pooled=pooled)

        decode = jax.vmap(one, in_axes=(0, 0, 0, 0, None if logits is None else 0))
        masks, predicted = decode(marks.xy, marks.labels, marks.dense, marks.pooled, logits)
        truth = jnp.broadcast_to(picture.truth[:, None], masks.shape)
        pixel = focal_loss if self.config.pixel_loss == "focal" else cross_entropy
        loss = self.config.pixel_weight * pixel(masks, truth, picture.inside)
        loss = loss + dice_loss(masks, truth, picture.inside)
        iou = hard_iou(masks, truth, picture.inside)
        error = jnp.mean((predicted - jax.lax.stop_gradient(iou)) ** 2, axis=1)
        return _Answer(masks, loss, iou, error)


def _digest(weights: Mapping[str, Any]) -> str:
    """SHA-256 of weights by their names, shapes and values."""
    digest = hashlib.sha256()
    for name, array in sorted(weights.items()):
        digest.update(f"{name} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _prepare(model: TinySamModel, arrays: Mapping[str, Array]) -> _Picture:
    """Encodes a picture, and brings its truth to the decoder's raster."""
    size, side = model.config.image_size, 4 * model.config.embedding_size
    pixels, inside = standardise(arrays["images"], arrays["content"])
    features = model.encode(pixels)
    masks = arrays["masks"].astype(jnp.float32)
    step = masks.shape[-1] // side
    truth = masks.reshape(len(masks), side, step, side, step).mean(axis=(2, 4))
    cells = inside.reshape(side, size // side, side, size // side).mean(axis=(1, 3))
    return _Picture(features, truth, (cells > 0.5).astype(jnp.float32), arrays["weights"])


def _mean(values: Array, weights: Array) -> Array:
    """The mean over the regions that are there; zero if there are none."""
    return jnp.sum(values * weights) / jnp.maximum(jnp.sum(weights), 1)


def _by_kind(iou: Array, kinds: Array, weights: Array) -> dict[str, Weighted]:
    """The IoU of boxes and of single points."""
    names = list(KINDS)
    chosen = {
        "box": (kinds == names.index("box")) * weights,
        "point": sum((kinds == names.index(name)) * weights for name in AMBIGUOUS),
    }
    return {f"iou_{name}": Weighted(jnp.sum(iou * here), jnp.sum(here)) for name, here in chosen.items()}
