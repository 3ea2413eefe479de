"""Connections to PostgreSQL: a few for short statements, the others for the transactions of handlers.

Two pools, so that no claim and no completion ever waits for a handler to return. Knows no table.
A PgBouncer in between has to support prepared statements (1.22 or later).
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from selectors import EVENT_READ, DefaultSelector
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from chassis.inbox import InboxUnavailable

Connection = psycopg.AsyncConnection[tuple[Any, ...]]

CLOSE_SECONDS = 5.0
_LOCK_WAIT = "1s"
"""A short statement waits so long for a row: only somebody who stands still holds one for longer."""
_NETWORK = {
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""A network that swallows everything is noticed within half a minute, not after hours. The URL may say otherwise."""


class Database:
    """`url` is a libpq connection string, `postgresql://…`; raises ValueError when it is none.

    Opens at most `connections`, at least four, of which a quarter is for short statements. One of these answers
    within `timeout` seconds, and when the server hangs in the middle of it, within ten more until psycopg gives up
    cancelling it. `take` waits `patience` seconds for a connection.
    """

    def __init__(self, url: str, *, connections: int, timeout: float, patience: float) -> None:
        self.url = url
        self.timeout = timeout
        given = _parts(url)
        self._where = (
            f"{given.get('host', 'localhost')}:{given.get('port', 5432)}/{given.get('dbname', '')}"
        )
        self.options: Mapping[str, Any] = {
            "autocommit": True,
            "connect_timeout": max(2, round(timeout)),
            **{name: value for name, value in _NETWORK.items() if name not in given},
        }
        """How to connect, beside the URL."""
        self._patience = patience
        self._handlers = connections - max(2, connections // 4)
        self._statements = self._pool(
            "statements", least=1, most=connections - self._handlers, patience=timeout
        )
        self._transactions = self._pool(
            "transactions", least=0, most=self._handlers, patience=patience
        )

    async def open(self) -> None:
        await self._statements.open()
        await self._transactions.open()

    async def close(self) -> None:
        await asyncio.gather(
            self._transactions.close(CLOSE_SECONDS), self._statements.close(CLOSE_SECONDS)
        )

    @asynccontextmanager
    async def statement(self) -> AsyncIterator[Connection]:
        """A connection for a short statement. What the server says no to, or does not answer, is InboxUnavailable."""
        try:
            async with asyncio.timeout(self.timeout), self._statements.connection() as connection:
                yield connection
        except (psycopg.Error, OSError) as error:
            raise self.unavailable(error) from error

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection in a transaction of the chassis' own, without a limit in time. Raises InboxUnavailable."""
        try:
            async with self._statements.connection() as connection, connection.transaction():
                yield connection
        except (psycopg.Error, OSError) as error:
            raise self.unavailable(error) from error

    async def take(self) -> Connection:
        """A connection for a handler, until `give_back`. Raises InboxUnavailable."""
        try:
            connection = await self._transactions.getconn()
        except PoolTimeout as error:
            raise InboxUnavailable(
                f"PostgreSQL at {self._where}: no connection for a handler's transaction within {self._patience:g} s. "
                f"If the server is there, handlers hold all {self._handlers} of them for too long: hold them for less, "
                "raise CHASSIS_DATABASE_CONNECTIONS, or lower CHASSIS_PREFETCH"
            ) from error
        except (psycopg.Error, OSError) as error:
            raise self.unavailable(error) from error
        connection.row_factory = tuple_row  # the handler before may have set its own
        return connection

    async def give_back(self, connection: Connection) -> None:
        """Take back what `take` gave; what is not at rest is closed, so that the server rolls it back."""
        if connection.info.transaction_status is not TransactionStatus.IDLE:
            await connection.close()
        await self._transactions.putconn(connection)

    def unavailable(self, error: Exception) -> InboxUnavailable:
        """`error` as the port names it."""
        return InboxUnavailable(
            f"PostgreSQL at {self._where} failed: {str(error) or type(error).__name__}"
        )

    def _pool(
        self, name: str, *, least: int, most: int, patience: float
    ) -> AsyncConnectionPool[Connection]:
        async def check(connection: Connection) -> None:
            await _check(pool, connection)

        pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            self.url,
            kwargs=dict(self.options),
            min_size=least,
            max_size=most,
            open=False,
            configure=_configure if name == "statements" else None,
            check=check,
            name=name,
            timeout=patience,
            # Attempts back off up to this long; then the next one who asks begins anew.
            reconnect_timeout=self.timeout,
        )
        return pool


async def _configure(connection: Connection) -> None:
    await connection.execute(f"SET lock_timeout = '{_LOCK_WAIT}'")


async def _check(pool: AsyncConnectionPool[Connection], connection: Connection) -> None:
    """Raise when the server has closed `connection`. Costs no round trip unless there is something to read.

    Then the others are probably closed as well; the pool's own check replaces them all at once.
    """
    with DefaultSelector() as selector:
        selector.register(connection.fileno(), EVENT_READ)
        if not selector.select(0):
            return
    try:
        await pool.check_connection(connection)
    except psycopg.OperationalError:
        await pool.check()
        raise


def _parts(url: str) -> Mapping[str, Any]:
    """What `url` says of a connection. Raises ValueError, without the password in it."""
    try:
        return conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise ValueError(
            "the inbox URL is not of the form postgresql://[user:password@]host:port/database"
        ) from None
