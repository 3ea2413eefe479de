"""Connections to PostgreSQL: a few for short statements, the rest for handlers' transactions.

With two pools, no claim and no completion ever waits for a handler to return. When the server
refuses writes, all connections are made anew: after a failover the same address leads to another
server, but old connections stay with the old one. Knows no table.
A PgBouncer in between has to support prepared statements (1.22 or later).
"""

import asyncio
import math
import select
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any, Self

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from chassis.inbox import InboxUnavailable
from chassis.inbox.postgres.errors import in_words

Connection = psycopg.AsyncConnection[tuple[Any, ...]]

CLOSE_SECONDS = 5.0
_RENEW_SECONDS = 1.0
"""Connections are not made anew more often than this."""
_LOCK_WAIT = "1s"
"""How long a short statement waits for a row: only a stalled process holds one for longer."""
_NETWORK = {
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""A network that drops all packets is noticed within half a minute, not after hours.

The URL may set other values.
"""


class Database:
    """`url` is a libpq connection string, `postgresql://…`; raises ValueError for any other.

    Opens at most `connections`, at least four; a quarter of them is for short statements. A short
    statement answers within `timeout` seconds. If the server hangs in the middle of one, psycopg
    needs up to ten more to give up cancelling it. `take` waits `patience` seconds for a connection.
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
        """Connection parameters in addition to the URL."""
        self._patience = patience
        self._renewed_at = -math.inf
        self._checks: dict[str, asyncio.Task[None]] = {}
        """By pool: the check of all its connections, while it runs."""
        self._trouble: Exception | None = None
        """Why the last connection could not be made; None if it could."""
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
        for running in [*self._checks.values()]:
            running.cancel()
        await asyncio.gather(
            self._transactions.close(CLOSE_SECONDS), self._statements.close(CLOSE_SECONDS)
        )

    @asynccontextmanager
    async def statement(self) -> AsyncIterator[Connection]:
        """A connection for a short statement. A refusal or no answer raises InboxUnavailable."""
        try:
            async with asyncio.timeout(self.timeout), self._statements.connection() as connection:
                yield connection
        except (psycopg.Error, OSError) as error:
            raise await self.failed(error) from error

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection in a transaction of the chassis, without a time limit.

        Raises InboxUnavailable.
        """
        try:
            async with self._statements.connection() as connection, connection.transaction():
                yield connection
        except (psycopg.Error, OSError) as error:
            raise await self.failed(error) from error

    async def take(self) -> Connection:
        """A connection for a handler, until `give_back`. Raises InboxUnavailable."""
        try:
            connection = await self._transactions.getconn()
        except PoolTimeout as error:
            if self._trouble is not None:
                raise self.unavailable(error) from error
            raise InboxUnavailable(
                f"PostgreSQL at {self._where}: no connection for a handler's transaction within "
                f"{self._patience:g} s. If the server is there, handlers hold all {self._handlers} "
                "for too long: hold them for less, raise CHASSIS_DATABASE_CONNECTIONS, or lower "
                "CHASSIS_PREFETCH"
            ) from error
        except (psycopg.Error, OSError) as error:
            raise self.unavailable(error) from error
        connection.row_factory = tuple_row  # the previous handler may have set its own
        return connection

    async def give_back(self, connection: Connection) -> None:
        """Take a connection back. An open transaction is closed: the server rolls it back."""
        if connection.info.transaction_status is not TransactionStatus.IDLE:
            await connection.close()
        await self._transactions.putconn(connection)

    async def failed(self, error: Exception) -> InboxUnavailable:
        """`error` as the port names it; no connection to a read-only server is kept."""
        if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
            await self.renew()
        return self.unavailable(error)

    async def renew(self) -> None:
        """Close each connection, those in use when they come back."""
        if monotonic() - self._renewed_at > _RENEW_SECONDS:
            self._renewed_at = monotonic()
            await self._statements.drain()
            await self._transactions.drain()

    def unavailable(self, error: Exception) -> InboxUnavailable:
        """`error` as the port names it."""
        if isinstance(error, PoolTimeout) and self._trouble is not None:
            error = self._trouble
        return InboxUnavailable(f"PostgreSQL at {self._where} {in_words(error)}")

    def _note(self, trouble: Exception | None) -> None:
        self._trouble = trouble

    def _pool(
        self, name: str, *, least: int, most: int, patience: float
    ) -> AsyncConnectionPool[Connection]:
        async def check(connection: Connection) -> None:
            try:
                await _check(pool, connection)
            except psycopg.OperationalError:
                self._check_all(pool)
                raise

        pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            self.url,
            connection_class=_noting(self._note),
            kwargs=dict(self.options),
            min_size=least,
            max_size=most,
            open=False,
            configure=_configure if name == "statements" else None,
            check=check,
            name=name,
            timeout=patience,
            # Attempts back off up to this long; then the next caller begins anew.
            reconnect_timeout=self.timeout,
        )
        return pool

    def _check_all(self, pool: AsyncConnectionPool[Connection]) -> None:
        """Replace the closed connections of `pool`, which are probably all.

        In a task of its own: a hanging server would hold up the caller beyond its time, and a
        cancelled check loses the connections that it has in hand.
        """
        if pool.name not in self._checks:
            running = self._checks[pool.name] = asyncio.create_task(pool.check())
            running.add_done_callback(lambda _: self._checks.pop(pool.name))


def _noting(note: Callable[[Exception | None], None]) -> type[Connection]:
    """Connections that `note` why one cannot be made: the pool tells its callers only the time."""

    class Noting(psycopg.AsyncConnection[tuple[Any, ...]]):
        @classmethod
        async def connect(cls, conninfo: str = "", **parameters: Any) -> Self:
            try:
                connection = await super().connect(conninfo, **parameters)
            except (psycopg.Error, OSError) as error:
                note(error)
                raise
            note(None)
            return connection

    return Noting


async def _configure(connection: Connection) -> None:
    await connection.execute(f"SET lock_timeout = '{_LOCK_WAIT}'")


async def _check(pool: AsyncConnectionPool[Connection], connection: Connection) -> None:
    """Raise if the server has closed `connection`. Without anything to read, no round trip."""
    readable = select.poll()  # in a tenth of the time that a selector of asyncio's kind takes
    readable.register(connection.fileno(), select.POLLIN)
    if readable.poll(0):
        await pool.check_connection(connection)


def _parts(url: str) -> Mapping[str, Any]:
    """What `url` says of a connection. Raises ValueError, without the password in it."""
    try:
        return conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise ValueError(
            "the inbox URL is not of the form postgresql://[user:password@]host:port/database"
        ) from None
