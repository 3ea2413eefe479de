"""The bus on NATS alone: broken messages, crashes, wiped streams, a server that hangs."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from nats import connect as connect_bare
from nats.js.api import StreamConfig
from structlog.testing import capture_logs

from chassis.bus import (
    BusUnavailable,
    Delivery,
    Failure,
    Subscription,
    Unpublishable,
    Verdict,
)
from chassis.bus.nats import NatsBus
from chassis.contracts.envelope import (
    NATS_PREFIX,
    EncodedEvent,
    Envelope,
    EnvelopeError,
    to_headers,
)
from chassis.jetstream.wire import WireClient
from tests.brokers.nats import Nats, nats
from tests.chassis.bus.test_bus_conformance import (
    FAILURE,
    OPENED,
    SIGNED_UP,
    Replica,
    bury,
    event,
    keep,
    letters,
    patient_letters,
    publisher,
)
from tests.chassis.bus_labs import NatsLab
from tests.waiting import PATIENCE, eventually

SERVICE = "billing-svc"


@pytest.fixture
def broker(tmp_path: Path) -> Any:
    with nats(tmp_path) as broker:
        yield broker


@pytest.fixture
def lab(broker: Nats) -> NatsLab:
    return NatsLab(broker.url, broker.port, broker.server)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


BROKEN = [
    b"\xff\xfe",
    b"NATS/1.0\r\n\xff\xff: \xfe\r\nno colon\r\n: no name\r\na name: x\r\n\r\n",
    b"NATS/1.0 \xff\xff\xff\r\n\r\n",
    b"NATS/1.0 503\r\n\r\n",
    (
        b"NATS/1.0\r\nce-specversion: 1.0\r\nce-id: 1\r\nce-time: yesterday\r\nce-source: s\r\n"
        b"ce-type: t\r\n\r\n"
    ),
    b"NATS/1.0\r\nchassis-attempt: 99\r\ndead-letter-reason: forged\r\nNats-Odd: x\r\n\r\n",
    b"\r\n",
]


async def test_broken_header_blocks_become_dead_letters_and_stop_nothing(
    lab: NatsLab, stack: AsyncExitStack
) -> None:
    async def judge(delivery: Delivery) -> None:
        try:
            delivery.envelope()
        except EnvelopeError:
            await delivery.dead(FAILURE)
        else:
            delivery.done()

    replica = await stack.enter_async_context(Replica(lab, settle=judge))
    for number, block in enumerate(BROKEN):
        await lab.publish_raw(f"events.{SIGNED_UP}", block, b"%d" % number)
    await (await publisher(lab, stack))(event(b"good"))
    await replica.until(len(BROKEN) + 1)
    found = await patient_letters(lab, len(BROKEN))
    assert [letter.body for letter in found] == [b"%d" % number for number in range(len(BROKEN))]
    assert {letter.failure for letter in found} == {FAILURE}
    assert found[5].headers == {
        "chassis-attempt": "99",
        "dead-letter-reason": "forged",
        "Nats-Odd": "x",
    }
    assert replica.bodies[-1] == b"good"
    assert {delivery.history.attempt for delivery in replica.got} == {1}


async def test_a_message_that_kills_the_process_is_condemned_and_its_neighbours_are_not(
    lab: NatsLab, stack: AsyncExitStack
) -> None:
    """A dying process is a bus that is dropped with its deliveries, and another in its place."""
    deaths = 0
    died = asyncio.Event()
    handled: set[bytes] = set()

    async def on_delivery(delivery: Delivery) -> None:
        nonlocal deaths
        if delivery.body == b"poison":
            deaths += 1
            died.set()
        elif deaths >= 5:  # until then still at work when the process dies
            handled.add(delivery.body)
            delivery.done()

    async def live_and_die() -> None:
        while True:
            bus = NatsBus(lab.url, name=SERVICE, ack_wait=2)
            bus.subscribe(Subscription(SERVICE, frozenset({SIGNED_UP}), 10), on_delivery)
            try:
                await bus.start()
                await died.wait()
                died.clear()
            finally:
                await bus._link.close()

    async with Replica(lab):
        publish = await publisher(lab, stack)
    innocent = {b"%d" % number for number in range(5)}
    await asyncio.gather(
        *(publish(event(body, id_=repr(body))) for body in [*sorted(innocent), b"poison"])
    )
    living = asyncio.create_task(live_and_die())
    try:
        async with asyncio.timeout(3 * PATIENCE):  # each death costs the ack wait
            while not (found := await letters(lab, SERVICE)):
                await asyncio.sleep(0.1)
        await eventually(lambda: handled == innocent)
    finally:
        living.cancel()
        await asyncio.wait([living])
    assert [(letter.body, letter.failure.reason) for letter in found] == [(b"poison", "crash_loop")]
    assert found[0].headers["ce-id"] == "b'poison'"
    assert 5 <= deaths <= 5 + 3, "five times among others, three times on its own"


async def test_a_message_often_lost_with_its_connection_does_not_look_like_a_crash(
    lab: NatsLab, stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.jetstream.connection._BACKOFF_MAX_SECONDS", 0.2)

    async def lose(delivery: Delivery) -> None:
        if len(replica.got) > 4:
            delivery.done()
        else:
            replica.bus._link.suspect("the network is away")  # type: ignore[attr-defined] # of NATS

    replica = await stack.enter_async_context(Replica(lab, settle=lose))
    await publish_suspicious(lab)
    await replica.until(5)
    assert await letters(lab, SERVICE) == []


async def test_what_one_replica_lost_with_its_connections_is_no_crash_to_another(
    lab: NatsLab, stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.jetstream.connection._BACKOFF_MAX_SECONDS", 0.2)

    async def lose(_: Delivery) -> None:
        if len(one.got) == 5:
            one.bus._lanes[1].paused = True  # type: ignore[attr-defined] # of NATS
        one.bus._link.suspect("the network is away")  # type: ignore[attr-defined] # of NATS

    one = await stack.enter_async_context(Replica(lab, settle=lose))
    await publish_suspicious(lab)
    await one.until(5)
    other = await stack.enter_async_context(Replica(lab))
    await other.until(1)
    assert await letters(lab, SERVICE) == []


async def test_a_message_that_comes_during_pauses_again_and_again_does_not_look_like_a_crash(
    lab: NatsLab, stack: AsyncExitStack
) -> None:
    replica = await stack.enter_async_context(Replica(lab))
    assert isinstance(replica.bus, NatsBus)
    alone = replica.bus._lanes[1]
    alone.paused = True
    await publish_suspicious(lab)
    for _ in range(5):
        await eventually(lambda: alone._asked_for == 0 and not alone._in_hand)
        alone.paused = False
        alone.pull()
        alone.paused = True
    await eventually(lambda: alone._asked_for == 0 and not alone._in_hand)
    await alone.resume()
    await replica.until(1)
    assert await letters(lab, SERVICE) == []


async def publish_suspicious(lab: NatsLab) -> None:
    """An event that is suspected of killing the process."""
    block = "".join(
        f"{name}: {value}\r\n" for name, value in lab.cloudevents_headers("e-1", SIGNED_UP).items()
    )
    await lab.publish_raw(f"alone.{SERVICE}.{SIGNED_UP}", f"NATS/1.0\r\n{block}\r\n".encode(), b"x")


async def test_the_publishers_own_message_id_stands_in_the_way_of_nothing(
    lab: NatsLab, stack: AsyncExitStack
) -> None:
    """The server would drop a copy under the same `Nats-Msg-Id`."""

    async def twice_then_dead(delivery: Delivery) -> None:
        if delivery.history.attempt < 3:
            await delivery.later(0 if delivery.history.attempt == 1 else 0.05, counted=True)
        else:
            await delivery.dead(FAILURE)

    replica = await stack.enter_async_context(Replica(lab, settle=twice_then_dead))
    headers = to_headers(Envelope("e-1", "bare", SIGNED_UP), NATS_PREFIX) | {
        "Nats-Msg-Id": "e-1",
        "Nats-Odd": "1",
    }
    await lab.publish_foreign(SIGNED_UP, headers, b"x")
    for deaths in (1, 2, 3):  # replays too, and dying again right after one
        await replica.until(3 * deaths)
        assert (await patient_letters(lab, 1))[0].headers == headers
        await letters(lab, SERVICE, Verdict.REPLAY)
    assert [delivery.history.attempt for delivery in replica.got[:9]] == [1, 2, 3] * 3
    assert all(delivery.headers == headers for delivery in replica.got)


async def test_streams_wiped_under_a_running_bus_are_made_again(
    lab: NatsLab, stack: AsyncExitStack
) -> None:
    replica = await stack.enter_async_context(Replica(lab))
    publish = await publisher(lab, stack)
    async with await connect_bare(lab.url) as bare:
        await bare.jetstream().delete_stream("EVENTS")
    await eventually(lambda: not replica.bus.consuming)
    await asyncio.wait_for(replica.bus.wait_ready(), PATIENCE)
    await published(publish, event(b"after"))
    await replica.until(1)


async def test_a_server_that_sends_messages_and_no_heartbeat_is_alive(
    lab: NatsLab, stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server sends heartbeats only while it has no messages to send."""
    monkeypatch.setattr("chassis.bus.nats.lane._HEARTBEAT_SECONDS", 0.5)
    with capture_logs() as logs:
        replica = await stack.enter_async_context(Replica(lab))
        publish = await publisher(lab, stack)
        for number in range(1, 31):  # for longer than silence is suffered
            await publish(event(id_=str(number)))
            await replica.until(number)
            await asyncio.sleep(0.1)  # the pace, not a wait
    assert [line for line in logs if line["event"] == "lost the broker"] == []


