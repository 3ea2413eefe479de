"""The chassis' tables in PostgreSQL: made, changed and taken over, by many at once."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from chassis.inbox import InboxUnavailable, Lease, Refusal, Refused
from chassis.inbox.postgres.inbox import PostgresInbox
from chassis.inbox.postgres.schema import STEPS, SchemaOutdated
from tests.chassis.postgres_lab import Database

pytestmark = pytest.mark.usefixtures("log_lines")

FORMER = (
    "CREATE SEQUENCE chassis_inbox_fence",
    """
    CREATE TABLE chassis_inbox (
        key text PRIMARY KEY, digest text NOT NULL, fence bigint NOT NULL, done boolean NOT NULL,
        until timestamptz NOT NULL
    )
    """,
    "CREATE INDEX chassis_inbox_until ON chassis_inbox (until)",
    (
        "INSERT INTO chassis_inbox "
        "VALUES ('done', 'd', nextval('chassis_inbox_fence'), true, now() + interval '1 day')"
    ),
    (
        "INSERT INTO chassis_inbox "
        "VALUES ('held', 'd', nextval('chassis_inbox_fence'), false, now() + interval '1 day')"
    ),
)
"""What the chassis made before it numbered its steps, with two claims in it."""


async def test_migrating_says_what_it_did_and_a_second_time_does_nothing(db: Database) -> None:
    async with AsyncExitStack() as stack:
        inbox = PostgresInbox(db.url, 60, 60)
        stack.push_async_callback(inbox.close)
        assert await inbox.migrate() == [
            f"{number}: {what}" for number, (what, _) in enumerate(STEPS, start=1)
        ]
        assert await inbox.migrate() == []
    assert await db.value("SELECT array_agg(version ORDER BY version) FROM chassis_schema") == list(
        range(1, len(STEPS) + 1)
    )


async def test_of_many_that_migrate_at_once_one_does_it(db: Database) -> None:
    async with AsyncExitStack() as stack:
        inboxes = [PostgresInbox(db.url, 60, 60) for _ in range(10)]
        for inbox in inboxes:
            stack.push_async_callback(inbox.close)
        said = await asyncio.gather(*(inbox.migrate() for inbox in inboxes))
    assert sorted(map(len, said)) == [0] * 9 + [len(STEPS)]


async def test_the_tables_of_the_former_chassis_are_taken_over_with_their_claims(
    db: Database,
) -> None:
    for statement in FORMER:
        await db.admin.execute(statement)
    async with AsyncExitStack() as stack:
        inbox = PostgresInbox(db.url, 60, 60)
        stack.push_async_callback(inbox.close)
        await inbox.open()
        assert await inbox.claim("done", "d") == Refused(Refusal.DUPLICATE)
        held = await inbox.claim("held", "d")
        assert isinstance(held, Refused)
        assert held.refusal is Refusal.BUSY
        given = await inbox.claim("new", "d")
        assert isinstance(given, Lease)
        assert given.fence > 2
    assert await db.value("SELECT count(*) FROM chassis_schema") == len(STEPS)


async def test_a_step_that_fails_leaves_nothing_behind(db: Database) -> None:
    await db.admin.execute(
        "CREATE VIEW chassis_outbox AS SELECT 1"
    )  # in the way of the second step
    async with AsyncExitStack() as stack:
        inbox = PostgresInbox(db.url, 60, 60)
        stack.push_async_callback(inbox.close)
        with pytest.raises(InboxUnavailable, match="chassis_outbox"):
            await inbox.open()
        assert await db.value("SELECT to_regclass('chassis_inbox')") is None
        await db.admin.execute("DROP VIEW chassis_outbox")
        await inbox.open()


async def test_who_may_not_migrate_says_which_command_does_and_works_once_it_has(
    db: Database,
) -> None:
    async with AsyncExitStack() as stack:
        replica, job = PostgresInbox(db.url, 60, 60, migrates=False), PostgresInbox(db.url, 60, 60)
        for inbox in (replica, job):
            stack.push_async_callback(inbox.close)
        with pytest.raises(
            SchemaOutdated,
            match=rf"at step 0, this chassis needs step {len(STEPS)}: run .* `migrate`",
        ):
            await replica.open()
        await job.migrate()
        await replica.open()
        assert isinstance(await replica.claim("k", "d"), Lease)


async def test_the_tables_of_a_later_chassis_are_good_enough(db: Database) -> None:
    async with AsyncExitStack() as stack:
        inbox = PostgresInbox(db.url, 60, 60)
        stack.push_async_callback(inbox.close)
        await inbox.migrate()
        await db.admin.execute("INSERT INTO chassis_schema (version) VALUES (99)")
        assert await inbox.migrate() == []
        strict = PostgresInbox(db.url, 60, 60, migrates=False)
        stack.push_async_callback(strict.close)
        await strict.open()


async def test_a_role_without_the_right_to_create_is_told_so(db: Database) -> None:
    await db.admin.execute("CREATE ROLE guest LOGIN")
    await db.admin.execute(
        "DO $$ BEGIN EXECUTE 'GRANT USAGE ON SCHEMA ' || current_schema || ' TO guest'; END $$"
    )
    inbox = PostgresInbox(db.url.replace("user=dockyard", "user=guest"), 60, 60)
    try:
        with pytest.raises(InboxUnavailable, match="permission denied"):
            await inbox.open()
    finally:
        await inbox.close()
