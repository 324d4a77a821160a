r"""How alike two sets of patches are: the test behind "the object is absent"."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from softmatch_jax.matching._features import check_pair, check_weights, normalised_weights, unit_norm


def _mean_kernel(
    x: Float[Array, "n d"],
    y: Float[Array, "m d"],
    a: Float[Array, " n"],
    b: Float[Array, " m"],
    temperature: float,
) -> Float[Array, ""]:
    # exp((s - 1) / tau) rather than exp(s / tau): the same kernel, kept at or below one.
    return a @ jnp.exp((x @ y.T - 1) / temperature) @ b


def squared_mmd(
    x: Float[Array, "n d"],
    y: Float[Array, "m d"],
    *,
    temperature: float,
    x_weights: Float[Array, " n"] | None = None,
    y_weights: Float[Array, " m"] | None = None,
) -> Float[Array, ""]:
    r"""Squared maximum mean discrepancy under the kernel :math:`e^{(\langle x, y\rangle - 1)/\tau}`.

    The distance between the kernel mean embeddings of two weighted sets, zero only when they are the
    same distribution (Gretton et al., JMLR 2012, biased estimate).

    Args:
        x: ``[n, d]``, features; any length, unit-normed here.
        y: ``[m, d]``, features.
        temperature: :math:`\tau > 0`.
        x_weights: ``[n]``, non-negative; uniform when ``None``.
        y_weights: ``[m]``, non-negative; uniform when ``None``.

    Raises:
        InputError: Shapes disagree or the temperature is not positive.
    """
    check_pair(x, y, temperature, ("x", "y"))
    check_weights("x_weights", x_weights, x)
    check_weights("y_weights", y_weights, y)
    x, y = unit_norm(x), unit_norm(y)
    a, b = normalised_weights(x_weights, x), normalised_weights(y_weights, y)
    return (
        _mean_kernel(x, x, a, a, temperature)
        + _mean_kernel(y, y, b, b, temperature)
        - 2 * _mean_kernel(x, y, a, b, temperature)
    )


def resemblance(
    reference: Float[Array, "n d"],
    found: Float[Array, "m d"],
    surroundings: Float[Array, "k d"],
    *,
    temperature: float = 0.5,
    reference_weights: Float[Array, " n"] | None = None,
    found_weights: Float[Array, " m"] | None = None,
    surroundings_weights: Float[Array, " k"] | None = None,
) -> Float[Array, ""]:
    r"""How much more the found patches look like the reference object than its surroundings do.

    .. math::
        1 - \frac{\mathrm{MMD}^2(\text{reference}, \text{found})}
                 {\mathrm{MMD}^2(\text{reference}, \text{surroundings})}

    One when object and find are the same distribution of patches, zero when the find is no nearer to
    the object than everything else is, negative when it is farther. A matcher always has a best
    patch; this ratio says whether the best is any good.
    """
    inside = squared_mmd(
        reference, found, temperature=temperature, x_weights=reference_weights, y_weights=found_weights
    )
    outside = squared_mmd(
        reference,
        surroundings,
        temperature=temperature,
        x_weights=reference_weights,
        y_weights=surroundings_weights,
    )
    # Below the floor the object's surroundings are the object, to float32's rounding of the kernel means.
    return 1 - inside / jnp.maximum(outside, 1e-6)
