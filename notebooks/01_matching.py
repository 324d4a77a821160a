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
# # From assignment to one inner product
#
# We mark one eye of a cat in one photograph and look for the other eye in another. On the way we meet every
# matcher of `softmatch_jax.matching`: the linear assignment that soft matching replaces, the softmaxed
# cosine map of a single patch, and the two ways of averaging such maps. The normalised geometric mean,
# Softmatcher's choice, turns out to be a single inner product per target patch, with no approximation; the
# arithmetic mean does not simplify so, and keeps the parts of an object that the geometric mean averages
# away.

# %%
import os
import time

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import skimage.data
from matplotlib.colors import PowerNorm

from softmatch_jax import matching
from softmatch_jax.models.embedded.descriptor import DenseDescriptor, DescriptorConfig
from softmatch_jax.prompting import pool_mask

SMALL = os.environ.get("SOFTMATCH_NOTEBOOK_SMALL") == "1"
STRIDE = 8 if SMALL else 4  # pixels between patches
plt.rcParams.update({"figure.dpi": 100, "font.size": 9, "image.cmap": "magma"})

# %% [markdown]
# ## A reference and a target
#
# Two crops of one photograph that ships with scikit-image. The object of the reference is an ellipse drawn
# by hand. The one on the target is used for nothing but counting how often a matcher is right.

# %%
photograph = skimage.data.chelsea()
reference_image, target_image = photograph[50:210, 90:250], photograph[50:210, 245:405]


def ellipse(x, y, width, height):
    """The pixels of a 160 x 160 picture inside an ellipse."""
    rows, columns = np.mgrid[:160, :160] + 0.5
    return ((columns - x) / width) ** 2 + ((rows - y) / height) ** 2 < 1


reference_mask, target_mask = ellipse(79, 66, 36, 31), ellipse(74, 87, 24, 28)
dark = target_image.astype(float).mean(axis=2) < 60
pupil_mask = dark & ellipse(74, 81, 12, 22)

# %% [markdown]
# The embedded descriptor gives every patch its colour, the variation of colour, and the strength of edges
# in four directions, at three scales. As in the pipeline, both pictures are whitened together, each with
# the same say, so that a cosine compares all independent directions and not just the strongest few.

# %%
extractor = DenseDescriptor(DescriptorConfig(longest=224, stride=STRIDE))
seen, goal = extractor(reference_image[None]), extractor(target_image[None])
even = jnp.full(seen.flat().shape[0], 1 / seen.flat().shape[0])
both = jax.tree.map(jnp.add, matching.moments(seen.flat(), even), matching.moments(goal.flat(), even))
transform = matching.whitening(both)
reference, target = matching.whiten(transform, seen.flat()), matching.whiten(transform, goal.flat())

weights = jnp.asarray(pool_mask(reference_mask, seen.grid).ravel() > 0.5, jnp.float32)
on_object = np.flatnonzero(weights)
is_eye = pool_mask(target_mask, goal.grid).ravel() > 0.5
is_pupil = pool_mask(pupil_mask, goal.grid).ravel() > 0.5
print(
    f"{len(on_object)} object patches of {len(reference)}; target {len(target)} patches, {extractor.dim} dims"
)
print(f"the eye covers {is_eye.mean():.1%} of the target")
print(f"its pupil covers {is_pupil.sum() / is_eye.sum():.0%} of the eye")


# %%
def show(axis, values, title, *, outline=target_mask):
    """One map on a square-root scale of its own, with the outline of what should be found."""
    axis.imshow(np.reshape(values, goal.grid.shape), extent=(0, 160, 160, 0), norm=PowerNorm(0.5))
    axis.contour(outline, [0.5], colors="cyan", linewidths=0.8, extent=(0, 160, 0, 160))
    axis.set_title(title)
    axis.axis("off")


