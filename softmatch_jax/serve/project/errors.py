"""What can be wrong with what is asked of a project; each kind is answered differently over the network."""

from __future__ import annotations

from softmatch_jax._checks import InputError


class NotFoundError(InputError):
    """Something is named that is not there."""


class ConflictError(InputError):
    """What is asked does not fit what the project is now; ``image`` is the picture that stands in the way."""

    def __init__(self, message: str, *, image: str | None = None) -> None:
        super().__init__(message)
        self.image = image


class TooLargeError(InputError):
    """More bytes or pixels than are taken."""


class ReadOnlyError(InputError):
    """The project cannot be written."""


class FullDiskError(ReadOnlyError):
    """The project cannot be written, because there is no room left on the disk."""
