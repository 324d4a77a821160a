# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: -all
#     notebook_metadata_filter: kernelspec,-jupytext.text_representation.jupytext_version
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # ProSAM: from the region of good prompts to a distribution of prompts
#
# SAM gives the same mask for many prompts. ProSAM (Wang et al., ICCV 2025) calls the prompts that give a good
# mask of an object its *target prompt region*, argues that an encoder that predicts one prompt
# (VRP-SAM) may end up at the region's rim, and trains an encoder that predicts a distribution instead. This
# notebook looks at each step of the argument on the small SAM that comes with the package: the region,
# the curvature of the loss, the noise, and the trained encoder at work.

# %%
import os

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import skimage.data

from softmatch_jax.models.prosam.config import DistributionConfig
from softmatch_jax.models.prosam.distribution import (
    PromptDistribution,
    excess_kurtosis,
    log_density,
    noise_ratio,
    sample,
)
from softmatch_jax.models.prosam.frozen_sam import FrozenSam
from softmatch_jax.models.prosam.losses import mask_loss
from softmatch_jax.models.sam.tiny_generator import TinySam, TinySamConfig
from softmatch_jax.pipelines.prosam import ProSAM

SMALL = os.environ.get("SOFTMATCH_NOTEBOOK_SMALL") == "1"
RUNS, STEPS, DRAWS = (3, 40, 4) if SMALL else (24, 300, 64)
PROMPTS = 16
plt.rcParams.update({"figure.dpi": 100, "font.size": 9, "image.cmap": "magma"})

# %% [markdown]
# ## Many prompts, one mask
#
# A photograph of coins, and the mask of one of them. Prompt embeddings of random start are moved by gradient
# descent until SAM's mask is that of the coin: cross entropy and Dice, eq. 4 of the paper. Nothing but the
# start differs from run to run.

# %%
coins = np.repeat(skimage.data.coins()[60:200, 60:260, None], 3, axis=-1)
rows, columns = np.mgrid[: coins.shape[0], : coins.shape[1]]
truth = np.hypot(rows - 64.5, columns - 146) < 19.5  # the third of the middle row

sam = FrozenSam(TinySam.load(config=TinySamConfig(size=128)))
picture = sam.encode(coins)
goal = jnp.asarray(picture.raster.reduce(truth.astype(np.float32)))
inside = jnp.asarray(picture.raster.inside)


@jax.jit
def loss_of(prompts):
    """The loss of one set of prompts ``[PROMPTS, dim]``."""
    return mask_loss(sam.logits(sam.weights, picture.scene, prompts), goal, inside)


@jax.jit
def iou_of(prompts):
    """IoU with the truth on the raster."""
    found = (sam.logits(sam.weights, picture.scene, prompts) > 0) & inside
    true = (goal > 0.5) & inside
    return jnp.sum(found & true) / jnp.sum(found | true)


optimiser = optax.adam(0.03)


@jax.jit
def descend(prompts, moments):
    """One step for all runs."""
    gradient = jax.grad(lambda z: jax.vmap(loss_of)(z).sum())(prompts)
    update, moments = optimiser.update(gradient, moments)
    return optax.apply_updates(prompts, update), moments


learned = jax.random.normal(jax.random.key(0), (RUNS, PROMPTS, sam.dim))
moments, course = optimiser.init(learned), []
for _ in range(STEPS):
    course.append(np.asarray(jax.vmap(iou_of)(learned)))
    learned, moments = descend(learned, moments)

unit = learned.reshape(RUNS, -1) / jnp.linalg.norm(learned.reshape(RUNS, -1), axis=1, keepdims=True)
cosines = np.asarray(unit @ unit.T)
figure, axes = plt.subplots(1, 3, figsize=(10, 2.8), layout="constrained")
axes[0].imshow(coins)
axes[0].contour(truth, [0.5], colors="#3df")
axes[0].set_title("the object")
axes[1].plot(np.array(course), lw=0.8)
axes[1].set(title="IoU on the way", xlabel="step", ylim=(0, 1))
shown = axes[2].imshow(cosines, vmin=-1, vmax=1, cmap="coolwarm")
axes[2].set_title("cosines between the prompts learned")
figure.colorbar(shown)
plt.show()
print(f"IoU {np.mean(course[-1]):.3f}, cosine of two runs {(cosines.sum() - RUNS) / (RUNS * (RUNS - 1)):.3f}")

# %% [markdown]
# All runs find prompts for the coin, and the prompts have next to nothing in common: the region is large, and
# it goes around in a space of two thousand dimensions.
#
# ## How near is the rim?
#
# Noise is added to each of the learned prompts. How much does the mask suffer, and does the curvature of the
# loss tell beforehand? The trace of the Hessian is estimated after Hutchinson, from Hessian-vector products.


# %%
def trace_of(prompts, key, probes):
    """Hutchinson's estimate of the trace of the Hessian of the loss."""
    signs = jax.random.rademacher(key, (probes, *prompts.shape), jnp.float32)
    product = jax.vmap(lambda v: jnp.vdot(v, jax.jvp(jax.grad(loss_of), (prompts,), (v,))[1]))
    return product(signs).mean()


