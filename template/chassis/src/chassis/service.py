"""A service: its handlers, and the parts that are built around them from the settings."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from time import monotonic
from typing import Any, TypeVar

import structlog
from google.protobuf.message import Message

from chassis import adapters, ops
from chassis.breaker import Breaker
from chassis.bus import Bus, Subscription
from chassis.consumer import Consumer, Entry, Identity, Limits, Route
from chassis.context import Context
from chassis.contracts import event_type, require_fast_protobuf
from chassis.inbox import Inbox, InboxUnavailable
from chassis.lifecycle import Lifecycle
from chassis.publisher import Publisher
from chassis.retry import RetryPolicy
from chassis.settings import Settings
from chassis.telemetry.metrics import Metrics
from chassis.telemetry.traces import Traces, open_traces
from chassis.versions import New, Old, RegistrationError, Upcasters

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
        self._handlers: dict[type[Message], list[_Registered]] = {}
        self._upcasters = Upcasters()

    def on(
        self, message: type[Event], *, key: Callable[[Event], str] | None = None
    ) -> Callable[[Handler[Event]], Handler[Event]]:
        """Register an async function as a handler of `message`.

        Several handlers of one type each have a claim of their own: when one fails, the others are not repeated.
        `key` gives the idempotency key of an event where its id is not the right one: events with the same key
        are handled once, whatever their version. Raises RegistrationError.
        """

        def register(handler: Handler[Event]) -> Handler[Event]:
            name = getattr(handler, "__name__", repr(handler))
            if not inspect.iscoroutinefunction(handler):
                raise RegistrationError(f"handler {name} must be an `async def` function")
            registered = self._handlers.setdefault(message, [])
            if any(other.name == name for other in registered):
                raise RegistrationError(f"{event_type(message)} has a handler called {name} already")
            registered.append(_Registered(name, handler, key))
            return handler

        return register

    def upcast(self, old: type[Old], new: type[New]) -> Callable[[Callable[[Old], New]], Callable[[Old], New]]:
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
        return frozenset(event_type(reading.sent) for reading in self._upcasters.readings(self._handlers))

    def metrics(self) -> Metrics:
        return Metrics(self.name, self.version, _installed("dockyard-chassis"))

    def consumer(self, settings: Settings, bus: Bus, inbox: Inbox, metrics: Metrics, traces: Traces) -> Consumer:
        """The pipeline from `bus` through the handlers, with everything bound that can be bound before."""
        entries = {}
        for reading in self._upcasters.readings(self._handlers):
            type_ = event_type(reading.sent)
            handlers = self._handlers[reading.handled]
            routes = tuple(Route(h.call, h.name, h.key, metrics.for_handler(type_, h.name)) for h in handlers)
            entries[type_] = Entry(reading.parse, routes, metrics.for_type(type_))
        return Consumer(
            Identity(self.name, self.version),
            entries,
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
            limits=Limits(settings.handler_timeout_seconds, settings.lease_seconds, settings.max_body_bytes),
            metrics=metrics,
            traces=traces,
        )

    async def run(self, settings: Settings) -> None:
        """Serve until SIGTERM or SIGINT, then drain. Waits for a broker or a store that is not there yet."""
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
        lifecycle = Lifecycle()
        lifecycle.handle_signals()
        consumer = self.consumer(settings, bus, inbox, metrics, traces)
        lifecycle.require("bus", lambda: consumer.consuming)
        lifecycle.require("inbox", lambda: consumer.store_reachable)
        metrics.ready.set_function(lambda: float(lifecycle.readiness().ok))
        about = {"service": self.name, "version": self.version, "chassis": _installed("dockyard-chassis")}
        async with ops.serve(
            settings.http_host, settings.http_port, lifecycle=lifecycle, registry=metrics.registry, version=about
        ) as port:
            _log.info("starting", version=self.version, http_port=port, types=sorted(self.types))
            beating = asyncio.create_task(lifecycle.beat(metrics.loop_lag.set))
            if await _open(inbox, lifecycle):
                consumer.start()
                if self.types:
                    bus.subscribe(Subscription(self.name, self.types, settings.prefetch), consumer.on_delivery)
                await bus.start()
                announcing = asyncio.create_task(_announce(bus))
                await lifecycle.stopping.wait()
                announcing.cancel()
                await self._drain(settings.drain_seconds, consumer, metrics)
            await bus.close()
            await inbox.close()
            traces.shutdown()
            beating.cancel()
        _log.info("stopped")

    @staticmethod
    async def _drain(deadline: float, consumer: Consumer, metrics: Metrics) -> None:
        started = monotonic()
        abandoned = await consumer.drain(deadline)
        took = monotonic() - started
        metrics.drain_seconds.set(took)
        _log.info("drained", seconds=round(took, 3), abandoned=abandoned)


@dataclass(frozen=True, slots=True)
class _Registered:
    """A handler as it was registered."""

    name: str
    call: Callable[[Any, Context], Awaitable[None]]
    key: Callable[[Any], str] | None


async def _open(inbox: Inbox, lifecycle: Lifecycle) -> bool:
    """Open the inbox as soon as its store answers; False when the service shall stop before."""
    told = False
    while not lifecycle.stopping.is_set():
        try:
            await inbox.open()
        except InboxUnavailable as error:
            if not told:
                _log.warning("the inbox store is not reachable yet, waiting for it", error=str(error))
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
