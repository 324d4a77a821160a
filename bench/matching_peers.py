"""What ``bench/matching.py`` measures: our matchers and their peers on the same arrays.

Importing this imports JAX, NumPy and POT, so the caller pins the cores first.
"""

from __future__ import annotations

import ctypes
import gc
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import ot
from matching_cases import Case, softmax
from scipy.optimize import linear_sum_assignment

from softmatch_jax import matching

EPSILON, ITERATIONS = 0.05, 100
# A fixed number of iterations is what is timed, converged or not.
warnings.filterwarnings("ignore", message="Matching stopped after")


@dataclass(frozen=True)
class Way:
    """One way to match.

    Attributes:
        name: As printed.
        order: Growth of its time with the patches on both sides: 1, 2 or 3.
        build: Prepares for a case what is not timed; the call that it returns is.
        read: The call's result as a probability map; none when ``None``.
        held: Arrays of ``R x T`` float32 it may hold, roughly; guards the machine's memory.
        host: Runs in NumPy, whatever the device.
    """

    name: str
    order: int
    build: Callable[[Case], Callable[[], Any]]
    read: Callable[[Any, Case], np.ndarray] | None = None
    held: int = 0
    host: bool = False


def sinkhorn(iterations: int, **settings: int) -> Any:
    """Our balanced Sinkhorn, made to take all its iterations as the peers do."""
    counts = {"iterations": iterations, "min_iterations": iterations}
    return matching.Sinkhorn(epsilon=EPSILON, relaxation=math.inf, **counts, **settings)


# Made when used, so that one that is missing costs its own rows only.
METHODS: dict[str, Callable[[], Any]] = {
    "geometric": lambda: "geometric",
    "geometric dense": lambda: "geometric_dense",
    "quadratic": lambda: "quadratic",
    "arithmetic": lambda: matching.Arithmetic(tile=128),
    "cumulant": lambda: matching.Cumulant(),
    "bidirectional": lambda: "bidirectional",
    "random features": lambda: matching.RandomFeatures(
        kind="positive", count=256, mean="arithmetic", centred=True, orthogonal=True
    ),
    "sinkhorn": lambda: sinkhorn(ITERATIONS),
    "sinkhorn, tiled, 3 iterations": lambda: sinkhorn(3, held_entries=0),
    "hungarian": lambda: matching.Hungarian(),
}
KEYED = ("cumulant", "random features")
WHOLE = ("bidirectional", "hungarian")  # look at the patches outside the mask as well


def state_of(name: str, case: Case) -> Any:
    """The reference's sufficient statistics."""
    key = jax.random.key(0) if name in KEYED else None
    options = {"method": METHODS[name](), "temperature": case.temperature, "key": key}
    return jax.block_until_ready(matching.prepare(case.arrays[0], **options))


def ours(name: str, order: int, *, prepared: bool = False, normalized: bool = False, held: int = 0) -> Way:
    """A method of the package, from features or from a prepared reference."""

    def build(case: Case) -> Callable[[], Any]:
        reference, target = case.arrays
        if prepared:
            state = state_of(name, case)
            return lambda: matching.match(state, target, temperature=case.temperature, normalized=normalized)
        options = {"method": METHODS[name](), "key": jax.random.key(0) if name in KEYED else None}
        if name in WHOLE and not case.kept.all():
            reference = jnp.asarray(case.picture)
            options["weights"] = jnp.asarray(case.kept, jnp.float32)
        return lambda: matching.match(reference, target, temperature=case.temperature, **options)

    suffix = ", prepared" * prepared + ", unit norm" * normalized
    return Way(name + suffix, order, build, read_ours, held)


def read_ours(result: Any, case: Case) -> np.ndarray:
    return np.exp(np.asarray(result.log_probability, np.float64))


def read_potential(potential: Any, case: Case) -> np.ndarray:
    """Balanced transport fixes the columns' mass, so the score is the potential, as in our Sinkhorn."""
    return softmax(-np.asarray(potential, np.float64).reshape(-1) / case.temperature)


def read_assignment(pairs: tuple[np.ndarray, np.ndarray], case: Case) -> np.ndarray:
    """Softmax of the cosines of the assigned pairs, zero elsewhere."""
    rows, columns = pairs
    scores = np.full(len(case.target), -np.inf)
    scores[columns] = np.einsum("nd,nd->n", case.reference[rows], case.target[columns]) / case.temperature
    return softmax(scores)


def bare_vector(case: Case) -> Callable[[], Any]:
    product = jax.jit(lambda target, vector: target @ vector)
    vector = jnp.mean(case.arrays[0], axis=0)
    return lambda: product(case.arrays[1], vector)


def bare_product(case: Case) -> Callable[[], Any]:
    product = jax.jit(lambda reference, target: reference @ target.T)
    return lambda: product(*case.arrays)


def assignment(case: Case) -> Callable[[], Any]:
    cosines = case.reference @ case.target.T
    return lambda: linear_sum_assignment(cosines, maximize=True)


def assignment_and_product(case: Case) -> Callable[[], Any]:
    return lambda: linear_sum_assignment(case.reference @ case.target.T, maximize=True)


def pot(method: str) -> Callable[[Case], Callable[[], Any]]:
    """POT's Sinkhorn on the ready cost; it also forms the plan, as its interface does."""

    def build(case: Case) -> Callable[[], Any]:
        cost = 1 - case.reference @ case.target.T
        shares = [np.full(n, 1 / n, np.float32) for n in cost.shape]
        options = {"numItermax": ITERATIONS, "stopThr": 0.0, "warn": False, "log": True}
        return lambda: ot.sinkhorn(*shares, cost, EPSILON, method=method, **options)[1]

    return build


