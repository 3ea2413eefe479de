"""The inbox port: which events are handled, and which replica handles which event right now.

    absent --claim--> claimed(owner, fence, lease) --complete--> done (kept for the retention)
                          |   lease over: absent again, the next claim has a higher fence
                          +--release--> absent

Every adapter passes one conformance suite. An adapter stores the key (a hash), a digest of the
payload and an owner's token: never a payload, never personal data.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable
from uuid import uuid4

from chassis.contracts.envelope import EncodedEvent
from chassis.inbox.outbox import Outbox
from chassis.unavailable import Unavailable

if TYPE_CHECKING:
    from psycopg import AsyncConnection


class InboxUnavailable(Unavailable):
    """The store did not answer, or refuses writes. The operation may have taken effect."""


class LeaseLost(Exception):
    """The fence is no longer ours, and another replica may handle the event.

    Publish nothing, acknowledge nothing.
    """


class Refusal(Enum):
    """Why a claim is refused."""

    BUSY = "busy"
    DUPLICATE = "duplicate"
    MISMATCH = "mismatch"


class Lease(NamedTuple):
    """A granted claim: this process alone handles the event until the lease is over.

    `fence` grows with every claim of the same key, so a resource can refuse a late writer.
    """

    key: str
    digest: str
    fence: int


@dataclass(frozen=True, slots=True)
class Refused:
    """A refused claim. Ask again for a BUSY one after `retry_after` seconds."""

    refusal: Refusal
    retry_after: float = 0.0


class Inbox(Protocol):
    """Atomic claims with a lease. Every method raises InboxUnavailable without an answer."""

    async def open(self) -> None:
        """Connect, and create missing tables, streams or keys in the store."""

    async def claim(self, key: str, digest: str) -> Lease | Refused:
        """Claim `key`, atomically. A known key with another payload `digest` is a MISMATCH."""

    async def extend(self, lease: Lease) -> Lease:
        """The lease, with a full term from now. Raises LeaseLost."""

    async def complete(self, lease: Lease) -> None:
        """Mark as done for the retention. Raises LeaseLost."""

    async def release(self, lease: Lease) -> None:
        """Give the claim up: absent again. Does nothing if the lease is lost."""

    async def ping(self) -> None:
        """Return if the store takes writes: one that only answers reads takes no claim."""

    async def close(self) -> None: ...


class Transaction(Protocol):
    """A handler's own writes, its outgoing events and its completion: all or nothing.

    The transaction holds the claim. From `begin` on, the lease needs no extension, and no other
    replica gets the key.
    """

    @property
    def connection(self) -> "AsyncConnection[tuple[Any, ...]]":
        """For the handler's writes. The handler must not commit."""

    @property
    def broken(self) -> bool:
        """True if the store failed, not the handler: nothing is committed.

        The connection is lost, or, after `roll_back`, the server refuses writes on it.
        """

    async def complete(self, events: Sequence[EncodedEvent]) -> None:
        """Store `events` for a relay, mark as done, commit.

        Raises InboxUnavailable if the outcome is unknown, and the store's own error if it refuses.
        """

    async def roll_back(self) -> None:
        """Undo all writes; the claim is as it was before `begin`. Never raises.

        Does nothing after `complete`.
        """


class SharedTransaction(Protocol):
    """As Transaction, for several claims at once."""

    @property
    def connection(self) -> "AsyncConnection[tuple[Any, ...]]": ...

    @property
    def broken(self) -> bool: ...

    async def complete_all(self, leases: Sequence[Lease], events: Sequence[EncodedEvent]) -> None:
        """Store `events`, mark `leases` as done, commit. The other claims stay as they were."""

    async def roll_back(self) -> None: ...


class RequestTransaction(Protocol):
    """A request's own writes, its events and its key: all or nothing."""

    @property
    def connection(self) -> "AsyncConnection[tuple[Any, ...]]":
        """For the request's writes. The request must not commit."""

    @property
    def repeated(self) -> bool:
        """True if an earlier transaction with this key is committed."""

    @property
    def broken(self) -> bool:
        """As of Transaction."""

    async def commit(self, events: Sequence[EncodedEvent]) -> None:
        """Store `events` for a relay and commit, as Transaction.complete does."""

    async def roll_back(self) -> None:
        """Undo all writes; the key is unused again. Never raises."""


@runtime_checkable
class TransactionalInbox(Inbox, Protocol):
    """An inbox in a database that also stores a handler's writes and its outgoing events."""

    async def begin(self, lease: Lease) -> Transaction:
        """A transaction that holds the claim. Raises LeaseLost, InboxUnavailable."""

    async def begin_all(self, leases: Sequence[Lease]) -> SharedTransaction:
        """A transaction that holds all claims. Raises LeaseLost, InboxUnavailable."""

    async def complete_with(self, lease: Lease, events: Sequence[EncodedEvent]) -> None:
        """As `complete`; `events` are stored for a relay in the same transaction."""

    async def store(self, events: Sequence[EncodedEvent]) -> None:
        """Store `events` for a relay. Raises InboxUnavailable."""

    async def begin_request(self, key: str | None) -> RequestTransaction:
        """A transaction that holds `key`, for the retention once it is committed; None: no key.

        It waits a few seconds for another one with the same key. Raises InboxUnavailable.
        """

    async def migrate(self) -> Sequence[str]:
        """Bring the tables up to date, before or instead of `open`; returns the steps done.

        Any number of processes may call it at once.
        """

    def outbox(self, source: str) -> Outbox:
        """The stored events of the service `source`."""

    def on_stored(self, ring: Callable[[], None]) -> None:
        """Call `ring` when events are stored, instead of notifying relays in other processes."""


def probe_key() -> str:
    """A key for a write that only tries whether the store takes writes, as long as any other key.

    Each try has a key of its own: the record of an earlier try would make room for it.
    """
    return f"probe-{uuid4().hex[:26]}"


def inbox_key(service: str, handler: str, event_key: str) -> str:
    """The stored key: a 128-bit hash, so no foreign id reaches the store unchanged."""
    return blake2b(f"{service}\0{handler}\0{event_key}".encode(), digest_size=16).hexdigest()


def own_key(service: str, handler: str, event: str, key: str) -> tuple[str, str]:
    """Key and digest of the claim on an `event`, of any version, that has a `key` of its own."""
    return inbox_key(service, handler, f"{event}\0{key}"), payload_digest(key.encode())


def payload_digest(body: bytes) -> str:
    """A 64-bit hash of the payload: tells a duplicate from another event under the same id."""
    return blake2b(body, digest_size=8).hexdigest()
