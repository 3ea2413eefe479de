"""Real servers, exporters, Prometheus and Alertmanager: rules and dashboards find their series.

One alert a component here; `make alerts` has the others, and RabbitMQ, which takes long to start.
"""

import asyncio
from pathlib import Path

import psycopg
import redis
from nats.js.api import AckPolicy, ConsumerConfig

from tests.brokers.nats import nats
from tests.brokers.postgres import postgres_server
from tests.brokers.prometheus import at
from tests.brokers.redis import redis_server
from tests.platform.exporter import exporter
from tests.platform.exporters import postgres_exporter, redis_exporter
from tests.platform.test_nats_exporter import jetstream
from tests.platform.watch import watch


async def test_redis(tmp_path: Path) -> None:
    with (
        redis_server(tmp_path) as (url, _),
        redis_exporter(tmp_path, url) as port,
        watch(tmp_path / "watch", "redis", [{"job_name": "redis", **at(port)}]) as watching,
        redis.Redis.from_url(url) as store,
    ):
        await watching.shows_what_rules_and_dashboard_ask_for()
        await watching.quiet()
        store.config_set("maxmemory-policy", "allkeys-lru")
        await watching.fires("RedisPolicyEvicts")
        await watching.told("RedisPolicyEvicts", active=True)
        store.config_set("maxmemory-policy", "noeviction")
        await watching.resolves("RedisPolicyEvicts")
        await watching.told("RedisPolicyEvicts", active=False)


async def test_nats(tmp_path: Path) -> None:
    with (
        nats(tmp_path, monitored=True) as server,
        exporter(tmp_path, [server.monitoring]) as shown,
        watch(tmp_path / "watch", "nats", [{"job_name": "nats", **at(shown.port)}]) as watching,
    ):
        async with jetstream(server) as js:
            await js.add_stream(
                name="EVENTS", subjects=["events"], max_msgs=10, max_bytes=10_000, max_age=3600
            )
            await js.add_consumer(
                "EVENTS", ConsumerConfig(durable_name="billing-svc", ack_policy=AckPolicy.EXPLICIT)
            )
            await js.publish("events", b"")
            await watching.shows_what_rules_and_dashboard_ask_for()
            await watching.quiet()
            await asyncio.to_thread(server.server.kill)
            await watching.fires("NATSDown")
            await asyncio.to_thread(server.server.start)
            await watching.resolves("NATSDown")


async def test_postgresql_whose_exporter_may_only_monitor(tmp_path: Path) -> None:
    thresholds = {"PostgreSQLLongTransaction": 1}
    with (
        postgres_server(tmp_path) as (url, _),
        psycopg.connect(url, autocommit=True) as database,
    ):
        database.execute("CREATE TABLE chassis_outbox (a int); CREATE TABLE chassis_inbox (a int)")
        database.execute("CREATE ROLE exporter LOGIN; GRANT pg_monitor TO exporter")
        with (
            postgres_exporter(tmp_path, url.replace("dockyard@", "exporter@")) as port,
            watch(
                tmp_path / "watch",
                "postgresql",
                [{"job_name": "postgresql", **at(port)}],
                thresholds=thresholds,
            ) as watching,
        ):
            await watching.shows_what_rules_and_dashboard_ask_for()
            await watching.quiet()
            database.execute("BEGIN")
            await watching.fires("PostgreSQLLongTransaction")
            database.execute("COMMIT")
            await watching.resolves("PostgreSQLLongTransaction")
