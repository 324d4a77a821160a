"""``softmatch serve``: the web app on a project."""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, TextIO

import tyro

from softmatch_jax._checks import InputError
from softmatch_jax.cli.arguments import check_options, chosen_settings
from softmatch_jax.cli.serve_config import DEFAULT_MASKS, ServeOptions

if TYPE_CHECKING:
    from softmatch_jax.serve.config import ServeConfig
    from softmatch_jax.serve.engine.local import Engine
    from softmatch_jax.serve.engine.requests import Models


def run_serve(words: Sequence[str], *, stdout: TextIO | None = None) -> int:
    """Serves a project until it is interrupted.

    Args:
        words: What follows ``softmatch serve``.
        stdout: Gets the address; by default standard output.

    Returns:
        0 after it was told to stop.

    Raises:
        InputError: An option has no effect or is out of range, a package of the extra ``serve`` is missing,
            the project cannot be opened, or the address not be listened on.
        SystemExit: Help was asked for, or a word cannot be parsed.
    """
    options = parse_serve(words)
    # Imported late, as are all modules that bring JAX: help is quick.
    from softmatch_jax.models.optional import require

    out = sys.stdout if stdout is None else stdout
    for package in ("fastapi", "uvicorn", "prometheus_client"):
        require(package)
    check_backend(options)
    from softmatch_jax.serve.running import leave, serve_project

    def tell(address: str) -> None:
        print(f"Open {address}", file=out)
        if not options.quiet:
            print(f"The project is kept in {options.project}. Ctrl-C stops; nothing is lost.", file=out)
        out.flush()
        if not options.no_browser and has_screen():
            webbrowser.open(address)

    return leave(serve_project(serve_settings(options), partial(make_engine, options), tell=tell))


def parse_serve(words: Sequence[str]) -> ServeOptions:
    """Parses the command line; prints help or a parser's error and exits where asked to.

    Raises:
        InputError: An option has no effect, or names no folder.
        SystemExit: Help was asked for, or a word cannot be parsed.
    """
    settings = chosen_settings(words, masks=DEFAULT_MASKS)
    default = ServeOptions(
        matching=settings.matching,
        prompting=settings.prompting,
        decision=settings.decision,
        completion=settings.completion,
    )
    options: ServeOptions = tyro.cli(ServeOptions, prog="softmatch serve", args=list(words), default=default)
    check_options(options.backend, words, masks=DEFAULT_MASKS)
    if not str(options.project).strip() or any(word in ("--project=", "") for word in words):
        raise InputError("--project is empty; expected a folder (perhaps a shell variable is not set).")
    for name in ("ray_address", "ray_gpus"):
        if getattr(options, name) and options.ray is None:
            option = "--" + name.replace("_", "-")
            raise InputError(f"{option} has no effect without Ray; expected --ray N with it.")
    if options.ray is not None and options.ray < 1:
        raise InputError(f"--ray is {options.ray}; expected a number of replicas, at least 1.")
    return options


def check_backend(options: ServeOptions) -> None:
    """Checks of the models what can be checked before a project is opened.

    Raises:
        InputError: A setting is out of range, or a package of the extra ``foundation`` is missing.
    """
    from softmatch_jax.cli.backend import check_models

    # Phrases come later, from the page.
    check_models(options, () if options.models.text_model is None else ("a phrase",))
    if options.backend == "foundation":
        from softmatch_jax.models.optional import require

        for package in ("torch", "transformers"):
            require(package)


def serve_settings(options: ServeOptions) -> ServeConfig:
    """The settings of the server among those of the command.

    Raises:
        InputError: One is out of range.
    """
    from softmatch_jax.serve.config import LimitsConfig, ServeConfig

    return ServeConfig(
        project=options.project,
        host=options.host,
        port=options.port,
        token=options.token if options.token is not None else os.environ.get("SOFTMATCH_TOKEN"),
        allow_hosts=options.allow_host,
        read_only=options.read_only,
        limits=LimitsConfig(upload_bytes=options.max_upload_mb * 10**6, pixels=options.max_pixels),
    )


def make_engine(options: ServeOptions) -> Engine:
    """The engine, whose models are loaded in the background."""
    models = partial(make_models, options)
    if options.ray is not None:
        from softmatch_jax.serve.engine.ray_serve import RayEngine

        return RayEngine(
            models, replicas=options.ray, address=options.ray_address, gpus_per_replica=options.ray_gpus
        )
    from softmatch_jax.serve.engine.local import LocalEngine

    return LocalEngine(models)


def make_models(options: ServeOptions) -> Models:
    """Loads the models; runs on the thread that owns them, or in a replica."""
    from softmatch_jax.cli.backend import load_matcher
    from softmatch_jax.pipelines.feature_cache import default_cache_folder
    from softmatch_jax.serve.engine.service import ModelService

    return ModelService(
        load_matcher(options, {}, None),
        backend=options.backend,
        max_pixels=options.max_pixels,
        programs=default_cache_folder() / "programs",
    )


def has_screen() -> bool:
    """Whether a browser would open a window: a text browser in the terminal would be in the way."""
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
