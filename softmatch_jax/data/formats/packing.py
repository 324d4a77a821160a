"""Run lengths as text and as bits: COCO's and Label Studio's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from softmatch_jax._checks import InputError
from softmatch_jax._types import Mask, Size

_WORD = 8  # bits of a value
_LENGTHS = (3, 4, 8, 16)  # bits of a length, of which each block chooses
_CHANNELS = 4


def pack_coco(runs: Sequence[int] | Int[np.ndarray, " n"]) -> str:
    """The text that pycocotools makes of run lengths; ``outlines.decode_rle`` reads it.

    From the fourth length on the difference to the length two before is written, in groups of 5 bits, lowest
    first, a sixth bit saying that more follow; the highest bit of the last group is the sign.
    """
    lengths = [int(length) for length in runs]
    text = []
    for index, length in enumerate(lengths):
        rest = length - lengths[index - 2] if index > 2 else length
        more = True
        while more:
            group, rest = rest & 31, rest >> 5
            more = rest != (-1 if group & 16 else 0)
            text.append(chr(48 + group + (32 if more else 0)))
    return "".join(text)


def pack_brush(runs: Int[np.ndarray, " n"], size: Size) -> list[int]:
    """Label Studio's bytes of a brush mask: an RGBA picture, 255 in all channels inside, run lengths in bits.

    A head of 32 bits for the number of values, 5 for the bits of a value less one and four times 4 for the
    choices of the bits of a length less one; then blocks: 1 bit that is set where one value repeats, 2 for
    the choice, the length less one, and the value, or as many values.

    Args:
        runs: Of outside, inside, outside, ... along the rows.
        size: ``(H, W)``.
    """
    bits = [f"{size[0] * size[1] * _CHANNELS:032b}{_WORD - 1:05b}", *(f"{n - 1:04b}" for n in _LENGTHS)]
    for index, run in enumerate(runs.tolist()):
        value, left = "1" * _WORD if index % 2 else "0" * _WORD, run * _CHANNELS
        while left:
            length = min(left, 1 << _LENGTHS[-1])
            choice = next(k for k, width in enumerate(_LENGTHS) if length <= 1 << width)
            bits.append(f"1{choice:02b}{length - 1:0{_LENGTHS[choice]}b}{value}")
            left -= length
    text = "".join(bits).encode()
    return np.packbits(np.frombuffer(text, np.uint8) - ord("0")).tolist()


def unpack_brush(data: object, size: Size, where: str) -> Mask:
    """The mask, ``bool [H, W]``, of Label Studio's bytes: where the last channel is not 0.

    Raises:
        InputError: They are no such bytes, or not of this size.
    """
    if not isinstance(data, list) or not all(type(value) is int and 0 <= value < 256 for value in data):
        raise InputError(f"{where} has no run lengths; expected a list of whole numbers from 0 to 255.")
    total = size[0] * size[1] * _CHANNELS
    try:
        bits = _Bits(bytes(data))
        count, word = bits.take(32), bits.take(5) + 1
        lengths = [bits.take(4) + 1 for _ in range(4)]
        if count != total:
            raise InputError(
                f"{where} has run lengths of {count:,} values; expected {total:,}, those of "
                f"{size[1]}x{size[0]} pixels in 4 channels (export it again)."
            )
        values, repeats, filled = [], [], 0
        while filled < total:
            repeated, length = bits.take(1), bits.take(lengths[bits.take(2)]) + 1
            if length > total - filled:
                raise ValueError
            values += [bits.take(word) for _ in range(1 if repeated else length)]
            repeats += [length] if repeated else [1] * length
            filled += length
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{where} has damaged run lengths; export it again.") from None
    inside = np.repeat(np.asarray(values) > 0, repeats)
    return np.ascontiguousarray(inside.reshape(*size, _CHANNELS)[..., -1])


class _Bits:
    """Takes numbers from bytes, highest bit first."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, width: int) -> int:
        """The next ``width`` bits; raises ``ValueError`` behind the end."""
        first, last = self._at // 8, (self._at + width + 7) // 8
        if last > len(self._data):
            raise ValueError
        value = int.from_bytes(self._data[first:last], "big") >> (8 * last - self._at - width)
        self._at += width
        return value & ((1 << width) - 1)
