"""What only the PostgreSQL inbox does: its table, its clearing up, its connections."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from chassis.contracts.envelope import EncodedEvent, Envelope
from chassis.inbox import InboxUnavailable, Lease, LeaseLost, Refusal, Refused
from chassis.inbox.postgres.database import Database
from chassis.inbox.postgres.inbox import PostgresInbox
from tests.brokers.process import Server, free_port
from tests.waiting import PATIENCE

Connection = psycopg.AsyncConnection[tuple[Any, ...]]


@pytest.fixture
def url(postgres: tuple[str, Server]) -> str:
    return postgres[0]


@pytest.fixture
async def admin(url: str) -> AsyncIterator[Connection]:
    """A connection of our own, to a database without the inbox's table."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(
            "DROP TABLE IF EXISTS chassis_inbox, chassis_outbox, chassis_process, chassis_schema"
        )
        await connection.execute("DROP SEQUENCE IF EXISTS chassis_inbox_fence")
        yield connection


async def test_replicas_that_start_at_once_create_the_table_once(
    url: str, admin: Connection
) -> None:
    async with AsyncExitStack() as stack:
        replicas = [PostgresInbox(url, 60, 60) for _ in range(10)]
        for replica in replicas:
            stack.push_async_callback(replica.close)
        await asyncio.gather(*(replica.open() for replica in replicas))
        for replica in replicas:
            await _claimed(replica)
    assert await _value(admin, "SELECT count(*) FROM chassis_inbox") == 10


async def test_replicas_that_claim_the_same_keys_in_any_order_share_them_out(
    url: str, admin: Connection
) -> None:
    keys = [uuid4().hex for _ in range(300)]
    first, second = PostgresInbox(url, 60, 60), PostgresInbox(url, 60, 60)
    try:
        await first.open()
        await second.open()
        one, other = await asyncio.gather(
            asyncio.gather(*(first.claim(key, "d1") for key in keys)),
            asyncio.gather(*(second.claim(key, "d1") for key in reversed(keys))),
        )
    finally:
        await first.close()
        await second.close()
    leases = [claim for claim in [*one, *other] if isinstance(claim, Lease)]
    assert sorted(lease.key for lease in leases) == sorted(keys)
    assert await _value(admin, "SELECT count(DISTINCT fence) FROM chassis_inbox") == 300


async def test_a_claim_that_somebody_is_committing_holds_up_no_other(
    url: str, admin: Connection
) -> None:
    inbox = PostgresInbox(url, 60, 60)
    try:
        await inbox.open()
        async with admin.transaction(force_rollback=True):
            await admin.execute(
                "INSERT INTO chassis_inbox (key, digest, fence, done, until) "
                "VALUES ('stalled', 'd1', 0, false, now())"
            )
            stalled, *others = await asyncio.gather(
                inbox.claim("stalled", "d1"), *(_claimed(inbox) for _ in range(20))
            )
    finally:
        await inbox.close()
    assert isinstance(stalled, Refused)
    assert stalled.refusal is Refusal.BUSY
    assert len(others) == 20


async def test_an_event_that_cannot_be_stored_fails_alone(url: str, admin: Connection) -> None:
    inbox = PostgresInbox(url, 60, 60)
    try:
        await inbox.open()
        leases = await asyncio.gather(*(_claimed(inbox) for _ in range(3)))
        ends = await asyncio.gather(
            inbox.complete_with(leases[0], [_event("a"), _event("b")]),
            inbox.complete_with(leases[1], [_event("not\0stored")]),
            inbox.complete_with(leases[2], [_event("c")]),
            return_exceptions=True,
        )
    finally:
        await inbox.close()
    assert [type(end) for end in ends] == [type(None), InboxUnavailable, type(None)]
    stored = await (
        await admin.execute("SELECT source FROM chassis_outbox ORDER BY position")
    ).fetchall()
    assert sorted(stored) == [("a",), ("b",), ("c",)]
    assert stored.index(("a",)) < stored.index(("b",))


async def test_completions_that_travel_together_store_the_events_of_those_that_hold(
    url: str, admin: Connection
) -> None:
    inbox = PostgresInbox(url, 60, 60)
    try:
        await inbox.open()
        leases = await asyncio.gather(*(_claimed(inbox) for _ in range(3)))
        await inbox.release(leases[1])
        ends = await asyncio.gather(
            inbox.complete_with(leases[0], [_event("a"), _event("b")]),
            inbox.complete_with(leases[1], [_event("lost")]),
            inbox.complete_with(leases[2], []),
            return_exceptions=True,
        )
    finally:
        await inbox.close()
    assert [type(end) for end in ends] == [type(None), LeaseLost, type(None)]
    stored = await admin.execute("SELECT source FROM chassis_outbox ORDER BY position")
    assert await stored.fetchall() == [("a",), ("b",)]
    assert await _value(admin, "SELECT count(*) FROM chassis_inbox WHERE done") == 2