figure, axes = plt.subplots(1, 2, figsize=(7, 3.4), layout="constrained")
for axis, image, mask, title in (
    (axes[0], reference_image, reference_mask, "reference and its mask"),
    (axes[1], target_image, target_mask, "target, eye and pupil outlined"),
):
    axis.imshow(image, extent=(0, 160, 160, 0))
    axis.contour(mask, [0.5], colors="cyan", linewidths=1, extent=(0, 160, 0, 160))
    axis.set_title(title)
    axis.axis("off")
axes[1].contour(pupil_mask, [0.5], colors="white", linewidths=1, extent=(0, 160, 0, 160))
plt.show()

# %% [markdown]
# ## Assignment, and the way back
#
# The Hungarian baseline gives every object patch a target patch of its own, with the largest sum of
# cosines. Each object patch gets one, good or bad. So the matches are assigned back, to *any* patch of the
# reference, and those that do not return to the object are dropped.

# %%
similarity = np.asarray(reference @ target.T)
everywhere = np.ones(len(target), bool)
forward = matching.assign(similarity, np.asarray(weights) > 0, everywhere, filtered=False)
returned = matching.assign(similarity, np.asarray(weights) > 0, everywhere)
print(f"forward:  {forward.sum():4d} matches, {is_eye[forward].mean():.0%} on the eye")
print(f"returned: {returned.sum():4d} matches, {is_eye[returned].mean():.0%} on the eye")

figure, axis = plt.subplots(figsize=(3.6, 3.6), layout="constrained")
axis.imshow(target_image, extent=(0, 160, 160, 0), alpha=0.75)
centres = goal.grid.patch_centres().reshape(-1, 2)
for chosen, colour, label in ((forward & ~returned, "red", "dropped"), (returned, "cyan", "returned")):
    axis.scatter(*centres[chosen].T, s=STRIDE * 2, c=colour, label=label)
axis.legend(loc="lower right")
axis.set_title("patches assigned to the object")
axis.axis("off")
plt.show()

# %% [markdown]
# ## What single patches say
#
# Soft matching starts from a softmax over the *target* for every patch of the object. Here are those of
# three patches: on the pupil, on the iris, and on the lower rim.

# %%
TEMPERATURE = 0.1


def patch_at(x, y):
    """Index of the patch at a position, in pixels of the reference."""
    row, column = seen.grid.patch_of((x, y))
    return int(row) * seen.grid.shape[1] + int(column)


places = {"pupil": (83, 60), "iris": (58, 72), "rim": (85, 94)}
figure, axes = plt.subplots(1, 4, figsize=(11, 3), layout="constrained")
axes[0].imshow(reference_image, extent=(0, 160, 160, 0))
axes[0].set_title("three patches")
axes[0].axis("off")
for axis, (name, (x, y)) in zip(axes[1:], places.items(), strict=True):
    axes[0].plot(x, y, "o", ms=6, mfc="none", mec="cyan", mew=1.5)
    axes[0].annotate(name, (x + 5, y), color="cyan")
    show(axis, jax.nn.softmax(similarity[patch_at(x, y)] / TEMPERATURE), f"softmax of one {name} patch")
plt.show()

# %% [markdown]
# ## Their geometric mean, the long way and collapsed
#
# Multiply the maps of all $R$ object patches, take the root, and normalise. A log-softmax is the logits
# less a number that does not depend on the target patch; that number drops out when the product is
# normalised:
#
# $$\prod_r \operatorname{softmax}_t(s_{rt}/\tau)^{1/R} \;\propto\;
# \exp\Big(\frac1R\sum_r \langle f_r, g_t\rangle/\tau\Big) = \exp\big(\langle \bar f, g_t\rangle/\tau\big).$$
#
# What remains is the inner product with the mean object patch $\bar f$.

# %%
rows = reference[on_object]
log_product = np.zeros(len(target))
for row in np.asarray(rows, np.float64):  # the long way, one map after another, in double precision
    logits = np.asarray(target, np.float64) @ row / TEMPERATURE
    log_product += logits - np.log(np.sum(np.exp(logits - logits.max()))) - logits.max()
