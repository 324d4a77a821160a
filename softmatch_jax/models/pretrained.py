"""Networks of transformers with the weights of a checkpoint, or one sentence saying what does not fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from softmatch_jax._checks import InputError
from softmatch_jax.models.checkpoint_files import Checkpoint, read_config, read_safetensors, weight_files
from softmatch_jax.models.optional import require

# Counters that older versions of transformers stored; networks make them themselves.
_ALWAYS_IGNORED = "position_ids"


def load_pretrained(
    checkpoint: Checkpoint, model_class: Any, *, ignore: tuple[str, ...] = (), **kwargs: Any
) -> Any:
    """Builds a network and loads its weights, from the disk alone.

    Args:
        checkpoint: Of kind ``"transformers"``.
        model_class: A class of transformers, such as ``Dinov2Model``; or of a part of what the checkpoint
            holds, such as ``CLIPVisionModel``.
        ignore: Beginnings of names that the file may have in excess, or may lack.
        **kwargs: Passed on to ``from_pretrained``, for instance ``dtype``.

    Returns:
        The network in evaluation mode, its parameters without gradients.

    Raises:
        InputError: The checkpoint is of another architecture, a file is damaged, or names or shapes of
            the weights do not fit the config.
    """
    part = _part(checkpoint, model_class)
    for path in weight_files(checkpoint.path):
        read_safetensors(path, ("\0",))  # no tensor, but the header and the length of the file
    with _silence():
        try:
            model, info = model_class.from_pretrained(
                checkpoint.path,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # reported below, in our words
                **kwargs,
            )
        except Exception as error:
            # A config that no network can be built from ends in nearly any exception.
            raise InputError(
                f"{checkpoint.path} does not load as {model_class.__name__} ({_reason(error)}); fetch it "
                "again, or check config.json."
            ) from error
    _check_fit(checkpoint, model_class, info, part, ignore)
    model.eval()
    model.requires_grad_(False)
    return model


def _part(checkpoint: Checkpoint, model_class: Any) -> str | None:
    """What the network is of the checkpoint's: ``None`` for the whole, else for instance ``"vision"``.

    Raises:
        InputError: It is neither; the types of the two differ.
    """
    config, wanted = read_config(checkpoint), model_class.config_class
    if config.get("model_type") == wanted.model_type:
        return None
    key = getattr(wanted, "base_config_key", "")
    if key and isinstance(config.get(key), dict):
        return str(key).removesuffix("_config")
    raise InputError(
        f"{checkpoint.name} is a model of type {config.get('model_type')!r}; expected {wanted.model_type} "
        "(choose another model)."
    )


def _check_fit(
    checkpoint: Checkpoint, model_class: Any, info: Any, part: str | None, ignore: tuple[str, ...]
) -> None:
    # Of a part, what belongs to the other parts is no surprise.
    own = "" if part is None else (f"{part}_model.", f"{part}_encoder.")
    for names, what in (
        ([str(entry[0]) for entry in info["mismatched_keys"]], "of another shape than config.json says"),
        (info["missing_keys"], "missing"),
        ([name for name in info["unexpected_keys"] if name.startswith(own)], "in excess"),
    ):
        matter = sorted(
            name for name in names if not name.startswith(ignore) and not name.endswith(_ALWAYS_IGNORED)
        )
        if matter:
            raise InputError(
                f"{checkpoint.path} does not fit {model_class.__name__}: {_listed(matter)} {what}; fetch it "
                "again, or check that config.json belongs to the weights."
            )


def _listed(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more} {'is' if len(names) == 1 else 'are'}"


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200].rstrip(" .:") or type(error).__name__


@contextmanager
def _silence() -> Iterator[None]:
    """No progress bars and no reports of transformers inside the block; errors are raised as ever."""
    logging = require("transformers").utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
