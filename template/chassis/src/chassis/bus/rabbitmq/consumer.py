"""One subscription on one channel, and the deliveries that come with it.

A consumer lives as long as its channel (an epoch). Its deliveries outlive it: settling them then does nothing.
"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Protocol, cast

import structlog
from aiormq.abc import AbstractChannel, DeliveredMessage
from pamqp.commands import Basic

from chassis.bus import BusMetrics, BusUnavailable, Failure, OnDelivery, Subscription
from chassis.bus.rabbitmq.acks import Acknowledger
from chassis.bus.rabbitmq.messages import DELIVERY_COUNT, Received, dead_properties, retry_properties
from chassis.bus.rabbitmq.topology import DELIVERY_LIMIT, EXCHANGE, Queue, Version, dead_letter_name, delay_queue
from chassis.envelope import AMQP_PREFIX, Envelope, format_time, from_headers

NACK_IS_FREE = (4, 3)
"""Since this version the server does not count a nack as a failed delivery."""

_log = structlog.get_logger(__name__)


class Mover(Protocol):
    """What a consumer needs of its link."""

    @property
    def version(self) -> Version: ...

    async def move(self, queue: Queue | str, properties: Basic.Properties, body: bytes) -> None:
        """Put a message into a queue, past any exchange, confirmed. Raises BusUnavailable."""


class Consumer:
    """Takes deliveries from `queue` and runs `on_delivery` for each, in a task that `spawn` starts.

    Not in aiormq's own task: that one is cancelled when the connection is lost, and with it the handler.
    """

    def __init__(
        self,
        *,
        link: Mover,
        channel: AbstractChannel,
        queue: Queue,
        subscription: Subscription,
        on_delivery: OnDelivery,
        spawn: Callable[[Awaitable[None]], None],
        metrics: BusMetrics,
    ) -> None:
        self.link = link
        self.queue = queue
        self.service = subscription.service
        self.acks = Acknowledger(channel, subscription.prefetch, metrics)
        self._channel = channel
        self._subscription = subscription
        self._on_delivery = on_delivery
        self._spawn = spawn
        self._tag: str | None = None
        self._taking = False
        self._told_of_stray = False

    @property
    def alive(self) -> bool:
        return not self._channel.is_closed

    async def consume(self) -> None:
        """Take deliveries, at most `prefetch` unsettled. Does nothing when it does already."""
        if self._tag is not None:
            return
        self._taking = True
        await self._channel.basic_qos(prefetch_count=self._subscription.prefetch)
        started = await self._channel.basic_consume(self.queue.name, self._on_message)
        self._tag = started.consumer_tag

    async def cancel(self) -> None:
        """Take no more; what was on its way goes back. What was delivered before stays to be settled."""
        self._taking = False
        tag, self._tag = self._tag, None
        if tag is not None:
            await self._channel.basic_cancel(tag)

    async def _on_message(self, message: DeliveredMessage) -> None:
        delivery = cast("Basic.Deliver", message.delivery)  # a consumer gets no other kind
        tag = delivery.delivery_tag or 0
        if not self._taking:
            self.acks.hand_back(tag)
            return
        properties = message.header.properties
        received = Received(
            properties.headers or {}, message.body, properties, delivery.exchange or "", delivery.routing_key or ""
        )
        types = self._subscription.types
        if types is not None and received.exchange == EXCHANGE and received.routing_key not in types:
            self._tell_of_stray(received.routing_key)
        self._spawn(self._on_delivery(RabbitDelivery(self, tag, received)))

    def _tell_of_stray(self, key: str) -> None:
        """A binding that this replica did not make. Another version of the service may need it, so it stays."""
        if not self._told_of_stray:
            self._told_of_stray = True
            _log.warning(
                "the queue is bound to a type that this version of the service does not handle; "
                "if no version does any more, remove the binding",
                queue=self.queue.name,
                exchange=EXCHANGE,
                routing_key=key,
            )


class RabbitDelivery:
    """A delivery, to be settled on the channel that brought it and nowhere else."""

    __slots__ = ("_consumer", "_open", "_received", "_tag", "body", "headers")

    def __init__(self, consumer: Consumer, tag: int, received: Received) -> None:
        self._consumer = consumer
        self._tag = tag
        self._received = received
        self._open = True
        self.headers = received.headers
        self.body = received.body

    @property
    def attempt(self) -> int:
        return self._received.attempt

    @property
    def first_failure(self) -> str:
        return self._received.first_failure

    def envelope(self) -> Envelope:
        return from_headers(self.headers, AMQP_PREFIX)

    def done(self) -> None:
        if self._open:
            self._open = False
            self._consumer.acks.done(self._tag)

    async def later(self, delay: float, *, counted: bool) -> None:
        """Raises BusUnavailable; the message is then kept, and may be settled again."""
        if not self._settleable:
            return
        attempt, first_failure = self.attempt, self.first_failure
        if counted:
            attempt, first_failure = attempt + 1, first_failure or format_time(datetime.now(UTC))
        queue = delay_queue(self._consumer.queue, delay)
        await self._move(queue, retry_properties(self._received, attempt, first_failure))

    async def dead(self, failure: Failure) -> None:
        if self._settleable:
            service = self._consumer.service
            await self._move(dead_letter_name(service), dead_properties(self._received, service, failure))

    async def hand_back(self) -> None:
        if not self._settleable:
            return
        if self._wears_out:
            properties = retry_properties(self._received, self.attempt, self.first_failure)
            try:
                await self._move(self._consumer.queue, properties)
            except BusUnavailable as error:
                _log.debug("could not renew a delivery that was handed back often", error=str(error))
        if self._open:
            self._open = False
            self._consumer.acks.hand_back(self._tag)

    @property
    def _settleable(self) -> bool:
        return self._open and self._consumer.alive

    @property
    def _wears_out(self) -> bool:
        """Whether handing back often enough would let the crash net take this message for a poisonous one."""
        count = self.headers.get(DELIVERY_COUNT)
        return self._consumer.link.version < NACK_IS_FREE and isinstance(count, int) and count >= DELIVERY_LIMIT // 2

    async def _move(self, queue: Queue | str, properties: Basic.Properties) -> None:
        """Confirmed in the other queue first, acknowledged in this one then: a crash in between duplicates."""
        await self._consumer.link.move(queue, properties, self.body)
        self.done()
