"""Metrics of processes. Only a service that has processes exposes them."""

from dataclasses import dataclass
from math import nan

from prometheus_client import CollectorRegistry, Gauge

from chassis.telemetry.counting import Counter, counters


@dataclass(frozen=True, slots=True)
class Counts:
    """What is counted of the steps of one process."""

    started: Counter
    advanced: Counter
    completed: Counter
    conflict: Counter
    missing: Counter
    over: Counter
    already_started: Counter
    repeated: Counter
    late_wake: Counter


class ProcessMetrics:
    """In the `registry` of the service's other metrics."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._steps = counters(
            "chassis_process_steps",
            "Steps of processes, by outcome.",
            ("process", "outcome"),
            registry=registry,
        )
        self._by_process: dict[str, Counts] = {}
        self._processes = Gauge(
            "chassis_processes",
            "Processes in the store, by status, the same for all replicas.",
            ("process", "status"),
            registry=registry,
        )
        self._idle = Gauge(
            "chassis_process_idle_seconds",
            "Since when the longest idle active process waits, its own wake-ups awaited; "
            "0 without one.",
            ("process",),
            registry=registry,
        )

    def show(self, process: str, status: str, count: float = 0, idle: float = 0) -> None:
        """How many processes have `status`; `idle` seconds is that of the longest idle one."""
        self.of(process)
        self._processes.labels(process, status).set(count)
        if status == "active":
            self._idle.labels(process).set(idle)

    def unknown(self) -> None:
        """What cannot be asked for is not a number: an old figure would look like one of now."""
        for process in self._by_process:
            self._idle.labels(process).set(nan)
            for status in ("active", "completed", "abandoned"):
                self._processes.labels(process, status).set(nan)

    def of(self, process: str) -> Counts:
        """The counts of `process`, each there from the first call on."""
        if process not in self._by_process:
            count = self._steps.labels
            names = Counts.__dataclass_fields__
            self._by_process[process] = Counts(**{name: count(process, name) for name in names})
        return self._by_process[process]
