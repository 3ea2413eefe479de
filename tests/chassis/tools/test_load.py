"""A load of events: as many as planned, at the given rate, with an honest count of them."""

import asyncio
from pathlib import Path

import pytest
from acme.signup.v1.user_signed_up_pb2 import UserSignedUp

from chassis import bus
from chassis.bus import BusUnavailable, Subscription
from chassis.bus.memory import MemoryBroker, MemoryBus
from chassis.contracts.envelope import EncodedEvent
from chassis.contracts.event_types import to_event
from chassis.tools import load
from chassis.tools.load import Durations, Plan, Tally
from tests.chassis.bus_labs import LABS

TYPE = "acme.signup.v1.UserSignedUp"


def event(number: int) -> EncodedEvent:
    return to_event(UserSignedUp(user_id=f"u-{number}"), source="test", id_=str(number))


class Refusing(MemoryBus):
    """A bus that refuses every third event; `back` says whether it is there again afterwards."""

    def __init__(self, *, back: bool = True) -> None:
        super().__init__()
        self.back = back
        self.asked = 0
        self.unconfirmed = 0
        self.most_unconfirmed = 0

    async def publish(self, message: EncodedEvent) -> None:
        self.asked += 1
        self.unconfirmed += 1
        self.most_unconfirmed = max(self.most_unconfirmed, self.unconfirmed)
        await asyncio.sleep(0)
        self.unconfirmed -= 1
        if int(message.envelope.id) % 3 == 0:
            raise BusUnavailable("no room")

    async def wait_ready(self) -> None:
        if not self.back:
            await asyncio.Event().wait()


@pytest.mark.parametrize("name", LABS)
async def test_every_event_of_a_plan_arrives_once(name: str, tmp_path: Path) -> None:
    async with LABS[name](tmp_path) as lab:
        arrived: list[str] = []
        all_there = asyncio.Event()

        async def take(delivery: bus.Delivery) -> None:
            arrived.append(delivery.envelope().id)
            delivery.done()
            if len(arrived) == 500:
                all_there.set()

        consumer, publisher = lab.bus("consumer"), lab.bus("publisher")
        consumer.subscribe(Subscription("billing-svc", frozenset({TYPE})), take)
        for each in (consumer, publisher):
            await each.start()
            await each.wait_ready()
        tally = Tally()
        await load.publish(publisher, Plan(count=500), event, tally)
        async with asyncio.timeout(60):
            await all_there.wait()
        for each in (publisher, consumer):
            await each.close()
    assert sorted(arrived, key=int) == [str(number) for number in range(1, 501)]
    assert (tally.confirmed, tally.refused, tally.error) == (500, 0, "")
    assert (
        0
        < (tally.confirms.quantile(0.5) or 0)
        <= (tally.confirms.quantile(0.99) or 0)
        <= tally.seconds * 1.05
    )


async def test_what_the_broker_refuses_is_counted_and_does_not_end_the_load() -> None:
    tally = Tally()
    await load.publish(Refusing(), Plan(count=300), event, tally)
    assert (tally.confirmed, tally.refused, tally.error) == (200, 100, "no room")


async def test_no_more_are_in_flight_than_the_plan_says() -> None:
    broker = Refusing()
    await load.publish(broker, Plan(count=300, in_flight=7), event, Tally())
    assert broker.most_unconfirmed == 7


async def test_a_broker_that_stays_away_ends_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "RECONNECT_SECONDS", 0.01)
    broker, tally = Refusing(back=False), Tally()
    await load.publish(broker, Plan(count=100_000, in_flight=5), event, tally)
    assert tally.refused == 5
    assert tally.confirmed == broker.asked - 5 < 100


async def test_a_rate_is_kept_for_the_time_that_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker = MemoryBroker()
    queue = broker.queue_for(Subscription("billing-svc", frozenset({TYPE})))
    now = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(load, "monotonic", lambda: now)
    monkeypatch.setattr(load.asyncio, "sleep", sleep)
    tally = Tally()
    await load.publish(MemoryBus(broker), Plan(seconds=2, rate=50, in_flight=1), event, tally)
    assert tally.confirmed == len(queue.items) == 100
    assert tally.seconds == pytest.approx(99 / 50)


def test_durations_are_kept_within_five_percent_in_little_room() -> None:
    durations = Durations()
    for milliseconds in range(1, 10_001):
        durations.add(milliseconds / 1000)
    for share in (0.01, 0.5, 0.99, 1.0):
        quantile = durations.quantile(share)
        assert quantile is not None
        assert share * 10 <= quantile <= share * 10 * 1.051
    assert len(durations._steps) < 250
    assert Durations().quantile(0.5) is None
