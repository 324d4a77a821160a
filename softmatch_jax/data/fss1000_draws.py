"""The references that the published evaluation on FSS-1000 draws: HSNet's loader, kept by Matcher and GF-SAM.

NumPy's legacy generator is seeded once, before the first episode, and nothing else takes from it: Matcher's
own randomness comes from Python's and PyTorch's generators. For every target in turn a picture from 1 to 10
is drawn until there are enough; the target itself is drawn again, but a reference may come twice.
"""

from __future__ import annotations

import functools

import numpy as np

from softmatch_jax._checks import InputError

PICTURES = 10
"""Pictures of every class, numbered from 1."""

ORDER = tuple(sorted(range(1, PICTURES + 1), key=str))
"""Numbers of a class's pictures in the order of their names: 1, 10, 2, ..."""

_SEEDS = 2**32  # of the legacy generator


@functools.lru_cache(maxsize=16)
def published_references(seed: int, shots: int, classes: int) -> tuple[tuple[int, ...], ...]:
    """Numbers of the references of every target, class after class, the targets of a class in ``ORDER``.

    Args:
        seed: Of the legacy generator; 0 in the papers.
        shots: References for each target.
        classes: How many classes; more classes add to the end.

    Returns:
        ``10 * classes`` rows of ``shots`` numbers from 1 to 10.

    Raises:
        InputError: The legacy generator has no such seed.
    """
    if not 0 <= seed < _SEEDS:
        raise InputError(f"seed is {seed}; expected 0 to {_SEEDS - 1} in published sampling.")
    generator = np.random.RandomState(seed)
    return tuple(_draw(generator, target, shots) for _ in range(classes) for target in ORDER)


def _draw(generator: np.random.RandomState, target: int, shots: int) -> tuple[int, ...]:
    drawn: list[int] = []
    while len(drawn) < shots:
        # Without replacement, though of a single number: this shuffles all ten, so the way of asking decides
        # what is taken from the generator.
        number = int(generator.choice(np.arange(1, PICTURES + 1), 1, replace=False)[0])
        if number != target:
            drawn.append(number)
    return tuple(drawn)
