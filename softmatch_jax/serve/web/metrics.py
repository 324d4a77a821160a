"""Figures for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_STREAMS = frozenset({"/api/events"})
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Metrics:
    """Counters of one application, with a registry of their own.

    Args:
        gauges: Reads the figures of this moment.
    """

    def __init__(self, gauges: Callable[[], Mapping[str, float]]) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "softmatch_requests",
            "Requests by route and status.",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self._latency = Histogram(
            "softmatch_request_seconds",
            "Seconds until the end of the response; event streams are left out.",
            ("route",),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._answers = Counter(
            "softmatch_engine_answers",
            "Answers of the engine by kind and outcome.",
            ("kind", "outcome"),
            registry=self._registry,
        )
        self._seconds = Counter(
            "softmatch_engine_seconds",
            "Seconds the engine worked, by kind.",
            ("kind",),
            registry=self._registry,
        )
        self._registry.register(_Gauges(gauges))

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts a request."""
        self._requests.labels(method, route, str(status)).inc()
        if route not in _STREAMS:
            self._latency.labels(route).observe(seconds)

    def answer(self, kind: str, seconds: float, failed: bool) -> None:
        """Counts an answer of the engine."""
        self._answers.labels(kind, "failed" if failed else "ok").inc()
        self._seconds.labels(kind).inc(seconds)

    def text(self) -> bytes:
        """All figures, in the text format."""
        return generate_latest(self._registry)


class _Gauges(Collector):
    def __init__(self, read: Callable[[], Mapping[str, float]]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        for name, value in self._read().items():
            yield GaugeMetricFamily(
                f"softmatch_{name}", f"{name.replace('_', ' ').capitalize()}.", value=value
            )


class Measuring:
    """Middleware that counts what goes through."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # 499 is what servers note for a client that left.
        status, began = 499, time.monotonic()

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            # Any word can stand for a method; only known ones become labels.
            method = scope["method"] if scope["method"] in ("GET", "POST", "HEAD", "OPTIONS") else "other"
            self._metrics.request(method, route, status, time.monotonic() - began)
