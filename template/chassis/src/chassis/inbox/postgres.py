"""The inbox in PostgreSQL: a row a key, one statement an operation, the server's clock throughout.

This is the lease mode: an operation commits by itself, apart from any transaction of a handler.
Knows nothing of buses and handlers.

A role without the right to create tables needs `SCHEMA` applied beforehand. A PgBouncer in between has to
support prepared statements (1.22 or later).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from selectors import EVENT_READ, DefaultSelector
from typing import Any, LiteralString

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import AsyncConnectionPool

from chassis.inbox import InboxUnavailable, Lease, LeaseLost, Refusal, Refused

SCHEMA: tuple[LiteralString, ...] = (
    "CREATE SEQUENCE IF NOT EXISTS chassis_inbox_fence",
    """
    CREATE TABLE IF NOT EXISTS chassis_inbox (
        key text PRIMARY KEY,
        digest text NOT NULL,
        fence bigint NOT NULL,
        done boolean NOT NULL,
        until timestamptz NOT NULL
    )
    """,
    "CREATE INDEX IF NOT EXISTS chassis_inbox_until ON chassis_inbox (until)",
)

# Creating "if not exists" is not safe against itself; any number does that no one else locks in this database.
_LOCK_SCHEMA: LiteralString = "SELECT pg_advisory_xact_lock(7140776813503812)"

# clock_timestamp() and not now(): a statement may have waited for the row since it began.
_CLAIM: LiteralString = """
    INSERT INTO chassis_inbox AS held (key, digest, fence, done, until)
    VALUES (%(key)s, %(digest)s, nextval('chassis_inbox_fence'), false,
            clock_timestamp() + make_interval(secs => %(lease)s))
    ON CONFLICT (key) DO UPDATE
    SET digest = excluded.digest, fence = excluded.fence, done = false, until = excluded.until
    WHERE held.until <= clock_timestamp()
    RETURNING fence
"""
_LOOK: LiteralString = """
    SELECT digest, done, extract(epoch FROM until - clock_timestamp())::float8
    FROM chassis_inbox WHERE key = %(key)s AND until > clock_timestamp()
"""
_EXTEND: LiteralString = """
    UPDATE chassis_inbox SET until = clock_timestamp() + make_interval(secs => %(lease)s)
    WHERE key = %(key)s AND fence = %(fence)s AND NOT done AND until > clock_timestamp()
"""
_COMPLETE: LiteralString = """
    UPDATE chassis_inbox SET done = true, until = clock_timestamp() + make_interval(secs => %(retention)s)
    WHERE key = %(key)s AND fence = %(fence)s AND NOT done AND until > clock_timestamp()
"""
_RELEASE: LiteralString = "DELETE FROM chassis_inbox WHERE key = %(key)s AND fence = %(fence)s AND NOT done"
_EXPIRE: LiteralString = """
    DELETE FROM chassis_inbox WHERE key = ANY (ARRAY(
        SELECT key FROM chassis_inbox WHERE until <= clock_timestamp()
        ORDER BY until LIMIT 2000 FOR UPDATE SKIP LOCKED
    ))
