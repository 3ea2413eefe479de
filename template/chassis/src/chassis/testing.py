"""Tests of a service: `golden`, and the harness, its real pipeline over memory.

The harness needs no broker and no waiting:

    async with Harness(service) as harness:
        assert await harness.send(UserSignedUp(user_id="u-1")) == "done"
        assert harness.published == [AccountOpened(account_id="a-1")]

Retries follow at once; `harness.delays` keeps the seconds that they would have waited. A handler's
`rate=` does not hold. Handlers that write with `ctx.transaction()` need a PostgreSQL:
`Harness(service, database="postgresql://…")`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from google.protobuf.message import Message

from chassis.batches.flushing import Flushing
from chassis.bus import Failure, OnDelivery
from chassis.bus.history import History
from chassis.bus.memory import MemoryBus
from chassis.contracts.delayed import Delays
from chassis.contracts.envelope import (
    AMQP_PREFIX,
    EncodedEvent,
    Envelope,
    from_headers,
    to_headers,
)
from chassis.contracts.event_types import message_class, to_event
from chassis.contracts.golden import golden
from chassis.inbox import Lease
from chassis.inbox.memory import MemoryInbox
from chassis.inbox.telling import TellingInbox
from chassis.processes.memory import MemoryProcesses
from chassis.processes.store import Address, ProcessStore, decoded
from chassis.publishing.direct import Direct
from chassis.publishing.publisher import Publisher
from chassis.replica import assemble
from chassis.replica.resources import opened
from chassis.service import Service, State
from chassis.settings import load
from chassis.telemetry.traces import NoTraces

if TYPE_CHECKING:
    from chassis.processes.definition import Process
    from chassis.schedule.leader import Lead

__all__ = ["Harness", "Outcome", "golden"]


class Outcome(str):
    """`"done"`, `"duplicate"` or `"dead"`. A failed assertion shows the reason of a dead event.

    `failure` is the text of the dead letter, None for the other outcomes.
    """

    __slots__ = ("failure",)

    failure: Failure | None

    def __new__(
        cls, word: Literal["done", "duplicate", "dead"], failure: Failure | None = None
    ) -> Self:
        outcome = super().__new__(cls, word)
        outcome.failure = failure
        return outcome

    def __repr__(self) -> str:
        """The word, and the reason of a dead letter.

        It is short, because pytest cuts a longer one.
        """
        return super().__repr__() + ("" if self.failure is None else f": {self.failure.reason}")


class Harness:
    """One service in memory. `settings` are fields of `chassis.settings`, such as `max_attempts=3`.

    `resources` stands in for what the service's lifespan gives; the lifespan is entered without it.
    `database` is the URL of a PostgreSQL for `ctx.transaction()`. The chassis' own tables are in a
    schema that is gone afterwards; the handlers' tables are the database's own. `now` is when the
    harness' time begins, which only `advance` moves; the present time unless given. Failing events
    never pause the consumer: a test wants to see each of them end.
    """

    def __init__(
        self,
        service: Service,
        *,
        resources: object = None,
        database: str | None = None,
        now: datetime | None = None,
        **settings: Any,
    ) -> None:
        self.published: list[Message] = []
        """The events that the service published, in order."""
        self.dead_letters: list[Failure] = []
        """Why events went to the dead letters, in order."""
        self.delays: list[float] = []
        """Seconds that each retry would have waited."""
        self.waiting: list[EncodedEvent] = []
        """Wake-ups of processes and delayed events that are not due yet."""
        self.own_types = service.registry.wakeups | service.registry.delayed
        self._now = now or datetime.now(UTC)
        self._ticked = dict.fromkeys(service.registry.schedules, self._now)
        self._fence = 0
        self._service = service
        self._resources = resources
        self._database = database
        self._settings = load({}, **(settings | {"pause_failure_ratio": 0.0}))

    async def __aenter__(self) -> Self:
        settings = self._settings
        bus = _Recorder(self)
        async with AsyncExitStack() as stack:
            await self._open_resources(stack)
            inbox: _Inbox | TellingInbox
            processes: ProcessStore
            if self._database is None:
                inbox = _Inbox(settings.lease_seconds, settings.retention_seconds)
                processes = MemoryProcesses(settings.retention_seconds)
            else:
                from chassis.inbox.postgres.scratch import scratch_inbox  # noqa: PLC0415 - needs the extra `postgres`

                scratch = scratch_inbox(
                    self._database, settings.lease_seconds, settings.retention_seconds
                )
                database = await stack.enter_async_context(scratch)
                inbox = TellingInbox(database, lambda: _current.get(None), bus.publish)
                processes = database.processes(self._service.name)
            self._processes = processes
            metrics = assemble.metrics_of(self._service)
            publisher = Publisher(bus, metrics, NoTraces(), settings.max_body_bytes)
            held = self._service.held
            if held.delays is not None:  # which then wait by the harness' time
                stack.callback(setattr, held, "delays", held.delays)
                held.delays = Delays(self._service.name, lambda: self._now)
            self._service.direct = Direct(self._service.name, publisher, inbox, held)
            stack.callback(setattr, self._service, "direct", None)
            self._consumer = assemble.consumer_of(
                self._service,
                settings,
                bus,
                inbox,
                metrics=metrics,
                traces=NoTraces(),
                processes=processes if self._service.registry.processes else None,
                now=lambda: self._now,
                hold_seconds=0,
                paced=False,
            )
            self._batches = Flushing(self._consumer.gatherings)
            self._consumer.start()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        async with self._stack:
            await self._consumer.drain(0)

    async def _open_resources(self, stack: AsyncExitStack) -> None:
        if self._resources is None:
            await stack.enter_async_context(opened(self._service, asyncio.Event()))
        else:
            self._service.held.resources = self._resources
            stack.callback(setattr, self._service.held, "resources", None)

    @property
    def setup_fault(self) -> Exception | None:
        """The fault of the service's set-up that a handler met; `send` has raised it."""
        return self._consumer.setup_fault

    async def send(self, event: Message, *, id: str | None = None) -> Outcome:  # noqa: A002 - what CloudEvents calls it
        """Give `event` to the service and return its final outcome, all retries included.

        The same `id` twice is a duplicate; by default each event has a new one. Handlers of
        `every_replica` get the event after the others. Their outcome counts if no other handler
        takes the event, or if they give it up. Raises NoTransaction if a handler asks for a
        transaction and the harness has no `database`.
        """
        message = to_event(event, source="test", id_=id)
        return await self.send_raw(to_headers(message.envelope, AMQP_PREFIX), message.body)

    async def send_all(self, *events: Message) -> list[Outcome]:
        """Give `events` to the service at once, and return their outcomes in the same order.

        A handler of batches gets them together, `size` at a time.
        """
        return list(await asyncio.gather(*(self.send(event) for event in events)))

    async def send_raw(self, headers: Mapping[str, object], body: bytes) -> Outcome:
        """Give the service a message exactly as it would come from the broker."""
        delivery = _Delivery(headers, body, self)
        type_ = str(headers.get(f"{AMQP_PREFIX}type"))
        if type_ not in self._service.registry.types_of("every_replica"):
            return await self._end(delivery, self._consumer.on_delivery)
        own = _Delivery(headers, body, self)
        own.handled = True  # an unclaimed event is no duplicate
        shared = None
        if type_ in self._service.registry.types_of("shared"):
            shared = await self._end(delivery, self._consumer.on_delivery)
        outcome = await self._end(own, self._consumer.on_delivery_for_each)
        return outcome if shared is None or outcome == "dead" else shared

    async def advance(self, by: timedelta) -> None:
        """Let the time pass that otherwise stands still, with all that is due in it, in order."""
        until = self._now + by
        while due := [event for event in self._expected() if _due(event) <= until]:
            first = min(due, key=_due)
            if first in self.waiting:
                self.waiting.remove(first)
            else:
                self._ticked[first.envelope.type] = _due(first)
            self._now = max(self._now, _due(first))
            await self.send_raw(to_headers(first.envelope, AMQP_PREFIX), first.body)
        self._now = until

    @asynccontextmanager
    async def leading(self, name: str) -> AsyncIterator["Lead[Any]"]:
        """Let the service lead as `name` within the block. Raises what the leader raises."""
        from chassis.schedule.leader import Lead  # noqa: PLC0415 - only a service with a leader needs it

        self._fence += 1
        lead: Lead[Any] = Lead(name, self._fence, self._service.held)
        leaders = self._service.registry.leaders
        if name not in leaders:
            raise ValueError(f"no leader {name!r}; there are {sorted(leaders)}")
        body = asyncio.ensure_future(leaders[name].body(lead))
        await asyncio.sleep(0)
        try:
            yield lead
        finally:
            body.cancel()
            await asyncio.wait([body])
        if not body.cancelled():
            body.result()

    def _expected(self) -> Iterator[EncodedEvent]:
        """What waits, and the next tick of each schedule."""
        yield from self.waiting
        for type_, schedule in self._service.registry.schedules.items():
            from chassis.schedule.ticks import to_tick_event  # noqa: PLC0415 - only schedules need it

            due = schedule.when.next(self._ticked[type_])
            yield to_tick_event(self._service.name, schedule, due)

    async def state(self, process: "Process[State]", key: str) -> State | None:
        """The state of the process with this `key`, also once it has ended; None without one."""
        stored = await self._processes.load(Address(process.name, key))
        return None if stored is None else process.state.FromString(decoded(stored.body).state)

    async def _end(self, delivery: "_Delivery", on_delivery: OnDelivery) -> Outcome:
        token = _current.set(delivery)
        try:
            while delivery.outcome is None:
                await self._batches.handled(asyncio.create_task(_await(on_delivery(delivery))))
        finally:
            _current.reset(token)
        return delivery.outcome


