"""The transaction of a handling, begun when its handler first asks for it. Names no store."""

from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Any

from chassis.contracts.envelope import EncodedEvent
from chassis.handling.endings import Interrupted
from chassis.handling.leases import LeaseKeeper, Phase, Work
from chassis.handling.shared import Group, Share
from chassis.inbox import Inbox, Lease, LeaseLost, Transaction, TransactionalInbox
from chassis.retry import SetupFault

if TYPE_CHECKING:
    from psycopg import AsyncConnection


class NoTransaction(SetupFault):
    """`ctx.transaction()` needs a store that has transactions."""


class HandlerReturned(RuntimeError):
    """A task that outlived its handler asked for a transaction."""

    def __init__(self) -> None:
        super().__init__("ctx.transaction() was called after its handler had returned")


class MixedTransactions(RuntimeError):
    """A handler of batches asked for both kinds of transactions."""

    def __init__(self) -> None:
        super().__init__(
            "an event of the batch has a transaction of its own: use batch.transaction() or "
            "item.ctx.transaction(), not both"
        )


class Transactions:
    """For handlers whose events are claimed in `inbox`, with claims that `leases` keeps."""

    def __init__(self, inbox: Inbox, leases: LeaseKeeper) -> None:
        self._inbox = inbox
        self._transactional = inbox if isinstance(inbox, TransactionalInbox) else None
        self._leases = leases

    @property
    def supported(self) -> bool:
        """Whether the inbox stores outgoing events, for a relay to publish."""
        return self._transactional is not None

    async def connection(self, work: Work) -> "AsyncConnection[tuple[Any, ...]]":
        """The connection of the one transaction of `work`.

        Raises NoTransaction, HandlerReturned, LeaseLost, InboxUnavailable.
        """
        inbox = self._required()
        if work.phase is Phase.RETURNED:
            raise HandlerReturned
        async with work.beginning:
            if work.transaction is None:
                work.transaction = await self._begin(inbox, work)
        return work.transaction.connection

    async def shared(self, works: Sequence[Work]) -> "AsyncConnection[tuple[Any, ...]]":
        """The connection of one transaction for all `works`, which end together.

        Raises NoTransaction, HandlerReturned, Interrupted if a claim is lost, InboxUnavailable.
        """
        inbox = self._required()
        first = works[0]
        if any(work.phase is Phase.RETURNED for work in works):
            raise HandlerReturned
        async with first.beginning:
            if all(work.transaction is None for work in works):
                await self._begin_shared(inbox, works)
        if not isinstance(first.transaction, Share):
            raise MixedTransactions
        return first.transaction.connection

    async def _begin_shared(self, inbox: TransactionalInbox, works: Sequence[Work]) -> None:
        try:
            leases = [await self._leases.let_go(work) for work in works]
            group = Group(await inbox.begin_all(leases), works)
        except LeaseLost as lost:
            for work in works:
                if work.lease.key == lost.args[0]:
                    self._leases.lose(work)
            raise Interrupted("the lease of an event of the batch was lost") from lost
        for work in works:
            work.transaction = Share(group, work)

    def _required(self) -> TransactionalInbox:
        if self._transactional is None:
            raise NoTransaction(
                "ctx.transaction() needs the inbox in the same PostgreSQL database as the "
                "handler's tables: set CHASSIS_INBOX_URL=postgresql://… and depend on "
                "dockyard-chassis[postgres]; in a test, give the harness a database. Handlers with "
                "delivery='every_replica' have none. Declare transaction=True at the handler, and "
                "a wrong set-up stops the start"
            )
        return self._transactional

    def complete(self, work: Work, lease: Lease, events: Sequence[EncodedEvent]) -> Awaitable[None]:
        """Mark as done, in one transaction with the handler's writes and `events`.

        Raises LeaseLost, InboxUnavailable.
        """
        if work.transaction is not None:
            return work.transaction.complete(events)
        if self._transactional is not None:
            return self._transactional.complete_with(lease, events)
        return self._inbox.complete(lease)

    async def _begin(self, inbox: TransactionalInbox, work: Work) -> Transaction:
        # No longer extended: that would wait for the row until the handler has returned.
        lease = await self._leases.let_go(work)
        try:
            transaction = await inbox.begin(lease)
        except LeaseLost:
            self._leases.lose(work)
            raise
        if work.phase is Phase.RETURNED:
            await transaction.roll_back()
            raise HandlerReturned
        return transaction
