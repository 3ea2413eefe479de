"""Alerts provoked by real faults, seen to fire and to resolve: minutes of it, for `make alerts`.

The log says how long each took. All times of the rules are a thirtieth of a cluster's.
"""

import asyncio
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path

import aio_pika
import nats as nats_client
import psycopg
import pytest
import redis
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig

from tests.brokers import certificate
from tests.brokers.binaries import find
from tests.brokers.nats import nats, nats_cluster
from tests.brokers.postgres import postgres_server
from tests.brokers.prometheus import at
from tests.brokers.rabbitmq import RabbitMQ, rabbitmq_server
from tests.brokers.redis import redis_server
from tests.platform.exporter import exporter
from tests.platform.exporters import postgres_exporter, redis_exporter
from tests.platform.test_nats_exporter import jetstream
from tests.platform.watch import Watch, eventually, watch

pytestmark = [
    pytest.mark.skipif(os.environ.get("ALERTS") != "long", reason="takes minutes: make alerts"),
    pytest.mark.timeout(900),
]


async def do(command: list[str | Path], env: object = None) -> None:
    await asyncio.to_thread(
        subprocess.run,
        command,
        env={**os.environ, **(env or {})},  # type: ignore[dict-item]
        check=True,
        capture_output=True,
    )


@contextmanager
def watched_rabbitmq(folder: Path) -> Iterator[tuple[RabbitMQ, Watch]]:
    thresholds = {"RabbitMQQueueNearLength": 50, "RabbitMQDelayQueuesGrowing": 20}
    with rabbitmq_server(folder, metrics=True) as node:
        assert node.metrics_port is not None
        families = {"family": ["queue_coarse_metrics", "queue_consumer_count"]}
        configs = [
            {"job_name": "rabbitmq", **at(node.metrics_port)},
            {
                "job_name": "rabbitmq-detailed",
                "metrics_path": "/metrics/detailed",
                "params": families,
                **at(node.metrics_port),
            },
        ]
        with watch(folder / "watch", "rabbitmq", configs, thresholds=thresholds) as watching:
            yield node, watching


async def send(node: RabbitMQ, queue: str, messages: int, exchange: str = "") -> None:
    connection = await aio_pika.connect(f"amqp://guest:guest@127.0.0.1:{node.amqp_port}/")
    async with connection:
        channel = await connection.channel()
        target = await channel.get_exchange(exchange) if exchange else channel.default_exchange
        for _ in range(messages):
            await target.publish(aio_pika.Message(b"x"), queue, mandatory=not exchange)


def declare(node: RabbitMQ, *queues: str) -> None:
    for queue in queues:
        body = {"durable": True, "arguments": {"x-queue-type": "quorum"}}
        node.call("PUT", f"/api/queues/%2F/{queue}", body)


def purge(node: RabbitMQ, queue: str) -> None:
    node.call("DELETE", f"/api/queues/%2F/{queue}/contents")


async def test_queues_of_rabbitmq(tmp_path: Path) -> None:
    with watched_rabbitmq(tmp_path) as (node, watching):
        later = "billing-svc.later.100ms"
        declare(node, "billing-svc", "billing-svc.dead", later)
        await send(node, later, 15)
        await watching.shows_what_rules_and_dashboard_ask_for()
        await watching.quiet()
        await send(node, "billing-svc", 5)
        await send(node, "billing-svc.dead", 60)
        await send(node, "nobody", 3, exchange="amq.topic")
        await watching.fires(
            "RabbitMQUnroutable", "RabbitMQQueueNearLength", "RabbitMQQueueWithoutConsumer"
        )
        connection = await aio_pika.connect(f"amqp://guest:guest@127.0.0.1:{node.amqp_port}/")
        async with connection:
            channel = await connection.channel()
            await (await channel.get_queue("billing-svc")).consume(lambda _: None)
            await asyncio.to_thread(purge, node, "billing-svc.dead")
            await watching.resolves(
                "RabbitMQUnroutable", "RabbitMQQueueNearLength", "RabbitMQQueueWithoutConsumer"
            )
        await send(node, later, 60)  # four times as many as half an hour, now a minute, ago
        await watching.fires("RabbitMQDelayQueuesGrowing")
        await asyncio.to_thread(purge, node, later)
        await watching.resolves("RabbitMQDelayQueuesGrowing")


