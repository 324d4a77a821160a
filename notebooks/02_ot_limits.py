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
# # Optimal transport and its limits: one family, two dials
#
# `Sinkhorn(epsilon, relaxation)` moves the mass of the reference patches onto the target. Its two settings
# are the entropic regularisation $\epsilon$ and the relaxation $\lambda$, how firmly the target is held to
# receive its mass evenly. At the ends of the two dials stand matchers that have closed forms: the
# arithmetic mean of softmaxes, the geometric mean, and the linear assignment. This notebook turns both
# dials, holds the results against the closed forms, and measures how fast each end is approached.
#
# The problem, with cost $C_{rt} = 1 - s_{rt}$ and even weights $a$, $b$:
#
# $$\min_{P \ge 0,\; P\mathbf 1 = a} \langle P, C\rangle + \epsilon\,\mathrm{KL}(P \,\|\, ab^\top)
# + \lambda\,\mathrm{KL}(P^\top\mathbf 1 \,\|\, b).$$

# %%
import math
import os

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import skimage.data
from matplotlib.colors import PowerNorm
from scipy.optimize import linear_sum_assignment
from scipy.special import logsumexp

from softmatch_jax import matching
from softmatch_jax.matching import Sinkhorn
from softmatch_jax.models.embedded.descriptor import DenseDescriptor, DescriptorConfig
from softmatch_jax.prompting import pool_mask

SMALL = os.environ.get("SOFTMATCH_NOTEBOOK_SMALL") == "1"
SHOWN = (0.5,) if SMALL else (0.05, 0.5)  # epsilons to draw curves for
jax.config.update("jax_enable_x64", True)  # so that small deviations are mathematics and not rounding
plt.rcParams.update({"figure.dpi": 100, "font.size": 9, "image.cmap": "magma"})

# %% [markdown]
# ## A small synthetic object of two parts
#
# 24 reference patches about two directions, 18 of one part and 6 of the other; 60 target patches, of which
# 15 belong to either part and 30 to nothing.


# %%
def patches(rng, counts, *, noise, dim=16):
    """Unit vectors about the first axes of the space, and about none where the count is last."""
    centres = [np.eye(dim)[part] for part in range(len(counts) - 1)] + [np.zeros(dim)]
    rows = [c + noise * rng.normal(size=(n, dim)) for c, n in zip(centres, counts, strict=True)]
    rows = np.concatenate(rows)
    return jnp.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


rng = np.random.default_rng(0)
reference, target = patches(rng, (18, 6, 0), noise=0.15), patches(rng, (15, 15, 30), noise=0.15)
cost = 1 - np.asarray(reference @ target.T)


def variation(p, q):
    """Total variation between two maps, given as probabilities."""
    return 0.5 * float(np.sum(np.abs(np.asarray(p) - np.asarray(q))))


def sinkhorn_map(
    temperature, rows=reference, columns=target, *, iterations=100_000, tolerance=1e-11, **dials
):
    """Probabilities over the target patches, read out of the solved transport."""
    settings = Sinkhorn(iterations=iterations, tolerance=tolerance, **dials)
    solved = matching.sinkhorn(rows, columns, settings=settings)
    return np.asarray(jax.nn.softmax((1 - solved.soft_cost) / temperature))


def slope(x, y):
    """Exponent of a power law through the last points of a curve."""
    return np.polyfit(np.log(x[-3:]), np.log(y[-3:]), 1)[0]


# %% [markdown]
# ## How a map is read out
#
# The plan of a balanced problem puts the same mass on every target patch, so its column masses say nothing.
# What does speak is how *cheaply* a patch is reached. With $f_r$ the optimal reference potential, the
# matcher returns
#
# $$\text{score}_t = \frac{1-h_t}{\tau},\qquad
# h_t = -\epsilon\log\sum_r a_r\,e^{(f_r - \bar f - C_{rt})/\epsilon}.$$
#
# $h_t$ is a soft minimum over references of cost less price. A reference that resembles much of the target
# is served cheaply; its potential is low, and its low costs are charged back to it. The temperature $\tau$
# of the map is a number apart from $\epsilon$. Where $\lambda$ is finite there is one choice that makes the
# map the column mass of the plan: $\tau = \epsilon + \lambda$.

