"""SAM from the weights of transformers or segment-anything.

The conversion is strict: the model is built without values, and every one of its arrays must be filled
by exactly one tensor of the right shape. All misfits are reported at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from softmatch_jax._checks import InputError
from softmatch_jax.models.sam.config import SamConfig
from softmatch_jax.models.sam.image_encoder import ImageEncoder
from softmatch_jax.models.sam.key_table import (
    ALIASES,
    ENCODER_PREFIX,
    IGNORED,
    Entry,
    Source,
    decoder_entries,
    encoder_entries,
    encoder_table,
)
from softmatch_jax.models.sam.misfits import compare
from softmatch_jax.models.sam.model import Sam

if TYPE_CHECKING:
    from softmatch_jax.models.checkpoints import Checkpoint


def config_of(checkpoint: Checkpoint) -> SamConfig:
    """The sizes of a checkpoint.

    Raises:
        InputError: It is no SAM model, or its files are damaged.
    """
    from softmatch_jax.models.checkpoints import read_config, read_tensors

    if checkpoint.kind == "transformers":
        try:
            return SamConfig.from_transformers(read_config(checkpoint))
        except InputError as error:
            text = str(error)
            raise InputError(text if checkpoint.name in text else f"{checkpoint.name}: {text}") from None
        except (AttributeError, TypeError, ValueError, ZeroDivisionError) as error:
            raise InputError(
                f"config.json of {checkpoint.name} does not describe a SAM model ({error}); expected the one "
                "published with it (download it again)."
            ) from error
    prefix = ENCODER_PREFIX["segment_anything"]
    tensors = read_tensors(checkpoint, prefix=(f"{prefix}blocks.", f"{prefix}patch_embed."))
    return SamConfig.from_segment_anything({name: tuple(tensor.shape) for name, tensor in tensors.items()})


def load_sam(checkpoint: Checkpoint, *, config: SamConfig | None = None) -> Sam:
    """Prompt encoder and mask decoder of a checkpoint, float32.

    Args:
        checkpoint: From ``checkpoints.locate``.
        config: Its sizes, where they are known; read from the checkpoint otherwise.

    Raises:
        InputError: The checkpoint is damaged, of another network, or does not fit its sizes.
    """
    from softmatch_jax.models.sam.stored_tensors import stored_tensors

    config = config_of(checkpoint) if config is None else config
    # All of them: names are strict, and tensors of the image encoder are not read.
    return convert(stored_tensors(checkpoint), config, checkpoint.kind, where=checkpoint.name)


def load_encoder(
    checkpoint: Checkpoint, *, config: SamConfig | None = None, dtype: Any = jnp.float32
) -> ImageEncoder:
    """The image encoder of a checkpoint; see :func:`convert_encoder`.

    Raises:
        InputError: The checkpoint is damaged, of another network, or does not fit its sizes.
    """
    from softmatch_jax.models.sam.stored_tensors import stored_tensors

    config = config_of(checkpoint) if config is None else config
    tensors = stored_tensors(checkpoint, prefix=ENCODER_PREFIX[checkpoint.kind])
    return convert_encoder(tensors, config, checkpoint.kind, dtype=dtype, where=checkpoint.name)


def convert(
    tensors: Mapping[str, Any], config: SamConfig, source: Source, *, where: str = "The checkpoint"
) -> Sam:
    """Prompt encoder and mask decoder from a checkpoint's tensors.

    Args:
        tensors: NumPy arrays or torch tensors by name. Those of the image encoder are passed over.
        config: The sizes they must have.
        source: Whose names they bear.
        where: What the message calls them.

    Returns:
        The model with float32 arrays of its own.

    Raises:
        InputError: Tensors are missing, unexpected or of another shape (all are named in one message),
            or copies of the position matrix differ.
    """
    graph, blank = _blank(Sam, config)
    named = _canonical(_without_encoder(tensors, source), where)
    shapes = {name: tuple(tensor.shape) for name, tensor in named.items()}
    compare(_decoder_shapes(config, source), shapes).check(where)
    arrays = {path: np.empty(leaf.shape, np.float32) for path, leaf in blank.items()}
    for entry in _entries(decoder_entries(config, source), blank):
        tensor, array = _as_numpy(named[entry.key]), arrays[entry.path]
        if entry.row is None:
            array[...] = tensor.transpose(entry.axes)
        else:
            array.reshape(-1, array.shape[-1])[entry.row] = tensor[0]
    filled = [(path, leaf.replace(jnp.array(arrays[path], copy=True))) for path, leaf in blank.items()]
    return nnx.merge(graph, nnx.from_flat_state(filled))


def convert_encoder(
    tensors: Mapping[str, Any],
    config: SamConfig,
    source: Source,
    *,
    dtype: Any = jnp.float32,
    where: str = "The checkpoint",
) -> ImageEncoder:
    """The image encoder from a checkpoint's tensors, which are read one at a time.

    Args:
        tensors: NumPy arrays or torch tensors by name, of the image encoder alone.
        config: The sizes they must have.
        source: Whose names they bear.
        dtype: What the blocks compute in. Their matrices are kept in it, all else in float32.
        where: What the message calls them.

    Raises:
        InputError: Tensors are missing, unexpected or of another shape (all are named in one message).
    """
    graph, blank = _blank(ImageEncoder, config, dtype=jnp.dtype(dtype))
    entries = _entries(encoder_entries(config, source), blank)
    expected = {entry.key: entry.shape(blank[entry.path].shape) for entry in entries}
    compare(expected, {name: tuple(tensor.shape) for name, tensor in tensors.items()}).check(where)
    filled = []
    for entry in entries:
        kind = dtype if entry.path[0] == "layers" and len(entry.axes) == 2 else jnp.float32
        array = _as_numpy(tensors[entry.key]).transpose(entry.axes)
        filled.append((entry.path, blank[entry.path].replace(jnp.array(array, kind, copy=True))))
    return nnx.merge(graph, nnx.from_flat_state(filled))


def check_keys(
    shapes: Mapping[str, Sequence[int]], source: Source, *, config: SamConfig | None = None
) -> list[str]:
    """What is wrong with a whole checkpoint, image encoder included, judged by names and shapes alone.

    Args:
        shapes: Shape of every tensor by its name.
        source: Whose names they bear.
        config: The sizes they must have; for segment-anything's files told from the shapes if left out,
            for transformers' ViT-B's.

    Returns:
        One phrase for each tensor that is missing, unexpected or of another shape; empty if all fit.

    Raises:
        InputError: No ``config`` and the image encoder is none of the three published ones.
    """
    if config is None:
        config = SamConfig() if source == "transformers" else SamConfig.from_segment_anything(shapes)
    expected = _decoder_shapes(config, source)
    expected |= {name: shape for name, (_, shape) in encoder_table(config, source).items()}
    found = compare(expected, _one_name({k: tuple(v) for k, v in shapes.items() if k not in IGNORED}))
    return [
        *(f"{name} is missing" for name in found.missing),
        *(f"{name} is unexpected" for name in found.unexpected),
        *found.misshapen,
    ]


@lru_cache(maxsize=8)
def _blank(make: Any, config: SamConfig, **settings: Any) -> tuple[Any, dict[tuple[Any, ...], Any]]:
    """A model's structure, and its variables by path with shapes in place of values; not to be changed."""
    graph, state = nnx.split(nnx.eval_shape(lambda: make(config, rngs=nnx.Rngs(0), **settings)))
    return graph, dict(nnx.to_flat_state(state))


