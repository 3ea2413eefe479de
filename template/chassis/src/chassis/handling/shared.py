"""One transaction for the handlings of a batch: it ends once each of them has ended.

Each handling sees a transaction of its own, completes it or rolls it back, and waits for the
others. Names no store.
"""

import asyncio
from collections.abc import Sequence
from contextvars import Context as Variables
from typing import TYPE_CHECKING, Any

from chassis.contracts.envelope import EncodedEvent
from chassis.handling.leases import Work
from chassis.inbox import SharedTransaction

if TYPE_CHECKING:
    from psycopg import AsyncConnection


class Group:
    """Commits what the handlings of `works` completed, in the order of `works`."""

    def __init__(self, transaction: SharedTransaction, works: Sequence[Work]) -> None:
        self.transaction = transaction
        self._works = tuple(works)
        self._ended: dict[Work, Sequence[EncodedEvent] | None] = {}
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ending: asyncio.Task[None] | None = None

    async def end(self, work: Work, events: Sequence[EncodedEvent] | None) -> None:
        """The handling of `work` has ended; with None it leaves, and nothing of it is kept.

        Returns after the commit; raises what the commit raised.
        """
        self._ended.setdefault(work, events)
        if len(self._ended) == len(self._works) and self._ending is None:
            # A task of its own: a handling that is cancelled must not take the commit with it.
            self._ending = asyncio.create_task(self._finish(), context=Variables())
        await asyncio.shield(self._end)

    async def _finish(self) -> None:
        completed = [work for work in self._works if self._ended[work] is not None]
        events = [event for work in completed for event in self._ended[work] or ()]
        try:
            if completed:
                await self.transaction.complete_all([work.lease for work in completed], events)
        except Exception as error:  # noqa: BLE001 - raised in each handling
            await self.transaction.roll_back()
            self._end.set_exception(error)
            self._end.exception()  # seen, even if every handling was cancelled
        else:
            await self.transaction.roll_back()
            self._end.set_result(None)


class Share:
    """The transaction of one handling of a group."""

    def __init__(self, group: Group, work: Work) -> None:
        self._group = group
        self._work = work

    @property
    def connection(self) -> "AsyncConnection[tuple[Any, ...]]":
        return self._group.transaction.connection

    @property
    def broken(self) -> bool:
        return self._group.transaction.broken

    async def complete(self, events: Sequence[EncodedEvent]) -> None:
        await self._group.end(self._work, events)

    async def roll_back(self) -> None:
        try:
            await self._group.end(self._work, None)
        except Exception:  # noqa: BLE001 - raised where it was to be completed
            return