long_way = np.exp(log_product / len(rows) - np.max(log_product / len(rows)))
long_way /= long_way.sum()

collapsed = jax.jit(lambda f, g: matching.geometric_mean(f, g, temperature=TEMPERATURE).log_probability)
dense = jax.jit(lambda f, g: matching.geometric_mean_dense(f, g, temperature=TEMPERATURE))
for name, compute in (("dense", dense), ("collapsed", collapsed)):
    difference = np.abs(np.exp(compute(rows, target)) - long_way)
    worst = np.max(difference / long_way)
    print(f"{name:9s}: total variation {difference.sum() / 2:.1e}, largest relative {worst:.1e}")


# %% [markdown]
# They agree to about $10^{-6}$, as single precision can. What the collapse saves is the $R \times T$ array:


# %%
def best_time(compute, *arguments, repeats=10 if SMALL else 50):
    """Seconds of the fastest of a few calls, compilation left out."""
    jax.block_until_ready(compute(*arguments))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(compute(*arguments))
        times.append(time.perf_counter() - start)
    return min(times)


slow, fast = best_time(dense, rows, target), best_time(collapsed, rows, target)
print(f"R = {len(rows)}, T = {len(target)}: dense {slow * 1e3:.2f} ms, collapsed {fast * 1e3:.3f} ms")
print(f"the collapsed form is {slow / fast:.0f} times as fast on this machine")

# %% [markdown]
# ## The arithmetic mean, and objects of several parts
#
# An eye has a dark pupil, a bright iris and a rim. The geometric mean asks for *consensus*: it looks for
# what the object patches have in common, and at a low temperature it settles on the few target patches most
# like their mean. The arithmetic mean adds the maps up, so that every object patch keeps the place it
# points at. It does not collapse and costs $O(RT)$ (in tiles, so that no $R \times T$ array is held).


# %%
def find(method, temperature=TEMPERATURE, **more):
    """Match map of the whole target."""
    return matching.match(reference, target, method=method, temperature=temperature, weights=weights, **more)


def probability(found):
    """The map as float64."""
    return np.exp(np.asarray(found.log_probability, np.float64))


def patches_covered(p):
    """How many patches a map is spread over: the exponential of its entropy."""
    p = p / p.sum()
    return np.exp(-np.sum(p * np.log(np.maximum(p, 1e-300))))


LOW = 0.03
figure, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
for axis, name in ((axes[0], "geometric"), (axes[1], "arithmetic")):
    p = probability(find(name, LOW))
    show(axis, p, f"{name} mean, temperature {LOW}")
    covered = patches_covered(p[is_eye]) / is_eye.sum()
    print(
        f"{name:10s} on the eye {p[is_eye].sum():4.0%}, spread over {covered:4.0%} "
        f"of it; of what is on the eye {p[is_eye & is_pupil].sum() / p[is_eye].sum():4.0%} is on the pupil"
    )
show(axes[2], p, "the same, pupil outlined", outline=pupil_mask)
plt.show()

# %% [markdown]
# The geometric map is the more precise one: next to nothing of it lies off the eye. The arithmetic map
# covers more of the eye, its pupil in full measure (compare with the pupil's share of the area, printed at
# the top), and pays for it with stray matches in the fur, to which some single patches point.

# %% [markdown]
# ## The other matchers
#
# - **quadratic** uses the cost $(1-s)^2$; it collapses onto the first two moments of the object.
# - **bidirectional** adds the reverse softmax, over *all* patches of the reference: a target patch must
#   also point back at the object.
# - **background** makes the score a log-ratio: the object's mean over that of the rest of its picture. For
#   the geometric mean it is one inner product again, with $\bar f_{fg} - \bar f_{bg}$.
# - **Sinkhorn** is optimal transport, balanced here; the next notebook turns its two dials.
# - **Hungarian** is the filtered assignment above, as a map.


