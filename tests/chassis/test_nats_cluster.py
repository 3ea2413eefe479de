"""Bus and inbox on a NATS cluster of three nodes: copies of everything, and the loss of nodes."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from nats import connect as connect_bare
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError
from structlog.testing import capture_logs

from chassis.bus import BusUnavailable, Delivery, Subscription
from chassis.bus.nats import NatsBus
from chassis.contracts.envelope import EncodedEvent, Envelope
from chassis.inbox import Lease
from chassis.inbox.nats_kv import NatsKvInbox
from tests.brokers.nats import Nats, nats, nats_cluster
from tests.waiting import PATIENCE_WITH_PROCESSES, eventually

SERVICE = "billing-svc"
TYPE = "acme.signup.v1.UserSignedUp"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of three nodes."""
    with nats_cluster(tmp_path_factory.mktemp("cluster")) as nodes:
        yield ",".join(node.url for node in nodes)


@asynccontextmanager
async def jetstream(url: str) -> AsyncIterator[JetStreamContext]:
    async with await connect_bare(url.split(",")) as client:
        yield client.jetstream()


@pytest.fixture
async def js(cluster: str) -> AsyncIterator[JetStreamContext]:
    """JetStream of the cluster, with nothing in it at the end."""
    async with jetstream(cluster) as js:
        yield js
        for stream in STREAMS:
            with suppress(NotFoundError):
                await js.delete_stream(stream)


async def live(url: str, mode: Any = "shared", **settings: Any) -> None:
    """A replica with its bus and its inbox, from its start to its end."""
    replicas = {"replicas": settings["replicas"]} if "replicas" in settings else {}
    inbox = NatsKvInbox(url, lease_seconds=30, retention_seconds=60, timeout=20, **replicas)
    bus = NatsBus(url, name=SERVICE, ack_wait=30, timeout=20, **settings)
    types = None if mode == "every_replica" else frozenset({TYPE})

    async def done(delivery: Any) -> None:
        delivery.done()

    bus.subscribe(Subscription(SERVICE, types, mode=mode), done)
    try:
        await inbox.open()
        await bus.start()
        await bus.wait_ready()
    finally:
        await bus.close()
        await inbox.close()


STREAMS = ("EVENTS", "DLQ_billing-svc", "KV_inbox")
CONSUMERS = (SERVICE, f"{SERVICE}-alone")


async def copies(js: JetStreamContext) -> set[int]:
    """How many nodes keep each stream and each consumer; a group that elects gives no answer."""
    groups = [(await js.stream_info(name)).cluster for name in STREAMS]
    groups += [(await js.consumer_info("EVENTS", name)).cluster for name in CONSUMERS]
    return {1 + len((group.replicas if group else None) or []) for group in groups}


async def until_copies(js: JetStreamContext, wanted: int) -> None:
    """Return when there are that many copies of everything."""
    async with asyncio.timeout(PATIENCE_WITH_PROCESSES):
        while True:
            with suppress(NatsError):
                if await copies(js) == {wanted}:
                    return
            await asyncio.sleep(0.05)


async def test_streams_dead_letters_consumers_and_bucket_have_the_replicas(
    cluster: str, js: JetStreamContext
) -> None:
    with capture_logs() as lines:
        await live(cluster, replicas=3)
    await until_copies(js, 3)
    assert not [line for line in lines if line["log_level"] == "warning"]


async def test_replicas_are_raised_later_and_never_lowered(
    cluster: str, js: JetStreamContext
) -> None:
    await live(cluster, replicas=1)
    await live(cluster, replicas=3)
    await until_copies(js, 3)
    await live(cluster, replicas=1)
    assert await copies(js) == {3}


async def test_fewer_replicas_than_nodes_are_one_warning_of_bus_and_inbox_each(
    cluster: str, js: JetStreamContext
) -> None:
    with capture_logs() as lines:
        await live(cluster, replicas=1)
    warnings = [line for line in lines if line["log_level"] == "warning"]
    assert [line["streams"] for line in warnings] == [["KV_inbox"], ["DLQ_billing-svc", "EVENTS"]]
    assert {line["nodes"] for line in warnings} == {3}
    assert all("CHASSIS_NATS_REPLICAS=3" in line["event"] for line in warnings)


async def test_a_bucket_that_was_made_with_three_replicas_is_taken(
    cluster: str, js: JetStreamContext
) -> None:
    await js.create_key_value(bucket="inbox", replicas=3)
    inbox = NatsKvInbox(cluster, lease_seconds=30, retention_seconds=60, timeout=20)
    try:
        await inbox.open()
        for _ in range(3):
            await inbox.release(await inbox.claim("key", "digest"))  # type: ignore[arg-type] # it is free
    finally:
        await inbox.close()


async def test_replicas_that_claim_one_event_at_the_same_moment_find_it_busy(
    cluster: str, js: JetStreamContext
) -> None:
    async with AsyncExitStack() as stack:
        inboxes = [
            NatsKvInbox(cluster, lease_seconds=30, retention_seconds=60, timeout=20, replicas=3)
            for _ in range(4)
        ]
        for inbox in inboxes:
            stack.push_async_callback(inbox.close)
            await inbox.open()
        for number in range(50):
            key = f"key-{number}"
            answers = await asyncio.gather(*(inbox.claim(key, "digest") for inbox in inboxes))
            leases = [answer for answer in answers if isinstance(answer, Lease)]
            assert len(leases) == 1
            await inboxes[answers.index(leases[0])].complete(leases[0])


