"""Events on their way out: size limit, trace context, confirm, metrics."""

import asyncio
from collections.abc import Sequence
from time import monotonic

from chassis.bus import Bus, BusUnavailable, Message
from chassis.telemetry.metrics import Metrics
from chassis.telemetry.traces import Carrier, Traces


class TooLarge(ValueError):
    """The encoded event is larger than CHASSIS_MAX_BODY_BYTES."""


def check_size(type_: str, size: int, limit: int) -> None:
    """Raises TooLarge when `size` bytes are more than `limit`."""
    if size > limit:
        raise TooLarge(
            f"{type_} has {size} bytes, at most {limit} allowed (CHASSIS_MAX_BODY_BYTES): "
            "publish a reference to the data instead"
        )


class Publisher:
    """`max_body` in bytes."""

    def __init__(self, bus: Bus, metrics: Metrics, traces: Traces, max_body: int) -> None:
        self._bus = bus
        self._metrics = metrics
        self._traces = traces
        self._max_body = max_body

    async def publish(self, messages: Sequence[Message], carrier: Carrier) -> None:
        """Return when the broker has confirmed all of `messages`. Raises TooLarge before any, BusUnavailable."""
        self.check(messages)
        started = monotonic()
        if len(messages) == 1:
            await self._one(messages[0], carrier)
        else:
            await asyncio.gather(*(self._one(message, carrier) for message in messages))
        self._metrics.publish_duration.observe(monotonic() - started)

    def check(self, messages: Sequence[Message]) -> None:
        """Raises TooLarge."""
        for message in messages:
            check_size(message.envelope.type, len(message.body), self._max_body)

    async def _one(self, message: Message, carrier: Carrier) -> None:
        envelope = message.envelope
        try:
            with self._traces.publish(envelope.type, envelope.id, carrier) as inside:
                traced = envelope.with_trace(inside.get("traceparent"), inside.get("tracestate"))
                await self._bus.publish(Message(traced, message.body))
        except BusUnavailable:
            self._metrics.published(envelope.type, "failed")
            raise
        self._metrics.published(envelope.type, "confirmed")
