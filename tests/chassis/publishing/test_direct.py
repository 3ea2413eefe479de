"""Publishing from outside of a handler: what each bus promises, and what PostgreSQL adds."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import psycopg
import pytest
from acme.billing.v1.account_opened_pb2 import AccountOpened
from acme.signup.v1.user_signed_up_pb2 import UserSignedUp

from chassis import Context, Service, Unavailable, connected
from chassis.bus import Delivery, Subscription, Unpublishable
from chassis.contracts.envelope import BadKey
from chassis.inbox.postgres.inbox import PostgresInbox
from chassis.publishing.direct import NoOutbox
from chassis.service import NotConnected
from chassis.settings import Settings, load
from chassis.testing import Harness
from tests.brokers.process import free_port
from tests.chassis.bus_labs import LABS, Lab
from tests.chassis.postgres_lab import Database
from tests.waiting import PATIENCE, eventually

OPENED = "acme.billing.v1.AccountOpened"

pytestmark = pytest.mark.usefixtures("log_lines")


@pytest.fixture
def service() -> Service:
    return Service("billing-svc")


# Without an outbox: the broker confirms.


@pytest.fixture(params=[name for name in LABS if name != "memory"])
async def lab(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Lab]:
    async with LABS[request.param](tmp_path) as lab:
        yield lab


def on(lab: Lab) -> Settings:
    return load({}, bus_url=lab.url, inbox_url="memory://")


async def test_a_script_publishes_events_that_the_broker_has_confirmed(
    lab: Lab, service: Service
) -> None:
    got: list[Delivery] = []

    async def keep(delivery: Delivery) -> None:
        got.append(delivery)
        delivery.done()

    async with AsyncExitStack() as stack:
        reader = lab.bus("reader-svc")
        reader.subscribe(Subscription("reader-svc", frozenset({OPENED}), 10), keep)
        await reader.start()
        stack.push_async_callback(reader.close)
        await asyncio.wait_for(reader.wait_ready(), PATIENCE)
        async with connected(service, on(lab)):
            given = await service.publish(AccountOpened(account_id="a-1"), id="order-1/ü")
            drawn = await service.publish(AccountOpened(account_id="a-2"))
        await eventually(lambda: len(got) == 2)
    assert given == "order-1/ü"
    events = {each.envelope().id: AccountOpened.FromString(each.body).account_id for each in got}
    assert events == {given: "a-1", drawn: "a-2"}
    assert {each.envelope().source for each in got} == {"billing-svc"}


async def test_without_the_broker_publishing_fails_at_once_and_works_again_later(
    lab: Lab, service: Service
) -> None:
    assert lab.server is not None
    async with connected(service, on(lab)):
        await lab.server.stop()
        try:
            with pytest.raises(Unavailable):
                async with asyncio.timeout(PATIENCE):
                    await service.publish(AccountOpened(), id="e-1")
        finally:
            await lab.server.start()
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    await service.publish(AccountOpened(), id="e-1")
                except Unavailable:
                    await asyncio.sleep(0.05)
                else:
                    break


async def test_a_script_without_a_broker_says_where_it_has_looked(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.replica.scripts.CONNECT_SECONDS", 0.1)
    away = load({}, bus_url=f"nats://user:secret@127.0.0.1:{free_port()}", inbox_url="memory://")
    with pytest.raises(Unavailable, match="no broker answers at nats://") as raised:
        async with connected(service, away):
            pytest.fail("it is not connected")
    assert "secret" not in str(raised.value)


async def test_only_a_service_that_runs_publishes(service: Service) -> None:
    with pytest.raises(NotConnected, match=r"async with connected\(service\)"):
        await service.publish(AccountOpened())
    with pytest.raises(NotConnected, match=r"service\.transaction\(\) works while billing-svc"):
        service.transaction()


async def test_an_event_that_is_too_large_is_refused(service: Service) -> None:
    async with Harness(service, max_body_bytes=10) as harness:
        with pytest.raises(Unpublishable, match="at most 10 allowed"):
            await service.publish(AccountOpened(account_id="far too long"))
        assert harness.published == []


@pytest.mark.parametrize("given", ["", "x" * 1025])
async def test_an_id_that_no_event_can_have_is_refused(service: Service, given: str) -> None:
    async with Harness(service):
        with pytest.raises(BadKey, match="an id has 1 to 1024 characters"):
            await service.publish(AccountOpened(), id=given)


async def test_a_transaction_needs_postgresql(service: Service) -> None:
    async with Harness(service):
        with pytest.raises(NoOutbox, match="CHASSIS_INBOX_URL=postgresql://"):
            async with service.transaction():
                pytest.fail("there is no transaction")


async def test_the_harness_keeps_what_is_published_from_anywhere(service: Service) -> None:
    @service.on(UserSignedUp)
    async def note(event: UserSignedUp, ctx: Context) -> None:
        await service.publish(AccountOpened(account_id=event.user_id), id=ctx.idempotency_key)

    async with Harness(service) as harness:
        await service.publish(AccountOpened(account_id="a-1"))
        assert await harness.send(UserSignedUp(user_id="a-2")) == "done"
    assert harness.published == [AccountOpened(account_id="a-1"), AccountOpened(account_id="a-2")]
    assert service.direct is None


# With PostgreSQL: through the outbox.


@pytest.fixture
async def stored(
    db: Database, service: Service, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Database]:
    """A service that is connected to `db`, and to no broker."""
    nowhere = load({}, bus_url=f"nats://127.0.0.1:{free_port()}")
    monkeypatch.setattr("chassis.adapters.open_inbox", lambda _: PostgresInbox(db.url, 60, 3600))
    async with connected(service, nowhere):
        yield db


async def ids(db: Database) -> list[str]:
    rows = await db.admin.execute("SELECT headers ->> 'cloudEvents:id' FROM chassis_outbox")
    return [row[0] async for row in rows]


async def test_an_event_is_stored_for_the_relay(stored: Database, service: Service) -> None:
    assert await service.publish(AccountOpened(), id="e-1") == "e-1"
    assert await ids(stored) == ["e-1"]


async def test_writes_and_events_of_a_request_commit_together(
    stored: Database, service: Service
) -> None:
    async with service.transaction() as tx:
        await tx.connection.execute("INSERT INTO effects VALUES ('one')")
        first = tx.publish(AccountOpened())
        second = tx.publish(AccountOpened())
        assert (await stored.effects(), await stored.waiting()) == ([], 0)
    assert await stored.effects() == ["one"]
    assert await ids(stored) == [first, second]
    assert first != second
    assert await stored.value("SELECT count(*) FROM chassis_inbox") == 0, "no key, no record"


@pytest.mark.parametrize("key", [None, "k-1"])
async def test_a_request_that_fails_leaves_nothing(
    stored: Database, service: Service, key: str | None
) -> None:
    async def request() -> None:
        async with service.transaction(key=key) as tx:
            await tx.connection.execute("INSERT INTO effects VALUES ('one')")
            tx.publish(AccountOpened())
            raise OSError("the payment failed")

    with pytest.raises(OSError, match="the payment failed"):
        await request()
    assert (await stored.effects(), await stored.waiting()) == ([], 0)
    assert await stored.value("SELECT count(*) FROM chassis_inbox") == 0


async def test_a_repeated_key_changes_nothing_and_says_so(
    stored: Database, service: Service
) -> None:
    seen = []
    for _ in range(3):
        async with service.transaction(key="k-1") as tx:
            await tx.connection.execute("INSERT INTO effects VALUES ('one')")
            seen.append((tx.repeated, tx.publish(AccountOpened())))
    assert [repeated for repeated, _ in seen] == [False, True, True]
    assert len({event_id for _, event_id in seen}) == 1, "a key gives the ids"
    assert await stored.effects() == ["one"]
    assert await ids(stored) == [seen[0][1]]


async def test_copies_at_once_are_one_request(stored: Database, service: Service) -> None:
    async def copy() -> None:
        async with service.transaction(key="k-1") as tx:
            await tx.connection.execute("INSERT INTO effects VALUES ('one')")
            tx.publish(AccountOpened())

    await asyncio.gather(*(copy() for _ in range(5)))
    assert (await stored.effects(), await stored.waiting()) == (["one"], 1)


async def test_a_copy_takes_over_from_one_that_fails(stored: Database, service: Service) -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(service.transaction(key="k-1"))
        assert not first.repeated

        async def copy() -> bool:
            async with service.transaction(key="k-1") as tx:
                tx.publish(AccountOpened())
                return tx.repeated

        copying = asyncio.create_task(copy())
        await stored.until(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE wait_event_type = 'Lock' AND query LIKE '%chassis_inbox%'",
            1,
        )
        await first.connection.execute("SELECT 1")
        with pytest.raises(ZeroDivisionError):
            async with stack.pop_all():
                raise ZeroDivisionError
    assert await asyncio.wait_for(copying, PATIENCE) is False
    assert await stored.waiting() == 1


async def test_a_key_is_new_again_after_the_retention(stored: Database, service: Service) -> None:
    async with service.transaction(key="k-1"):
        pass
    await stored.admin.execute("UPDATE chassis_inbox SET until = clock_timestamp()")
    async with service.transaction(key="k-1") as tx:
        assert not tx.repeated


async def test_keys_of_requests_that_are_over_are_deleted_in_passing(
    stored: Database, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.inbox.postgres.inbox._CLAIMS_PER_EXPIRY", 3)
    inbox = PostgresInbox(stored.url, 60, 0.01)
    await inbox.open()
    try:
        for number in range(9):
            request = await inbox.begin_request(f"k-{number}")
            await request.commit([])
            await stored.until("SELECT bool_and(until < clock_timestamp()) FROM chassis_inbox")
        assert await stored.value("SELECT count(*) FROM chassis_inbox") < 9
    finally:
        await inbox.close()


async def test_a_lost_connection_is_an_outage_and_not_the_requests_fault(
    stored: Database, service: Service
) -> None:
    async def request() -> None:
        async with service.transaction(key="k-1") as tx:
            own = tx.connection.info.backend_pid
            await stored.admin.execute("SELECT pg_terminate_backend(%s)", (own,))
            await tx.connection.execute("INSERT INTO effects VALUES ('one')")

    with pytest.raises(Unavailable, match="the store failed in a request's transaction"):
        await request()
    assert (await stored.effects(), await stored.waiting()) == ([], 0)
    async with service.transaction(key="k-1") as tx:
        assert not tx.repeated


async def test_a_refused_statement_is_the_requests_own_error(
    stored: Database, service: Service
) -> None:
    with pytest.raises(psycopg.errors.UndefinedTable):
        async with service.transaction(key="k-1") as tx:
            await tx.connection.execute("INSERT INTO nowhere VALUES ('one')")


async def test_the_harness_publishes_what_a_transaction_commits(
    db: Database, service: Service
) -> None:
    async with Harness(service, database=db.url) as harness:
        for _ in range(2):
            async with service.transaction(key="k-1") as tx:
                await tx.connection.execute("INSERT INTO effects VALUES ('one')")
                tx.publish(AccountOpened(account_id="a-1"))
        await service.publish(AccountOpened(account_id="a-2"))
    assert harness.published == [AccountOpened(account_id="a-1"), AccountOpened(account_id="a-2")]
    assert await db.effects() == ["one"]
