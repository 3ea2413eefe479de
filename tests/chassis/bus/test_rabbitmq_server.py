"""RabbitMQ alone: its topology, its crash net, its many ways to take a consumer away."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from copy import copy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import aiormq
import pytest
from aiormq.channel import Channel
from structlog.testing import capture_logs

from chassis.bus import BusUnavailable, DeadLetter, Delivery, NoBusMetrics, Subscription, Verdict
from chassis.bus.rabbitmq import RabbitBus
from chassis.bus.rabbitmq.confirms import Confirms
from chassis.bus.rabbitmq.topology import DELIVERY_LIMIT
from tests.brokers import certificate
from tests.brokers.cable import Cable
from tests.brokers.rabbitmq import RabbitMQ, shared_rabbitmq
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
from tests.chassis.bus_labs import RabbitLab
from tests.waiting import PATIENCE, eventually


@pytest.fixture
async def node() -> RabbitMQ:
    return await asyncio.to_thread(shared_rabbitmq)


@pytest.fixture
async def lab(node: RabbitMQ, tmp_path: Path) -> AsyncIterator[RabbitLab]:
    with node.vhost(tmp_path.name) as url:
        yield RabbitLab(url, node.server)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


def vhost(lab: RabbitLab) -> str:
    return urlsplit(lab.url).path.removeprefix("/")


async def api(node: RabbitMQ, method: str, path: str, body: object = None) -> Any:
    return await asyncio.to_thread(node.call, method, path, body)


async def close_all_connections(node: RabbitMQ, at_least: int) -> None:
    """From the server's side. The management API learns of connections with a delay."""
    async with asyncio.timeout(PATIENCE):
        while (
            len(connections := await api(node, "GET", "/api/connections?columns=name")) < at_least
        ):
            await asyncio.sleep(0.1)
    for connection in connections:
        await api(node, "DELETE", f"/api/connections/{quote(connection['name'], safe='')}")


async def declare(lab: RabbitLab, queue: str, arguments: dict[str, Any]) -> None:
    """As an operator or an older version would have."""
    async with aiormq.connect(lab.url) as connection:
        channel = await connection.channel()
        await channel.queue_declare(queue, durable=True, arguments=arguments)


async def test_a_service_has_a_quorum_queue_bound_to_exactly_its_types(
    lab: RabbitLab, node: RabbitMQ, stack: AsyncExitStack
) -> None:
    replica = await stack.enter_async_context(Replica(lab, types=frozenset({SIGNED_UP, OPENED})))
    assert isinstance(replica.bus, RabbitBus)
    assert replica.bus.server_version >= (3, 10)
    bindings = await api(node, "GET", f"/api/queues/{vhost(lab)}/billing-svc/bindings")
    assert {b["routing_key"] for b in bindings if b["source"] == "events"} == {SIGNED_UP, OPENED}
    queue = await api(node, "GET", f"/api/queues/{vhost(lab)}/billing-svc")
    dead = await api(node, "GET", f"/api/queues/{vhost(lab)}/billing-svc.dead")
    assert (queue["type"], queue["durable"]) == (dead["type"], dead["durable"]) == ("quorum", True)
    assert queue["arguments"]["x-dead-letter-strategy"] == "at-least-once"
    assert queue["arguments"]["x-overflow"] == dead["arguments"]["x-overflow"] == "reject-publish"
    assert dead["arguments"]["x-max-length"] > 0


async def test_a_queue_with_other_arguments_is_used_as_it_is(
    lab: RabbitLab, stack: AsyncExitStack
) -> None:
    await declare(lab, "billing-svc", {})
    with capture_logs() as logs:
        replica = await stack.enter_async_context(Replica(lab))
    assert [entry["queue"] for entry in logs if "other arguments" in entry["event"]] == [
        "billing-svc"
    ]
    await (await publisher(lab, stack))(event(b"1"))
    await replica.until(1)


