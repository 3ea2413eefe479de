"""Prometheus metrics of one service, named after OpenTelemetry's messaging conventions.

Labels are bounded: the types that the service handles have their name, all others are `unknown`.
Children are bound once at start, so that counting costs the hot path no lookup. Counters and
histograms are plain numbers (counting.py); gauges, which count no event, are prometheus_client's.
Source of names: OpenTelemetry semantic conventions 1.44, messaging metrics, in Prometheus spelling.
"""

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from math import nan
from typing import TYPE_CHECKING, Literal

from prometheus_client import (
    CollectorRegistry,
    Gauge,
    GCCollector,
    Info,
    PlatformCollector,
    ProcessCollector,
)

from chassis.reasons import REASONS
from chassis.telemetry import counting
from chassis.telemetry.collectors import Imported

if TYPE_CHECKING:
    from chassis.telemetry.processes import ProcessMetrics

DURATION_BUCKETS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
)
AGE_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 21600.0, 86400.0)
COUNTED_REASONS = tuple(reason for reason in REASONS if reason != "crash_loop")
"""Why the service itself moves a message to the dead letters; the bus does for `crash_loop`.

Each exists from the start, so Prometheus sees the first letter as an increase, not as a new series.
"""


@dataclass(frozen=True, slots=True)
class TypeMetrics:
    """What is counted of one event type."""

    done: counting.Counter
    duplicate: counting.Counter
    retried: counting.Counter
    busy: counting.Counter
    dead: counting.Counter
    given_up: counting.Counter
    handed_back: counting.Counter
    began_to_fail: counting.Counter
    age: counting.Histogram


@dataclass(frozen=True, slots=True)
class HandlerMetrics:
    """What is counted of one handler."""

    duration: counting.Histogram
    failures: counting.Counter


