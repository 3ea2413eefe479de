"""A load beside a service's metrics: when a rate is kept, and how the knee is found."""

from collections import Counter
from datetime import datetime
from math import inf

import pytest
from acme.signup.v1.user_signed_up_pb2 import UserSignedUp

from chassis.bus import Subscription
from chassis.bus.memory import MemoryBroker, MemoryBus
from chassis.contracts.envelope import EncodedEvent
from chassis.contracts.event_types import to_event
from chassis.tools.load import Plan
from chassis.tools.measuring import Result, Watched, climb, next_rate
from chassis.tools.scrape import Reading

TYPE = "acme.signup.v1.UserSignedUp"


def climbed(first: float, limit: float) -> list[float]:
    """The rates tried on a service that keeps rates up to `limit`."""
    steps = [(first, first <= limit)]
    while (rate := next_rate(steps)) is not None:
        steps.append((rate, rate <= limit))
    return [rate for rate, _ in steps]


@pytest.mark.parametrize("limit", [90, 731, 1_000, 123_456])
def test_the_knee_is_found_within_a_tenth(limit: float) -> None:
    rates = climbed(100, limit)
    knee = max(rate for rate in rates if rate <= limit)
    assert limit / 1.11 <= knee <= limit
    assert len(rates) < 20


def test_a_service_that_keeps_nothing_ends_the_search() -> None:
    assert climbed(100, 0)[-1] < 2


def result(
    *, published: int = 100, done: int = 100, dead: int = 0, age: float = 0.01, late: float = 0.001
) -> Result:
    made = Result(Plan(rate=10))
    made.tally.confirmed = published
    made.tally.lateness.add(late)
    outcomes = Counter({"done": done, "dead": dead})
    made.handled = Reading(outcomes, dead, Counter({age: done, inf: done}))
    return made


def test_a_rate_is_kept_when_all_is_handled_in_time() -> None:
    assert result().keeps(0.05)


@pytest.mark.parametrize(
    "missed",
    [
        result(age=0.2),
        result(done=99),
        result(done=99, dead=1),
    ],
    ids=["too old", "not handled", "dead"],
)
def test_a_rate_is_missed(missed: Result) -> None:
    assert not missed.keeps(0.05)


def test_a_late_generator_is_told_apart_from_a_slow_service() -> None:
    assert result(late=0.5).late
    assert not result().late
    held_up = result(late=0.5)
    held_up.tally.held_up = 1
    assert not held_up.late


async def test_no_step_of_a_climb_repeats_the_events_of_another() -> None:
    broker = MemoryBroker()
    bus = MemoryBus(broker)
    queue = broker.queue_for(Subscription("billing-svc", frozenset({TYPE})))
    results = [Result(Plan(count=3, rate=100_000))]

    def event(number: int, moment: datetime) -> EncodedEvent:
        return to_event(UserSignedUp(), source="test", id_=str(number), time=moment)

    await climb(bus, event, Watched([], frozenset({TYPE}), 1), results, objective=-1)

    assert len(results) > 2
    ids = [item.headers["cloudEvents:id"] for item in queue.items]
    assert sorted(ids, key=int) == [str(number + 1) for number in range(3 * len(results))]


def test_without_metrics_the_confirmation_counts() -> None:
    made = Result(Plan(rate=10))
    made.tally.confirmed = 1
    made.tally.confirms.add(0.02)
    assert made.keeps(0.05)
    assert not made.keeps(0.01)
