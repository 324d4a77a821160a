"""The options that share work out: shards, and workers of Ray."""

from __future__ import annotations

import math
from typing import Protocol

from softmatch_jax._checks import InputError, check_positive
from softmatch_jax.cli.evaluate_arguments import parse_shard


class SharingOptions(Protocol):
    """What the settings of the commands that share work out have in common."""

    @property
    def resume(self) -> bool:
        """Whether results of an earlier run stay."""

    @property
    def overwrite(self) -> bool:
        """Whether they go."""

    @property
    def shard(self) -> str | None:
        """As typed: i/n."""

    @property
    def ray(self) -> int | None:
        """Number of workers."""

    @property
    def ray_address(self) -> str | None:
        """The cluster's."""

    @property
    def ray_gpus(self) -> float:
        """GPUs of each worker."""


def check_sharing(config: SharingOptions) -> None:
    """Raises ``InputError`` where the options that share work out do not fit each other."""
    parse_shard(config.shard)
    if config.shard is not None and config.overwrite:
        raise InputError(
            "--shard and --overwrite are given together, and shards would remove each other's results; "
            "expected another output folder (-o)."
        )
    if config.ray is not None:
        check_positive("--ray", config.ray)
    elif config.ray_address is not None or config.ray_gpus:
        option = "--ray-gpus" if config.ray_address is None else "--ray-address"
        raise InputError(f"{option} is given without --ray; expected --ray N, the number of workers.")
    if not 0 <= config.ray_gpus < math.inf:
        raise InputError(f"--ray-gpus is {config.ray_gpus}; expected 0 or more.")


def keeps_finished(config: SharingOptions) -> bool:
    """Whether what is finished stays so: a shard's folder is the others', too."""
    return config.resume or config.shard is not None
