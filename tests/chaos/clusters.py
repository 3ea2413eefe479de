"""Clusters of three nodes for a world: who leads, and what can be done to a node."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import nats as bare_nats
from nats.errors import Error as NatsError

from tests.brokers.lines import Lines
from tests.brokers.nats import Nats, nats_cluster
from tests.brokers.process import Server
from tests.brokers.rabbitmq import ManagementError, RabbitMQ, rabbitmq_cluster
from tests.waiting import PATIENCE_WITH_PROCESSES, until

SIZE = 3
_DISK = "512m"
_BALLAST = bytes(1024 * 1024)
_LAME_DUCK = 'lame_duck_duration: "30s"\nlame_duck_grace_period: "1s"\n'


@dataclass
class Cluster:
    """`url` names all nodes. A node has a number, the same in `servers` and in `lines`."""

    lines: Lines
    url: str

    @property
    def servers(self) -> list[Server]:
        raise NotImplementedError

    def leader(self) -> int | None:
        """The node that leads the service's events, if the cluster is whole."""
        raise NotImplementedError

    def whole(self) -> int:
        """The leader, as soon as the cluster is whole."""
        found: list[int] = []

        def look() -> bool:
            leader = self.leader()
            if leader is not None:
                found.append(leader)
            return leader is not None

        until(look, "the cluster being whole", 2 * PATIENCE_WITH_PROCESSES)
        return found[-1]


@dataclass
class NatsCluster(Cluster):
    nodes: list[Nats]
    stores: list[Path]
    """Of each node a file system of its own; none without the right to mount one."""

    @property
    def servers(self) -> list[Server]:
        return [node.server for node in self.nodes]

    def leader(self) -> int | None:
        async def ask() -> int | None:
            async with await bare_nats.connect(self.url.split(","), connect_timeout=2) as client:
                group = (await client.jetstream().stream_info("EVENTS")).cluster
                if group is None or not group.leader:
                    return None
                current = [peer for peer in group.replicas or [] if peer.current]
                return int(group.leader[1:]) if len(current) == SIZE - 1 else None

        with suppress(NatsError, OSError):
            return asyncio.run(ask())
        return None

    def lame_duck(self, node: int) -> None:
        """Ask the node to hand over and to end; return when it has ended."""
        os.kill(self.servers[node].pid, signal.SIGUSR2)
        until(lambda: not self.servers[node].alive, "the end of the lame duck")

    @contextmanager
    def full_disk(self, node: int) -> Iterator[None]:
        ballast = self.stores[node] / "ballast"
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while file.write(_BALLAST):
                pass
        try:
            yield
        finally:
            ballast.unlink()


@dataclass
class RabbitCluster(Cluster):
    nodes: list[RabbitMQ]

    @property
    def servers(self) -> list[Server]:
        return [node.server for node in self.nodes]

    def leader(self) -> int | None:
        with suppress(OSError, HTTPException, ManagementError, KeyError):
            for node in self.nodes:
                if not all(each["running"] for each in node.call("GET", "/api/nodes")):
                    return None
            queue = self.nodes[0].call("GET", "/api/queues/%2F/billing-svc")
            return int(queue["leader"][1]) if len(queue["online"]) == SIZE else None
        return None

    def control(self, *command: str) -> str:
        return self.nodes[0].control(*command)

    def everywhere(self, name: str, value: str) -> None:
        """Set a variable of the broker on all nodes."""
        call = f"rpc:multicall(application, set_env, [rabbit, {name}, {value}])."
        self.control("eval", call)


@contextmanager
def cluster_of(bus: str, folder: Path) -> Iterator[Cluster]:
    """Three new nodes of `nats` or `rabbitmq`."""
    with ExitStack() as stack:
        lines = stack.enter_context(Lines(SIZE).laid())
        if bus == "rabbitmq":
            rabbits = stack.enter_context(rabbitmq_cluster(folder, lines))
            url = ",".join(f"amqp://guest:guest@127.0.0.1:{node.amqp_port}" for node in rabbits)
            yield RabbitCluster(lines, url, rabbits)
            return
        stores = [stack.enter_context(_disk(folder / f"n{node}")) for node in range(SIZE)]
        config = folder / "nats.conf"
        config.write_text(_LAME_DUCK)
        nodes = stack.enter_context(
            nats_cluster(folder, SIZE, "-c", str(config), lines=lines, stores=stores)
        )
        mounted = stores if os.geteuid() == 0 else []
        yield NatsCluster(lines, ",".join(node.url for node in nodes), nodes, mounted)


@contextmanager
def _disk(folder: Path) -> Iterator[Path]:
    """A folder; for root a small file system of its own, which can get full."""
    folder.mkdir()
    if os.geteuid() != 0:
        yield folder
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