async def test_each_cause_of_an_outage_is_named(lab: NatsLab, stack: AsyncExitStack) -> None:
    def causes() -> list[str]:
        return [line["reason"] for line in logs if line["event"] == "cannot use the broker"]

    assert lab.server is not None
    async with await connect_bare(lab.url) as bare:
        await bare.jetstream().add_stream(
            StreamConfig(name="EVENTS", subjects=["events.>"], retention="workqueue")
        )
    bus = lab.bus("billing-svc")
    bus.subscribe(Subscription(SERVICE, frozenset({SIGNED_UP})), keep)
    with capture_logs() as logs:
        await bus.start()
        stack.push_async_callback(bus.close)
        await eventually(lambda: len(causes()) == 1)
        await lab.server.stop()
        await eventually(lambda: len(causes()) == 2)
    assert "JetStream error" in causes()[0]
    assert "cannot connect" in causes()[1]


async def test_a_consumer_that_is_gone_is_the_reason_of_the_outage(
    lab: NatsLab, stack: AsyncExitStack
) -> None:
    with capture_logs() as logs:
        await stack.enter_async_context(Replica(lab))
        async with await connect_bare(lab.url) as bare:
            await bare.jetstream().delete_consumer("EVENTS", SERVICE)
        await eventually(lambda: any(line["event"] == "lost the broker" for line in logs))
    (lost,) = (line for line in logs if line["event"] == "lost the broker")
    assert lost["reason"] == "the consumer billing-svc stopped: 409 Consumer Deleted"


