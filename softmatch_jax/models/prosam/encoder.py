"""The prompt encoder: an annotated reference and a target become prompt embeddings for SAM.

VRP-SAM's (its paper, 3.2) with the two heads of ProSAM (its 4.2 and 8). One pair of pictures at a time;
``jax.vmap`` makes a batch of it.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from softmatch_jax._checks import check_shape
from softmatch_jax.models.prosam.config import PromptEncoderConfig
from softmatch_jax.models.prosam.distribution import PromptDistribution
from softmatch_jax.models.sam.layers import PRECISION, attend, layer_norm

_EPSILON = 1e-5  # of the norms, torch's default
_PROTOTYPE_EPSILON = 0.0005  # added to the mask's area under the prototype
_POSITIONS = 10000.0  # base of the wave lengths of the positions


class PromptEncoder(nnx.Module):
    """Predicts the prompts of one reference for one target.

    Attributes:
        config: Sizes.
    """

    def __init__(self, config: PromptEncoderConfig, *, rngs: nnx.Rngs) -> None:
        dim = config.dim
        self.config = config
        self.downsample = _pointwise(config.channels, dim, rngs)
        self.merge = _pointwise(2 * dim + 1, dim, rngs)
        self.queries = nnx.Param(nnx.initializers.normal(1.0)(rngs.params(), (config.prompts, dim)))
        self.reference_attention = Attention(dim, config.heads, rngs=rngs)
        self.reference_mixing = Attention(dim, config.heads, rngs=rngs)
        self.target_attention = Attention(dim, config.heads, rngs=rngs)
        self.target_mixing = Attention(dim, config.heads, rngs=rngs)
        if config.variational:
            self.mean_head = _head(dim, rngs)
            self.log_sigma_head = _head(dim, rngs)
            if config.initial_log_sigma is not None:
                self.log_sigma_head.kernel[...] = jnp.zeros((dim, dim))
                self.log_sigma_head.bias = nnx.Param(jnp.full(dim, config.initial_log_sigma))
        elif config.extra_linear:
            self.extra = nnx.List([_head(dim, rngs) for _ in range(config.extra_linear)])

    def __call__(
        self,
        reference: Float[Array, "h w c"],
        mask: Float[Array, "h w"],
        target: Float[Array, "h w c"],
        pseudo: Float[Array, "h w"],
        *,
        reference_valid: Bool[Array, "h w"] | None = None,
        target_valid: Bool[Array, "h w"] | None = None,
        key: jax.Array | None = None,
    ) -> PromptDistribution:
        """Predicts the prompts.

        Args:
            reference: Features of the reference.
            mask: Its annotation on the grid of the features, in 0..1.
            target: Features of the target.
            pseudo: How much each of its cells looks like the annotated ones, see :mod:`pseudo_mask`.
            reference_valid: False on cells that lie in the padding of the reference; none when ``None``.
            target_valid: The same of the target.
            key: Of the dropout, in training; there is none when ``None``.

        Returns:
            Mean and log standard deviation of the prompts. Where the encoder is not variational the mean is
            the prompts, and the standard deviation is zero (its logarithm is minus infinity).

        Raises:
            InputError: The shapes do not fit.
        """
        height, width = mask.shape
        for name, array in (("reference", reference), ("target", target)):
            check_shape(name, array, (height, width, self.config.channels), "height, width, channels")
        check_shape("pseudo", pseudo, (height, width), "that of mask")
        # Weight zero does not silence NaN or infinity.
        reference, mask = _only(reference_valid, reference, mask)
        target, pseudo = _only(target_valid, target, pseudo)
        features = self._features(reference, mask, target, pseudo, key)
        hidden = self.prompt_features(*features, reference_valid, target_valid)
        if not self.config.variational:
            for layer in self.extra if self.config.extra_linear else ():
                hidden = layer(hidden)
            return PromptDistribution(hidden, jnp.full_like(hidden, -jnp.inf))
        log_sigma = self.log_sigma_head(hidden)
        if self.config.sigma_floor:
            log_sigma = jnp.maximum(log_sigma, math.log(self.config.sigma_floor))
        return PromptDistribution(self.mean_head(hidden), log_sigma)

    def _features(
        self,
        reference: Float[Array, "h w c"],
        mask: Float[Array, "h w"],
        target: Float[Array, "h w c"],
        pseudo: Float[Array, "h w"],
        key: jax.Array | None,
    ) -> tuple[Float[Array, "h w dim"], Float[Array, "h w dim"]]:
        """The feature augmenter: both maps enriched with what the reference's annotation says."""
        keys = (None, None) if key is None else jax.random.split(key)
        near, far = (self._reduce(array, k) for array, k in zip((reference, target), keys, strict=True))
        total = jnp.einsum("ij,ijc->c", mask, near, precision=PRECISION)
        prototype = total / (mask.sum() + _PROTOTYPE_EPSILON)
        return self._enrich(near, prototype, mask), self._enrich(far, prototype, pseudo)

    def _reduce(self, features: Float[Array, "h w c"], key: jax.Array | None) -> Float[Array, "h w dim"]:
        if self.config.feature_gain != 1:
            features = self.config.feature_gain * features
        reduced = jax.nn.relu(self.downsample(features))
        share = self.config.dropout
        if key is None or not share:
            return reduced
        # Whole channels, as torch's Dropout2d.
        kept = jax.random.bernoulli(key, 1 - share, (self.config.dim,))
        return reduced * (kept / (1 - share))

    def _enrich(
        self, features: Float[Array, "h w dim"], prototype: Float[Array, " dim"], mask: Float[Array, "h w"]
    ) -> Float[Array, "h w dim"]:
        tiled = jnp.broadcast_to(prototype, features.shape)
        gained = self.config.mask_gain * mask[..., None]
        return jax.nn.relu(self.merge(jnp.concatenate([features, tiled, gained], axis=-1)))

    def prompt_features(
        self,
        reference: Float[Array, "h w dim"],
        target: Float[Array, "h w dim"],
        reference_valid: Bool[Array, "h w"] | None = None,
        target_valid: Bool[Array, "h w"] | None = None,
    ) -> Float[Array, "prompts dim"]:
        """The prompt generator: queries ask the reference, each other, the target, and each other again."""
        height, width, dim = reference.shape
        positions = jnp.asarray(sine_positions(height, width, dim)).reshape(-1, dim)
        tokens = self.queries[...]
        for across, mixing, features, valid in (
            (self.reference_attention, self.reference_mixing, reference, reference_valid),
            (self.target_attention, self.target_mixing, target, target_valid),
        ):
            rows = features.reshape(-1, dim)
            seen = None if valid is None else valid.reshape(-1)
            tokens = across(tokens, rows + positions, rows, seen)
            tokens = mixing(tokens, tokens, tokens)
        return tokens


