"""Why the consumer pauses: the bus takes deliveries only while no reason speaks against it.

Each reason begins and ends on its own. One that ends does not resume the bus while another holds.
Judges no reason.
"""

import asyncio
from contextvars import Context
from typing import Literal, get_args

from prometheus_client import Gauge

from chassis.bus import Bus

Reason = Literal["store", "failures", "setup"]


class Pauses:
    """Pauses and resumes `bus`.

    `paused`, with the label `reason`, is 1 for each reason that holds.
    """

    def __init__(self, bus: Bus, paused: Gauge) -> None:
        self._bus = bus
        self._gauges: dict[Reason, Gauge] = {
            reason: paused.labels(reason) for reason in get_args(Reason)
        }
        self._reasons: set[Reason] = set()
        self._closed = False
        self._paused = False  # surely, and not only under way
        self._following: asyncio.Task[None] | None = None

    def hold(self, reason: Reason) -> None:
        """Pause, also if that is so already for another reason."""
        self._reasons.add(reason)
        self._gauges[reason].set(1)
        self._follow()

    def lift(self, reason: Reason) -> None:
        """This reason is over: resume, unless another holds."""
        self._reasons.discard(reason)
        self._gauges[reason].set(0)
        self._follow()

    async def close(self) -> None:
        """Pause and never resume again; returns when the bus is paused."""
        self._closed = True
        self._follow()
        await self.in_effect()

    async def in_effect(self) -> None:
        """Return when the bus does as it was last told."""
        if self._following is not None:
            await asyncio.shield(self._following)

    def _follow(self) -> None:
        if self._following is None or self._following.done():
            # A context of its own, not the context of one event.
            self._following = asyncio.create_task(self._switch(), context=Context())

    async def _switch(self) -> None:
        """Switch the bus until it does as wanted.

        One switch at a time: a slow pause cannot end after the resume that was asked for later.
        """
        while (wanted := self._closed or bool(self._reasons)) is not self._paused:
            if wanted:
                await self._bus.pause()
                self._paused = True
            else:
                self._paused = False
                await self._bus.resume()