async def test_a_consumer_that_was_deleted_starts_again_behind_what_is_settled(
    lab: NatsLab, stack: AsyncExitStack
) -> None:
    async def wait(delivery: Delivery) -> None:
        await going_on.wait()
        delivery.done()

    going_on = asyncio.Event()
    replica = await stack.enter_async_context(Replica(lab, prefetch=1, settle=wait))
    publish = await publisher(lab, stack)
    ids = {f"e-{number}" for number in range(50)}
    for id_ in sorted(ids):
        await publish(event(id_.encode(), id_=id_))
    with capture_logs() as logs:
        async with await connect_bare(lab.url) as bare:
            await bare.jetstream().delete_consumer("EVENTS", SERVICE)
        going_on.set()
        await eventually(lambda: {delivery.envelope().id for delivery in replica.got} == ids)
    told = [line for line in logs if line["event"].startswith("the consumer was deleted")]
    assert [(line["consumer"], line["sequence"]) for line in told] == [(SERVICE, 1)]
    again = await stack.enter_async_context(Replica(lab))
    await publish(event(b"last", id_="last"))
    await eventually(lambda: b"last" in replica.bodies + again.bodies)


async def test_the_events_of_a_stream_that_was_made_anew_are_taken_from_its_beginning(
    lab: NatsLab, stack: AsyncExitStack
) -> None:
    replica = await stack.enter_async_context(Replica(lab))
    publish = await publisher(lab, stack)
    for number in range(5):
        await publish(event(id_=f"e-{number}"))
    await replica.until(5)
    with capture_logs() as logs:
        async with await connect_bare(lab.url) as bare:
            await bare.jetstream().delete_stream("EVENTS")
            config = StreamConfig(name="EVENTS", subjects=["events.>"])
            await bare.jetstream().add_stream(config)
            await bare.publish(f"events.{SIGNED_UP}", b"first of the new stream")
            await bare.flush()
        await eventually(lambda: b"first of the new stream" in replica.bodies)
    assert any(line["event"].startswith("the stream was deleted") for line in logs)


