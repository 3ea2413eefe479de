"""Delayed events: never early, once, over restarts, on each bus and with each kind of store."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from acme.billing.v1.account_opened_pb2 import AccountOpened
from acme.signup.v1.user_signed_up_pb2 import UserSignedUp

from chassis import Context, Service, connected
from chassis.bus import Delivery, Subscription
from chassis.context import NotDelaying
from chassis.contracts.delayed import BadDelay, Delays
from chassis.contracts.envelope import AMQP_PREFIX, BadKey, to_headers
from chassis.contracts.event_types import to_event
from chassis.inbox import Lease
from chassis.inbox.memory import MemoryInbox
from chassis.publishing.delayed import claim_of
from chassis.replica import assemble
from chassis.settings import SettingsError, load
from chassis.telemetry.traces import NoTraces
from chassis.testing import Harness
from tests.chassis.bus_labs import LABS, Lab
from tests.chassis.postgres_lab import Database
from tests.waiting import PATIENCE, eventually

START = datetime(2026, 3, 10, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
OPENED = "acme.billing.v1.AccountOpened"

pytestmark = pytest.mark.usefixtures("log_lines")


@pytest.fixture
def service() -> Service:
    """Reminds an hour after a sign-up, unless the user's name is `cancelled`."""
    service = Service("billing-svc", version="1", delayed_events=True)

    @service.on(UserSignedUp)
    async def remind(event: UserSignedUp, ctx: Context) -> None:
        ctx.publish(AccountOpened(account_id=event.user_id), after=HOUR, id=f"r-{event.user_id}")
        if event.user_id == "fails":
            raise ValueError

    return service


@pytest.fixture(params=["memory", "postgres"])
def database(request: pytest.FixtureRequest) -> str | None:
    """None, or the URL of a database: there, events pass through an outbox."""
    return None if request.param == "memory" else request.getfixturevalue("db").url


@pytest.fixture
async def harness(database: str | None, service: Service) -> AsyncIterator[Harness]:
    async with Harness(service, now=START, database=database, max_attempts=2) as harness:
        yield harness


async def test_it_is_published_when_it_is_due(harness: Harness) -> None:
    assert await harness.send(UserSignedUp(user_id="a")) == "done"
    await harness.advance(HOUR - timedelta(microseconds=1))
    assert harness.published == []
    await harness.advance(timedelta(microseconds=1))
    assert harness.published == [AccountOpened(account_id="a")]


async def test_in_the_order_of_their_times(harness: Harness, service: Service) -> None:
    await service.publish(AccountOpened(account_id="late"), at=START + 2 * HOUR)
    await service.publish(AccountOpened(account_id="past"), at=START - HOUR)
    await service.publish(AccountOpened(account_id="soon"), after=HOUR)
    await harness.advance(3 * HOUR)
    assert [event.account_id for event in harness.published] == ["past", "soon", "late"]  # type: ignore[attr-defined] - all are of one class


async def test_a_handler_that_raises_delays_nothing(harness: Harness) -> None:
    assert await harness.send(UserSignedUp(user_id="fails")) == "dead"
    await harness.advance(2 * HOUR)
    assert harness.published == []


async def test_a_cancelled_one_is_never_published(harness: Harness, service: Service) -> None:
    await harness.send(UserSignedUp(user_id="a"))
    assert await service.cancel("r-a")
    assert not await service.cancel("r-a"), "it is taken back already"
    await harness.advance(2 * HOUR)
    assert harness.published == []


async def test_what_is_published_cannot_be_cancelled(harness: Harness, service: Service) -> None:
    await harness.send(UserSignedUp(user_id="a"))
    await harness.advance(HOUR)
    assert not await service.cancel("r-a")


async def test_an_id_counts_once(harness: Harness, service: Service) -> None:
    for account in ("a", "b"):
        await service.publish(AccountOpened(account_id=account), after=HOUR, id="r/1 ü")
    await harness.advance(2 * HOUR)
    assert harness.published == [AccountOpened(account_id="a")]


async def test_a_request_delays_with_its_commit(db: Database, service: Service) -> None:
    async with Harness(service, now=START, database=db.url) as harness:
        async with service.transaction(key="k") as tx:
            id_ = tx.publish(AccountOpened(account_id="a"), after=HOUR)
            assert id_ != tx.publish(AccountOpened(account_id="b"), after=HOUR)
        assert await service.cancel(id_)
        await harness.advance(HOUR)
        assert harness.published == [AccountOpened(account_id="b")]


async def test_a_look_at_the_same_moment_is_waited_for(service: Service) -> None:
    """A replica holds the claim while it looks whether the event is due."""
    inbox = MemoryInbox(60, 3600)
    async with Harness(service) as harness:
        direct = service.direct
        assert direct is not None
        direct._inbox = inbox
        looking = await inbox.claim(*claim_of("billing-svc", "r-a"))
        assert isinstance(looking, Lease)
        cancelling = asyncio.create_task(service.cancel("r-a"))
        await asyncio.sleep(0)
        assert not cancelling.done()
        await inbox.release(looking)
        assert await asyncio.wait_for(cancelling, PATIENCE)
    assert harness.published == []


