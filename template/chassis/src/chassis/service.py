"""A service: its name, its resources, and the handlers and upcasters that its team registers."""

from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from google.protobuf.message import Message

from chassis.bus import DeliveryMode
from chassis.context import Context, Held
from chassis.contracts.upcasters import New, Old
from chassis.policy import Batching, Seconds, Wanted, duration
from chassis.registration import Options, RegistrationError, Registry

__all__ = ["Event", "Handler", "RegistrationError", "Service"]

if TYPE_CHECKING:
    import typing_extensions

    Resources = typing_extensions.TypeVar("Resources", default=Any)
else:
    Resources = TypeVar("Resources")

Event = TypeVar("Event", bound=Message)
State = TypeVar("State", bound=Message)
Handler = Callable[[Event, Context[Resources]], Awaitable[None]]
AsgiApp = Callable[[MutableMapping[str, Any], Any, Any], Awaitable[None]]
"""An app of the ASGI specification, whose messages are mappings of anything."""
Lifespan = Callable[[], AbstractAsyncContextManager[Resources]]
if TYPE_CHECKING:
    from chassis.batches.batch import Batch
    from chassis.processes.definition import Process
    from chassis.publishing.direct import Direct, Writing
    from chassis.schedule.due import When
    from chassis.schedule.leader import Lead
    from chassis.schedule.ticks import Tick

    OnTick = Callable[[Tick, Context[Resources]], Awaitable[None]]
    LeaderBody = Callable[[Lead[Resources]], Awaitable[None]]
    BatchHandler = Callable[[Batch[Event, Resources]], Awaitable[None]]


MISSED_SECONDS = 600.0


class NotConnected(RuntimeError):
    """The service publishes while it does not run; the message says what to do."""