class Metrics:
    """All metrics of a service, in its own registry: several services can live in one process."""

    def __init__(self, service: str, version: str, chassis_version: str) -> None:
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self.registry.register(Imported())
        registry = self.registry
        Info("chassis_build", "The service and the chassis it runs on.", registry=registry).info(
            {"service": service, "version": version, "chassis": chassis_version}
        )
        self._count_events()
        self._count_claims()
        self._count_letters_and_publishing()
        self._show_state()
        self._watch_connections_and_drain()

    def _count_events(self) -> None:
        registry = self.registry
        self._consumed = counting.counters(
            "messaging_client_consumed_messages",
            "Deliveries settled, by event type and outcome.",
            ("type", "outcome"),
            registry=registry,
        )
        self._age = counting.histograms(
            "chassis_event_age_seconds",
            "From the time an event happened to the end of its handling.",
            ("type",),
            buckets=AGE_BUCKETS,
            registry=registry,
        )
        self._began_to_fail = counting.counters(
            "chassis_failed_events",
            "Events that failed, each counted once: at its first failure.",
            ("type", "delivery"),
            registry=registry,
        )
        self._duration = counting.histograms(
            "messaging_process_duration_seconds",
            "Time the handler took, its publishing included.",
            ("type", "handler"),
            buckets=DURATION_BUCKETS,
            registry=registry,
        )
        self._failures = counting.counters(
            "chassis_handler_failures",
            "Attempts that raised or timed out.",
            ("type", "handler"),
            registry=registry,
        )
        self._limits = Gauge(
            "chassis_handler_limit",
            "What holds for a handler, by the name of the limit; limits that it lacks are absent.",
            ("type", "handler", "limit"),
            registry=registry,
        )
        self._batches = counting.histograms(
            "chassis_batch_size",
            "Events that a handler of batches got at a time.",
            ("handler",),
            buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
            registry=registry,
        )

    def _count_claims(self) -> None:
        registry = self.registry
        self._claims = counting.counters(
            "chassis_inbox_claims",
            "Claims asked of the inbox, by its answer.",
            ("outcome",),
            registry=registry,
        )
        self.claimed = self._claims.labels("claimed")
        self.claim_busy = self._claims.labels("busy")
        self.claim_duplicate = self._claims.labels("duplicate")
        self.claim_mismatch = self._claims.labels("mismatch")
        self.claim_unavailable = self._claims.labels("unavailable")
        self.leases_lost = counting.counter(
            "chassis_inbox_leases_lost",
            "Leases that were over, or taken over, while the handler still ran.",
            registry=registry,
        )

    def _count_letters_and_publishing(self) -> None:
        registry = self.registry
        self._dead = counting.counters(
            "chassis_dead_letters",
            "Messages moved to the dead letters, by reason.",
            ("reason",),
            registry=registry,
        )
        for reason in COUNTED_REASONS:
            self._dead.labels(reason)
        self._published = counting.counters(
            "messaging_client_sent_messages",
            "Events published, by type and outcome.",
            ("type", "outcome"),
            registry=registry,
        )
        self.publish_duration = counting.histogram(
            "messaging_client_operation_duration_seconds",
            "Time until the broker confirmed the events that one handling published.",
            buckets=DURATION_BUCKETS,
            registry=registry,
        )
        self.outbox_messages = Gauge(
            "chassis_outbox_messages",
            "Events in the outbox that wait to be published; NaN while not known.",
            registry=registry,
        )
        self.outbox_age = Gauge(
            "chassis_outbox_age_seconds",
            "Age of the oldest event in the outbox; 0 when there is none, NaN while not known.",
            registry=registry,
        )
        self.relaying = Gauge(
            "chassis_outbox_relaying",
            "1 if this replica publishes the outbox, 0 if it leaves that to a relay; "
            "NaN without an outbox.",
            registry=registry,
        )

    def _show_state(self) -> None:
        registry = self.registry
        self.in_flight = Gauge(
            "chassis_in_flight_messages", "Deliveries taken and not yet settled.", registry=registry
        )
        self.ready = Gauge(
            "chassis_ready", "1 while /readyz answers 200, else 0.", registry=registry
        )
        self.bus_connected = Gauge(
            "chassis_bus_connected",
            "1 while the connection to the broker is up, else 0; "
            "NaN until the inbox is open and it is tried.",
            registry=registry,
        )
        self.inbox_reachable = Gauge(
            "chassis_inbox_reachable", "1 while the inbox store answers, else 0.", registry=registry
        )
        self.backlog = Gauge(
            "chassis_backlog_messages",
            "Events at the broker that no replica has taken yet, the same for all replicas; "
            "NaN while not known.",
            registry=registry,
        )
        self.dead_letters_waiting = Gauge(
            "chassis_dead_letters_waiting",
            "Dead letters that are kept at the broker, the same for all replicas; "
            "NaN while not known.",
            registry=registry,
        )
        self.dead_letters_bound = Gauge(
            "chassis_dead_letters_bound",
            "Most dead letters that the broker keeps; NaN while not known or without a bound.",
            registry=registry,
        )
        for unknown in (
            self.bus_connected,
            self.backlog,
            self.dead_letters_waiting,
            self.dead_letters_bound,
            self.outbox_messages,
            self.outbox_age,
            self.relaying,
        ):
            unknown.set(nan)
        self.paused = Gauge(
            "chassis_consumer_paused",
            "1 while the consumer pauses by itself, by reason.",
            ("reason",),
            registry=registry,
        )

    def _watch_connections_and_drain(self) -> None:
        registry = self.registry
        self.reconnects = counting.counter(
            "chassis_bus_reconnects",
            "Connections to the broker that were lost and are back.",
            registry=registry,
        )
        self.ack_batch = counting.histogram(
            "chassis_bus_ack_batch_size",
            "Deliveries acknowledged at a time.",
            buckets=(1, 2, 5, 10, 20, 50, 100, 200),
            registry=registry,
        )
        self.drain_seconds = Gauge(
            "chassis_drain_seconds", "Seconds since the drain began; 0 before.", registry=registry
        )
        self.drain_deadline = Gauge(
            "chassis_drain_deadline_seconds",
            "Seconds that a drain may take (CHASSIS_DRAIN_SECONDS).",
            registry=registry,
        )
        self.abandoned = counting.counter(
            "chassis_drain_abandoned_messages",
            "Handlings cancelled at the drain's deadline.",
            registry=registry,
        )
        self.loop_lag = Gauge(
            "chassis_event_loop_lag_seconds",
            "How late the event loop woke the heartbeat.",
            registry=registry,
        )

    def for_type(
        self, type_: str, delivery: Literal["shared", "every_replica"] = "shared"
    ) -> TypeMetrics:
        count = self._consumed.labels
        return TypeMetrics(
            done=count(type_, "done"),
            duplicate=count(type_, "duplicate"),
            retried=count(type_, "retried"),
            busy=count(type_, "busy"),
            dead=count(type_, "dead"),
            given_up=count(type_, "given_up"),
            handed_back=count(type_, "handed_back"),
            began_to_fail=self._began_to_fail.labels(type_, delivery),
            age=self._age.labels(type_),
        )

    def without_claims(self) -> "Metrics":
        """The same metrics, for handlings whose claims are asked of no inbox and do not count."""
        apart = copy(self)
        apart.claimed = counting.Counter()
        return apart

    def for_handler(self, type_: str, handler: str) -> HandlerMetrics:
        return HandlerMetrics(
            self._duration.labels(type_, handler), self._failures.labels(type_, handler)
        )

    def show_limits(self, type_: str, handler: str, limits: Mapping[str, float]) -> None:
        for limit, value in limits.items():
            self._limits.labels(type_, handler, limit).set(value)

    def for_batches(self, handler: str) -> Callable[[float], None]:
        observe: Callable[[float], None] = self._batches.labels(handler).observe
        return observe

    @cached_property
    def processes(self) -> "ProcessMetrics":
        """Those of a service with processes."""
        from chassis.telemetry.processes import ProcessMetrics  # noqa: PLC0415 - only that one needs them

        return ProcessMetrics(self.registry)

    def dead(self, reason: str) -> None:
        """Count a dead letter; `reason` is one of the chassis' own few words."""
        self._dead.labels(reason).inc()

    def published(self, type_: str, outcome: str) -> None:
        self._published.labels(type_, outcome).inc()

    def watch_in_flight(self, count: Callable[[], float]) -> None:
        """Read the number of deliveries in flight when it is scraped."""
        self.in_flight.set_function(count)

    # The bus reports through these (chassis.bus.BusMetrics).

    def reconnected(self) -> None:
        self.reconnects.inc()

    def acknowledged(self, count: int) -> None:
        self.ack_batch.observe(count)