async def published(publish: Any, message: EncodedEvent) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await publish(message)
            except BusUnavailable:
                await asyncio.sleep(0.05)
            else:
                return


async def test_full_dead_letters_refuse_and_the_message_is_kept(
    lab: NatsLab, stack: AsyncExitStack
) -> None:
    refused: list[str] = []

    async def bury_or_keep(delivery: Delivery) -> None:
        try:
            await delivery.dead(FAILURE)
        except BusUnavailable as error:
            refused.append(str(error))
            await delivery.later(0.1, counted=False)

    bus = NatsBus(lab.url, name=SERVICE, ack_wait=2.0, dead_letters=1)
    bus.subscribe(Subscription(SERVICE, frozenset({SIGNED_UP})), bury_or_keep)
    stack.push_async_callback(bus.close)
    await bus.start()
    await bus.wait_ready()
    await bus.publish(event(b"1", id_="1"))
    await patient_letters(lab, 1)
    await bus.publish(event(b"2", id_="2"))
    await eventually(lambda: len(refused) > 1)
    assert "dead letters of billing-svc took no further one" in refused[0]
    await letters(lab, SERVICE, Verdict.DISCARD)
    assert [letter.body for letter in await patient_letters(lab, 1)] == [b"2"]


async def test_a_server_that_hangs_is_noticed_and_taken_up_again(
    broker: Nats, lab: NatsLab, stack: AsyncExitStack
) -> None:
    replica = await stack.enter_async_context(Replica(lab))
    publish = await publisher(lab, stack)
    broker.server.suspend()
    with pytest.raises(BusUnavailable, match="no answer"):
        await asyncio.wait_for(publish(event(b"hanging", id_="1")), PATIENCE)
    await eventually(lambda: not replica.bus.consuming)
    broker.server.resume()
    await asyncio.wait_for(replica.bus.wait_ready(), PATIENCE)
    await published(publish, event(b"after", id_="2"))
    await eventually(lambda: b"after" in replica.bodies)


async def test_nothing_confirmed_is_lost_when_the_server_is_killed_under_load(
    lab: NatsLab, stack: AsyncExitStack
) -> None:
    assert lab.server is not None
    replica = await stack.enter_async_context(Replica(lab, prefetch=50))
    publish = await publisher(lab, stack)
    sent = [b"%d" % number for number in range(600)]

    async def send(bodies: list[bytes]) -> None:
        for body in bodies:
            await published(publish, event(body, id_=body.decode()))

    load = asyncio.gather(*(send(sent[lane::10]) for lane in range(10)))
    for part in (100, 300):
        await replica.until(part)
        await lab.server.stop()
        await lab.server.start()
    await asyncio.wait_for(load, 60)
    await eventually(lambda: set(replica.bodies) == set(sent), 30)


async def test_a_redeploy_that_takes_another_type_keeps_its_place(
    lab: NatsLab, stack: AsyncExitStack
) -> None:
    publish = await publisher(lab, stack)
    async with Replica(lab):
        pass
    await publish(event(b"1"))
    again = await stack.enter_async_context(Replica(lab, types=frozenset({SIGNED_UP, OPENED})))
    await publish(event(b"2", id_="e-2", type_=OPENED))
    await again.until(2)
    assert sorted(again.bodies) == [b"1", b"2"]


async def test_a_message_that_fills_the_servers_limit_can_still_become_a_dead_letter(
    lab: NatsLab, stack: AsyncExitStack
) -> None:
    async def fail(delivery: Delivery) -> None:
        await delivery.dead(Failure(**{**vars_of(FAILURE), "stack": "x" * 4096}))

    replica = await stack.enter_async_context(Replica(lab, settle=fail))
    body = b"x" * (1024 * 1024 - 1500)
    await (await publisher(lab, stack))(event(body))
    await replica.until(1)
    found = await patient_letters(lab, 1)
    assert (found[0].body, found[0].failure.reason, found[0].failure.stack) == (
        body,
        FAILURE.reason,
        "",
    )
    with pytest.raises(ValueError, match="max_payload"):
        await replica.bus.publish(event(b"x" * 1024 * 1024))
    assert replica.bus.connected


