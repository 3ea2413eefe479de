"""Publishers without the chassis: bare aio-pika and bare nats-py, with headers of their own."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Protocol

import aio_pika
import nats
from aiormq.exceptions import AMQPError
from nats.aio.client import Client

SIGNED_UP = "acme.signup.v1.UserSignedUp"
OCCURRED = f"{datetime.now(UTC) - timedelta(minutes=10):%Y-%m-%dT%H:%M:%SZ}"
"""The time of every event: older than the alerts' objective, and the same in every copy."""


def signed_up(user_id: str, email: str = "") -> bytes:
    """UserSignedUp by hand: fields 1 and 2 are strings."""
    fields = ((1, user_id.encode()), (2, email.encode()))
    return b"".join(bytes([number << 3 | 2, len(text)]) + text for number, text in fields if text)


class Publisher(Protocol):
    async def publish(self, id_: str, body: bytes) -> None:
        """A CloudEvent in binary mode."""

    async def publish_raw(self, headers: Mapping[str, str], body: bytes) -> None:
        """Publish any bytes to the service's events, without headers that the protocol forbids."""


async def publish_all(
    publisher: Publisher, events: Sequence[tuple[str, bytes]], in_flight: int = 100
) -> None:
    """Publish in order, confirmed; up to `in_flight` wait for their confirm at a time."""
    for start in range(0, len(events), in_flight):
        await asyncio.gather(
            *(publisher.publish(id_, body) for id_, body in events[start : start + in_flight])
        )


class RabbitPublisher:
    def __init__(self, exchange: aio_pika.abc.AbstractExchange) -> None:
        self._exchange = exchange

    async def publish(self, id_: str, body: bytes) -> None:
        await self.publish_raw(
            {
                "cloudEvents:specversion": "1.0",
                "cloudEvents:id": id_,
                "cloudEvents:source": "bare",
                "cloudEvents:type": SIGNED_UP,
                "cloudEvents:time": OCCURRED,
            },
            body,
        )

    async def publish_raw(self, headers: Mapping[str, str], body: bytes) -> None:
        await self._exchange.publish(aio_pika.Message(body, headers=dict(headers)), SIGNED_UP)


class NatsPublisher:
    def __init__(self, client: Client) -> None:
        self._stream = client.jetstream()

    async def publish(self, id_: str, body: bytes) -> None:
        await self.publish_raw(
            {
                "ce-specversion": "1.0",
                "ce-id": id_,
                "ce-source": "bare",
                "ce-type": SIGNED_UP,
                "ce-time": OCCURRED,
                "content-type": "application/protobuf",
            },
            body,
        )

    async def publish_raw(self, headers: Mapping[str, str], body: bytes) -> None:
        possible = {name: value for name, value in headers.items() if ":" not in name}
        await self._stream.publish(f"events.{SIGNED_UP}", body, headers=possible or None)


async def connected(url: str) -> aio_pika.abc.AbstractConnection:
    """A connection to the first RabbitMQ of `url` that answers; URLs are separated by commas."""
    *others, last = url.split(",")
    for one in others:
        with suppress(OSError, AMQPError):
            return await aio_pika.connect(one, timeout=2)
    return await aio_pika.connect(last)


@asynccontextmanager
async def bare_publisher(url: str) -> AsyncIterator[Publisher]:
    """A connected publisher for the bus at `url`."""
    if url.startswith("amqp"):
        async with await connected(url) as connection:
            channel = await connection.channel()
            yield RabbitPublisher(await channel.get_exchange("events"))
    else:
        async with await nats.connect(url.split(",")) as client:
            yield NatsPublisher(client)
