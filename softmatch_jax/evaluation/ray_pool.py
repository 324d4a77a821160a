"""Work spread over Ray: an actor pool of Ray Data whose lost workers are replaced.

Ray restarts a worker that was lost and gives it its batch again, without end. What is at fault may be the
item itself, one too large for the memory for instance; so each worker notes on the disk what it is at, and
its next life gives an item up that has taken several lives.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import pickle
import secrets
import socket
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from softmatch_jax._checks import InputError, check_positive

MOST_LIVES = 3
"""Workers that one item may take with it before it is given up."""

_LARGEST_BATCH = 8
_BATCHES_PER_WORKER = 4  # at least, so that the last ones to finish are not waited for long
_IN_FLIGHT = 2  # batches at a worker: one in hand and one waiting
_STORE = 128 * 2**20  # bytes; what passes through it are answers without pictures
_LOADING = -1
_PATIENCE = 10.0  # seconds

Answer_co = TypeVar("Answer_co", covariant=True)


class Worker(Protocol[Answer_co]):
    """Answers items by their number, in a process of its own."""

    def __call__(self, item: int) -> Answer_co:
        """The answer, which can be pickled. An item may come again, when the answer was lost.

        Raises:
            InputError: The whole run cannot go on.
        """

    def give_up(self, item: int) -> Answer_co:
        """The answer for an item that took :data:`MOST_LIVES` workers with it."""


def work_on_ray(
    make: Callable[[], Worker[Answer_co]],
    count: int,
    *,
    notes: Path,
    workers: int,
    address: str | None = None,
    gpus_per_worker: float = 0.0,
) -> Generator[Answer_co]:
    """Answers the items ``0`` to ``count - 1`` on Ray, in the order in which they become ready.

    Relative paths mean in the workers what they mean here, where they are on the same disk. What Ray has to
    say goes to standard error.

    Args:
        make: Makes a worker; goes to its process pickled, and is called there once.
        count: Number of items.
        notes: A folder that all workers see, for their notes; removed from it at the end.
        workers: Number of processes, each with one CPU.
        address: Of a cluster; ``None`` starts Ray on this machine, and ends it. A Ray that this process is
            connected to already is used as it is.
        gpus_per_worker: GPUs, or a share of one, that each process gets.

    Raises:
        InputError: Ray is not installed or cannot be reached, or what a worker raised.
    """
    check_positive("--ray", workers)
    if count == 0:
        return
    run = secrets.token_hex(4)
    notes = notes.absolute()
    notes.mkdir(parents=True, exist_ok=True)
    actor = (make, notes, run, os.getcwd())
    try:
        with redirect_stdout(sys.stderr), _session(workers, address) as ray, _quiet(ray):
            _check_gpus(ray, address, gpus_per_worker)
            batch = max(1, min(_LARGEST_BATCH, count // (workers * _BATCHES_PER_WORKER)))
            batches = -(-count // batch)
            rows = ray.data.from_items(
                [{"item": item} for item in range(count)], override_num_blocks=batches
            ).map_batches(
                _Actor,
                fn_constructor_args=actor,
                batch_size=batch,
                compute=ray.data.ActorPoolStrategy(
                    size=min(workers, batches), max_tasks_in_flight_per_actor=_IN_FLIGHT
                ),
                num_cpus=1,
                num_gpus=gpus_per_worker or None,
            )
            for row in _started(ray, rows.iter_rows()):
                if row["refused"] is not None:
                    raise InputError(row["refused"])
                yield pickle.loads(row["answer"])
    finally:
        for path in notes.glob(f".ray-{run}-*"):
            path.unlink(missing_ok=True)


class _Actor(Generic[Answer_co]):
    """What Ray keeps in each process: the worker, made when first needed, and its notes."""

    def __init__(self, make: Callable[[], Worker[Answer_co]], notes: Path, run: str, folder: str) -> None:
        if os.path.isdir(folder):
            os.chdir(folder)
        ray = _import("ray")
        if ray.get_gpu_ids():  # JAX would take most of a GPU that others have a share in
            os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        self._make = make
        self._worker: Worker[Answer_co] | None = None
        self._notes = _Notes(notes / f".ray-{run}-{ray.get_runtime_context().get_actor_id()}")

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        answers: list[bytes | None] = []
        refused: list[str | None] = []
        for item in batch["item"]:
            try:
                answers.append(pickle.dumps(self._answer(int(item))))
                refused.append(None)
            except InputError as error:  # as a row, since Ray would wrap it in tracebacks
                answers.append(None)
                refused.append(str(error))
                break
        return {"answer": answers, "refused": refused}

    def _answer(self, item: int) -> Answer_co:
        if self._worker is None:
            if not self._notes.begin(_LOADING):
                raise InputError(
                    f"A worker of Ray was lost {MOST_LIVES} times while it loaded the models; expected "
                    "enough memory for all workers (fewer of them with --ray)."
                )
            self._worker = self._make()
        return self._worker(item) if self._notes.begin(item) else self._worker.give_up(item)


class _Notes:
    """What a worker is at, and what its former lives ended at; Ray restarts a worker under the same name."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lost: Counter[int] = Counter()
        try:
            note = json.loads(path.read_text())
            self._lost = Counter({int(item): lives for item, lives in note["lost"].items()})
            self._lost[note["at"]] += 1
        except (OSError, ValueError, KeyError):  # the first life, or a note torn by its end
            pass

    def begin(self, item: int) -> bool:
        """Notes an item; False where it is to be given up."""
        if self._lost[item] >= MOST_LIVES:
            return False
        lost = {known: lives for known, lives in self._lost.items() if lives}
        try:
            self._path.write_text(json.dumps({"at": item, "lost": lost}))
        except OSError as error:
            raise InputError(
                f"{self._path} cannot be written ({error.strerror}); expected a folder that all workers "
                "share, with free space."
            ) from None
        return True