# %%
epsilon, relaxation = 0.1, 0.2
settings = Sinkhorn(epsilon=epsilon, relaxation=relaxation, tolerance=1e-11, iterations=100_000)
solved = matching.sinkhorn(reference, target, settings=settings)
f = np.asarray(solved.reference_potential)
by_hand = -epsilon * logsumexp((f[:, None] - cost) / epsilon, axis=0, b=1 / len(f))
found = matching.match(reference, target, method=settings, temperature=epsilon + relaxation)
found = np.exp(found.log_probability)
mass = np.asarray(solved.column_mass)
print(f"h from the potentials by hand:  largest difference {np.abs(by_hand - solved.soft_cost).max():.1e}")
deviation = variation(found, mass / mass.sum())
print(f"map at tau = epsilon + lambda against column mass: total variation {deviation:.1e}")

# %% [markdown]
# ## First corner: columns free, the arithmetic mean
#
# At $\lambda = 0$ each row spreads its mass by a softmax, whatever the others do, and the map at $\tau =
# \epsilon$ *is* the arithmetic mean. With $\lambda$ growing from zero, the column mass leaves it at first
# in proportion to $\lambda$.

# %%
for epsilon in (0.02, 0.5):
    exact = np.exp(matching.arithmetic_mean(reference, target, temperature=epsilon).log_probability)
    deviation = variation(sinkhorn_map(epsilon, epsilon=epsilon, relaxation=0), exact)
    print(f"epsilon {epsilon}: total variation {deviation:.1e}")

relaxations = np.geomspace(0.01, 1e-4, 3) if SMALL else np.geomspace(0.1, 1e-4, 7)
to_arithmetic = {}
for epsilon in SHOWN:
    exact = np.exp(matching.arithmetic_mean(reference, target, temperature=epsilon).log_probability)
    to_arithmetic[epsilon] = [
        variation(sinkhorn_map(epsilon + value, epsilon=epsilon, relaxation=value), exact)
        for value in relaxations
    ]
    print(f"epsilon {epsilon}: deviation ~ lambda^{slope(relaxations, to_arithmetic[epsilon]):.2f}")

# %% [markdown]
# ## Second corner: much entropy, the geometric mean
#
# As $\epsilon\to\infty$ the soft minimum becomes a mean, and $h_t$ the mean cost $1-\langle\bar f,
# g_t\rangle$, up to a constant, *whatever* $\lambda$. The map at a fixed temperature becomes the geometric
# mean at that temperature.

# %%
TEMPERATURE = 0.1
epsilons = np.geomspace(1, 100, 3) if SMALL else np.geomspace(0.1, 100, 8)
geometric = np.exp(matching.geometric_mean(reference, target, temperature=TEMPERATURE).log_probability)
to_geometric = {}
for relaxation in (0.0, math.inf) if SMALL else (0.0, 0.2, math.inf):
    to_geometric[relaxation] = [
        variation(sinkhorn_map(TEMPERATURE, epsilon=float(value), relaxation=relaxation), geometric)
        for value in epsilons
    ]
    print(f"lambda {relaxation}: deviation ~ epsilon^{slope(epsilons, to_geometric[relaxation]):.2f}")

# %% [markdown]
# ## Third side: columns held, balanced transport
#
# As $\lambda\to\infty$ the column masses become even, and the map becomes that of the balanced problem,
# read from its dual potential.