def _entries(entries: list[Entry], blank: Mapping[tuple[Any, ...], Any]) -> list[Entry]:
    """The entries, once it is certain that they fill the whole model and nothing else."""
    assert {entry.path for entry in entries} == set(blank)
    return entries


def _decoder_shapes(config: SamConfig, source: Source) -> dict[str, tuple[int, ...]]:
    """Shapes that a checkpoint's tensors must have, by name."""
    _, blank = _blank(Sam, config)
    return {entry.key: entry.shape(blank[entry.path].shape) for entry in decoder_entries(config, source)}


def _without_encoder(tensors: Mapping[str, Any], source: Source) -> dict[str, Any]:
    prefix = ENCODER_PREFIX[source]
    return {k: v for k, v in tensors.items() if k not in IGNORED and not k.startswith(prefix)}


def _one_name(entries: Mapping[str, Any]) -> dict[str, Any]:
    """``entries`` with each alias under its first name, and copies dropped."""
    result = dict(entries)
    for name, aliases in ALIASES.items():
        for alias in aliases:
            if alias in result:
                copy = result.pop(alias)
                result.setdefault(name, copy)
    return result


def _canonical(tensors: Mapping[str, Any], where: str) -> dict[str, Any]:
    """``tensors`` under one name each; copies of one tensor must be equal."""
    for name, aliases in ALIASES.items():
        present = [key for key in (name, *aliases) if key in tensors]
        for other in present[1:]:
            if not np.array_equal(_as_numpy(tensors[present[0]]), _as_numpy(tensors[other])):
                raise InputError(
                    f"{where} holds {present[0]} and {other} with different values; expected two copies of "
                    "one matrix (the checkpoint was altered; download it again)."
                )
    return _one_name(tensors)


def _as_numpy(tensor: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A NumPy array or torch tensor, of any precision and on any device, as float32."""
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().float().cpu().numpy()
    return np.asarray(tensor, np.float32)