def _import(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        raise InputError(
            "The package ray is not installed with its part for data, which --ray needs; install it with "
            "pip install 'softmatch-jax[ray]'."
        ) from None


@contextmanager
def _session(workers: int, address: str | None) -> Iterator[Any]:
    """Ray, connected; what was started here is ended here."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # the workers' ends are told in plainer words
    ray = _import("ray")
    _import("ray.data")
    if ray.is_initialized():
        yield ray
        return
    try:
        with warnings.catch_warnings():
            # Ray forks to start programs of its own at once, to which JAX's threads do not matter.
            warnings.filterwarnings("ignore", message=r"os\.fork\(\) was called", category=RuntimeWarning)
            _connect(ray, workers, address)
    except (OSError, RuntimeError, ValueError) as error:
        where = "on this machine" if address is None else f"at {address}"
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
        raise InputError(
            f"Ray cannot be reached {where} ({reason}); expected a cluster with the same versions of Ray and "
            "Python (--ray-address), or none for workers on this machine."
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _connect(ray: Any, workers: int, address: str | None) -> None:
    common: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        ray.init("local", num_cpus=workers, include_dashboard=False, object_store_memory=_STORE, **common)
        return
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        # Ray itself would try for minutes.
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
    ray.init(address, **common)


def _started(ray: Any, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The rows; workers that do not even start are the cluster's fault, since they do nothing till asked."""
    try:
        yield from rows
    except ray.exceptions.ActorDiedError as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputError(
            f"The workers of Ray do not start ({reason}); expected softmatch-jax of one version on all "
            "machines of the cluster."
        ) from None


@contextmanager
def _quiet(ray: Any) -> Iterator[None]:
    """No bars, no reports, no hints: the caller shows the progress."""
    logger = logging.getLogger("ray.data")
    level = logger.level
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"ray\.")
        context = ray.data.DataContext.get_current().copy()
        context.enable_progress_bars = context.print_on_execution_start = False
        context.max_errored_blocks = 0
        logger.setLevel(logging.ERROR)
        try:
            with ray.data.DataContext.current(context):
                yield
        finally:
            logger.setLevel(level)


def _check_gpus(ray: Any, address: str | None, share: float) -> None:
    """A cluster may grow; this machine does not, and Ray would wait without end."""
    if address is None and share > ray.cluster_resources().get("GPU", 0):
        raise InputError(
            f"{share:g} GPUs are asked for each worker, and Ray finds "
            f"{ray.cluster_resources().get('GPU', 0):g} here; expected a share of what there is, or none."
        )