async def test_what_crashes_every_replica_ends_in_the_dead_letters_and_can_be_replayed(
    lab: RabbitLab, stack: AsyncExitStack
) -> None:
    publish = await publisher(lab, stack)
    async with Replica(lab):
        pass
    await publish(event(b"poison"))
    for _ in range(DELIVERY_LIMIT + 1):
        async with aiormq.connect(lab.url) as connection:
            channel = await connection.channel()
            async with asyncio.timeout(PATIENCE):
                while (await channel.basic_get("billing-svc")).delivery.name != "Basic.GetOk":
                    await asyncio.sleep(0.01)
    found = await patient_letters(lab, 1)
    assert [(letter.failure.reason, letter.body, letter.type) for letter in found] == [
        ("crash_loop", b"poison", SIGNED_UP)
    ]
    replica = await stack.enter_async_context(Replica(lab))
    await letters(lab, "billing-svc", Verdict.REPLAY)
    await replica.until(1)
    assert (replica.got[0].history.attempt, "x-death" in replica.got[0].headers) == (1, False)


async def test_a_message_that_kills_the_process_does_not_condemn_its_neighbours(
    lab: RabbitLab, stack: AsyncExitStack
) -> None:
    """A crash is played by a lost connection; nobody has finished anything by then."""

    async def die_of_poison(delivery: Delivery) -> None:
        assert isinstance(replica.bus, RabbitBus)
        if delivery.body.startswith(b"poison"):
            link = replica.bus._link
            assert link is not None
            await asyncio.sleep(0.05)  # by then the others are on their way
            await link.connection.close()
        else:
            await asyncio.sleep(0.3)
            delivery.done()

    async with Replica(lab):
        publish = await publisher(lab, stack)
    bodies = [b"1", b"poison 1", b"2", b"3", b"poison 2", b"4", b"5", b"6", b"7", b"8"]
    for body in bodies:
        await publish(event(body, id_=body.decode()))
    replica = await stack.enter_async_context(Replica(lab, settle=die_of_poison))
    assert {letter.body for letter in await patient_letters(lab, 2)} == {b"poison 1", b"poison 2"}
    await publish(event(b"last", id_="last"))
    await eventually(lambda: b"last" in replica.bodies)
    assert {letter.body for letter in await letters(lab, "billing-svc")} == {
        b"poison 1",
        b"poison 2",
    }
    assert set(bodies) < set(replica.bodies)


async def test_handing_back_often_does_not_look_like_a_crash(
    lab: RabbitLab, stack: AsyncExitStack
) -> None:
    times = DELIVERY_LIMIT * 2

    async def hand_back(delivery: Delivery) -> None:
        if len(replica.got) <= times:
            await delivery.hand_back()
        else:
            delivery.done()

    replica = await stack.enter_async_context(Replica(lab, settle=hand_back))
    await (await publisher(lab, stack))(event(b"1"))
    await replica.until(times + 1)
    assert {
        (delivery.history.attempt, delivery.body, delivery.envelope().id)
        for delivery in replica.got
    } == {(1, b"1", "e-1")}
    assert await letters(lab, "billing-svc") == []


async def test_headers_of_any_amqp_type_are_delivered_moved_and_shown(
    lab: RabbitLab, stack: AsyncExitStack
) -> None:
    async def fail_once(delivery: Delivery) -> None:
        await (
            delivery.later(0, counted=True)
            if delivery.history.attempt == 1
            else delivery.dead(FAILURE)
        )

    headers: dict[str, object] = {
        "number": -7,
        "none": None,
        "when": datetime(2026, 1, 2, tzinfo=UTC),
        "table": {"list": [1, "two", bytearray(b"\xff")]},
        "cloudEvents:id": 7,
        "cloudEvents:type": bytearray(b"\xff"),
    }
    replica = await stack.enter_async_context(Replica(lab, settle=fail_once))
    await lab.publish_foreign(SIGNED_UP, headers, b"x")
    found = await patient_letters(lab, 1)
    assert found[0].headers == headers
    assert found[0].type == ""
    assert replica.got[0].headers == headers


