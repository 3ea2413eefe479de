"""The stores that the inbox conformance suite runs against: one entry an adapter."""

import asyncio
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import psycopg
from nats import connect as connect_nats
from redis.asyncio import Redis

from chassis.inbox import Inbox
from chassis.inbox.memory import MemoryInbox
from chassis.inbox.nats_kv import NatsKvInbox
from chassis.inbox.postgres.inbox import PostgresInbox
from chassis.inbox.redis import RedisInbox
from tests.brokers.nats import nats
from tests.brokers.postgres import postgres_server
from tests.brokers.process import Server
from tests.brokers.redis import redis_server

_TIMEOUT = 2.0


class Lab(Protocol):
    """A store that all tests of an adapter share, and what a test may do with it."""

    server: Server | None

    def inbox(self, lease_seconds: float, retention_seconds: float) -> Inbox:
        """A new connection to the same store, not yet open, as another replica would have."""

    async def stored(self) -> str:
        """Everything in the store, keys and values, as text."""


class MemoryLab:
    """Nobody else can see the memory of an inbox, so that every replica is the same one."""

    def __init__(self) -> None:
        self.server: Server | None = None
        self._inboxes: dict[tuple[float, float], MemoryInbox] = {}

    def inbox(self, lease_seconds: float, retention_seconds: float) -> Inbox:
        inbox = MemoryInbox(lease_seconds, retention_seconds)
        return self._inboxes.setdefault((lease_seconds, retention_seconds), inbox)

    async def stored(self) -> str:
        return repr([inbox._records for inbox in self._inboxes.values()])


@contextmanager
def memory_lab(_: Path) -> Iterator[Lab]:
    yield MemoryLab()


class RedisLab:
    def __init__(self, url: str, server: Server) -> None:
        self.url = url
        self.server: Server | None = server

    def inbox(self, lease_seconds: float, retention_seconds: float) -> Inbox:
        return RedisInbox(self.url, lease_seconds, retention_seconds, timeout=_TIMEOUT)

    async def stored(self) -> str:
        async with Redis.from_url(self.url, decode_responses=True) as client:
            return json.dumps({key: await client.get(key) async for key in client.scan_iter()})


@contextmanager
def redis_lab(folder: Path) -> Iterator[Lab]:
    with redis_server(folder) as (url, server):
        yield RedisLab(url, server)


class PostgresLab:
    def __init__(self, url: str, server: Server) -> None:
        self.url = url
        self.server: Server | None = server

    def inbox(self, lease_seconds: float, retention_seconds: float) -> Inbox:
        return PostgresInbox(self.url, lease_seconds, retention_seconds, timeout=_TIMEOUT)

    async def stored(self) -> str:
        async with await psycopg.AsyncConnection.connect(self.url) as connection:
            rows = await connection.execute(
                "SELECT row_to_json(chassis_inbox)::text FROM chassis_inbox"
            )
            return "\n".join([row[0] async for row in rows])


@contextmanager
def postgres_lab(folder: Path) -> Iterator[Lab]:
    with postgres_server(folder) as (url, server):
        yield PostgresLab(url, server)


class NatsKvLab:
    def __init__(self, url: str, server: Server) -> None:
        self.url = url
        self.server: Server | None = server

    def inbox(self, lease_seconds: float, retention_seconds: float) -> Inbox:
        return NatsKvInbox(
            self.url,
            lease_seconds=lease_seconds,
            retention_seconds=retention_seconds,
            timeout=_TIMEOUT,
        )

    async def stored(self) -> str:
        async with await connect_nats(self.url) as client:
            bucket = await client.jetstream().key_value("inbox")
            return json.dumps(
                {key: str((await bucket.get(key)).value) for key in await bucket.keys()}
            )


@contextmanager
def nats_kv_lab(folder: Path) -> Iterator[Lab]:
    with nats(folder) as broker:
        yield NatsKvLab(broker.url, broker.server)


@contextmanager
def nats_kv_made_by_hand_lab(folder: Path) -> Iterator[Lab]:
    """The bucket as the NATS tools make it: it denies deletes."""

    async def make(url: str) -> None:
        async with await connect_nats(url) as client:
            await client.jetstream().create_key_value(bucket="inbox")

    with nats(folder) as broker, ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, make(broker.url)).result()
        yield NatsKvLab(broker.url, broker.server)


LABS: dict[str, Callable[[Path], AbstractContextManager[Lab]]] = {
    "memory": memory_lab,
    "nats-kv": nats_kv_lab,
    "nats-kv-made-by-hand": nats_kv_made_by_hand_lab,
    "redis": redis_lab,
    "postgres": postgres_lab,
}
