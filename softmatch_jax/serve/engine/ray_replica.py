"""What runs in each replica of the Ray Serve application."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from softmatch_jax.serve.engine.requests import Completed, Completion, EngineInfo, Matching, Models, Picture


class Replica:
    """Models in a process of their own, on one thread; requests come from the event loop.

    Args:
        make: Makes the models.
    """

    def __init__(self, make: Callable[[], Models]) -> None:
        # One thread makes the models and runs them: they may not be called from two.
        self._thread = ThreadPoolExecutor(1)
        self._models = self._thread.submit(make).result()
        self._thread.submit(self._models.warm_up).result()

    async def about(self) -> EngineInfo:
        """What the models are."""
        return self._models.info

    async def complete(self, request: Completion) -> Completed:
        """See :class:`~softmatch_jax.serve.engine.requests.Models`."""
        answer: Completed = await self._run(self._models.complete, request)
        return answer

    async def encode(self, picture: Picture) -> None:
        """See :class:`~softmatch_jax.serve.engine.requests.Models`."""
        await self._run(self._models.encode, picture)

    async def match_all(self, requests: list[Matching]) -> list[Any]:
        """Answers requests in their order, those with the same examples and seed one after the other."""
        groups: dict[Any, list[int]] = {}
        for place, request in enumerate(requests):
            groups.setdefault((request.examples.digest, request.seed), []).append(place)
        answers: list[Any] = [None] * len(requests)
        for places in groups.values():
            made = await self._run(self._models.match, [requests[place] for place in places])
            for place, answer in zip(places, made, strict=True):
                answers[place] = answer
        return answers

    async def _run(self, call: Callable[..., Any], *values: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *values)


def deployment(serve: Any, *, replicas: int, batch: int, window: float, gpus: float) -> Any:
    """Replicas that put matchings together which arrive close to each other.

    Args:
        serve: The module ``ray.serve``.
        replicas: How many.
        batch: Most matchings that a replica answers together.
        window: Seconds that a matching waits for others.
        gpus: Share of a GPU, or GPUs, for each.
    """

    class Batching(Replica):
        @serve.batch(max_batch_size=batch, batch_wait_timeout_s=window)  # type: ignore[untyped-decorator]
        async def match(self, requests: list[Any]) -> list[Any]:
            return await self.match_all(requests)

    return serve.deployment(
        name="models",
        num_replicas=replicas,
        max_ongoing_requests=batch + 2,
        ray_actor_options={"num_cpus": 1, "num_gpus": gpus},
        health_check_timeout_s=60,
        graceful_shutdown_timeout_s=2,
        graceful_shutdown_wait_loop_s=0.1,
    )(Batching)
