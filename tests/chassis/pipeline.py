"""A consumer with everything around it in memory, and the failures that a test asks for."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from google.protobuf.message import Message as Body

from chassis import Context
from chassis.bus import BusUnavailable, DeadLetter, Failure
from chassis.bus.history import History
from chassis.bus.memory import MemoryBus
from chassis.contracts.envelope import AMQP_PREFIX, EncodedEvent, Envelope, from_headers, to_headers
from chassis.contracts.event_types import event_type, to_event
from chassis.contracts.json_body import parse_json
from chassis.handling.attempts import Route
from chassis.handling.breaker import Breaker
from chassis.handling.endings import Identity
from chassis.handling.intake import Entry
from chassis.handling.surroundings import Limits
from chassis.handling.turns import Turns
from chassis.inbox import InboxUnavailable, Lease, Refused
from chassis.inbox.memory import MemoryInbox
from chassis.publishing.publisher import Publisher
from chassis.replica.assemble import wire
from chassis.retry import RetryPolicy
from chassis.telemetry.metrics import Metrics
from chassis.telemetry.traces import NoTraces, Traces
from tests.waiting import PATIENCE

Handler = Callable[[Any, Context], Awaitable[None]]


class Delivered:
    """A delivery that keeps how it was settled: `outcomes` must be one in the end."""

    def __init__(
        self, headers: Mapping[str, object], body: bytes, attempt: int = 1, first_failure: str = ""
    ) -> None:
        self.headers = headers
        self.body = body
        self.history = History(attempt, first_failure)
        self.outcomes: list[str] = []
        self.delay: float | None = None
        self.counted: bool | None = None
        self.failure: Failure | None = None
        self.lost = False
        """Whether the connection that brought it is gone."""
        self.refusals: dict[str, Exception] = {}
        """What settling by a method raises, as long as it is in here."""
        self.on_settled: Callable[[Delivered], None] = lambda _: None

    def envelope(self) -> Envelope:
        return from_headers(self.headers, AMQP_PREFIX)

    @property
    def outcome(self) -> str:
        assert len(self.outcomes) == 1, self.outcomes
        return self.outcomes[0]

    @property
    def buried(self) -> Failure:
        assert self.outcome == "dead"
        assert self.failure is not None
        return self.failure

    def done(self) -> bool:
        return self._settle("done")

    async def later(self, delay: float, *, counted: bool) -> bool:
        self.delay, self.counted = delay, counted
        return self._settle("later")

    async def dead(self, failure: Failure) -> bool:
        self.failure = failure
        return self._settle("dead")

    async def hand_back(self) -> bool:
        return self._settle("hand_back")

    def _settle(self, outcome: str) -> bool:
        if outcome in self.refusals:
            raise self.refusals[outcome]
        self.outcomes.append(outcome)
        self.on_settled(self)
        return not self.lost


def delivered(
    body: Body, id_: str = "e-1", *, attempt: int = 1, headers: Mapping[str, object] | None = None
) -> Delivered:
    """`body` as event `id_` from the source `shop`; `headers` win over its own."""
    message = to_event(body, source="shop", id_=id_)
    return Delivered(
        {**to_headers(message.envelope, AMQP_PREFIX), **(headers or {})}, message.body, attempt
    )


class Inbox(MemoryInbox):
    """A memory inbox whose operations fail as long as they are in `broken`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(60.0, 3600.0, clock)
        self.broken: dict[str, Exception] = {}
        self.calls: list[str] = []
        self.asked: list[tuple[str, str]] = []
        """Key and digest of each claim."""

    def fail(self, *operations: str) -> None:
        self.broken |= {
            operation: InboxUnavailable("the store is away") for operation in operations
        }

    def _called(self, operation: str) -> None:
        self.calls.append(operation)
        if operation in self.broken:
            raise self.broken[operation]

    async def claim(self, key: str, digest: str) -> Lease | Refused:
        self._called("claim")
        self.asked.append((key, digest))
        return await super().claim(key, digest)

    async def extend(self, lease: Lease) -> Lease:
        self._called("extend")
        return await super().extend(lease)

    async def complete(self, lease: Lease) -> None:
        self._called("complete")
        await super().complete(lease)

    async def release(self, lease: Lease) -> None:
        self._called("release")
        await super().release(lease)

    async def ping(self) -> None:
        self._called("ping")