class Service(Generic[Resources]):
    """Registers the handlers and upcasters of a team.

    `name` is the name of the distribution and of the queue. `version` is read from the installed
    distribution unless given. `lifespan` gives an async context manager: it is entered before the
    first event and left after the last one, and what it gives is `ctx.resources`. With
    `delayed_events` it may publish events later, which then wait in its own queue. The rest of the
    chassis reads `registry`.
    """

    @overload
    def __init__(
        self: "Service[None]",
        name: str,
        *,
        version: str | None = None,
        delayed_events: bool = False,
    ) -> None: ...

    @overload
    def __init__(
        self,
        name: str,
        *,
        lifespan: Lifespan[Resources],
        version: str | None = None,
        delayed_events: bool = False,
    ) -> None: ...

    def __init__(
        self,
        name: str,
        *,
        lifespan: Lifespan[Resources] | None = None,
        version: str | None = None,
        delayed_events: bool = False,
    ) -> None:
        self.name = name
        self.version = installed_version(name) if version is None else version
        self.registry = Registry()
        self.lifespan = lifespan
        self.held = Held()
        if delayed_events:
            from chassis.contracts.delayed import Delays, delayed_type  # noqa: PLC0415 - only such a service needs it

            self.held.delays = Delays(name)
            self.registry.delayed = frozenset({delayed_type(name)})
        self.mounted: AsgiApp | None = None
        self.direct: Direct | None = None
        """Set while the service is connected."""

    def on(
        self,
        message: type[Event],
        *,
        key: Callable[[Event], str] | None = None,
        concurrency: int | None = None,
        ordered_by: Callable[[Event], str | None] | None = None,
        delivery: DeliveryMode = "shared",
        transaction: bool = False,
        timeout: Seconds | None = None,
        attempts: int | None = None,
        backoff: Seconds | tuple[Seconds, Seconds] | None = None,
        rate: str | None = None,
    ) -> Callable[[Handler[Event, Resources]], Handler[Event, Resources]]:
        """Register an async function as a handler of `message`. Raises RegistrationError.

        Several handlers of one type each have a claim of their own: when one fails, the others are
        not repeated.

        `key` gives the idempotency key of an event where its id is not the right one: events with
        the same key are handled once, in every version. `concurrency` bounds the events that this
        handler has in hand at a time in a replica. `ordered_by` gives what an event belongs to:
        events with the same answer are handled one at a time, and within a replica in the order of
        their delivery; None or an empty string asks for no order. `delivery="every_replica"`: each
        replica handles each event, at least once and without a claim. `transaction=True` says that
        the handler calls `ctx.transaction()`: without the inbox in PostgreSQL the service does not
        start.

        The service's settings hold for what is left out of the following. `timeout` is the time of
        one attempt, in seconds or as a timedelta, below CHASSIS_LEASE_SECONDS. `attempts` is the
        number of failures after which an event goes to the dead letters. `backoff` is the delay
        before the second attempt, or a pair of that and the longest delay. `rate`, such as "10/s",
        "90/m" or "500/h", bounds the attempts of this handler in a replica, evenly spaced.
        """
        wanted = Wanted(timeout, attempts, backoff, rate)
        options = Options(key, concurrency, ordered_by, delivery, transaction, wanted)

        def register(handler: Handler[Event, Resources]) -> Handler[Event, Resources]:
            self.registry.add(message, handler, options)
            return handler

        return register

    def on_batch(
        self,
        message: type[Event],
        *,
        size: int = 50,
        wait: Seconds = 0.2,
        key: Callable[[Event], str] | None = None,
        transaction: bool = False,
        timeout: Seconds | None = None,
        attempts: int | None = None,
        backoff: Seconds | tuple[Seconds, Seconds] | None = None,
    ) -> "Callable[[BatchHandler[Event, Resources]], BatchHandler[Event, Resources]]":
        """Register an async function that takes a Batch of `message`. Raises RegistrationError.

        A batch has at most `size` events, at most CHASSIS_PREFETCH. It begins when it is full, or
        when its first event has waited for `wait`. Each event has a claim, attempts and an outcome
        of its own; an event that has failed before comes alone. `timeout` is the time of a batch.
        The other options are those of `on`.
        """
        wanted = Wanted(timeout, attempts, backoff)
        batch = Batching(size, wait)
        options = Options(key, None, None, "shared", transaction, wanted, batch)

        def register(
            handler: "BatchHandler[Event, Resources]",
        ) -> "BatchHandler[Event, Resources]":
            self.registry.add(message, handler, options)
            return handler

        return register

    def every(
        self, period: str | timedelta, *, missed: Seconds = MISSED_SECONDS
    ) -> "Callable[[OnTick[Resources]], OnTick[Resources]]":
        """Register an async function that runs every `period`, such as "5m", in one replica.

        It takes a Tick and a Context, like a handler: with attempts, dead letters and metrics. Its
        times are multiples of the period since 1970 in UTC. If no replica runs or the broker is
        away when a tick is due, the latest one is made up for while it is at most `missed` old.
        The function's name is what the inbox knows it by. Raises RegistrationError.
        """
        from chassis.schedule import due  # noqa: PLC0415 - only a service with schedules needs it

        return self._scheduled(lambda: due.every(period), missed)

    def cron(
        self, expression: str, *, tz: str = "UTC", missed: Seconds = MISSED_SECONDS
    ) -> "Callable[[OnTick[Resources]], OnTick[Resources]]":
        """As `every`, at the times of a cron expression on the clocks of the zone `tz`.

        A time that a change of the clocks leaves out is due right after it, and one that comes
        twice is due once. Needs the extra `cron`. Raises RegistrationError.
        """
        from chassis.schedule import due  # noqa: PLC0415 - only a service with schedules needs it

        return self._scheduled(lambda: due.cron(expression, tz), missed)

    def _scheduled(
        self, when: "Callable[[], When]", missed: Seconds
    ) -> "Callable[[OnTick[Resources]], OnTick[Resources]]":
        from chassis.schedule.ticks import Schedule, tick_type  # noqa: PLC0415 - likewise

        def register(handler: "OnTick[Resources]") -> "OnTick[Resources]":
            name = getattr(handler, "__name__", repr(handler))
            try:
                schedule = Schedule(name, when(), handler, duration("missed", missed))
            except ValueError as error:
                raise RegistrationError(f"schedule {name}: {error}") from None
            self.registry.add_schedule(tick_type(self.name, name), schedule)
            return handler

        return register

    def leader(self, name: str) -> "Callable[[LeaderBody[Resources]], LeaderBody[Resources]]":
        """Register an async function that runs in one replica at a time. Raises RegistrationError.

        It takes a Lead, and is to run until it is cancelled: at the drain, or when its lease could
        be over because the store is away. If it returns or raises, it is begun again after a pause,
        here or in another replica. `name` is what the store knows it by; never change it.
        """
        from chassis.schedule.leader import Leader  # noqa: PLC0415 - only a service with a leader needs it

        def register(body: "LeaderBody[Resources]") -> "LeaderBody[Resources]":
            self.registry.add_leader(Leader(name, body))
            return body

        return register

    async def publish(
        self,
        message: Message,
        *,
        after: timedelta | None = None,
        at: datetime | None = None,
        id: str | None = None,  # noqa: A002 - what CloudEvents calls it
    ) -> str:
        """Publish `message` from anywhere but a handler; returns its id once the event is safe.

        That is when the broker has confirmed it or, with the inbox in PostgreSQL, when it is in the
        outbox. The same `id` again is safe: readers take the event once. It is random unless given.
        Raises Unavailable if the broker or the database is away, without waiting for its return,
        Unpublishable if the event can never be published, and NotConnected unless the service runs.
        In a script, `async with connected(service):` connects it.

        With `after` the event waits for so long from now, with `at` until then, in the service's
        own queue; it is never published earlier, and `cancel` takes it back. Raises BadDelay, and
        NotDelaying unless the service has `delayed_events=True`.
        """
        return await self._connected("publish").publish(message, id, after, at)

    async def cancel(self, id: str) -> bool:  # noqa: A002 - what CloudEvents calls it
        """Take back the delayed event with this `id`; it is not published then.

        False if it is published already, or taken back. It counts from this call on, whatever
        becomes of the handler that calls. Raises Unavailable, NotDelaying, NotConnected.
        """
        return await self._connected("cancel").cancel(id)

    def transaction(self, *, key: str | None = None) -> "AbstractAsyncContextManager[Writing]":
        """A transaction for what a request writes and publishes, with the inbox in PostgreSQL.

        Gives `tx.connection` and `tx.publish(message)`. Both are committed when the block ends, and
        neither is if it raises. `key`, such as a request's Idempotency-Key, makes it happen once
        within CHASSIS_RETENTION_SECONDS: in a repetition `tx.repeated` is true and nothing is kept.
        Raises Unavailable, NoOutbox without PostgreSQL, and NotConnected as `publish` does.
        """
        return self._connected("transaction").transaction(key)

    def _connected(self, method: str) -> "Direct":
        if self.direct is None:
            raise NotConnected(
                f"service.{method}() works while {self.name} runs: in a script, call it inside "
                "`async with connected(service):`"
            )
        return self.direct

    def mount(self, app: AsgiApp) -> None:
        """Serve `app`, any ASGI app, on CHASSIS_API_PORT in the same process and event loop.

        It takes requests once the stores are open, and answers those in flight during a drain. The
        app's own startup and shutdown run around that, inside of the service's lifespan. Needs the
        extra `http`. Raises RegistrationError for a second app.
        """
        if self.mounted is not None:
            raise RegistrationError(
                f"{self.name} has an app already: mount the second one inside of the first"
            )
        self.mounted = app

    def upcast(
        self, old: type[Old], new: type[New]
    ) -> Callable[[Callable[[Old], New]], Callable[[Old], New]]:
        """Register a pure function that makes an `old` event into a `new` one.

        Handlers of `new` then take both. Upcasters are chained. An event goes to the handlers of
        the first version on its way that has any, so a handler of `old` itself keeps its events. An
        upcaster that raises sends the event to the dead letters at once. Raises RegistrationError.
        """

        def register(function: Callable[[Old], New]) -> Callable[[Old], New]:
            self.registry.upcasters.add(old, new, function)
            return function

        return register

    def process(
        self,
        state: type[State],
        *,
        by: Callable[[Any], str],
        name: str | None = None,
        max_bytes: int = 65_536,
    ) -> "Process[State]":
        """A process (saga) whose state is a `state` message. Raises RegistrationError.

        `by` is a plain function from each of its events to the key of the process, such as
        `lambda event: event.order_id`. `name` is what the store knows the process by, the
        message's own name unless given; never change it. A state of more than `max_bytes` encoded
        is refused.
        """
        from chassis.processes.definition import Process  # noqa: PLC0415 - only a service with processes needs it
        from chassis.processes.wakeups import wakeup_type  # noqa: PLC0415 - likewise

        process = Process(
            state,
            name=name or str(state.DESCRIPTOR.name),
            by=by,
            max_bytes=max_bytes,
            add=self.registry.add_step,
            add_wakes=partial(self.registry.add_wakeups, wakeup_type(self.name)),
        )
        self.registry.add_process(process)
        return process


def installed_version(distribution: str) -> str:
    """The version of an installed distribution, "0" if it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "0"
