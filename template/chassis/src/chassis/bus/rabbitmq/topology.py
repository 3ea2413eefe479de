"""Names and arguments of the exchange and the queues, and their declaration.

    events (topic, durable) --type--> <service> ---crash net---> <service>.dead
                                          ^  |
             default exchange, after TTL  |  | default exchange, on a failure
                                  <service>.later.<n>ms

Every durable queue is a quorum queue. A delay queue has one TTL, because a queue expires messages
only at its head.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog
from aiormq.abc import AbstractConnection
from aiormq.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed
from pamqp.common import Arguments

EXCHANGE = "events"
DELIVERY_LIMIT = 20
DEAD_LETTERS_AT_MOST = 100_000
RUNGS = tuple(0.1 * 2**step for step in range(21))
"""Seconds of the delay queues: 0.1 s to 29 hours. A longer delay is cut to the longest."""

_log = structlog.get_logger(__name__)

Version = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue's declaration. An `exclusive` queue belongs to one connection and is gone with it."""

    name: str
    arguments: Mapping[str, str | int] = field(default_factory=dict)
    exclusive: bool = False


def server_version(properties: Mapping[str, object]) -> Version:
    """`(3, 10, 8)` from the server's properties; empty if they hold no version."""
    parts = str(properties.get("version", "")).split("-", 1)[0].split(".")
    return tuple(int(part) for part in parts) if all(part.isdecimal() for part in parts) else ()


def dead_letter_name(service: str) -> str:
    return f"{service}.dead"


def shared_queue(service: str) -> Queue:
    """The queue of `service`.

    The broker itself moves a message to the dead letters that crashes replicas again and again.
    At-least-once dead-lettering needs `reject-publish`; otherwise the broker may lose messages.
    """
    return Queue(
        service,
        {
            "x-queue-type": "quorum",
            "x-delivery-limit": DELIVERY_LIMIT,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": dead_letter_name(service),
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        },
    )


def replica_queue(service: str, token: str) -> Queue:
    """A queue for one connection. An auto-delete queue would lose its messages during a pause."""
    return Queue(f"{service}.replica.{token}", exclusive=True)


def dead_letter_queue(service: str, version: Version) -> Queue:
    """A bounded queue without a delivery limit, so sweeps may read it often (-1 since 4.0)."""
    arguments: dict[str, str | int] = {
        "x-queue-type": "quorum",
        "x-max-length": DEAD_LETTERS_AT_MOST,
        "x-overflow": "reject-publish",
    }
    if version >= (4,):
        arguments["x-delivery-limit"] = -1
    return Queue(dead_letter_name(service), arguments)


def delay_queue(home: Queue, delay: float) -> Queue:
    """Holds a message for at least `delay` seconds (the next rung), then moves it into `home`."""
    rung = next((rung for rung in RUNGS if rung >= delay), RUNGS[-1])
    milliseconds = round(rung * 1000)
    arguments: dict[str, str | int] = {
        "x-message-ttl": milliseconds,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": home.name,
    }
    if not home.exclusive:
        arguments |= {
            "x-queue-type": "quorum",
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }
    return Queue(f"{home.name}.later.{milliseconds}ms", arguments, home.exclusive)


async def declare_exchange(connection: AbstractConnection) -> None:
    channel = await connection.channel(publisher_confirms=False)
    await channel.exchange_declare(EXCHANGE, exchange_type="topic", durable=True)
    await channel.close()


async def declare(
    connection: AbstractConnection, queue: Queue, types: frozenset[str] | None = frozenset()
) -> None:
    """Make sure that `queue` exists and is bound to `types` (None: to every type).

    An existing queue with other arguments (by an older chassis, a server upgrade, an operator) is
    used as it is: replacing it would lose its messages. The declaration has a channel of its own,
    because the broker closes the channel on a refusal.
    """
    channel = await connection.channel(publisher_confirms=False)
    arguments: Arguments = dict(queue.arguments)
    try:
        await channel.queue_declare(
            queue.name, durable=not queue.exclusive, exclusive=queue.exclusive, arguments=arguments
        )
    except ChannelPreconditionFailed as refusal:
        channel = await connection.channel(publisher_confirms=False)
        await channel.queue_declare(queue.name, passive=True)
        _log.warning(
            "a queue exists with other arguments and is used as it is; "
            "to have it as declared, drain it, delete it and restart the service",
            queue=queue.name,
            wanted=dict(queue.arguments),
            broker=str(refusal),
        )
    await channel.close()
    await bind(connection, queue, types)


async def bind(connection: AbstractConnection, queue: Queue, types: frozenset[str] | None) -> None:
    """Bind `queue` to `types` (None: to every type). A binding that is there stays."""
    keys = sorted(types) if types is not None else ["#"]
    if keys:
        channel = await connection.channel(publisher_confirms=False)
        for key in keys:
            await channel.queue_bind(queue.name, EXCHANGE, key)
        await channel.close()


async def exists(connection: AbstractConnection, queue: Queue) -> bool:
    channel = await connection.channel(publisher_confirms=False)
    try:
        await channel.queue_declare(queue.name, passive=True)
    except ChannelNotFoundEntity:  # and the broker has closed the channel
        return False
    await channel.close()
    return True
