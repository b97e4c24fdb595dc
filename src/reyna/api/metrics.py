"""Metrics in the Prometheus text format. Owns what is counted; `GET /metrics` shows it."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4"


class Metrics:
    """The counters of one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "reyna_http_requests",
            "HTTP requests answered.",
            ["method", "status"],
            registry=self._registry,
        )
        self._lag = Gauge(
            "reyna_projection_lag_events",
            "Events between the end of the log and a projection.",
            ["projection"],
            registry=self._registry,
        )
        self._head = Gauge("reyna_log_head", "The last seq of the log.", registry=self._registry)
        self._sockets = Gauge(
            "reyna_live_sockets", "Live sockets open here.", registry=self._registry
        )
        self._known: dict[tuple[str, int], Counter] = {}

    def answered(self, method: str, status: int) -> None:
        """Count an answer. Unknown methods are counted together: a caller makes no series."""
        method = method if method in _METHODS else "other"
        found = self._known.get((method, status))
        if found is None:
            found = self._known[method, status] = self._requests.labels(method, str(status))
        found.inc()

    def observe(self, head: int, lag: dict[str, int], sockets: int) -> None:
        """Set the gauges."""
        self._head.set(head)
        self._sockets.set(sockets)
        for projection, events in lag.items():
            self._lag.labels(projection).set(events)

    def text(self) -> bytes:
        """All of them, in the text format."""
        return generate_latest(self._registry)


_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