# %%
firm = np.geomspace(10, 1000, 3) if SMALL else np.geomspace(0.1, 1000, 8)
to_balanced, unevenness = {}, {}
for epsilon in SHOWN:
    balanced = sinkhorn_map(TEMPERATURE, epsilon=epsilon)
    to_balanced[epsilon], unevenness[epsilon] = [], []
    for value in firm:
        settings = Sinkhorn(epsilon=epsilon, relaxation=float(value), tolerance=1e-11, iterations=100_000)
        solved = matching.sinkhorn(reference, target, settings=settings)
        p = jax.nn.softmax((1 - solved.soft_cost) / TEMPERATURE)
        to_balanced[epsilon].append(variation(p, balanced))
        unevenness[epsilon].append(variation(solved.column_mass, np.full(len(target), 1 / len(target))))
    print(
        f"epsilon {epsilon}: map deviates ~ lambda^{slope(firm, to_balanced[epsilon]):.2f}, "
        f"column mass ~ lambda^{slope(firm, unevenness[epsilon]):.2f}"
    )

# %%
figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
for epsilon, values in to_arithmetic.items():
    axes[0].loglog(relaxations, values, "o-", ms=4, label=rf"$\epsilon$ = {epsilon}")
axes[0].loglog(relaxations, 0.3 * relaxations, "k:", label="slope 1")
axes[0].set(xlabel=r"relaxation $\lambda$", ylabel="total variation", title=r"to arithmetic, $\lambda \to 0$")
for relaxation, values in to_geometric.items():
    name = r"\infty" if math.isinf(relaxation) else relaxation
    axes[1].loglog(epsilons, values, "o-", ms=4, label=rf"$\lambda$ = ${name}$")
axes[1].loglog(epsilons, 0.03 / epsilons, "k:", label="slope -1")
axes[1].set(xlabel=r"$\epsilon$", title=r"to geometric, $\epsilon \to \infty$")
for colour, epsilon in zip(("C0", "C1"), to_balanced, strict=False):
    axes[2].loglog(firm, to_balanced[epsilon], "o-", ms=4, c=colour, label=rf"map, $\epsilon$ = {epsilon}")
    axes[2].loglog(
        firm, unevenness[epsilon], "s--", ms=4, c=colour, label=rf"column mass, $\epsilon$ = {epsilon}"
    )
axes[2].loglog(firm, 0.02 / firm, "k:", label="slope -1")
axes[2].set(xlabel=r"relaxation $\lambda$", title=r"to balanced, $\lambda \to \infty$")
for axis in axes:
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
plt.show()

# %% [markdown]
# ## Fourth corner: balanced and little entropy, the assignment
#
# With as many references as targets, evenly weighted, the balanced problem at $\epsilon\to 0$ is a linear
# assignment, and SciPy solves it exactly. The approach is of another kind than the power laws above: the
# excess cost falls exponentially in $1/\epsilon$, a straight line in the figure below, once $\epsilon$ is
# small against the gap between the best assignment and the others.

# %%
COUNT = 12
rng = np.random.default_rng(3)
some = patches(rng, (COUNT, 0), noise=0.5)
others = some[rng.permutation(COUNT)] + 0.3 * rng.normal(size=some.shape)
others = others / jnp.linalg.norm(others, axis=1, keepdims=True)
square = 1 - np.asarray(some @ others.T)
best = linear_sum_assignment(square)
best_cost = square[best].mean()

small_epsilons = 1 / np.array([5, 10, 20] if SMALL else [5, 10, 15, 20, 30, 40, 50, 60, 80])
excess, done = [], []
for epsilon in small_epsilons:
    settings = Sinkhorn(epsilon=float(epsilon), tolerance=1e-7, iterations=5_000 if SMALL else 300_000)
    solved = matching.sinkhorn(some, others, settings=settings)
    potentials = np.asarray(solved.reference_potential)[:, None] + np.asarray(solved.target_potential)
    plan = np.exp((potentials - square) / epsilon) / COUNT**2
    excess.append(np.sum(plan * square) - best_cost)
    done.append(bool(solved.diagnostics.converged))
    right = np.mean(np.argmax(plan, axis=1) == best[1])
    print(
        f"epsilon {epsilon:.3f}: excess cost {excess[-1]:8.1e}, rows whose largest entry is the assigned one "
        f"{right:4.0%}, {int(solved.diagnostics.iterations):6d} iterations"
        f"{'' if done[-1] else ', NOT converged'}"
    )

