"""Folders of photographs (JPEG) and their masks (PNG) of the same name, as published data sets have them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from softmatch_jax._checks import InputError
from softmatch_jax.data.files import files_by_stem

PHOTOGRAPHS = frozenset({".jpg", ".jpeg"})
"""File name endings of photographs, in lower case."""

MASKS = frozenset({".png"})
"""File name endings of masks, in lower case."""


@dataclass(frozen=True)
class Pair:
    """A photograph and its mask.

    Attributes:
        stem: Their name without the ending.
        image: The photograph's file.
        mask: The mask's file.
    """

    stem: str
    image: Path
    mask: Path


def list_pairs(images: Path, masks: Path) -> tuple[Pair, ...]:
    """Lists the photographs of a folder with their masks, sorted by name (so ``10`` comes before ``2``).

    Args:
        images: The folder of the photographs, ``*.jpg`` or ``*.jpeg``.
        masks: The folder of the masks, ``*.png``; may be the same.

    Raises:
        InputError: A folder is missing, a photograph has no mask or a mask no photograph, or two
            photographs differ by their ending alone.
    """
    photographs, drawn = files_by_stem(images, PHOTOGRAPHS), files_by_stem(masks, MASKS)
    _check_partners(photographs, drawn, masks, "mask", ".png")
    _check_partners(drawn, photographs, images, "photograph", ".jpg")
    return tuple(Pair(stem, photographs[stem], drawn[stem]) for stem in sorted(photographs))


def _check_partners(
    files: dict[str, Path], partners: dict[str, Path], folder: Path, kind: str, suffix: str
) -> None:
    """Raises ``InputError`` when some of ``files`` have no partner of their name in ``folder``."""
    alone = [stem for stem in files if stem not in partners]
    if alone:
        raise InputError(
            f"{files[alone[0]]} has no {kind} ({len(alone)} of {len(files)} files there have none); expected "
            f"{folder / (alone[0] + suffix)} (extract the archive again, or remove files without a partner)."
        )
