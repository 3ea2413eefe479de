"""Publishing from outside of a handler: a request, a script, a scheduled job.

Knows the ports (bus, inbox), no broker and no store. With an outbox, events go through it; without
one, the broker confirms them.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from google.protobuf.message import Message

from chassis.contracts.envelope import EncodedEvent, derived_id
from chassis.contracts.event_types import to_event
from chassis.inbox import (
    Inbox,
    InboxUnavailable,
    RequestTransaction,
    TransactionalInbox,
    inbox_key,
)
from chassis.publishing.publisher import Publisher
from chassis.telemetry.traces import incoming

if TYPE_CHECKING:
    from psycopg import AsyncConnection

LONGEST_ID = 1024
_REQUESTS = "<requests>"
"""In the place of a handler's name, which has no such signs."""


class NoOutbox(RuntimeError):
    """`service.transaction()` cannot give one; the message names the setting."""


class BadKey(ValueError):
    """An id or a key that no event can have."""


class Direct:
    """Publishes events of the service `source`."""

    def __init__(self, source: str, publisher: Publisher, inbox: Inbox) -> None:
        self._source = source
        self._publisher = publisher
        self._inbox = inbox if isinstance(inbox, TransactionalInbox) else None

    async def publish(self, message: Message, id_: str | None) -> str:
        """See Service.publish."""
        event = to_event(message, source=self._source, id_=_checked("id", id_))
        if self._inbox is None:
            await self._publisher.publish(event, incoming.get())
        else:
            self._publisher.check([event])
            await self._inbox.store([_traced(event)])
        return event.envelope.id

    @asynccontextmanager
    async def transaction(self, key: str | None) -> AsyncIterator["Writing"]:
        """See Service.transaction."""
        if self._inbox is None:
            raise NoOutbox(
                "service.transaction() needs the inbox in the PostgreSQL database of the request's "
                "tables: set CHASSIS_INBOX_URL=postgresql://… and depend on "
                "dockyard-chassis[postgres], or use service.publish(); in a test, give the harness "
                "a database"
            )
        _checked("key", key)
        stored_key = None if key is None else inbox_key(self._source, _REQUESTS, key)
        transaction = await self._inbox.begin_request(stored_key)
        writing = Writing(transaction, self._source, stored_key or uuid4().hex)
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

    def __init__(self, transaction: RequestTransaction, source: str, key: str) -> None:
        self.outgoing: list[EncodedEvent] = []
        """The events that `publish` collected so far, in order."""
        self._transaction = transaction
        self._source = source
        self._key = key

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

    def publish(self, message: Message) -> str:
        """Publish `message` with the commit; gives its id.

        The id is derived from the key and the order of the calls.
        """
        id_ = derived_id(self._key, len(self.outgoing))
        self.outgoing.append(to_event(message, source=self._source, id_=id_))
        return id_


def _checked(what: str, given: str | None) -> str | None:
    if given is not None and not 0 < len(given) <= LONGEST_ID:
        raise BadKey(
            f"an {what} has 1 to {LONGEST_ID} characters, this one has {len(given)}: leave it out, "
            "or shorten it"
        )
    return given


def _traced(event: EncodedEvent) -> EncodedEvent:
    carrier = incoming.get()
    traced = event.envelope.with_trace(carrier.get("traceparent"), carrier.get("tracestate"))
    return EncodedEvent(traced, event.body)
