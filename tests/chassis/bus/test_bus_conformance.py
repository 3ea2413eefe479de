"""The behaviour that all buses share: a behaviour of one adapter alone is a defect.

A new adapter is one entry in LABS.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import pytest
from structlog.testing import capture_logs

from chassis.bus import (
    Backlog,
    BusUnavailable,
    DeadLetter,
    Delivery,
    Failure,
    Subscription,
    Verdict,
)
from chassis.bus.history import History
from chassis.contracts.envelope import EncodedEvent, Envelope, EnvelopeError
from tests.brokers.cable import Cable
from tests.brokers.process import free_port
from tests.chassis.bus_labs import LABS, Lab
from tests.waiting import PATIENCE, eventually

SIGNED_UP = "acme.signup.v1.UserSignedUp"
OPENED = "acme.billing.v1.AccountOpened"
WITH_A_SERVER = [name for name in LABS if name != "memory"]


@pytest.fixture(params=LABS)
async def lab(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Lab]:
    async with LABS[request.param](tmp_path) as lab:
        yield lab


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@dataclass
class Replica:
    """One process of a service: keeps what it got, settles each delivery with `settle`."""

    lab: Lab
    service: str = "billing-svc"
    types: frozenset[str] | None = frozenset({SIGNED_UP})
    prefetch: int = 10
    mode: str = "shared"
    settle: Callable[[Delivery], Awaitable[None]] | None = None
    got: list[Delivery] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self.bus = self.lab.bus(self.service)
        self.bus.subscribe(
            Subscription(self.service, self.types, self.prefetch, self.mode), self._on_delivery
        )  # type: ignore[arg-type]
        await self.bus.start()
        await asyncio.wait_for(self.bus.wait_ready(), PATIENCE)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.bus.close()

    async def _on_delivery(self, delivery: Delivery) -> None:
        self.got.append(delivery)
        if self.settle is None:
            delivery.done()
        else:
            await self.settle(delivery)

    @property
    def bodies(self) -> list[bytes]:
        return [delivery.body for delivery in self.got]

    async def until(self, count: int) -> None:
        await eventually(lambda: len(self.got) >= count)


async def keep(_: Delivery) -> None:
    """Leave the delivery unsettled."""


def event(body: bytes = b"x", *, id_: str = "e-1", type_: str = SIGNED_UP) -> EncodedEvent:
    return EncodedEvent(
        Envelope(id=id_, source="test", type=type_, time=datetime(2026, 1, 2, 3, 4, 5, 6, UTC)),
        body,
    )


async def publisher(lab: Lab, stack: AsyncExitStack) -> Callable[[EncodedEvent], Awaitable[None]]:
    bus = lab.bus("publisher")
    await bus.start()
    stack.push_async_callback(bus.close)
    await asyncio.wait_for(bus.wait_ready(), PATIENCE)
    return bus.publish


async def letters(lab: Lab, service: str, verdict: Verdict = Verdict.KEEP) -> list[DeadLetter]:
    found: list[DeadLetter] = []

    async def decide(letter: DeadLetter) -> Verdict:
        found.append(letter)
        return verdict

    bus = lab.bus("dlq-tool")
    await bus.start()
    try:
        await asyncio.wait_for(bus.wait_ready(), PATIENCE)
        await asyncio.wait_for(bus.sweep(service, decide), PATIENCE)
    finally:
        await bus.close()
    return found


async def test_an_event_reaches_each_service_that_takes_its_type_and_no_other(
    lab: Lab, stack: AsyncExitStack
) -> None:
    billing = await stack.enter_async_context(Replica(lab, "billing-svc"))
    welcome = await stack.enter_async_context(Replica(lab, "welcome-svc"))
    audit = await stack.enter_async_context(Replica(lab, "audit-svc", frozenset({OPENED})))
    publish = await publisher(lab, stack)
    await publish(event(b"1"))
    await publish(event(b"2", id_="e-2", type_=OPENED))
    await asyncio.gather(billing.until(1), welcome.until(1), audit.until(1))
    assert (billing.bodies, welcome.bodies, audit.bodies) == ([b"1"], [b"1"], [b"2"])


async def test_an_event_goes_to_one_replica_of_a_service(lab: Lab, stack: AsyncExitStack) -> None:
    one = await stack.enter_async_context(Replica(lab))
    two = await stack.enter_async_context(Replica(lab))
    publish = await publisher(lab, stack)
    expected = [b"%d" % n for n in range(50)]
    await asyncio.gather(*(publish(event(body, id_=body.decode())) for body in expected))
    await eventually(lambda: len(one.got) + len(two.got) >= 50)
    assert sorted(one.bodies + two.bodies) == sorted(expected)


async def test_a_replica_of_an_older_version_that_joins_takes_no_type_away(
    lab: Lab, stack: AsyncExitStack
) -> None:
    newer = await stack.enter_async_context(Replica(lab, types=frozenset({SIGNED_UP, OPENED})))
    publish = await publisher(lab, stack)
    async with Replica(lab):
        pass  # began after the newer one, and is gone again before the events
    await publish(event(b"1", id_="1", type_=OPENED))
    await publish(event(b"2", id_="2"))
    await newer.until(2)
    assert sorted(newer.bodies) == [b"1", b"2"]


async def test_the_envelope_arrives_as_it_was_sent(lab: Lab, stack: AsyncExitStack) -> None:
    replica = await stack.enter_async_context(Replica(lab))
    publish = await publisher(lab, stack)
    sent = Envelope(
        id="ü 1/%\n",
        source="/signup svc",
        type=SIGNED_UP,
        time=datetime(2026, 1, 2, 3, 4, 5, 6, UTC),
        subject="użytkownik 7",
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        tracestate="a=1",
    )
    await publish(EncodedEvent(sent, b"\x00\xff"))
    await replica.until(1)
    assert replica.got[0].envelope() == sent
    assert replica.got[0].body == b"\x00\xff"
    assert replica.got[0].history.attempt == 1
    assert replica.got[0].history.first_failure == ""


@pytest.mark.parametrize("headers", [{}, {"junk": "\x7f"}, {"cloudEvents:id": "", "ce-id": ""}])
async def test_a_message_that_is_no_cloudevent_is_delivered_raw(
    lab: Lab, stack: AsyncExitStack, headers: dict[str, str]
) -> None:
    replica = await stack.enter_async_context(Replica(lab))
    await lab.publish_foreign(SIGNED_UP, headers, b"\xde\xad\xbe\xef")
    await replica.until(1)
    assert replica.got[0].body == b"\xde\xad\xbe\xef"
    with pytest.raises(EnvelopeError):
        replica.got[0].envelope()


async def test_a_foreign_publisher_with_cloudevents_headers_is_understood(
    lab: Lab, stack: AsyncExitStack
) -> None:
    replica = await stack.enter_async_context(Replica(lab))
    await lab.publish_foreign(SIGNED_UP, lab.cloudevents_headers("e-9", SIGNED_UP), b"hello")
    await replica.until(1)
    assert replica.got[0].envelope().id == "e-9"


async def later_then_bury(delivery: Delivery) -> None:
    if delivery.history.attempt == 1:
        await delivery.later(0.01, counted=True)
    else:
        await delivery.dead(Failure("rejected", service="billing-svc"))


async def test_json_of_a_foreign_publisher_is_known_as_such_also_after_a_retry_and_when_dead(
    lab: Lab, stack: AsyncExitStack
) -> None:
    replica = await stack.enter_async_context(Replica(lab, settle=later_then_bury))
    headers = lab.cloudevents_headers("e-9", SIGNED_UP)
    headers["content-type"] = "application/json; charset=utf-8"
    await lab.publish_foreign(SIGNED_UP, headers, b"{}")
    await replica.until(2)
    assert [delivery.envelope().json for delivery in replica.got] == [True, True]
    assert [letter.json for letter in await patient_letters(lab, 1)] == [True]


async def test_structured_mode_is_no_envelope_and_says_what_to_do(
    lab: Lab, stack: AsyncExitStack
) -> None:
    replica = await stack.enter_async_context(Replica(lab))
    headers = {"content-type": "application/cloudevents+json", "x": "y"}
    await lab.publish_foreign(SIGNED_UP, headers, b"{}")
    await replica.until(1)
    with pytest.raises(EnvelopeError, match="structured mode; publish in binary mode"):
        replica.got[0].envelope()


async def test_the_control_headers_of_a_foreign_publisher_have_no_power(
    lab: Lab, stack: AsyncExitStack
) -> None:
    replica = await stack.enter_async_context(Replica(lab))
    control: dict[str, object] = {
        "chassis-attempt": 4,
        "chassis-first-failure": "2001-01-02T03:04:05Z",
        "dead-letter-reason": "rejected",
    }
    headers = lab.cloudevents_headers("e-9", SIGNED_UP) | control
    await lab.publish_foreign(SIGNED_UP, headers, b"hello")
    await replica.until(1)
    assert replica.got[0].history == History()


async def test_at_most_prefetch_deliveries_are_unsettled(lab: Lab, stack: AsyncExitStack) -> None:
    replica = await stack.enter_async_context(Replica(lab, prefetch=3, settle=keep))
    publish = await publisher(lab, stack)
    await asyncio.gather(*(publish(event(id_=str(n))) for n in range(10)))
    await replica.until(3)
    await asyncio.sleep(0.3)
    assert len(replica.got) == 3
    replica.got[0].done()
    await replica.until(4)


async def test_what_is_done_never_comes_back(lab: Lab, stack: AsyncExitStack) -> None:
    publish = await publisher(lab, stack)
    async with Replica(lab) as first:
        await asyncio.gather(*(publish(event(id_=str(n))) for n in range(7)))
        await first.until(7)
    async with Replica(lab) as second:
        await publish(event(b"last", id_="last"))
        await second.until(1)
        assert second.bodies == [b"last"]


async def test_what_is_not_settled_is_delivered_to_another_replica(
    lab: Lab, stack: AsyncExitStack
) -> None:
    publish = await publisher(lab, stack)
    async with Replica(lab, settle=keep) as first:
        await publish(event(b"1"))
        await first.until(1)
    second = await stack.enter_async_context(Replica(lab))
    await second.until(1)
    assert second.bodies == [b"1"]
    assert second.got[0].history.attempt == 1


async def test_events_wait_for_a_service_that_is_down(lab: Lab, stack: AsyncExitStack) -> None:
    publish = await publisher(lab, stack)
    async with Replica(lab):
        pass
    await publish(event(b"1"))
    again = await stack.enter_async_context(Replica(lab))
    await again.until(1)


async def test_a_delivery_handed_back_is_delivered_again_as_the_same_attempt(
    lab: Lab, stack: AsyncExitStack
) -> None:
    async def hand_back_once(delivery: Delivery) -> None:
        if len(replica.got) == 1:
            await delivery.hand_back()
        else:
            delivery.done()

    replica = await stack.enter_async_context(Replica(lab, settle=hand_back_once))
    await (await publisher(lab, stack))(event())
    await replica.until(2)
    assert [delivery.history.attempt for delivery in replica.got] == [1, 1]


async def test_deliveries_handed_back_in_order_come_again_in_that_order(
    lab: Lab, stack: AsyncExitStack
) -> None:
    replica = await stack.enter_async_context(Replica(lab, settle=keep))
    publish = await publisher(lab, stack)
    for number in range(5):
        await publish(event(b"%d" % number, id_=f"e-{number}"))
    await replica.until(5)
    first = replica.got[:5]
    for delivery in first:
        await delivery.hand_back()
    await replica.until(10)
    assert (
        replica.bodies[5:]
        == [delivery.body for delivery in first]
        == [b"%d" % number for number in range(5)]
    )


async def test_later_counts_attempts_and_keeps_the_event(lab: Lab, stack: AsyncExitStack) -> None:
    async def fail_twice(delivery: Delivery) -> None:
        if delivery.history.attempt < 3:
            await delivery.later(0.05, counted=True)
        else:
            delivery.done()

    replica = await stack.enter_async_context(Replica(lab, settle=fail_twice))
    other = await stack.enter_async_context(Replica(lab, "welcome-svc"))
    await (await publisher(lab, stack))(event(b"1"))
    await replica.until(3)
    assert [delivery.history.attempt for delivery in replica.got] == [1, 2, 3]
    assert {delivery.envelope().id for delivery in replica.got} == {"e-1"}
    assert replica.bodies == [b"1"] * 3
    assert replica.got[0].history.first_failure == ""
    assert datetime.fromisoformat(replica.got[1].history.first_failure).tzinfo is not None
    assert replica.got[1].history.first_failure == replica.got[2].history.first_failure
    assert len(other.got) == 1, "another service must not see the retry"


async def test_later_without_counting_keeps_the_attempt(lab: Lab, stack: AsyncExitStack) -> None:
    async def busy_twice(delivery: Delivery) -> None:
        if len(replica.got) < 3:
            await delivery.later(0.05, counted=False)
        else:
            delivery.done()

    replica = await stack.enter_async_context(Replica(lab, settle=busy_twice))
    await (await publisher(lab, stack))(event())
    await replica.until(3)
    assert [delivery.history.attempt for delivery in replica.got] == [1, 1, 1]


async def test_a_delay_survives_the_replica(lab: Lab, stack: AsyncExitStack) -> None:
    async def delay(delivery: Delivery) -> None:
        await delivery.later(1.0, counted=True)
        settled.set()

    settled = asyncio.Event()
    publish = await publisher(lab, stack)
    async with Replica(lab, settle=delay):
        await publish(event())
        await asyncio.wait_for(settled.wait(), PATIENCE)
    again = await stack.enter_async_context(Replica(lab))
    await again.until(1)
    assert again.got[0].history.attempt == 2


FAILURE = Failure(
    reason="rejected",
    error="builtins.ValueError",
    message="no such plan: “gold”\nsecond line",
    stack='File "handlers.py", line 7\n  raise ValueError\n',
    handler="open_account",
    attempts=3,
    service="billing-svc",
    version="1.2.3",
    first_failure="2026-01-02T03:04:05.000006Z",
    last_failure="2026-01-02T03:05:05.000006Z",
)


async def bury(delivery: Delivery) -> None:
    await delivery.dead(FAILURE)


async def test_a_dead_letter_keeps_the_message_and_says_why(
    lab: Lab, stack: AsyncExitStack
) -> None:
    replica = await stack.enter_async_context(Replica(lab, settle=bury))
    await (await publisher(lab, stack))(event(b"\x00poison"))
    await replica.until(1)
    found = await patient_letters(lab, 1)
    assert found[0].failure == FAILURE
    assert found[0].body == b"\x00poison"
    assert found[0].type == SIGNED_UP
    original = dict(replica.got[0].headers)
    assert {name: found[0].headers[name] for name in original} == original


async def patient_letters(lab: Lab, count: int, service: str = "billing-svc") -> list[DeadLetter]:
    async with asyncio.timeout(PATIENCE):
        while len(found := await letters(lab, service)) < count:
            await asyncio.sleep(0.05)
    return found


async def test_the_backlog_is_what_waits_for_the_service_and_what_died(
    lab: Lab, stack: AsyncExitStack
) -> None:
    bus = lab.bus("onlooker")
    await bus.start()
    stack.push_async_callback(bus.close)
    await asyncio.wait_for(bus.wait_ready(), PATIENCE)

    bound = None if lab.url == "memory://" else 100_000

    async def told(expected: Backlog) -> None:
        async with asyncio.timeout(PATIENCE):
            while replace(await bus.backlog("billing-svc"), most_dead=None) != expected:
                await asyncio.sleep(0.05)

    await told(Backlog(0, 0))  # nothing is there yet, not even the queue
    publish = await publisher(lab, stack)
    async with Replica(lab, settle=bury) as replica:
        await publish(event(b"1"))
        await replica.until(1)
        await told(Backlog(0, 1))
        assert (await bus.backlog("billing-svc")).most_dead == bound
    for number in range(3):
        await publish(event(id_=f"waiting-{number}"))
    await told(Backlog(3, 1))
    async with Replica(lab, prefetch=2, settle=keep) as replica:
        await replica.until(2)
        await told(Backlog(1, 1))  # what is in a replica's hands does not wait any more


async def test_a_message_without_headers_can_be_a_dead_letter(
    lab: Lab, stack: AsyncExitStack
) -> None:
    replica = await stack.enter_async_context(Replica(lab, settle=bury))
    await lab.publish_foreign(SIGNED_UP, {}, b"\xff\xfe")
    await lab.publish_foreign(SIGNED_UP, {}, b"")
    await replica.until(2)
    found = await patient_letters(lab, 2)
    assert {letter.body for letter in found} == {b"\xff\xfe", b""}


async def test_the_same_message_dead_twice_is_one_entry(lab: Lab, stack: AsyncExitStack) -> None:
    replica = await stack.enter_async_context(Replica(lab, settle=bury))
    publish = await publisher(lab, stack)
    await lab.publish_foreign(SIGNED_UP, lab.cloudevents_headers("e-1", SIGNED_UP), b"x")
    await lab.publish_foreign(SIGNED_UP, lab.cloudevents_headers("e-1", SIGNED_UP), b"x")
    await publish(event(id_="e-2"))
    await replica.until(3)
    await patient_letters(lab, 2)
    assert len({letter.id for letter in await letters(lab, "billing-svc")}) == 2
    assert len(await letters(lab, "billing-svc")) == 2


async def test_another_payload_under_the_same_event_id_is_an_entry_of_its_own(
    lab: Lab, stack: AsyncExitStack
) -> None:
    replica = await stack.enter_async_context(Replica(lab, settle=bury))
    publish = await publisher(lab, stack)
    await publish(event(b"one"))
    await publish(event(b"other"))
    await replica.until(2)
    assert sorted(letter.body for letter in await patient_letters(lab, 2)) == [b"one", b"other"]


async def test_a_sweep_that_keeps_changes_nothing(lab: Lab, stack: AsyncExitStack) -> None:
    replica = await stack.enter_async_context(Replica(lab, settle=bury))
    publish = await publisher(lab, stack)
    for n in range(5):
        await publish(event(id_=f"e-{n}"))
    await replica.until(5)
    before = [letter.id for letter in await patient_letters(lab, 5)]
    assert [letter.id for letter in await letters(lab, "billing-svc")] == before


async def test_a_sweep_right_after_another_sees_the_same(lab: Lab, stack: AsyncExitStack) -> None:
    replica = await stack.enter_async_context(Replica(lab, settle=bury))
    publish = await publisher(lab, stack)
    for n in range(5):
        await publish(event(id_=f"e-{n}"))
    await replica.until(5)
    await patient_letters(lab, 5)
    seen: list[str] = []

    async def look(letter: DeadLetter) -> Verdict:
        seen.append(letter.id)
        return Verdict.KEEP

    for sweeps in range(1, 21):
        await replica.bus.sweep("billing-svc", look)
        assert len(seen) == 5 * sweeps


async def test_replay_gives_the_message_to_its_own_service_only_as_a_first_attempt(
    lab: Lab, stack: AsyncExitStack
) -> None:
    async def bury_once(delivery: Delivery) -> None:
        if len(replica.got) == 1:
            await delivery.later(0, counted=True)
        elif len(replica.got) == 2:
            await delivery.dead(FAILURE)
        else:
            delivery.done()

    replica = await stack.enter_async_context(Replica(lab, settle=bury_once))
    other = await stack.enter_async_context(Replica(lab, "welcome-svc"))
    await (await publisher(lab, stack))(event(b"1"))
    await replica.until(2)
    await patient_letters(lab, 1)
    assert len(await letters(lab, "billing-svc", Verdict.REPLAY)) == 1
    await replica.until(3)
    again = replica.got[2]
    assert (again.body, again.history) == (b"1", History(replays=1))
    assert again.envelope().id == "e-1"
    assert len(other.got) == 1
    assert await letters(lab, "billing-svc") == []


@pytest.mark.parametrize("lab", WITH_A_SERVER, indirect=True)
async def test_a_replayed_event_that_dies_before_its_entry_is_removed_is_an_entry_again(
    lab: Lab, stack: AsyncExitStack
) -> None:
    """The sweep hears nothing of the broker from its replay until the event is dead again."""
    deaths: list[Delivery] = []

    async def bury_and_tell(delivery: Delivery) -> None:
        await delivery.dead(FAILURE)
        deaths.append(delivery)

    async def replay(_: DeadLetter) -> Verdict:
        await asyncio.to_thread(cable.hold)
        return Verdict.REPLAY

    await stack.enter_async_context(Replica(lab, settle=bury_and_tell))
    await (await publisher(lab, stack))(event(b"1"))
    (first,) = await patient_letters(lab, 1)
    cable = stack.enter_context(Cable(urlsplit(lab.url).port or 0).laid())
    tool = lab.bus("dlq-tool", cable.through(lab.url))
    await tool.start()
    stack.push_async_callback(tool.close)
    await asyncio.wait_for(tool.wait_ready(), PATIENCE)
    sweep = asyncio.create_task(tool.sweep("billing-svc", replay))
    await eventually(lambda: len(deaths) == 2)
    await asyncio.to_thread(cable.let_go)
    await asyncio.wait_for(sweep, PATIENCE)
    (again,) = await letters(lab, "billing-svc")
    assert (again.body, again.replays, again.id == first.id) == (b"1", 1, False)


async def test_discard_removes_only_what_it_is_told(lab: Lab, stack: AsyncExitStack) -> None:
    replica = await stack.enter_async_context(Replica(lab, settle=bury))
    publish = await publisher(lab, stack)
    for n in range(3):
        await publish(event(b"%d" % n, id_=f"e-{n}"))
    await replica.until(3)
    await patient_letters(lab, 3)

    async def discard_second(letter: DeadLetter) -> Verdict:
        return Verdict.DISCARD if letter.body == b"1" else Verdict.KEEP

    await replica.bus.sweep("billing-svc", discard_second)
    assert [letter.body for letter in await letters(lab, "billing-svc")] == [b"0", b"2"]


async def test_a_sweep_of_a_service_without_dead_letters_finds_none(lab: Lab) -> None:
    assert await letters(lab, "never-seen-svc") == []


async def test_a_paused_bus_takes_nothing_until_it_is_resumed(
    lab: Lab, stack: AsyncExitStack
) -> None:
    replica = await stack.enter_async_context(Replica(lab))
    publish = await publisher(lab, stack)
    await replica.bus.pause()
    assert not replica.bus.consuming
    await publish(event())
    await asyncio.sleep(0.3)
    assert replica.got == []
    await replica.bus.resume()
    await replica.until(1)
    assert replica.bus.consuming


async def test_while_one_replica_is_paused_another_takes_over(
    lab: Lab, stack: AsyncExitStack
) -> None:
    paused = await stack.enter_async_context(Replica(lab))
    other = await stack.enter_async_context(Replica(lab))
    await paused.bus.pause()
    publish = await publisher(lab, stack)
    await asyncio.gather(*(publish(event(id_=str(n))) for n in range(20)))
    await other.until(20)
    assert paused.got == []


async def test_every_replica_gets_its_own_copy(lab: Lab, stack: AsyncExitStack) -> None:
    one = await stack.enter_async_context(Replica(lab, mode="every_replica"))
    two = await stack.enter_async_context(Replica(lab, mode="every_replica"))
    tap = await stack.enter_async_context(Replica(lab, types=None, mode="every_replica"))
    publish = await publisher(lab, stack)
    await publish(event(b"1"))
    await publish(event(b"2", id_="e-2", type_=OPENED))
    await asyncio.gather(one.until(1), two.until(1), tap.until(2))
    assert (one.bodies, two.bodies, sorted(tap.bodies)) == ([b"1"], [b"1"], [b"1", b"2"])


async def test_what_every_replica_got_leaves_no_dead_letter(
    lab: Lab, stack: AsyncExitStack
) -> None:
    replica = await stack.enter_async_context(
        Replica(lab, prefetch=1, mode="every_replica", settle=bury)
    )
    publish = await publisher(lab, stack)
    for number in range(3):  # each comes only after the one before it was settled
        await publish(event(id_=f"e-{number}"))
    await replica.until(3)
    assert await letters(lab, "billing-svc") == []


async def test_an_event_that_nobody_takes_is_not_an_error(lab: Lab, stack: AsyncExitStack) -> None:
    await (await publisher(lab, stack))(event())


async def test_settling_twice_or_after_the_end_is_harmless(lab: Lab, stack: AsyncExitStack) -> None:
    async with Replica(lab) as replica:
        await (await publisher(lab, stack))(event())
        await replica.until(1)
    delivery = replica.got[0]
    assert not delivery.done()
    assert not await delivery.hand_back()
    assert not await delivery.later(0, counted=True)
    assert not await delivery.dead(FAILURE)
    again = await stack.enter_async_context(Replica(lab))
    await asyncio.sleep(0.2)
    assert again.got == []


@pytest.mark.parametrize("lab", WITH_A_SERVER, indirect=True)
async def test_a_lost_server_is_noticed_and_its_return_too(lab: Lab, stack: AsyncExitStack) -> None:
    assert lab.server is not None
    replica = await stack.enter_async_context(Replica(lab, settle=keep))
    publish = await publisher(lab, stack)
    await publish(event(b"before"))
    await replica.until(1)
    await lab.server.stop()
    await eventually(lambda: not replica.bus.consuming)
    with pytest.raises(BusUnavailable):
        await asyncio.wait_for(publish(event(b"lost", id_="lost")), PATIENCE)
    assert not await replica.got[0].dead(FAILURE)
    assert not await replica.got[0].later(0, counted=True)
    assert not await replica.got[0].hand_back()
    assert not replica.got[0].done()
    await lab.server.start()
    await asyncio.wait_for(replica.bus.wait_ready(), PATIENCE * 2)
    await replica.until(2)
    assert replica.bodies[:2] == [b"before", b"before"]

    async def published() -> bool:
        try:
            await publish(event(b"after", id_="after"))
        except BusUnavailable:
            return False
        return True

    async with asyncio.timeout(PATIENCE):
        while not await published():
            await asyncio.sleep(0.1)
    await eventually(lambda: b"after" in replica.bodies)


@pytest.mark.parametrize("lab", WITH_A_SERVER, indirect=True)
async def test_an_outage_is_told_once_with_its_reason_in_the_same_words_on_every_bus(
    lab: Lab, stack: AsyncExitStack
) -> None:
    assert lab.server is not None
    with capture_logs() as logs:
        replica = await stack.enter_async_context(Replica(lab))
        await lab.server.stop()
        await eventually(lambda: any(line["event"] == "cannot use the broker" for line in logs))
        await lab.server.start()
        await asyncio.wait_for(replica.bus.wait_ready(), PATIENCE * 2)
    told = [line for line in logs if line["event"] in {"connected", "lost the broker"}]
    assert [line["event"] for line in told] == ["connected", "lost the broker", "connected"]
    assert told[1].pop("reason")
    about = {"broker": replica.bus.system, "connection": "billing-svc"}
    assert all(line.items() >= about.items() and "@" not in line["server"] for line in told)
    assert told[1].keys() == {"event", "log_level", "broker", "server", "connection"}


@pytest.mark.parametrize("settle", ["done", "later", "dead", "hand_back"])
async def test_settling_says_whether_it_took_effect(
    lab: Lab, stack: AsyncExitStack, settle: str
) -> None:
    replica = await stack.enter_async_context(Replica(lab, settle=keep))
    await (await publisher(lab, stack))(event())
    await replica.until(1)
    ways: dict[str, Callable[[Delivery], Awaitable[bool]]] = {
        "later": lambda delivery: delivery.later(600, counted=True),
        "dead": lambda delivery: delivery.dead(FAILURE),
        "hand_back": lambda delivery: delivery.hand_back(),
    }
    delivery = replica.got[0]
    took = delivery.done() if settle == "done" else await ways[settle](delivery)
    assert (took, delivery.done()) == (True, False)


@pytest.mark.parametrize("lab", WITH_A_SERVER, indirect=True)
async def test_a_bus_that_starts_before_its_server_gets_ready_once_it_is_there(lab: Lab) -> None:
    assert lab.server is not None
    await lab.server.stop()
    bus = lab.bus("early-svc")
    bus.subscribe(Subscription("early-svc", frozenset({SIGNED_UP})), keep)
    await bus.start()
    try:
        assert not bus.connected
        await lab.server.start()
        await asyncio.wait_for(bus.wait_ready(), PATIENCE * 2)
        assert bus.consuming
    finally:
        await bus.close()


async def test_a_bus_tries_the_hosts_of_its_url_in_turn(lab: Lab) -> None:
    if lab.server is None:
        pytest.skip("memory has no hosts")
    scheme, _, rest = lab.url.partition("://")
    login, at, servers = rest.rpartition("@")
    bus = lab.bus("publisher", f"{scheme}://{login}{at}127.0.0.1:{free_port()},{servers}")
    await bus.start()
    try:
        await asyncio.wait_for(bus.wait_ready(), PATIENCE)
        await bus.publish(event())
    finally:
        await bus.close()
