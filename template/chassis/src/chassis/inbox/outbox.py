"""The outbox port: events that are stored with a handling's completion and not published yet.

Only stores with transactions have one. Knows no broker and no store.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from chassis.contracts.envelope import EncodedEvent

Publish = Callable[[Sequence[EncodedEvent]], Awaitable[Sequence[Exception | None]]]
"""Publishes each message; gives an error for each, or None if the broker has confirmed it."""


@dataclass(frozen=True, slots=True)
class Relayed:
    """The result of a batch: confirmed events, now removed, and events that failed to publish."""

    confirmed: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many events wait, and the seconds since the oldest was stored."""

    messages: int
    age: float


class Outbox(Protocol):
    """The waiting events of one service, for any number of relays.

    Methods raise InboxUnavailable.
    """

    async def relay(self, limit: int, publish: Publish) -> Relayed:
        """Give up to `limit` events, oldest first, to `publish`; remove the confirmed ones.

        No other relay has the same events meanwhile. If this relay dies, they are all there again.
        An event that fails alone, or while others are confirmed, is put off so that it does not
        hold up the rest: for a second, doubled each time, up to a minute. It is never given up.
        """

    async def backlog(self) -> Backlog: ...

    async def listen(self, on_stored: Callable[[], None]) -> None:
        """Run for ever; call `on_stored` when a process without a relay has stored events."""
