"""A store with transactions for the harness: it tells who claimed an event when that is done.

It publishes what it stores at once, as a relay would. Knows neither the store nor a database.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from chassis.contracts.envelope import EncodedEvent
from chassis.inbox import (
    Lease,
    Refused,
    RequestTransaction,
    SharedTransaction,
    Transaction,
    TransactionalInbox,
)

Completed = Callable[[Sequence[Lease], Sequence[EncodedEvent]], Awaitable[None]]


class Claimant(Protocol):
    """Who asks for a claim; `handled` is set when an event of its claims is done."""

    handled: bool


class TellingInbox:
    """As `inbox`. `claimant` gives the event that asks now, if one does.

    `publish` takes the stored events.
    """

    def __init__(
        self,
        inbox: TransactionalInbox,
        claimant: Callable[[], Claimant | None],
        publish: Callable[[EncodedEvent], Awaitable[None]],
    ) -> None:
        self._inbox = inbox
        self._claimant = claimant
        self._publish = publish
        self._claimants: dict[str, Claimant | None] = {}
        self.open, self.close, self.ping = inbox.open, inbox.close, inbox.ping
        self.extend, self.release = inbox.extend, inbox.release
        self.migrate, self.outbox, self.on_stored = inbox.migrate, inbox.outbox, inbox.on_stored

    async def claim(self, key: str, digest: str) -> Lease | Refused:
        claim = await self._inbox.claim(key, digest)
        if isinstance(claim, Lease):
            self._claimants[key] = self._claimant()
        return claim

    async def complete(self, lease: Lease) -> None:
        await self.complete_with(lease, ())

    async def complete_with(self, lease: Lease, events: Sequence[EncodedEvent]) -> None:
        await self._inbox.complete_with(lease, events)
        await self._completed([lease], events)

    async def begin(self, lease: Lease) -> Transaction:
        return _Transaction(await self._inbox.begin(lease), lease, self._completed)

    async def begin_all(self, leases: Sequence[Lease]) -> SharedTransaction:
        return _SharedTransaction(await self._inbox.begin_all(leases), self._completed)

    async def store(self, events: Sequence[EncodedEvent]) -> None:
        await self._inbox.store(events)
        await self._completed([], events)

    async def begin_request(self, key: str | None) -> RequestTransaction:
        return _Request(await self._inbox.begin_request(key), self._completed)

    async def _completed(self, leases: Sequence[Lease], events: Sequence[EncodedEvent]) -> None:
        for lease in leases:
            if (claimant := self._claimants[lease.key]) is not None:
                claimant.handled = True
        for event in events:
            await self._publish(event)


class _Transaction:
    """As `transaction`; `completed` is called after its commit."""

    def __init__(self, transaction: Transaction, lease: Lease, completed: Completed) -> None:
        self._transaction = transaction
        self._lease = lease
        self._completed = completed
        self.connection, self.roll_back = transaction.connection, transaction.roll_back

    @property
    def broken(self) -> bool:
        return self._transaction.broken

    async def complete(self, events: Sequence[EncodedEvent]) -> None:
        await self._transaction.complete(events)
        await self._completed([self._lease], events)


class _SharedTransaction:
    """As `_Transaction`, for the events of a batch."""

    def __init__(self, transaction: SharedTransaction, completed: Completed) -> None:
        self._transaction = transaction
        self._completed = completed
        self.connection, self.roll_back = transaction.connection, transaction.roll_back

    @property
    def broken(self) -> bool:
        return self._transaction.broken

    async def complete_all(self, leases: Sequence[Lease], events: Sequence[EncodedEvent]) -> None:
        await self._transaction.complete_all(leases, events)
        await self._completed(leases, events)


class _Request:
    """As `_Transaction`, for the transaction of a request."""

    def __init__(self, transaction: RequestTransaction, completed: Completed) -> None:
        self._transaction = transaction
        self._completed = completed
        self.connection, self.roll_back = transaction.connection, transaction.roll_back
        self.repeated = transaction.repeated

    @property
    def broken(self) -> bool:
        return self._transaction.broken

    async def commit(self, events: Sequence[EncodedEvent]) -> None:
        await self._transaction.commit(events)
        await self._completed([], events)
