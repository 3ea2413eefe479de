"""The stores that the conformance suite of processes runs against: one entry an adapter."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import psycopg
from nats import connect as connect_nats
from redis.asyncio import Redis

from chassis.inbox import Inbox
from chassis.inbox.memory import MemoryInbox
from chassis.inbox.nats_kv import NatsKvInbox
from chassis.inbox.postgres.inbox import PostgresInbox
from chassis.inbox.redis import RedisInbox
from chassis.processes.memory import MemoryProcesses
from chassis.processes.nats_kv import NatsKvProcesses
from chassis.processes.redis import PREFIX, RedisProcesses
from chassis.processes.store import Address, ProcessStore
from tests.brokers.nats import nats
from tests.brokers.postgres import postgres_server
from tests.brokers.redis import redis_server

RETENTION = 3600.0
LEASE = 30.0


class Lab(Protocol):
    """A store that all tests of an adapter share. Each test has a service of its own."""

    def opened(
        self, service: str, retention: float = RETENTION
    ) -> AbstractAsyncContextManager[tuple[Inbox, ProcessStore]]:
        """New connections to the same store, as another replica of `service` has."""

    async def spoil(self, service: str, address: Address) -> None:
        """Overwrite a record with what nobody can read."""


def a_service() -> str:
    return f"orders-{uuid4().hex[:8]}"


class MemoryLab:
    """Every replica of a service has the same memory."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[MemoryInbox, MemoryProcesses]] = {}

    @asynccontextmanager
    async def opened(
        self, service: str, retention: float = RETENTION
    ) -> AsyncIterator[tuple[Inbox, ProcessStore]]:
        yield self._made.setdefault(
            service, (MemoryInbox(LEASE, retention), MemoryProcesses(retention))
        )

    async def spoil(self, service: str, address: Address) -> None:
        kept = self._made[service][1]._kept
        found = kept[address.id]
        spoilt = type(found.stored)(address.id, b"spoilt", found.stored.revision)
        kept[address.id] = type(found)(spoilt, found.until)


@contextmanager
def memory_lab(_: Path) -> Iterator[Lab]:
    yield MemoryLab()


class PostgresLab:
    def __init__(self, url: str) -> None:
        self.url = url

    @asynccontextmanager
    async def opened(
        self, service: str, retention: float = RETENTION
    ) -> AsyncIterator[tuple[Inbox, ProcessStore]]:
        inbox = PostgresInbox(self.url, LEASE, retention)
        await inbox.open()
        yield inbox, inbox.processes(service)
        await inbox.close()

    async def spoil(self, service: str, address: Address) -> None:
        async with await psycopg.AsyncConnection.connect(self.url) as connection:
            await connection.execute(
                "UPDATE chassis_process SET record = 'spoilt' WHERE service = %s AND id = %s",
                (service, address.id),
            )


@contextmanager
def postgres_lab(folder: Path) -> Iterator[Lab]:
    with postgres_server(folder) as (url, _):
        yield PostgresLab(url)


@asynccontextmanager
async def _both_open(inbox: Inbox, store: ProcessStore) -> AsyncIterator[None]:
    await inbox.open()
    await store.open()
    yield
    await store.close()
    await inbox.close()


class RedisLab:
    def __init__(self, url: str) -> None:
        self.url = url

    @asynccontextmanager
    async def opened(
        self, service: str, retention: float = RETENTION
    ) -> AsyncIterator[tuple[Inbox, ProcessStore]]:
        inbox = RedisInbox(self.url, LEASE, retention)
        store = RedisProcesses(self.url, service, retention)
        async with _both_open(inbox, store):
            yield inbox, store

    async def spoil(self, service: str, address: Address) -> None:
        async with Redis.from_url(self.url) as client:
            await client.set(f"{PREFIX}{service}:{address.id}", "1:spoilt")


@contextmanager
def redis_lab(folder: Path) -> Iterator[Lab]:
    with redis_server(folder) as (url, _):
        yield RedisLab(url)


class NatsKvLab:
    def __init__(self, url: str) -> None:
        self.url = url

    @asynccontextmanager
    async def opened(
        self, service: str, retention: float = RETENTION
    ) -> AsyncIterator[tuple[Inbox, ProcessStore]]:
        inbox = NatsKvInbox(self.url, lease_seconds=LEASE, retention_seconds=retention)
        store = NatsKvProcesses(self.url, service, retention)
        async with _both_open(inbox, store):
            yield inbox, store

    async def spoil(self, service: str, address: Address) -> None:
        subject = NatsKvProcesses(self.url, service, 1)._subject
        async with await connect_nats(self.url) as client:
            await client.jetstream().publish(subject + address.id, b"spoilt")


@contextmanager
def nats_kv_lab(folder: Path) -> Iterator[Lab]:
    with nats(folder) as broker:
        yield NatsKvLab(broker.url)


LABS: dict[str, Callable[[Path], AbstractContextManager[Lab]]] = {
    "memory": memory_lab,
    "nats-kv": nats_kv_lab,
    "redis": redis_lab,
    "postgres": postgres_lab,
}