@jax.jit
def noisy(prompts, scale, key):
    """Mean loss and IoU under noise of standard deviation ``scale``."""
    draws = prompts + scale * jax.random.normal(key, (DRAWS, *prompts.shape))
    return jax.vmap(loss_of)(draws).mean(), jax.vmap(iou_of)(draws).mean()


traces = jax.vmap(lambda z, k: trace_of(z, k, DRAWS))(learned, jax.random.split(jax.random.key(1), RUNS))
scales = np.linspace(0, 1.2, 4 if SMALL else 9)
under_noise = np.array(
    [[[float(part) for part in noisy(z, s, jax.random.key(2))] for s in scales] for z in learned]
)
figure, axes = plt.subplots(1, 2, figsize=(8, 2.8), layout="constrained")
axes[0].plot(scales, under_noise[..., 1].T, lw=0.8)
axes[0].set(title="IoU under noise, each run", xlabel="standard deviation", ylim=(0, 1))
axes[1].scatter(traces, under_noise[:, len(scales) // 3, 0] - under_noise[:, 0, 0])
axes[1].set(title="curvature and what noise costs", xlabel="trace of the Hessian", ylabel="loss added")
plt.show()

# %% [markdown]
# ## What noise in training adds to the loss
#
# Proposition 1: for small noise of standard deviation $s$,
# $\mathbb E\, L(z + s\epsilon) = L(z) + \tfrac{s^2}{2}\,\mathrm{tr} H + O(s^4)$. Training with noise
# therefore prefers places of low curvature. How far does "small" reach?

# %%
small = np.geomspace(0.02, 0.64, 4 if SMALL else 6)
added = [float(noisy(learned[0], s, jax.random.key(3))[0] - loss_of(learned[0])) for s in small]
figure, axis = plt.subplots(figsize=(4, 3), layout="constrained")
axis.loglog(small, np.maximum(added, 1e-7), "o", label="measured")
axis.loglog(small, np.maximum(0.5 * small**2 * float(traces[0]), 1e-7), "-", label=r"$s^2\,\mathrm{tr}H / 2$")
axis.set(xlabel="standard deviation $s$", ylabel="loss added", title="Proposition 1, one run")
axis.xaxis.set_minor_formatter("")
axis.legend()
plt.show()

# %% [markdown]
# ## Which noise: the t-distribution, and what its formula does
#
# The paper draws prompts from a t-distribution (eq. 5 to 7), for its heavy tails. The number that decides is
# $n$, "the dimensionality of $z$": with the 256 numbers of a prompt the chi-square draw has 261 degrees of
# freedom, and the tails are a Gaussian's. What is left is a scale. Eq. 7 as it is printed has its root
# elsewhere, and a much larger scale.

# %%
kinds = {
    "as meant, n = 256": DistributionConfig(),
    "as printed, n = 256": DistributionConfig(formula="literal"),
    "as meant, n = 12800": DistributionConfig(dimension="all", sharing="sample"),
    "as meant, n = 1": DistributionConfig(dimension="element", sharing="element"),
    "Gaussian": DistributionConfig(family="gaussian"),
}
for name, kind in kinds.items():
    ratio, tails = noise_ratio(kind, 50, 256), excess_kurtosis(kind, 50, 256)
    print(f"{name:20} noise / sigma {ratio:6.4f}   excess kurtosis {tails:6.4f}")

standard = PromptDistribution(jnp.zeros((1, 256)), jnp.zeros((1, 256)))
figure, axis = plt.subplots(figsize=(5, 3), layout="constrained")
for name in ("as meant, n = 256", "as meant, n = 1", "Gaussian"):
    drawn = np.asarray(sample(standard, kinds[name], 4000 if SMALL else 40_000, key=jax.random.key(4)))
    scaled = np.sort(np.abs(drawn[:, 0, :4].ravel() / noise_ratio(kinds[name], 1, 256)))
    axis.semilogy(scaled, 1 - np.arange(len(scaled)) / len(scaled), label=name)
axis.set(title="tails at equal variance", xlabel="standard deviations", ylabel="share beyond", xlim=(0, 7))
axis.legend()
plt.show()
print(
    "log density at the mean:", float(log_density(jnp.zeros((1, 256)), standard, kinds["as meant, n = 256"]))
)

# %% [markdown]
# ## The encoder at work
#
# The encoder that comes with the package has learned from pairs of pictures to predict such a distribution
# from an annotated reference and a target. The mean is the prompt that is used; the masks of samples show
# where it is unsure.

# %%
prosam = ProSAM.embedded()
left, right = coins, np.repeat(skimage.data.coins()[160:300, 90:290, None], 3, axis=-1)
reference = prosam.reference(left, truth, class_name="coin")
found = prosam.segment(right, [reference], key=jax.random.key(0))["coin"]
figure, axes = plt.subplots(1, 4, figsize=(11, 2.4), layout="constrained")
for axis, title in zip(
    axes, ("reference", "likeness", "mask of the mean prompt", "disagreement"), strict=True
):
    axis.set_title(title)
    axis.axis("off")
axes[0].imshow(left)
axes[0].contour(truth, [0.5], colors="#3df")
axes[1].imshow(found.match_map)
axes[2].imshow(right)
axes[2].contour(found.mask, [0.5], colors="#3df")
axes[3].imshow(found.uncertainty, vmin=0, vmax=1)
plt.show()
print(f"mean IoU between samples: {1 - found.disagreement:.3f}")
