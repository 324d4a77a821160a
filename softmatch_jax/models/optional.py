"""Optional packages: imported when first needed, and asked for by the extra that brings them."""

from __future__ import annotations

import importlib
from typing import Any

from softmatch_jax._checks import InputError

EXTRAS = {
    "fastapi": "serve",
    "huggingface_hub": "foundation",
    "optax": "train",
    "orbax": "train",
    "prometheus_client": "serve",
    "torch": "foundation",
    "transformers": "foundation",
    "uvicorn": "serve",
}
"""Which extra of this package brings which import."""

_NEEDING = {"train": "training needs", "serve": "the web app needs"}


def require(module: str, extra: str | None = None) -> Any:
    """Imports ``module``, for instance ``"torch"`` or ``"safetensors.numpy"``, and returns it.

    Args:
        module: Its name.
        extra: Which extra to name where several bring it; that of ``EXTRAS`` by default.

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
        extra = extra or EXTRAS[top]
        needing = _NEEDING.get(extra, f"the {extra} models need")
        raise InputError(
            f"The package {top} is not installed, which {needing}; install it with "
            f"pip install 'softmatch-jax[{extra}]'."
        ) from None
