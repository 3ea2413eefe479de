"""A broker, a store, replicas of one service, and the faults that happen to them."""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.brokers.nats import nats
from tests.brokers.process import Server
from tests.brokers.rabbitmq import shared_rabbitmq
from tests.chaos.sink import Sink
from tests.e2e.replicas import Replica, eventually

SETTINGS = {
    "CHASSIS_LEASE_SECONDS": "4",
    "CHASSIS_HANDLER_TIMEOUT_SECONDS": "3",
    "CHASSIS_BACKOFF_SECONDS": "0.2",
    "CHASSIS_MAX_ATTEMPTS": "3",
    "CHASSIS_DRAIN_SECONDS": "10",
    "CHASSIS_PREFETCH": "50",
    "CHASSIS_LOG_FORMAT": "json",
}


@dataclass
class World:
    """`broker` and `store` are processes of their own, so that each can fail alone."""

    service: Path
    bus_url: str
    store_url: str
    broker: Server
    store: Server
    sink: Sink
    folder: Path
    replicas: list[Replica] = field(default_factory=list)
    killed: set[int] = field(default_factory=set)
    exits: Counter[int] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    recoveries: list[float] = field(default_factory=list)
    """Seconds from the end of a fault until every replica was ready again."""

    def start_replicas(self, count: int) -> None:
        for number in range(count):
            env = SETTINGS | {
                "CHASSIS_BUS_URL": self.bus_url,
                "CHASSIS_INBOX_URL": self.store_url,
                "CHAOS_SINK": str(self.sink.path),
            }
            replica = Replica(self.service, env, self.folder / f"replica-{number}.log")
            self.replicas.append(replica)
            replica.server.start()

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

    def restart_broker(self, chance: random.Random) -> None:
        self.broker.stop()
        time.sleep(chance.random() * 3)
        self.broker.start()

    def pause_broker(self, chance: random.Random) -> None:
        self._suspend(self.broker, chance.random() * 2)

    def restart_store(self, chance: random.Random) -> None:
        self.store.kill()
        time.sleep(chance.random() * 2)
        self.store.start()

    def pause_store(self, chance: random.Random) -> None:
        self._suspend(self.store, chance.random() * 2)

    def inject(self, chance: random.Random) -> None:
        """One fault by chance, and its recovery."""
        fault: Callable[[random.Random], None] = chance.choices(
            [
                self.kill_replica,
                self.terminate_replica,
                self.restart_broker,
                self.pause_broker,
                self.restart_store,
                self.pause_store,
            ],
            weights=[4, 3, 1, 1, 1, 1],
        )[0]
        self.faults[fault.__name__.replace("_", " ")] += 1
        fault(chance)
        over = time.monotonic()
        eventually(lambda: all(replica.ready() for replica in self.replicas), f"recovery from {fault.__name__}")
        self.recoveries.append(time.monotonic() - over)

    @staticmethod
    def _suspend(server: Server, seconds: float) -> None:
        server.suspend()
        try:
            time.sleep(seconds)
        finally:
            server.resume()


@contextmanager
def world(bus: str, service: Path, folder: Path) -> Iterator[World]:
    """A world with nothing in it yet; everything of it is gone afterwards."""
    with ExitStack() as stack:
        (folder / "store").mkdir()
        store = stack.enter_context(nats(folder / "store"))
        if bus == "nats":
            (folder / "broker").mkdir()
            broker = stack.enter_context(nats(folder / "broker"))
            bus_url, broker_process = broker.url, broker.server
        else:
            rabbit = shared_rabbitmq()
            bus_url, broker_process = stack.enter_context(rabbit.vhost(f"chaos-{folder.name}")), rabbit.server
        made = World(service, bus_url, store.url, broker_process, store.server, Sink(folder / "sink.db"), folder)
        stack.callback(made.stop)
        yield made