def vars_of(failure: Failure) -> dict[str, Any]:
    return {name: getattr(failure, name) for name in Failure.__slots__}


async def test_a_message_that_fills_the_streams_limit_of_headers_can_still_become_a_dead_letter(
    lab: NatsLab, stack: AsyncExitStack
) -> None:
    async def fail(delivery: Delivery) -> None:
        await delivery.dead(Failure(**{**vars_of(FAILURE), "stack": "x" * 4096}))

    replica = await stack.enter_async_context(Replica(lab, settle=fail))
    await lab.publish_raw(
        f"events.{SIGNED_UP}", b"NATS/1.0\r\nlong: " + b"x" * 63_000 + b"\r\n\r\n", b"1"
    )
    await replica.until(1)
    found = await patient_letters(lab, 1)
    failure = found[0].failure
    assert (len(str(found[0].headers["long"])), failure.reason, failure.stack) == (
        63_000,
        FAILURE.reason,
        "",
    )


async def test_a_message_that_leaves_no_room_for_its_copy_ends_in_the_dead_letters(
    lab: NatsLab, stack: AsyncExitStack
) -> None:
    async def retry(delivery: Delivery) -> None:
        try:
            await delivery.later(0, counted=True)
        except Unpublishable as error:
            refused.append(str(error))
            await delivery.dead(FAILURE)

    refused: list[str] = []
    await stack.enter_async_context(Replica(lab, settle=retry))
    block = b"NATS/1.0\r\nce-id: large\r\n\r\n"
    body = b"x" * (1024 * 1024 - len(block))
    await lab.publish_raw(f"events.{SIGNED_UP}", block, body)
    (letter,) = await patient_letters(lab, 1)
    assert (letter.headers["ce-id"], letter.failure.reason) == ("large", FAILURE.reason)
    assert 0 < len(letter.body) < len(body)
    assert f"only {len(letter.body)} of {len(body)} bytes" in letter.failure.message
    assert len(refused) == 1


async def test_headers_that_fill_the_streams_limit_leave_room_for_the_reason(
    lab: NatsLab, stack: AsyncExitStack
) -> None:
    await stack.enter_async_context(Replica(lab, settle=bury))
    block = b"NATS/1.0\r\nce-id: e-1\r\nlong: " + b"x" * 65_490 + b"\r\n\r\n"
    await lab.publish_raw(f"events.{SIGNED_UP}", block, b"1")
    (letter,) = await patient_letters(lab, 1)
    assert (letter.headers, letter.body) == ({"ce-id": "e-1"}, b"1")
    assert letter.failure.reason == FAILURE.reason


async def test_a_large_message_that_cannot_be_put_off_is_given_back(
    lab: NatsLab, stack: AsyncExitStack
) -> None:
    async def put_off(delivery: Delivery) -> None:
        if len(replica.got) == 1:
            await delivery.later(0, counted=False)
        else:
            delivery.done()

    replica = Replica(lab, settle=put_off)
    await stack.enter_async_context(replica)
    await lab.publish_raw(f"events.{SIGNED_UP}", b"", b"x" * 1024 * 1024)
    await replica.until(2)
    assert await letters(lab, SERVICE) == []


async def test_a_long_handler_keeps_its_message_beyond_the_ack_wait(
    lab: NatsLab, stack: AsyncExitStack
) -> None:
    bus = NatsBus(lab.url, name=SERVICE, ack_wait=3.0)
    got: list[Delivery] = []

    async def on_delivery(delivery: Delivery) -> None:
        got.append(delivery)

    bus.subscribe(Subscription(SERVICE, frozenset({SIGNED_UP})), on_delivery)
    stack.push_async_callback(bus.close)
    await bus.start()
    await bus.wait_ready()
    await bus.publish(event())
    await eventually(lambda: len(got) == 1)
    await asyncio.sleep(7.0)  # more than twice the ack wait
    got[0].done()
    assert len(got) == 1


