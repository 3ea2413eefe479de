"""Dead letters: which are meant, and what happens to them."""

from datetime import UTC, datetime, timedelta

import pytest

from chassis.bus import DeadLetter, Failure, Subscription
from chassis.bus.memory import MemoryBroker, MemoryBus
from chassis.deadletters import Filter, discard, replay, select

TYPE = "acme.signup.v1.UserSignedUp"
NOW = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


def letter(
    id_: str, *, type_: str = TYPE, reason: str = "rejected", failed: str = "2026-01-02T11:00:00Z"
) -> DeadLetter:
    return DeadLetter(
        id_, {}, b"body", type_, Failure(reason, service="billing-svc", last_failure=failed)
    )


@pytest.fixture
def bus() -> MemoryBus:
    """A bus with three dead letters, one of another reason."""
    broker = MemoryBroker()
    letters = [letter("aa1"), letter("aa2", reason="undecodable"), letter("bb1")]
    broker.dead["billing-svc"] = {one.id: one for one in letters}
    broker.queue_for(Subscription("billing-svc", frozenset({TYPE})))
    broker.queue_for(Subscription("welcome-svc", frozenset({TYPE})))
    return MemoryBus(broker)


def left(bus: MemoryBus) -> list[str]:
    return list(bus.broker.dead["billing-svc"])


@pytest.mark.parametrize(
    ("which", "fits"),
    [
        (Filter(), True),
        (Filter(id_prefix="ab"), True),
        (Filter(id_prefix="b"), False),
        (Filter(type=TYPE), True),
        (Filter(type="other"), False),
        (Filter(reason="rejected"), True),
        (Filter(reason="expired"), False),
        (Filter(older_than=timedelta(hours=1)), True),
        (Filter(older_than=timedelta(hours=1, seconds=1)), False),
        (Filter(newer_than=timedelta(hours=1)), False),
        (Filter(newer_than=timedelta(hours=1, seconds=1)), True),
        (Filter(older_than=timedelta(minutes=1), newer_than=timedelta(hours=2)), True),
        (Filter(type=TYPE, reason="expired"), False),
    ],
)
def test_a_dead_letter_is_meant_when_it_fits_every_field(which: Filter, fits: bool) -> None:
    assert which.fits(letter("abc"), NOW) is fits


@pytest.mark.parametrize("failed", ["", "yesterday"])
def test_a_dead_letter_of_unknown_age_fits_no_age(failed: str) -> None:
    assert not Filter(older_than=timedelta(0)).fits(letter("abc", failed=failed), NOW)
    assert not Filter(newer_than=timedelta(days=9999)).fits(letter("abc", failed=failed), NOW)
    assert Filter().fits(letter("abc", failed=failed), NOW)


async def test_selecting_changes_nothing(bus: MemoryBus) -> None:
    found = await select(bus, "billing-svc", Filter(reason="rejected"))
    assert [one.id for one in found] == ["aa1", "bb1"]
    assert left(bus) == ["aa1", "aa2", "bb1"]


async def test_replaying_puts_the_message_into_the_services_own_queue_alone(bus: MemoryBus) -> None:
    assert await replay(bus, "billing-svc", Filter(id_prefix="aa")) == 2
    assert left(bus) == ["bb1"]
    assert [item.history.attempt for item in bus.broker.queues["billing-svc"].items] == [1, 1]
    assert not bus.broker.queues["welcome-svc"].items


async def test_replaying_keeps_to_the_rate(bus: MemoryBus) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    await replay(bus, "billing-svc", Filter(), per_second=4, sleep=sleep)
    assert pauses == [0.25, 0.25]  # between three


async def test_discarding_removes_what_fits_and_nothing_else(bus: MemoryBus) -> None:
    assert await discard(bus, "billing-svc", Filter(reason="undecodable")) == 1
    assert left(bus) == ["aa1", "bb1"]
    assert not bus.broker.queues["billing-svc"].items


async def test_another_services_dead_letters_are_not_touched(bus: MemoryBus) -> None:
    assert await discard(bus, "welcome-svc", Filter()) == 0
    assert len(left(bus)) == 3