# %%
def report(name, p):
    """How much of the map, and of as many best patches as the eye has, is on the eye."""
    best = np.argsort(-p)[: is_eye.sum()]
    right = is_eye[best].mean()
    print(f"{name:24s} on the eye {p[is_eye].sum():4.0%}; best {len(best)} patches on the eye {right:4.0%}")


rest = 1 - weights
maps = {
    "geometric": find("geometric"),
    "arithmetic": find("arithmetic"),
    "quadratic": find("quadratic"),
    "bidirectional": find("bidirectional"),
    "geometric, background": find("geometric", background=rest),
    "arithmetic, background": find("arithmetic", background=rest),
    "Sinkhorn": find("sinkhorn"),
    "Hungarian": find("hungarian"),
}
figure, axes = plt.subplots(2, 4, figsize=(11, 5.8), layout="constrained")
for axis, (name, found) in zip(axes.flat, maps.items(), strict=True):
    show(axis, probability(found), name)
    report(name, probability(found))
plt.show()

# %% [markdown]
# All find the eye. The second number, which only looks at the order of patches, differs by a few points
# between them; the first differs a lot. The background, the reverse softmax, the quadratic cost and
# transport all put more of the map on the eye than the mean they start from.

# %% [markdown]
# ## Temperature
#
# The geometric score is $\langle\bar f, g_t\rangle/\tau$: temperature scales it and can never change an
# order. The arithmetic mean moves between two regimes, nearest-neighbour votes at small $\tau$ and the
# geometric mean at large $\tau$, so its ranking does depend on it.

# %%
temperatures = np.geomspace(0.02, 2, 5 if SMALL else 15)
methods = ("geometric", "arithmetic")
states = {name: matching.prepare(reference, method=name, weights=weights) for name in methods}
top = is_eye.sum()
spread = {name: [] for name in methods}
overlap = {name: [] for name in methods}
for tau in temperatures:
    for name in methods:
        p = probability(matching.match(states[name], target, temperature=tau))
        spread[name].append(patches_covered(p))
        shared = np.intersect1d(np.argsort(-p)[:top], np.argsort(-probability(maps["geometric"]))[:top])
        overlap[name].append(len(shared) / top)

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
for name in methods:
    axes[0].loglog(temperatures, spread[name], "o-", ms=4, label=name)
    axes[1].semilogx(temperatures, overlap[name], "o-", ms=4, label=name)
axes[0].set(xlabel="temperature", ylabel="patches the map is spread over", title="sharpness")
axes[1].set(
    xlabel="temperature", ylabel="share", title=f"best {top} patches shared with geometric", ylim=(0, 1.05)
)
for axis in axes:
    axis.grid(alpha=0.3)
    axis.legend()
plt.show()

# %%
figure, axes = plt.subplots(2, 4, figsize=(11, 5.8), layout="constrained")
for row, name in zip(axes, methods, strict=True):
    for axis, tau in zip(row, (0.03, 0.1, 0.3, 1.0), strict=True):
        show(
            axis,
            probability(matching.match(states[name], target, temperature=tau)),
            f"{name}, temperature {tau}",
        )
plt.show()

# %% [markdown]
# ## What to take away
#
# - The normalised geometric mean of softmaxed cosine maps *is* one inner product with the mean object
#   patch: the same map to rounding, without the $R \times T$ array.
# - Its temperature sets sharpness and nothing else; the order of patches does not depend on it.
# - The arithmetic mean keeps a place for every part of the object, at $O(RT)$ and with more stray matches.
#   The higher the temperature, the more the two agree.
# - The rest of the reference picture says what the object is not. Contrasting with it put more of the map
#   on the eye with either mean, and costs the geometric form one more vector.
# - An assignment gives as many matches as there are object patches, whether or not the target has as many.
#   The way back removed most of the wrong ones here, and left some.