@pytest.fixture
def single(tmp_path: Path) -> Iterator[Nats]:
    with nats(tmp_path) as server:
        yield server


async def test_a_server_without_a_cluster_makes_no_replicas_and_says_why(single: Nats) -> None:
    bus = NatsBus(single.url, name=SERVICE, ack_wait=30, replicas=3)
    try:
        with capture_logs() as lines:
            await bus.start()
            with pytest.raises(ConnectionError, match="cannot have 3 replicas"):
                await bus._link.wait_up(1)
        assert len([line for line in lines if line["event"] == "cannot use the broker"]) == 1
    finally:
        await bus.close()


async def test_replicas_that_cannot_be_raised_are_a_warning_and_the_stream_is_used(
    single: Nats,
) -> None:
    await live(single.url)
    with capture_logs() as lines:
        await live(single.url, replicas=3)
    warned = [line["stream"] for line in lines if "fewer replicas than CHASSIS" in line["event"]]
    assert sorted(warned) == ["DLQ_billing-svc", "EVENTS", "KV_inbox"]


async def test_bounds_that_are_given_are_raised_and_others_stay(single: Nats) -> None:
    await live(single.url, retention=7200.0, max_bytes=2**21, dead_letters=7)
    await live(single.url)
    await live(single.url, retention=3600.0, max_bytes=2**22, dead_letters=9)
    async with jetstream(single.url) as js:
        events = (await js.stream_info("EVENTS")).config
        letters = (await js.stream_info("DLQ_billing-svc")).config
    assert (events.max_age, events.max_bytes) == (7200, 2**22)
    assert (letters.max_msgs, letters.max_bytes) == (9, 256 * 1024 * 1024)


class Leaders:
    """A cluster whose leaders a test kills, a replica, and the events that it handled."""

    def __init__(self, nodes: list[Nats], replicas: int) -> None:
        self.nodes = {f"n{number}": node for number, node in enumerate(nodes)}
        self.url = ",".join(node.url for node in nodes)
        self.handled: set[bytes] = set()
        self.bus = NatsBus(self.url, name=SERVICE, ack_wait=30, replicas=replicas)
        self.bus.subscribe(Subscription(SERVICE, frozenset({TYPE})), self._handle)

    async def _handle(self, delivery: Delivery) -> None:
        self.handled.add(delivery.body)
        delivery.done()

    async def kill_leader(self) -> Nats:
        """The node that led EVENTS, now killed."""
        async with jetstream(self.url) as js:
            group = (await js.stream_info("EVENTS")).cluster
        leader = self.nodes[str(group.leader if group else None)]
        await asyncio.to_thread(leader.server.kill)
        return leader

    async def publish(self, body: bytes) -> None:
        """Publish again until it is confirmed."""
        while True:
            with suppress(BusUnavailable):
                await self.bus.publish(EncodedEvent(Envelope(body.decode(), "test", TYPE), body))
                return
            await asyncio.sleep(0.05)


@asynccontextmanager
async def led(folder: Path, replicas: int) -> AsyncIterator[Leaders]:
    with nats_cluster(folder) as nodes:
        leaders = Leaders(nodes, replicas)
        await leaders.bus.start()
        try:
            await leaders.bus.wait_ready()
            yield leaders
        finally:
            await leaders.bus.close()


async def test_a_replica_is_not_connected_while_the_only_copy_of_the_stream_is_gone(
    tmp_path: Path,
) -> None:
    async with led(tmp_path, replicas=1) as cluster:
        node = await cluster.kill_leader()
        await eventually(lambda: not cluster.bus.connected, PATIENCE_WITH_PROCESSES)
        assert not cluster.bus.consuming
        with pytest.raises(ConnectionError, match="no leader"):
            await cluster.bus._link.wait_up(4)
        await asyncio.to_thread(node.server.start)
        await asyncio.wait_for(cluster.bus.wait_ready(), PATIENCE_WITH_PROCESSES)


async def test_events_after_the_loss_of_a_leader_are_handled(tmp_path: Path) -> None:
    async with led(tmp_path, replicas=3) as cluster:
        await cluster.publish(b"before")
        await cluster.kill_leader()
        await asyncio.wait_for(cluster.publish(b"after"), PATIENCE_WITH_PROCESSES)
        await eventually(lambda: cluster.handled == {b"before", b"after"}, PATIENCE_WITH_PROCESSES)
        assert cluster.bus.connected


async def test_a_replica_is_not_connected_while_two_of_three_nodes_are_gone(
    tmp_path: Path,
) -> None:
    async with led(tmp_path, replicas=3) as cluster:
        first = await cluster.kill_leader()
        second = next(node for node in cluster.nodes.values() if node is not first)
        await asyncio.to_thread(second.server.kill)
        await eventually(lambda: not cluster.bus.connected, PATIENCE_WITH_PROCESSES)
        await asyncio.to_thread(first.server.start)
        await asyncio.wait_for(cluster.publish(b"back"), PATIENCE_WITH_PROCESSES)
        await eventually(lambda: cluster.handled == {b"back"}, PATIENCE_WITH_PROCESSES)
