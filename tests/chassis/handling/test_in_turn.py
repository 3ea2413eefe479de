"""Handlers that are limited or in order: events wait, are retried in hand, or are handed back."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest
from acme.billing.v1.account_opened_pb2 import AccountOpened
from acme.signup.v1.user_signed_up_pb2 import UserSignedUp
from google.protobuf.message import Message

from chassis import Context, Reject, RetryAfter
from chassis.handling.breaker import Breaker, State
from chassis.handling.turns import Slots, Turns
from chassis.inbox import Lease
from tests.chassis.pipeline import Delivered, Handler, Pipeline, delivered
from tests.waiting import PATIENCE, eventually

pytestmark = pytest.mark.usefixtures("log_lines")


@dataclass
class Desk:
    """A handler that keeps each event until it is let go, or raises each of its `raises` once."""

    name: str = "open_account"
    raises: dict[str, list[BaseException]] = field(default_factory=dict)
    keeps: bool = True
    begun: list[str] = field(default_factory=list)
    attempts: list[tuple[str, int]] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    doors: dict[str, asyncio.Event] = field(default_factory=dict)

    @property
    def __name__(self) -> str:  # type: ignore[override] # what a function has
        return self.name

    async def __call__(self, event: object, ctx: Context) -> None:
        self.begun.append(ctx.event_id)
        self.attempts.append((ctx.event_id, ctx.attempt))
        if errors := self.raises.get(ctx.event_id):
            raise errors.pop(0)
        if self.keeps:
            await self.door(ctx.event_id).wait()
        self.ended.append(ctx.event_id)

    def door(self, id_: str) -> asyncio.Event:
        return self.doors.setdefault(id_, asyncio.Event())

    def let_go(self, *ids: str) -> None:
        for id_ in ids:
            self.door(id_).set()


@pytest.fixture
async def line() -> AsyncIterator[Callable[..., Pipeline]]:
    """Makes pipelines with one handler of UserSignedUp, or the given ones; then drains them."""
    pipelines: list[Pipeline] = []

    def make(*handlers: Handler, turns: Turns | dict[str, Turns], **settings: object) -> Pipeline:
        by_name = turns if isinstance(turns, dict) else {handlers[0].__name__: turns}
        settings = {"backoff": 0.001} | settings
        pipelines.append(Pipeline({UserSignedUp: list(handlers)}, turns=by_name, **settings))  # type: ignore[arg-type]
        pipelines[-1].consumer.start()
        return pipelines[-1]

    yield make
    for pipeline in pipelines:
        await pipeline.consumer.drain(0)


def by_user() -> Turns:
    return Turns(ordered_by=lambda event: event.user_id)


def signed_up(id_: str, user: str = "u-1") -> Delivered:
    return delivered(UserSignedUp(user_id=user), id_)


async def settled() -> None:
    """Let every task run as far as it can without time."""
    for _ in range(50):
        await asyncio.sleep(0)


Line = Callable[..., Pipeline]


# At most so many at a time.


async def test_beyond_the_limit_an_event_waits_without_a_claim(line: Line) -> None:
    desk = Desk()
    pipeline = line(desk, turns=Turns(Slots(2)))
    deliveries = [signed_up(f"e-{n}") for n in range(4)]
    running = [pipeline.begin(one) for one in deliveries]
    await settled()
    assert desk.begun == ["e-0", "e-1"]
    assert pipeline.inbox.calls == ["claim", "claim"]
    desk.let_go("e-0")
    await eventually(lambda: len(desk.begun) == 3)
    assert desk.begun[2] == "e-2"
    desk.let_go("e-1", "e-2", "e-3")
    await asyncio.gather(*running)
    assert [one.outcome for one in deliveries] == ["done"] * 4
    assert pipeline.consumed("done") == 4


async def test_a_failure_gives_the_slot_free(line: Line) -> None:
    desk = Desk(raises={"e-0": [OSError("no")]}, keeps=False)
    pipeline = line(desk, turns=Turns(Slots(1)))
    assert (await pipeline.take(signed_up("e-0"))).counted is True
    assert (await pipeline.take(signed_up("e-1"))).outcome == "done"


async def test_other_handlers_do_not_wait_for_a_limited_one(line: Line) -> None:
    desk, other = Desk(), Desk("greet", keeps=False)
    pipeline = Pipeline(
        {UserSignedUp: [desk], AccountOpened: [other]}, turns={"open_account": Turns(Slots(1))}
    )
    running = [pipeline.begin(signed_up(f"e-{n}")) for n in range(3)]
    await settled()
    assert (await pipeline.take(delivered(AccountOpened(account_id="a"), "e-9"))).outcome == "done"
    desk.let_go("e-0", "e-1", "e-2")
    await asyncio.gather(*running)


async def test_what_finds_no_room_to_wait_comes_later_and_it_is_no_failure(line: Line) -> None:
    desk = Desk()
    slots = Slots(1, room=1)
    await slots.take()
    slots.free(10.0)
    pipeline = line(desk, turns=Turns(slots))
    running = [pipeline.begin(signed_up(f"e-{n}")) for n in range(2)]
    await settled()
    third = await pipeline.take(signed_up("e-2"))
    assert (third.outcome, third.counted) == ("later", False)
    assert third.delay is not None
    assert third.delay >= 10
    assert pipeline.consumed("busy") == 1
    desk.let_go("e-0", "e-1")
    await asyncio.gather(*running)


async def test_a_drain_hands_back_who_waits_at_once_and_lets_the_others_finish(line: Line) -> None:
    desk = Desk()
    pipeline = line(desk, turns=Turns(Slots(1)))
    running, waiting = signed_up("e-0"), signed_up("e-1")
    tasks = [pipeline.begin(one) for one in (running, waiting)]
    await settled()
    draining = asyncio.create_task(pipeline.consumer.drain(60))
    await tasks[1]
    assert waiting.outcome == "hand_back"
    assert desk.begun == ["e-0"]
    desk.let_go("e-0")
    assert await draining == 0
    assert running.outcome == "done"


# In order.


async def test_events_of_a_key_are_handled_one_at_a_time_in_the_order_delivered(line: Line) -> None:
    desk = Desk()
    pipeline = line(desk, turns=by_user())
    running = [pipeline.begin(signed_up(f"e-{n}")) for n in range(4)]
    for n in range(4):
        await eventually(lambda n=n: desk.begun == [f"e-{done}" for done in range(n + 1)])  # type: ignore[misc]
        await settled()
        assert len(desk.begun) == n + 1
        desk.let_go(f"e-{n}")
    await asyncio.gather(*running)
    assert pipeline.consumed("done") == 4


async def test_events_of_other_keys_are_not_held_up(line: Line) -> None:
    desk = Desk()
    pipeline = line(desk, turns=by_user())
    running = [pipeline.begin(signed_up("e-0", "u-1")), pipeline.begin(signed_up("e-1", "u-2"))]
    await eventually(lambda: desk.begun == ["e-0", "e-1"])
    desk.let_go("e-0", "e-1")
    await asyncio.gather(*running)


@pytest.mark.parametrize("key", [None, ""])
async def test_without_a_key_there_is_no_order(line: Line, key: str | None) -> None:
    desk = Desk()
    pipeline = line(desk, turns=Turns(ordered_by=lambda _: key))
    running = [pipeline.begin(signed_up(f"e-{n}")) for n in range(2)]
    await eventually(lambda: desk.begun == ["e-0", "e-1"])
    desk.let_go("e-0", "e-1")
    await asyncio.gather(*running)


@pytest.mark.parametrize("key", [lambda event: event.no_such_field, lambda _: 7])
async def test_a_bad_key_is_a_dead_letter_before_anything_is_claimed(
    line: Line, key: Callable[[object], str]
) -> None:
    desk = Desk()
    pipeline = line(desk, turns=Turns(ordered_by=key))
    failure = (await pipeline.take(signed_up("e-0"))).buried
    assert (failure.reason, failure.handler) == ("bad_key", "open_account")
    assert pipeline.inbox.calls == []


async def test_a_failing_event_is_retried_in_hand_and_nobody_overtakes_it(line: Line) -> None:
    desk = Desk(raises={"e-0": [OSError("1"), OSError("2")]}, keeps=False)
    pipeline = line(desk, turns=by_user())
    deliveries = [signed_up(f"e-{n}") for n in range(3)]
    await asyncio.gather(*(pipeline.begin(one) for one in deliveries))
    assert desk.attempts == [("e-0", 1), ("e-0", 2), ("e-0", 3), ("e-1", 1), ("e-2", 1)]
    assert [one.outcome for one in deliveries] == ["done"] * 3
    assert (
        pipeline.metric(
            "chassis_handler_failures_total", type="acme.signup.v1.UserSignedUp", handler=desk.name
        )
        == 2
    )


async def test_after_its_last_attempt_an_event_is_dead_and_the_next_one_comes(line: Line) -> None:
    desk = Desk(raises={"e-0": [OSError("no")] * 9, "e-1": [Reject("no")]}, keeps=False)
    pipeline = line(desk, turns=by_user(), max_attempts=3)
    deliveries = [signed_up(f"e-{n}") for n in range(3)]
    await asyncio.gather(*(pipeline.begin(one) for one in deliveries))
    assert (deliveries[0].buried.reason, deliveries[0].buried.attempts) == ("attempts_exhausted", 3)
    assert deliveries[0].buried.first_failure < deliveries[0].buried.last_failure
    assert deliveries[1].buried.reason == "rejected"
    assert desk.ended == ["e-2"]


async def test_nobody_moves_up_before_the_one_in_front_is_settled(line: Line) -> None:
    desk, slow = Desk(raises={"e-0": [Reject("no")]}, keeps=False), Desk("greet")
    pipeline = line(desk, slow, turns={desk.name: by_user()})
    running = [pipeline.begin(signed_up(f"e-{n}")) for n in range(2)]
    await eventually(lambda: slow.begun == ["e-0"])
    await settled()
    assert desk.begun == ["e-0"]
    slow.let_go("e-0", "e-1")
    await asyncio.gather(*running)
    assert desk.begun == ["e-0", "e-1"]


async def test_the_second_handler_sees_the_order_of_delivery_too(line: Line) -> None:
    first, second = Desk("first"), Desk("second", keeps=False)
    keys = iter(["a", "b"])
    orders = {"first": Turns(ordered_by=lambda _: next(keys)), "second": by_user()}
    pipeline = line(first, second, turns=orders)
    running = [pipeline.begin(signed_up(f"e-{n}")) for n in range(2)]
    await eventually(lambda: first.begun == ["e-0", "e-1"])
    first.let_go("e-1")
    await eventually(lambda: first.ended == ["e-1"])
    await settled()
    assert second.begun == []
    first.let_go("e-0")
    await asyncio.gather(*running)
    assert second.begun == ["e-0", "e-1"]


async def test_a_limit_and_an_order_hold_together(line: Line) -> None:
    desk = Desk()
    pipeline = line(desk, turns=Turns(Slots(1), lambda event: event.user_id))
    running = [pipeline.begin(signed_up(f"e-{n}", f"u-{n % 2}")) for n in range(4)]
    for n in range(4):
        await eventually(lambda n=n: len(desk.begun) == n + 1)  # type: ignore[misc]
        await settled()
        assert len(desk.begun) == n + 1
        desk.let_go(desk.begun[-1])
    await asyncio.gather(*running)
    assert [id_ for id_ in desk.ended if id_ in {"e-0", "e-2"}] == ["e-0", "e-2"]


async def test_a_key_that_another_replica_has_in_hand_is_waited_for_and_costs_no_attempt(
    line: Line,
) -> None:
    here, there = Desk(), Desk(keeps=False)
    one = line(here, turns=by_user())
    two = line(there, turns=by_user(), shares_inbox_of=one)
    tasks = [one.begin(signed_up("e-0"))]
    await eventually(lambda: here.begun == ["e-0"])
    asked = len(one.inbox.calls)
    tasks.append(two.begin(signed_up("e-1")))
    await eventually(lambda: len(one.inbox.calls) > asked + 2)
    assert there.begun == []
    here.let_go("e-0")
    await asyncio.gather(*tasks)
    assert there.attempts == [("e-1", 1)]


async def test_a_key_stays_in_hand_while_its_event_waits_for_a_retry(line: Line) -> None:
    here, there = Desk(raises={"e-0": [RetryAfter(60)]}), Desk(keeps=False)
    one = line(here, turns=by_user())
    two = line(there, turns=by_user(), shares_inbox_of=one)
    head = signed_up("e-0")
    tasks = [one.begin(head)]
    await eventually(lambda: here.begun == ["e-0"])
    await settled()
    asked = len(one.inbox.calls)
    tasks.append(two.begin(signed_up("e-1")))
    await eventually(lambda: len(one.inbox.calls) > asked + 2)
    assert there.begun == []
    await one.consumer.drain(0)
    await asyncio.gather(*tasks)
    assert head.outcome == "hand_back"
    assert there.ended == ["e-1"]


async def test_a_drain_hands_back_a_key_in_its_order(line: Line) -> None:
    desk = Desk(raises={"e-0": [RetryAfter(60)]})
    pipeline = line(desk, turns=by_user())
    deliveries = [signed_up(f"e-{n}") for n in range(4)]
    order: list[Delivered] = []
    for one in deliveries:
        one.on_settled = order.append
    running = [pipeline.begin(one) for one in deliveries]
    await eventually(lambda: desk.begun == ["e-0"])
    await settled()
    assert await pipeline.consumer.drain(60) == 0
    await asyncio.gather(*running)
    assert [one.outcome for one in deliveries] == ["hand_back"] * 4
    assert order == deliveries


async def test_a_retry_that_would_be_kept_for_too_long_goes_to_the_broker_and_loses_its_place(
    line: Line,
) -> None:
    desk = Desk(raises={"e-0": [RetryAfter(601)]}, keeps=False)
    pipeline = line(desk, turns=by_user())
    deliveries = [signed_up(f"e-{n}") for n in range(2)]
    await asyncio.gather(*(pipeline.begin(one) for one in deliveries))
    assert (deliveries[0].outcome, deliveries[0].delay, deliveries[0].counted) == (
        "later",
        601,
        True,
    )
    assert deliveries[1].outcome == "done"


async def test_an_event_that_is_not_at_fault_is_handed_back_in_order_when_kept_for_too_long(
    line: Line,
) -> None:
    desk = Desk()
    pipeline = line(desk, turns=by_user(), hold=0.2)
    pipeline.inbox.fail("claim")
    deliveries = [signed_up(f"e-{n}") for n in range(3)]
    await asyncio.gather(*(pipeline.begin(one) for one in deliveries))
    assert [one.outcome for one in deliveries] == ["hand_back"] * 3
    assert desk.begun == []


async def test_an_outage_of_the_store_does_not_change_the_order(line: Line) -> None:
    desk = Desk(keeps=False)
    pipeline = line(desk, turns=by_user())
    pipeline.inbox.fail("claim", "ping")
    deliveries = [signed_up(f"e-{n}") for n in range(3)]
    running = [pipeline.begin(one) for one in deliveries]
    await eventually(lambda: pipeline.inbox.calls.count("claim") > 3)
    assert not pipeline.consumer.store_reachable
    pipeline.inbox.broken.clear()
    await asyncio.gather(*running)
    assert desk.attempts == [("e-0", 1), ("e-1", 1), ("e-2", 1)]


async def test_a_lost_lease_hands_back_the_event_and_those_behind_it(line: Line) -> None:
    desk = Desk()
    pipeline = line(desk, turns=by_user())
    deliveries = [signed_up(f"e-{n}") for n in range(2)]
    running = [pipeline.begin(one) for one in deliveries]
    await eventually(lambda: desk.begun == ["e-0"])
    pipeline.now = 61.0
    *_, (key, _) = pipeline.inbox.asked
    assert isinstance(await pipeline.inbox.claim(key, "of another payload"), Lease)
    desk.let_go("e-0")
    await asyncio.gather(*running, return_exceptions=True)
    assert [one.outcome for one in deliveries] == ["hand_back"] * 2
    assert desk.begun == ["e-0"]


async def test_leases_that_are_lost_after_the_handler_has_returned_repeat_nothing(
    line: Line,
) -> None:
    desk = Desk(keeps=False)
    pipeline = line(desk, turns=by_user(), lease=0.01)
    pipeline.inbox.fail("complete", "extend", "ping")
    pipeline.consumer.start()
    deliveries = [signed_up(f"e-{n}") for n in range(2)]
    running = [pipeline.begin(one) for one in deliveries]
    await eventually(lambda: pipeline.inbox.calls.count("complete") > 10)
    pipeline.now = 61.0
    pipeline.inbox.broken.clear()
    await asyncio.gather(*running)
    assert [one.outcome for one in deliveries] == ["done"] * 2
    assert desk.attempts == [("e-0", 1), ("e-1", 1)]


async def test_a_probe_that_stands_behind_another_event_lets_that_one_be_the_probe(
    line: Line,
) -> None:
    desk = Desk(raises={"e-0": [RetryAfter(0.2)]}, keeps=False)
    breaker = Breaker(0.5, window=1, least=1, probes=1, delay=0.001, delay_max=0.002)
    pipeline = line(desk, turns=by_user(), breaker=breaker)
    first, second = signed_up("e-0"), signed_up("e-1")
    running = [pipeline.begin(first)]
    await eventually(lambda: breaker.state is State.PROBING)
    running.append(pipeline.begin(second))
    await asyncio.wait_for(asyncio.gather(*running), PATIENCE)
    assert desk.attempts == [("e-0", 1), ("e-0", 1), ("e-1", 1)]
    assert breaker.state is State.CLOSED


async def test_a_probe_that_waits_for_a_slot_lets_another_event_be_the_probe(line: Line) -> None:
    desk, other = Desk(), Desk("greet", raises={"e-1": [OSError("down")]}, keeps=False)
    handlers: dict[type[Message], list[Handler]] = {UserSignedUp: [desk], AccountOpened: [other]}
    breaker = Breaker(0.5, window=1, least=1, probes=1, delay=0.001, delay_max=0.002)
    pipeline = Pipeline(handlers, turns={desk.name: Turns(Slots(1))}, breaker=breaker)
    running = [pipeline.begin(signed_up("e-0"))]
    await eventually(lambda: desk.begun == ["e-0"])
    await pipeline.take(delivered(AccountOpened(account_id="a"), "e-1"))
    await eventually(lambda: breaker.state is State.PROBING)
    running.append(pipeline.begin(signed_up("e-2")))
    await settled()
    assert (await pipeline.take(delivered(AccountOpened(account_id="a"), "e-3"))).outcome == "done"
    assert breaker.state is State.CLOSED
    desk.let_go("e-0", "e-2")
    await asyncio.gather(*running)


async def test_a_probe_whose_key_another_replica_has_lets_another_event_be_the_probe(
    line: Line,
) -> None:
    here, there = Desk(), Desk(raises={"e-0": [RetryAfter(60)]}, keeps=False)
    breaker = Breaker(0.5, window=1, least=1, probes=1, delay=0.001, delay_max=0.002)
    one = line(here, turns=by_user())
    two = line(there, turns=by_user(), breaker=breaker, shares_inbox_of=one)
    running = [one.begin(signed_up("e-9", "u-9"))]
    await eventually(lambda: here.begun == ["e-9"])
    running.append(two.begin(signed_up("e-0", "u-0")))
    await eventually(lambda: breaker.state is State.PROBING)
    running.append(two.begin(signed_up("e-1", "u-9")))
    await settled()
    assert (await two.take(signed_up("e-2", "u-2"))).outcome == "done"
    assert breaker.state is State.CLOSED
    here.let_go("e-9")
    await two.consumer.drain(0)
    await asyncio.gather(*running)


async def test_who_gets_a_slot_during_a_pause_is_put_off_and_it_is_no_failure(line: Line) -> None:
    desk, other = Desk(), Desk("greet", raises={"e-2": [OSError("down")]}, keeps=False)
    handlers: dict[type[Message], list[Handler]] = {UserSignedUp: [desk], AccountOpened: [other]}
    breaker = Breaker(0.5, window=1, least=1, delay=3600, delay_max=3600)
    pipeline = Pipeline(handlers, turns={desk.name: Turns(Slots(1))}, breaker=breaker)
    waiting = signed_up("e-1")
    running = [pipeline.begin(signed_up("e-0")), pipeline.begin(waiting)]
    await eventually(lambda: desk.begun == ["e-0"])
    await pipeline.take(delivered(AccountOpened(account_id="a"), "e-2"))
    assert breaker.state is State.OPEN
    desk.let_go("e-0")
    await asyncio.gather(*running)
    assert (waiting.outcome, waiting.counted) == ("later", False)
    assert desk.begun == ["e-0"]
    await pipeline.consumer.drain(0)


# Every replica for itself.


async def test_what_every_replica_gets_is_handled_without_a_claim() -> None:
    desk = Desk(keeps=False)
    pipeline = Pipeline({UserSignedUp: [desk]})
    pipeline.inbox.fail("claim")
    for _ in range(2):
        delivery = signed_up("e-0")
        await pipeline.begin_for_each(delivery)
        assert delivery.outcome == "done"
    assert desk.begun == ["e-0", "e-0"]
    assert pipeline.inbox.calls == []
    assert pipeline.metric("chassis_inbox_claims_total", outcome="claimed") == 0


async def test_what_every_replica_gets_is_retried_then_given_up_and_is_no_dead_letter() -> None:
    desk = Desk(raises={"e-0": [OSError("no")] * 2})
    pipeline = Pipeline({UserSignedUp: [desk]}, max_attempts=2)
    first = signed_up("e-0")
    await pipeline.begin_for_each(first)
    assert (first.outcome, first.counted) == ("later", True)
    last = delivered(UserSignedUp(user_id="u-1"), "e-0", attempt=2)
    await pipeline.begin_for_each(last)
    assert last.buried.reason == "attempts_exhausted"
    assert (pipeline.consumed("given_up"), pipeline.consumed("dead")) == (1, 0)


async def test_what_every_replica_gets_can_be_in_order_too(line: Line) -> None:
    desk = Desk(raises={"e-0": [OSError("no")]}, keeps=False)
    pipeline = line(desk, turns=by_user())
    await asyncio.gather(*(pipeline.begin_for_each(signed_up(f"e-{n}")) for n in range(3)))
    assert desk.attempts == [("e-0", 1), ("e-0", 2), ("e-1", 1), ("e-2", 1)]
