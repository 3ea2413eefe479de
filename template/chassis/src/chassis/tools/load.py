"""A load of events onto a bus: so many, or so many a second, and what the broker made of them.

Memory stays bounded however long it runs. Knows the bus; knows no contract, consumer or output.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from math import ceil, log
from time import monotonic

from chassis.bus import Bus, BusUnavailable
from chassis.contracts.envelope import EncodedEvent

RECONNECT_SECONDS = 10.0
_STEP = 1.05


@dataclass(frozen=True, slots=True)
class Plan:
    """How much: until `count` events or `seconds` are over, whichever comes first.

    `rate` is events a second; None: as many as the broker confirms. `in_flight` bounds the events
    that are not confirmed yet.
    """

    count: int | None = None
    seconds: float | None = None
    rate: float | None = None
    in_flight: int = 100


class Durations:
    """Seconds, counted in steps of 5 %: millions of them need a few hundred numbers."""

    def __init__(self) -> None:
        self._steps: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        self._steps[ceil(log(max(seconds, 1e-6), _STEP))] += 1

    def quantile(self, share: float) -> float | None:
        """The seconds that `share` of them did not exceed, up to 5 % too many; None without any."""
        wanted = share * self._steps.total()
        for step in sorted(self._steps):
            wanted -= self._steps[step]
            if wanted <= 0:
                return _STEP**step
        return None


@dataclass(slots=True)
class Tally:
    """What became of a load so far. `seconds` is set at its end, `error` is the last refusal."""

    confirmed: int = 0
    refused: int = 0
    error: str = ""
    seconds: float = 0.0
    confirms: Durations = field(default_factory=Durations)

    @property
    def per_second(self) -> float:
        return self.confirmed / self.seconds if self.seconds else 0.0


async def publish(bus: Bus, plan: Plan, event: Callable[[int], EncodedEvent], tally: Tally) -> None:
    """Publish what `event` makes of the numbers from 1 on, and keep `tally`.

    An event that the broker does not confirm is counted and not repeated. Ends early if the broker
    stays away for RECONNECT_SECONDS.
    """
    numbers = count()
    started = monotonic()

    async def lane() -> None:
        for number in numbers:
            if not await _turn(number, plan, started) or not await _publish(
                bus, event(number + 1), tally
            ):
                return

    try:
        async with asyncio.TaskGroup() as lanes:
            for _ in range(plan.in_flight):
                lanes.create_task(lane())
    finally:
        tally.seconds = monotonic() - started


async def _turn(number: int, plan: Plan, started: float) -> bool:
    """Wait until it is the turn of the event with this number; False when the plan has none."""
    due = number / plan.rate if plan.rate is not None else 0.0
    passed = monotonic() - started
    if plan.count is not None and number >= plan.count:
        return False
    if plan.seconds is not None and max(due, passed) >= plan.seconds:
        return False
    await asyncio.sleep(max(0.0, due - passed))
    return True


async def _publish(bus: Bus, message: EncodedEvent, tally: Tally) -> bool:
    """False when the broker refused and does not come back."""
    started = monotonic()
    try:
        await bus.publish(message)
    except BusUnavailable as error:
        tally.refused += 1
        tally.error = str(error)
        try:
            await asyncio.wait_for(bus.wait_ready(), RECONNECT_SECONDS)
        except TimeoutError:
            return False
    else:
        tally.confirmed += 1
        tally.confirms.add(monotonic() - started)
    return True
