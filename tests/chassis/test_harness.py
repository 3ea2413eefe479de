"""The harness: what a service's own tests look like."""

import asyncio

import pytest
from acme.billing.v1.account_opened_pb2 import AccountOpened
from acme.signup.v1.user_signed_up_pb2 import UserSignedUp

from chassis import Context, Reject, RetryAfter, Service
from chassis.contracts.envelope import AMQP_PREFIX, to_headers
from chassis.contracts.event_types import to_event
from chassis.handling.transactions import NoTransaction
from chassis.inbox.postgres.inbox import PostgresInbox
from chassis.settings import SettingsError
from chassis.testing import Harness
from tests.chassis.conftest import LogLines
from tests.chassis.postgres_lab import Database

pytestmark = pytest.mark.usefixtures("log_lines")


def billing() -> Service:
    """Opens an account at the attempt that the user's id names; refuses the user `nobody`."""
    service = Service("billing-svc")

    @service.on(UserSignedUp)
    async def open_account(event: UserSignedUp, ctx: Context) -> None:
        if event.user_id == "nobody":
            raise Reject("no such user")
        if event.user_id == "later" and ctx.attempt == 1:
            raise RetryAfter(90)
        if event.user_id.isdigit() and ctx.attempt < int(event.user_id):
            raise OSError("not yet")
        ctx.publish(AccountOpened(account_id=f"a-{event.user_id}"))

    return service


async def test_a_service_is_tested_in_five_lines() -> None:
    async with Harness(billing()) as harness:
        assert await harness.send(UserSignedUp(user_id="1")) == "done"
        assert harness.published == [AccountOpened(account_id="a-1")]


async def test_the_same_id_twice_is_a_duplicate() -> None:
    async with Harness(billing()) as harness:
        assert await harness.send(UserSignedUp(user_id="1"), id="e-1") == "done"
        assert await harness.send(UserSignedUp(user_id="1"), id="e-1") == "duplicate"
        assert len(harness.published) == 1


async def test_a_new_event_has_a_new_id() -> None:
    async with Harness(billing()) as harness:
        assert await harness.send(UserSignedUp(user_id="1")) == "done"
        assert await harness.send(UserSignedUp(user_id="1")) == "done"


async def test_retries_follow_at_once_and_their_delays_are_kept() -> None:
    async with Harness(billing(), backoff_seconds=100, backoff_max_seconds=150) as harness:
        assert await harness.send(UserSignedUp(user_id="3")) == "done"
        assert len(harness.delays) == 2
        assert all(0 <= delay <= 150 for delay in harness.delays)


async def test_the_delay_that_a_handler_asks_for_is_kept() -> None:
    async with Harness(billing()) as harness:
        assert await harness.send(UserSignedUp(user_id="later")) == "done"
        assert harness.delays == [90]


async def test_a_dead_event_says_why() -> None:
    async with Harness(billing(), max_attempts=2) as harness:
        assert await harness.send(UserSignedUp(user_id="nobody")) == "dead"
        assert await harness.send(UserSignedUp(user_id="9")) == "dead"
        assert [letter.reason for letter in harness.dead_letters] == [
            "rejected",
            "attempts_exhausted",
        ]
        assert harness.dead_letters[0].message == "no such user"
        assert harness.published == []


async def test_a_failed_assertion_shows_why_the_event_is_dead() -> None:
    async with Harness(billing(), max_attempts=2) as harness:
        with pytest.raises(AssertionError, match="assert 'dead': rejected == 'done'"):
            assert await harness.send(UserSignedUp(user_id="nobody")) == "done"
        with pytest.raises(AssertionError, match="'dead': bad_envelope"):
            assert await harness.send_raw({}, b"\xff") == "done"


async def test_an_outcome_is_its_word_to_code_and_to_people() -> None:
    async with Harness(billing()) as harness:
        outcome = await harness.send(UserSignedUp(user_id="1"))
    assert (outcome, f"{outcome}", repr(outcome), outcome.failure) == (
        "done",
        "done",
        "'done'",
        None,
    )


async def test_a_raw_message_goes_in_as_it_is() -> None:
    async with Harness(billing()) as harness:
        assert await harness.send_raw({}, b"\xff") == "dead"
        assert harness.dead_letters[0].reason == "bad_envelope"


def as_json(id_: str = "e-1") -> dict[str, str]:
    envelope = to_event(UserSignedUp(), source="shop", id_=id_).envelope
    return to_headers(envelope, AMQP_PREFIX) | {"content-type": "application/json"}


async def test_json_of_a_foreign_publisher_is_an_event_like_any_other() -> None:
    async with Harness(billing()) as harness:
        body = b'{"userId": "1", "of another version": [1]}'
        assert await harness.send_raw(as_json(), body) == "done"
        assert harness.published == [AccountOpened(account_id="a-1")]
        assert await harness.send_raw(as_json(), body) == "duplicate"


async def test_the_same_id_with_other_bytes_of_json_is_a_mismatch() -> None:
    async with Harness(billing()) as harness:
        assert await harness.send_raw(as_json(), b'{"userId": "1"}') == "done"
        assert await harness.send_raw(as_json(), b'{"userId":"1"}') == "dead"
        assert harness.dead_letters[0].reason == "payload_mismatch"


