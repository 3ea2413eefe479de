"""The faults of a cluster. Each returns once all nodes run again.

The waits are how long a fault lasts, by chance: nothing is expected of them.
"""

import asyncio
import os
import random
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from time import monotonic

from tests.chaos.clusters import SIZE, Cluster, NatsCluster, RabbitCluster
from tests.chaos.diary import Entry
from tests.chaos.faults import Fault, kill_replica, suspended, terminate_replica
from tests.chaos.world import World
from tests.e2e.publishers import bare_publisher, signed_up

FROZEN_SECONDS = 10.0
"""Longer than the other nodes wait for a leader's sign of life."""
_PATIENCE = 60.0
_TIMED_OUT_SECONDS = 4.0
"""Less than half a lease: the replica that is frozen keeps its events."""


def _of(made: World) -> Cluster:
    assert made.cluster is not None
    return made.cluster


def _nats(made: World) -> NatsCluster:
    assert isinstance(made.cluster, NatsCluster)
    return made.cluster


def _rabbitmq(made: World) -> RabbitCluster:
    assert isinstance(made.cluster, RabbitCluster)
    return made.cluster


def kill_leader(made: World, chance: random.Random) -> None:
    cluster = _of(made)
    leader = cluster.whole()
    cluster.servers[leader].kill()
    made.first_events.append(asyncio.run(_first_event(made)))
    cluster.servers[leader].start()


def kill_follower(made: World, chance: random.Random) -> None:
    cluster = _of(made)
    follower = _followers(cluster, chance)[0]
    cluster.servers[follower].kill()
    time.sleep(chance.random() * 4)
    cluster.servers[follower].start()


def kill_two_of_three(made: World, chance: random.Random) -> None:
    cluster = _of(made)
    leader = cluster.whole()
    both = [leader, _followers(cluster, chance)[0]]
    for node in both:
        cluster.servers[node].kill()
    time.sleep(chance.random() * 4)
    _start(cluster, both)


def freeze_leader(made: World, chance: random.Random) -> None:
    cluster = _of(made)
    with suspended(cluster.servers[cluster.whole()]):
        time.sleep(FROZEN_SECONDS)


def cut_off_leader(made: World, chance: random.Random) -> None:
    cluster = _of(made)
    with cluster.lines.isolated(cluster.whole()):
        time.sleep(3 + chance.random() * 5)


def cut_off_follower(made: World, chance: random.Random) -> None:
    cluster = _of(made)
    with cluster.lines.isolated(*_followers(cluster, chance)[:1]):
        time.sleep(3 + chance.random() * 5)


def cut_all_apart(made: World, chance: random.Random) -> None:
    cluster = _of(made)
    cluster.whole()
    with cluster.lines.isolated(*range(SIZE)):
        time.sleep(1 + chance.random() * 5)


def lame_duck(made: World, chance: random.Random) -> None:
    cluster = _nats(made)
    leader = cluster.whole()
    cluster.lame_duck(leader)
    cluster.servers[leader].kill()  # it has ended: only tidies up
    cluster.servers[leader].start()


def fill_disk(made: World, chance: random.Random) -> None:
    """NATS gives up JetStream on a node that cannot write, until the node is started again."""
    cluster = _nats(made)
    node = chance.choice([cluster.whole(), *_followers(cluster, chance)])
    with cluster.full_disk(node):
        time.sleep(4 + chance.random() * 4)
    cluster.servers[node].kill()
    cluster.servers[node].start()


def alarm_of_memory(made: World, chance: random.Random) -> None:
    _alarm(made, chance, "set_vm_memory_high_watermark", "0.0000001", "0.4")


def alarm_of_disk(made: World, chance: random.Random) -> None:
    _alarm(made, chance, "set_disk_free_limit", "100000GB", "50MB")


def _alarm(made: World, chance: random.Random, setting: str, alarming: str, usual: str) -> None:
    cluster = _rabbitmq(made)
    cluster.whole()
    cluster.control(setting, alarming)
    time.sleep(1 + chance.random() * 5)
    cluster.control(setting, usual)


def time_out_consumer(made: World, chance: random.Random) -> None:
    """The broker closes the channel of a frozen replica: it waits too long for its settlements."""
    cluster = _rabbitmq(made)
    cluster.whole()
    for timeout, tick in (("1500", "500"), ("1800000", "60000")):
        cluster.everywhere("consumer_timeout", timeout)
        cluster.everywhere("channel_tick_interval", tick)
        # A channel keeps the timeout that it began with.
        cluster.control("close_all_connections", "--global", "a new consumer_timeout")
        if timeout == "1500":
            _freeze_with_events_in_hand(made, chance)


def _freeze_with_events_in_hand(made: World, chance: random.Random) -> None:
    replica = chance.choice(made.replicas)
    deadline = monotonic() + _PATIENCE
    while monotonic() < deadline:
        with suppress(OSError):
            if replica.ready() and replica.metric("chassis_in_flight_messages"):
                break
        time.sleep(0.05)
    begun = time.time()
    with suspended(replica.server):
        time.sleep(_TIMED_OUT_SECONDS)
    made.diary.frozen[replica.server.pid].append(Entry(begun, time.time(), "frozen"))


def _followers(cluster: Cluster, chance: random.Random) -> list[int]:
    leader = cluster.whole()
    others = [node for node in range(SIZE) if node != leader]
    chance.shuffle(others)
    return others


def _start(cluster: Cluster, nodes: Iterable[int]) -> None:
    """At the same time: neither may be able to start without the other."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda node: cluster.servers[node].start(), nodes))


async def _first_event(made: World) -> float:
    """Seconds until an event is handled that is published from now on."""
    begun = monotonic()
    prefix = f"probe-{len(made.first_events)}-"
    sending: set[asyncio.Task[None]] = set()

    async def send(id_: str) -> None:
        with suppress(Exception):  # each client has its own error for a broker that is away
            async with asyncio.timeout(2), bare_publisher(made.bus_url) as publisher:
                await publisher.publish(id_, signed_up(id_))

    for number in count():
        sending.add(asyncio.create_task(send(f"{prefix}{number}")))
        await asyncio.sleep(0.2)
        if made.sink.has(prefix) or monotonic() - begun > _PATIENCE:
            break
    seconds = monotonic() - begun
    await asyncio.wait(sending)
    return seconds


_ANY: dict[Fault, int] = {
    kill_leader: 5,
    kill_follower: 2,
    kill_two_of_three: 2,
    freeze_leader: 2,
    cut_off_leader: 3,
    cut_off_follower: 1,
    cut_all_apart: 2,
    kill_replica: 3,
    terminate_replica: 2,
}
_NATS: dict[Fault, int] = {lame_duck: 2} | ({fill_disk: 2} if os.geteuid() == 0 else {})
_RABBITMQ: dict[Fault, int] = {alarm_of_memory: 2, alarm_of_disk: 2, time_out_consumer: 2}


def weights(made: World) -> dict[Fault, int]:
    """How often each fault of this cluster comes, compared to the others."""
    return _ANY | (_NATS if isinstance(made.cluster, NatsCluster) else _RABBITMQ)
