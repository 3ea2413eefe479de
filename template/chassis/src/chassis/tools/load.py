"""A load of events onto a bus: so many, or so many a second, and what the broker made of them.

With a rate it is an open model: each event has its moment, even if earlier ones are late, and
its time counts from that moment. So a broker that stands still for a second costs a second of all
events that were due meanwhile. Memory stays bounded however long it runs.
Knows the bus; knows no contract, consumer or output.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from time import monotonic

from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped] # it says nothing

from chassis.bus import Bus, BusUnavailable
from chassis.contracts.envelope import EncodedEvent

RECONNECT_SECONDS = 10.0
_MICROSECONDS = 1_000_000
_LONGEST = 3600 * _MICROSECONDS
_DIGITS = 3
_BURST = 50
"""So many events without a wait let the others run once."""

Event = Callable[[int, datetime], EncodedEvent]
"""Makes the event with a number, from 1 on, that is meant for a moment."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much: until `count` events or `seconds` are over, whichever comes first.

    `rate` is events a second; None: as many as the broker confirms. `in_flight` bounds the events
    that are not confirmed yet; a rate needs many, or a slow broker makes the generator wait.
    """

    count: int | None = None
    seconds: float | None = None
    rate: float | None = None
    in_flight: int = 100


class Durations:
    """Seconds in an HDR histogram: three digits from a microsecond to an hour, in bounded room."""

    def __init__(self) -> None:
        self._histogram = HdrHistogram(1, _LONGEST, _DIGITS)

    def add(self, seconds: float) -> None:
        self._histogram.record_value(min(max(1, round(seconds * _MICROSECONDS)), _LONGEST))

    def quantile(self, share: float) -> float | None:
        """The seconds that `share` of them did not exceed; None without any."""
        if not self._histogram.get_total_count():
            return None
        return float(self._histogram.get_value_at_percentile(share * 100)) / _MICROSECONDS

    def encoded(self) -> str:
        """The histogram in HdrHistogram's V2 format, in microseconds."""
        return str(self._histogram.encode().decode())


@dataclass(slots=True)
class Tally:
    """What became of a load so far. `seconds` is set at its end, `error` is the last refusal.

    `confirms`: from an event's moment until the broker has it. `lateness`: from its moment until
    the generator came to publish it; if that is long, the generator was too slow for the rate.
    """

    started: int = 0
    confirmed: int = 0
    refused: int = 0
    held_up: int = 0
    """Events that waited for a place in flight: the broker was too slow for the rate."""
    error: str = ""
    seconds: float = 0.0
    confirms: Durations = field(default_factory=Durations)
    lateness: Durations = field(default_factory=Durations)

    @property
    def per_second(self) -> float:
        return self.confirmed / self.seconds if self.seconds else 0.0


async def publish(bus: Bus, plan: Plan, event: Event, tally: Tally) -> None:
    """Publish the events of the numbers from 1 on, and keep `tally`.

    An event that the broker does not confirm is counted and not repeated. Ends early if the broker
    stays away for RECONNECT_SECONDS.
    """
    started, began = monotonic(), datetime.now(UTC)
    slots = asyncio.Semaphore(plan.in_flight)
    gone = False

    async def one(event_: EncodedEvent, due: float) -> None:
        nonlocal gone
        gone |= not await _publish(bus, event_, due, tally)
        slots.release()

    try:
        async with asyncio.TaskGroup() as in_flight:
            for number in count():
                tally.held_up += slots.locked()
                await slots.acquire()
                due = await _turn(number, plan, started)
                if gone or due is None:
                    break
                moment = began + timedelta(seconds=due - started)
                in_flight.create_task(one(event(number + 1, moment), due))
    finally:
        tally.seconds = monotonic() - started


async def _turn(number: int, plan: Plan, started: float) -> float | None:
    """Wait until it is the turn of the event with this number; None when the plan has none.

    Gives its moment by the monotonic clock.
    """
    now = monotonic()
    due = now if plan.rate is None else started + number / plan.rate
    if plan.count is not None and number >= plan.count:
        return None
    if plan.seconds is not None and (due if plan.rate else now) - started >= plan.seconds:
        return None
    if due > now or number % _BURST == 0:
        await asyncio.sleep(max(0.0, due - now))
    return due


async def _publish(bus: Bus, message: EncodedEvent, due: float, tally: Tally) -> bool:
    """False when the broker refused and does not come back."""
    tally.started += 1
    tally.lateness.add(monotonic() - due)
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
        tally.confirms.add(monotonic() - due)
    return True
