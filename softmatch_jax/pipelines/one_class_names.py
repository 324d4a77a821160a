"""Names of the methods that an evaluation can ask; read by the command line's help, which loads no JAX."""

from __future__ import annotations

from typing import get_args

from softmatch_jax.pipelines.config import Method

MATCHING_METHODS: tuple[str, ...] = get_args(Method)
"""Our pipeline, by how it matches."""

BASELINES: tuple[str, ...] = ("matcher", "persam", "gf-sam")
"""Published methods, made anew over the same two models; see :mod:`softmatch_jax.pipelines.baselines`."""

ONE_CLASS_METHODS: tuple[str, ...] = MATCHING_METHODS + BASELINES
"""All that :func:`softmatch_jax.pipelines.one_class.one_class` knows."""

PROSAM = "prosam"
"""A trained prompt encoder; see :mod:`softmatch_jax.pipelines.prosam_one_class`."""