async def test_messages_that_wait_for_a_retry_hold_up_nobody(
    lab: NatsLab, stack: AsyncExitStack
) -> None:
    """More than a consumer may have unacknowledged (1000): they must not count as that."""

    async def fail_bad(delivery: Delivery) -> None:
        if delivery.body == b"bad":
            await delivery.later(3600, counted=True)
        else:
            delivery.done()

    replica = await stack.enter_async_context(Replica(lab, prefetch=2, settle=fail_bad))
    publish = await publisher(lab, stack)
    await asyncio.gather(*(publish(event(b"bad", id_=str(number))) for number in range(1200)))
    await publish(event(b"good", id_="good"))
    await eventually(lambda: b"good" in replica.bodies)


async def test_an_events_stream_made_by_an_operator_is_extended_not_replaced(
    lab: NatsLab, stack: AsyncExitStack
) -> None:
    async with await connect_bare(lab.url) as bare:
        config = StreamConfig(
            name="EVENTS", subjects=["events.>", "legacy.>"], max_age=3600, max_msgs=500
        )
        await bare.jetstream().add_stream(config)
        await stack.enter_async_context(Replica(lab))
        made = (await bare.jetstream().stream_info("EVENTS")).config
    assert made.subjects == ["events.>", "legacy.>", "replay.>", "delayed.>", "alone.>"]
    assert (made.max_age, made.max_msgs) == (3600, 500)


async def test_attempts_of_a_replicas_own_consumer_are_counted_too(
    lab: NatsLab, stack: AsyncExitStack
) -> None:
    async def fail_twice(delivery: Delivery) -> None:
        attempts.append(delivery.history.attempt)
        if delivery.history.attempt < 3:
            await delivery.later(0.05, counted=True)
        elif len(attempts) == 3:
            await delivery.later(0.05, counted=False)
        else:
            delivery.done()

    attempts: list[int] = []
    replica = await stack.enter_async_context(Replica(lab, mode="every_replica", settle=fail_twice))
    await (await publisher(lab, stack))(event())
    await replica.until(4)
    assert attempts == [1, 2, 3, 3]


async def test_a_defect_in_the_consumer_does_not_take_the_event_with_it(
    lab: NatsLab, stack: AsyncExitStack
) -> None:
    async def raise_once(delivery: Delivery) -> None:
        if len(replica.got) == 1:
            raise RuntimeError("a defect")
        delivery.done()

    replica = await stack.enter_async_context(Replica(lab, settle=raise_once))
    await (await publisher(lab, stack))(event())
    await replica.until(2)


async def test_prefetched_deliveries_are_handed_back_at_once_on_close(
    lab: NatsLab, stack: AsyncExitStack
) -> None:
    publish = await publisher(lab, stack)
    bus = NatsBus(lab.url, name=SERVICE, ack_wait=3600)
    got: list[Delivery] = []

    async def hold(delivery: Delivery) -> None:
        got.append(delivery)

    bus.subscribe(Subscription(SERVICE, frozenset({SIGNED_UP}), 20), hold)
    await bus.start()
    await bus.wait_ready()
    await asyncio.gather(*(publish(event(id_=str(number))) for number in range(20)))
    await eventually(lambda: len(got) == 20)
    await bus.close()
    second = await stack.enter_async_context(Replica(lab))
    await second.until(20)


async def test_a_second_shared_subscription_is_refused(lab: NatsLab) -> None:
    bus = NatsBus(lab.url, name=SERVICE, ack_wait=2.0)
    bus.subscribe(Subscription(SERVICE, frozenset({SIGNED_UP})), keep)
    with pytest.raises(ValueError, match="subscribed already"):
        bus.subscribe(Subscription(SERVICE, frozenset({OPENED})), keep)
    with pytest.raises(ValueError, match="must name the types"):
        bus.subscribe(Subscription("other-svc", None), keep)


@pytest.mark.parametrize("type_", ["", "a b", "a.*", "a.>", "a\r\nPUB x 0", "a..b"])
async def test_a_type_that_is_no_name_never_reaches_the_wire(
    lab: NatsLab, stack: AsyncExitStack, type_: str
) -> None:
    publish = await publisher(lab, stack)
    with pytest.raises(ValueError, match="full name"):
        await publish(event(type_=type_))


