"""The inbox port: which events were handled, and who is handling which right now.

    absent --claim--> claimed(owner, fence, lease) --complete--> done (kept for the retention)
                          |   lease over: absent again, the next claim has a higher fence
                          +--release--> absent

Every adapter passes one conformance suite. An adapter stores the key (a hash), a digest of the payload
and an owner's token: never a payload, never personal data.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from chassis.contracts.envelope import EncodedEvent
from chassis.inbox.outbox import Outbox

if TYPE_CHECKING:
    from psycopg import AsyncConnection


class InboxUnavailable(ConnectionError):
    """The store did not answer. Whether the operation took effect is not known."""


class LeaseLost(Exception):
    """The fence is not ours any more: somebody else may be handling the event. Do not publish, do not acknowledge."""


class Refusal(Enum):
    """Why a claim was not given."""

    BUSY = "busy"
    DUPLICATE = "duplicate"
    MISMATCH = "mismatch"


@dataclass(frozen=True, slots=True)
class Lease:
    """A claim that was given: this process alone handles the event until the lease is over.

    `fence` grows with every claim of the same key, so a resource can refuse a late writer.
    """

    key: str
    digest: str
    fence: int


@dataclass(frozen=True, slots=True)
class Refused:
    """A claim that was not given. `retry_after` (seconds) is when a BUSY one is worth another try."""

    refusal: Refusal
    retry_after: float = 0.0


class Inbox(Protocol):
    """Atomic claims with a lease. Every method raises InboxUnavailable when the store does not answer."""

    async def open(self) -> None:
        """Connect and create what the store needs, if it is not there."""

    async def claim(self, key: str, digest: str) -> Lease | Refused:
        """Claim `key`, atomically. Same key with another payload `digest`: refused as MISMATCH."""

    async def extend(self, lease: Lease) -> Lease:
        """The lease, with a full term from now. Raises LeaseLost."""

    async def complete(self, lease: Lease) -> None:
        """Mark as done for the retention. Raises LeaseLost."""

    async def release(self, lease: Lease) -> None:
        """Give the claim up: absent again. Does nothing when the lease was lost."""

    async def ping(self) -> None:
        """Return if the store answers."""

    async def close(self) -> None: ...


class Transaction(Protocol):
    """A handler's own writes, its outgoing events and its completion: all or nothing.

    It holds the claim: from `begin` on the lease needs no extension, and nobody else is given the key.
    """

    @property
    def connection(self) -> "AsyncConnection[tuple[Any, ...]]":
        """For the handler's writes. Committing is not the handler's."""

    @property
    def broken(self) -> bool:
        """True when the connection is lost: nothing of it will ever be committed."""

    async def complete(self, events: Sequence[EncodedEvent]) -> None:
        """Store `events` for a relay, mark as done, commit.

        Raises InboxUnavailable when it is not known what became of it; what the store refuses, as the store says it.
        """

    async def roll_back(self) -> None:
        """Undo all; the claim is then as it was before `begin`. Never raises. Does nothing after `complete`."""


@runtime_checkable
class TransactionalInbox(Inbox, Protocol):
    """An inbox in a database that also takes a handler's writes and its outgoing events."""

    async def begin(self, lease: Lease) -> Transaction:
        """A transaction that holds the claim. Raises LeaseLost, InboxUnavailable."""

    async def complete_with(self, lease: Lease, events: Sequence[EncodedEvent]) -> None:
        """As `complete`, and store `events` for a relay in the same moment."""

    async def migrate(self) -> Sequence[str]:
        """Bring the tables up to date, before or instead of `open`; says what was done. Safe to be called at once."""

    def outbox(self, source: str) -> Outbox:
        """The stored events of the service `source`."""

    def on_stored(self, ring: Callable[[], None]) -> None:
        """Call `ring` when events were stored, instead of telling relays in other processes."""


def inbox_key(service: str, handler: str, event_key: str) -> str:
    """The stored key: a 128-bit hash, so that no id from outside reaches the store as it is."""
    return blake2b(f"{service}\0{handler}\0{event_key}".encode(), digest_size=16).hexdigest()


def payload_digest(body: bytes) -> str:
    """64-bit hash of the payload, to tell a duplicate from another event under the same id."""
    return blake2b(body, digest_size=8).hexdigest()
