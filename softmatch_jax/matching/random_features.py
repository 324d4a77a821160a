r"""Random features of the exponential kernel: unbiased estimates that factor over its two arguments.

.. math::
    K(x, y) = e^{\langle x, y\rangle/\tau} = \mathbb E_w\big[\phi_w(x)\,\phi_w(y)\big],
    \qquad w \sim \mathcal N(0, I_d), \quad x' = x/\sqrt\tau, \quad y' = y/\sqrt\tau

A sum of kernels over the references then costs one sum of feature vectors, whatever their number.
With ``w`` independent frequencies the variance of the estimate, over :math:`K^2`, is

================  ==================================================  =====================================
kind              :math:`\phi_w(x)`                                   relative variance
================  ==================================================  =====================================
trigonometric     :math:`e^{|x'|^2/2}(\cos w\cdot x', \sin w\cdot x')`  :math:`\tfrac2w\sinh^2(|x'-y'|^2/2)`
positive          :math:`e^{w\cdot x'-|x'|^2/2}`                      :math:`\tfrac1w(e^{z}-1)`
hyperbolic        the mean over :math:`\pm w` of positive             :math:`\tfrac2w\sinh^2(z/2)`
optimal           :math:`D e^{A|w|^2+Bw\cdot x'-|x'|^2/2}`            :math:`\tfrac1w(M_A(z)-1)`
================  ==================================================  =====================================

where :math:`z = |x'+y'|^2`, :math:`B = \sqrt{1-4A}`, :math:`D = (1-4A)^{d/4}` and
:math:`M_A(z) = \big((1-4A)^2/(1-8A)\big)^{d/2} e^{z/(1-8A)}`. All grow exponentially in :math:`1/\tau`:
below a temperature of about 0.5 no affordable number of features is enough without centring.

*Centring* is exact and free. With anchors :math:`\mu, \nu`

.. math::
    \langle x, y\rangle = \langle x-\mu, y-\nu\rangle + \langle x, \nu\rangle + \langle \mu, y-\nu\rangle ,

the last two terms belong to one side each and go into its amplitude; only the residuals meet the
features, and take the place of ``x`` and ``y`` in the table.

Sources: Rahimi & Recht 2007 (trigonometric); Choromanski et al. 2021, Performer (positive,
hyperbolic, orthogonal); Likhosherstov et al. 2022, Chefs' random tables (optimal).
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from softmatch_jax._checks import InputError, check_positive, check_shape

Kind = Literal["trigonometric", "positive", "hyperbolic", "optimal"]


class FeatureMap(NamedTuple):
    r"""One draw of the random features; both sides, and all sets to be added, must share it.

    Attributes:
        frequencies: ``[w, d]``, each row standard normal.
        reference_anchor: ``[d]``, :math:`\mu`, subtracted from references; zeros for no centring.
        target_anchor: ``[d]``, :math:`\nu`, subtracted from targets.
        temperature: :math:`\tau` of the kernel.
        shape: :math:`A < 1/8` of the optimal kind; 0 for the others. The trigonometric kind ignores it.
    """

    frequencies: Float[Array, "w d"]
    reference_anchor: Float[Array, " d"]
    target_anchor: Float[Array, " d"]
    temperature: Float[Array, ""]
    shape: Float[Array, ""]


class LogFeatures(NamedTuple):
    r"""Features :math:`\phi(x_i) = e^{a_i} v_i`, the scale apart so that no temperature overflows.

    Only the product has a gradient that means something: how it is split counts as constant.

    Attributes:
        log_amplitude: ``[n]``, :math:`a_i`.
        values: ``[n, m]``, :math:`v_i`. The largest entry of a row is 1, and none is negative, except in
            the trigonometric kind, whose rows have length 1.
    """

    log_amplitude: Float[Array, " n"]
    values: Float[Array, "n m"]


def draw_frequencies(
    key: Array, count_frequencies: int, dim: int, *, orthogonal: bool = True, dtype: DTypeLike = jnp.float32
) -> Float[Array, "w d"]:
    """Draws frequencies whose rows are standard normal: independent, or orthogonal in blocks of ``dim``.

    A block is a square Gaussian matrix after Gram-Schmidt, its vectors brought back to the lengths they
    had. Directions (Haar) and lengths (chi) of a Gaussian matrix's QR are independent, so each row alone
    is Gaussian as before and estimates stay unbiased; only the rows' dependence has changed.

    Returns:
        ``[count_frequencies, dim]``.

    Raises:
        InputError: There are no frequencies or no dimensions, or ``dtype`` has less than 32 bits.
    """
    if count_frequencies < 1 or dim < 1:
        raise InputError(
            f"{count_frequencies} frequencies of {dim} dimensions asked for; expected at least 1 of each."
        )
    if jnp.dtype(dtype) not in (jnp.dtype(jnp.float32), jnp.dtype(jnp.float64)):
        raise InputError(
            f"dtype is {jnp.dtype(dtype)}; expected float32 or float64 (features of lower precision are "
            "cast to the map's, exponentials need it)."
        )
    if not orthogonal:
        return jax.random.normal(key, (count_frequencies, dim), dtype)
    blocks = -(-count_frequencies // dim)
    gaussian = jax.random.normal(key, (blocks, dim, min(count_frequencies, dim)), dtype)
    q, r = jnp.linalg.qr(gaussian)
    # LAPACK's signs depend on the matrix; without this the first entry of a block is never positive.
    signs = jnp.where(jnp.diagonal(r, axis1=-2, axis2=-1) < 0, -1, 1).astype(dtype)
    lengths = jnp.linalg.norm(gaussian, axis=-2)
    columns = q * (signs * lengths)[:, None, :]
    return jnp.swapaxes(columns, -1, -2).reshape(-1, dim)[:count_frequencies]


def optimal_shape(mean_square: Float[Array, ""], dim: int) -> Float[Array, ""]:
    r"""The :math:`A` of the optimal kind that minimises :math:`M_A(z)` at ``z = mean_square``.

    .. math::
        1 - 8A = \tfrac12\big(1 + 2r + \sqrt{1 + 12 r + 4 r^2}\big), \qquad r = z/d

    the positive root of :math:`u(u-1) = 2r(1+u)` in :math:`u = 1-8A` (Chefs' random tables, with
    :math:`\rho = 1/u`), written without the difference of nearly equal numbers at small ``r``.

    Args:
        mean_square: Mean of :math:`|x'+y'|^2`, of residuals divided by :math:`\sqrt\tau`; at least 0.
        dim: ``d``.

    Returns:
        :math:`A \le 0`; 0, which is the positive kind, for ``mean_square = 0``.
    """
    ratio = mean_square / dim
    root = jnp.sqrt(1 + 12 * ratio + 4 * ratio * ratio)
    return -(ratio + (6 * ratio + 2 * ratio * ratio) / (root + 1)) / 8


def make_feature_map(
    key: Array,
    dim: int,
    count: int,
    *,
    kind: Kind,
    temperature: float | Float[Array, ""],
    orthogonal: bool = True,
    reference_anchor: Float[Array, " d"] | None = None,
    target_anchor: Float[Array, " d"] | None = None,
    mean_square: float | Float[Array, ""] | None = None,
    dtype: DTypeLike = jnp.float32,
) -> FeatureMap:
    r"""Draws a map of ``count`` random features.

    Args:
        key: Same key, same map.
        dim: ``d``, of the vectors.
        count: ``m``, of the features; the trigonometric and the hyperbolic kind make two of a frequency.
        kind: See the table at the top of this module.
        temperature: :math:`\tau > 0`; a traced one is not checked.
        orthogonal: Frequencies orthogonal in blocks of ``d``, see :func:`draw_frequencies`.
        reference_anchor: ``[d]``, :math:`\mu`; best the mean of the references. No centring when ``None``.
        target_anchor: ``[d]``, :math:`\nu`, likewise.
        mean_square: Mean of :math:`|x'+y'|^2` over the pairs of interest, after centring and division
            by :math:`\sqrt\tau`. Read by the optimal kind only. When ``None`` it is that of independent
            unit vectors whose means are the anchors, :math:`(2 - |\mu|^2 - |\nu|^2)/\tau`.
        dtype: ``float32`` or ``float64``.

    Raises:
        InputError: A count, shape, kind or number is not as above.
    """
    _check_kind(kind)
    paired = kind in ("trigonometric", "hyperbolic")
    if count < 1 or (paired and count % 2):
        raise InputError(
            f"count is {count}; expected {'an even number' if paired else 'a number'} of {kind} features, "
            f"at least {1 + paired}."
        )
    check_shape("temperature", temperature, (), "one number")
    if not isinstance(temperature, jax.core.Tracer):
        check_positive("temperature", float(temperature))
    tau = jnp.asarray(temperature, dtype)
    mu = _anchor("reference_anchor", reference_anchor, dim, dtype)
    nu = _anchor("target_anchor", target_anchor, dim, dtype)
    if mean_square is None:
        mean_square = jnp.maximum(2 - mu @ mu - nu @ nu, jnp.zeros((), dtype)) / tau
    elif not isinstance(mean_square, jax.core.Tracer) and not 0 <= float(mean_square) < float("inf"):
        raise InputError(f"mean_square is {mean_square}; expected a finite number, at least 0.")
    frequencies = draw_frequencies(key, count // (1 + paired), dim, orthogonal=orthogonal, dtype=dtype)
    shape = jnp.zeros((), dtype)
    if kind == "optimal":
        shape = optimal_shape(jnp.asarray(mean_square, dtype), dim)
    return FeatureMap(frequencies, mu, nu, tau, shape)


def reference_features(feature_map: FeatureMap, x: Float[Array, "n d"], *, kind: Kind) -> LogFeatures:
    """Features of references; against :func:`target_features` of the same map they estimate the kernel.

    Args:
        feature_map: From :func:`make_feature_map`, of the same kind.
        x: ``[n, d]``, of any length; computed in the wider of its and the map's type, 32 bits at least.
        kind: The map's.

    Raises:
        InputError: ``x`` is not ``[n, d]`` or the kind is unknown.
    """
    fmap, x = _prepared(feature_map, x, "x", kind)
    linear = _product(x, fmap.target_anchor) / fmap.temperature
    return _residual_features(fmap, x - fmap.reference_anchor[None, :], linear, kind)


def target_features(feature_map: FeatureMap, y: Float[Array, "n d"], *, kind: Kind) -> LogFeatures:
    """Features of targets; arguments as in :func:`reference_features`."""
    fmap, y = _prepared(feature_map, y, "y", kind)
    residual = y - fmap.target_anchor[None, :]
    linear = _product(residual, fmap.reference_anchor) / fmap.temperature
    return _residual_features(fmap, residual, linear, kind)


def kernel_estimate(reference: LogFeatures, target: LogFeatures) -> Float[Array, "n p"]:
    """Dense estimate of the kernel, at times negative if trigonometric; overflows where the kernel does."""
    scale = jnp.exp(reference.log_amplitude[:, None] + target.log_amplitude[None, :])
    return scale * _product(reference.values, target.values.T)


def log_kernel(reference: LogFeatures, target: LogFeatures) -> Float[Array, "n p"]:
    """Logarithm of the dense estimate, ``-inf`` where that is not positive or underflows; for study only."""
    product = _product(reference.values, target.values.T)
    positive = product > 0
    log_product = jnp.log(jnp.where(positive, product, jnp.ones_like(product)))
    scale = reference.log_amplitude[:, None] + target.log_amplitude[None, :]
    return jnp.where(positive, scale + log_product, -jnp.inf)


def _residual_features(
    fmap: FeatureMap, residual: Float[Array, "n d"], linear: Float[Array, " n"], kind: Kind
) -> LogFeatures:
    """The table at the top of this module, times ``exp(linear)``."""
    scaled = residual / jnp.sqrt(fmap.temperature)
    half_square = jnp.sum(scaled * scaled, axis=1) / 2
    phase = _product(scaled, fmap.frequencies.T)
    count, dim = fmap.frequencies.shape
    if kind == "trigonometric":
        values = jnp.concatenate([jnp.cos(phase), jnp.sin(phase)], axis=1) / count**0.5
        return LogFeatures(linear + half_square, values)
    # With A = 0 the optimal kind is the positive one.
    growth = jnp.sqrt(1 - 4 * fmap.shape) * phase
    decay = fmap.shape * jnp.sum(fmap.frequencies * fmap.frequencies, axis=1)[None, :]
    logs = growth + decay
    if kind == "hyperbolic":
        logs = jnp.concatenate([logs, decay - growth], axis=1)
    # Without effect on the kernel, so without a gradient: that of a maximum is 0 / 0 where a compiler
    # computes the logs anew for it and none then equals it.
    peak = jax.lax.stop_gradient(jnp.max(logs, axis=1))
    constant = dim / 4 * jnp.log1p(-4 * fmap.shape) - jnp.log(jnp.asarray(logs.shape[1], logs.dtype)) / 2
    return LogFeatures(linear - half_square + constant + peak, jnp.exp(logs - peak[:, None]))


def _product(a: Array, b: Array) -> Array:
    """Matrix product in full precision: accelerators round to 10 bits else, which exponentials magnify."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def _prepared(feature_map: FeatureMap, x: Array, name: str, kind: Kind) -> tuple[FeatureMap, Array]:
    """Checks the arguments and brings them to the wider type of the two, 32 bits at least."""
    _check_kind(kind)
    x = jnp.asarray(x)
    check_shape(name, x, (None, feature_map.frequencies.shape[1]), "vectors by the map's dimensions")
    wide = jnp.float64 in (x.dtype, feature_map.frequencies.dtype)
    dtype = jnp.float64 if wide else jnp.float32
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), feature_map), x.astype(dtype)


def _check_kind(kind: str) -> None:
    if kind not in get_args(Kind):
        raise InputError(f"kind is {kind!r}; expected one of {', '.join(get_args(Kind))}.")


def _anchor(name: str, anchor: Array | None, dim: int, dtype: DTypeLike) -> Float[Array, " d"]:
    if anchor is None:
        return jnp.zeros(dim, dtype)
    check_shape(name, anchor, (dim,), "one number for each dimension")
    return jnp.asarray(anchor, dtype)