async def test_records_that_are_over_are_deleted_in_passing(url: str, admin: Connection) -> None:
    briefly, longer = PostgresInbox(url, 0.01, 60), PostgresInbox(url, 60, 60)
    try:
        await briefly.open()
        await longer.open()
        await asyncio.gather(*(_claimed(briefly) for _ in range(500)))
        await _value(
            admin,
            "SELECT pg_sleep(extract(epoch FROM max(until) - clock_timestamp())) "
            "FROM chassis_inbox",
        )
        await asyncio.gather(*(_claimed(longer) for _ in range(1000)))
    finally:
        await briefly.close()
        await longer.close()
    assert await _value(admin, "SELECT count(*) FROM chassis_inbox WHERE until <= now()") == 0
    assert await _value(admin, "SELECT count(*) FROM chassis_inbox") == 1000


async def test_a_check_that_is_given_up_loses_no_connection(
    postgres: tuple[str, Server], admin: Connection
) -> None:
    """One connection is closed, and the server hangs while the others are looked at."""
    url, server = postgres
    database = Database(url, connections=16, timeout=2.0, patience=2.0)
    await database.open()

    async def all_at_once() -> bool:
        barrier = asyncio.Barrier(4)

        async def hold_one() -> None:
            async with database.statement():
                await barrier.wait()

        held = await asyncio.gather(*(hold_one() for _ in range(4)), return_exceptions=True)
        return held == [None] * 4

    try:
        await _until(all_at_once)
        first = database._statements._pool[0]
        await admin.execute("SELECT pg_terminate_backend(%s, 10000)", [first.info.backend_pid])
        await asyncio.to_thread(server.suspend)
        try:
            with pytest.raises(InboxUnavailable):
                async with database.statement():
                    pytest.fail("the server hangs")
        finally:
            server.resume()
        await _until(all_at_once)
    finally:
        await database.close()


async def _until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await true():
            await asyncio.sleep(0.05)


async def test_a_role_without_the_right_to_create_uses_a_table_that_is_there(
    url: str, admin: Connection
) -> None:
    owner = PostgresInbox(url, 60, 60)
    await owner.open()
    await owner.close()
    await admin.execute("CREATE ROLE service LOGIN")
    await admin.execute(
        "GRANT SELECT, INSERT, UPDATE, DELETE ON chassis_inbox, chassis_outbox TO service"
    )
    await admin.execute("GRANT SELECT ON chassis_schema TO service")
    await admin.execute("GRANT USAGE ON SEQUENCE chassis_inbox_fence TO service")
    inbox = PostgresInbox(url.replace("dockyard@", "service@"), 60, 60)
    try:
        await inbox.open()
        await inbox.complete(await _claimed(inbox))
    finally:
        await inbox.close()


async def test_connections_that_the_server_closed_are_replaced_before_they_fail_a_claim(
    url: str, admin: Connection
) -> None:
    inbox = PostgresInbox(url, 60, 60)
    try:
        await inbox.open()
        await asyncio.gather(*(_claimed(inbox) for _ in range(100)))
        others = (
            "FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        assert await _value(admin, f"SELECT count(pg_terminate_backend(pid, 10000)) {others}") > 1
        await _claimed(inbox)
        await asyncio.gather(*(_claimed(inbox) for _ in range(100)))
    finally:
        await inbox.close()


async def test_a_database_without_the_table_is_unavailable(url: str, admin: Connection) -> None:
    inbox = PostgresInbox(url, 60, 60)
    try:
        await inbox.open()
        await admin.execute("DROP TABLE chassis_inbox")
        with pytest.raises(InboxUnavailable, match="chassis_inbox"):
            await inbox.ping()
    finally:
        await inbox.close()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system cannot limit it")
@pytest.mark.parametrize(
    ("given", "milliseconds"), [("", 30_000), ("tcp_user_timeout=7000", 7_000)]
)
async def test_a_network_that_swallows_everything_is_noticed(
    url: str, given: str, milliseconds: int
) -> None:
    database = Database(
        f"{url}{'&' if '?' in url else '?'}{given}", connections=4, timeout=5.0, patience=5.0
    )
    await database.open()
    async with database.statement() as connection:
        with socket.socket(fileno=os.dup(connection.fileno())) as seen:
            assert seen.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert seen.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == milliseconds
    await database.close()


def test_a_url_that_is_none_is_refused_without_telling_its_password() -> None:
    with pytest.raises(ValueError, match="postgresql://") as caught:
        PostgresInbox("postgresql//user:s3cret@host/database", 60, 60)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__suppress_context__


async def _claimed(inbox: PostgresInbox) -> Lease:
    answer = await inbox.claim(uuid4().hex, "d1")
    assert isinstance(answer, Lease)
    return answer


async def _value(admin: Connection, query: str) -> Any:
    row = await (await admin.execute(query)).fetchone()
    assert row is not None
    return row[0]


async def test_the_hosts_of_a_url_are_tried_until_one_takes_writes(
    url: str, admin: Connection
) -> None:
    scheme, _, rest = url.partition("://")
    login, at, server = rest.rpartition("@")
    several = f"{scheme}://{login}{at}127.0.0.1:{free_port()},{server}"
    inbox = PostgresInbox(
        f"{several}{'&' if '?' in url else '?'}target_session_attrs=read-write", 60, 60
    )
    try:
        await inbox.open()
        await _claimed(inbox)
    finally:
        await inbox.close()


def _event(source: str) -> EncodedEvent:
    return EncodedEvent(Envelope(uuid4().hex, source, "acme.signup.v1.UserSignedUp"), b"body")
