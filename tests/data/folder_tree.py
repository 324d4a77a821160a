"""Small folders of pictures with masks or maps, and how a folder is refused."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest

from softmatch_jax._checks import InputError
from softmatch_jax.data.folder import open_folder

SIZE = (12, 16)


def picture(path, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", size[::-1], "grey").save(path)


def grey(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(np.asarray(values, np.uint8)).save(path)


def mask(path, area=20, value=255, size=SIZE):
    values = np.zeros(size, np.uint8)
    values.ravel()[:area] = value
    grey(path, values)


def label_map(path, areas, fill=0, size=SIZE):
    """A map with ``areas[value]`` pixels of each value, the rest ``fill``."""
    values = np.full(size[0] * size[1], fill, np.uint8)
    start = 0
    for value, area in areas.items():
        values[start : start + area] = value
        start += area
    grey(path, values.reshape(size))


def tree(root, image="{}.jpg", truth="{}.png", names=("a", "b", "c")):
    for index, name in enumerate(names):
        picture(root / image.format(name))
        mask(root / truth.format(name), 10 + index)
    return root


def listed(lists):
    return {name: [sample.name for sample in samples] for name, samples in lists.samples.items()}


def refused(root, words, **options):
    with pytest.raises(InputError) as error:
        open_folder(root, **options)
    message = str(error.value)
    assert words in message and "\n" not in message and message.endswith("."), message
    return message
