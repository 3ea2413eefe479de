"""What a broker still holds for a service: waiting deliveries, retries under way, dead letters."""

import asyncio
from dataclasses import dataclass

import aio_pika
import nats
from nats.js.api import StreamInfo

from tests.e2e.publishers import connected

_DEAD = "billing-svc.dead"
_QUEUES = ("billing-svc", _DEAD, *(f"billing-svc.later.{100 * 2**rung}ms" for rung in range(21)))


@dataclass(frozen=True, slots=True)
class Remains:
    """How many messages `billing-svc` does not have in hand. NATS counts the ones in hand too."""

    waiting: int
    dead: int


def remains(bus_url: str) -> Remains:
    return asyncio.run(_in_rabbitmq(bus_url) if bus_url.startswith("amqp") else _in_nats(bus_url))


async def _in_rabbitmq(url: str) -> Remains:
    counts = dict.fromkeys(_QUEUES, 0)
    async with await connected(url) as connection:
        for name in _QUEUES:
            async with await connection.channel() as channel:
                try:
                    queue = await channel.declare_queue(name, passive=True)
                except aio_pika.exceptions.ChannelNotFoundEntity:
                    continue
                counts[name] = queue.declaration_result.message_count or 0
    dead = counts.pop(_DEAD)
    return Remains(sum(counts.values()), dead)


async def _in_nats(url: str) -> Remains:
    async with await nats.connect(url.split(",")) as client:
        stream = client.jetstream()
        letters: StreamInfo = await stream.stream_info("DLQ_billing-svc")
        delayed = await stream.stream_info("EVENTS", subjects_filter="delayed.>")
        waiting = sum((delayed.state.subjects or {}).values())
        for consumer in await stream.consumers_info("EVENTS"):
            waiting += (consumer.num_pending or 0) + (consumer.num_ack_pending or 0)
    return Remains(waiting, letters.state.messages)
