"""Optional packages: imported when first needed, and asked for by the extra that brings them."""

from __future__ import annotations

import importlib
from typing import Any

from softmatch_jax._checks import InputError

EXTRAS = {
    "flax": "foundation",
    "huggingface_hub": "foundation",
    "safetensors": "foundation",
    "torch": "foundation",
    "transformers": "foundation",
}
"""Which extra of this package brings which import."""


def require(module: str) -> Any:
    """Imports ``module``, for instance ``"torch"`` or ``"safetensors.numpy"``, and returns it.

    Raises:
        InputError: It is not installed; the message names the extra. An installed module that fails to
            import keeps its own error.
    """
    top = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != top:
            raise
        extra = EXTRAS[top]
        raise InputError(
            f"The package {top} is not installed, which the {extra} models need; install it with "
            f"pip install 'softmatch-jax[{extra}]'."
        ) from None
