"""One load, and what replicas made of it: their metrics are read while it runs.

Knows the bus and HTTP; knows no contract and no output.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic

import aiohttp

from chassis.bus import Bus
from chassis.contracts.envelope import EncodedEvent
from chassis.tools import load, scrape
from chassis.tools.load import Event, Plan, Tally
from chassis.tools.scrape import Reading

SCRAPE_SECONDS = 0.2
_SCRAPE_TIMEOUT = aiohttp.ClientTimeout(10)
_MOST_SAMPLES = 1000
_MOST_LATE = 0.01
"""Seconds. A generator that is later at the 99th percentile cannot keep the rate."""


@dataclass(frozen=True, slots=True)
class Watched:
    """Replicas with metrics at `urls`, the types to look for, and how long to wait for progress.

    `patience` is in seconds.
    """

    urls: Sequence[str]
    types: frozenset[str]
    patience: float


@dataclass(frozen=True, slots=True)
class Sample:
    """What was counted until `at` seconds after the start of the load."""

    at: float
    published: int
    handled: Reading


@dataclass(slots=True)
class Result:
    """A load so far. `handled` stays None without metrics; `seconds` ends with the last event."""

    plan: Plan
    tally: Tally = field(default_factory=Tally)
    handled: Reading | None = None
    seconds: float = 0.0
    samples: list[Sample] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Every event is confirmed and, as far as metrics tell, handled and no dead letter."""
        settled = self.handled is None or (
            self.handled.settled >= self.tally.confirmed and not self.handled.dead
        )
        return settled and not self.tally.refused

    @property
    def late(self) -> bool:
        """Whether the generator was too slow for the rate, so that the figures say little."""
        lateness = self.tally.lateness.quantile(0.99)
        if self.plan.rate is None or self.tally.held_up or lateness is None:
            return False
        return lateness > _MOST_LATE

    def keeps(self, objective: float) -> bool:
        """Whether the rate was kept: nothing lost, and the p99 age within `objective` seconds.

        Without metrics the time until the broker's confirmation counts instead of the age. Both
        begin at an event's moment, so a late generator can only make them worse.
        """
        slowest = self.tally.confirms.quantile(0.99) if self.handled is None else self.age(0.99)
        return self.clean and slowest is not None and slowest <= objective

    @property
    def per_second(self) -> float | None:
        """Events handled a second, until the last one; None without metrics."""
        if self.handled is None:
            return None
        return self.handled.settled / self.seconds if self.seconds else 0.0

    @property
    def cpu_microseconds(self) -> float | None:
        """CPU time of all replicas for one event; None without metrics."""
        if self.handled is None or not self.handled.settled:
            return None
        return self.handled.cpu / self.handled.settled * 1e6

    def age(self, share: float) -> float | None:
        return None if self.handled is None else self.handled.age(share)


async def measure(bus: Bus, event: Event, watched: Watched, result: Result) -> None:
    """Publish the plan of `result` and keep it until the last event is handled.

    Raises ScrapeError.
    """
    async with aiohttp.ClientSession(timeout=_SCRAPE_TIMEOUT) as http:
        before = await scrape.read(http, watched.urls, watched.types)
        publishing = asyncio.create_task(load.publish(bus, result.plan, event, result.tally))
        try:
            if watched.urls:
                await _follow(http, watched, before, publishing, result)
            await publishing
        finally:
            publishing.cancel()
            await asyncio.wait([publishing])


async def _follow(
    http: aiohttp.ClientSession,
    watched: Watched,
    before: Reading,
    publishing: asyncio.Task[None],
    result: Result,
) -> None:
    """Keep `result` until every confirmed event is handled, or none for too long."""
    started = progressed = monotonic()
    settled = 0
    while True:
        all_published = publishing.done()
        result.handled = (await scrape.read(http, watched.urls, watched.types)).since(before)
        now = monotonic()
        result.samples.append(Sample(now - started, result.tally.confirmed, result.handled))
        if len(result.samples) > _MOST_SAMPLES:
            del result.samples[::2]  # what is long ago gets coarser
        if result.handled.settled > settled:
            result.seconds = now - started
        if result.handled.settled > settled or not all_published:
            progressed = now
        settled = result.handled.settled
        if all_published and (
            settled >= result.tally.confirmed or now - progressed > watched.patience
        ):
            return
        await asyncio.sleep(SCRAPE_SECONDS)


async def climb(
    bus: Bus, event: Event, watched: Watched, results: list[Result], *, objective: float
) -> None:
    """Measure rates until the knee is known, the highest rate that is kept within `objective`.

    `results` holds the first plan and gets a result for each step. The rate is doubled while it is
    kept; then the space between the last rate kept and the first one missed is halved.
    """
    published = 0

    def numbered_on(_: int, moment: datetime) -> EncodedEvent:
        nonlocal published
        published += 1  # no step repeats the events of another: they would be duplicates
        return event(published, moment)

    while True:
        await measure(bus, numbered_on, watched, results[-1])
        rate = next_rate([(one.plan.rate or 0.0, one.keeps(objective)) for one in results])
        if rate is None:
            return
        plan = results[-1].plan
        results.append(Result(Plan(plan.count, plan.seconds, rate, plan.in_flight)))


_CLOSE = 1.1
_LOWEST_RATE = 1.0


def next_rate(steps: Sequence[tuple[float, bool]]) -> float | None:
    """The rate to try after `steps`, each a rate and whether it was kept; None at the end."""
    best = max((rate for rate, kept in steps if kept), default=None)
    missed = min((rate for rate, kept in steps if not kept), default=None)
    if missed is None:
        return steps[-1][0] * 2
    if best is None:
        return missed / 2 if missed / 2 >= _LOWEST_RATE else None
    return float(round((best * missed) ** 0.5, 1)) if missed / best > _CLOSE else None
