"""From a service and its settings to the parts of a replica.

Only this module makes parts for one another. It starts none of them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from chassis import adapters
from chassis.bus import Bus, DeliveryMode, OnDelivery, Subscription
from chassis.context import NOTHING, Held
from chassis.contracts.event_types import require_fast_protobuf
from chassis.handling.appointments import HOLD_SECONDS
from chassis.handling.breaker import Breaker, FailurePause
from chassis.handling.consumer import Consumer
from chassis.handling.endings import Identity, Judge
from chassis.handling.intake import Entry, Intake
from chassis.handling.leases import LeaseKeeper
from chassis.handling.outage import StoreOutage
from chassis.handling.pauses import Pauses
from chassis.handling.setup import SetupPause
from chassis.handling.surroundings import Limits, Surroundings
from chassis.inbox import Inbox, InboxUnavailable, TransactionalInbox
from chassis.inbox.unclaimed import Unclaimed
from chassis.processes.store import ProcessStore
from chassis.publishing.direct import Direct
from chassis.publishing.publisher import Publisher
from chassis.replica.relay import Relay
from chassis.replica.routes import Routes
from chassis.retry import LONGEST_SECONDS, RetryPolicy
from chassis.service import Service, installed_version
from chassis.settings import Settings, SettingsError
from chassis.telemetry.metrics import Metrics
from chassis.telemetry.traces import Traces, open_traces

if TYPE_CHECKING:
    from chassis.processes.runner import Runner
    from chassis.schedule.ticker import Ticker

CHASSIS = "dockyard-chassis"


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a replica.

    `relay` is None where the inbox has no outbox, `processes` where the service has no process,
    `ticker` where it has no schedule.
    """

    bus: Bus
    inbox: Inbox
    consumer: Consumer
    relay: Relay | None
    direct: Direct
    metrics: Metrics
    traces: Traces
    processes: ProcessStore | None
    ticker: "Ticker | None"


def parts(service: Service, settings: Settings) -> Parts:
    """All parts of a replica. Raises ContractError, SettingsError, AdapterError, TracesError."""
    require_fast_protobuf()
    metrics = metrics_of(service)
    bus = adapters.open_bus(settings, service.name, metrics)
    inbox = adapters.open_inbox(settings)
    traces = open_traces(
        settings.otlp_endpoint,
        settings.trace_ratio,
        service=service.name,
        version=service.version,
        messaging_system=bus.system,
    )
    relay = None
    publisher = Publisher(bus, metrics, traces, settings.max_body_bytes)
    if not isinstance(inbox, TransactionalInbox):
        _require_no_transaction(service)
    else:
        relay = Relay(inbox, service.name, bus, publisher, metrics)
    processes = None
    if service.registry.processes:
        processes = adapters.open_processes(settings, service.name, inbox)
    consumer = consumer_of(
        service, settings, bus, inbox, metrics=metrics, traces=traces, processes=processes
    )
    if service.held.delays is not None:
        _require_memory(settings)
    direct = Direct(service.name, publisher, inbox, service.held)
    ticker = _ticker(service, settings, publisher) if service.registry.schedules else None
    return Parts(bus, inbox, consumer, relay, direct, metrics, traces, processes, ticker)


def _ticker(service: Service, settings: Settings, publisher: Publisher) -> "Ticker":
    """Raises SettingsError if the inbox forgets a tick that may be published again."""
    from chassis.schedule.ticker import Ticker  # noqa: PLC0415 - only a service with schedules needs it

    schedules = list(service.registry.schedules.values())
    for schedule in schedules:
        if schedule.missed > settings.retention_seconds:
            raise SettingsError(
                f"schedule {schedule.name}: missed={schedule.missed:g} seconds must not be above "
                f"CHASSIS_RETENTION_SECONDS={settings.retention_seconds:g}, or a tick that was "
                "handled would be made up for"
            )
    return Ticker(service.name, schedules, publisher)


def _require_memory(settings: Settings) -> None:
    """Raises SettingsError if a delayed event, or that it is cancelled, would be forgotten."""
    least = 3 * LONGEST_SECONDS
    for name, seconds in (
        ("CHASSIS_RETENTION_SECONDS", settings.retention_seconds),
        ("CHASSIS_NATS_MAX_AGE_SECONDS", settings.nats_max_age_seconds),
    ):
        if seconds is not None and seconds < least:
            raise SettingsError(
                f"{name}={seconds:g} must be at least {least:g} with delayed_events=True: "
                "a delayed event shows itself every hour or two, and is looked up then"
            )