def _due(event: EncodedEvent) -> datetime:
    """When an event is due that waits."""
    assert event.envelope.time is not None  # noqa: S101 - each has one
    return event.envelope.time


class _Recorder(MemoryBus):
    """A bus that keeps the published events."""

    def __init__(self, harness: Harness) -> None:
        super().__init__()
        self._harness = harness

    async def publish(self, message: Any) -> None:
        if message.envelope.type in self._harness.own_types:
            self._harness.waiting.append(message)
            return
        self._harness.published.append(
            message_class(message.envelope.type).FromString(message.body)
        )


class _Delivery:
    """A delivery whose retries come at once, to the same consumer."""

    def __init__(self, headers: Mapping[str, object], body: bytes, harness: Harness) -> None:
        self.headers = headers
        self.body = body
        self.history = History()
        self.handled = False
        self.outcome: Outcome | None = None
        self._harness = harness

    def envelope(self) -> Envelope:
        return from_headers(self.headers, AMQP_PREFIX)

    def done(self) -> bool:
        self.outcome = Outcome("done" if self.handled else "duplicate")
        return True

    async def later(self, delay: float, *, counted: bool) -> bool:
        if counted:
            self.history = self.history.failed(datetime.now(UTC))
            self._harness.delays.append(delay)
        else:
            await asyncio.sleep(0)
        return True

    async def dead(self, failure: Failure) -> bool:
        self._harness.dead_letters.append(failure)
        self.outcome = Outcome("dead", failure)
        return True

    async def hand_back(self) -> bool:
        if self._harness.setup_fault is not None:
            raise self._harness.setup_fault
        await asyncio.sleep(0)
        return True


async def _await(handling: Awaitable[None]) -> None:
    await handling


_current: ContextVar[_Delivery] = ContextVar("delivery")


class _Inbox(MemoryInbox):
    """An inbox that tells the delivery when a handler of it is done.

    The bus alone cannot tell: it hears the same of a duplicate.
    """

    async def complete(self, lease: Lease) -> None:
        await super().complete(lease)
        if (delivery := _current.get(None)) is not None:
            delivery.handled = True