def read_pot(log: dict[str, Any], case: Case) -> np.ndarray:
    scaling = log["log_v"] if "log_v" in log else np.log(np.asarray(log["v"], np.float64))
    return read_potential(EPSILON * np.asarray(scaling), case)


def ott(case: Case) -> Callable[[], Any]:
    """ott-jax's dense Sinkhorn on the ready cost; its two potentials."""
    with warnings.catch_warnings():  # jaxopt, which it imports, warns that it is no longer maintained
        warnings.simplefilter("ignore", DeprecationWarning)
        from ott.geometry import geometry
        from ott.problems.linear import linear_problem
        from ott.solvers.linear import sinkhorn
    solver = sinkhorn.Sinkhorn(min_iterations=ITERATIONS, max_iterations=ITERATIONS, lse_mode=True)

    @jax.jit
    def solve(cost: jax.Array) -> tuple[jax.Array, jax.Array]:
        found = solver(linear_problem.LinearProblem(geometry.Geometry(cost, epsilon=EPSILON)))
        return found.f, found.g

    cost = jax.block_until_ready(1 - case.arrays[0] @ case.arrays[1].T)
    return lambda: solve(cost)


WAYS = (
    Way("bare target @ vector", 1, bare_vector),
    ours("geometric", 1),
    ours("geometric", 1, prepared=True),
    ours("geometric", 1, prepared=True, normalized=True),
    ours("quadratic", 1),
    ours("quadratic", 1, prepared=True),
    ours("cumulant", 1),
    ours("cumulant", 1, prepared=True),
    ours("random features", 1),
    ours("random features", 1, prepared=True),
    Way("bare reference @ target.T", 2, bare_product, held=1),
    ours("arithmetic", 2),
    ours("arithmetic", 2, prepared=True),
    ours("bidirectional", 2, held=1),
    ours("geometric dense", 2, held=4),
    ours("sinkhorn", 2, held=2),
    Way("ott-jax sinkhorn", 2, ott, lambda found, case: read_potential(found[1], case), held=5),
    Way("POT sinkhorn", 2, pot("sinkhorn"), read_pot, held=4, host=True),
    Way("POT sinkhorn_log", 2, pot("sinkhorn_log"), read_pot, held=5, host=True),
    ours("hungarian", 3, held=4),
    Way("SciPy assignment", 3, assignment, read_assignment, held=4, host=True),
    Way("SciPy assignment, product included", 3, assignment_and_product, read_assignment, held=4, host=True),
)
# Too few iterations to be timed or right; its memory is the same as with many.
MEMORY_ONLY = (ours("sinkhorn, tiled, 3 iterations", 2),)


def clock(call: Callable[[], Any]) -> tuple[float, Any]:
    """Wall time of one call, and its result."""
    start = time.perf_counter()
    result = jax.block_until_ready(call())
    return time.perf_counter() - start, result


def burst(call: Callable[[], Any]) -> float:
    """Time of a call that follows itself: after another one, a quick call mostly waits for its caches."""
    seconds = clock(call)[0]
    return seconds if seconds > 0.02 else median(clock(call)[0] for _ in range(5))


def rounds(calls: tuple[Callable[[], Any], ...], budget: float, most: int) -> list[tuple[float, ...]]:
    """Times of the calls in turn (A, B, A, B): at least 3 rounds, or 1 where one takes over 5 s."""
    taken: list[tuple[float, ...]] = []
    least = min(3, most)
    while len(taken) < least or (len(taken) < most and sum(map(sum, taken)) < budget * len(calls)):
        taken.append(tuple(clock(call)[0] if len(calls) == 1 else burst(call) for call in calls))
        if sum(taken[-1]) > 5:
            break
    return taken


BATCHED = ("geometric", "quadratic", "cumulant", "random features", "arithmetic")


def batched(name: str, case: Case, batch: int, budget: float, most: int) -> float:
    """Median seconds of one reference matched with a batch of targets."""
    state, targets = state_of(name, case), jnp.tile(case.arrays[1], (batch, 1, 1))

    def call() -> Any:
        return matching.match_batch(state, targets, temperature=case.temperature)

    jax.block_until_ready(call())
    return median(row[0] for row in rounds((call,), budget, most))


def copy_bandwidth(budget: float, most: int) -> float:
    """Bytes a second, read and written, of the plainest pass over 256 MB."""
    values, negate = jnp.ones(2**26, jnp.float32), jax.jit(jnp.negative)
    jax.block_until_ready(negate(values))
    return 2 * values.nbytes / median(row[0] for row in rounds((lambda: negate(values),), budget, most))


def extra_memory(way: Way, case: Case) -> int:
    """Peak bytes that one compiled call adds to what is there before it, its inputs included."""
    call = way.build(case)
    jax.block_until_ready(call())
    gc.collect()
    statistics = jax.devices()[0].memory_stats()
    if statistics is not None and not way.host:  # an accelerator: its peak is that of the first call
        return jax.devices()[0].memory_stats()["peak_bytes_in_use"] - statistics["bytes_in_use"]
    if not Path("/proc/self/clear_refs").exists():
        raise OSError("peak memory is read from /proc, which this system lacks; leave out --memory.")
    ctypes.CDLL(None).malloc_trim(0)  # what the warm-up freed must not hide what the call takes
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak to the present
    before = _resident("VmRSS")
    jax.block_until_ready(call())
    return max(0, _resident("VmHWM") - before)


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))
