"""The engine of several machines: replicas of the models behind Ray Serve.

What waits stays here, in the same queue as with one machine, so that a person overtakes background work and
what an edit made pointless is never sent. Each replica has models of its own on a thread of its own; Ray
Serve spreads requests over them and puts matchings together that arrive close to each other.
"""

from __future__ import annotations

import importlib
import logging
import os
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

from softmatch_jax._checks import InputError, check_positive
from softmatch_jax.serve.engine.local import LOADING, Submitting
from softmatch_jax.serve.engine.queue import Job, RequestQueue
from softmatch_jax.serve.engine.ray_replica import deployment
from softmatch_jax.serve.engine.requests import EngineInfo, Models

_LOG = logging.getLogger(__name__)

APP = "softmatch"

LOADED = 600.0
"""Seconds that replicas may take until they are warm."""

ANSWERED = 300.0
"""Seconds that a replica may take for an answer."""


class RayEngine(Submitting):
    """An :class:`~softmatch_jax.serve.engine.local.Engine` over a Ray Serve application."""

    def __init__(
        self,
        make: Callable[[], Models],
        *,
        replicas: int = 2,
        capacity: int = 256,
        batch: int = 4,
        window_s: float = 0.004,
        address: str | None = None,
        gpus_per_replica: float = 0.0,
    ) -> None:
        """Starts the application in the background.

        Args:
            make: Makes the models; goes to the replicas pickled, and is called once in each.
            replicas: Number of processes.
            capacity: Most requests that wait here.
            batch: Most matchings that a replica answers together.
            window_s: Seconds that a replica waits for more of them.
            address: Of a cluster; ``None`` starts Ray on this machine, and ends it. A Ray that this process
                is connected to already is used as it is.
            gpus_per_replica: GPUs, or a share of one, that each process gets.

        Raises:
            InputError: Ray Serve is not installed, or a number is out of range.
        """
        check_positive("replicas", replicas)
        check_positive("batch", batch)
        super().__init__(RequestQueue(capacity=capacity, turn=batch * replicas))
        self._ray, self._serve = _imported()
        self._info, self._warm = LOADING, False
        self._error: Exception | None = None
        self._started_ray = False
        self._handle: Any = None
        self._closing = threading.Event()
        settings = {"make": make, "replicas": replicas, "batch": batch, "window": window_s}
        settings |= {"address": address, "gpus": gpus_per_replica}
        # So many may be on their way that each replica has a batch in hand and a completion beside it.
        senders = replicas * (batch + 1)
        self._threads = [threading.Thread(target=self._begin, args=(settings, senders), daemon=True)]
        self._threads[0].start()

    @property
    def info(self) -> EngineInfo:
        """See :class:`~softmatch_jax.serve.engine.local.Engine`."""
        return self._info

    @property
    def ready(self) -> bool:
        """See :class:`~softmatch_jax.serve.engine.local.Engine`."""
        return self._warm

    @property
    def error(self) -> Exception | None:
        """Why the application could not be started."""
        return self._error

    def close(self, timeout: float = 20.0) -> None:
        """Cancels what waits, and takes the application down; waits no longer than ``timeout`` seconds."""
        first = not self._closing.is_set()
        self._closing.set()
        self._warm = False
        for job in self._queue.close():
            if job.future.cancel():
                job.future.set_running_or_notify_cancel()
        until = time.monotonic() + timeout
        if first and self._ray.is_initialized():
            ending = threading.Thread(target=self._take_down, daemon=True)
            ending.start()
            ending.join(timeout)
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _take_down(self) -> None:
        try:
            if self._started_ray:
                self._ray.shutdown()
            else:
                self._serve.delete(APP)
        except Exception:
            _LOG.warning("The application could not be taken down.", exc_info=True)

    def _begin(self, settings: dict[str, Any], senders: int) -> None:
        """Starts the application, and then the threads that send what is asked."""
        try:
            self._handle = self._deploy(settings)
            self._info = self._handle.about.remote().result(timeout_s=LOADED)
            self._warm = not self._closing.is_set()
        except Exception as error:
            self._error = _plain(error)
            _LOG.error("The replicas could not be started: %s", self._error)
        self._threads += [threading.Thread(target=self._send, daemon=True) for _ in range(senders)]
        for thread in self._threads[1:]:
            thread.start()

    def _deploy(self, settings: dict[str, Any]) -> Any:
        ray, serve = self._ray, self._serve
        if not ray.is_initialized():
            _connect(ray, settings["replicas"], settings["address"])
            self._started_ray = True
        # Without a proxy: what is asked comes through the handle alone, and no port is opened.
        serve.start(proxy_location="Disabled", logging_config={"log_level": "ERROR"})
        sizes = {name: settings[name] for name in ("replicas", "batch", "window", "gpus")}
        return serve.run(deployment(serve, **sizes).bind(settings["make"]), name=APP, route_prefix=None)

    def _send(self) -> None:
        while (job := self._queue.take()) is not None:
            with self._lock:
                self._busy += 1
            started = time.monotonic()
            answer = self._error or self._answer(job)
            with self._lock:
                self._busy -= 1
            self._finish(job, answer, started)

    def _answer(self, job: Job) -> Any:
        """What a replica says, or the exception it raises."""
        method = {"completion": "complete", "matching": "match", "encode": "encode"}[job.kind]
        try:
            answer = getattr(self._handle, method).remote(job.request).result(timeout_s=ANSWERED)
        except (Exception, CancelledError) as error:
            return _plain(error)
        return answer


def _imported() -> tuple[Any, Any]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    # The poll of a handle outlives its Ray, and would start another.
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    # What Ray Serve does is no news to who asks for masks.
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    try:
        return importlib.import_module("ray"), importlib.import_module("ray.serve")
    except ModuleNotFoundError as error:
        raise InputError(
            f"Ray is not installed with its part for serving ({error.name} is missing), which --ray needs; "
            "install it with pip install 'softmatch-jax[ray]'."
        ) from None


def _connect(ray: Any, replicas: int, address: str | None) -> None:
    common: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        with warnings.catch_warnings():
            # Ray forks to start programs of its own at once, to which JAX's threads do not matter.
            warnings.filterwarnings("ignore", message=r"os\.fork\(\) was called", category=RuntimeWarning)
            if address is None:
                # One more for what Ray Serve itself runs.
                ray.init("local", num_cpus=replicas + 1, include_dashboard=False, **common)
            else:
                ray.init(address, **common)
    except (OSError, RuntimeError, ValueError) as error:
        where = "on this machine" if address is None else f"at {address}"
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
        raise InputError(
            f"Ray cannot be reached {where} ({reason}); expected a cluster with the same versions of Ray and "
            "Python, or none for replicas on this machine."
        ) from None


def _plain(error: BaseException) -> Exception:
    """What was raised in a replica, without what Ray wraps it in."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, InputError):
        return InputError(str(cause))
    if isinstance(error, CancelledError):
        return RuntimeError("The request was given up since the engine was closed.")
    return error if isinstance(error, Exception) else RuntimeError(str(error))
