"""The outbox in PostgreSQL: a row an event, inserted with the completion, removed once confirmed.

A relay locks the rows that it publishes and skips locked rows. Knows no broker.
"""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import LiteralString, NamedTuple

import psycopg
import structlog
from psycopg.types.json import Jsonb

from chassis.backoff import backoff, steady
from chassis.contracts.envelope import AMQP_PREFIX, EncodedEvent, from_headers, to_headers
from chassis.inbox.outbox import Backlog, Publish, Relayed
from chassis.inbox.postgres.database import Connection, Database

_log = structlog.get_logger(__name__)

CHANNEL: LiteralString = "chassis_outbox"
_PUT_OFF_SECONDS = (1.0, 60.0)
RECONNECT_SECONDS = 1.0
_SECONDS_BETWEEN_NOTIFICATIONS = 0.05
"""PostgreSQL commits transactions with notifications one after the other, so not every event sends
one. A relay that wakes looks often for a while and finds the next events too."""

# Follows a WITH. Its part `completed` has one row if the claim was completed, else none; the
# statement gives as many rows.
STORE: LiteralString = """
    stored AS (
        INSERT INTO chassis_outbox (source, headers, body)
        SELECT event.source, event.headers, event.body
        FROM completed, unnest(%(sources)s::text[], %(headers)s::jsonb[], %(bodies)s::bytea[])
            WITH ORDINALITY AS event (source, headers, body, number)
        ORDER BY event.number
    )
    SELECT CASE WHEN %(notify)s::boolean THEN pg_notify('chassis_outbox', '')::text END
    FROM completed
"""
# As STORE, for completions that travel together: `completed` has their numbers, and `owners` the
# number that each event belongs to.
STORE_OF_EACH: LiteralString = """
    stored AS (
        INSERT INTO chassis_outbox (source, headers, body)
        SELECT event.source, event.headers, event.body
        FROM unnest(%(owners)s::bigint[], %(sources)s::text[], %(headers)s::jsonb[],
                    %(bodies)s::bytea[])
            WITH ORDINALITY AS event (owner, source, headers, body, place)
        WHERE event.owner IN (SELECT number FROM completed)
        ORDER BY event.place
    )
    SELECT number, CASE WHEN %(notify)s::boolean THEN pg_notify('chassis_outbox', '')::text END
    FROM completed
"""

# A relay that vanishes without closing its connection would keep its rows locked.
_LIMIT_IDLING: LiteralString = "SET LOCAL idle_in_transaction_session_timeout = '60s'"
_TAKE: LiteralString = """
    SELECT position, failures, headers, body FROM chassis_outbox
    WHERE source = %(source)s AND due <= clock_timestamp()
    ORDER BY position LIMIT %(limit)s FOR UPDATE SKIP LOCKED
"""
_REMOVE: LiteralString = (
    "DELETE FROM chassis_outbox WHERE source = %(source)s AND position = ANY (%(positions)s)"
)
_PUT_OFF: LiteralString = """
    UPDATE chassis_outbox
    SET failures = failures + 1, error = %(error)s,
        due = clock_timestamp() + make_interval(secs => %(delay)s)
    WHERE source = %(source)s AND position = %(position)s
"""
_BACKLOG: LiteralString = """
    SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(stored)), 0)::float8
    FROM chassis_outbox WHERE source = %(source)s
"""


class Bell:
    """Wakes relays when events are stored: `in_process` if it is set, else listeners."""

    def __init__(self) -> None:
        self.in_process: Callable[[], None] | None = None
        self._notified_at = -math.inf

    def notify(self) -> bool:
        """Whether the next commit sends a notification."""
        if (
            self.in_process is not None
            or monotonic() - self._notified_at < _SECONDS_BETWEEN_NOTIFICATIONS
        ):
            return False
        self._notified_at = monotonic()
        return True

    def ring(self) -> None:
        """After the commit."""
        if self.in_process is not None:
            self.in_process()


NOTHING: Mapping[str, object] = {"sources": [], "headers": [], "bodies": [], "notify": False}
"""The parameters of STORE without an event."""


def stored(events: Sequence[EncodedEvent], bell: Bell) -> Mapping[str, object]:
    """The parameters of STORE for `events`; none without events."""
    if not events:
        return {}
    return {
        "sources": [event.envelope.source for event in events],
        "headers": [Jsonb(to_headers(event.envelope, AMQP_PREFIX)) for event in events],
        "bodies": [event.body for event in events],
        "notify": bell.notify(),
    }


class _Taken(NamedTuple):
    """A row of the outbox, locked; `failures` are those so far."""

    position: int
    failures: int
    event: EncodedEvent


class PostgresOutbox:
    """The events with this `source`: services may share the table, but not their relays."""

    def __init__(self, database: Database, source: str) -> None:
        self._database = database
        self._source = source

    async def relay(self, limit: int, publish: Publish) -> Relayed:
        async with self._database.transaction() as connection:
            async with asyncio.timeout(self._database.timeout):
                await connection.execute(_LIMIT_IDLING)
                rows = await (
                    await connection.execute(_TAKE, {"source": self._source, "limit": limit})
                ).fetchall()
            if not rows:
                return Relayed()
            taken = [
                _Taken(position, failures, EncodedEvent(from_headers(headers, AMQP_PREFIX), body))
                for position, failures, headers, body in rows
            ]
            errors = await publish([one.event for one in taken])
            async with asyncio.timeout(self._database.timeout):
                return await self._settle(connection, list(zip(taken, errors, strict=True)))

    async def _settle(
        self, connection: Connection, results: Sequence[tuple["_Taken", Exception | None]]
    ) -> Relayed:
        """Remove the confirmed events and put off the others.

        If all of several events fail, the fault is not an event's own, and none is put off.
        """
        confirmed = [one.position for one, error in results if error is None]
        await connection.execute(_REMOVE, {"source": self._source, "positions": confirmed})
        if confirmed or len(results) == 1:
            for one, error in results:
                if error is not None:
                    await self._put_off(connection, one, error)
        return Relayed(len(confirmed), len(results) - len(confirmed))

    async def _put_off(self, connection: Connection, one: "_Taken", error: Exception) -> None:
        parameters = {
            "source": self._source,
            "position": one.position,
            "error": repr(error)[:2048],
            "delay": backoff(one.failures + 1, *_PUT_OFF_SECONDS, steady),
        }
        await connection.execute(_PUT_OFF, parameters)
        _log.error(
            "an event in the outbox could not be published; it is tried again",
            event_id=one.event.envelope.id,
            type=one.event.envelope.type,
            error=repr(error),
        )

    async def backlog(self) -> Backlog:
        async with self._database.statement() as connection:
            row = await (await connection.execute(_BACKLOG, {"source": self._source})).fetchone()
        return Backlog(0, 0.0) if row is None else Backlog(*row)

    async def listen(self, on_stored: Callable[[], None]) -> None:
        while True:
            try:
                connecting = psycopg.AsyncConnection.connect(
                    self._database.url, **self._database.options
                )
                async with await connecting as connection:
                    await connection.execute(f"LISTEN {CHANNEL}")
                    on_stored()  # earlier events have sent no notification here
                    async for _ in connection.notifies():
                        on_stored()
            except (psycopg.Error, OSError) as error:
                _log.warning(
                    "PostgreSQL sends no notifications of new events; the outbox is polled",
                    error=str(error),
                )
            await asyncio.sleep(RECONNECT_SECONDS)
