"""The metrics of running replicas, summed up, and what changed between two readings.

Knows HTTP and the chassis' metrics; knows no process, no bus and no output.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import aiohttp
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from chassis.urls import masked

_CONSUMED = "messaging_client_consumed_messages_total"
_AGE = "chassis_event_age_seconds_bucket"
_DEAD = "chassis_dead_letters_total"
_CPU = "process_cpu_seconds_total"
_MEMORY = "process_resident_memory_bytes"
_FINAL = ("done", "duplicate", "dead")


class ScrapeError(Exception):
    """A replica's metrics cannot be read or compared with earlier ones; the message says why."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Sums over all replicas: deliveries by outcome, dead letters, cumulative ages by bound.

    The bounds of ages are seconds. `cpu` is seconds of all cores, `memory` bytes at the moment.
    """

    outcomes: Counter[str]
    dead: int
    ages: Counter[float]
    cpu: float = 0.0
    memory: float = 0.0

    @property
    def settled(self) -> int:
        """Events that were handled to an end."""
        return sum(self.outcomes[outcome] for outcome in _FINAL)

    def since(self, before: "Reading") -> "Reading":
        """What was counted after `before`. Raises ScrapeError if a replica began to count anew."""
        if any(self.outcomes[outcome] < number for outcome, number in before.outcomes.items()):
            raise ScrapeError("the service's counters went back: a replica was restarted meanwhile")
        return Reading(
            self.outcomes - before.outcomes,
            self.dead - before.dead,
            self.ages - before.ages,
            self.cpu - before.cpu,
            self.memory,
        )

    def age(self, share: float) -> float | None:
        """The age in seconds that `share` of the events did not exceed, interpolated."""
        wanted = share * self.ages[inf]
        below, counted = 0.0, 0
        for bound, number in sorted(self.ages.items()):
            if number >= wanted and number:
                inside = (wanted - counted) / (number - counted)
                return below if bound == inf else below + (bound - below) * inside
            below, counted = bound, number
        return None


async def read(http: aiohttp.ClientSession, urls: Sequence[str], types: frozenset[str]) -> Reading:
    """The sum of the metrics at `urls`, for events of `types`. Raises ScrapeError."""
    outcomes: Counter[str] = Counter()
    ages: Counter[float] = Counter()
    dead = 0
    cpu = memory = 0.0
    for text in await asyncio.gather(*(_text(http, url) for url in urls)):
        for sample in _samples(text):
            if sample.name == _DEAD:
                dead += int(sample.value)
            elif sample.name == _CPU:
                cpu += sample.value
            elif sample.name == _MEMORY:
                memory += sample.value
            elif sample.name == _CONSUMED and sample.labels["type"] in types:
                outcomes[sample.labels["outcome"]] += int(sample.value)
            elif sample.name == _AGE and sample.labels["type"] in types:
                ages[float(sample.labels["le"])] += int(sample.value)
    return Reading(outcomes, dead, ages, cpu, memory)


async def _text(http: aiohttp.ClientSession, url: str) -> str:
    try:
        async with http.get(url, raise_for_status=True) as answer:
            return await answer.text()
    except (aiohttp.ClientError, ValueError, TimeoutError) as error:
        raise ScrapeError(
            f"no metrics at {masked(url)}: {str(error) or type(error).__name__}"
        ) from None


def _samples(text: str) -> list[Sample]:
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]
