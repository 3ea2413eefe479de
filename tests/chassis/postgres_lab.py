"""A PostgreSQL with the tables of one test, a service over it, and what has become of both."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from chassis import Service
from chassis.handling.consumer import Consumer
from chassis.inbox.postgres.inbox import PostgresInbox
from chassis.replica.assemble import consumer_of
from chassis.settings import load
from chassis.telemetry.metrics import Metrics
from chassis.telemetry.traces import NoTraces
from tests.chassis.pipeline import Bus, Delivered
from tests.waiting import PATIENCE

Connection = psycopg.AsyncConnection[tuple[Any, ...]]

SETTINGS = load({}, max_attempts=2, backoff_seconds=0.0, pause_failure_ratio=0.0)


@dataclass
class Database:
    """A schema at `url`; `admin` sees committed rows. `effects` is the handlers' table."""

    url: str
    admin: Connection

    async def value(self, query: LiteralString) -> Any:
        row = await (await self.admin.execute(query)).fetchone()
        return None if row is None else row[0]

    async def effects(self) -> list[str]:
        return [
            row[0]
            async for row in await self.admin.execute("SELECT what FROM effects ORDER BY what")
        ]

    async def waiting(self) -> int:
        """How many events are in the outbox."""
        return int(await self.value("SELECT count(*) FROM chassis_outbox"))

    async def until(self, query: LiteralString, wanted: object = True) -> None:
        """Poll until `query` gives `wanted`: a database tells nobody."""
        async with asyncio.timeout(PATIENCE):
            while await self.value(query) != wanted:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def database(server: str) -> AsyncIterator[Database]:
    """A new schema on the `server`."""
    schema = f"test_{uuid4().hex[:12]}"
    url = make_conninfo(server, options=f"-c search_path={schema}")
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as admin:
        await admin.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        await admin.execute("CREATE TABLE effects (what text)")
        try:
            yield Database(url, admin)
        finally:
            async with await psycopg.AsyncConnection.connect(url, autocommit=True) as afterwards:
                await afterwards.execute(
                    sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema))
                )


class Replica:
    """A consumer of `service` with its own connections; `inbox_options` go to PostgresInbox."""

    def __init__(self, service: Service, url: str, **inbox_options: Any) -> None:
        self.inbox = PostgresInbox(url, 60.0, 3600.0, **inbox_options)
        self.bus = Bus()
        self.metrics = Metrics("billing-svc", "1.2.3", "0")
        self.consumer: Consumer = consumer_of(
            service, SETTINGS, self.bus, self.inbox, metrics=self.metrics, traces=NoTraces()
        )

    async def take(self, delivery: Delivered) -> Delivered:
        """Take `delivery` to its end."""
        await asyncio.wait_for(self.begin(delivery), PATIENCE)
        return delivery

    def begin(self, delivery: Delivered) -> asyncio.Task[None]:
        return asyncio.create_task(self.consumer.on_delivery(delivery))


@asynccontextmanager
async def replica(service: Service, url: str, **options: Any) -> AsyncIterator[Replica]:
    made = Replica(service, url, **options)
    await made.inbox.open()
    made.consumer.start()
    try:
        yield made
    finally:
        await made.consumer.drain(0)
        await made.inbox.close()