# %% [markdown]
# What is paid for it shows in the last column. To see every iteration, here is the algorithm itself, in a
# few lines; `Sinkhorn` runs the same updates in ott-jax, and looks at the error every ten.


# %%
def row_errors(costs, *, epsilon, relaxation=math.inf, count):
    """L1 distance of the row masses from the references' weights, columns being optimal, by iteration."""
    log_a, log_b = -math.log(costs.shape[0]), -math.log(costs.shape[1])
    hold = 1 if math.isinf(relaxation) else relaxation / (relaxation + epsilon)
    f, errors = np.zeros(costs.shape[0]), []
    for _ in range(count + 1):
        g = -hold * epsilon * logsumexp((f[:, None] - costs) / epsilon + log_a, axis=0)
        last, f = f, -epsilon * logsumexp((g[None, :] - costs) / epsilon + log_b, axis=1)
        errors.append(np.mean(np.abs(np.exp((last - f) / epsilon) - 1)))
    return errors[1:]


figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
axes[0].semilogy(1 / small_epsilons, excess, "C0-", lw=1)
axes[0].semilogy(1 / small_epsilons, excess, "C0o", ms=4, mfc="white", label="stopped early")
axes[0].semilogy((1 / small_epsilons)[done], np.array(excess)[done], "o", ms=4, c="C0", label="converged")
axes[0].legend(fontsize=8)
axes[0].set(xlabel=r"$1/\epsilon$", ylabel="cost above the assignment's", title="to the assignment")
steps = 200 if SMALL else 600
for epsilon, relaxation in ((0.2, math.inf), (0.05, math.inf), (0.02, math.inf), (0.02, 0.2), (0.02, 0.02)):
    name = r"\infty" if math.isinf(relaxation) else relaxation
    errors = np.array(row_errors(square, epsilon=epsilon, relaxation=relaxation, count=steps))
    errors[errors < 1e-14] = np.nan
    style = "-" if math.isinf(relaxation) else "--"
    axes[1].semilogy(
        1 + np.arange(steps), errors, style, label=rf"$\epsilon$ = {epsilon}, $\lambda$ = ${name}$"
    )
axes[1].set(xscale="log", xlabel="iterations", ylabel="L1 error of the row masses", title="convergence")
axes[1].legend(fontsize=8)
for axis in axes:
    axis.grid(alpha=0.3)
plt.show()

# %%
settings = Sinkhorn(epsilon=0.05, iterations=40, min_iterations=40)
ours = matching.sinkhorn(some, others, settings=settings).diagnostics
print(f"after {ours.iterations} iterations: package {ours.error:.3e}", end=", ")
print(f"by hand {row_errors(square, epsilon=0.05, count=40)[-1]:.3e}")

# %% [markdown]
# ## The dials on a photograph
#
# One eye of a cat is the reference, as in the first notebook, and the other is to be found. The temperature
# of the map is the same everywhere, so that only the family's two settings differ. The title of each map
# says how much of it lies on the eye.

# %%
photograph = skimage.data.chelsea()
pictures = photograph[50:210, 90:250], photograph[50:210, 245:405]
rows, columns = np.mgrid[:160, :160] + 0.5
eyes = (
    ((columns - 79) / 36) ** 2 + ((rows - 66) / 31) ** 2 < 1,
    ((columns - 74) / 24) ** 2 + ((rows - 87) / 28) ** 2 < 1,
)
extractor = DenseDescriptor(DescriptorConfig(longest=224, stride=16 if SMALL else 8))
described = [extractor(picture[None]) for picture in pictures]
grid = described[0].grid
features = [one.flat().astype(jnp.float64) for one in described]
even = jnp.full(len(features[0]), 1 / len(features[0]))
moments = jax.tree.map(jnp.add, *[matching.moments(one, even) for one in features])
source, goal = (matching.whiten(matching.whitening(moments), one) for one in features)
on_object, on_eye = (pool_mask(eye, grid).ravel() > 0.5 for eye in eyes)
eye_patches = source[np.flatnonzero(on_object)]

