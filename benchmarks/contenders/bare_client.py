"""The client library alone, used as its documentation recommends for speed: decode, acknowledge.

On RabbitMQ it is aiormq, which acknowledges fifty at a time. On NATS it is nats-py, which fetches
and acknowledges. With BENCH_EVENTS=0 it only makes the topology.
"""

import asyncio
import os

import aiormq
import nats
import uvloop
from acme.signup.v1.user_signed_up_pb2 import UserSignedUp
from meter import Meter

TYPE = "acme.signup.v1.UserSignedUp"
URL = os.environ["CHASSIS_BUS_URL"]
PREFETCH = int(os.environ["CHASSIS_PREFETCH"])
EVENTS = int(os.environ["BENCH_EVENTS"])
ACK_EVERY = 50


async def rabbitmq() -> None:
    connection = await aiormq.connect(URL)
    channel = await connection.channel(publisher_confirms=False)
    await channel.exchange_declare("events", exchange_type="topic", durable=True)
    await channel.queue_declare("bench", durable=True, arguments={"x-queue-type": "quorum"})
    await channel.queue_bind("bench", "events", TYPE)
    await channel.basic_qos(prefetch_count=PREFETCH)
    finished = asyncio.Event()
    meter = Meter(finished.set)

    async def handle(message: aiormq.abc.DeliveredMessage) -> None:
        UserSignedUp.FromString(message.body)
        tag = message.delivery.delivery_tag or 0
        if tag % ACK_EVERY == 0 or tag == EVENTS:
            await channel.basic_ack(tag, multiple=True, wait=False)
        meter.hit()

    if EVENTS:
        await channel.basic_consume("bench", handle)
        await finished.wait()
    await connection.close()


async def jetstream() -> None:
    client = await nats.connect(URL)
    stream = client.jetstream()
    await stream.add_stream(name="EVENTS", subjects=["events.>"])
    subscription = await stream.pull_subscribe(f"events.{TYPE}", durable="bench", stream="EVENTS")
    finished = asyncio.Event()
    meter = Meter(finished.set)
    while EVENTS and not finished.is_set():
        for message in await subscription.fetch(PREFETCH):
            UserSignedUp.FromString(message.data)
            await message.ack()
            meter.hit()
    await client.close()


with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(rabbitmq() if URL.startswith("amqp") else jetstream())
