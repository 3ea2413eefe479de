"""One connection and everything on it: publishing channel, topology, consumers.

All of it is built as one and lost as one. Knows how to build it and to take it down; the supervisor
decides when.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from secrets import token_hex
from typing import cast

import structlog
from aiormq.abc import AbstractChannel
from aiormq.channel import Channel
from aiormq.exceptions import ChannelNotFoundEntity
from pamqp.commands import Basic

from chassis.bus import BusMetrics, BusUnavailable, OnDelivery, Subscription
from chassis.bus.rabbitmq.confirms import Confirms
from chassis.bus.rabbitmq.consumer import Consumer
from chassis.bus.rabbitmq.deliveries import Deliveries
from chassis.bus.rabbitmq.errors import BodyTooLarge, QueueMissing, broker_errors, largest_body
from chassis.bus.rabbitmq.frames import TolerantConnection
from chassis.bus.rabbitmq.topology import (
    Queue,
    Version,
    bind,
    dead_letter_queue,
    declare,
    declare_exchange,
    exists,
    replica_queue,
    server_version,
    shared_queue,
)
from chassis.bus.rabbitmq.transport import Wire, WireFactory

ANSWER_SECONDS = 10.0
SURELY_TAKEN = 1024 * 1024
"""Bytes that every broker takes unless it is told otherwise; a larger body is proven first.

