"""A Redis for the tests, on a free port; its data is in a folder that outlives a kill."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from tests.brokers.binaries import find
from tests.brokers.process import Server, free_port, start


@contextmanager
def redis_server(folder: Path) -> Iterator[tuple[str, Server]]:
    """Its URL, and the server. Every write is in the append-only file before it is answered."""
    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"
    command: list[str | Path] = [
        find("redis-server"),
        "--bind",
        "127.0.0.1",
        "--port",
        str(port),
        "--dir",
        folder,
    ]
    command += ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
    with start(command, ready=lambda: _answers(url), log=folder / "redis.log") as server:
        yield url, server


def _answers(url: str) -> bool:
    with redis.Redis.from_url(url, socket_timeout=1.0) as client:
        try:
            return client.ping() is True
        except (redis.ConnectionError, redis.TimeoutError):  # also while it loads its data
            return False