async def test_acknowledgements_are_batched(lab: RabbitLab, stack: AsyncExitStack) -> None:
    class Frames(NoBusMetrics):
        def __init__(self) -> None:
            self.counts: list[int] = []

        def acknowledged(self, count: int) -> None:
            self.counts.append(count)

    async def take(delivery: Delivery) -> None:
        delivery.done()

    metrics = Frames()
    bus = RabbitBus(lab.url, name="billing-svc", metrics=metrics)
    bus.subscribe(Subscription("billing-svc", frozenset({SIGNED_UP}), 200), take)
    async with Replica(lab):
        publish = await publisher(lab, stack)
    await asyncio.gather(*(publish(event(id_=str(n))) for n in range(500)))
    await bus.start()
    await eventually(lambda: sum(metrics.counts) == 500)
    await bus.close()
    assert len(metrics.counts) < 100
    assert sum(metrics.counts) == 500


async def test_a_replica_does_not_publish_on_the_channel_it_consumes_on(
    lab: RabbitLab, stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    consuming, publishing = set(), set()
    consume, publish = Channel.basic_consume, Confirms.publish

    def noted_consume(channel: Channel, *args: Any, **options: Any) -> Any:
        consuming.add(channel.number)
        return consume(channel, *args, **options)

    def noted_publish(confirms: Confirms, *args: Any, **options: Any) -> Any:
        publishing.add(confirms._channel.number)
        return publish(confirms, *args, **options)

    monkeypatch.setattr(Channel, "basic_consume", noted_consume)
    monkeypatch.setattr(Confirms, "publish", noted_publish)
    replica = await stack.enter_async_context(Replica(lab))
    await replica.bus.publish(event())
    await replica.until(1)
    assert consuming
    assert publishing
    assert not consuming & publishing


async def test_one_slow_handler_does_not_use_up_the_prefetch(
    lab: RabbitLab, stack: AsyncExitStack
) -> None:
    async def first_is_slow(delivery: Delivery) -> None:
        if delivery.body != b"slow":
            delivery.done()

    replica = await stack.enter_async_context(Replica(lab, prefetch=5, settle=first_is_slow))
    publish = await publisher(lab, stack)
    await publish(event(b"slow", id_="slow"))
    await asyncio.gather(*(publish(event(id_=str(n))) for n in range(30)))
    await replica.until(31)


@pytest.mark.parametrize("taken_away", ["connections closed", "queue deleted"])
async def test_what_the_server_takes_away_is_rebuilt_as_one(
    lab: RabbitLab, node: RabbitMQ, stack: AsyncExitStack, taken_away: str
) -> None:
    class Reconnects(NoBusMetrics):
        count = 0

        def reconnected(self) -> None:
            self.count += 1

    async def slow(delivery: Delivery) -> None:
        got.append(delivery.body)
        if delivery.body == b"slow":
            await going_on.wait()
            finished.append(delivery.body)
        delivery.done()

    got: list[bytes] = []
    finished: list[bytes] = []
    going_on = asyncio.Event()
    metrics = Reconnects()
    bus = RabbitBus(lab.url, name="billing-svc", backoff=lambda _: 0.1, metrics=metrics)
    bus.subscribe(Subscription("billing-svc", frozenset({SIGNED_UP})), slow)
    bus.subscribe(Subscription("billing-svc", None, mode="every_replica"), keep)
    stack.push_async_callback(bus.close)
    await bus.start()
    await asyncio.wait_for(bus.wait_ready(), PATIENCE)
    publish = await publisher(lab, stack)
    await publish(event(b"slow"))
    await eventually(lambda: got == [b"slow"])

    if taken_away == "connections closed":
        await close_all_connections(node, at_least=2)
    else:
        await api(node, "DELETE", f"/api/queues/{vhost(lab)}/billing-svc")
    await eventually(lambda: metrics.count == 1)
    await asyncio.wait_for(bus.wait_ready(), PATIENCE)
    going_on.set()
    await eventually(lambda: b"slow" in finished)  # the handler outlives the connection

    await bus.publish(event(b"after", id_="after"))
    await eventually(lambda: b"after" in got)
    assert bus.consuming


@pytest.mark.parametrize(
    ("taken_away", "reason"),
    [("connections", "Closed via management plugin"), ("queue", "the consumer of billing-svc")],
)
async def test_the_reason_of_an_outage_is_in_the_brokers_words(
    lab: RabbitLab, node: RabbitMQ, stack: AsyncExitStack, taken_away: str, reason: str
) -> None:
    with capture_logs() as logs:
        await stack.enter_async_context(Replica(lab))
        if taken_away == "connections":
            await close_all_connections(node, at_least=1)
        else:
            await api(node, "DELETE", f"/api/queues/{vhost(lab)}/billing-svc")
        await eventually(lambda: any(line["event"] == "lost the broker" for line in logs))
    (lost,) = (line for line in logs if line["event"] == "lost the broker")
    assert reason in lost["reason"]


async def test_a_binding_that_is_lost_is_found_again(
    lab: RabbitLab, stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.bus.rabbitmq.bus.BIND_SECONDS", 0.05)
    replica = await stack.enter_async_context(Replica(lab))
    publish = await publisher(lab, stack)
    async with aiormq.connect(lab.url) as connection:
        channel = await connection.channel()
        await channel.queue_unbind("billing-svc", "events", SIGNED_UP)
    async with asyncio.timeout(PATIENCE):
        while not replica.got:
            await publish(event())
    assert replica.bus.consuming


async def test_a_deleted_queue_and_what_was_lost_with_it_are_told(
    lab: RabbitLab, node: RabbitMQ, stack: AsyncExitStack
) -> None:
    def told() -> list[str]:
        return [line["queue"] for line in logs if line["event"].startswith("the queue was deleted")]

    with capture_logs() as logs:
        await stack.enter_async_context(Replica(lab))
        assert told() == []
        await api(node, "DELETE", f"/api/queues/{vhost(lab)}/billing-svc")
        await eventually(lambda: told() == ["billing-svc"])


async def test_a_retry_queue_that_was_deleted_costs_no_event(
    lab: RabbitLab, node: RabbitMQ, stack: AsyncExitStack
) -> None:
    async def retry(delivery: Delivery) -> None:
        await delivery.later(0, counted=True)

    with capture_logs() as logs:
        replica = await stack.enter_async_context(Replica(lab, settle=retry))
        publish = await publisher(lab, stack)
        await publish(event(b"1"))
        await replica.until(2)
        await api(node, "DELETE", f"/api/queues/{vhost(lab)}/billing-svc.later.100ms")
        await publish(event(b"2", id_="e-2"))
        await eventually(
            lambda: (b"2", 2) in [(each.body, each.history.attempt) for each in replica.got]
        )
    assert "lost the broker" not in [line["event"] for line in logs]
    assert replica.bus.consuming


async def test_full_dead_letters_keep_the_event_in_its_queue(
    lab: RabbitLab, stack: AsyncExitStack
) -> None:
    refusals: list[BusUnavailable] = []

    async def bury_or_say(delivery: Delivery) -> None:
        try:
            await bury(delivery)
        except BusUnavailable as error:
            refusals.append(error)
            await delivery.later(0, counted=False)

    await declare(lab, "billing-svc.dead", {"x-max-length": 0, "x-overflow": "reject-publish"})
    replica = await stack.enter_async_context(Replica(lab, settle=bury_or_say))
    await (await publisher(lab, stack))(event(b"1"))
    await replica.until(2)
    assert "refused" in str(refusals[0])
    assert replica.bodies[:2] == [b"1", b"1"]


async def test_a_replica_that_is_paused_keeps_its_own_queue(
    lab: RabbitLab, stack: AsyncExitStack
) -> None:
    replica = await stack.enter_async_context(Replica(lab, mode="every_replica"))
    await replica.bus.pause()
    await (await publisher(lab, stack))(event(b"1"))
    await replica.bus.resume()
    await replica.until(1)


async def test_a_retry_of_one_replica_reaches_no_other(
    lab: RabbitLab, stack: AsyncExitStack
) -> None:
    async def fail_once(delivery: Delivery) -> None:
        await (delivery.later(0, counted=True) if delivery.history.attempt == 1 else keep(delivery))

    one = await stack.enter_async_context(Replica(lab, mode="every_replica", settle=fail_once))
    two = await stack.enter_async_context(Replica(lab, mode="every_replica"))
    await (await publisher(lab, stack))(event(b"1"))
    await one.until(2)
    assert [delivery.history.attempt for delivery in one.got] == [1, 2]
    assert len(two.got) == 1


async def test_a_replay_without_a_queue_to_go_to_keeps_the_dead_letter(
    lab: RabbitLab, node: RabbitMQ, stack: AsyncExitStack
) -> None:
    async with Replica(lab, settle=bury) as replica:
        await (await publisher(lab, stack))(event())
        await replica.until(1)
        await patient_letters(lab, 1)
    await api(node, "DELETE", f"/api/queues/{vhost(lab)}/billing-svc")
    with pytest.raises(BusUnavailable, match="start the service once"):
        await letters(lab, "billing-svc", Verdict.REPLAY)
    assert len(await letters(lab, "billing-svc")) == 1


async def test_a_sweep_takes_a_second_death_for_no_copy_of_the_first(
    lab: RabbitLab, stack: AsyncExitStack
) -> None:
    """The second entry gets into the sweep because another reader has one of its entries."""
    deaths: list[Delivery] = []

    async def bury_and_tell(delivery: Delivery) -> None:
        await delivery.dead(FAILURE)
        deaths.append(delivery)

    async def decide(letter: DeadLetter) -> Verdict:
        if letter.replays:
            return Verdict.KEEP
        await other_reader.basic_get("billing-svc.dead")
        await asyncio.to_thread(cable.hold)
        return Verdict.REPLAY

    await stack.enter_async_context(Replica(lab, settle=bury_and_tell))
    publish = await publisher(lab, stack)
    for body in (b"1", b"2"):
        await publish(event(body, id_=body.decode()))
        await eventually(lambda body=body: body in [delivery.body for delivery in deaths])
    await patient_letters(lab, 2)
    connection = await stack.enter_async_context(aiormq.connect(lab.url))
    other_reader = await connection.channel()
    cable = stack.enter_context(Cable(urlsplit(lab.url).port or 0).laid())
    tool = lab.bus("dlq-tool", cable.through(lab.url))
    await tool.start()
    stack.push_async_callback(tool.close)
    await asyncio.wait_for(tool.wait_ready(), PATIENCE)
    await tool.publish(event(type_=OPENED))  # the first message waits for a channel of its own
    sweep = asyncio.create_task(tool.sweep("billing-svc", decide))
    await eventually(lambda: len(deaths) == 3)
    await asyncio.to_thread(cable.let_go)
    await asyncio.wait_for(sweep, PATIENCE)
    await other_reader.close()
    found = await patient_letters(lab, 2)
    assert sorted((letter.body, letter.replays) for letter in found) == [(b"1", 1), (b"2", 0)]


async def test_publishes_in_flight_when_the_connection_breaks_are_not_confirmed(
    lab: RabbitLab, stack: AsyncExitStack
) -> None:
    cable = stack.enter_context(Cable(urlsplit(lab.url).port or 0).laid())
    bus = lab.bus("publisher", cable.through(lab.url))
    stack.push_async_callback(bus.close)
    await bus.start()
    await asyncio.wait_for(bus.wait_ready(), PATIENCE)
    await asyncio.to_thread(cable.hold)
    publishes = [asyncio.create_task(bus.publish(event(id_=str(n)))) for n in range(20)]
    await asyncio.sleep(0)
    await asyncio.to_thread(cable.cut)
    async with asyncio.timeout(PATIENCE):
        ended = await asyncio.gather(*publishes, return_exceptions=True)
    assert {type(end) for end in ended} == {BusUnavailable}


async def test_events_are_published_and_delivered_over_tls_in_pieces(
    lab: RabbitLab, stack: AsyncExitStack, tmp_path: Path
) -> None:
    made = certificate.make(tmp_path, days=1)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(made.file, made.key)
    forwarding: list[asyncio.Task[None]] = []

    async def pieces(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while piece := await source.read(7):
            sink.write(piece)
            await sink.drain()
        sink.close()

    async def forward(near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
        far, to_far = await asyncio.open_connection("127.0.0.1", urlsplit(lab.url).port)
        forwarding.extend(map(asyncio.create_task, (pieces(near, to_far), pieces(far, to_near))))

    server = await asyncio.start_server(forward, "127.0.0.1", 0, ssl=context)
    stack.callback(server.close)
    port = server.sockets[0].getsockname()[1]
    url = f"amqps://guest:guest@localhost:{port}/{vhost(lab)}?cafile={made.file}"
    over_tls = copy(lab)
    over_tls.url = url
    async with Replica(over_tls) as replica:
        for body in (b"1", b"x" * 1000):
            await replica.bus.publish(event(body, id_=str(len(body))))
        await replica.until(2)
    await asyncio.gather(*forwarding, return_exceptions=True)
    assert sorted(replica.bodies) == [b"1", b"x" * 1000]


async def test_a_wrong_password_is_reported_once_and_never_shown(lab: RabbitLab) -> None:
    bus = RabbitBus(
        lab.url.replace("guest:guest", "guest:s3cret"), name="billing-svc", backoff=lambda _: 0.01
    )

    def tries() -> int:
        return sum(entry["event"] == "cannot use the broker" for entry in logs)

    with capture_logs() as logs:
        await bus.start()
        await eventually(lambda: tries() == 1)
        with pytest.raises(BusUnavailable) as refusal:
            await bus.publish(event())
        await asyncio.sleep(0.2)  # some more tries, told to nobody
        await bus.close()
    assert tries() == 1
    assert "s3cret" not in repr(logs) + str(refusal.value)


async def test_nothing_is_lost_when_the_server_is_killed_under_load(
    lab: RabbitLab, stack: AsyncExitStack
) -> None:
    assert lab.server is not None
    replica = await stack.enter_async_context(Replica(lab, prefetch=50))
    publish = await publisher(lab, stack)
    await publish(event(id_="warm-up"))
    await replica.until(1)
    await lab.server.stop()  # in order: a younger queue would not survive the kill
    await lab.server.start()
    confirmed: set[str] = set()
    stopping = asyncio.Event()

    async def produce(producer: int) -> None:
        number = 0
        while not stopping.is_set():
            id_ = f"{producer}-{number}"
            try:
                await asyncio.wait_for(publish(event(id_=id_)), PATIENCE * 2)
            except BusUnavailable:
                await asyncio.sleep(0.05)
            else:
                confirmed.add(id_)
                number += 1

    producers = [asyncio.create_task(produce(n)) for n in range(20)]
    await eventually(lambda: len(confirmed) > 500)
    await asyncio.to_thread(shared_rabbitmq().server.kill)
    before = len(confirmed)
    await lab.server.start()
    await eventually(lambda: len(confirmed) > before + 500, PATIENCE * 2)
    stopping.set()
    await asyncio.gather(*producers)
    await eventually(lambda: confirmed <= {delivery.envelope().id for delivery in replica.got})