"""
_CLAIMS_PER_EXPIRY = 1000

_Connection = psycopg.AsyncConnection[tuple[Any, ...]]


class PostgresInbox:
    """`url` is a libpq connection string, `postgresql://…`; raises ValueError when it is none.

    `connections` bounds the statements in flight. An answer takes at most `timeout` seconds, and when the server hangs
    in the middle of a statement, ten more until psycopg gives up cancelling it.
    """

    def __init__(
        self,
        url: str,
        lease_seconds: float,
        retention_seconds: float,
        *,
        connections: int = 8,
        timeout: float = 5.0,
    ) -> None:
        self._terms = {"lease": lease_seconds, "retention": retention_seconds}
        self._timeout = timeout
        self._where = _address(url)
        self._claims_until_expiry = _CLAIMS_PER_EXPIRY
        self._pool: AsyncConnectionPool[_Connection] = AsyncConnectionPool(
            url,
            kwargs={"autocommit": True, "connect_timeout": max(2, round(timeout))},
            min_size=1,
            max_size=connections,
            open=False,
            check=self._check,
            name="inbox",
            timeout=timeout,
            # Attempts back off up to this long; then the next one who asks begins anew.
            reconnect_timeout=timeout,
        )

    async def open(self) -> None:
        await self._pool.open()
        async with self._connection() as connection, connection.transaction():
            await connection.execute(_LOCK_SCHEMA)
            exists = await (await connection.execute("SELECT to_regclass('chassis_inbox')")).fetchone()
            if exists == (None,):
                for statement in SCHEMA:
                    await connection.execute(statement)

    async def claim(self, key: str, digest: str) -> Lease | Refused:
        async with self._connection() as connection:
            await self._expire_now_and_then(connection)
            while True:
                parameters = {"key": key, "digest": digest, **self._terms}
                given = await (await connection.execute(_CLAIM, parameters)).fetchone()
                if given is not None:
                    return Lease(key, digest, given[0])
                held = await (await connection.execute(_LOOK, parameters)).fetchone()
                if held is not None:
                    return _refusal(digest, *held)
                # Given up or over between the two statements: claim again.

    async def extend(self, lease: Lease) -> Lease:
        if not await self._change(_EXTEND, lease):
            raise LeaseLost(lease.key)
        return lease

    async def complete(self, lease: Lease) -> None:
        if not await self._change(_COMPLETE, lease):
            raise LeaseLost(lease.key)

    async def release(self, lease: Lease) -> None:
        await self._change(_RELEASE, lease)

    async def ping(self) -> None:
        async with self._connection() as connection:
            await connection.execute("SELECT FROM chassis_inbox LIMIT 1")

    async def close(self) -> None:
        await self._pool.close()

    async def _change(self, statement: LiteralString, lease: Lease) -> bool:
        """Whether the claim was still ours, so that `statement` changed its row."""
        async with self._connection() as connection:
            parameters = {"key": lease.key, "fence": lease.fence, **self._terms}
            return (await connection.execute(statement, parameters)).rowcount == 1

    async def _expire_now_and_then(self, connection: _Connection) -> None:
        """Delete records that are over: twice as many at most as claims were made since the last time."""
        self._claims_until_expiry -= 1
        if self._claims_until_expiry <= 0:
            self._claims_until_expiry = _CLAIMS_PER_EXPIRY
            await connection.execute(_EXPIRE)

    async def _check(self, connection: _Connection) -> None:
        """Raise when the server has closed `connection`. Costs no round trip unless there is something to read.

        Then the others are probably closed as well; the pool's own check replaces them all at once.
        """
        with DefaultSelector() as selector:
            selector.register(connection.fileno(), EVENT_READ)
            if not selector.select(0):
                return
        try:
            await self._pool.check_connection(connection)
        except psycopg.OperationalError:
            await self._pool.check()
            raise

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[_Connection]:
        """A connection of the pool. Whatever the server says no to, or does not answer, is InboxUnavailable."""
        try:
            async with asyncio.timeout(self._timeout), self._pool.connection() as connection:
                yield connection
        except (psycopg.Error, OSError) as error:
            raise InboxUnavailable(
                f"PostgreSQL at {self._where} failed: {str(error) or type(error).__name__}"
            ) from error


def _refusal(digest: str, held_digest: str, done: bool, seconds_left: float) -> Refused:
    if held_digest != digest:
        return Refused(Refusal.MISMATCH)
    if done:
        return Refused(Refusal.DUPLICATE)
    return Refused(Refusal.BUSY, max(seconds_left, 0.001))


def _address(url: str) -> str:
    """Host, port and database of `url`: what may be shown. Raises ValueError, without the password in it."""
    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise ValueError("the inbox URL is not of the form postgresql://[user:password@]host:port/database") from None
    return f"{parts.get('host', 'localhost')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"
