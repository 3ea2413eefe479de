"""One subscription on one channel, and the deliveries that come with it.

A consumer lives as long as its channel (an epoch). Deliveries that outlive it cannot be settled:
settling them does nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

import structlog
from aiormq.abc import AbstractChannel, DeliveredMessage
from pamqp.commands import Basic

from chassis.bus import (
    BusMetrics,
    BusUnavailable,
    Failure,
    OnDelivery,
    Subscription,
    Unpublishable,
)
from chassis.bus.history import History
from chassis.bus.rabbitmq.acks import Acknowledger
from chassis.bus.rabbitmq.errors import BodyTooLarge, broker_errors
from chassis.bus.rabbitmq.messages import Received, dead_properties, fits, retry_properties
from chassis.bus.rabbitmq.topology import (
    DELIVERY_LIMIT,
    EXCHANGE,
    Queue,
    Version,
    dead_letter_queue,
    delay_queue,
)
from chassis.contracts.envelope import AMQP_PREFIX, Envelope, EnvelopeError, from_headers

NACK_IS_FREE = (4, 3)
"""From this version on, the server does not count a nack as a failed delivery."""

HELD_SECONDS = 120.0
"""For so long a message that was delivered before waits here, unsettled, instead of as a copy."""
SUSPECT = 3
"""From so many failed deliveries on, by the broker's count, a message is taken alone."""

RENEW_SECONDS = 0.5
"""Between two tries to renew a delivery that was handed back often."""

_log = structlog.get_logger(__name__)


class Mover(Protocol):
    """What a consumer needs from its link."""

    @property
    def version(self) -> Version: ...

    @property
    def largest_header(self) -> int:
        """Bytes of a message's properties that the connection carries."""

    async def move(self, queue: Queue, properties: Basic.Properties, body: bytes) -> None:
        """Put a message into a queue, past any exchange, confirmed.

        Raises BusUnavailable, and BodyTooLarge.
        """