Proving costs a round trip. An event that kills its process must be set apart faster than that.
"""
CLOSE_SECONDS = 5.0

UNBOUNDED = 2**63
FRAME_OVERHEAD = 64

_BYTES_BUFFERED = 2**20

_log = structlog.get_logger(__name__)


class Link:
    """`lost` is set once anything on the connection is gone, and `reason` says what was first.

    Nothing is mended: the supervisor builds a new link.
    """

    def __init__(self, connection: TolerantConnection, wire: Wire, publishing: Channel) -> None:
        self.connection = connection
        self._wire = wire
        self.version: Version = server_version(connection.server_properties)
        self.lost = asyncio.Event()
        self.reason = ""
        self._publishing = self._confirms(publishing)
        self._proving = asyncio.Lock()
        self._proven_size = SURELY_TAKEN
        self._size_limit = UNBOUNDED
        self._consumers: list[Consumer] = []
        self._bound: list[tuple[Queue, frozenset[str] | None]] = []
        self._declared: set[str] = set()
        self._declaring = asyncio.Lock()
        self._watch(connection)
        self._watch(publishing)

    @property
    def largest_header(self) -> int:
        """Bytes of a message's properties that fit into one frame."""
        return self._largest_frame - FRAME_OVERHEAD

    @property
    def _largest_frame(self) -> int:
        return self.connection.connection_tune.frame_max or UNBOUNDED

    def _confirms(self, channel: Channel) -> Confirms:
        return Confirms(self._wire, channel, self._largest_frame)

    @classmethod
    async def open(
        cls,
        url: str,
        name: str,
        subscriptions: Sequence[tuple[Subscription, OnDelivery]],
        spawn: Callable[[Awaitable[None]], None],
        metrics: BusMetrics,
        *,
        known: set[str],
    ) -> "Link":
        """A link with its topology that does not consume yet. Raises BusUnavailable.

        `known` are the queues of earlier links, and gets the queues of this one.
        """
        factory = WireFactory()
        connection = TolerantConnection(
            url,
            client_properties={"connection_name": name},
            transport_factory=factory,
            limit=_BYTES_BUFFERED,
        )
        try:
            async with broker_errors("connecting"), asyncio.timeout(ANSWER_SECONDS):
                await connection.connect()
                publishing = cast("Channel", await connection.channel())
                link = cls(connection, factory.wire, publishing)
                await declare_exchange(connection)
                for subscription, on_delivery in subscriptions:
                    await link._add(subscription, on_delivery, spawn, metrics, known)
        except BaseException:
            await connection.close(timeout=CLOSE_SECONDS)
            raise
        return link

    async def _add(
        self,
        subscription: Subscription,
        on_delivery: OnDelivery,
        spawn: Callable[[Awaitable[None]], None],
        metrics: BusMetrics,
        known: set[str],
    ) -> None:
        await declare(self.connection, dead_letter_queue(subscription.service, self.version))
        shared = subscription.mode == "shared"
        queue = (
            shared_queue(subscription.service)
            if shared
            else replica_queue(subscription.service, token_hex(8))
        )
        if queue.name in known and not await exists(self.connection, queue):
            _log.error(
                "the queue was deleted, with all events that waited in it; it is declared again",
                queue=queue.name,
            )
        await declare(self.connection, queue, subscription.types)
        known.add(queue.name)
        self._bound.append((queue, subscription.types))
        channel = cast("Channel", await self.connection.channel(publisher_confirms=False))
        self._watch(channel)
        channel.on_consumer_cancel_callbacks.add(
            lambda _: self.lose(f"RabbitMQ cancelled the consumer of {queue.name}: is it deleted?")
        )
        consumer = Consumer(
            link=self,
            channel=channel,
            queue=queue,
            subscription=subscription,
            on_delivery=on_delivery,
            spawn=spawn,
            metrics=metrics,
        )
        self._consumers.append(consumer)
        self._wire.watch(channel.number, Deliveries(consumer.take).watch)

    async def bind(self) -> None:
        """Bind the queues again: an operator may have removed a binding. Raises BusUnavailable."""
        async with broker_errors("binding queues"), asyncio.timeout(ANSWER_SECONDS):
            for queue, types in self._bound:
                await bind(self.connection, queue, types)

    async def consume(self) -> None:
        """Take deliveries on every subscription. Raises BusUnavailable without an answer."""
        async with broker_errors("consuming"), asyncio.timeout(ANSWER_SECONDS):
            for consumer in self._consumers:
                await consumer.consume()

    async def cancel(self) -> None:
        """Take no more deliveries; return when none can arrive. Raises BusUnavailable."""
        async with broker_errors("cancelling consumers"), asyncio.timeout(ANSWER_SECONDS):
            for consumer in self._consumers:
                await consumer.cancel()

    async def send(
        self,
        exchange: str,
        key: str,
        properties: bytes | Basic.Properties,
        body: bytes,
        *,
        mandatory: bool = False,
    ) -> None:
        """Publish; return when the broker has stored the message.

        Raises BusUnavailable if that is not certain, QueueMissing if it is `mandatory` and has no
        queue, BodyTooLarge if the broker never stores it.
        """
        if isinstance(properties, bytes):
            encoded, message_id = properties, None
        else:
            encoded, message_id = properties.marshal(), properties.message_id

        def publish(on: Confirms) -> Awaitable[None]:
            return on.publish(
                exchange, key, encoded, body, message_id=message_id, mandatory=mandatory
            )

        if len(body) > self._proven_size:
            async with self._proving:
                if len(body) > self._proven_size:
                    await self._prove(len(body), key, publish)
                    return
        await publish(self._publishing)

    async def _prove(
        self, size: int, key: str, publish: Callable[[Confirms], Awaitable[None]]
    ) -> None:
        """Publish a larger body than any before, on a channel of its own.

        The broker closes the channel of a message that is too large, and all that is on its way
        there is lost.
        """
        if size > self._size_limit:
            raise BodyTooLarge(key, size, self._size_limit)
        async with broker_errors("opening a channel"), asyncio.timeout(ANSWER_SECONDS):
            channel = cast("Channel", await self.connection.channel())
        try:
            await publish(self._confirms(channel))
        except BusUnavailable:
            limit = largest_body(channel.closing) if channel.is_closed else None
            if limit is None:
                raise
            self._size_limit = limit
            raise BodyTooLarge(key, size, limit) from None
        finally:
            if not channel.is_closed:
                async with broker_errors("closing a channel"), asyncio.timeout(ANSWER_SECONDS):
                    await channel.close()
        self._proven_size = size

    async def move(self, queue: Queue, properties: Basic.Properties, body: bytes) -> None:
        """Put a message into a queue, past any exchange, confirmed.

        The queue is declared first, once per link, and again if it is gone.
        """
        await self._declare_once(queue)
        try:
            await self.send("", queue.name, properties, body, mandatory=True)
        except QueueMissing:
            _log.warning(
                "a queue was deleted under the running service and is declared again; "
                "messages that waited in it are lost",
                queue=queue.name,
            )
            self._declared.discard(queue.name)
            await self._declare_once(queue)
            await self.send("", queue.name, properties, body, mandatory=True)

    async def length(self, queue: str) -> int:
        """Messages in `queue` that no consumer holds; 0 without a queue. Raises BusUnavailable."""
        async with broker_errors(f"looking for {queue}"), asyncio.timeout(ANSWER_SECONDS):
            channel = await self.connection.channel(publisher_confirms=False)
            try:
                count = (await channel.queue_declare(queue, passive=True)).message_count
            except ChannelNotFoundEntity:  # and the broker has closed the channel
                return 0
            await channel.close()
            return count or 0

    async def close(self, *, orderly: bool) -> None:
        """Disconnect. `orderly`: write confirms and acknowledgements first, give the rest back."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                if orderly and not self.lost.is_set():
                    await self._settle_up()
        except TimeoutError:
            _log.warning(
                "RabbitMQ did not take the last acknowledgements in time; "
                "it will deliver those events again"
            )
        self.lose("closed by this process")
        for consumer in self._consumers:
            consumer.acks.abandon()
        await self.connection.close(timeout=CLOSE_SECONDS)
        await self._release_writers()

    async def _settle_up(self) -> None:
        await self._publishing.settled()
        for consumer in self._consumers:
            await consumer.close()

    async def _release_writers(self) -> None:
        """Wake callers that wait for room in the queue of a dead writer: aiormq never would."""
        queue = self.connection.write_queue
        while not queue.empty():
            queue.get_nowait()
            await asyncio.sleep(0)

    async def _declare_once(self, queue: Queue) -> None:
        if queue.name in self._declared:
            return
        async with self._declaring:
            if queue.name not in self._declared:
                async with broker_errors(f"declaring {queue.name}"):
                    await declare(self.connection, queue, frozenset())
                self._declared.add(queue.name)

    def lose(self, reason: str) -> None:
        """Count the connection as lost."""
        self.reason = self.reason or reason
        self.lost.set()

    def _watch(self, part: TolerantConnection | AbstractChannel) -> None:
        part.closing.add_done_callback(lambda closing: self.lose(_why(closing)))


def _why(closing: "asyncio.Future[object]") -> str:
    """Why aiormq closed a connection or a channel: the broker's own words if it said any."""
    error = None if closing.cancelled() else closing.exception()
    return "closed without a word" if error is None else str(error) or type(error).__name__
