"""The servers that the bus conformance suite runs against: one entry an adapter."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import aiormq
from pamqp.commands import Basic

from chassis.bus import Bus
from chassis.bus.memory import MemoryBroker, MemoryBus
from chassis.bus.nats import NatsBus
from chassis.bus.rabbitmq import RabbitBus
from chassis.bus.rabbitmq.topology import EXCHANGE
from chassis.contracts.envelope import (
    AMQP_PREFIX,
    AMQP_PREFIX_ALTERNATIVE,
    NATS_PREFIX,
    Envelope,
    to_headers,
)
from tests.brokers.nats import nats
from tests.brokers.process import Server as ServerProcess
from tests.brokers.rabbitmq import shared_rabbitmq


class Server(Protocol):
    """A broker process that keeps its data and its port when it is stopped."""

    async def stop(self) -> None: ...

    async def start(self) -> None: ...


class Lab(Protocol):
    """A server and what a test may do with it."""

    server: Server | None
    url: str

    def bus(self, name: str, url: str = "") -> Bus:
        """A new connection to `url`, or else to the lab's own, as another process would have."""

    def cloudevents_headers(self, id_: str, type_: str) -> dict[str, str]:
        """Headers as a publisher without the chassis writes them."""

    async def publish_foreign(self, type_: str, headers: Mapping[str, object], body: bytes) -> None:
        """Publish with a bare client, exactly these headers."""


class MemoryLab:
    server: Server | None = None
    url = "memory://"

    def __init__(self) -> None:
        self.broker = MemoryBroker()

    def bus(self, name: str, url: str = "") -> Bus:
        return MemoryBus(self.broker)

    def cloudevents_headers(self, id_: str, type_: str) -> dict[str, str]:
        return to_headers(Envelope(id_, "foreign", type_), AMQP_PREFIX)

    async def publish_foreign(self, type_: str, headers: Mapping[str, object], body: bytes) -> None:
        self.broker.publish(type_, headers, body)


@asynccontextmanager
async def memory_lab(_: Path) -> AsyncIterator[Lab]:
    yield MemoryLab()


class RabbitLab:
    """A virtual host on the node that all tests share. The node is stopped in order."""

    def __init__(self, url: str, server: ServerProcess) -> None:
        self.url = url
        self.server: Server | None = ThreadedServer(server)

    def bus(self, name: str, url: str = "") -> Bus:
        return RabbitBus(url or self.url, name=name, backoff=lambda _: 0.1)

    def cloudevents_headers(self, id_: str, type_: str) -> dict[str, str]:
        return to_headers(Envelope(id_, "foreign", type_), AMQP_PREFIX_ALTERNATIVE)

    async def publish_foreign(self, type_: str, headers: Mapping[str, object], body: bytes) -> None:
        async with aiormq.connect(self.url) as connection:
            channel = await connection.channel()
            table: dict[str, Any] = dict(headers)
            content_type = table.pop("content-type", None)  # AMQP has a property for it
            properties = (
                Basic.Properties(headers=table, content_type=content_type) if table else None
            )
            await channel.basic_publish(
                body, exchange=EXCHANGE, routing_key=type_, properties=properties
            )


class ThreadedServer:
    """A server process for asynchronous tests: its port is kept, its data too."""

    def __init__(self, process: ServerProcess) -> None:
        self._process = process

    async def stop(self) -> None:
        await asyncio.to_thread(self._process.stop)

    async def start(self) -> None:
        await asyncio.to_thread(self._process.start)


@asynccontextmanager
async def rabbitmq_lab(folder: Path) -> AsyncIterator[Lab]:
    node = await asyncio.to_thread(shared_rabbitmq)
    with node.vhost(folder.name) as url:
        yield RabbitLab(url, node.server)


class NatsLab:
    """A server of its own. The node is stopped in order: see RabbitMQ."""

    def __init__(self, url: str, port: int, server: ServerProcess) -> None:
        self.url = url
        self.port = port
        self.server: Server | None = ThreadedServer(server)

    def bus(self, name: str, url: str = "") -> Bus:
        return NatsBus(url or self.url, name=name, ack_wait=2.0, timeout=2.0)

    def cloudevents_headers(self, id_: str, type_: str) -> dict[str, str]:
        return to_headers(Envelope(id_, "foreign", type_), NATS_PREFIX)

    async def publish_foreign(self, type_: str, headers: Mapping[str, object], body: bytes) -> None:
        block = "".join(
            ["NATS/1.0\r\n", *(f"{name}: {value}\r\n" for name, value in headers.items()), "\r\n"]
        )
        await self.publish_raw(f"events.{type_}", block.encode() if headers else b"", body)

    async def publish_raw(self, subject: str, block: bytes, body: bytes) -> None:
        """Publish without a client library, which would refuse a broken header block.

        Returns when the server has read the message.
        """
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b'CONNECT {"verbose":false,"headers":true}\r\n')
        if block:
            writer.write(
                b"HPUB %s %d %d\r\n" % (subject.encode(), len(block), len(block) + len(body))
                + block
            )
        else:
            writer.write(b"PUB %s %d\r\n" % (subject.encode(), len(body)))
        writer.write(body + b"\r\nPING\r\n")
        async with asyncio.timeout(10):
            while b"PONG" not in await reader.readline():
                pass
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def nats_lab(folder: Path) -> AsyncIterator[NatsLab]:
    with nats(folder) as broker:
        yield NatsLab(broker.url, broker.port, broker.server)


LABS: dict[str, Callable[[Path], AbstractAsyncContextManager[Lab]]] = {
    "memory": memory_lab,
    "nats": nats_lab,
    "rabbitmq": rabbitmq_lab,
}
