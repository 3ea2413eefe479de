"""The context that a handler gets beside the event."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, Protocol, cast

import structlog
from google.protobuf.message import Message
from structlog.stdlib import BoundLogger

from chassis.contracts.envelope import EncodedEvent, Envelope, checked, derived_id
from chassis.contracts.event_types import to_event
from chassis.retry import SetupFault

if TYPE_CHECKING:
    from psycopg import AsyncConnection
    from typing_extensions import TypeVar

    from chassis.contracts.delayed import Delays

    # The default keeps a plain `Context` valid. `object` has no attribute that a handler may use.
    Resources_co = TypeVar("Resources_co", covariant=True, default=object)
else:
    from typing import TypeVar

    Resources_co = TypeVar("Resources_co", covariant=True)


class Transactions(Protocol):
    """Gives the handlings of a way in their transactions; `work` is what holds a claim."""

    async def connection(self, work: Any) -> "AsyncConnection[tuple[Any, ...]]": ...

    async def shared(self, works: Sequence[Any]) -> "AsyncConnection[tuple[Any, ...]]": ...


_log: BoundLogger = structlog.get_logger("handler")


class NotDelaying(SetupFault):
    """The service publishes something later and has not said that it does."""


@dataclass(slots=True)
class Held:
    """What the service gives to all its handlings.

    `resources` is what its lifespan gave; None before, afterwards, and without one.
    """

    resources: object = None
    delays: "Delays | None" = None

    def put_off(
        self, event: EncodedEvent, after: timedelta | None, at: datetime | None
    ) -> EncodedEvent:
        """`event`, or what carries it until it is due. Raises NotDelaying, BadDelay."""
        if after is None and at is None:
            return event
        return self.needs_delays().put_off(event, after, at)

    def needs_delays(self) -> "Delays":
        """Raises NotDelaying."""
        if self.delays is None:
            raise NotDelaying(
                "events that are published later wait in the queue of the service: declare "
                "Service(…, delayed_events=True)"
            )
        return self.delays


NOTHING = Held()


class Context(Generic[Resources_co]):
    """The event's identity, the attempt, the way to publish and to write. One for each handling.

    `Context[Resources]` says what the service's lifespan gives: see `resources`.
    """

    __slots__ = (
        "_held",
        "_outgoing",
        "_source",
        "_transactions",
        "_work",
        "after_publishing",
        "attempt",
        "envelope",
        "fence",
        "handler",
        "idempotency_key",
        "traceparent",
    )

    def __init__(
        self,
        envelope: Envelope,
        *,
        handler: str,
        attempt: int,
        idempotency_key: str,
        fence: int,
        source: str,
        transactions: Transactions,
        work: Any,
        held: Held = NOTHING,
    ) -> None:
        self.envelope = envelope
        """CloudEvents attributes of the event."""
        self.handler = handler
        self.attempt = attempt
        """1 at the first attempt."""
        self.idempotency_key = idempotency_key
        """The same at every attempt of this handler on this event.

        Hand it to payment providers, mail gateways and the like.
        """
        self.fence = fence
        """Grows with every claim of this event.

        A resource that remembers the fence can refuse a late writer.
        """
        self.traceparent = envelope.traceparent
        """W3C trace context of this handling.

        It is the publisher's context, or the context of the span around the handler.
        """
        self._source = source
        self._transactions = transactions
        self._work = work
        self._held = held
        self._outgoing: list[EncodedEvent] = []
        self.after_publishing: Callable[[], Awaitable[None]] | None = None
        """For the chassis: called once the handling's events are published, before completion."""

    @property
    def log(self) -> BoundLogger:
        """A logger. Its lines carry `log_fields`, as all lines do that a running handler writes."""
        return _log

    @property
    def resources(self) -> Resources_co:
        """What the service's lifespan gave, such as clients and pools; None without a lifespan."""
        return cast("Resources_co", self._held.resources)

    @property
    def event_id(self) -> str:
        return self.envelope.id

    @property
    def time(self) -> datetime | None:
        """When the event happened, if its publisher said so."""
        return self.envelope.time

    def publish(
        self,
        message: Message,
        *,
        after: timedelta | None = None,
        at: datetime | None = None,
        id: str | None = None,  # noqa: A002 - what CloudEvents calls it
    ) -> str:
        """Publish `message` once the handler has returned; not at all when it raises.

        With `after` it waits for so long from now, with `at` until then: see Service.publish. Gives
        the event's id. Unless given, the id is derived from this event and the order of the calls,
        so a repeated handling publishes the same ids, which the next inbox drops. Raises BadDelay,
        BadKey, NotDelaying.
        """
        if id is None:
            id_ = derived_id(self.idempotency_key, len(self._outgoing))
        else:
            id_ = checked("id", id)
        event = to_event(message, source=self._source, id_=id_)
        self._outgoing.append(self._held.put_off(event, after, at))
        return id_

    async def transaction(self) -> "AsyncConnection[tuple[Any, ...]]":
        """A psycopg connection inside this handling's transaction; the same one at every call.

        Your writes, the completion and the published events commit together, and not at all if the
        handler raises. The chassis commits; the handler cannot. The first call begins the
        transaction and takes a connection, so ask when there is something to write.

        Needs the inbox in PostgreSQL, else raises NoTransaction. Let LeaseLost and InboxUnavailable
        pass.
        """
        return await self._transactions.connection(self._work)

    def take_back(self, instead: Sequence[EncodedEvent] = ()) -> None:
        """For the chassis: forget what was to be published, and publish `instead`."""
        self._outgoing[:] = instead

    def add(self, events: Iterable[EncodedEvent]) -> None:
        """For the chassis: publish `events` too, which have ids of their own."""
        self._outgoing.extend(events)

    @property
    def outgoing(self) -> tuple[EncodedEvent, ...]:
        """The events that `publish` collected so far, in order."""
        return tuple(self._outgoing)

    def log_fields(self) -> Mapping[str, object]:
        """Fields of every log line written while the handler runs."""
        fields: dict[str, object] = {
            "event_id": self.envelope.id,
            "type": self.envelope.type,
            "handler": self.handler,
            "attempt": self.attempt,
        }
        if self.traceparent is not None:
            fields["trace_id"] = self.traceparent[3:35]
        return fields


async def shared_transaction(
    contexts: Sequence[Context],
) -> "AsyncConnection[tuple[Any, ...]]":
    """One transaction for all handlings of `contexts`; the same one at every call."""
    return await contexts[0]._transactions.shared([context._work for context in contexts])  # noqa: SLF001 - of the same module