dial_epsilons = (0.02, 0.1, 100.0) if SMALL else (0.01, 0.03, 0.1, 0.5, 100.0)
dial_relaxations = (0.0, math.inf) if SMALL else (0.0, 0.03, 0.3, math.inf)
dial = {}
for relaxation in dial_relaxations:
    for epsilon in dial_epsilons:
        dial[relaxation, epsilon] = sinkhorn_map(
            TEMPERATURE,
            eye_patches,
            goal,
            epsilon=epsilon,
            relaxation=relaxation,
            iterations=5000,
            tolerance=1e-3,
        )

# %%
size = (len(dial_epsilons), len(dial_relaxations))
figure, axes = plt.subplots(
    size[1], size[0], figsize=(2.1 * size[0], 2.25 * size[1]), layout="constrained", squeeze=False
)
for row, relaxation in zip(axes, dial_relaxations, strict=True):
    for axis, epsilon in zip(row, dial_epsilons, strict=True):
        p = dial[relaxation, epsilon]
        axis.imshow(p.reshape(grid.shape), extent=(0, 160, 160, 0), norm=PowerNorm(0.5))
        axis.contour(eyes[1], [0.5], colors="cyan", linewidths=0.8, extent=(0, 160, 0, 160))
        axis.set_title(f"{p[on_eye].sum():.0%}", fontsize=9)
        axis.set(xticks=[], yticks=[])
    name = r"\infty" if math.isinf(relaxation) else relaxation
    row[0].set_ylabel(rf"$\lambda$ = ${name}$")
for axis, epsilon in zip(axes[-1], dial_epsilons, strict=True):
    axis.set_xlabel(rf"$\epsilon$ = {epsilon}")
plt.show()

# %%
closed = np.exp(matching.geometric_mean(eye_patches, goal, temperature=TEMPERATURE).log_probability)
for (relaxation, epsilon), p in dial.items():
    if epsilon == dial_epsilons[-1]:
        print(f"lambda {relaxation}: total variation to the geometric mean {variation(p, closed):.4f}")
p = dial[0.0, 0.1]
exact = np.exp(matching.arithmetic_mean(eye_patches, goal, temperature=TEMPERATURE).log_probability)
print(
    f"lambda 0, epsilon 0.1 = temperature: total variation to the arithmetic mean {variation(p, exact):.1e}"
)

# %% [markdown]
# And the potentials: which patches of the eye are served cheaply in this target, and which are dear.

# %%
figure, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
axes[0].imshow(pictures[0], extent=(0, 160, 160, 0))
axes[0].set_title("reference")
for axis, relaxation, name in ((axes[1], 0.0, "columns free"), (axes[2], math.inf, "balanced")):
    settings = Sinkhorn(epsilon=0.05, relaxation=relaxation, iterations=5000)
    values = np.full(len(source), np.nan)
    values[on_object] = matching.sinkhorn(eye_patches, goal, settings=settings).reference_potential
    picture = axis.imshow(values.reshape(grid.shape), extent=(0, 160, 160, 0), cmap="viridis")
    figure.colorbar(picture, ax=axis, shrink=0.8)
    axis.set_title(f"reference potential, {name}")
for axis in axes:
    axis.set(xlim=(30, 130), ylim=(110, 25), xticks=[], yticks=[])
plt.show()

# %% [markdown]
# ## What to take away
#
# - One read-out serves the whole family, and its corners are matchers of their own: the arithmetic mean at
#   $\lambda = 0$, $\tau = \epsilon$; the geometric mean as $\epsilon\to\infty$; the assignment as
#   $\epsilon\to 0$ with even columns.
# - The arithmetic mean is left in proportion to $\lambda$; the geometric mean and the balanced problem are
#   approached as $1/\epsilon$ and $1/\lambda$; the assignment exponentially in $1/\epsilon$.
# - Small $\epsilon$ is paid for in iterations, most of all when the columns are held. Freeing them a little
#   makes the same updates converge much sooner.
# - So reach for `Sinkhorn` to study the ground between the corners. At a corner the closed form gives the
#   same map at once.
