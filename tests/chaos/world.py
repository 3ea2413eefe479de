"""A broker, a store, and replicas of one service: all that a fault can happen to."""

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from urllib.parse import urlsplit

from tests.brokers.cable import Cable
from tests.brokers.nats import nats
from tests.brokers.process import Server
from tests.brokers.rabbitmq import shared_rabbitmq, stop_shared_rabbitmq
from tests.brokers.stores import STORES
from tests.chaos.clusters import Cluster, cluster_of
from tests.chaos.diary import STOOD_STILL, Diary, Entry
from tests.chaos.remains import remains
from tests.chaos.sink import Sink
from tests.contracts import compile_into
from tests.e2e.replicas import Replica

LONG = os.environ.get("CHAOS") == "long"
"""Whether the tests of this folder take as long as `make chaos`."""
PAIRS = [(bus, store) for bus in ("rabbitmq", "nats") for store in STORES]
SHORT_PAIRS = [("rabbitmq", "nats-kv"), ("nats", "redis")]
"""A store that is fast to start on each bus; the long form has all."""
ONE_SERVER = ("nats", "bus")
"""A bus that keeps the inbox too, as it does unless somebody says otherwise."""
REPOSITORY = Path(__file__).parents[2]
PREFETCH = 50
SETTINGS = {
    "CHASSIS_LEASE_SECONDS": "10",
    "CHASSIS_HANDLER_TIMEOUT_SECONDS": "8",
    "CHASSIS_BACKOFF_SECONDS": "0.2",
    "CHASSIS_MAX_ATTEMPTS": "3",
    "CHASSIS_DRAIN_SECONDS": "10",
    "CHASSIS_PREFETCH": str(PREFETCH),
    "CHASSIS_LOG_FORMAT": "json",
}
STANDSTILL_SECONDS = 1.0
FREEZE_SECONDS = 14.0
"""Longer than the lease and the broker's patience: a process that wakes has lost all its events."""


@dataclass
class World:
    """Replicas reach broker and store by cables.

    Broker and store are processes of their own and fail alone, unless the bus is the store too.
    """

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
    exits: Counter[int] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    recoveries: list[float] = field(default_factory=list)
    """Seconds from the end of a fault until every replica was ready again."""
    not_recovered: list[str] = field(default_factory=list)
    """Faults after which some replica did not get ready again."""
    diary: Diary = field(default_factory=Diary)
    program: Sequence[str | Path] = ()
    """The service's command. Empty: the rendered service's own."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Added to the environment of each replica."""
    cluster: Cluster | None = None
    """The nodes of the broker; `broker` is the first one. Replicas reach them without a cable."""
    first_events: list[float] = field(default_factory=list)
    """Seconds from each kill of a leading node until an event of after that was handled."""

    def start_replicas(self, count: int, **env: str) -> list[Replica]:
        """Further replicas, ready; `env` is added to their environment."""
        return [self._start_replica(env) for _ in range(count)]

    def _start_replica(self, env: Mapping[str, str]) -> Replica:
        settings = SETTINGS | {
            "CHASSIS_BUS_URL": self.broker_cable.through(self.bus_url),
            "CHASSIS_INBOX_URL": self.store_cable.through(self.store_url),
            "CHAOS_SINK": str(self.sink.path),
            **self.env,
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

    @property
    def servers(self) -> list[Server]:
        """Broker and store; one, where it is both."""
        return [self.broker] if self.store is self.broker else [self.broker, self.store]

    def idle(self) -> bool:
        """Whether no replica has an event in hand, or will get one. Dead letters may remain."""
        return not self._in_hand() and remains(self.bus_url).waiting == 0 and not self._in_hand()

    def _in_hand(self) -> float:
        return sum(replica.metric("chassis_in_flight_messages") for replica in self.replicas)


@contextmanager
def world(
    bus: str,
    service: Path,
    folder: Path,
    *,
    store: str = "nats-kv",
    program: Sequence[str | Path] = (),
    nodes: int = 1,
) -> Iterator[World]:
    """A world with nothing in it yet; everything of it is gone afterwards.

    `nodes` of the broker: 1, or those of a cluster.
    """
    cluster: Cluster | None = None
    env: dict[str, str] = {}
    with ExitStack() as stack:
        for name in ("broker", "store"):
            (folder / name).mkdir()
        if nodes > 1:
            cluster = stack.enter_context(cluster_of(bus, folder / "broker"))
            bus_url, broker_process = cluster.url, cluster.servers[0]
            env = {"CHASSIS_BUS_URL": bus_url}
            if bus == "nats":
                env["CHASSIS_NATS_REPLICAS"] = str(nodes)
        elif bus == "nats":
            broker = stack.enter_context(nats(folder / "broker"))
            bus_url, broker_process = broker.url, broker.server
        else:
            rabbit = shared_rabbitmq()
            bus_url, broker_process = (
                stack.enter_context(rabbit.vhost(f"chaos-{folder.name}")),
                rabbit.server,
            )
        broker_cable = stack.enter_context(_cable(bus_url))
        if store == "bus":
            store_url, store_process, store_cable = "", broker_process, broker_cable
        else:
            store_url, store_process = stack.enter_context(STORES[store](folder / "store"))
            store_cable = stack.enter_context(_cable(store_url))
        made = World(
            service=service,
            bus_url=bus_url,
            broker=broker_process,
            broker_cable=broker_cable,
            store_url=store_url,
            store=store_process,
            store_cable=store_cable,
            sink=Sink(folder / "sink.db"),
            folder=folder,
            program=program,
            env=env,
            cluster=cluster,
        )
        stack.callback(made.stop)
        stack.enter_context(_watch_clock(made.diary))
        yield made


@contextmanager
def _watch_clock(diary: Diary) -> Iterator[None]:
    """Write down when this machine itself stood still: then no lease can be kept."""
    done = Event()

    def watch() -> None:
        last = time.time()
        while not done.wait(0.1):
            now = time.time()
            if now - last > STANDSTILL_SECONDS:
                diary.entries.append(Entry(last, now, STOOD_STILL))
            last = now

    thread = Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _cable(url: str) -> AbstractContextManager[Cable]:
    port = urlsplit(url.split(",", maxsplit=1)[0]).port
    assert port is not None
    return Cable(port).laid()


@contextmanager
def compiled_contracts(folder: Path) -> Iterator[Path]:
    """The generated code that tests/chaos/victim.py imports, for a program without pytest."""
    compile_into(folder)
    sys.path.insert(0, str(folder))
    try:
        yield folder
    finally:
        sys.path.remove(str(folder))
        stop_shared_rabbitmq()


def victims(bus: str, store: str, folder: Path) -> AbstractContextManager[World]:
    """A world for replicas of tests/chaos/victim.py; their PYTHONPATH must have the contracts."""
    return world(
        bus, REPOSITORY, folder, store=store, program=[sys.executable, "-m", "tests.chaos.victim"]
    )
