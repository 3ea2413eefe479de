"""`ctx.transaction()` commits a handler's writes, its events and its completion together."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, LiteralString

import psycopg
import pytest
from acme.billing.v1.account_opened_pb2 import AccountOpened
from acme.signup.v1.user_signed_up_pb2 import UserSignedUp
from psycopg.rows import dict_row

from chassis import Context, Reject, Service
from chassis.contracts.envelope import derived_id
from chassis.inbox import Refusal, Refused, inbox_key, payload_digest
from tests.chassis.pipeline import Pipeline, delivered
from tests.chassis.postgres_lab import Database, replica
from tests.waiting import PATIENCE

pytestmark = pytest.mark.usefixtures("log_lines")

Handle = Callable[[UserSignedUp, Context], Awaitable[None]]
EVENT = UserSignedUp(user_id="ada")
KEY = inbox_key("billing-svc", "open_account", "shop\0e-1")
DIGEST = payload_digest(EVENT.SerializeToString())
DISK_FULL: LiteralString = """
    CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'could not extend file: No space left' USING ERRCODE = '53100'; END
    $$;
    CREATE TRIGGER fail BEFORE INSERT ON effects EXECUTE FUNCTION fail();
    CREATE TRIGGER fail BEFORE UPDATE ON chassis_inbox EXECUTE FUNCTION fail();
