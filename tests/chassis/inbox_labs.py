"""The stores that the inbox conformance suite runs against: one entry an adapter."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from functools import partial
from pathlib import Path
from typing import Any, LiteralString, Protocol

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
from tests.brokers.process import Server, free_port
from tests.brokers.redis import redis_server
from tests.waiting import PATIENCE

_TIMEOUT = 2.0

Refusing = Callable[[], AbstractAsyncContextManager[None]]
"""The server answers reads and refuses writes meanwhile."""


class Lab(Protocol):
    """A store that all tests of an adapter share, and what a test may do with it."""

    server: Server | None
    refusals: Mapping[str, Refusing]
    """How its server can come to refuse writes."""

    def inbox(self, lease_seconds: float, retention_seconds: float) -> Inbox:
        """A new connection to the same store, not yet open, as another replica would have."""

    async def stored(self) -> str:
        """Everything in the store, keys and values, as text."""


class MemoryLab:
    """Nobody else can see the memory of an inbox, so that every replica is the same one."""

    def __init__(self) -> None:
        self.server: Server | None = None
        self.refusals: Mapping[str, Refusing] = {}
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
    def __init__(self, url: str, server: Server, folder: Path) -> None:
        self.url = url
        self.server: Server | None = server
        self.refusals: Mapping[str, Refusing] = {
            "out of memory": partial(self._configured, "maxmemory", "1", "0"),
            "too few replicas": partial(self._configured, "min-replicas-to-write", "1", "0"),
            "demoted": self._demoted,
            "cannot save": self._cannot_save,
        }
        self._snapshot = folder / "dump.rdb"

    @asynccontextmanager
    async def _configured(self, name: str, value: str, before: str) -> AsyncIterator[None]:
        async with Redis.from_url(self.url) as admin:
            await admin.config_set(name, value)
            yield
            await admin.config_set(name, before)

    @asynccontextmanager
    async def _demoted(self) -> AsyncIterator[None]:
        async with Redis.from_url(self.url) as admin:
            await admin.replicaof("127.0.0.1", str(free_port()))
            yield
            await admin.replicaof("NO", "ONE")

    @asynccontextmanager
    async def _cannot_save(self) -> AsyncIterator[None]:
        async with Redis.from_url(self.url) as admin:
            await admin.config_set("save", "3600 1")
            (self._snapshot / "in the way").mkdir(parents=True)
            await self._save(admin, "err")
            yield
            (self._snapshot / "in the way").rmdir()
            self._snapshot.rmdir()
            await self._save(admin, "ok")
            await admin.config_set("save", "")

    @staticmethod
    async def _save(admin: Redis, status: str) -> None:
        """Save in the background until that ends as told."""
        await admin.bgsave()
        async with asyncio.timeout(PATIENCE):
            while (await admin.info("persistence"))["rdb_last_bgsave_status"] != status:
                await asyncio.sleep(0.01)

    def inbox(self, lease_seconds: float, retention_seconds: float) -> Inbox:
        return RedisInbox(self.url, lease_seconds, retention_seconds, timeout=_TIMEOUT)

    async def stored(self) -> str:
        async with Redis.from_url(self.url, decode_responses=True) as client:
            return json.dumps({key: await client.get(key) async for key in client.scan_iter()})


@contextmanager
def redis_lab(folder: Path) -> Iterator[Lab]:
    with redis_server(folder) as (url, server):
        yield RedisLab(url, server, folder)


_FAIL: LiteralString = """
    CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'could not extend file: No space left' USING ERRCODE = '53100'; END
    $$;
    CREATE TRIGGER fail BEFORE INSERT OR UPDATE ON chassis_inbox EXECUTE FUNCTION fail();
"""


class PostgresLab:
    def __init__(self, url: str, server: Server) -> None:
        self.url = url
        self.server: Server | None = server
        self.refusals: Mapping[str, Refusing] = {
            "demoted": self._read_only,
            "disk full": self._disk_full,
        }

    @asynccontextmanager
    async def _read_only(self) -> AsyncIterator[None]:
        async with await psycopg.AsyncConnection.connect(self.url, autocommit=True) as admin:
            await admin.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            await self._reload(admin, "on")
            yield
            await admin.execute("SET default_transaction_read_only = off")
            await admin.execute("ALTER SYSTEM RESET default_transaction_read_only")
            await admin.execute("RESET default_transaction_read_only")
            await self._reload(admin, "off")

    @staticmethod
    async def _reload(admin: psycopg.AsyncConnection[tuple[Any, ...]], wanted: str) -> None:
        await admin.execute("SELECT pg_reload_conf()")
        async with asyncio.timeout(PATIENCE):
            while (
                await (await admin.execute("SHOW default_transaction_read_only")).fetchone()
            ) != (wanted,):
                await asyncio.sleep(0.01)

    @asynccontextmanager
    async def _disk_full(self) -> AsyncIterator[None]:
        async with await psycopg.AsyncConnection.connect(self.url, autocommit=True) as admin:
            await admin.execute(_FAIL)
            yield
            await admin.execute("DROP FUNCTION fail CASCADE")

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
        self.refusals: Mapping[str, Refusing] = {"bucket full": self._full}

    @asynccontextmanager
    async def _full(self) -> AsyncIterator[None]:
        async with await connect_nats(self.url) as admin:
            stream = await admin.jetstream().stream_info("KV_inbox")
            config = stream.config
            config.max_bytes = stream.state.bytes + 100
            await admin.jetstream().update_stream(config)
            yield
            config.max_bytes = -1
            await admin.jetstream().update_stream(config)

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