class Bus(MemoryBus):
    """A bus that keeps what was published, and refuses while `refusing`."""

    def __init__(self) -> None:
        super().__init__()
        self.published: list[EncodedEvent] = []
        self.refusing = False
        self.tries = 0
        self.calls: list[str] = []

    async def publish(self, message: EncodedEvent) -> None:
        self.tries += 1
        if self.refusing:
            raise BusUnavailable("the broker is away")
        self.published.append(message)

    async def pause(self) -> None:
        self.calls.append("pause")
        await super().pause()

    async def resume(self) -> None:
        self.calls.append("resume")
        await super().resume()

    @property
    def letters(self) -> Mapping[str, DeadLetter]:
        return self.broker.dead.get("billing-svc", {})


@dataclass
class Pipeline:
    """`handlers` by message class. Times are seconds. The inbox's clock stands still at `now`."""

    handlers: Mapping[type[Body], list[Handler]]
    keys: Mapping[str, Callable[[Any], object]] = field(default_factory=dict)
    turns: Mapping[str, Turns] = field(default_factory=dict)
    max_attempts: int = 5
    backoff: float = 8.0
    handler_timeout: float = 20.0
    lease: float = 60.0
    max_body: int = 1000
    breaker: Breaker = field(default_factory=lambda: Breaker(0))
    hold: float = 600.0
    traces: Traces = field(default_factory=NoTraces)
    now: float = 0.0
    shares_inbox_of: "Pipeline | None" = None

    def __post_init__(self) -> None:
        other = self.shares_inbox_of
        self.inbox = Inbox(lambda: self.now) if other is None else other.inbox
        self.bus = Bus()
        self.metrics = Metrics("billing-svc", "1.2.3", "0")
        entries = {
            event_type(message): self._entry(message, handlers)
            for message, handlers in self.handlers.items()
        }
        self.consumer = wire(
            Identity("billing-svc", "1.2.3"),
            entries,
            entries,
            bus=self.bus,
            inbox=self.inbox,
            publisher=Publisher(
                self.bus, self.metrics, self.traces, self.max_body, retry_seconds=0.001
            ),
            policy=RetryPolicy(self.max_attempts, self.backoff, 300.0, 3600.0),
            breaker=self.breaker,
            limits=Limits(
                self.handler_timeout,
                self.lease,
                self.max_body,
                probe=0.001,
                cancel=PATIENCE,
                put_off=0.001,
                hold=self.hold,
            ),
            metrics=self.metrics,
            traces=self.traces,
        )

    def _entry(self, message: type[Body], handlers: list[Handler]) -> Entry:
        type_ = event_type(message)
        routes = []
        for handler in handlers:
            name = handler.__name__
            measured = self.metrics.for_handler(type_, name)
            routes.append(Route(handler, name, self.keys.get(name), measured, self.turns.get(name)))
        return Entry(
            message.FromString,
            tuple(routes),
            self.metrics.for_type(type_),
            partial(parse_json, message),
        )

    def begin(self, delivery: Delivered) -> asyncio.Task[None]:
        """Take `delivery` in a task of its own, as a bus does."""
        return asyncio.create_task(self.consumer.on_delivery(delivery))

    def begin_for_each(self, delivery: Delivered) -> asyncio.Task[None]:
        """As `begin`, for what every replica gets."""
        return asyncio.create_task(self.consumer.on_delivery_for_each(delivery))

    async def take(self, delivery: Delivered) -> Delivered:
        """Take `delivery` to its end."""
        await asyncio.wait_for(self.begin(delivery), PATIENCE)
        return delivery

    def metric(self, name: str, **labels: str) -> float:
        """The value of a metric; fails when there is none of that name and labels."""
        value = self.metrics.registry.get_sample_value(name, labels)
        assert value is not None, f"no metric {name} {labels}"
        return value

    def consumed(self, outcome: str, type_: str = "acme.signup.v1.UserSignedUp") -> float:
        return self.metric("messaging_client_consumed_messages_total", type=type_, outcome=outcome)