async def test_alarms_and_an_outage_of_rabbitmq(tmp_path: Path) -> None:
    with watched_rabbitmq(tmp_path) as (node, watching):
        control, env = find("rabbitmqctl"), node.server.env
        await eventually(
            lambda: watching.prometheus.values("rabbitmq_connections") != [], lambda: "no metrics"
        )
        await watching.quiet()
        await do([control, "set_vm_memory_high_watermark", "absolute", "50MB"], env)
        await do([control, "set_disk_free_limit", "900GB"], env)
        await watching.fires("RabbitMQMemoryAlarm", "RabbitMQDiskAlarm", "RabbitMQMemoryHigh")
        await do([control, "set_vm_memory_high_watermark", "0.9"], env)
        await do([control, "set_disk_free_limit", "50MB"], env)
        await watching.resolves("RabbitMQMemoryAlarm", "RabbitMQDiskAlarm", "RabbitMQMemoryHigh")
        await asyncio.to_thread(node.server.kill)
        await watching.fires("RabbitMQDown")
        await watching.told("RabbitMQDown", active=True)
        await asyncio.to_thread(node.server.start)
        await watching.resolves("RabbitMQDown")


_SMALL = """\
max_pending: 1MB
write_deadline: "1s"
jetstream { max_file_store: 4MB }
"""


async def test_streams_of_nats(tmp_path: Path) -> None:
    (tmp_path / "nats.conf").write_text(_SMALL)
    options = ["--config", str(tmp_path / "nats.conf")]
    thresholds = {"NATSConsumerFarBehind": 50}
    with ExitStack() as stack:
        server = stack.enter_context(nats(tmp_path, *options, monitored=True))
        shown = stack.enter_context(exporter(tmp_path, [server.monitoring]))
        watching = stack.enter_context(
            watch(
                tmp_path / "watch",
                "nats",
                [{"job_name": "nats", **at(shown.port)}],
                thresholds=thresholds,
            )
        )
        async with jetstream(server) as js:
            await js.add_stream(name="EVENTS", subjects=["events"], max_msgs=100)
            await js.add_stream(name="LARGE", subjects=["large"])
            await js.add_consumer(
                "EVENTS",
                ConsumerConfig(durable_name="billing-svc", ack_policy=AckPolicy.EXPLICIT),
            )
            await watching.quiet()
            for _ in range(120):
                await js.publish("events", b"")
            for _ in range(7):
                await js.publish("large", b"x" * 500_000)
            names = ("NATSStreamNearBounds", "NATSConsumerFarBehind", "NATSConsumerNearRetention")
            async with asking_for_what_is_not_there(js):
                await watching.fires(*names, "NATSStorageHigh", "NATSApiErrors")
            await js.purge_stream("EVENTS")
            await js.purge_stream("LARGE")
            await watching.resolves(*names, "NATSStorageHigh", "NATSApiErrors")
            async with reading_nothing(server.port):
                connection = await nats_client.connect(server.url)
                for _ in range(200):
                    await connection.publish("flood", b"x" * 100_000)
                    await connection.flush()
                await connection.close()
                await watching.fires("NATSSlowConsumers")
            await watching.resolves("NATSSlowConsumers")
        async with coming_and_going(server.port):
            await watching.fires("NATSConnectionChurn")
        await watching.resolves("NATSConnectionChurn")


