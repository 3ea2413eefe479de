"""A failing dependency pauses the consumer and costs no attempts; a failing event does not."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace

import pytest
from acme.signup.v1.user_signed_up_pb2 import UserSignedUp

from chassis import Context, Reject, RetryAfter
from chassis.bus import Subscription
from chassis.contracts.envelope import AMQP_PREFIX, to_headers
from chassis.contracts.event_types import event_type, to_event
from chassis.handling.breaker import Breaker, State
from tests.chassis.conftest import LogLines
from tests.chassis.pipeline import Handler, Pipeline, delivered
from tests.waiting import PATIENCE, eventually

pytestmark = pytest.mark.usefixtures("log_lines")

Serve = Callable[[Pipeline], Awaitable[None]]


def down() -> Exception:
    return OSError("the mail server is down")


def breaker(ratio: float = 0.8) -> Breaker:
    return Breaker(ratio, window=20, least=10, probes=3, delay=1.0, delay_max=30.0)


def opened() -> Breaker:
    one = breaker()
    for number in range(10):
        one.failed("task", f"e-{number}", 1)
    assert one.state is State.OPEN
    return one


def probing() -> Breaker:
    one = opened()
    one.probe()
    return one


# When it opens.


def test_it_opens_at_the_least_number_of_different_events_that_fail() -> None:
    one = breaker()
    for number in range(9):
        one.failed("task", f"e-{number}", 1)
        assert one.state is State.CLOSED
    one.failed("task", "e-9", 1)
    assert one.state is State.OPEN


def test_one_event_that_never_works_opens_nothing() -> None:
    one = breaker()
    for _ in range(100):
        one.failed("task", "e-1", 1)
    assert one.state is State.CLOSED


def test_events_that_fail_again_open_nothing() -> None:
    one = breaker()
    for number in range(100):
        one.failed("task", f"e-{number}", 2)
    assert one.state is State.CLOSED


def test_poison_among_events_that_work_opens_nothing_however_often_it_is_tried() -> None:
    one = breaker()
    for number in range(100):
        one.succeeded("task")
        for _ in range(5):
            one.failed("task", f"poison-{number}", 1)
    assert one.state is State.CLOSED


@pytest.mark.parametrize(("worked", "state"), [(4, State.OPEN), (5, State.CLOSED)])
def test_the_share_of_the_last_outcomes_decides(worked: int, state: State) -> None:
    one = breaker(0.8)
    for _ in range(worked):
        one.succeeded("task")
    for number in range(20 - worked):
        one.failed("task", f"e-{number}", 1)
    assert one.state is state


def test_what_is_older_than_the_window_is_forgotten() -> None:
    one = breaker(1.0)
    one.succeeded("task")
    for number in range(19):
        one.failed("task", f"e-{number}", 1)
    assert one.state is State.CLOSED
    one.failed("task", "e-19", 1)
    assert one.state is State.OPEN


def test_a_ratio_of_zero_turns_it_off() -> None:
    one = breaker(0)
    for number in range(1000):
        one.failed("task", f"e-{number}", 1)
    assert one.state is State.CLOSED


# How it closes.


def test_while_it_is_open_nothing_is_admitted_and_late_outcomes_change_nothing() -> None:
    one = opened()
    assert not one.admit("late")
    one.succeeded("late")
    one.failed("late", "e-99", 1)
    one.ended("late")
    assert one.state is State.OPEN


def test_a_few_probes_are_let_through() -> None:
    one = probing()
    assert [one.admit(f"probe-{number}") for number in range(5)] == [True, True, True, False, False]
    assert one.state is State.PROBED


def test_the_first_probe_that_works_closes_it() -> None:
    one = probing()
    one.admit("probe-1")
    one.admit("probe-2")
    one.succeeded("probe-2")
    assert one.state is State.CLOSED
    assert one.admit("anything")


def test_what_began_before_the_pause_is_no_probe() -> None:
    one = probing()
    one.admit("probe-1")
    one.succeeded("before")
    one.failed("before", "e-99", 1)
    assert one.state is State.PROBING


def test_it_opens_again_when_the_last_probe_has_failed() -> None:
    one = probing()
    one.admit("probe-1")
    one.admit("probe-2")
    one.failed("probe-1", "e-1", 1)
    assert one.state is State.PROBING
    one.failed("probe-2", "e-2", 1)
    assert one.state is State.OPEN


def test_probes_that_say_nothing_are_followed_by_others_at_once() -> None:
    one = probing()
    for number in range(3):
        one.admit(f"duplicate-{number}")
    for number in range(3):
        one.ended(f"duplicate-{number}")
    assert one.state is State.PROBING
    assert one.admit("probe")


def test_a_probe_that_says_nothing_does_not_outweigh_one_that_failed() -> None:
    one = probing()
    one.admit("probe")
    one.admit("duplicate")
    one.failed("probe", "e-1", 1)
    one.ended("duplicate")
    assert one.state is State.OPEN


def test_the_past_is_forgotten_once_it_is_closed() -> None:
    one = probing()
    one.admit("probe")
    one.succeeded("probe")
    for number in range(9):
        one.failed("task", f"e-{number}", 1)
    assert one.state is State.CLOSED


def test_the_delay_doubles_up_to_its_limit_and_begins_anew_after_a_success() -> None:
    one = opened()
    delays = [one.delay(lambda: 1.0)]
    for number in range(6):
        one.probe()
        one.admit("probe")
        one.failed("probe", f"e-{number}", 1)
        delays.append(one.delay(lambda: 1.0))
    assert delays == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert one.delay(lambda: 0.0) == 15.0
    one.probe()
    one.admit("probe")
    one.succeeded("probe")
    for number in range(10):
        one.failed("task", f"e-{number}", 1)
    assert one.delay(lambda: 1.0) == 1.0


# In the pipeline.


@dataclass
class Dependency:
    """What the handler needs; it fails with an `error` for those events that `fails` says."""

    fails: Callable[[str], bool] = lambda _: True
    error: Callable[[], Exception] = down
    attempts: dict[str, int] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    __name__ = "open_account"

    async def __call__(self, event: UserSignedUp, ctx: Context) -> None:
        self.calls[ctx.event_id] += 1
        if self.fails(ctx.event_id):
            raise self.error()
        self.attempts[ctx.event_id] = ctx.attempt


def never(_: str) -> bool:
    return False


def pipeline(
    handler: Handler, delay: float = 1000.0, ratio: float = 0.8, max_attempts: int = 2
) -> Pipeline:
    opens = Breaker(ratio, probes=3, delay=delay, delay_max=delay)
    return Pipeline(
        {UserSignedUp: [handler]}, breaker=opens, backoff=0.001, max_attempts=max_attempts
    )


async def fail_often(line: Pipeline) -> None:
    for number in range(10):
        await line.take(delivered(UserSignedUp(user_id=str(number)), f"e-{number}"))


@pytest.fixture
async def served() -> AsyncIterator[Serve]:
    """Lets pipelines take what comes from their bus; drains and closes them after the test."""
    lines: list[Pipeline] = []

    async def serve(line: Pipeline) -> None:
        lines.append(line)
        line.consumer.start()
        line.bus.subscribe(
            Subscription("billing-svc", frozenset({event_type(UserSignedUp)})),
            line.consumer.on_delivery,
        )
        await line.bus.start()

    yield serve
    for line in lines:
        await line.consumer.drain(PATIENCE)
        await line.bus.close()


def send(line: Pipeline, *ids: str) -> None:
    for id_ in ids:
        message = to_event(UserSignedUp(user_id=id_), source="shop", id_=id_)
        line.bus.broker.publish(
            message.envelope.type, to_headers(message.envelope, AMQP_PREFIX), message.body
        )


IDS = [f"e-{number}" for number in range(200)]


async def test_a_dependency_that_is_down_for_a_while_costs_no_event(
    served: Serve,
) -> None:
    dependency = Dependency()
    line = pipeline(dependency, delay=0.01, max_attempts=2)
    await served(line)
    send(line, *IDS)
    await eventually(lambda: line.bus.calls.count("resume") >= 5)
    dependency.fails = never
    await eventually(lambda: len(dependency.attempts) == len(IDS))
    assert line.bus.letters == {}
    assert sum(attempt - 1 for attempt in dependency.attempts.values()) < 20
    await eventually(lambda: line.metric("chassis_consumer_paused", reason="failures") == 0)
    assert line.bus.consuming


async def test_without_the_pause_the_same_queue_ends_in_the_dead_letters(
    served: Serve,
) -> None:
    line = pipeline(Dependency(), ratio=0, max_attempts=2)
    await served(line)
    send(line, *IDS)
    await eventually(lambda: len(line.bus.letters) == len(IDS))
    assert line.bus.calls == []


async def test_one_event_alone_that_never_works_reaches_the_dead_letters(
    served: Serve,
) -> None:
    line = pipeline(Dependency(), max_attempts=5)
    await served(line)
    send(line, "poison")
    await eventually(lambda: len(line.bus.letters) == 1)
    assert line.bus.calls == []


async def test_poison_that_is_all_that_is_left_in_the_queue_reaches_the_dead_letters(
    served: Serve,
) -> None:
    dependency = Dependency(fails=lambda id_: id_.endswith("7"))
    line = pipeline(dependency, max_attempts=5)
    await served(line)
    send(line, *IDS)
    await eventually(lambda: len(line.bus.letters) == 20 and len(dependency.attempts) == 180)
    assert line.bus.calls == []


async def test_poison_beside_events_that_work_reaches_the_dead_letters_without_a_pause(
    served: Serve,
) -> None:
    dependency = Dependency(fails=lambda id_: id_ == "e-100")
    line = pipeline(dependency, max_attempts=5)
    await served(line)
    send(line, *IDS)
    await eventually(
        lambda: len(line.bus.letters) == 1 and len(dependency.attempts) == len(IDS) - 1
    )
    assert dependency.calls["e-100"] == 5
    assert line.bus.calls == []


async def test_the_bus_pauses_and_what_comes_meanwhile_is_put_off() -> None:
    dependency = Dependency()
    line = pipeline(dependency)
    await fail_often(line)
    await eventually(lambda: line.bus.calls == ["pause"])
    assert line.metric("chassis_consumer_paused", reason="failures") == 1
    late = await line.take(delivered(UserSignedUp(user_id="late"), "late"))
    assert (late.outcome, late.counted, dependency.calls["late"]) == ("later", False, 0)
    assert line.consumed("handed_back") == 1
    await line.consumer.drain(0)


@pytest.mark.parametrize("attempt", [1, 2, 7])
async def test_the_failure_of_an_event_that_was_under_way_is_not_held_against_it(
    attempt: int,
) -> None:
    slow, go_on = asyncio.Event(), asyncio.Event()

    async def waits(event: UserSignedUp, ctx: Context) -> None:
        if ctx.event_id == "slow":
            slow.set()
            await go_on.wait()
        raise down()

    line = pipeline(waits)
    delivery = delivered(UserSignedUp(user_id="slow"), "slow", attempt=attempt)
    running = line.begin(delivery)
    await slow.wait()
    await fail_often(line)
    go_on.set()
    await running
    assert (delivery.outcome, delivery.counted) == ("later", False)
    assert line.consumed("retried") == 11
    await line.consumer.drain(0)


async def test_an_event_that_has_failed_for_too_long_is_dead_also_during_the_pause() -> None:
    line = pipeline(Dependency(), delay=0.001)
    await fail_often(line)
    await eventually(lambda: "resume" in line.bus.calls)
    old = delivered(UserSignedUp(user_id="old"), "old", attempt=2)
    old.history = replace(old.history, first_failure="2020-01-01T00:00:00Z")
    assert (await line.take(old)).buried.reason == "expired"
    await line.consumer.drain(0)


async def test_a_dependency_that_asks_to_wait_counts_as_failing() -> None:
    line = pipeline(Dependency(error=lambda: RetryAfter(60)))
    await fail_often(line)
    await eventually(lambda: line.bus.calls == ["pause"])
    await line.consumer.drain(0)


async def test_rejected_events_never_pause() -> None:
    line = pipeline(Dependency(error=lambda: Reject("no such plan")))
    for number in range(50):
        assert (await line.take(delivered(UserSignedUp(), f"e-{number}"))).outcome == "dead"
    assert line.bus.calls == []


async def test_what_cannot_be_decoded_never_pauses() -> None:
    line = pipeline(Dependency())
    for number in range(50):
        broken = delivered(UserSignedUp(user_id="u-1"), f"e-{number}")
        broken.body = b"\xff\xff"
        assert (await line.take(broken)).buried.reason == "undecodable"
    assert line.bus.calls == []


async def test_a_probe_that_turns_out_a_duplicate_makes_room_for_another() -> None:
    dependency = Dependency(fails=never)
    line = pipeline(dependency, delay=0.001)
    await line.take(delivered(UserSignedUp(user_id="u-1"), "known"))
    dependency.fails = lambda _: True
    for number in range(10):
        await line.take(delivered(UserSignedUp(user_id="u-1"), f"e-{number}"))
    await eventually(lambda: line.bus.calls == ["pause", "resume"])
    dependency.fails = never
    for _ in range(10):
        assert (await line.take(delivered(UserSignedUp(user_id="u-1"), "known"))).outcome == "done"
    assert (await line.take(delivered(UserSignedUp(user_id="u-1"), "new"))).outcome == "done"
    assert line.metric("chassis_consumer_paused", reason="failures") == 0
    await line.consumer.drain(0)


async def test_the_end_of_a_store_outage_does_not_end_the_pause() -> None:
    slow, go_on = asyncio.Event(), asyncio.Event()

    async def waits(event: UserSignedUp, ctx: Context) -> None:
        if ctx.event_id != "slow":
            raise down()
        slow.set()
        await go_on.wait()

    line = pipeline(waits)
    line.consumer.start()
    running = line.begin(delivered(UserSignedUp(user_id="slow"), "slow"))
    await slow.wait()
    await fail_often(line)
    line.inbox.fail("complete", "ping")
    go_on.set()
    await eventually(lambda: not line.consumer.store_reachable)
    line.inbox.broken.clear()
    await eventually(lambda: line.consumer.store_reachable)
    await running
    assert line.metric("chassis_consumer_paused", reason="store") == 0
    assert line.metric("chassis_consumer_paused", reason="failures") == 1
    assert line.bus.calls == ["pause"]
    await line.consumer.drain(0)


async def test_a_drain_ends_the_probing_and_resumes_nothing(log_lines: LogLines) -> None:
    line = pipeline(Dependency(), delay=0.01)
    await fail_often(line)
    await line.consumer.drain(0)
    assert line.bus.calls == ["pause"]
    late = await line.take(delivered(UserSignedUp(user_id="late"), "late"))
    assert late.outcome == "hand_back"
    assert not [one for one in log_lines() if "resumes" in one["event"]]


async def test_a_replica_whose_dependency_fails_is_consuming_while_its_bus_is_connected() -> None:
    line = pipeline(Dependency())
    await line.bus.start()
    await fail_often(line)
    await eventually(lambda: line.bus.calls == ["pause"])
    assert (line.bus.consuming, line.consumer.consuming) == (False, True)
    await line.bus.close()
    assert not line.consumer.consuming
    await line.consumer.drain(0)


async def test_the_pause_and_its_end_are_told_once(served: Serve, log_lines: LogLines) -> None:
    dependency = Dependency()
    line = pipeline(dependency, delay=0.01)
    await served(line)
    send(line, *IDS)
    await eventually(lambda: line.bus.calls.count("resume") >= 3)
    dependency.fails = never
    await eventually(lambda: len(dependency.attempts) == len(IDS))
    told = [(one["event"], one["level"]) for one in log_lines() if "the consumer" in one["event"]]
    assert told == [
        ("most events fail, the consumer pauses and probes; no attempts are used up", "error"),
        ("an event was handled again, the consumer resumes", "info"),
    ]
