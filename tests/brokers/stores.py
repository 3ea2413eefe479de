"""The stores that an inbox can be kept in, each with a server of its own: one entry a store."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests.brokers.nats import nats
from tests.brokers.postgres import postgres_server
from tests.brokers.process import Server
from tests.brokers.redis import redis_server


@contextmanager
def _nats_kv(folder: Path) -> Iterator[tuple[str, Server]]:
    with nats(folder) as broker:
        yield broker.url, broker.server


STORES: dict[str, Callable[[Path], AbstractContextManager[tuple[str, Server]]]] = {
    "nats-kv": _nats_kv,
    "redis": redis_server,
    "postgres": postgres_server,
}
"""Each starts a server with its data in the folder and gives the inbox's URL; a kill keeps both."""
