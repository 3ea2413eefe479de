"""The transaction of one handling: its writes, its outgoing events, its completion; all or nothing.

It begins by locking the claim's own row. From then on no replica can take the claim over, however
long the handler takes, so the lease needs no extension. If the process dies, the server rolls back
and unlocks the row.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, LiteralString, cast

import psycopg
from psycopg.pq import TransactionStatus

from chassis.contracts.envelope import EncodedEvent
from chassis.inbox import Lease, LeaseLost
from chassis.inbox.postgres.database import Connection, Database
from chassis.inbox.postgres.outbox import NOTHING, STORE, Bell, stored
from chassis.retry import Reject

# The time limit is for a replica that vanishes without closing its connection: without a limit, its
# row would stay locked.
_BEGIN: LiteralString = """
    SELECT pg_current_xact_id()::text,
           set_config('idle_in_transaction_session_timeout', %(idle)s, true)
    FROM chassis_inbox
    WHERE key = %(key)s AND fence = %(fence)s AND NOT done AND until > clock_timestamp()
    FOR UPDATE
"""
_COMPLETE: LiteralString = """
    UPDATE chassis_inbox
    SET done = true, until = clock_timestamp() + make_interval(secs => %(retention)s)
    WHERE key = %(key)s AND fence = %(fence)s AND NOT done
        AND pg_current_xact_id() = %(transaction)s::xid8
    RETURNING key
"""
_COMPLETE_AND_STORE: LiteralString = f"WITH completed AS ({_COMPLETE}), {STORE}"


_BEGIN_ALL: LiteralString = """
    SELECT pg_current_xact_id()::text,
           set_config('idle_in_transaction_session_timeout', %(idle)s, true), key
    FROM chassis_inbox
    WHERE (key, fence) IN (SELECT * FROM unnest(%(keys)s::text[], %(fences)s::bigint[]))
        AND NOT done AND until > clock_timestamp()
    FOR UPDATE
"""
_COMPLETE_ALL: LiteralString = f"""
    WITH updated AS (
        UPDATE chassis_inbox
        SET done = true, until = clock_timestamp() + make_interval(secs => %(retention)s)
        WHERE (key, fence) IN (SELECT * FROM unnest(%(keys)s::text[], %(fences)s::bigint[]))
            AND NOT done AND pg_current_xact_id() = %(transaction)s::xid8
        RETURNING key
    ),
    completed AS (SELECT 1 FROM updated HAVING count(*) = cardinality(%(keys)s::text[])),
    {STORE}
