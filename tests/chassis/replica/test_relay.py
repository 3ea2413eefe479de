"""The relay: what the outbox holds is published, confirmed, and only then removed."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from math import isnan

import pytest
from acme.billing.v1.account_opened_pb2 import AccountOpened

from chassis.bus import BusUnavailable
from chassis.contracts.envelope import EncodedEvent
from chassis.contracts.event_types import to_event
from chassis.inbox import InboxUnavailable, Lease
from chassis.inbox.outbox import Backlog, Publish, Relayed
from chassis.inbox.postgres.inbox import PostgresInbox
from chassis.inbox.postgres.outbox import PostgresOutbox
from chassis.publishing.publisher import Publisher
from chassis.replica.relay import Relay
from chassis.telemetry.metrics import Metrics
from chassis.telemetry.traces import NoTraces
from tests.brokers.process import Server
from tests.chassis.pipeline import Bus
from tests.chassis.postgres_lab import Database
from tests.waiting import PATIENCE, eventually

pytestmark = pytest.mark.usefixtures("log_lines")

NEVER = 1e6  # seconds


@pytest.fixture
async def inbox(db: Database) -> AsyncIterator[PostgresInbox]:
    made = PostgresInbox(db.url, 60.0, 3600.0, timeout=2.0)
    await made.open()
    yield made
    await made.close()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chassis.replica.relay.RETRY_SECONDS", 0.01)
    monkeypatch.setattr("chassis.replica.relay.POLL_SECONDS", (0.01, 0.1))
    monkeypatch.setattr("chassis.replica.relay.WATCH_SECONDS", 0.01)


class Broker(Bus):
    """A bus that takes its time, and refuses what a test says; `before` runs before each event."""

    def __init__(self) -> None:
        super().__init__()
        self.poison: set[str] = set()
        self.fragile = False
        """Whether an event of the poison takes those down that are on their way beside it."""
        self.before: Callable[[], Awaitable[None]] = lambda: asyncio.sleep(0)

    async def publish(self, message: EncodedEvent) -> None:
        await self.before()
        if message.envelope.id in self.poison:
            self.calls.append("poison")
            raise BusUnavailable("refused")
        poisoned = self.calls.count("poison")
        if self.fragile:
            await asyncio.sleep(0.001)
        if self.fragile and self.calls.count("poison") > poisoned:
            raise BusUnavailable("the channel is gone")
        await super().publish(message)

    @property
    def connected(self) -> bool:
        return not self.refusing

    @property
    def ids(self) -> list[str]:
        return [message.envelope.id for message in self.published]


def held() -> tuple[Broker, asyncio.Event, asyncio.Event]:
    """A broker that answers once the second event is set; the first is set when a caller waits."""
    broker, begun, go_on = Broker(), asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        begun.set()
        await go_on.wait()

    broker.before = wait
    return broker, begun, go_on


class Relaying:
    """A relay of billing-svc, its broker and its metrics."""

    def __init__(self, inbox: PostgresInbox, broker: Broker | None = None) -> None:
        self.broker = broker or Broker()
        self.metrics = Metrics("billing-svc", "1.2.3", "0")
        publisher = Publisher(self.broker, self.metrics, NoTraces(), 1_000_000)
        self.relay = Relay(inbox, "billing-svc", self.broker, publisher, self.metrics)

    def metric(self, name: str) -> float:
        value = self.metrics.registry.get_sample_value(name)
        assert value is not None
        return value


@asynccontextmanager
async def relaying(
    inbox: PostgresInbox,
    broker: Broker | None = None,
    *,
    publishing: bool = True,
    listening: bool = False,
) -> AsyncIterator[Relaying]:
    made = Relaying(inbox, broker)
    made.relay.start(publishing=publishing, listening=listening)
    try:
        yield made
    finally:
        await made.relay.drain(0)


async def store(inbox: PostgresInbox, ids: Sequence[str], source: str = "billing-svc") -> None:
    """Put events into the outbox as one handling would."""
    lease = await inbox.claim(f"key of {ids[0]}", "d")
    assert isinstance(lease, Lease)
    events = [to_event(AccountOpened(account_id=id_), source=source, id_=id_) for id_ in ids]
    await inbox.complete_with(lease, events)


def names(count: int) -> list[str]:
    return [f"e-{number}" for number in range(count)]


async def test_events_are_published_in_order_as_they_were_and_removed(
    db: Database, inbox: PostgresInbox
) -> None:
    event = to_event(AccountOpened(account_id="a-1"), source="billing-svc", id_="e-1")
    event = EncodedEvent(
        event.envelope.with_trace(f"00-{'a' * 32}-{'b' * 16}-01", "x=1"), event.body
    )
    lease = await inbox.claim("a key", "d")
    assert isinstance(lease, Lease)
    await inbox.complete_with(lease, [event])
    await store(inbox, names(250)[2:])
    async with relaying(inbox) as one:
        await db.until("SELECT count(*) FROM chassis_outbox", 0)
    assert one.broker.ids == names(250)[1:]
    assert one.broker.published[0] == event
    sent = {"type": "acme.billing.v1.AccountOpened", "outcome": "confirmed"}
    assert (
        one.metrics.registry.get_sample_value("messaging_client_sent_messages_total", sent) == 249
    )


async def test_the_events_of_another_service_are_left_to_its_own_relay(
    db: Database, inbox: PostgresInbox
) -> None:
    await store(inbox, ["theirs"], source="shipping-svc")
    await store(inbox, ["ours"])
    async with relaying(inbox) as one:
        await db.until("SELECT count(*) FROM chassis_outbox", 1)
    assert one.broker.ids == ["ours"]


async def test_several_relays_at_once_publish_each_event_once(
    db: Database, inbox: PostgresInbox
) -> None:
    broker = Broker()
    broker.before = lambda: asyncio.sleep(0.001)
    for start in range(0, 1000, 10):
        await store(inbox, names(1000)[start : start + 10])
    async with relaying(inbox, broker), relaying(inbox, broker), relaying(inbox, broker):
        await db.until("SELECT count(*) FROM chassis_outbox", 0)
    assert Counter(broker.ids) == Counter(names(1000))


async def test_an_event_that_cannot_be_published_is_kept_and_does_not_hold_up_the_rest(
    db: Database, inbox: PostgresInbox
) -> None:
    await store(inbox, names(10))
    broker = Broker()
    broker.poison = {"e-0", "e-5"}
    async with relaying(inbox, broker):
        await db.until("SELECT count(*) FROM chassis_outbox", 2)
        await store(inbox, ["later"])
        await eventually(lambda: "later" in broker.ids)
        assert (
            await db.value(
                "SELECT count(*) FROM chassis_outbox WHERE failures > 0 AND error LIKE '%refused%'"
            )
            == 2
        )
        broker.poison = set()
        await db.until("SELECT count(*) FROM chassis_outbox", 0)
    assert Counter(broker.ids) == Counter([*names(10), "later"])


async def test_an_event_that_takes_the_others_down_with_it_is_found(
    db: Database, inbox: PostgresInbox
) -> None:
    await store(inbox, names(20))
    broker = Broker()
    broker.poison, broker.fragile = {"e-3"}, True
    async with relaying(inbox, broker):
        await db.until("SELECT count(*) FROM chassis_outbox", 1)
    assert set(broker.ids) == set(names(20)) - {"e-3"}


async def test_while_the_broker_is_away_nothing_is_put_off(
    db: Database, inbox: PostgresInbox
) -> None:
    await store(inbox, names(10))
    broker = Broker()
    broker.refusing = True
    async with relaying(inbox, broker) as one:
        await eventually(lambda: one.metric("chassis_outbox_messages") == 10)
        assert not one.relay.working
        broker.refusing = False
        await db.until("SELECT count(*) FROM chassis_outbox", 0)
        assert one.relay.working
    assert broker.ids == names(10)


async def test_the_outbox_is_measured_also_by_who_does_not_publish(
    db: Database, inbox: PostgresInbox
) -> None:
    async with relaying(inbox, publishing=False) as one:
        await store(inbox, names(3))
        await db.admin.execute(
            "UPDATE chassis_outbox SET stored = stored - interval '100 s' WHERE position = 1"
        )
        await eventually(lambda: one.metric("chassis_outbox_messages") == 3)
        await eventually(lambda: 100 <= one.metric("chassis_outbox_age_seconds") < 1000)
        assert one.relay.working
        assert one.metric("chassis_outbox_relaying") == 0
        await db.admin.execute("DELETE FROM chassis_outbox")
        await eventually(lambda: one.metric("chassis_outbox_messages") == 0)
        await eventually(lambda: one.metric("chassis_outbox_age_seconds") == 0)
    assert one.broker.ids == []


async def test_an_outbox_that_cannot_be_measured_has_no_number(
    inbox: PostgresInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.replica.relay.WATCH_SECONDS", 0.01)
    async with relaying(inbox) as one:
        await eventually(lambda: one.metric("chassis_outbox_age_seconds") == 0)
        assert one.metric("chassis_outbox_relaying") == 1

        async def away(outbox: PostgresOutbox) -> Backlog:
            raise InboxUnavailable("away")

        monkeypatch.setattr(PostgresOutbox, "backlog", away)
        await eventually(lambda: isnan(one.metric("chassis_outbox_age_seconds")))
        assert isnan(one.metric("chassis_outbox_messages"))


async def test_a_relay_of_the_same_process_is_woken(
    db: Database, inbox: PostgresInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.replica.relay.POLL_SECONDS", (NEVER, NEVER))
    async with relaying(inbox) as one:
        for number in range(20):
            await store(inbox, [f"e-{number}"])
            await eventually(lambda number=number: len(one.broker.ids) == number + 1)  # type: ignore[misc]


async def test_a_relay_of_another_process_is_woken(
    db: Database, inbox: PostgresInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.replica.relay.POLL_SECONDS", (NEVER, NEVER))
    elsewhere = PostgresInbox(db.url, 60.0, 3600.0)
    await elsewhere.open()
    try:
        async with relaying(elsewhere, listening=True) as one:
            await db.until(
                "SELECT count(*) > 0 FROM pg_stat_activity WHERE query = 'LISTEN chassis_outbox'"
            )
            await store(inbox, ["e-1"])
            await eventually(lambda: one.broker.ids == ["e-1"])
    finally:
        await elsewhere.close()


async def test_a_drain_publishes_what_is_there(db: Database, inbox: PostgresInbox) -> None:
    one = Relaying(inbox)
    one.relay.start(publishing=True, listening=False)
    await store(inbox, names(300))
    await asyncio.wait_for(one.relay.drain(NEVER), PATIENCE)
    assert one.broker.ids == names(300)
    assert await db.waiting() == 0


async def test_a_drain_publishes_also_what_was_stored_while_the_relay_was_looking(
    inbox: PostgresInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, go_on = asyncio.Event(), asyncio.Event()
    look = PostgresOutbox.relay

    async def slowly(outbox: PostgresOutbox, limit: int, publish: Publish) -> Relayed:
        found = await look(outbox, limit, publish)
        looked.set()
        await go_on.wait()
        return found

    monkeypatch.setattr(PostgresOutbox, "relay", slowly)
    one = Relaying(inbox)
    one.relay.start(publishing=True, listening=False)
    await looked.wait()
    await store(inbox, names(3))
    draining = asyncio.create_task(one.relay.drain(NEVER))
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.wait_for(draining, PATIENCE)
    assert one.broker.ids == names(3)


async def test_a_drain_ends_although_a_cancellation_is_lost(
    inbox: PostgresInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    measuring, lost = asyncio.Event(), asyncio.Event()

    async def backlog(outbox: PostgresOutbox) -> Backlog:
        measuring.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if lost.is_set():
                raise
            lost.set()
        return Backlog(0, 0.0)

    monkeypatch.setattr(PostgresOutbox, "backlog", backlog)
    monkeypatch.setattr("chassis.replica.relay.CANCEL_SECONDS", 0.01)
    one = Relaying(inbox)
    one.relay.start(publishing=False, listening=False)
    await measuring.wait()
    await asyncio.wait_for(one.relay.drain(0), PATIENCE)
    assert lost.is_set()


async def test_a_drain_without_broker_leaves_the_events_and_does_not_wait(
    db: Database, inbox: PostgresInbox
) -> None:
    one = Relaying(inbox)
    one.broker.refusing = True
    one.relay.start(publishing=True, listening=False)
    await store(inbox, names(3))
    await asyncio.wait_for(one.relay.drain(NEVER), PATIENCE)
    assert await db.waiting() == 3


async def test_what_was_published_while_the_drain_ended_stays_for_the_next_relay(
    db: Database, inbox: PostgresInbox
) -> None:
    started = asyncio.Event()
    one = Relaying(inbox)

    async def hang() -> None:
        started.set()
        await asyncio.Event().wait()

    one.broker.before = hang
    await store(inbox, names(3))
    one.relay.start(publishing=True, listening=False)
    await started.wait()
    await one.relay.drain(0)
    async with relaying(inbox) as next_one:
        await eventually(lambda: next_one.broker.ids == names(3))


async def test_a_store_that_goes_away_and_comes_back_loses_nothing(
    db: Database, inbox: PostgresInbox, postgres: tuple[str, Server]
) -> None:
    await store(inbox, names(50))
    broker, begun, go_on = held()
    async with relaying(inbox, broker) as one:
        await begun.wait()
        await asyncio.to_thread(postgres[1].kill)
        go_on.set()
        await eventually(lambda: not one.relay.working)
        await asyncio.to_thread(postgres[1].start)
        await eventually(lambda: one.relay.working)

        async def gone() -> bool:
            try:
                return (await inbox.outbox("billing-svc").backlog()).messages == 0
            except InboxUnavailable:
                return False

        async with asyncio.timeout(PATIENCE):
            while not await gone():
                await asyncio.sleep(0.01)
    assert Counter(broker.ids) == Counter(names(50) * 2), (
        "published, not removed, published again under the same ids"
    )


async def test_a_store_that_hangs_between_publishing_and_removing_is_not_waited_for(
    db: Database, inbox: PostgresInbox, postgres: tuple[str, Server]
) -> None:
    await store(inbox, names(3))
    broker, begun, go_on = held()
    async with relaying(inbox, broker) as one:
        await begun.wait()
        await asyncio.to_thread(postgres[1].suspend)
        try:
            go_on.set()
            await eventually(lambda: not one.relay.working)
        finally:
            postgres[1].resume()
        await eventually(lambda: one.relay.working)
        await db.until("SELECT count(*) = 0 FROM chassis_outbox")
    assert set(broker.ids) == set(names(3))
