"""A load of events: as many as planned, at the given rate, with an honest count of them."""

import asyncio
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest
from acme.signup.v1.user_signed_up_pb2 import UserSignedUp
from hdrh.histogram import HdrHistogram

from chassis import bus
from chassis.bus import BusUnavailable, Subscription
from chassis.bus.memory import MemoryBus
from chassis.contracts.envelope import EncodedEvent
from chassis.contracts.event_types import to_event
from chassis.tools import load
from chassis.tools.load import Durations, Plan, Tally
from tests.chassis.bus_labs import LABS

TYPE = "acme.signup.v1.UserSignedUp"
REAL_SLEEP = asyncio.sleep


def event(number: int, moment: datetime) -> EncodedEvent:
    signed_up = UserSignedUp(user_id=f"u-{number}")
    return to_event(signed_up, source="test", id_=str(number), time=moment)


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
        <= tally.seconds * 1.001
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


class Clock:
    """The time of a load; a sleep passes at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(load, "monotonic", lambda: self.now)
        monkeypatch.setattr(load.asyncio, "sleep", self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await REAL_SLEEP(0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


class Recording(MemoryBus):
    """A bus that keeps what it gets; one event takes `stall` seconds of the clock."""

    def __init__(self, clock: Clock, stalled: int = 0, stall: float = 0.0) -> None:
        super().__init__()
        self.clock, self.stalled, self.stall = clock, stalled, stall
        self.got: list[EncodedEvent] = []

    async def publish(self, message: EncodedEvent) -> None:
        self.got.append(message)
        if len(self.got) == self.stalled:
            self.clock.now += self.stall


async def test_a_rate_is_kept_for_the_time_that_was_asked_for(clock: Clock) -> None:
    broker, tally = Recording(clock), Tally()
    await load.publish(broker, Plan(seconds=2, rate=50, in_flight=1), event, tally)
    assert tally.confirmed == len(broker.got) == 100
    assert tally.seconds == pytest.approx(99 / 50)


async def test_each_event_carries_the_moment_it_was_meant_for(clock: Clock) -> None:
    broker = Recording(clock, stalled=10, stall=0.5)
    await load.publish(broker, Plan(count=50, rate=50, in_flight=1), event, Tally())
    times = [message.envelope.time for message in broker.got]
    assert all(time is not None for time in times)
    between = [(two - one).total_seconds() for one, two in pairwise(times)]  # type: ignore[operator]
    assert between == pytest.approx([0.02] * 49)


async def test_a_broker_that_stands_still_costs_all_who_wait_their_time(clock: Clock) -> None:
    broker, tally = Recording(clock, stalled=1, stall=1.0), Tally()
    await load.publish(broker, Plan(count=100, rate=100, in_flight=1), event, tally)
    assert tally.confirms.quantile(1.0) == pytest.approx(1.0, rel=0.01)
    assert tally.confirms.quantile(0.5) == pytest.approx(0.5, rel=0.05)
    assert tally.lateness.quantile(1.0) == pytest.approx(0.99, rel=0.01)
    assert tally.held_up > 50


def test_durations_have_three_digits() -> None:
    durations = Durations()
    for milliseconds in range(1, 10_001):
        durations.add(milliseconds / 1000)
    for share in (0.01, 0.5, 0.99, 0.999, 1.0):
        assert durations.quantile(share) == pytest.approx(share * 10, rel=0.002)
    assert Durations().quantile(0.5) is None


def test_durations_out_of_range_count_at_its_ends() -> None:
    durations = Durations()
    durations.add(-1.0)
    durations.add(10_000.0)
    assert durations.quantile(0.5) == pytest.approx(1e-6)
    assert durations.quantile(1.0) == pytest.approx(3600, rel=0.002)


def test_the_histogram_can_be_read_by_other_tools() -> None:
    durations = Durations()
    durations.add(0.25)
    read = HdrHistogram.decode(durations.encoded())
    assert read.get_max_value() == pytest.approx(250_000, rel=0.002)