"""  # noqa: S608 - of constants

_TRY_WRITE: LiteralString = "UPDATE chassis_inbox SET digest = digest WHERE key = %(key)s"


class TransactionEnded(Reject):
    """The handler ended the transaction itself.

    Its writes are kept, so another attempt would write them again.
    """


class TransactionFailed(Exception):
    """A statement in the transaction failed, and the handler went on regardless."""


class PostgresTransaction:
    """Made by `begin`. Ends with `complete` or `roll_back`."""

    def __init__(
        self,
        database: Database,
        connection: Connection,
        block: psycopg.AsyncTransaction,
        parameters: Mapping[str, object],
        bell: Bell,
    ) -> None:
        self._database = database
        self._connection = connection
        self._block = block
        self._parameters = parameters
        self._bell = bell
        self._over = False
        self._failed_by_store = False

    @property
    def connection(self) -> Connection:
        return self._connection

    @property
    def broken(self) -> bool:
        """True if the connection is lost, or was found to refuse writes."""
        return self._failed_by_store or self._connection.broken

    async def complete(self, events: Sequence[EncodedEvent]) -> None:
        """Store `events`, mark as done, commit.

        Raises InboxUnavailable without an answer: the server may have committed or not. A refusal,
        such as by a deferred constraint, raises psycopg's own error.
        """
        await self.finish(_COMPLETE_AND_STORE if events else _COMPLETE, {}, events)

    async def complete_all(self, leases: Sequence[Lease], events: Sequence[EncodedEvent]) -> None:
        """As `complete`, for these of the claims that the transaction holds."""
        await self.finish(_COMPLETE_ALL, _held(leases), events)

    async def finish(
        self,
        statement: LiteralString,
        further: Mapping[str, object],
        events: Sequence[EncodedEvent],
    ) -> None:
        """Execute `statement` with `further` parameters and those of STORE, and commit."""
        if self._connection.info.transaction_status is TransactionStatus.INERROR:
            raise TransactionFailed(
                "a statement in the handler's transaction failed, the handler went on, and "
                "PostgreSQL commits nothing: let the error be raised, or try inside "
                "`async with connection.transaction()`"
            )
        try:
            async with asyncio.timeout(self._database.timeout):
                completed = await self._connection.execute(
                    statement,
                    {**self._parameters, **NOTHING, **further, **stored(events, self._bell)},
                )
                if completed.rowcount != 1:
                    raise TransactionEnded(
                        "the handler ended its transaction itself: its writes are no longer one "
                        "with the completion. Remove COMMIT and ROLLBACK from the handler; a part "
                        "can be undone inside `async with connection.transaction()`"
                    )
                await self._block.__aexit__(None, None, None)
        except TimeoutError as error:
            raise self._database.unavailable(error) from error
        except psycopg.Error as error:
            if self.broken:
                raise self._database.unavailable(error) from error
            raise
        await self._end()
        if events:
            self._bell.ring()

    async def roll_back(self) -> None:
        """Undo all writes. Never raises: without a connection, the server rolls back."""
        if self._over:
            return
        self._failed_by_store = self._connection.broken
        status = self._connection.info.transaction_status
        try:
            at_rest = status is TransactionStatus.IDLE
            if at_rest or self._block.status is not psycopg.AsyncTransaction.Status.ACTIVE:
                await self._connection.close()  # the handler or a failed commit has ended it
            else:
                async with asyncio.timeout(self._database.timeout):
                    await self._block.__aexit__(psycopg.Rollback, psycopg.Rollback(), None)
                    if status is TransactionStatus.INERROR:
                        await self._try_write()
        except (psycopg.Error, TimeoutError):
            await self._connection.close()
        finally:
            await self._end()

    async def _try_write(self) -> None:
        """Tell a server that refuses writes from a statement that is wrong."""
        try:
            async with self._connection.transaction(force_rollback=True):
                await self._connection.execute(_TRY_WRITE, self._parameters)
        except psycopg.Error as error:
            self._failed_by_store = True
            await self._connection.close()
            await self._database.failed(error)

    async def _end(self) -> None:
        self._over = True
        await self._database.give_back(self._connection)


async def begin(
    database: Database, lease: Lease, terms: Mapping[str, float], bell: Bell
) -> PostgresTransaction:
    """A transaction that holds the row of `lease`. Raises LeaseLost, InboxUnavailable."""
    parameters = {"key": lease.key, "fence": lease.fence, **terms}
    return (await open_transaction(database, _BEGIN, [lease], parameters, bell))[0]


async def begin_all(
    database: Database, leases: Sequence[Lease], terms: Mapping[str, float], bell: Bell
) -> PostgresTransaction:
    """A transaction that holds the rows of all `leases`. Raises LeaseLost, InboxUnavailable."""
    parameters = {"key": leases[0].key, **_held(leases), **terms}
    return (await open_transaction(database, _BEGIN_ALL, leases, parameters, bell))[0]


async def open_transaction(
    database: Database,
    statement: LiteralString,
    leases: Sequence[Lease],
    parameters: Mapping[str, object],
    bell: Bell,
) -> tuple[PostgresTransaction, list[tuple[Any, ...]]]:
    """A transaction that begins with `statement`, and the rows that this gave.

    Each row begins with the transaction's id; there must be one for each of `leases`.
    """
    connection = await database.take()
    try:
        async with asyncio.timeout(database.timeout):
            block = psycopg.AsyncTransaction(connection)
            await block.__aenter__()
            idle = str(round(cast("float", parameters["lease"]) * 1000))
            held = await (
                await connection.execute(statement, {**parameters, "idle": idle})
            ).fetchall()
        if len(held) < len(leases):
            keys = {row[2] for row in held if len(row) > 2}
            raise LeaseLost(next(lease.key for lease in leases if lease.key not in keys))
    except BaseException as error:
        await connection.close()
        await database.give_back(connection)
        if isinstance(error, psycopg.Error | OSError):
            raise await database.failed(error) from error
        raise
    parameters = {**parameters, "transaction": held[0][0]}
    return PostgresTransaction(database, connection, block, parameters, bell), held


def _held(leases: Sequence[Lease]) -> Mapping[str, object]:
    return {
        "keys": [lease.key for lease in leases],
        "fences": [lease.fence for lease in leases],
    }
