"""How the tensors of a checkpoint differ from those that a model expects, told all at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from softmatch_jax._checks import InputError

_SAM = "those of SAM ViT-B, L or H and no others (download it again, or name a SAM checkpoint)"
_NAMED = 10  # of each sort of misfit; the rest is counted


@dataclass
class Misfits:
    """What keeps a checkpoint from fitting; each list holds phrases that begin with a tensor's name."""

    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    misshapen: list[str] = field(default_factory=list)

    def check(
        self,
        where: str,
        model: str = "SAM",
        expected: str = _SAM,
    ) -> None:
        """Raises ``InputError`` naming up to 10 tensors of each sort if there is any.

        Args:
            where: What does not fit.
            model: What it should fit.
            expected: The tensors of this model, and what to do.
        """
        sorts = {"missing": self.missing, "unexpected": self.unexpected, "of another shape": self.misshapen}
        said = [
            f"{len(names)} {sort} ({', '.join(names[:_NAMED])}{', ...' if len(names) > _NAMED else ''})"
            for sort, names in sorts.items()
            if names
        ]
        if said:
            raise InputError(f"{where} does not fit {model}: tensors {'; '.join(said)}; expected {expected}.")


def compare(expected: Mapping[str, tuple[int, ...]], got: Mapping[str, Sequence[int]]) -> Misfits:
    """Sets the shapes that a model expects by name against those that a checkpoint has."""
    shapes = {name: tuple(shape) for name, shape in got.items()}
    return Misfits(
        missing=[name for name in expected if name not in shapes],
        unexpected=[name for name in shapes if name not in expected],
        misshapen=[
            f"{name} is {list(shapes[name])}, expected {list(shape)}"
            for name, shape in expected.items()
            if name in shapes and shapes[name] != shape
        ],
    )