@pytest.mark.parametrize("swallower", ["connect", "discard"])
async def test_a_bus_closes_although_its_client_swallows_the_cancellation(
    lab: NatsLab, monkeypatch: pytest.MonkeyPatch, swallower: str
) -> None:
    original = getattr(WireClient, swallower)
    entered = asyncio.Event()

    async def swallow(client: WireClient, **options: Any) -> None:
        entered.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await original(client, **options)

    async def refuse(_: object) -> None:
        raise OSError("the set-up is refused")

    monkeypatch.setattr(NatsBus, "_set_up", refuse)
    monkeypatch.setattr(WireClient, swallower, swallow)
    bus = lab.bus("billing-svc")
    await bus.start()
    await asyncio.wait_for(entered.wait(), PATIENCE)
    await asyncio.wait_for(bus.close(), PATIENCE)


async def test_passwords_never_show(broker: Nats) -> None:
    bus = NatsBus(
        "nats://user:hunter2@127.0.0.1:1,nats://token2@127.0.0.1:2", name=SERVICE, ack_wait=2.0
    )
    await bus.start()
    try:
        await asyncio.sleep(0)
        with pytest.raises(BusUnavailable) as caught:
            await bus.publish(event())
    finally:
        await bus.close()
    assert "127.0.0.1:1,127.0.0.1:2" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "token2" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "login"),
    [
        (("--user", "billing", "--pass", "p@ss/w:rd%"), "billing:p%40ss%2Fw%3Ard%25"),
        (("--auth", "t@ken/%"), "t%40ken%2F%25"),
    ],
)
async def test_a_login_is_percent_decoded(
    tmp_path: Path, options: tuple[str, ...], login: str
) -> None:
    with nats(tmp_path, *options) as broker:
        bus = NatsBus(f"nats://{login}@127.0.0.1:{broker.port}", name=SERVICE, ack_wait=2.0)
        await bus.start()
        try:
            await asyncio.wait_for(bus.wait_ready(), PATIENCE)
        finally:
            await bus.close()


async def test_a_tls_url_never_falls_back_to_plain_text(broker: Nats) -> None:
    bus = NatsBus(f"tls://user:secret@127.0.0.1:{broker.port}", name=SERVICE, ack_wait=2.0)
    await bus.start()
    try:
        await eventually(lambda: "does not require TLS" in bus._link.trouble)
        assert not bus.connected
    finally:
        await bus.close()


def certificate(folder: Path, name: str, ca: str | None = None) -> tuple[Path, Path]:
    """Certificate and key in files; signed by the certificate `ca`, or by itself."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", f"/CN={name}"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key)]
    command += ["-out", str(certificate)]
    if ca is not None:
        command += ["-CA", str(folder / f"{ca}.pem"), "-CAkey", str(folder / f"{ca}.key")]
        command += ["-addext", "basicConstraints=critical,CA:FALSE"]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


async def test_a_private_ca_and_a_client_certificate_are_parameters_of_the_url(
    tmp_path: Path,
) -> None:
    ca, _ = certificate(tmp_path, "ca")
    served, served_key = certificate(tmp_path, "server", "ca")
    owned, owned_key = certificate(tmp_path, "service", "ca")
    tls = ["--tlsverify", "--tlscert", str(served), "--tlskey", str(served_key)]
    with nats(tmp_path, *tls, "--tlscacert", str(ca)) as broker:
        address = f"tls://127.0.0.1:{broker.port}?cafile={ca}"
        stranger = NatsBus(address, name=SERVICE, ack_wait=2.0)
        known = NatsBus(
            f"{address}&certfile={owned}&keyfile={owned_key}", name=SERVICE, ack_wait=2.0
        )
        try:
            await stranger.start()
            await known.start()
            await asyncio.wait_for(known.wait_ready(), PATIENCE)
            await known.publish(event())
            assert not stranger.connected
        finally:
            await stranger.close()
            await known.close()


async def test_a_tls_file_that_is_not_there_is_the_reason(broker: Nats, tmp_path: Path) -> None:
    missing = tmp_path / "ca.pem"
    bus = NatsBus(f"tls://127.0.0.1:{broker.port}?cafile={missing}", name=SERVICE, ack_wait=2.0)
    await bus.start()
    try:
        await eventually(lambda: "cafile cannot be loaded" in bus._link.trouble)
    finally:
        await bus.close()
