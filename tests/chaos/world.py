"""A broker, a store, replicas of one service, and the faults that happen to them."""

import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tests.brokers.cable import Cable
from tests.brokers.nats import nats
from tests.brokers.process import Server
from tests.brokers.rabbitmq import shared_rabbitmq
from tests.brokers.stores import STORES
from tests.chaos.sink import Sink
from tests.e2e.replicas import Replica, eventually

LONG = os.environ.get("CHAOS") == "long"
"""Whether the tests of this folder shall take the time that `make chaos` takes."""
PAIRS = [(bus, store) for bus in ("rabbitmq", "nats") for store in STORES]
SHORT_PAIRS = [("rabbitmq", "nats-kv"), ("nats", "redis")]
"""A store that is fast to start on each bus; the long form has all."""
REPOSITORY = Path(__file__).parents[2]
SETTINGS = {
    "CHASSIS_LEASE_SECONDS": "4",
    "CHASSIS_HANDLER_TIMEOUT_SECONDS": "3",
    "CHASSIS_BACKOFF_SECONDS": "0.2",
    "CHASSIS_MAX_ATTEMPTS": "3",
    "CHASSIS_DRAIN_SECONDS": "10",
    "CHASSIS_PREFETCH": "50",
    "CHASSIS_LOG_FORMAT": "json",
}


FREEZE_SECONDS = 7.0
"""Longer than the lease and the broker's patience: whoever wakes after it has lost everything it held."""


@dataclass
class World:
    """`broker` and `store` are processes of their own, so that each can fail alone; replicas reach them by cables."""

    service: Path
    bus_url: str
    broker: Server
    broker_cable: Cable
    store_url: str
    store: Server
    store_cable: Cable
    sink: Sink
    folder: Path
    replicas: list[Replica] = field(default_factory=list)
    killed: set[int] = field(default_factory=set)
    frozen: set[int] = field(default_factory=set)
    exits: Counter[int] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    recoveries: list[float] = field(default_factory=list)
    """Seconds from the end of a fault until every replica was ready again."""

    program: Sequence[str | Path] = ()
    """The service's command, unless it is that of the rendered service."""

    def start_replicas(self, count: int, **env: str) -> list[Replica]:
        """Further replicas, ready; `env` is added to their environment."""
        return [self._start_replica(env) for _ in range(count)]

    def _start_replica(self, env: Mapping[str, str]) -> Replica:
        settings = SETTINGS | {
            "CHASSIS_BUS_URL": self.broker_cable.through(self.bus_url),
            "CHASSIS_INBOX_URL": self.store_cable.through(self.store_url),
            "CHAOS_SINK": str(self.sink.path),
            **env,
        }
        log = self.folder / f"replica-{len(self.replicas)}.log"
        replica = Replica(self.service, settings, log, program=self.program)
        self.replicas.append(replica)
        replica.server.start()
        return replica

    def stop(self) -> None:
        for replica in self.replicas:
            replica.server.kill()

    # The faults. Each is over, and its victim started again, when it returns.

    def kill_replica(self, chance: random.Random) -> None:
        replica = chance.choice(self.replicas)
        self.killed.add(replica.server.pid)
        replica.server.kill()
        time.sleep(chance.random())
        replica.server.start()

    def terminate_replica(self, chance: random.Random) -> None:
        replica = chance.choice(self.replicas)
        self.exits[replica.terminate()] += 1
        replica.server.kill()  # it has ended: only tidies up
        replica.server.start()

    def freeze_replica(self, chance: random.Random) -> None:
        replica = chance.choice(self.replicas)
        self.frozen.add(replica.server.pid)
        self._suspend(replica.server, FREEZE_SECONDS)

    def restart_broker(self, chance: random.Random) -> None:
        self.broker.stop()
        time.sleep(chance.random() * 3)
        self.broker.start()

    def pause_broker(self, chance: random.Random) -> None:
        self._suspend(self.broker, chance.random() * 2)

    def cut_broker(self, chance: random.Random) -> None:
        self._cut(self.broker_cable, chance.random() * 2)

    def restart_store(self, chance: random.Random) -> None:
        self.store.kill()
        time.sleep(chance.random() * 2)
        self.store.start()

    def pause_store(self, chance: random.Random) -> None:
        self._suspend(self.store, chance.random() * 2)

    def cut_store(self, chance: random.Random) -> None:
        self._cut(self.store_cable, chance.random() * 2)

    def inject(self, chance: random.Random) -> None:
        """One fault by chance, and its recovery."""
        fault: Callable[[random.Random], None] = chance.choices(
            [
                self.kill_replica,
                self.terminate_replica,
                self.freeze_replica,
                self.restart_broker,
                self.pause_broker,
                self.cut_broker,
                self.restart_store,
                self.pause_store,
                self.cut_store,
            ],
            weights=[6, 4, 1, 1, 1, 2, 1, 1, 2],
        )[0]
        self.faults[fault.__name__.replace("_", " ")] += 1
        fault(chance)
        over = time.monotonic()
        eventually(lambda: all(replica.ready() for replica in self.replicas), f"recovery from {fault.__name__}")
        self.recoveries.append(time.monotonic() - over)

    @staticmethod
    def _cut(cable: Cable, seconds: float) -> None:
        cable.cut()
        try:
            time.sleep(seconds)
        finally:
            cable.mend()

    @staticmethod
    def _suspend(server: Server, seconds: float) -> None:
        server.suspend()
        try:
            time.sleep(seconds)
        finally:
            server.resume()


@contextmanager
def world(
    bus: str, service: Path, folder: Path, *, store: str = "nats-kv", program: Sequence[str | Path] = ()
) -> Iterator[World]:
    """A world with nothing in it yet; everything of it is gone afterwards."""
    with ExitStack() as stack:
        for name in ("broker", "store"):
            (folder / name).mkdir()
        store_url, store_process = stack.enter_context(STORES[store](folder / "store"))
        if bus == "nats":
            broker = stack.enter_context(nats(folder / "broker"))
            bus_url, broker_process = broker.url, broker.server
        else:
            rabbit = shared_rabbitmq()
            bus_url, broker_process = stack.enter_context(rabbit.vhost(f"chaos-{folder.name}")), rabbit.server
        made = World(
            service=service,
            bus_url=bus_url,
            broker=broker_process,
            broker_cable=stack.enter_context(_cable(bus_url)),
            store_url=store_url,
            store=store_process,
            store_cable=stack.enter_context(_cable(store_url)),
            sink=Sink(folder / "sink.db"),
            folder=folder,
            program=program,
        )
        stack.callback(made.stop)
        yield made


def _cable(url: str) -> AbstractContextManager[Cable]:
    port = urlsplit(url).port
    assert port is not None
    return Cable(port).laid()


def victims(bus: str, store: str, folder: Path) -> AbstractContextManager[World]:
    """A world for replicas of tests/chaos/victim.py; their PYTHONPATH must have the contracts."""
    return world(bus, REPOSITORY, folder, store=store, program=[sys.executable, "-m", "tests.chaos.victim"])