def _require_no_transaction(service: Service) -> None:
    """Raises SettingsError, before any event is taken."""
    for handler in service.registry.handlers:
        if handler.options.transaction:
            raise SettingsError(
                f"handler {handler.name} is declared with transaction=True, which needs the inbox "
                "in the PostgreSQL database of the handler's tables: set "
                "CHASSIS_INBOX_URL=postgresql://…"
            )


def metrics_of(service: Service) -> Metrics:
    return Metrics(service.name, service.version, installed_version(CHASSIS))


def consumer_of(
    service: Service,
    settings: Settings,
    bus: Bus,
    inbox: Inbox,
    *,
    metrics: Metrics,
    traces: Traces,
    processes: ProcessStore | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    hold_seconds: float = HOLD_SECONDS,
    paced: bool = True,
) -> Consumer:
    """The way from `bus` through the handlers of `service`. `hold_seconds`: see Limits.

    A service with processes needs their store. `now` is the clock of what waits, `paced`: see
    Routes. Raises SettingsError.
    """
    publisher = Publisher(bus, metrics, traces, settings.max_body_bytes)
    steps = None if processes is None else _steps(processes, service.name, metrics, publisher, now)
    routes = Routes(service, settings, metrics, steps, now=now, paced=paced)
    return wire(
        Identity(service.name, service.version),
        routes.entries("shared"),
        routes.entries("every_replica"),
        bus=bus,
        inbox=inbox,
        publisher=publisher,
        policy=RetryPolicy(
            max_attempts=settings.max_attempts,
            backoff=settings.backoff_seconds,
            backoff_max=settings.backoff_max_seconds,
            max_age=settings.max_age_seconds,
        ),
        breaker=Breaker(settings.pause_failure_ratio),
        limits=Limits(
            settings.handler_timeout_seconds,
            settings.lease_seconds,
            settings.max_body_bytes,
            hold=hold_seconds,
        ),
        metrics=metrics,
        traces=traces,
        held=service.held,
    )


def _steps(
    store: ProcessStore,
    service: str,
    metrics: Metrics,
    publisher: Publisher,
    now: Callable[[], datetime],
) -> "Runner":
    from chassis.processes.runner import Runner  # noqa: PLC0415 - only a service with processes needs it

    return Runner(store, service, metrics.processes, publisher.check, now=now)


def wire(
    identity: Identity,
    shared: Mapping[str, Entry],
    for_each: Mapping[str, Entry],
    *,
    bus: Bus,
    inbox: Inbox,
    publisher: Publisher,
    policy: RetryPolicy,
    breaker: Breaker,
    limits: Limits,
    metrics: Metrics,
    traces: Traces,
    held: Held = NOTHING,
) -> Consumer:
    """A consumer of `shared` events and, claimed in no store, of the events `for_each` replica."""
    pauses = Pauses(bus, metrics.paused)
    failures = FailurePause(breaker, pauses)

    def on_unavailable(error: InboxUnavailable) -> None:
        outage.report(error)

    leases = LeaseKeeper(inbox, limits.lease, metrics.leases_lost.inc, on_unavailable)
    outage = StoreOutage(
        inbox,
        pauses,
        leases.extend_due,
        probe_seconds=limits.probe,
        # At least half of a term is left of every lease, and an outage takes time to be seen.
        short_seconds=limits.lease / 4,
    )

    around = Surroundings(
        identity.service,
        judge=Judge(identity, policy),
        inbox=inbox,
        leases=leases,
        publisher=publisher,
        outage=outage,
        failures=failures,
        setup=SetupPause(pauses),
        limits=limits,
        metrics=metrics,
        traces=traces,
        held=held,
    )
    unclaimed = replace(around, inbox=Unclaimed(), metrics=metrics.without_claims())
    return Consumer(
        Intake(shared, around, buries=True),
        Intake(for_each, unclaimed, buries=False),
        bus=bus,
        leases=leases,
        outage=outage,
        failures=failures,
        setup=around.setup,
        pauses=pauses,
        metrics=metrics,
        cancel_seconds=limits.cancel,
    )


def subscribe(service: Service, bus: Bus, consumer: Consumer, prefetch: int) -> None:
    """Subscribe `consumer` to shared events, and to the events that every replica gets."""
    ways: tuple[tuple[DeliveryMode, OnDelivery], ...] = (
        ("shared", consumer.on_delivery),
        ("every_replica", consumer.on_delivery_for_each),
    )
    for mode, on_delivery in ways:
        if types := service.registry.types_of(mode):
            bus.subscribe(Subscription(service.name, types, prefetch, mode), on_delivery)