"""


def service(handle: Handle) -> Service:
    made = Service("billing-svc", version="1.2.3")

    @made.on(UserSignedUp)
    async def open_account(event: UserSignedUp, ctx: Context) -> None:
        await handle(event, ctx)

    return made


async def write(event: UserSignedUp, ctx: Context) -> None:
    connection = await ctx.transaction()
    await connection.execute("INSERT INTO effects VALUES (%s)", (event.user_id,))
    ctx.publish(AccountOpened(account_id="a-1"))
    ctx.publish(AccountOpened(account_id="a-2"))


async def test_writes_events_and_completion_are_there_together(db: Database) -> None:
    async with replica(service(write), db.url) as one:
        assert (await one.take(delivered(EVENT))).outcome == "done"
        assert (await one.take(delivered(EVENT))).outcome == "done"
    assert await db.effects() == ["ada"]
    assert (
        one.metrics.registry.get_sample_value(
            "chassis_inbox_claims_total", {"outcome": "duplicate"}
        )
        == 1
    )
    assert one.bus.published == []
    ids = await db.admin.execute(
        "SELECT headers ->> 'cloudEvents:id' FROM chassis_outbox ORDER BY position"
    )
    assert [row[0] async for row in ids] == [derived_id(KEY, 0), derived_id(KEY, 1)]


async def test_a_handler_that_raises_after_its_writes_has_written_nothing(db: Database) -> None:
    async def fail(event: UserSignedUp, ctx: Context) -> None:
        await write(event, ctx)
        if ctx.attempt == 1:
            raise OSError("no")

    async with replica(service(fail), db.url) as one:
        assert (await one.take(delivered(EVENT))).outcome == "later"
        assert await db.effects() == []
        assert await db.waiting() == 0
        assert await db.value("SELECT count(*) FROM chassis_inbox") == 0
        assert (await one.take(delivered(EVENT, attempt=2))).outcome == "done"
    assert await db.effects() == ["ada"]
    assert await db.waiting() == 2


async def test_without_a_transaction_events_are_still_stored_with_the_completion(
    db: Database,
) -> None:
    async def publish(event: UserSignedUp, ctx: Context) -> None:
        ctx.publish(AccountOpened(account_id="a-1"))

    async with replica(service(publish), db.url) as one:
        one.bus.refusing = True
        assert (await one.take(delivered(EVENT))).outcome == "done"
    assert await db.waiting() == 1


async def test_an_event_that_is_too_large_fails_the_handling(db: Database) -> None:
    async def publish(event: UserSignedUp, ctx: Context) -> None:
        await write(event, ctx)
        ctx.publish(AccountOpened(account_id="a" * 600_000))

    async with replica(service(publish), db.url) as one:
        assert (await one.take(delivered(EVENT, attempt=2))).buried.message.startswith(
            "acme.billing.v1.AccountOpened"
        )
    assert await db.effects() == []
    assert await db.waiting() == 0


async def test_who_lost_the_fence_before_the_transaction_writes_nothing(db: Database) -> None:
    async def wait(event: UserSignedUp, ctx: Context) -> None:
        await db.admin.execute("UPDATE chassis_inbox SET fence = nextval('chassis_inbox_fence')")
        await write(event, ctx)

    async with replica(service(wait), db.url) as one:
        assert (await one.take(delivered(EVENT))).outcome == "hand_back"
    assert await db.effects() == []
    assert await db.waiting() == 0
    assert one.metrics.registry.get_sample_value("chassis_inbox_leases_lost_total") == 1


async def test_who_lost_the_fence_and_hides_it_still_writes_nothing(db: Database) -> None:
    async def wait(event: UserSignedUp, ctx: Context) -> None:
        await db.admin.execute("UPDATE chassis_inbox SET fence = nextval('chassis_inbox_fence')")
        try:
            await write(event, ctx)
        except Exception:  # noqa: BLE001 - as bad handlers do
            ctx.publish(AccountOpened(account_id="a-3"))

    async with replica(service(wait), db.url) as one:
        assert (await one.take(delivered(EVENT))).outcome == "hand_back"
    assert await db.waiting() == 0


async def test_who_lost_the_fence_without_a_transaction_stores_no_events(db: Database) -> None:
    async def publish(event: UserSignedUp, ctx: Context) -> None:
        await db.admin.execute("UPDATE chassis_inbox SET fence = nextval('chassis_inbox_fence')")
        ctx.publish(AccountOpened(account_id="a-1"))

    async with replica(service(publish), db.url) as one:
        assert (await one.take(delivered(EVENT))).outcome == "hand_back"
    assert await db.waiting() == 0


async def test_nobody_takes_over_while_a_transaction_is_open_also_when_the_lease_is_over(
    db: Database,
) -> None:
    written, go_on = asyncio.Event(), asyncio.Event()

    async def hold(event: UserSignedUp, ctx: Context) -> None:
        await db.admin.execute(
            "UPDATE chassis_inbox SET until = clock_timestamp() + interval '300 ms'"
        )
        await write(event, ctx)
        written.set()
        await go_on.wait()

    delivery = delivered(EVENT)
    async with replica(service(hold), db.url) as one, replica(service(write), db.url) as other:
        handling = one.begin(delivery)
        await written.wait()
        await db.until("SELECT until < clock_timestamp() FROM chassis_inbox")
        refused = await other.inbox.claim(KEY, DIGEST)
        assert isinstance(refused, Refused)
        assert refused.refusal is Refusal.BUSY
        assert refused.retry_after >= 1
        go_on.set()
        await handling
    assert delivery.outcome == "done"
    assert await db.effects() == ["ada"]


async def test_each_call_gives_the_same_connection(db: Database) -> None:
    seen: list[object] = []

    async def ask(event: UserSignedUp, ctx: Context) -> None:
        seen.extend(await asyncio.gather(ctx.transaction(), ctx.transaction()))
        seen.append(await ctx.transaction())

    async with replica(service(ask), db.url) as one:
        assert (await one.take(delivered(EVENT))).outcome == "done"
    assert len(seen) == 3
    assert len(set(map(id, seen))) == 1


@pytest.mark.parametrize("method", ["commit", "rollback"])
async def test_a_handler_cannot_end_its_transaction(db: Database, method: str) -> None:
    async def end(event: UserSignedUp, ctx: Context) -> None:
        await write(event, ctx)
        await getattr(await ctx.transaction(), method)()

    async with replica(service(end), db.url) as one:
        assert "forbidden" in (await one.take(delivered(EVENT, attempt=2))).buried.message
    assert await db.effects() == []


@pytest.mark.parametrize("statement", ["COMMIT", "ROLLBACK", "COMMIT; BEGIN"])
async def test_a_handler_that_ends_it_by_a_statement_is_found_out_and_not_tried_again(
    db: Database, statement: str
) -> None:
    async def end(event: UserSignedUp, ctx: Context) -> None:
        await write(event, ctx)
        await (await ctx.transaction()).execute(statement.encode())

    async with replica(service(end), db.url) as one:
        failure = (await one.take(delivered(EVENT))).buried
        assert (failure.reason, failure.message[:43]) == (
            "rejected",
            "the handler ended its transaction itself: i",
        )
        assert (
            await one.take(delivered(UserSignedUp(user_id="bob"), "e-2"))
        ).buried.reason == "rejected"
    assert await db.waiting() == 0


async def test_a_part_can_be_undone_inside_a_block(db: Database) -> None:
    async def try_it(event: UserSignedUp, ctx: Context) -> None:
        connection = await ctx.transaction()
        try:
            async with connection.transaction():
                await connection.execute("INSERT INTO effects VALUES ('undone')")
                await connection.execute("SELECT 1 / 0")
        except psycopg.errors.DivisionByZero:
            await connection.execute("INSERT INTO effects VALUES ('kept')")

    async with replica(service(try_it), db.url) as one:
        assert (await one.take(delivered(EVENT))).outcome == "done"
    assert await db.effects() == ["kept"]


async def test_a_failed_statement_that_a_handler_hides_fails_the_handling(db: Database) -> None:
    async def hide(event: UserSignedUp, ctx: Context) -> None:
        await write(event, ctx)
        try:
            await (await ctx.transaction()).execute("SELECT 1 / 0")
        except psycopg.Error:
            return

    async with replica(service(hide), db.url) as one:
        assert "went on" in (await one.take(delivered(EVENT, attempt=2))).buried.message
    assert await db.effects() == []


async def test_what_the_commit_refuses_is_the_handlers_failure(db: Database) -> None:
    await db.admin.execute("ALTER TABLE effects ADD UNIQUE (what) DEFERRABLE INITIALLY DEFERRED")
    await db.admin.execute("INSERT INTO effects VALUES ('ada')")
    async with replica(service(write), db.url) as one:
        assert (
            await one.take(delivered(EVENT, attempt=2))
        ).buried.error == "psycopg.errors.UniqueViolation"
        assert (await one.take(delivered(UserSignedUp(user_id="bob"), "e-2"))).outcome == "done"
    assert await db.effects() == ["ada", "bob"]


async def test_a_connection_that_is_cut_costs_no_attempt_and_leaves_nothing(db: Database) -> None:
    async def cut(event: UserSignedUp, ctx: Context) -> None:
        await write(event, ctx)
        connection = await ctx.transaction()
        await db.admin.execute(
            "SELECT pg_terminate_backend(%s, 10000)", (connection.info.backend_pid,)
        )
        await connection.execute("SELECT 1")

    async with replica(service(cut), db.url) as one:
        assert (await one.take(delivered(EVENT, attempt=2))).outcome == "hand_back"
    assert await db.effects() == []
    assert await db.value("SELECT count(*) FROM chassis_inbox") == 0


async def test_a_connection_that_is_cut_before_the_commit_leaves_nothing(db: Database) -> None:
    async def cut(event: UserSignedUp, ctx: Context) -> None:
        await write(event, ctx)
        pid = (await ctx.transaction()).info.backend_pid
        await db.admin.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))

    async with replica(service(cut), db.url) as one:
        assert (await one.take(delivered(EVENT, attempt=2))).outcome == "hand_back"
    assert await db.effects() == []
    assert await db.waiting() == 0


async def test_a_handler_that_is_cancelled_in_its_transaction_has_written_nothing(
    db: Database,
) -> None:
    written = asyncio.Event()

    async def hang(event: UserSignedUp, ctx: Context) -> None:
        await write(event, ctx)
        written.set()
        await (await ctx.transaction()).execute("SELECT pg_sleep(600)")

    delivery = delivered(EVENT)
    async with replica(service(hang), db.url) as one:
        handling = one.begin(delivery)
        await written.wait()
        assert await one.consumer.drain(0) == 1
        with pytest.raises(asyncio.CancelledError):
            await handling
    assert delivery.outcome == "hand_back"
    assert await db.effects() == []
    assert await db.value("SELECT count(*) FROM chassis_inbox") == 0


async def test_more_handlers_than_connections_take_turns(db: Database) -> None:
    async with replica(service(write), db.url, connections=4) as one:
        deliveries = [delivered(EVENT, f"e-{number}") for number in range(100)]
        await asyncio.gather(*(one.take(delivery) for delivery in deliveries))
    assert {delivery.outcome for delivery in deliveries} == {"done"}
    assert len(await db.effects()) == 100


async def test_while_handlers_hold_all_connections_others_wait_a_while_and_come_again(
    db: Database,
) -> None:
    holding, go_on = asyncio.Semaphore(0), asyncio.Event()

    async def hold(event: UserSignedUp, ctx: Context) -> None:
        if event.user_id == "no transaction":
            return
        await write(event, ctx)
        holding.release()
        await go_on.wait()

    async with replica(service(hold), db.url, connections=4, patience=1.0) as one:
        holders = [delivered(EVENT, f"e-{number}") for number in range(2)]
        handling = [one.begin(delivery) for delivery in holders]
        for _ in holders:
            await holding.acquire()
        late = await one.take(delivered(EVENT, "late", attempt=2))
        assert late.outcome == "hand_back"
        free = await one.take(delivered(UserSignedUp(user_id="no transaction"), "free"))
        assert free.outcome == "done"
        go_on.set()
        await asyncio.wait_for(asyncio.gather(*handling), PATIENCE)
        assert [delivery.outcome for delivery in holders] == ["done", "done"]
        assert (await one.take(delivered(EVENT, "late", attempt=2))).outcome == "done"


async def test_a_handler_that_waits_first_holds_no_connection(db: Database) -> None:
    waiting, go_on = asyncio.Semaphore(0), asyncio.Event()

    async def wait(event: UserSignedUp, ctx: Context) -> None:
        waiting.release()
        await go_on.wait()
        await write(event, ctx)

    async with replica(service(wait), db.url, connections=4) as one:
        deliveries = [delivered(EVENT, f"e-{number}") for number in range(20)]
        handling = [one.begin(delivery) for delivery in deliveries]
        for _ in deliveries:
            await waiting.acquire()
        idle = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'"
        assert await db.value(idle) == 0
        go_on.set()
        await asyncio.wait_for(asyncio.gather(*handling), PATIENCE)
    assert len(await db.effects()) == 20


async def test_what_a_handler_sets_on_its_connection_does_not_reach_the_next(db: Database) -> None:
    rows: list[Any] = []

    async def look(event: UserSignedUp, ctx: Context) -> None:
        connection = await ctx.transaction()
        rows.append(await (await connection.execute("SELECT 1 AS one")).fetchone())
        connection.row_factory = dict_row  # type: ignore[assignment]  # as handlers do

    async with replica(service(look), db.url) as one:
        for number in range(2):
            assert (await one.take(delivered(EVENT, f"e-{number}"))).outcome == "done"
    assert rows == [(1,), (1,)]


async def test_a_transaction_cannot_be_begun_by_what_outlives_the_handler(db: Database) -> None:
    returned = asyncio.Event()
    left: list[asyncio.Task[Any]] = []

    async def leave(event: UserSignedUp, ctx: Context) -> None:
        async def later() -> None:
            await returned.wait()
            await ctx.transaction()

        left.append(asyncio.create_task(later()))

    async with replica(service(leave), db.url) as one:
        assert (await one.take(delivered(EVENT))).outcome == "done"
        returned.set()
        with pytest.raises(RuntimeError, match="after its handler had returned"):
            await left[0]


async def test_a_rejected_event_leaves_nothing_behind(db: Database) -> None:
    async def reject(event: UserSignedUp, ctx: Context) -> None:
        await write(event, ctx)
        raise Reject("no")

    async with replica(service(reject), db.url) as one:
        assert (await one.take(delivered(EVENT))).buried.reason == "rejected"
    assert await db.effects() == []


async def test_another_inbox_pauses_and_says_which_one_is_needed() -> None:
    async def open_account(event: UserSignedUp, ctx: Context) -> None:
        await ctx.transaction()

    pipeline = Pipeline({UserSignedUp: [open_account]}, max_attempts=1)
    assert (await pipeline.take(delivered(EVENT))).outcome == "hand_back"
    assert "CHASSIS_INBOX_URL=postgresql://" in str(pipeline.consumer.setup_fault)
    assert pipeline.metric("chassis_consumer_paused", reason="setup") == 1


async def test_a_server_that_refuses_writes_in_the_middle_costs_no_attempt(db: Database) -> None:
    async def fill(event: UserSignedUp, ctx: Context) -> None:
        connection = await ctx.transaction()
        await db.admin.execute(DISK_FULL)
        await connection.execute("INSERT INTO effects VALUES ('the last straw')")

    async with replica(service(fill), db.url) as one:
        assert (await one.take(delivered(EVENT, attempt=2))).outcome == "hand_back"
    assert await db.effects() == []


async def test_a_statement_that_fails_on_a_healthy_server_costs_an_attempt(db: Database) -> None:
    async def fail(event: UserSignedUp, ctx: Context) -> None:
        connection = await ctx.transaction()
        await connection.execute("SET TRANSACTION READ ONLY")
        await connection.execute("INSERT INTO effects VALUES ('never')")

    async with replica(service(fail), db.url) as one:
        assert (await one.take(delivered(EVENT, attempt=2))).outcome == "dead"
