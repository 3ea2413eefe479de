"""Publishes the events in the outbox, and measures how many wait.

Knows the ports (outbox, bus), no store and no broker. Any number of relays may work on one outbox.
A relay that is killed leaves events that it has published but not yet removed. They are published
again under the same ids, and the next inbox drops them.
"""

import asyncio
from collections.abc import Sequence
from math import nan

import structlog

from chassis.backoff import backoff, steady
from chassis.bus import Bus
from chassis.cancellation import cancel
from chassis.contracts.envelope import EncodedEvent
from chassis.inbox import InboxUnavailable, TransactionalInbox
from chassis.inbox.outbox import Relayed
from chassis.publishing.publisher import Publisher
from chassis.telemetry.metrics import Metrics

_log = structlog.get_logger(__name__)

BATCH = 100
RETRY_SECONDS = 0.5
"""Between two tries while the broker or the store is away."""
POLL_SECONDS = (0.05, 5.0)
"""Seconds until an empty outbox is looked at again.

The first wait is doubled each time, up to the second.
"""
WATCH_SECONDS = 5.0
CANCEL_SECONDS = 0.5


class Relay:
    """Publishes the events of `service` that `inbox` has stored.

    Begins with `start`, ends with `drain`.
    """

    def __init__(
        self,
        inbox: TransactionalInbox,
        service: str,
        bus: Bus,
        publisher: Publisher,
        metrics: Metrics,
    ) -> None:
        self._inbox = inbox
        self._outbox = inbox.outbox(service)
        self._bus = bus
        self._publisher = publisher
        self._metrics = metrics
        self._bell = asyncio.Event()
        self._draining = False
        self._store_answers = True
        self._publishing: asyncio.Task[None] | None = None
        self._others: list[asyncio.Task[None]] = []

    @property
    def working(self) -> bool:
        """False while events of the outbox should get published and cannot."""
        return self._publishing is None or (self._store_answers and self._bus.connected)

    def start(self, *, publishing: bool, listening: bool) -> None:
        """Begin to measure the outbox and, if `publishing`, to publish.

        Call once the inbox is open. Without `listening`, events that other processes store are
        found by polling.
        """
        self._metrics.relaying.set(publishing)
        self._others.append(asyncio.create_task(self._measure()))
        if publishing:
            self._inbox.on_stored(self._bell.set)
            self._publishing = asyncio.create_task(self._publish_all())
        if listening:
            self._others.append(asyncio.create_task(self._outbox.listen(self._bell.set)))

    async def drain(self, seconds: float) -> None:
        """Publish the waiting events for at most `seconds`, and stop.

        The next relay publishes the rest.
        """
        self._draining = True
        self._bell.set()
        if self._publishing is not None:
            await asyncio.wait([self._publishing], timeout=max(0.0, seconds))
            self._others.append(self._publishing)
        await asyncio.gather(*(cancel(task, CANCEL_SECONDS) for task in self._others))

    async def _publish_all(self) -> None:
        batch, looks = BATCH, 0
        while self._bus.connected or not self._draining:
            self._bell.clear()  # before looking, so that later events ring again
            relayed = await self._next(batch)
            if relayed is None:
                await asyncio.sleep(RETRY_SECONDS)
            elif relayed.confirmed:
                batch, looks = min(BATCH, batch * 2), 0
            elif relayed.failed:
                batch = 1  # if it is one event that brings the others down, find it
                await asyncio.sleep(RETRY_SECONDS)
            elif self._draining and not self._bell.is_set():
                return
            else:
                looks += 1
                await self._wait(backoff(looks, *POLL_SECONDS, steady))
                if self._bell.is_set():
                    looks = 0

    async def _next(self, batch: int) -> Relayed | None:
        """The fate of the next events; None if it could not be tried."""
        if not self._bus.connected:
            return None
        try:
            relayed = await self._outbox.relay(batch, self._publish_each)
        except InboxUnavailable as error:
            if self._store_answers:
                _log.error("the outbox is not reachable", error=str(error))
            self._store_answers = False
            return None
        except Exception:  # noqa: BLE001 - logged with its stack; the events are still there
            _log.exception("a defect of the chassis: the outbox could not be relayed")
            return None
        self._store_answers = True
        return relayed

    async def _publish_each(self, messages: Sequence[EncodedEvent]) -> Sequence[Exception | None]:
        return await asyncio.gather(*(self._one(message) for message in messages))

    async def _one(self, message: EncodedEvent) -> Exception | None:
        try:
            await self._publisher.publish(message, message.envelope.trace)
        except Exception as error:  # noqa: BLE001 - of this event alone; it is kept with the event
            return error
        return None

    async def _wait(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._bell.wait(), seconds)
        except TimeoutError:
            return

    async def _measure(self) -> None:
        while True:
            try:
                backlog = await self._outbox.backlog()
            except InboxUnavailable as error:
                _log.debug("the outbox could not be measured", error=str(error))
                self._metrics.outbox_messages.set(nan)
                self._metrics.outbox_age.set(nan)
            else:
                self._metrics.outbox_messages.set(backlog.messages)
                self._metrics.outbox_age.set(backlog.age)
            await asyncio.sleep(WATCH_SECONDS)
