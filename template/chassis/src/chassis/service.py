"""A service: its handlers, and the parts that are built around them from the settings."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from importlib.metadata import PackageNotFoundError, version
from time import monotonic
from typing import TypeVar

import structlog
from google.protobuf.message import Message

from chassis import adapters
from chassis.bus import Bus, DeliveryMode, OnDelivery, Subscription
from chassis.context import Context
from chassis.contracts.event_types import event_type, require_fast_protobuf
from chassis.contracts.upcasters import New, Old, Upcasters
from chassis.handling.breaker import Breaker
from chassis.handling.consumer import Consumer, Entry, Identity, Limits, Route
from chassis.handling.turns import HOLD_SECONDS, Slots, Turns
from chassis.inbox import Inbox, InboxUnavailable, TransactionalInbox
from chassis.publishing.publisher import Publisher
from chassis.registration import Options, Registered, RegistrationError
from chassis.replica import backlog, probes
from chassis.replica.lifecycle import Lifecycle
from chassis.replica.relay import Relay
from chassis.retry import RetryPolicy
from chassis.settings import Settings, SettingsError
from chassis.telemetry.metrics import Metrics
from chassis.telemetry.traces import Traces, open_traces

__all__ = ["Event", "Handler", "RegistrationError", "Service"]

_log = structlog.get_logger(__name__)

Event = TypeVar("Event", bound=Message)
Handler = Callable[[Event, Context], Awaitable[None]]

STORE_RETRY_SECONDS = 1.0


class Service:
    """The registry of a service's handlers and upcasters.

    `name` is the distribution's name and that of its queue; `version` is read from the installed distribution
    unless given.
    """

    def __init__(self, name: str, *, version: str | None = None) -> None:
        self.name = name
        self.version = _installed(name) if version is None else version
        self._handlers: dict[type[Message], list[Registered]] = {}
        self._upcasters = Upcasters()

    def on(
        self,
        message: type[Event],
        *,
        key: Callable[[Event], str] | None = None,
        concurrency: int | None = None,
        ordered_by: Callable[[Event], str | None] | None = None,
        delivery: DeliveryMode = "shared",
    ) -> Callable[[Handler[Event]], Handler[Event]]:
        """Register an async function as a handler of `message`.

        Several handlers of one type each have a claim of their own: when one fails, the others are not repeated.
        `key` gives the idempotency key of an event where its id is not the right one: events with the same key
        are handled once, whatever their version.

        `concurrency` is how many events at most this handler has in hand at a time in a replica. `ordered_by` gives
        what an event belongs to: events with the same answer are handled one at a time, and within a replica in the
        order they were delivered; None or an empty string asks for no order. `delivery="every_replica"`: each replica
        handles each event, at least once and without a claim. Raises RegistrationError.
        """
        options = Options(key, concurrency, ordered_by, delivery)

        def register(handler: Handler[Event]) -> Handler[Event]:
            name = getattr(handler, "__name__", repr(handler))
            if not inspect.iscoroutinefunction(handler):
                raise RegistrationError(f"handler {name} must be an `async def` function")
            options.check(f"handler {name} of {event_type(message)}")
            registered = self._handlers.setdefault(message, [])
            if any(other.name == name for other in registered):
                raise RegistrationError(
                    f"{event_type(message)} has a handler called {name} already"
                )
            registered.append(Registered(name, handler, options))
            return handler

        return register

    def upcast(
        self, old: type[Old], new: type[New]
    ) -> Callable[[Callable[[Old], New]], Callable[[Old], New]]:
        """Register a pure function that makes an `old` event into a `new` one: handlers of `new` then take both.

        Upcasters are chained. An event goes to the handlers of the first version on its way that has any, so a
        handler of `old` itself keeps its events. One that raises sends the event to the dead letters at once.
        Raises RegistrationError.
        """

        def register(function: Callable[[Old], New]) -> Callable[[Old], New]:
            self._upcasters.add(old, new, function)
            return function

        return register

    @property
    def messages(self) -> tuple[type[Message], ...]:
        """The message classes that have a handler."""
        return tuple(self._handlers)

    @property
    def types(self) -> frozenset[str]:
        """The event types that the service takes: those that have a handler, and those that upcasters lead to one."""
        return self.types_of("shared") | self.types_of("every_replica")

    def types_of(self, mode: DeliveryMode) -> frozenset[str]:
        """Those of them that a handler takes with this `delivery`."""
        return frozenset(
            event_type(reading.sent)
            for reading in self._upcasters.readings(self._handlers)
            if any(handler.options.delivery == mode for handler in self._handlers[reading.handled])
        )

    def metrics(self) -> Metrics:
        return Metrics(self.name, self.version, _installed("dockyard-chassis"))

    def consumer(
        self,
        settings: Settings,
        bus: Bus,
        inbox: Inbox,
        metrics: Metrics,
        traces: Traces,
        *,
        hold_seconds: float = HOLD_SECONDS,
    ) -> Consumer:
        """The pipeline from `bus` through the handlers, with everything bound that can be bound before.

        `hold_seconds`: how long an event with an order is kept in hand, its retries included.
        """
        entries: dict[DeliveryMode, dict[str, Entry]] = {"shared": {}, "every_replica": {}}
        turns = self._turns(settings.prefetch)
        for reading in self._upcasters.readings(self._handlers):
            type_ = event_type(reading.sent)
            for mode, of_mode in entries.items():
                handlers = [
                    h for h in self._handlers[reading.handled] if h.options.delivery == mode
                ]
                routes = tuple(
                    Route(
                        h.call,
                        h.name,
                        h.options.key,
                        metrics.for_handler(type_, h.name),
                        turns.get(h),
                    )
                    for h in handlers
                )
                if routes:
                    of_mode[type_] = Entry(reading.parse, routes, metrics.for_type(type_))
        return Consumer(
            Identity(self.name, self.version),
            entries["shared"],
            for_each=entries["every_replica"],
            bus=bus,
            inbox=inbox,
            publisher=Publisher(bus, metrics, traces, settings.max_body_bytes),
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
        )

    def subscribe(self, bus: Bus, consumer: Consumer, prefetch: int) -> None:
        """Have `bus` deliver to `consumer`: what the replicas share, and what each of them gets."""
        ways: tuple[tuple[DeliveryMode, OnDelivery], ...] = (
            ("shared", consumer.on_delivery),
            ("every_replica", consumer.on_delivery_for_each),
        )
        for mode, on_delivery in ways:
            if types := self.types_of(mode):
                bus.subscribe(Subscription(self.name, types, prefetch, mode), on_delivery)

    def _turns(self, prefetch: int) -> dict[Registered, Turns]:
        """Of each handler that asks for any: the same for all types that upcasters lead to it.

        Those that wait for a slot share half of the prefetch. Where there is one handler nobody else needs it.
        """
        handlers = [handler for registered in self._handlers.values() for handler in registered]
        limited = sum(handler.options.concurrency is not None for handler in handlers)
        room = max(1, prefetch // (2 * limited)) if limited and len(handlers) > 1 else None
        return {
            handler: Turns(
                None if limit is None else Slots(limit, room), handler.options.ordered_by
            )
            for handler in handlers
            if (limit := handler.options.concurrency) is not None
            or handler.options.ordered_by is not None
        }

    async def run(self, settings: Settings) -> None:
        """Serve until SIGTERM or SIGINT, then drain. Waits for a broker or a store that is not there yet."""
        await self._serve(settings)

    async def relay(self, settings: Settings) -> None:
        """As `run`, but take no events: publish those that other replicas have put into the outbox.

        Raises SettingsError when the inbox is of a kind that has no outbox.
        """
        await self._serve(settings, relay_alone=True)

    async def _serve(self, settings: Settings, *, relay_alone: bool = False) -> None:
        require_fast_protobuf()
        metrics = self.metrics()
        bus = adapters.open_bus(settings, self.name, metrics)
        inbox = adapters.open_inbox(settings)
        traces = open_traces(
            settings.otlp_endpoint,
            settings.trace_ratio,
            service=self.name,
            version=self.version,
            messaging_system=bus.system,
        )
        relay = None
        if isinstance(inbox, TransactionalInbox):
            publisher = Publisher(bus, metrics, traces, settings.max_body_bytes)
            relay = Relay(inbox, self.name, bus, publisher, metrics)
        elif relay_alone:
            raise SettingsError(
                "there is no outbox to relay: only the inbox at a CHASSIS_INBOX_URL=postgresql://… has one"
            )
        lifecycle = Lifecycle()
        lifecycle.handle_signals()
        consumer = self.consumer(settings, bus, inbox, metrics, traces)
        lifecycle.require("bus", lambda: consumer.consuming)
        lifecycle.require("inbox", lambda: consumer.store_reachable)
        metrics.ready.set_function(lambda: float(lifecycle.readiness().ok))
        metrics.inbox_reachable.set_function(lambda: float(consumer.store_reachable))
        metrics.drain_deadline.set(settings.drain_seconds)
        about = {
            "service": self.name,
            "version": self.version,
            "chassis": _installed("dockyard-chassis"),
        }
        async with probes.serve(
            settings.http_host,
            settings.http_port,
            lifecycle=lifecycle,
            registry=metrics.registry,
            version=about,
        ) as port:
            types = [] if relay_alone else sorted(self.types)
            _log.info("starting", version=self.version, http_port=port, types=types)
            beating = asyncio.create_task(lifecycle.beat(metrics.loop_lag.set))
            if await _open(inbox, lifecycle):
                consumer.start()
                if relay is not None:
                    relay.start(
                        publishing=relay_alone or settings.outbox_relay, listening=relay_alone
                    )
                    lifecycle.require("outbox", lambda: relay.working)
                if not relay_alone:
                    self.subscribe(bus, consumer, settings.prefetch)
                metrics.bus_connected.set_function(lambda: float(bus.connected))
                await bus.start()
                announcing = asyncio.create_task(_announce(bus))
                watching = asyncio.create_task(backlog.watch(bus, self.name, metrics))
                await lifecycle.stopping.wait()
                announcing.cancel()
                watching.cancel()
                await self._drain(settings.drain_seconds, consumer, relay, metrics)
            await bus.close()
            await asyncio.gather(inbox.close(), traces.shutdown())
            beating.cancel()
        _log.info("stopped")

    @staticmethod
    async def _drain(
        deadline: float, consumer: Consumer, relay: Relay | None, metrics: Metrics
    ) -> None:
        started = monotonic()
        # Live, because nobody is there to be scraped once the drain is over.
        metrics.drain_seconds.set_function(lambda: monotonic() - started)
        abandoned = await consumer.drain(deadline)
        if relay is not None:
            await relay.drain(deadline - (monotonic() - started))
        _log.info("drained", seconds=round(monotonic() - started, 3), abandoned=abandoned)


async def _open(inbox: Inbox, lifecycle: Lifecycle) -> bool:
    """Open the inbox as soon as its store answers; False when the service shall stop before."""
    told = False
    while not lifecycle.stopping.is_set():
        try:
            await inbox.open()
        except InboxUnavailable as error:
            if not told:
                _log.warning(
                    "the inbox store is not reachable yet, waiting for it", error=str(error)
                )
                told = True
            try:
                await asyncio.wait_for(lifecycle.stopping.wait(), STORE_RETRY_SECONDS)
            except TimeoutError:
                continue
        else:
            return True
    return False


async def _announce(bus: Bus) -> None:
    await bus.wait_ready()
    _log.info("ready")


def _installed(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "0"
