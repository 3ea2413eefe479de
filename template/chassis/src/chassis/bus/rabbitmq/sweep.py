"""A pass over the dead letters of a service: show each, carry out the verdict.

Reads with basic.get, so only one body is in memory at a time. Kept letters stay unacknowledged
until the end.
"""

import asyncio
from collections.abc import Awaitable, Callable

from aiormq.abc import AbstractChannel
from pamqp.commands import Basic

from chassis.bus import BusUnavailable, DeadLetter, Verdict
from chassis.bus.rabbitmq.errors import QueueMissing, broker_errors
from chassis.bus.rabbitmq.link import Link
from chassis.bus.rabbitmq.messages import Received, dead_letter, replay_properties
from chassis.bus.rabbitmq.topology import dead_letter_name

RETURN_SECONDS = 2.0
POLL_SECONDS = 0.02

Decide = Callable[[DeadLetter], Awaitable[Verdict]]


async def sweep(link: Link, service: str, decide: Decide) -> None:
    """Show the entries of the start, oldest first. A second entry with the same id is dropped.

    Raises BusUnavailable; every entry without a carried-out verdict is then still there.
    """
    async with broker_errors(f"opening the dead letters of {service}"):
        channel = await link.connection.channel(publisher_confirms=False)
    try:
        kept = await _pass(link, channel, service, decide)
    finally:
        if not channel.is_closed:
            async with broker_errors(f"putting the dead letters of {service} back"):
                await channel.basic_nack(0, multiple=True, requeue=True)
                await channel.close()
    if kept:
        await _until_back(kept, link, dead_letter_name(service))


async def _pass(link: Link, channel: AbstractChannel, service: str, decide: Decide) -> int:
    """How many entries are kept and wait to be put back."""
    queue = dead_letter_name(service)
    seen: set[str] = set()
    kept = 0
    for _ in range(await link.length(queue)):
        async with broker_errors(f"reading {queue}"):
            message = await channel.basic_get(queue)
        if not isinstance(message.delivery, Basic.GetOk):
            break  # another sweep took the rest
        received = Received.of(message, message.delivery)
        letter = dead_letter(received, service)
        verdict = Verdict.DISCARD if letter.id in seen else await decide(letter)
        seen.add(letter.id)
        if verdict is Verdict.REPLAY:
            await _replay(link, service, received)
        if verdict is Verdict.KEEP:
            kept += 1
        else:
            async with broker_errors(f"removing a dead letter from {queue}"):
                await channel.basic_ack(message.delivery.delivery_tag or 0)
    return kept


async def _until_back(kept: int, link: Link, queue: str) -> None:
    """Wait until the queue shows the entries that were put back, or the next sweep would miss them.

    A quorum queue shows them late. The wait is bounded: another sweep may have taken them.
    """
    for _ in range(round(RETURN_SECONDS / POLL_SECONDS)):
        if await link.length(queue) >= kept:
            return
        await asyncio.sleep(POLL_SECONDS)


async def _replay(link: Link, service: str, received: Received) -> None:
    try:
        await link.send("", service, replay_properties(received), received.body, mandatory=True)
    except QueueMissing:
        raise BusUnavailable(
            f"{service} has no queue to replay into: start the service once, then replay"
        ) from None