async def test_what_no_publisher_wrote_becomes_a_dead_letter(service: Service) -> None:
    event = to_event(AccountOpened(account_id="a"), source="billing-svc")
    carrier = Delays("billing-svc", lambda: START).put_off(event, HOUR, None)
    headers = to_headers(carrier.envelope, AMQP_PREFIX)
    async with Harness(service, now=START + 2 * HOUR) as harness:
        assert await harness.send_raw(headers, b"\x0a\x03e-1") == "dead"  # a body without a type
        del headers[f"{AMQP_PREFIX}time"]
        assert await harness.send_raw(headers, carrier.body) == "dead"
    assert [letter.reason for letter in harness.dead_letters] == ["bad_key", "undecodable"]


@pytest.mark.parametrize(
    ("after", "at", "message"),
    [
        (HOUR, START, "after= or at=, not both"),
        (None, START.replace(tzinfo=None), "at= needs a time zone"),
        (timedelta.max, None, "later than any date"),
    ],
)
async def test_a_time_that_means_nothing_is_refused(
    service: Service, after: timedelta | None, at: datetime | None, message: str
) -> None:
    async with Harness(service):
        with pytest.raises(BadDelay, match=message):
            await service.publish(AccountOpened(), after=after, at=at)
        with pytest.raises(BadKey):
            await service.cancel("")


async def test_a_service_that_has_not_said_so_delays_nothing() -> None:
    service = Service("billing-svc", version="1")

    @service.on(UserSignedUp)
    async def remind(event: UserSignedUp, ctx: Context) -> None:
        ctx.publish(AccountOpened(), after=HOUR)

    async with Harness(service) as harness:
        with pytest.raises(NotDelaying, match=r"delayed_events=True"):
            await service.cancel("e-1")
        with pytest.raises(NotDelaying):
            await harness.send(UserSignedUp())


@pytest.mark.parametrize("setting", ["retention_seconds", "nats_max_age_seconds"])
def test_what_is_forgotten_too_soon_stops_the_start(service: Service, setting: str) -> None:
    short = load({}, bus_url="memory://", inbox_url="memory://", **{setting: 7200.0})
    with pytest.raises(SettingsError, match=f"CHASSIS_{setting.upper()}=7200 must be at least"):
        assemble.parts(service, short)


# On real brokers.


@pytest.fixture(params=[name for name in LABS if name != "memory"])
async def lab(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Lab]:
    async with LABS[request.param](tmp_path) as lab:
        yield lab


@asynccontextmanager
async def replica(lab: Lab, service: Service, inbox: MemoryInbox) -> AsyncIterator[None]:
    """A replica of `service` whose claims are in `inbox`."""
    settings = load({}, bus_url=lab.url, inbox_url="memory://")
    bus, metrics = lab.bus("billing-svc"), assemble.metrics_of(service)
    consumer = assemble.consumer_of(
        service, settings, bus, inbox, metrics=metrics, traces=NoTraces()
    )
    assemble.subscribe(service, bus, consumer, 10)
    consumer.start()
    await bus.start()
    try:
        await asyncio.wait_for(bus.wait_ready(), PATIENCE)
        yield
    finally:
        await consumer.drain(PATIENCE)
        await bus.close()


async def test_it_waits_in_the_broker_over_restarts_and_is_never_early(lab: Lab) -> None:
    service = Service("billing-svc", version="1", delayed_events=True)
    got: list[tuple[Delivery, datetime]] = []

    async def keep(delivery: Delivery) -> None:
        got.append((delivery, datetime.now(UTC)))
        delivery.done()

    inbox = MemoryInbox(60, 3600)
    async with AsyncExitStack() as stack:
        reader = lab.bus("reader-svc")
        reader.subscribe(Subscription("reader-svc", frozenset({OPENED}), 10), keep)
        await reader.start()
        stack.push_async_callback(reader.close)
        await asyncio.wait_for(reader.wait_ready(), PATIENCE)
        async with replica(lab, service, inbox):
            due = datetime.now(UTC) + timedelta(seconds=1)
            async with connected(service, load({}, bus_url=lab.url, inbox_url="memory://")):
                for number in range(3):
                    event = AccountOpened(account_id=f"a-{number}")
                    await service.publish(event, at=due, id=f"e-{number}")
        async with replica(lab, service, inbox):
            await eventually(lambda: len(got) == 3)
    for delivery, at in got:
        envelope = delivery.envelope()
        assert at >= due
        assert (envelope.source, envelope.time) == ("billing-svc", due)
        assert envelope.id == f"e{AccountOpened.FromString(delivery.body).account_id[1:]}"
    assert {delivery.envelope().id for delivery, _ in got} == {"e-0", "e-1", "e-2"}
