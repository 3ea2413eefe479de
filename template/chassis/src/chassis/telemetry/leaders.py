"""Metrics of leaders. Only a service that has one exposes them."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class LeaderMetrics:
    """In the `registry` of the service's other metrics."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._leading = Gauge(
            "chassis_leading",
            "1 while this replica leads, else 0.",
            ("leader",),
            registry=registry,
        )
        self._failures = Counter(
            "chassis_leader_failures",
            "Bodies of a leader that raised.",
            ("leader",),
            registry=registry,
        )

    def show(self, leader: str, *, leading: bool) -> None:
        self._leading.labels(leader).set(leading)
        self._failures.labels(leader)

    def failed(self, leader: str) -> None:
        self._failures.labels(leader).inc()
