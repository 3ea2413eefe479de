"""Counts the calls of cached functions by what answered them. One row a function in the process."""

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily

from chassis.telemetry.collectors import COLLECTORS


@dataclass(slots=True)
class Counts:
    """Calls by what answered them; `failures` are upstream calls that raised or took too long."""

    hits: int = 0
    misses: int = 0
    joined: int = 0
    failures: int = 0


_BY_FUNCTION: dict[str, Counts] = {}


def counts_of(function: str) -> Counts:
    """The counts under the name `function`; functions of one name share them."""
    return _BY_FUNCTION.setdefault(function, Counts())


def _collect() -> Iterator[Metric]:
    calls = CounterMetricFamily(
        "chassis_cached_calls",
        "Calls of cached functions: answered from memory (hit), by another caller's call (joined),"
        " or upstream (miss).",
        labels=("function", "outcome"),
    )
    failures = CounterMetricFamily(
        "chassis_cached_call_failures",
        "Upstream calls of cached functions that raised or took longer than their timeout.",
        labels=("function",),
    )
    for function, counts in _BY_FUNCTION.items():
        for outcome, number in (
            ("hit", counts.hits),
            ("joined", counts.joined),
            ("miss", counts.misses),
        ):
            calls.add_metric((function, outcome), number)
        failures.add_metric((function,), counts.failures)
    yield calls
    yield failures


COLLECTORS.append(_collect)
