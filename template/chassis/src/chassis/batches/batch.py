"""What a batch handler gets: the events with their contexts, and a word on each if it has one.

Knows no claim, no store and no broker.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from google.protobuf.message import Message

from chassis.context import Context, Resources_co, shared_transaction
from chassis.retry import Reject, RetryAfter

if TYPE_CHECKING:
    from psycopg import AsyncConnection

Event = TypeVar("Event", bound=Message)

if TYPE_CHECKING:

    class _Typed(Generic[Event, Resources_co]): ...

else:

    class _Typed:
        """Python knows no defaults of type parameters yet: `Batch[UserSignedUp]` lacks one."""

        __slots__ = ()

        def __class_getitem__(cls, _):
            return cls


class Item(_Typed[Event, Resources_co]):
    """One event of a batch, with its context.

    `done`, `reject` and `retry_after` say how this event ended; the last word counts. It takes
    effect when the handler ends. Without a word the event ends as the handler does: done if it
    returns, failed if it raises.
    """

    __slots__ = ("ctx", "event", "settled", "verdict")

    def __init__(self, event: Event, ctx: Context[Resources_co]) -> None:
        self.event = event
        self.ctx = ctx
        self.settled = False
        """Whether the handler said how this event ended."""
        self.verdict: Exception | None = None
        """Why it has not worked; None if it has."""

    def done(self) -> None:
        """This event is handled, even if the handler raises afterwards."""
        self._settle(None)

    def reject(self, reason: str) -> None:
        """This event will never work: it goes to the dead letters."""
        self._settle(Reject(reason))

    def retry_after(self, seconds: float, reason: str = "") -> None:
        """Try this event again after `seconds`. Counts as an attempt."""
        self._settle(RetryAfter(seconds, reason))

    def _settle(self, verdict: Exception | None) -> None:
        self.settled, self.verdict = True, verdict


class Batch(_Typed[Event, Resources_co]):
    """At least one event, in the order of their arrival.

    `Batch[UserSignedUp, Resources]` says what the service's lifespan gives: see `resources`.
    """

    __slots__ = ("in_transaction", "items")

    def __init__(self, items: Sequence[Item[Event, Resources_co]]) -> None:
        self.items = tuple(items)
        self.in_transaction = False
        """Whether the handler asked for a transaction."""

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Item[Event, Resources_co]]:
        return iter(self.items)

    @property
    def events(self) -> list[Event]:
        """The events alone, in order."""
        return [item.event for item in self.items]

    @property
    def resources(self) -> Resources_co:
        """What the service's lifespan gave; None without a lifespan."""
        return self.items[0].ctx.resources

    async def transaction(self) -> "AsyncConnection[tuple[Any, ...]]":
        """A psycopg connection inside one transaction for all events of the batch.

        Your writes, the completion of all events that are done, and the events they publish commit
        together. If the handler raises, all is undone and every event has failed, settled or not.
        Do not write for an event that you reject or retry: what you wrote is committed.

        Needs the inbox in PostgreSQL, else raises NoTransaction.
        """
        self.in_transaction = True
        return await shared_transaction([item.ctx for item in self.items])