@asynccontextmanager
async def asking_for_what_is_not_there(js: JetStreamContext) -> AsyncIterator[None]:
    async def ask() -> None:
        while True:
            with suppress(NatsError):
                await js.stream_info("MISSING")
            await asyncio.sleep(0.05)  # the pace, not a wait for anything

    task = asyncio.create_task(ask())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def reading_nothing(port: int) -> AsyncIterator[None]:
    """A client that subscribes to `flood` and never reads."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", port))
        client.sendall(b'CONNECT {"verbose":false}\r\nSUB flood 1\r\nPING\r\n')
        yield


@asynccontextmanager
async def coming_and_going(port: int) -> AsyncIterator[None]:
    """A hundred clients that stay, and many that connect and leave at once."""

    async def come_and_go() -> None:
        while True:
            for _ in range(3):
                socket.create_connection(("127.0.0.1", port)).close()
            await asyncio.sleep(0.05)  # the pace, not a wait for anything

    with ExitStack() as staying:
        for _ in range(110):
            staying.enter_context(socket.create_connection(("127.0.0.1", port)))
        task = asyncio.create_task(come_and_go())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def test_a_certificate_of_nats_that_ends(tmp_path: Path) -> None:
    made = certificate.make(tmp_path, 10)
    options = ["--tls", "--tlscert", str(made.file), "--tlskey", str(made.key)]
    with (
        nats(tmp_path, *options, monitored=True) as server,
        exporter(tmp_path, [server.monitoring]) as shown,
        watch(
            tmp_path / "watch", "kubernetes", [{"job_name": "nats", **at(shown.port)}]
        ) as watching,
    ):
        await watching.fires("CertificateEnds")
        certificate.make(tmp_path, 100)
        await asyncio.to_thread(server.server.stop)
        await asyncio.to_thread(server.server.start)
        await watching.resolves("CertificateEnds")


async def test_a_cluster_of_nats_that_falls_apart(tmp_path: Path) -> None:
    with ExitStack() as stack:
        servers = stack.enter_context(nats_cluster(tmp_path))
        shown = stack.enter_context(exporter(tmp_path, [server.monitoring for server in servers]))
        configs = [{"job_name": "nats", **at(shown.port)}]
        watching = stack.enter_context(watch(tmp_path / "watch", "nats", configs, nodes=3))
        leader = "nats_server_jetstream_meta_has_leader"
        await eventually(
            lambda: watching.prometheus.values(leader) == [1.0] * 3, lambda: "no leader"
        )
        async with jetstream(*servers) as js:
            await js.add_stream(name="EVENTS", subjects=["events"], num_replicas=3)
            await js.add_consumer(
                "EVENTS",
                ConsumerConfig(durable_name="billing-svc", ack_policy=AckPolicy.EXPLICIT),
            )
            await js.publish("events", b"")
        await watching.quiet()
        await asyncio.to_thread(servers[0].server.kill)
        await watching.fires("NATSNodeMissing", "NATSStreamUnderReplicated")
        await asyncio.to_thread(servers[1].server.kill)
        lost = ("NATSMetaLeaderMissing", "NATSStreamWithoutLeader", "NATSConsumerWithoutLeader")
        await watching.fires(*lost)
        await watching.told("NATSMetaLeaderMissing", active=True)
        await watching.told("NATSNodeMissing", active=False)
        for server in servers[:2]:
            await asyncio.to_thread(server.server.start)
        await watching.resolves(*lost, "NATSNodeMissing", "NATSStreamUnderReplicated")


async def test_a_primary_of_redis_and_its_replica(tmp_path: Path) -> None:
    for name in ("primary", "replica"):
        (tmp_path / name).mkdir()
    with ExitStack() as stack:
        url, primary = stack.enter_context(redis_server(tmp_path / "primary"))
        other, _ = stack.enter_context(redis_server(tmp_path / "replica"))
        ports = [stack.enter_context(redis_exporter(tmp_path, each)) for each in (url, other)]
        configs = [{"job_name": "redis", **at(*ports)}]
        watching = stack.enter_context(watch(tmp_path / "watch", "redis", configs, nodes=2))
        store = stack.enter_context(redis.Redis.from_url(url))
        replica = stack.enter_context(redis.Redis.from_url(other))
        host, port = "127.0.0.1", url.rpartition(":")[2].partition("/")[0]
        replica.replicaof(host, port)
        await eventually(
            lambda: watching.prometheus.values("redis_master_link_up") == [1.0],
            lambda: "the replica did not follow",
        )
        await watching.quiet()

        used = int(store.info("memory")["used_memory"])  # type: ignore[index]
        store.config_set("maxmemory", used + 5_000_000)
        store.config_set("maxmemory-policy", "allkeys-lru")
        for number in range(1500):
            store.set(f"key-{number}", "x" * 10_000)
        evicting = ("RedisPolicyEvicts", "RedisEvictsKeys", "RedisMemoryHigh")
        await watching.fires(*evicting)
        store.config_set("maxmemory-policy", "noeviction")
        store.config_set("maxmemory", 0)
        await watching.resolves(*evicting)

        store.config_set("appendonly", "no")
        in_the_way = tmp_path / "primary/dump.rdb"  # a snapshot cannot take the place of a folder
        in_the_way.unlink(missing_ok=True)
        (in_the_way / "folder").mkdir(parents=True)
        store.bgsave()
        await watching.fires("RedisPersistenceFailing", "RedisPersistenceOff")
        shutil.rmtree(in_the_way)
        await eventually(lambda: bool(store.bgsave()), lambda: "no new snapshot began")
        store.config_set("appendonly", "yes")
        await watching.resolves("RedisPersistenceFailing", "RedisPersistenceOff")

        store.config_set("maxclients", 20)
        clients = [stack.enter_context(redis.Redis.from_url(url)) for _ in range(15)]
        for client in clients:
            client.ping()
        await watching.fires("RedisConnectionsNearMax")
        for client in clients:
            client.close()
        await watching.resolves("RedisConnectionsNearMax")

        store.config_set("maxclients", 10_000)
        async with coming_and_going(int(port)):
            await watching.fires("RedisConnectionChurn")
        await watching.resolves("RedisConnectionChurn")

        await asyncio.to_thread(primary.kill)
        await watching.fires("RedisReplicationBroken", "RedisNodeMissing")
        await asyncio.to_thread(primary.start)
        await watching.resolves("RedisReplicationBroken", "RedisNodeMissing")


async def test_postgresql(tmp_path: Path) -> None:
    thresholds = {
        "PostgreSQLLongTransaction": 3.0,
        "PostgreSQLReplicationSlotHoldsLog": 20_000_000,
    }
    with ExitStack() as stack:
        url, server = stack.enter_context(postgres_server(tmp_path))
        port = stack.enter_context(postgres_exporter(tmp_path, url))
        configs = [{"job_name": "postgresql", **at(port)}]
        watching = stack.enter_context(
            watch(tmp_path / "watch", "postgresql", configs, thresholds=thresholds)
        )
        with psycopg.connect(url, autocommit=True) as database:
            database.execute("CREATE TABLE chassis_outbox (a int)")
            database.execute("CREATE TABLE orders (a int) WITH (autovacuum_enabled = off)")
            database.execute("INSERT INTO orders SELECT generate_series(1, 30000)")
            await watching.quiet()
            database.execute("SELECT pg_create_physical_replication_slot('old', true)")
            database.execute("UPDATE orders SET a = a + 1")
            database.execute(
                "CREATE TABLE filler AS SELECT repeat('x', 500) FROM generate_series(1, 60000)"
            )
            database.execute("INSERT INTO chassis_outbox SELECT generate_series(1, 1500)")
            with ExitStack() as crowd:
                for _ in range(165):
                    crowd.enter_context(psycopg.connect(url))
                forgotten = crowd.enter_context(psycopg.connect(url))
                forgotten.execute("SELECT 1")
                await watching.fires("PostgreSQLLongTransaction", "PostgreSQLConnectionsNearMax")
            await watching.resolves("PostgreSQLLongTransaction", "PostgreSQLConnectionsNearMax")
            growing = (
                "PostgreSQLOutboxGrows",
                "PostgreSQLDeadRows",
                "PostgreSQLReplicationSlotHoldsLog",
            )
            await watching.fires(*growing)
            database.execute("SELECT pg_drop_replication_slot('old')")
            database.execute("VACUUM orders")
            database.execute("DELETE FROM chassis_outbox")
            await watching.resolves(*growing)
        await asyncio.to_thread(server.kill)
        await watching.fires("PostgreSQLDown")
        await asyncio.to_thread(server.start)
        await watching.resolves("PostgreSQLDown")


async def test_a_standby_of_postgresql_that_lags(tmp_path: Path) -> None:
    for name in ("primary", "standby"):
        (tmp_path / name).mkdir()
    with ExitStack() as stack:
        url, _ = stack.enter_context(postgres_server(tmp_path / "primary"))
        other, follower = stack.enter_context(postgres_server(tmp_path / "standby", standby_of=url))
        ports = [stack.enter_context(postgres_exporter(tmp_path, each)) for each in (url, other)]
        configs = [{"job_name": "postgresql", **at(*ports)}]
        thresholds = {"PostgreSQLReplicationLag": 5.0}
        watching = stack.enter_context(
            watch(tmp_path / "watch", "postgresql", configs, nodes=2, thresholds=thresholds)
        )
        primary = stack.enter_context(psycopg.connect(url, autocommit=True))
        standby = stack.enter_context(psycopg.connect(other, autocommit=True))
        await eventually(
            lambda: sorted(watching.prometheus.values("pg_platform_replication_standby")) == [0, 1],
            lambda: "the standby was not seen",
        )
        await watching.quiet()
        standby.execute("SELECT pg_wal_replay_pause()")
        primary.execute("CREATE TABLE orders (a int)")
        await watching.fires("PostgreSQLReplicationLag")
        standby.execute("SELECT pg_wal_replay_resume()")
        await watching.resolves("PostgreSQLReplicationLag")
        standby.close()
        await asyncio.to_thread(follower.stop)
        await watching.fires("PostgreSQLNodeMissing")
        await asyncio.to_thread(follower.start)
        await watching.resolves("PostgreSQLNodeMissing")
