"""`batch.transaction()`: writes, completions and events of a whole batch commit together."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from acme.billing.v1.account_opened_pb2 import AccountOpened
from acme.signup.v1.user_signed_up_pb2 import UserSignedUp

from chassis import Batch, Service
from chassis.testing import Harness
from tests.chassis.pipeline import Delivered, delivered
from tests.chassis.postgres_lab import Database, Replica, replica
from tests.waiting import PATIENCE

pytestmark = pytest.mark.usefixtures("log_lines")

Handle = Callable[[Batch[UserSignedUp]], Awaitable[None]]


def service(handle: Handle, size: int = 3) -> Service:
    made = Service("billing-svc", version="1.2.3")

    @made.on_batch(UserSignedUp, size=size, wait=5, transaction=True)
    async def store(batch: Batch[UserSignedUp]) -> None:
        await handle(batch)

    return made


async def write(batch: Batch[UserSignedUp]) -> None:
    connection = await batch.transaction()
    for item in batch:
        if item.event.user_id == "nobody":
            item.reject("no such user")
            continue
        await connection.execute("INSERT INTO effects VALUES (%s)", (item.event.user_id,))
        item.ctx.publish(AccountOpened(account_id=item.event.user_id))


async def take(one: Replica, *names: str) -> list[Delivered]:
    deliveries = [delivered(UserSignedUp(user_id=name), f"e-{name}") for name in names]
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*(one.begin(delivery) for delivery in deliveries))
    return deliveries


async def test_a_batch_commits_once_with_its_events(db: Database) -> None:
    seen: list[str] = []

    async def handle(batch: Batch[UserSignedUp]) -> None:
        await write(batch)
        connection = await batch.transaction()
        row = await (await connection.execute("SELECT pg_current_xact_id()::text")).fetchone()
        assert row is not None
        seen.append(row[0])

    async with replica(service(handle), db.url) as one:
        taken = await take(one, "ada", "bob", "eve")
        assert [delivery.outcome for delivery in taken] == ["done"] * 3
        assert await db.effects() == ["ada", "bob", "eve"]
        assert await db.waiting() == 3
        versions = await db.admin.execute("SELECT DISTINCT xmin::text FROM effects")
        assert [row[0] async for row in versions] == seen
        assert await db.value("SELECT count(*) FROM chassis_inbox WHERE done") == 3
        again = await take(one, "ada", "bob", "eve")
        assert [delivery.outcome for delivery in again] == ["done"] * 3
    assert await db.effects() == ["ada", "bob", "eve"]


async def test_an_event_that_is_rejected_leaves_the_others_in_the_transaction(db: Database) -> None:
    async with replica(service(write), db.url) as one:
        ada, nobody, eve = await take(one, "ada", "nobody", "eve")
        assert (ada.outcome, nobody.outcome, eve.outcome) == ("done", "dead", "done")
    assert await db.effects() == ["ada", "eve"]
    assert await db.waiting() == 2


async def test_a_handler_that_raises_undoes_all_settled_or_not(db: Database) -> None:
    async def handle(batch: Batch[UserSignedUp]) -> None:
        await write(batch)
        batch.items[0].done()
        raise OSError("no")

    async with replica(service(handle), db.url) as one:
        taken = await take(one, "ada", "bob", "eve")
        assert [delivery.outcome for delivery in taken] == ["later"] * 3
        assert await db.effects() == []
        assert await db.waiting() == 0
        assert await db.value("SELECT count(*) FROM chassis_inbox") == 0


async def test_a_claim_that_another_replica_has_taken_over_undoes_the_batch(db: Database) -> None:
    async def handle(batch: Batch[UserSignedUp]) -> None:
        [bobs] = [item.ctx for item in batch if item.event.user_id == "bob"]
        await db.admin.execute(
            "UPDATE chassis_inbox SET fence = fence + 100 WHERE key = %s", (bobs.idempotency_key,)
        )
        await write(batch)

    async with replica(service(handle), db.url) as one:
        ada, bob, eve = await take(one, "ada", "bob", "eve")
        assert bob.outcome == "hand_back"
        assert [(each.outcome, each.counted) for each in (ada, eve)] == [("later", False)] * 2
    assert await db.effects() == []


async def test_a_drain_at_its_deadline_undoes_the_batch_and_hands_all_back(db: Database) -> None:
    begun = asyncio.Event()

    async def handle(batch: Batch[UserSignedUp]) -> None:
        await write(batch)
        begun.set()
        await asyncio.Event().wait()

    async with replica(service(handle), db.url) as one:
        deliveries = [
            delivered(UserSignedUp(user_id=name), f"e-{name}") for name in ("ada", "bob", "eve")
        ]
        tasks = [one.begin(delivery) for delivery in deliveries]
        await asyncio.wait_for(begun.wait(), PATIENCE)
        assert await one.consumer.drain(0) == 3
        await asyncio.gather(*tasks, return_exceptions=True)
        assert [delivery.outcome for delivery in deliveries] == ["hand_back"] * 3
        assert await db.effects() == []
        assert await db.value("SELECT count(*) FROM chassis_inbox") == 0


async def test_an_event_with_a_transaction_of_its_own_cannot_join_that_of_the_batch(
    db: Database,
) -> None:
    async def handle(batch: Batch[UserSignedUp]) -> None:
        await batch.items[0].ctx.transaction()
        await batch.transaction()

    async with Harness(service(handle), database=db.url, max_attempts=1) as harness:
        assert await harness.send(UserSignedUp()) == "dead"
        assert (
            "use batch.transaction() or item.ctx.transaction()" in harness.dead_letters[0].message
        )


async def test_the_harness_handles_a_batch_in_its_transaction(db: Database) -> None:
    async with Harness(service(write, size=10), database=db.url) as harness:
        outcomes = await harness.send_all(
            *(UserSignedUp(user_id=name) for name in ("ada", "nobody", "eve"))
        )
        assert outcomes == ["done", "dead", "done"]
        assert harness.published == [
            AccountOpened(account_id="ada"),
            AccountOpened(account_id="eve"),
        ]
    assert await db.effects() == ["ada", "eve"]
