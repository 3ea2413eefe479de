"""Publishing from outside of a handler: a request, a script, a scheduled job.

Knows the ports (bus, inbox), no broker and no store. With an outbox, events go through it; without
one, the broker confirms them.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from google.protobuf.message import Message

from chassis.context import Held
from chassis.contracts.envelope import EncodedEvent, checked, derived_id
from chassis.contracts.event_types import to_event
from chassis.inbox import (
    Inbox,
    InboxUnavailable,
    Lease,
    Refusal,
    RequestTransaction,
    TransactionalInbox,
    inbox_key,
)
from chassis.publishing.delayed import claim_of
from chassis.publishing.publisher import Publisher
from chassis.telemetry.traces import incoming

if TYPE_CHECKING:
    from psycopg import AsyncConnection

BUSY_SECONDS = 0.1
"""Between two tries to cancel an event that a replica looks at."""
_REQUESTS = "<requests>"
"""In the place of a handler's name, which has no such signs."""


class NoOutbox(RuntimeError):
    """`service.transaction()` cannot give one; the message names the setting."""


class Direct:
    """Publishes events of the service `source`."""

    def __init__(self, source: str, publisher: Publisher, inbox: Inbox, held: Held) -> None:
        self._source = source
        self._publisher = publisher
        self._inbox = inbox
        self._outbox = inbox if isinstance(inbox, TransactionalInbox) else None
        self._held = held

    async def publish(
        self,
        message: Message,
        id_: str | None = None,
        after: timedelta | None = None,
        at: datetime | None = None,
    ) -> str:
        """See Service.publish."""
        id_ = None if id_ is None else checked("id", id_)
        event = to_event(message, source=self._source, id_=id_)
        event = self._held.put_off(event, after, at)
        if self._outbox is None:
            await self._publisher.publish(event, incoming.get())
        else:
            self._publisher.check([event])
            await self._outbox.store([_traced(event)])
        return event.envelope.id

    async def cancel(self, id_: str) -> bool:
        """See Service.cancel. The claim that an event needs to be published is taken for good."""
        self._held.needs_delays()
        key, digest = claim_of(self._source, checked("id", id_))
        while True:
            claim = await self._inbox.claim(key, digest)
            if isinstance(claim, Lease):
                await self._inbox.complete(claim)
                return True
            if claim.refusal is not Refusal.BUSY:
                return False
            await asyncio.sleep(min(claim.retry_after, BUSY_SECONDS))

    @asynccontextmanager
    async def transaction(self, key: str | None) -> AsyncIterator["Writing"]:
        """See Service.transaction."""
        if self._outbox is None:
            raise NoOutbox(
                "service.transaction() needs the inbox in the PostgreSQL database of the request's "
                "tables: set CHASSIS_INBOX_URL=postgresql://… and depend on "
                "dockyard-chassis[postgres], or use service.publish(); in a test, give the harness "
                "a database"
            )
        stored_key = (
            None if key is None else inbox_key(self._source, _REQUESTS, checked("key", key))
        )
        transaction = await self._outbox.begin_request(stored_key)
        writing = Writing(transaction, self._source, stored_key or uuid4().hex, self._held)
        try:
            yield writing
            if not transaction.repeated:
                self._publisher.check(writing.outgoing)
                await transaction.commit([_traced(event) for event in writing.outgoing])
        except BaseException as error:
            await transaction.roll_back()
            if transaction.broken and isinstance(error, Exception):
                raise InboxUnavailable(
                    f"the store failed in a request's transaction: {type(error).__name__}"
                ) from error
            raise
        if transaction.repeated:
            await transaction.roll_back()


class Writing:
    """A request's own writes and its events: all or nothing."""

    def __init__(self, transaction: RequestTransaction, source: str, key: str, held: Held) -> None:
        self.outgoing: list[EncodedEvent] = []
        """The events that `publish` collected so far, in order."""
        self._transaction = transaction
        self._source = source
        self._key = key
        self._held = held

    @property
    def connection(self) -> "AsyncConnection[tuple[Any, ...]]":
        """For the request's writes, without COMMIT and ROLLBACK."""
        return self._transaction.connection

    @property
    def repeated(self) -> bool:
        """True if a transaction with the same key is committed already.

        Read the earlier result then. Nothing that this transaction writes or publishes is kept.
        """
        return self._transaction.repeated

    def publish(
        self,
        message: Message,
        *,
        after: timedelta | None = None,
        at: datetime | None = None,
        id: str | None = None,  # noqa: A002 - what CloudEvents calls it
    ) -> str:
        """Publish `message` with the commit, or later: see Service.publish. Gives its id.

        Unless given, the id is derived from the key and the order of the calls.
        """
        id_ = derived_id(self._key, len(self.outgoing)) if id is None else checked("id", id)
        event = to_event(message, source=self._source, id_=id_)
        self.outgoing.append(self._held.put_off(event, after, at))
        return id_


def _traced(event: EncodedEvent) -> EncodedEvent:
    carrier = incoming.get()
    traced = event.envelope.with_trace(carrier.get("traceparent"), carrier.get("tracestate"))
    return EncodedEvent(traced, event.body)
