"""The inbox in PostgreSQL: a row a key, the server's clock throughout.

One statement makes all claims that have come together, and one all completions. A claim commits by
itself. The completion commits together with the outgoing events and with the handler's own writes,
if any: the module `transaction` holds the claim's row until then. Knows nothing of buses and
handlers.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import LiteralString

import psycopg
import structlog

from chassis.contracts.envelope import EncodedEvent
from chassis.inbox import (
    Lease,
    LeaseLost,
    Refusal,
    Refused,
    RequestTransaction,
    SharedTransaction,
    Transaction,
    probe_key,
)
from chassis.inbox.coalesced import Coalesced
from chassis.inbox.outbox import Outbox
from chassis.inbox.postgres import schema
from chassis.inbox.postgres.database import Connection, Database
from chassis.inbox.postgres.outbox import STORE_OF_EACH, Bell, PostgresOutbox, stored
from chassis.inbox.postgres.processes import PostgresProcesses
from chassis.inbox.postgres.requests import STORE_ALONE, begin_request
from chassis.inbox.postgres.transaction import begin, begin_all

_log = structlog.get_logger(__name__)

# In the order of their keys, so that two replicas never wait for each other's rows.
_CLAIM_ALL: LiteralString = """
    INSERT INTO chassis_inbox (key, digest, fence, done, until)
    SELECT key, digest, nextval('chassis_inbox_fence'), false,
           clock_timestamp() + make_interval(secs => %(lease)s)
    FROM unnest(%(keys)s::text[], %(digests)s::text[]) AS asked (key, digest)
    ON CONFLICT (key) DO NOTHING
    RETURNING key, fence
"""
# clock_timestamp() and not now(): a statement may have waited for the row since it began.
# "Do nothing" does not wait for a row that a handler's transaction has locked; "do update" would.
_CLAIM: LiteralString = """
    INSERT INTO chassis_inbox (key, digest, fence, done, until)
    VALUES (%(key)s, %(digest)s, nextval('chassis_inbox_fence'), false,
            clock_timestamp() + make_interval(secs => %(lease)s))
    ON CONFLICT (key) DO NOTHING
    RETURNING fence
"""
_LOOK: LiteralString = """
    SELECT digest, done, extract(epoch FROM until - clock_timestamp())::float8
    FROM chassis_inbox WHERE key = %(key)s
"""
_TAKE_OVER: LiteralString = """
    UPDATE chassis_inbox
    SET digest = %(digest)s, fence = nextval('chassis_inbox_fence'), done = false,
        until = clock_timestamp() + make_interval(secs => %(lease)s)
    WHERE key = (
        SELECT key FROM chassis_inbox
        WHERE key = %(key)s AND until <= clock_timestamp() FOR UPDATE SKIP LOCKED
    )
    RETURNING fence
"""
_EXTEND: LiteralString = """
    UPDATE chassis_inbox SET until = clock_timestamp() + make_interval(secs => %(lease)s)
    WHERE key = %(key)s AND fence = %(fence)s AND NOT done AND until > clock_timestamp()
"""
_COMPLETE_ALL: LiteralString = """
    UPDATE chassis_inbox
    SET done = true, until = clock_timestamp() + make_interval(secs => %(retention)s)
    FROM unnest(%(keys)s::text[], %(fences)s::bigint[])
        WITH ORDINALITY AS held (key, fence, number)
    WHERE chassis_inbox.key = held.key AND chassis_inbox.fence = held.fence
        AND NOT done AND until > clock_timestamp()
    RETURNING held.number
"""
_COMPLETE_ALL_AND_STORE: LiteralString = f"WITH completed AS ({_COMPLETE_ALL}), {STORE_OF_EACH}"
_RELEASE: LiteralString = (
    "DELETE FROM chassis_inbox WHERE key = %(key)s AND fence = %(fence)s AND NOT done"
)
_EXPIRE: LiteralString = """
    DELETE FROM chassis_inbox WHERE key = ANY (ARRAY(
        SELECT key FROM chassis_inbox WHERE until <= clock_timestamp()
        ORDER BY until LIMIT 2000 FOR UPDATE SKIP LOCKED
    ))
