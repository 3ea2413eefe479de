"""The yardstick: a plain FastStream handler without inbox, retry, metrics or log lines.

With BENCH_PUBLISHES it publishes one event with a confirm, of a type that no queue is bound to.
With BENCH_EVENTS=0 it only makes the topology.
"""

import asyncio
import os
from typing import Any

import uvloop
from acme.signup.v1.user_signed_up_pb2 import UserSignedUp
from meter import Meter

TYPE = "acme.signup.v1.UserSignedUp"
URL = os.environ["CHASSIS_BUS_URL"]
PREFETCH = int(os.environ["CHASSIS_PREFETCH"])
PUBLISHES = "BENCH_PUBLISHES" in os.environ
PUBLISHED = "google.protobuf.BytesValue"
PREFIX = "cloudEvents:" if URL.startswith("amqp") else "ce-"
HEADERS = {
    PREFIX + "specversion": "1.0",
    PREFIX + "id": "e-1",
    PREFIX + "source": "bench",
    PREFIX + "type": PUBLISHED,
}


def rabbit(meter: Meter) -> Any:
    from faststream.rabbit import (  # noqa: PLC0415 - only the bus that is measured
        Channel,
        ExchangeType,
        QueueType,
        RabbitBroker,
        RabbitExchange,
        RabbitQueue,
    )

    broker = RabbitBroker(URL, default_channel=Channel(prefetch_count=PREFETCH), logger=None)
    queue = RabbitQueue("bench", queue_type=QueueType.QUORUM, routing_key=TYPE, durable=True)

    exchange = RabbitExchange("events", type=ExchangeType.TOPIC, durable=True)

    @broker.subscriber(queue, exchange)
    async def handle(body: bytes) -> None:
        UserSignedUp.FromString(body)
        if PUBLISHES:
            await broker.publish(
                body,
                exchange=exchange,
                routing_key=PUBLISHED,
                headers=HEADERS,
                persist=True,
                mandatory=False,
            )
        meter.hit()

    return broker


def nats(meter: Meter) -> Any:
    from faststream.nats import (  # noqa: PLC0415 - only the bus that is measured
        JStream,
        NatsBroker,
        PullSub,
    )

    broker = NatsBroker(URL, logger=None)
    stream = JStream("EVENTS", subjects=["events.>"])

    @broker.subscriber(
        f"events.{TYPE}", durable="bench", stream=stream, pull_sub=PullSub(batch_size=PREFETCH)
    )
    async def handle(body: bytes) -> None:
        UserSignedUp.FromString(body)
        if PUBLISHES:
            await broker.publish(body, f"events.{PUBLISHED}", headers=HEADERS, stream="EVENTS")
        meter.hit()

    return broker


async def main() -> None:
    finished = asyncio.Event()
    meter = Meter(finished.set)
    broker = rabbit(meter) if URL.startswith("amqp") else nats(meter)
    async with broker:
        await broker.start()
        if os.environ["BENCH_EVENTS"] != "0":
            await finished.wait()


with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
