"""The HTTP port: health, metrics, version."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import aiohttp
import pytest
import uvloop
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus

from chassis.replica.lifecycle import Lifecycle
from chassis.replica.probes import PortTaken, serve
from chassis.telemetry.metrics import Metrics

HOST = "127.0.0.1"


@dataclass
class Ops:
    lifecycle: Lifecycle
    metrics: Metrics
    port: int
    session: aiohttp.ClientSession

    async def get(self, path: str, accept: str = "*/*") -> aiohttp.ClientResponse:
        response = await self.session.get(
            f"http://{HOST}:{self.port}{path}", headers={"Accept": accept}
        )
        await response.read()
        return response


@pytest.fixture
async def ops() -> AsyncIterator[Ops]:
    lifecycle, metrics = Lifecycle(), Metrics("billing-svc", "1.2.3", "0.1.0")
    about = {"service": "billing-svc", "version": "1.2.3"}
    async with (
        serve(HOST, 0, lifecycle=lifecycle, registry=metrics.registry, version=about) as port,
        aiohttp.ClientSession() as session,
    ):
        yield Ops(lifecycle, metrics, port, session)


async def test_a_live_replica_says_so(ops: Ops) -> None:
    response = await ops.get("/livez")
    assert response.status == 200
    assert await response.json() == {"status": "ok", "reasons": []}


def test_a_replica_answers_on_the_event_loop_that_services_run_on() -> None:
    async def get() -> int:
        async with serving() as port, aiohttp.ClientSession() as session:
            return (await session.get(f"http://{HOST}:{port}/livez")).status

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(get()) == 200


async def test_a_stuck_replica_is_not_live(ops: Ops, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chassis.replica.lifecycle.STUCK_SECONDS", 0.0)
    response = await ops.get("/livez")
    assert response.status == 503
    assert (await response.json())["reasons"] == ["event_loop_stuck"]


async def test_readiness_says_why_not(ops: Ops) -> None:
    assert (await ops.get("/readyz")).status == 200
    ops.lifecycle.require("bus", lambda: False)
    ops.lifecycle.stop()
    response = await ops.get("/readyz")
    assert response.status == 503
    assert await response.json() == {"status": "unavailable", "reasons": ["bus", "draining"]}


async def test_a_replica_that_is_not_ready_is_still_alive(ops: Ops) -> None:
    ops.lifecycle.require("bus", lambda: False)
    assert (await ops.get("/livez")).status == 200


async def test_metrics_are_prometheus_text(ops: Ops) -> None:
    ops.metrics.for_type("acme.signup.v1.UserSignedUp").done.inc()
    response = await ops.get("/metrics")
    assert response.content_type == "text/plain"
    samples = [
        sample for family in parse_prometheus(await response.text()) for sample in family.samples
    ]
    name, labels = (
        "messaging_client_consumed_messages_total",
        {"type": "acme.signup.v1.UserSignedUp", "outcome": "done"},
    )
    assert [
        sample.value for sample in samples if (sample.name, sample.labels) == (name, labels)
    ] == [1]


async def test_metrics_are_openmetrics_for_those_who_ask(ops: Ops) -> None:
    response = await ops.get("/metrics", "application/openmetrics-text; version=1.0.0")
    assert response.content_type == "application/openmetrics-text"
    assert "chassis_build" in {family.name for family in parse_openmetrics(await response.text())}


async def test_the_version_is_told(ops: Ops) -> None:
    assert await (await ops.get("/version")).json() == {
        "service": "billing-svc",
        "version": "1.2.3",
    }


async def test_a_port_that_is_taken_is_one_clear_error(ops: Ops) -> None:
    with pytest.raises(PortTaken, match=f"CHASSIS_HTTP_PORT={ops.port}: .*in use"):
        async with serve(
            HOST, ops.port, lifecycle=ops.lifecycle, registry=ops.metrics.registry, version={}
        ):
            pytest.fail("the port was taken")


async def test_the_port_is_free_again_afterwards() -> None:
    async with serve(
        HOST, 0, lifecycle=Lifecycle(), registry=Metrics("a", "1", "1").registry, version={}
    ) as port:
        pass
    with socket.socket() as probe:
        assert probe.connect_ex((HOST, port)) != 0


@pytest.mark.parametrize(
    "said", [b"", b"GET /livez HTTP/1.1\r\nHost: a\r\n", b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"]
)
async def test_a_connection_that_says_nothing_more_is_closed(
    said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.replica.probes.IDLE_SECONDS", 0.1)
    about = Metrics("billing-svc", "1.2.3", "0")
    async with serve(HOST, 0, lifecycle=Lifecycle(), registry=about.registry, version={}) as port:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(said)
        await asyncio.wait_for(reader.read(), 30)
        writer.close()


async def test_a_header_that_never_ends_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chassis.replica.connections.HEADER_SECONDS", 0.2)
    async with serving() as port:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(b"GET /livez HTTP/1.1\r\nHost: a\r\n")

        async def trickle() -> None:
            while True:
                writer.write(b"X-More: a\r\n")
                await asyncio.sleep(0.01)

        trickling = asyncio.create_task(trickle())
        with suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 30) == b""
        trickling.cancel()
        writer.close()


async def test_a_connection_between_two_requests_may_wait_longer_than_a_header(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("chassis.replica.connections.HEADER_SECONDS", 0.2)
    async with serving() as port:
        reader, writer = await asyncio.open_connection(HOST, port)
        request = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"
        for pieces in ([request], [request[:-2], request[-2:]]):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            header = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
            assert header.startswith(b"HTTP/1.1 200")
            await reader.readuntil(b"}")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.5)
        writer.close()


async def test_connections_beyond_the_bound_are_closed_and_the_others_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("chassis.replica.connections.MOST", 2)
    async with serving() as port:
        held = [await asyncio.open_connection(HOST, port) for _ in range(2)]
        await ask(held[0])
        await ask(held[1])
        reader, writer = await asyncio.open_connection(HOST, port)
        with suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 30) == b""
        writer.close()
        await ask(held[0])
        held[1][1].close()
        await held[1][1].wait_closed()
        await eventually_served(port)
        held[0][1].close()


async def ask(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
    reader, writer = connection
    writer.write(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await asyncio.wait_for(reader.readuntil(b"}"), 30)).startswith(b"HTTP/1.1 200")


async def eventually_served(port: int) -> None:
    """The server learns of a closed connection a moment later."""
    async with asyncio.timeout(30):
        while True:
            connection = await asyncio.open_connection(HOST, port)
            try:
                await ask(connection)
            except (ConnectionError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.01)
            else:
                return
            finally:
                connection[1].close()


@asynccontextmanager
async def serving() -> AsyncIterator[int]:
    registry = Metrics("billing-svc", "1.2.3", "0").registry
    async with serve(HOST, 0, lifecycle=Lifecycle(), registry=registry, version={}) as port:
        yield port
