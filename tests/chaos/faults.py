"""The faults. Each returns once its victim runs again; `chosen` takes them by chance."""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from tests.brokers.cable import Cable
from tests.brokers.process import Server
from tests.chaos.diary import Entry
from tests.chaos.world import FREEZE_SECONDS, World
from tests.waiting import happens

Fault = Callable[[World, random.Random], None]


def kill_replica(made: World, chance: random.Random) -> None:
    replica = chance.choice(made.replicas)
    made.diary.killed[replica.server.pid] = time.time()
    replica.server.kill()
    time.sleep(chance.random())
    replica.server.start()


def terminate_replica(made: World, chance: random.Random) -> None:
    replica = chance.choice(made.replicas)
    made.exits[replica.terminate()] += 1
    replica.server.kill()  # it has ended: only tidies up
    replica.server.start()


def freeze_replica(made: World, chance: random.Random) -> None:
    server = chance.choice(made.replicas).server
    begun = time.time()
    with suspended(server):
        time.sleep(FREEZE_SECONDS)
    made.diary.frozen[server.pid].append(Entry(begun, time.time(), "frozen"))


def restart_broker(made: World, chance: random.Random) -> None:
    made.broker.stop()
    time.sleep(chance.random() * 3)
    made.broker.start()


def pause_broker(made: World, chance: random.Random) -> None:
    with suspended(made.broker):
        time.sleep(chance.random() * 2)


def cut_broker(made: World, chance: random.Random) -> None:
    with _cut(made.broker_cable):
        time.sleep(chance.random() * 2)


def restart_store(made: World, chance: random.Random) -> None:
    made.store.kill()
    time.sleep(chance.random() * 2)
    made.store.start()


def pause_store(made: World, chance: random.Random) -> None:
    with suspended(made.store):
        time.sleep(chance.random() * 2)


def cut_store(made: World, chance: random.Random) -> None:
    with _cut(made.store_cable):
        time.sleep(chance.random() * 2)


def restart_both(made: World, chance: random.Random) -> None:
    """Broker and store, either of them first."""
    servers = made.servers
    chance.shuffle(servers)
    for server in servers:
        server.stop()
    time.sleep(chance.random() * 2)
    chance.shuffle(servers)
    for server in servers:
        server.start()


def cut_both(made: World, chance: random.Random) -> None:
    with _cut(made.broker_cable), _cut(made.store_cable):
        time.sleep(chance.random() * 2)


REPLICAS: dict[Fault, int] = {kill_replica: 6, terminate_replica: 4, freeze_replica: 1}
OUTAGES: dict[Fault, int] = {
    restart_broker: 1,
    pause_broker: 1,
    cut_broker: 2,
    restart_store: 1,
    pause_store: 1,
    cut_store: 2,
    restart_both: 1,
    cut_both: 1,
}
WEIGHTS = REPLICAS | OUTAGES
"""How often each comes, compared to the others."""
PATIENCE = 60.0


def chosen(count: int, chance: random.Random, weights: Mapping[Fault, int]) -> list[Fault]:
    """So many faults by chance, in any order; each kind at least once, if there are enough."""
    kinds = list(weights)
    certain = kinds if count >= len(kinds) else []
    faults = certain + chance.choices(kinds, weights=list(weights.values()), k=count - len(certain))
    chance.shuffle(faults)
    return faults


def inject(made: World, fault: Fault, chance: random.Random) -> None:
    """`fault`, and its recovery."""
    name = fault.__name__.replace("_", " ")
    made.faults[name] += 1
    begun = time.time()
    fault(made, chance)
    over = time.monotonic()
    if happens(lambda: all(replica.ready() for replica in made.replicas), PATIENCE):
        made.recoveries.append(time.monotonic() - over)
    else:
        made.not_recovered.append(name)
    made.diary.entries.append(Entry(begun, time.time(), name, outage=fault not in REPLICAS))


@contextmanager
def _cut(cable: Cable) -> Iterator[None]:
    cable.cut()
    try:
        yield
    finally:
        cable.mend()


@contextmanager
def suspended(server: Server) -> Iterator[None]:
    server.suspend()
    try:
        yield
    finally:
        server.resume()
