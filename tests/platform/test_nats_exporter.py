"""The exporter's numbers match the servers': one, a cluster of three, and a broken cluster."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import nats as client
import psutil
import pytest
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, StorageType

from nats_exporter.metrics import OF_CONSUMERS, OF_SERVERS, OF_STREAMS, TOTALS_OF_SERVERS
from tests.brokers import certificate
from tests.brokers.nats import Nats, nats, nats_cluster
from tests.platform.exporter import Exporter, Series, exporter, series

PATIENCE = 60.0  # seconds until a test gives up; never a measure of speed
SCRAPES_A_SECOND = 1 / 30


def asked(server: Nats, path: str) -> Any:
    with urlopen(f"http://127.0.0.1:{server.monitoring_port}{path}", timeout=10) as answer:
        return json.load(answer)


@asynccontextmanager
async def jetstream(*servers: Nats) -> AsyncIterator[JetStreamContext]:
    connection = await client.connect([server.url for server in servers])
    try:
        yield connection.jetstream()
    finally:
        await connection.close()


async def until(
    exporter: Exporter, true: Callable[[Mapping[Series, float]], bool]
) -> Mapping[Series, float]:
    """The first scrape of which `true` is true."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + PATIENCE
    while True:
        found = await asyncio.to_thread(exporter.scrape)
        if true(found):
            return found
        assert clock() < deadline, f"not within {PATIENCE:g} s; the last scrape: {found}"
        await asyncio.sleep(0.1)


async def fill(js: JetStreamContext, replicas: int) -> None:
    """A bounded stream of 20 messages. A consumer has 3 of its 10 in hand, and acknowledged 2."""
    await js.add_stream(
        name="EVENTS",
        subjects=["events.>"],
        num_replicas=replicas,
        max_msgs=100,
        max_bytes=100_000,
        max_age=3600,
    )
    await js.add_consumer(
        "EVENTS",
        ConsumerConfig(
            durable_name="billing-svc",
            ack_policy=AckPolicy.EXPLICIT,
            filter_subject="events.a",
            ack_wait=300,
        ),
    )
    for number in range(20):
        await js.publish(f"events.{'ab'[number % 2]}", b"x" * number)
    pull = await js.pull_subscribe_bind("billing-svc", "EVENTS")
    for message in (await pull.fetch(3, timeout=PATIENCE))[:2]:
        await message.ack_sync()


def of_stream(name: str) -> Series:
    return series(f"nats_stream_{name}", account="$G", stream="EVENTS")


def of_consumer(name: str) -> Series:
    return series(f"nats_consumer_{name}", account="$G", stream="EVENTS", consumer="billing-svc")


def about_events(found: Mapping[Series, float]) -> dict[str, float]:
    return {
        name: found[of(name)]
        for of, names in (
            (
                of_stream,
                (
                    "messages bytes first_sequence last_sequence messages_max bytes_max"
                    " age_max_seconds consumers replicas_wanted oldest_timestamp_seconds"
                ),
            ),
            (
                of_consumer,
                (
                    "pending_messages unacknowledged_messages redelivered_messages"
                    " delivered_sequence acknowledged_sequence"
                ),
            ),
        )
        for name in names.split()
    }


def expected(detail: Mapping[str, Any]) -> dict[str, float]:
    """What the stream's leader says itself."""
    state, config = detail["state"], detail["config"]
    (consumer,) = detail["consumer_detail"]
    oldest = datetime.fromisoformat(state["first_ts"][:26].rstrip("Z")).replace(tzinfo=UTC)
    return {
        "messages": state["messages"],
        "bytes": state["bytes"],
        "first_sequence": state["first_seq"],
        "last_sequence": state["last_seq"],
        "messages_max": config["max_msgs"],
        "bytes_max": config["max_bytes"],
        "age_max_seconds": config["max_age"] / 1e9,
        "consumers": state["consumer_count"],
        "replicas_wanted": config["num_replicas"],
        "oldest_timestamp_seconds": oldest.timestamp(),
        "pending_messages": consumer["num_pending"],
        "unacknowledged_messages": consumer["num_ack_pending"],
        "redelivered_messages": consumer["num_redelivered"],
        "delivered_sequence": consumer["delivered"]["stream_seq"],
        "acknowledged_sequence": consumer["ack_floor"]["stream_seq"],
    }