"""
_CLAIMS_PER_EXPIRY = 1000
_Completion = tuple[Lease, Sequence[EncodedEvent]]
_HELD_SECONDS = 1.0
"""After this long, an event comes back that met a transaction at work."""


class PostgresInbox:
    """Claims and completions; `begin` makes one transaction of writes and completion.

    `url` is a libpq connection string, `postgresql://…`; raises ValueError for any other. Database
    explains `timeout`, `connections` and `patience`; a claim or a completion may wait for the batch
    before it, so its answer takes at most twice `timeout`. `open` migrates the schema; with
    `migrates` False it demands an up-to-date one.
    """

    def __init__(
        self,
        url: str,
        lease_seconds: float,
        retention_seconds: float,
        *,
        connections: int = 16,
        timeout: float = 5.0,
        patience: float = 15.0,
        migrates: bool = True,
    ) -> None:
        self._database = Database(url, connections=connections, timeout=timeout, patience=patience)
        self._terms = {"lease": lease_seconds, "retention": retention_seconds}
        self._migrates = migrates
        self._claims_until_expiry = _CLAIMS_PER_EXPIRY
        self._bell = Bell()
        self._claims = Coalesced(self._claim_all)
        self._completions = Coalesced(self._complete_all)

    async def open(self) -> None:
        if self._migrates:
            if steps := await self.migrate():
                _log.info("the tables in PostgreSQL were brought up to date", steps=steps)
        else:
            await self._database.open()
            await schema.require(self._database)

    async def migrate(self) -> Sequence[str]:
        await self._database.open()
        return await schema.migrate(self._database)

    async def claim(self, key: str, digest: str) -> Lease | Refused:
        fence = await self._claims.ask((key, digest))
        return await self._claim_known(key, digest) if fence is None else Lease(key, digest, fence)

    async def _claim_all(self, asked: Sequence[tuple[str, str]]) -> list[int | None]:
        """A fence for each key that had no record, else None."""
        digests = dict(sorted(asked))
        parameters = {"keys": [*digests], "digests": [*digests.values()], **self._terms}
        async with self._database.statement() as connection:
            await self._expire_now_and_then(connection, len(asked))
            try:
                given = await (await connection.execute(_CLAIM_ALL, parameters)).fetchall()
            except psycopg.errors.LockNotAvailable:  # a replica stalls in its commit of one
                return [None] * len(asked)
        fences = dict(given)
        # The second claim of a key in one batch has none.
        return [fences.pop(key, None) if digests[key] == digest else None for key, digest in asked]

    async def _claim_known(self, key: str, digest: str) -> Lease | Refused:
        """The claim of a key that seemed to have a record."""
        async with self._database.statement() as connection:
            parameters = {"key": key, "digest": digest, **self._terms}
            while True:
                held = await (await connection.execute(_LOOK, parameters)).fetchone()
                if held is None:  # released or deleted since, or about to be committed
                    try:
                        given = await (await connection.execute(_CLAIM, parameters)).fetchone()
                    except psycopg.errors.LockNotAvailable:  # a replica stalls in its commit
                        return Refused(Refusal.BUSY, _HELD_SECONDS)
                    if given is not None:
                        return Lease(key, digest, given[0])
                    continue
                if (refusal := _refusal(digest, *held)) is not None:
                    return refusal
                taken = await (await connection.execute(_TAKE_OVER, parameters)).fetchone()
                if taken is not None:
                    return Lease(key, digest, taken[0])
                # The lease is over, but a transaction holds the row.
                return Refused(Refusal.BUSY, _HELD_SECONDS)

    async def extend(self, lease: Lease) -> Lease:
        if not await self._change(_EXTEND, lease):
            raise LeaseLost(lease.key)
        return lease

    async def complete(self, lease: Lease) -> None:
        await self.complete_with(lease, ())

    async def complete_with(self, lease: Lease, events: Sequence[EncodedEvent]) -> None:
        answer = await self._completions.ask((lease, events))
        if isinstance(answer, BaseException):
            raise answer
        if not answer:
            raise LeaseLost(lease.key)

    async def _complete_all(self, asked: Sequence[_Completion]) -> list[bool | BaseException]:
        """Whether each claim was still ours. Then its events are stored too."""
        events = [event for _, own in asked for event in own]
        parameters = {
            "keys": [lease.key for lease, _ in asked],
            "fences": [lease.fence for lease, _ in asked],
            "owners": [number for number, (_, own) in enumerate(asked, 1) for _ in own],
            **self._terms,
            **stored(events, self._bell),
        }
        statement = _COMPLETE_ALL_AND_STORE if events else _COMPLETE_ALL
        async with self._database.statement() as connection:
            try:
                rows = await (await connection.execute(statement, parameters)).fetchall()
            except psycopg.DataError:
                if len(asked) == 1:
                    raise
                rows = None
        if rows is None:  # an event that cannot be stored harms no other
            each = (self._complete_all([one]) for one in asked)
            alone = await asyncio.gather(*each, return_exceptions=True)
            return [one if isinstance(one, BaseException) else one[0] for one in alone]
        if events:
            self._bell.ring()
        completed = {row[0] for row in rows}
        return [number in completed for number in range(1, len(asked) + 1)]

    async def begin(self, lease: Lease) -> Transaction:
        return await begin(self._database, lease, self._terms, self._bell)

    async def begin_all(self, leases: Sequence[Lease]) -> SharedTransaction:
        return await begin_all(self._database, leases, self._terms, self._bell)

    def outbox(self, source: str) -> Outbox:
        return PostgresOutbox(self._database, source)

    def processes(self, service: str) -> PostgresProcesses:
        """The processes of `service`, in the same database: open while this inbox is."""
        return PostgresProcesses(self._database, service, self._terms["retention"])

    def on_stored(self, ring: Callable[[], None]) -> None:
        self._bell.in_process = ring

    async def store(self, events: Sequence[EncodedEvent]) -> None:
        async with self._database.statement() as connection:
            await connection.execute(STORE_ALONE, stored(events, self._bell))
        self._bell.ring()

    async def begin_request(self, key: str | None) -> RequestTransaction:
        if key is not None:
            await self._expire_for_request()
        return await begin_request(self._database, key, self._terms, self._bell)

    async def release(self, lease: Lease) -> None:
        await self._change(_RELEASE, lease)

    async def ping(self) -> None:
        key = probe_key()
        async with self._database.statement() as connection, connection.transaction():
            await connection.execute(_CLAIM, {"key": key, "digest": "", **self._terms})
            await connection.execute("DELETE FROM chassis_inbox WHERE key = %s", (key,))

    async def close(self) -> None:
        await self._claims.close()
        await self._completions.close()
        await self._database.close()

    async def _change(
        self,
        statement: LiteralString,
        lease: Lease,
    ) -> bool:
        """Whether `statement` changed the row: the claim was still ours."""
        async with self._database.statement() as connection:
            parameters = {"key": lease.key, "fence": lease.fence, **self._terms}
            return (await connection.execute(statement, parameters)).rowcount == 1

    async def _expire_for_request(self) -> None:
        if self._claims_until_expiry > 1:
            self._claims_until_expiry -= 1
            return
        async with self._database.statement() as connection:
            await self._expire_now_and_then(connection, 1)

    async def _expire_now_and_then(self, connection: Connection, claims: int) -> None:
        """Delete expired records, at most twice as many as claims since the last time."""
        self._claims_until_expiry -= claims
        if self._claims_until_expiry <= 0:
            self._claims_until_expiry = _CLAIMS_PER_EXPIRY
            await connection.execute(_EXPIRE)


def _refusal(digest: str, held_digest: str, done: bool, seconds_left: float) -> Refused | None:
    """Why the stored record refuses a claim; None if the record has expired."""
    if seconds_left <= 0:
        return None
    if held_digest != digest:
        return Refused(Refusal.MISMATCH)
    if done:
        return Refused(Refusal.DUPLICATE)
    return Refused(Refusal.BUSY, seconds_left)