async def test_json_that_is_no_event_is_dead_and_its_contents_are_in_no_log(
    log_lines: LogLines,
) -> None:
    async with Harness(billing()) as harness:
        assert await harness.send_raw(as_json(), b'{"userId": {"secret": 1}}') == "dead"
        [failure] = harness.dead_letters
        assert failure.reason == "undecodable"
        assert failure.message.startswith("not a acme.signup.v1.UserSignedUp in JSON: Failed to")
    assert "secret" not in str(log_lines())


async def test_events_sent_side_by_side_each_have_their_own_outcome() -> None:
    async with Harness(billing(), max_attempts=3) as harness:
        await harness.send(UserSignedUp(user_id="1"), id="e-1")
        poisoned, retried, repeated = await asyncio.gather(
            harness.send(UserSignedUp(user_id="9")),
            harness.send(UserSignedUp(user_id="2")),
            harness.send(UserSignedUp(user_id="1"), id="e-1"),
        )
        assert (poisoned, retried, repeated) == ("dead", "done", "duplicate")


async def test_the_environment_does_not_reach_the_harness(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHASSIS_MAX_ATTEMPTS", "1")
    async with Harness(billing()) as harness:
        assert await harness.send(UserSignedUp(user_id="3")) == "done"


def test_a_wrong_setting_is_refused() -> None:
    with pytest.raises(SettingsError, match="CHASSIS_MAX_ATTEMPTS='0'"):
        Harness(billing(), max_attempts=0)


async def test_handlers_in_order_are_retried_at_once_too() -> None:
    service = Service("billing-svc")
    attempts: list[int] = []

    @service.on(UserSignedUp, ordered_by=lambda event: event.user_id, concurrency=1)
    async def open_account(event: UserSignedUp, ctx: Context) -> None:
        attempts.append(ctx.attempt)
        if ctx.attempt < 3:
            raise RetryAfter(90)

    async with Harness(service) as harness:
        assert await harness.send(UserSignedUp(user_id="bob")) == "done"
        assert harness.delays == [90, 90]
    assert attempts == [1, 2, 3]


async def test_handlers_of_every_replica_get_the_event_too() -> None:
    service = billing()
    forgotten: list[str] = []

    @service.on(UserSignedUp, delivery="every_replica")
    async def forget(event: UserSignedUp, ctx: Context) -> None:
        if event.user_id == "2" and ctx.attempt == 1:
            raise Reject("never heard of")
        forgotten.append(event.user_id)

    @service.on(AccountOpened, delivery="every_replica")
    async def note(event: AccountOpened, ctx: Context) -> None:
        forgotten.append(event.account_id)

    async with Harness(service) as harness:
        assert await harness.send(UserSignedUp(user_id="1"), id="e-1") == "done"
        assert await harness.send(UserSignedUp(user_id="1"), id="e-1") == "duplicate"
        assert await harness.send(AccountOpened(account_id="a")) == "done"
        assert await harness.send(UserSignedUp(user_id="2")) == "dead"
        assert [letter.handler for letter in harness.dead_letters] == ["forget"]
    assert forgotten == ["1", "1", "a"]


def writing() -> Service:
    """Writes the user's id into the database, at the second attempt for good."""
    service = Service("billing-svc")

    @service.on(UserSignedUp)
    async def open_account(event: UserSignedUp, ctx: Context) -> None:
        connection = await ctx.transaction()
        await connection.execute("INSERT INTO effects VALUES (%s)", (event.user_id,))
        ctx.publish(AccountOpened(account_id=f"a-{event.user_id}"))
        if ctx.attempt == 1 and event.user_id == "twice":
            raise OSError("not yet")

    return service


async def test_with_a_database_a_handler_writes_in_its_transaction(db: Database) -> None:
    async with Harness(writing(), database=db.url) as harness:
        assert await harness.send(UserSignedUp(user_id="twice"), id="e-1") == "done"
        assert await harness.send(UserSignedUp(user_id="twice"), id="e-1") == "duplicate"
        assert len(harness.delays) == 1
        assert harness.published == [AccountOpened(account_id="a-twice")]
    assert await db.effects() == ["twice"]


async def test_a_harness_leaves_the_tables_of_a_service_in_its_database_alone(db: Database) -> None:
    inbox = PostgresInbox(db.url, 60, 3600)
    await inbox.open()
    await inbox.close()
    async with Harness(writing(), database=db.url) as harness:
        assert await harness.send(UserSignedUp(user_id="u-1"), id="e-1") == "done"
        assert await db.value("SELECT count(*) FROM chassis_inbox") == 0


async def test_a_harness_leaves_nothing_of_its_own_in_the_database_and_knows_nothing_of_another(
    db: Database,
) -> None:
    for _ in range(2):
        async with Harness(writing(), database=db.url) as harness:
            assert await harness.send(UserSignedUp(user_id="ada"), id="e-1") == "done"
    assert await db.effects() == ["ada", "ada"]
    assert (
        await db.value(
            "SELECT count(*) FROM information_schema.schemata "
            "WHERE schema_name LIKE 'chassis_test%'"
        )
        == 0
    )
    assert (
        await db.value(
            "SELECT count(*) FROM information_schema.tables "
            "WHERE table_name LIKE 'chassis%' AND table_schema = current_schema()"
        )
        == 0
    )


async def test_without_a_database_a_handler_that_wants_one_says_so() -> None:
    async with Harness(writing(), max_attempts=1) as harness:
        with pytest.raises(NoTransaction, match="in a test, give the harness a database"):
            await harness.send(UserSignedUp(user_id="ada"))
        assert harness.dead_letters == []