def described(server: Nats) -> Mapping[str, Any]:
    (account,) = asked(server, "/jsz?accounts=true&streams=true&consumers=true&config=true")[
        "account_details"
    ]
    (stream,) = account["stream_detail"]
    found: Mapping[str, Any] = stream
    return found


async def test_the_numbers_of_a_server_are_its_own(tmp_path: Path) -> None:
    with nats(tmp_path, monitored=True) as server, exporter(tmp_path, [server.monitoring]) as shown:
        async with jetstream(server) as js:
            await fill(js, 1)
            found = await asyncio.to_thread(shown.scrape)
            varz, jsz = asked(server, "/varz"), asked(server, "/jsz")
            assert about_events(found) == expected(described(server))
            assert found[series("nats_up", url=server.monitoring)] == 1
            by_name = {
                "connections": varz["connections"],
                "connections_max": varz["max_connections"],
                "connections_opened_total": varz["total_connections"],
                "received_messages_total": varz["in_msgs"],
                "sent_bytes_total": varz["out_bytes"],
                "slow_consumers_total": 0,
                "jetstream_storage_bytes": jsz["storage"],
                "jetstream_storage_max_bytes": jsz["config"]["max_storage"],
                "jetstream_api_requests_total": jsz["api"]["total"],
                "jetstream_api_errors_total": jsz["api"]["errors"],
            }
            for name, number in by_name.items():
                assert found[series(f"nats_server_{name}", server=varz["server_name"])] == number
            assert found[of_stream("has_leader")] == found[of_consumer("has_leader")] == 1
            assert found[of_stream("replicas_current")] == 1


async def test_outside_of_a_cluster_and_without_bounds_nothing_is_made_up(tmp_path: Path) -> None:
    with nats(tmp_path, monitored=True) as server, exporter(tmp_path, [server.monitoring]) as shown:
        async with jetstream(server) as js:
            await js.add_stream(name="EVENTS", subjects=["events.>"])
        found = await asyncio.to_thread(shown.scrape)
        names = {name for name, _ in found}
        assert of_stream("messages") in found
        assert {
            of_stream("messages_max"),
            of_stream("bytes_max"),
            of_stream("age_max_seconds"),
        }.isdisjoint(found)
        assert of_stream("oldest_timestamp_seconds") not in found
        assert not [name for name in names if "meta" in name or "certificate" in name]


async def test_in_a_cluster_every_stream_is_shown_once_as_its_leader_sees_it(
    tmp_path: Path,
) -> None:
    with (
        nats_cluster(tmp_path) as servers,
        exporter(tmp_path, [s.monitoring for s in servers]) as shown,
    ):
        await until(shown, lambda found: sum(has_leader(found)) == 3)
        async with jetstream(*servers) as js:
            await fill(js, 3)
            found = await until(shown, lambda found: found.get(of_stream("replicas_current")) == 3)
            stream = (await js.stream_info("EVENTS")).cluster
            consumer = (await js.consumer_info("EVENTS", "billing-svc")).cluster
            assert stream is not None
            assert consumer is not None
        by_name = {f"n{number}": described(server) for number, server in enumerate(servers)}
        own = dict(by_name[str(stream.leader)])
        own["consumer_detail"] = by_name[str(consumer.leader)]["consumer_detail"]
        assert about_events(found) == expected(own)
        assert len([key for key in found if key[0] == "nats_stream_messages"]) == 1
        infos = {dict(labels)["server"] for name, labels in found if name == "nats_server_info"}
        assert infos == {"n0", "n1", "n2"}


def has_leader(found: Mapping[Series, float]) -> list[float]:
    return [
        value
        for (name, _), value in found.items()
        if name == "nats_server_jetstream_meta_has_leader"
    ]