class Attention(nnx.Module):
    """Multi-head attention, the residual and a LayerNorm behind it."""

    def __init__(self, dim: int, heads: int, *, rngs: nnx.Rngs) -> None:
        # torch draws the three as one matrix, whose fan-out is that of all three.
        stacked = math.sqrt(6 / (dim + 3 * dim))
        self.heads = heads
        self.query = _projection(dim, stacked, rngs)
        self.key = _projection(dim, stacked, rngs)
        self.value = _projection(dim, stacked, rngs)
        self.out = _projection(dim, math.sqrt(6 / (2 * dim)), rngs)
        self.norm = layer_norm(dim, _EPSILON, rngs)

    def __call__(
        self,
        tokens: Float[Array, "n dim"],
        keys: Float[Array, "m dim"],
        values: Float[Array, "m dim"],
        valid: Bool[Array, " m"] | None = None,
    ) -> Float[Array, "n dim"]:
        """The tokens after they have looked at the values; keys that are not valid are passed over."""
        parts = self.query(tokens), self.key(keys), self.value(values)
        mixed = attend(*parts, self.heads, valid)
        return self.norm(tokens + self.out(mixed))


def sine_positions(height: int, width: int, dim: int) -> Float[np.ndarray, "h w dim"]:
    """Sine positions of a grid as DETR has them: rows, then columns, sine and cosine by turns."""
    half = dim // 2
    waves = _POSITIONS ** (2 * (np.arange(half) // 2) / half)
    parts = []
    for length, axis in ((height, 0), (width, 1)):
        places = np.arange(1, length + 1) / (length + 1e-6) * 2 * math.pi
        angles = places[:, None] / waves
        part = np.where(np.arange(half) % 2, np.cos(angles), np.sin(angles))
        shape = (height, 1, half) if axis == 0 else (1, width, half)
        parts.append(np.broadcast_to(part.reshape(shape), (height, width, half)))
    return np.concatenate(parts, axis=-1).astype(np.float32)


def _only(
    valid: Bool[Array, "h w"] | None, features: Float[Array, "h w c"], mask: Float[Array, "h w"]
) -> tuple[Float[Array, "h w c"], Float[Array, "h w"]]:
    """Features and mask with zeros on cells that are not valid."""
    if valid is None:
        return features, mask
    check_shape("reference_valid or target_valid", valid, mask.shape, "that of mask")
    return jnp.where(valid[..., None], features, 0), jnp.where(valid, mask, 0)


def _uniform(limit: float) -> Any:
    """An initialiser that draws from ``[-limit, limit)``."""

    def draw(key: jax.Array, shape: Any, dtype: Any = jnp.float32, out_sharding: Any = None) -> Array:
        return jax.random.uniform(key, shape, dtype, -limit, limit)

    return draw


def _pointwise(inputs: int, outputs: int, rngs: nnx.Rngs) -> nnx.Linear:
    """A 1x1 convolution without bias, with torch's start."""
    return nnx.Linear(
        inputs,
        outputs,
        use_bias=False,
        kernel_init=_uniform(1 / math.sqrt(inputs)),
        precision=PRECISION,
        rngs=rngs,
    )


def _head(dim: int, rngs: nnx.Rngs) -> nnx.Linear:
    """A linear layer with torch's start."""
    start = _uniform(1 / math.sqrt(dim))
    return nnx.Linear(dim, dim, kernel_init=start, bias_init=start, precision=PRECISION, rngs=rngs)


def _projection(dim: int, limit: float, rngs: nnx.Rngs) -> nnx.Linear:
    return nnx.Linear(dim, dim, kernel_init=_uniform(limit), precision=PRECISION, rngs=rngs)
