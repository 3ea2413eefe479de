"""The transaction of a request: its own writes and its events, and its key at most once.

The key's record is inserted with the writes, so a process that dies leaves no key behind. Another
request with the same key waits at the record until the first one has ended.
"""

from collections.abc import Mapping, Sequence
from typing import LiteralString

from chassis.contracts.envelope import EncodedEvent
from chassis.inbox.postgres.database import Connection, Database
from chassis.inbox.postgres.outbox import STORE, Bell
from chassis.inbox.postgres.transaction import PostgresTransaction, open_transaction

_BEGIN: LiteralString = """
    SELECT pg_current_xact_id()::text,
           set_config('idle_in_transaction_session_timeout', %(idle)s, true), true
"""
_BEGIN_ONCE: LiteralString = """
    WITH claimed AS (
        INSERT INTO chassis_inbox (key, digest, fence, done, until)
        VALUES (%(key)s, '', nextval('chassis_inbox_fence'), true,
                clock_timestamp() + make_interval(secs => %(retention)s))
        ON CONFLICT (key) DO UPDATE SET fence = excluded.fence, until = excluded.until
            WHERE chassis_inbox.until <= clock_timestamp()
        RETURNING key
    )
    SELECT pg_current_xact_id()::text,
           set_config('idle_in_transaction_session_timeout', %(idle)s, true),
           EXISTS (SELECT FROM claimed)
"""
_COMMIT: LiteralString = (
    f"WITH completed AS (SELECT 1 WHERE pg_current_xact_id() = %(transaction)s::xid8), {STORE}"
)
STORE_ALONE: LiteralString = f"WITH completed AS (SELECT 1), {STORE}"


class PostgresRequest:
    """Made by `begin_request`. Ends with `commit` or `roll_back`."""

    def __init__(self, transaction: PostgresTransaction, *, repeated: bool) -> None:
        self._transaction = transaction
        self.repeated = repeated
        self.roll_back = transaction.roll_back

    @property
    def connection(self) -> Connection:
        return self._transaction.connection

    @property
    def broken(self) -> bool:
        return self._transaction.broken

    async def commit(self, events: Sequence[EncodedEvent]) -> None:
        await self._transaction.finish(_COMMIT, {}, events)


async def begin_request(
    database: Database, key: str | None, terms: Mapping[str, float], bell: Bell
) -> PostgresRequest:
    """A transaction that holds `key`. Raises InboxUnavailable."""
    statement = _BEGIN if key is None else _BEGIN_ONCE
    transaction, [row] = await open_transaction(
        database, statement, [], {"key": key or "", **terms}, bell
    )
    return PostgresRequest(transaction, repeated=not row[2])