@pytest.mark.skipif(
    os.environ.get("ALERTS") != "long", reason="servers take half a minute to notice: make alerts"
)
async def test_a_cluster_that_falls_apart_is_seen_to(tmp_path: Path) -> None:
    with (
        nats_cluster(tmp_path) as servers,
        exporter(tmp_path, [s.monitoring for s in servers]) as shown,
    ):
        await until(shown, lambda found: sum(has_leader(found)) == 3)
        async with jetstream(*servers) as js:
            await fill(js, 3)
        await asyncio.to_thread(servers[0].server.kill)
        found = await until(shown, lambda found: found.get(of_stream("replicas_current")) == 2)
        assert found[series("nats_up", url=servers[0].monitoring)] == 0
        assert found[of_stream("replicas_wanted")] == 3
        await asyncio.to_thread(servers[1].server.kill)
        found = await until(
            shown, lambda found: has_leader(found) == [0.0] and found[of_stream("has_leader")] == 0
        )
        assert found[of_stream("replicas_current")] < 2
        for server in servers[:2]:
            await asyncio.to_thread(server.server.start)
        await until(
            shown,
            lambda found: (
                has_leader(found) == [1.0] * 3 and found.get(of_stream("replicas_current")) == 3
            ),
        )


async def add(js: JetStreamContext, number: int) -> None:
    name, subject = f"service-{number}", f"events.acme.v1.Happened{number}"
    await js.add_consumer(
        "EVENTS",
        ConsumerConfig(durable_name=name, ack_policy=AckPolicy.EXPLICIT, filter_subject=subject),
    )


async def test_a_thousand_consumers_take_little_memory(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """At most 50 MB. The processor time is recorded, not judged: it depends on the machine."""
    with nats(tmp_path, monitored=True) as server, exporter(tmp_path, [server.monitoring]) as shown:
        async with jetstream(server) as js:
            await js.add_stream(name="EVENTS", subjects=["events.>"], storage=StorageType.MEMORY)
            for hundred in range(10):
                await asyncio.gather(*(add(js, hundred * 100 + number) for number in range(100)))
        process = psutil.Process(shown.server.pid)
        found = await asyncio.to_thread(shown.scrape)
        before = process.cpu_times()
        for _ in range(10):
            found = await asyncio.to_thread(shown.scrape)
        after = process.cpu_times()
        assert len([name for name, _ in found if name == "nats_consumer_pending_messages"]) == 1000
        a_scrape = (after.user + after.system - before.user - before.system) / 10
        record_property("milliseconds of a core a scrape", round(a_scrape * 1000))
        record_property("share of a core", round(a_scrape * SCRAPES_A_SECOND, 4))
        record_property("megabytes", round(process.memory_info().rss / 1e6))
        assert process.memory_info().rss <= 50_000_000


def test_the_end_of_a_servers_certificate_is_shown(tmp_path: Path) -> None:
    made = certificate.make(tmp_path, 10)
    options = ["--tls", "--tlscert", str(made.file), "--tlskey", str(made.key)]
    with (
        nats(tmp_path, *options, monitored=True) as server,
        exporter(tmp_path, [server.monitoring]) as shown,
    ):
        name = asked(server, "/varz")["server_name"]
        ends = series("nats_server_certificate_expiry_timestamp_seconds", server=name)
        assert shown.scrape()[ends] == made.ends


def test_what_is_no_nats_server_is_down_and_named(tmp_path: Path) -> None:
    with nats(tmp_path) as server, exporter(tmp_path, [f"http://127.0.0.1:{server.port}"]) as shown:
        found = shown.scrape()
        assert found[series("nats_up", url=f"http://127.0.0.1:{server.port}")] == 0
        assert f"127.0.0.1:{server.port}/varz" in (tmp_path / "exporter.log").read_text()


@pytest.mark.parametrize("url", ["nats://nats:4222", "file:///etc/passwd", "nats:8222"])
def test_an_address_of_another_kind_is_refused(url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nats_exporter", "--url", url],
        cwd=Path(__file__).parents[2] / "platform/nats-exporter/src",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "give one such as http://nats:8222" in done.stderr


def test_no_two_metrics_share_a_name() -> None:
    assert OF_SERVERS.keys().isdisjoint(TOTALS_OF_SERVERS)
    assert all(
        meaning.endswith(".") for meaning, _ in [*OF_STREAMS.values(), *OF_CONSUMERS.values()]
    )


def test_the_image_installs_the_version_that_is_tested() -> None:
    root = Path(__file__).parents[2]
    wanted = (root / "platform/nats-exporter/requirements.txt").read_text("utf-8")
    pins = wanted.partition("\n")[2]
    assert pins.startswith("prometheus-client==")
    assert pins in (root / "requirements-dev.txt").read_text("utf-8")
    hadolint = Path(sys.executable).with_name("hadolint")
    subprocess.run([hadolint, root / "platform/nats-exporter/Dockerfile"], check=True)
