"""Lists of classes whose pictures are names only."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from softmatch_jax.data.episodes import ClassLists, Sample
from softmatch_jax.data.truths import LabelTruth


def lists_of(pictures, name="things"):
    """Lists of ``{class: names of pictures}``."""
    numbers = {class_name: number for number, class_name in enumerate(pictures, 1)}
    return ClassLists(
        name=name,
        samples={
            class_name: tuple(
                Sample(
                    name=n, image=Path(f"{n}.jpg"), truth=LabelTruth(Path(f"{n}.png"), (numbers[class_name],))
                )
                for n in names
            )
            for class_name, names in pictures.items()
        },
    )


def names_of(lists):
    return {name: [sample.name for sample in samples] for name, samples in lists.samples.items()}


def drawn_lists(seed, *, classes=6, pictures=40, density=0.3):
    """Pictures that show each class with the same probability; each class has two at least."""
    shown = np.random.default_rng(seed).random((pictures, classes)) < density
    shown[:2] = True
    return lists_of({f"class {k}": [f"p{i}" for i in np.flatnonzero(shown[:, k])] for k in range(classes)})
