"""The outbox port: events that are stored with a handling's completion and have yet to be published.

Only stores with transactions have one. Knows no broker and no store.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from chassis.contracts.envelope import EncodedEvent

Publish = Callable[[Sequence[EncodedEvent]], Awaitable[Sequence[Exception | None]]]
"""Publishes each message; for each, what went wrong, or None when the broker has confirmed it."""


@dataclass(frozen=True, slots=True)
class Relayed:
    """What became of a batch: events confirmed, and removed, and events that could not be published."""

    confirmed: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Backlog:
    """Events that wait, and for how many seconds the oldest of them has."""

    messages: int
    age: float


class Outbox(Protocol):
    """The waiting events of one service, for any number of relays at once. Methods raise InboxUnavailable."""

    async def relay(self, limit: int, publish: Publish) -> Relayed:
        """Give up to `limit` events, oldest first, to `publish`, and remove those that it confirmed.

        No other relay has the same events meanwhile. When this one dies, they are all there again.
        An event that fails although others are confirmed, or although it is alone, is put off, so that it does not
        hold up the rest: from a second, doubled each time, up to a minute. It is never given up.
        """

    async def backlog(self) -> Backlog: ...

    async def listen(self, on_stored: Callable[[], None]) -> None:
        """Run for ever; call `on_stored` when another process, one that does not relay, has stored events."""
