"""A Redis for the tests, on a free port; its data is in a folder that outlives a kill."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import redis

from tests.brokers.binaries import find
from tests.brokers.process import Server, free_port, start
from tests.waiting import until


@contextmanager
def redis_server(folder: Path, *options: str) -> Iterator[tuple[str, Server]]:
    """Its URL, and the server. Every write is in the append-only file before it is answered."""
    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"
    command = [*_command(port, folder), "--appendonly", "yes", "--appendfsync", "always", *options]
    with start(
        [*command, "--save", ""], ready=lambda: _answers(url), log=folder / "redis.log"
    ) as server:
        yield url, server


@contextmanager
def redis_with_sentinels(folder: Path) -> Iterator[tuple[str, Server]]:
    """Two servers and three sentinels: the URL by the sentinels, and the server that is primary."""
    with ExitStack() as stack:
        folders = [folder / name for name in ("primary", "replica", "s0", "s1", "s2")]
        for each in folders:
            each.mkdir()
        url, primary = stack.enter_context(redis_server(folders[0]))
        address = str(urlsplit(url).port)
        replica, _ = stack.enter_context(
            redis_server(folders[1], "--replicaof", f"127.0.0.1 {address}")
        )
        until(lambda: _links(replica) == "up", "a replica that follows")
        ports = [stack.enter_context(_sentinel(sentinel, address)) for sentinel in folders[2:]]
        until(lambda: all(_others(port) == (2, 1) for port in ports), "sentinels that met")
        yield (
            f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port in ports)}/primary/0",
            primary,
        )


@contextmanager
def _sentinel(folder: Path, primary: str) -> Iterator[int]:
    port = free_port()
    settings = folder / "sentinel.conf"
    settings.write_text(
        f"sentinel monitor primary 127.0.0.1 {primary} 2\n"
        "sentinel down-after-milliseconds primary 500\n"
    )
    command = [find("redis-server"), settings, "--sentinel", *_command(port, folder)[1:]]
    ready = f"redis://127.0.0.1:{port}"
    with start(command, ready=lambda: _answers(ready), log=folder / "sentinel.log"):
        yield port


def _command(port: int, folder: Path) -> list[str | Path]:
    return [find("redis-server"), "--bind", "127.0.0.1", "--port", str(port), "--dir", folder]


def _links(url: str) -> object:
    with redis.Redis.from_url(url) as client:
        return client.info("replication").get("master_link_status")


def _others(port: int) -> tuple[int, int]:
    """How many other sentinels, and how many replicas, a sentinel knows."""
    with redis.Redis(port=port) as client:
        known = client.sentinel_master("primary")
        return int(known["num-other-sentinels"]), int(known["num-slaves"])


def _answers(url: str) -> bool:
    with redis.Redis.from_url(url, socket_timeout=1.0) as client:
        try:
            return client.ping() is True
        except (redis.ConnectionError, redis.TimeoutError):  # also while it loads its data
            return False
