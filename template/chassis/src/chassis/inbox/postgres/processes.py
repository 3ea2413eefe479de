"""Processes in PostgreSQL: a row a process, written in the transaction of the handling.

A step locks the row of its process first, so that no other replica reads the state that it is about
to change. Without a transaction, for operators, a row is changed by compare-and-set.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from random import random
from typing import LiteralString

from chassis.backoff import backoff
from chassis.inbox.postgres.database import Connection, Database
from chassis.processes.store import STATUSES, Address, Conflict, Record, Stored, Tally, encoded

_LOAD: LiteralString = """
    SELECT record, revision FROM chassis_process
    WHERE service = %(service)s AND id = %(id)s
        AND (until IS NULL OR until > clock_timestamp())
"""
# One row in any case. "Skip locked" tells a locked row from none without waiting for it: how long a
# handler's own statements wait for locks is set by its team.
_LOCK: LiteralString = """
    WITH there AS (
        SELECT 1 FROM chassis_process
        WHERE service = %(service)s AND id = %(id)s
            AND (until IS NULL OR until > clock_timestamp())
    ), held AS (
        SELECT record, revision FROM chassis_process
        WHERE service = %(service)s AND id = %(id)s
            AND (until IS NULL OR until > clock_timestamp())
        FOR UPDATE SKIP LOCKED
    )
    SELECT (SELECT record FROM held), (SELECT revision FROM held), EXISTS (TABLE there)
"""
_INSERT: LiteralString = """
    INSERT INTO chassis_process AS known
        (service, id, process, status, revision, record, idle_since, until)
    VALUES (%(service)s, %(id)s, %(process)s, %(status)s, 1, %(record)s, %(idle_since)s,
            clock_timestamp() + make_interval(secs => %(kept)s))
    ON CONFLICT (service, id) DO UPDATE
    SET status = excluded.status, revision = known.revision + 1, record = excluded.record,
        idle_since = excluded.idle_since, until = excluded.until
    WHERE known.until <= clock_timestamp()
"""
_UPDATE: LiteralString = """
    UPDATE chassis_process
    SET status = %(status)s, revision = revision + 1, record = %(record)s,
        idle_since = %(idle_since)s, until = clock_timestamp() + make_interval(secs => %(kept)s)
    WHERE service = %(service)s AND id = %(id)s AND revision = %(revision)s
"""
_PAGE: LiteralString = """
    SELECT id, record, revision FROM chassis_process
    WHERE service = %(service)s AND id > %(after)s
        AND (until IS NULL OR until > clock_timestamp())
    ORDER BY id LIMIT 500
"""
_TALLY: LiteralString = """
    SELECT process, status, count(*), min(idle_since) FROM chassis_process
    WHERE service = %(service)s AND (until IS NULL OR until > clock_timestamp())
    GROUP BY process, status
"""
_FORGET: LiteralString = """
    DELETE FROM chassis_process WHERE (service, id) IN (
        SELECT service, id FROM chassis_process WHERE until <= clock_timestamp()
        ORDER BY until LIMIT 10000 FOR UPDATE SKIP LOCKED
    )
"""
_LOOK_SECONDS = (0.01, 0.2)
_LOOKS = 20


class PostgresProcesses:
    """The processes of `service` in the database of its inbox, which opens and closes it."""

    transactional = True

    def __init__(self, database: Database, service: str, retention_seconds: float) -> None:
        self._database = database
        self._service = service
        self._retention = retention_seconds

    async def open(self) -> None:
        return None

    async def load(self, address: Address, within: Connection | None = None) -> Stored | None:
        where = {"service": self._service, "id": address.id}
        if within is None:
            async with self._database.statement() as connection:
                row = await (await connection.execute(_LOAD, where)).fetchone()
            return None if row is None else Stored(address.id, *row)
        for look in range(1, _LOOKS + 1):
            row = await (await within.execute(_LOCK, where)).fetchone()
            assert row is not None  # noqa: S101 - the statement has one row in any case
            record, revision, there = row
            if record is not None:
                return Stored(address.id, record, revision)
            if not there:
                return None
            await asyncio.sleep(backoff(look, *_LOOK_SECONDS, random, least=0.5))
        raise Conflict(address.id)

    async def save(self, record: Record, revision: int, within: Connection | None = None) -> None:
        parameters = {
            "service": self._service,
            "id": record.address.id,
            "process": record.address.process,
            "status": record.status,
            "record": encoded(record),
            "idle_since": record.idle_since,
            "kept": None if record.status == "active" else self._retention,
            "revision": revision,
        }
        async with self._connection(within) as connection:
            statement = _UPDATE if revision else _INSERT
            changed = await connection.execute(statement, parameters)
        if changed.rowcount != 1:
            raise Conflict(record.address.id)

    async def records(self) -> AsyncIterator[Stored]:
        after = ""
        while True:
            async with self._database.statement() as connection:
                page = await (
                    await connection.execute(_PAGE, {"service": self._service, "after": after})
                ).fetchall()
            if not page:
                return
            for row in page:
                yield Stored(*row)
            after = page[-1][0]

    async def tally(self) -> Sequence[Tally]:
        async with self._database.statement() as connection:
            await connection.execute(_FORGET)
            rows = await (await connection.execute(_TALLY, {"service": self._service})).fetchall()
        words = {str(status): status for status in STATUSES}
        return [Tally(process, words[status], count, idle) for process, status, count, idle in rows]

    async def close(self) -> None:
        return None

    def _connection(self, within: Connection | None) -> AbstractAsyncContextManager[Connection]:
        return self._database.statement() if within is None else nullcontext(within)
