"""Events on their way out: size limit, trace context, confirm, metrics."""

import asyncio
from collections.abc import Sequence
from time import monotonic

import structlog

from chassis.bus import Bus, BusUnavailable
from chassis.contracts.envelope import EncodedEvent
from chassis.publishing.size import check_size
from chassis.telemetry.metrics import Metrics
from chassis.telemetry.traces import Carrier, Traces

_log = structlog.get_logger(__name__)


class Publisher:
    """`max_body` in bytes; `retry_seconds` between two tries of events that must be published."""

    def __init__(
        self,
        bus: Bus,
        metrics: Metrics,
        traces: Traces,
        max_body: int,
        *,
        retry_seconds: float = 0.5,
    ) -> None:
        self._bus = bus
        self._metrics = metrics
        self._traces = traces
        self._max_body = max_body
        self._retry_seconds = retry_seconds

    async def publish(self, message: EncodedEvent, carrier: Carrier) -> None:
        """Return when the broker has confirmed it. Raises Unpublishable, BusUnavailable."""
        self.check([message])
        started = monotonic()
        await self._one(message, carrier)
        self._metrics.publish_duration.observe(monotonic() - started)

    async def publish_all(self, messages: Sequence[EncodedEvent], carrier: Carrier) -> None:
        """Return when the broker has confirmed all of `messages`, also after an outage.

        Raises Unpublishable, before any is published if it can be known then.
        """
        self.check(messages)
        started = monotonic()
        waiting = await self._try(messages, carrier)
        if waiting:
            _log.warning("events of a handler are not confirmed, trying until they are")
        while waiting:
            await asyncio.sleep(self._retry_seconds)
            waiting = await self._try(waiting, carrier)
        self._metrics.publish_duration.observe(monotonic() - started)

    def check(self, messages: Sequence[EncodedEvent]) -> None:
        """Raises TooLarge."""
        for message in messages:
            check_size(message.envelope.type, len(message.body), self._max_body)

    async def _try(
        self, messages: Sequence[EncodedEvent], carrier: Carrier
    ) -> Sequence[EncodedEvent]:
        """The `messages` that the broker has not confirmed."""
        if len(messages) == 1:
            return [message for message in messages if not await self._confirmed(message, carrier)]
        confirmed = await asyncio.gather(
            *(self._confirmed(message, carrier) for message in messages)
        )
        return [message for message, there in zip(messages, confirmed, strict=True) if not there]

    async def _confirmed(self, message: EncodedEvent, carrier: Carrier) -> bool:
        try:
            await self._one(message, carrier)
        except BusUnavailable as error:
            _log.debug("not confirmed", type=message.envelope.type, error=str(error))
            return False
        return True

    async def _one(self, message: EncodedEvent, carrier: Carrier) -> None:
        envelope = message.envelope
        try:
            with self._traces.publish(envelope.type, envelope.id, carrier) as inside:
                traced = envelope.with_trace(inside.get("traceparent"), inside.get("tracestate"))
                await self._bus.publish(EncodedEvent(traced, message.body))
        except BusUnavailable:
            self._metrics.published(envelope.type, "failed")
            raise
        self._metrics.published(envelope.type, "confirmed")