class Consumer:
    """Takes deliveries from `queue` and runs `on_delivery` for each, in a task that `spawn` starts.

    The consumer begins with one delivery at a time, and stays so while deliveries are suspects. A
    message that kills the process makes the broker count a failed delivery for every message that
    was prefetched beside it, and the crash net would catch the innocent ones too. The broker
    delivers messages that came back before new ones.
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
        self._tags: list[str] = []
        self._taking = False
        self._one_at_a_time = False
        self._switching = asyncio.Lock()
        self._told_of_stray = False
        self._worn: list[RabbitDelivery] = []

    @property
    def alive(self) -> bool:
        return not self._channel.is_closed

    async def consume(self) -> None:
        """Take deliveries, at most `prefetch` unsettled. A second call does nothing."""
        async with self._switching:
            if not self._tags:
                self._taking = self._one_at_a_time = True
                await self._consume(1)

    async def cancel(self) -> None:
        """Take no more. Messages on their way go back; earlier deliveries can still be settled."""
        self._taking = False
        async with self._switching:
            tags, self._tags = self._tags, []
            for tag in tags:
                await self._channel.basic_cancel(tag)

    async def close(self) -> None:
        """Give back all unsettled deliveries, each with the guard of a hand-back."""
        for delivery in self._worn:
            await delivery.renew()
        await self.acks.close()

    async def _consume(self, prefetch: int) -> None:
        await self._channel.basic_qos(prefetch_count=prefetch)
        started = await self._channel.basic_consume(self.queue.name, _past_aiormq)
        self._tags.append(started.consumer_tag or "")

    async def _widen(self) -> None:
        """Go from one delivery at a time to the whole prefetch.

        The broker fixes a consumer's prefetch at its start, so a second consumer takes the rest.
        """
        async with self._switching:
            if not self._tags or not self._one_at_a_time:
                return
            self._one_at_a_time = False
            rest = self._subscription.prefetch - 1
            try:
                if rest:
                    async with broker_errors("raising the prefetch"):
                        await self._consume(rest)
            except BusUnavailable as error:
                _log.debug("the channel was lost while raising the prefetch", error=str(error))

    def take(self, tag: int, received: Received) -> None:
        """Handle a delivery, or give it back if none is wanted now."""
        taken = RabbitDelivery(self, tag, received)
        if taken.wears_out:
            self._worn = [worn for worn in self._worn if worn.settleable] + [taken]
        if not self._taking:
            if taken.wears_out:
                self._spawn(_give_back(taken))
            else:
                self.acks.hand_back(tag)
            return
        types = self._subscription.types
        if (
            types is not None
            and received.exchange == EXCHANGE
            and received.routing_key not in types
        ):
            self._tell_of_stray(received.routing_key)
        self._spawn(self._on_delivery(taken))
        if self._one_at_a_time and received.failed_deliveries < SUSPECT:
            self._spawn(self._widen())

    def take_again(self, delivery: "RabbitDelivery", delay: float) -> None:
        """Handle an unsettled delivery once more, `delay` seconds from now."""
        self._spawn(self._after(delay, delivery))

    async def _after(self, delay: float, delivery: "RabbitDelivery") -> None:
        await asyncio.sleep(delay)
        if self._taking:
            await self._on_delivery(delivery)
        else:
            await delivery.hand_back()

    def _tell_of_stray(self, key: str) -> None:
        """Warn of a binding by another version. It stays: that version may need it."""
        if not self._told_of_stray:
            self._told_of_stray = True
            _log.warning(
                "the queue is bound to a type that this version of the service does not handle; "
                "if no version handles it any more, remove the binding",
                queue=self.queue.name,
                exchange=EXCHANGE,
                routing_key=key,
            )


class RabbitDelivery:
    """A delivery. Only the channel that brought it can settle it."""

    __slots__ = ("_consumer", "_held", "_open", "_received", "_tag", "body")

    def __init__(self, consumer: Consumer, tag: int, received: Received) -> None:
        self._consumer = consumer
        self._tag = tag
        self._received = received
        self._open = True
        self._held = 0.0
        self.body = received.body

    @property
    def headers(self) -> Mapping[str, object]:
        return self._received.own_headers

    @property
    def history(self) -> History:
        return self._received.history

    def envelope(self) -> Envelope:
        if self._received.unreadable:
            raise EnvelopeError(f"not readable in the AMQP message: {self._received.unreadable}")
        received = self._received
        return from_headers(received.headers, AMQP_PREFIX, received.content_type)

    def done(self) -> bool:
        if not self.settleable:
            return False
        self._open = False
        self._consumer.acks.done(self._tag)
        return True

    async def later(self, delay: float, *, counted: bool) -> bool:
        if not self.settleable:
            return False
        if not counted and self._received.failed_deliveries and self._held + delay <= HELD_SECONDS:
            # A copy would begin a new count, and an event that kills its process would never end:
            # its next delivery waits for the lease that the dead process has left.
            self._held += delay
            self._consumer.take_again(self, delay)
            return True
        history = self.history.failed(datetime.now(UTC)) if counted else self.history
        properties = retry_properties(self._received, history)
        try:
            if not fits(properties, self._consumer.link.largest_header):
                raise Unpublishable("the headers of its copy are larger than a frame of AMQP")
            return await self._move(delay_queue(self._consumer.queue, delay), properties)
        except Unpublishable as error:
            if counted:
                raise
            raise BusUnavailable(f"an event cannot be put off: {error}") from error

    async def dead(self, failure: Failure) -> bool:
        if self._consumer.queue.exclusive:
            return self.done()
        if not self.settleable:
            return False
        try:
            return await self._bury(failure, self.body)
        except BodyTooLarge as error:
            cut = f"{failure.message} (only {error.limit} of {len(self.body)} bytes are kept)"
            return await self._bury(replace(failure, message=cut), self.body[: error.limit])

    async def hand_back(self) -> bool:
        if not self.settleable:
            return False
        while self.wears_out and not await self.renew():  # noqa: ASYNC110 - the broker tells nobody
            await asyncio.sleep(RENEW_SECONDS)  # unsettled meanwhile, so nothing is counted
        if self.settleable:
            self._open = False
            self._consumer.acks.hand_back(self._tag)
        return not self._open

    async def _bury(self, failure: Failure, body: bytes) -> bool:
        service, link = self._consumer.service, self._consumer.link
        properties = dead_properties(self._received, service, failure, link.largest_header)
        await link.move(dead_letter_queue(service, link.version), properties, body)
        return self.done()

    async def renew(self) -> bool:
        """Put a copy in the place of the message, with a new count; False if that must wait."""
        if not self.settleable:
            return True
        properties = retry_properties(self._received, self.history)
        try:
            await self._move(self._consumer.queue, properties)
        except Unpublishable as error:  # only counting is left: the crash net takes it in the end
            _log.debug("no copy of a delivery can be made", error=str(error))
        except BusUnavailable as error:
            _log.debug("could not renew a delivery that was handed back often", error=str(error))
            return False
        return True

    @property
    def settleable(self) -> bool:
        return self._open and self._consumer.alive

    @property
    def wears_out(self) -> bool:
        """Whether more hand-backs would make the crash net take this message for poison."""
        return (
            self._consumer.link.version < NACK_IS_FREE
            and self._received.failed_deliveries >= DELIVERY_LIMIT // 2
        )

    async def _move(self, queue: Queue, properties: Basic.Properties) -> bool:
        """Confirm in the other queue, then acknowledge here: a crash in between duplicates."""
        await self._consumer.link.move(queue, properties, self.body)
        return self.done()


async def _give_back(delivery: RabbitDelivery) -> None:
    await delivery.hand_back()


async def _past_aiormq(_: DeliveredMessage) -> None:
    """aiormq asks for a callback, but gets no delivery of this channel."""
