"""Metrics as plain numbers say to Prometheus what prometheus_client's own would say."""

import re
from collections.abc import Iterator
from math import inf
from typing import Any

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from chassis.telemetry import counting

BUCKETS = (0.001, 0.5, 1, 10)
VALUES = st.lists(
    st.sampled_from([0.0, *BUCKETS]) | st.floats(-1, 1e9, allow_nan=False) | st.just(inf)
)


def count(values: list[float], counter: Any, histogram: Any, alone: Any, size: Any) -> None:
    """The same, with the metrics of either library."""
    for value in values:
        counter.labels("a\nb", "done").inc()
        counter.labels("c", "dead").inc(abs(value))
        histogram.labels("c").observe(value)
        alone.inc()
        size.observe(value)


def plain(values: list[float]) -> CollectorRegistry:
    registry = CollectorRegistry()
    counter = counting.counters("events", 'Events "all".', ("type", "outcome"), registry=registry)
    histogram = counting.histograms(
        "took_seconds", "Time.", ("type",), buckets=BUCKETS, registry=registry
    )
    alone = counting.counter("reconnects", "Reconnects.", registry=registry)
    size = counting.histogram("size", "Size.", buckets=BUCKETS, registry=registry)
    counting.counters("never", "Never counted.", ("type",), registry=registry)
    count(values, counter, histogram, alone, size)
    return registry


def original(values: list[float]) -> CollectorRegistry:
    registry = CollectorRegistry()
    counter = prometheus_client.Counter(
        "events", 'Events "all".', ("type", "outcome"), registry=registry
    )
    histogram = prometheus_client.Histogram(
        "took_seconds", "Time.", ("type",), buckets=BUCKETS, registry=registry
    )
    alone = prometheus_client.Counter("reconnects", "Reconnects.", registry=registry)
    size = prometheus_client.Histogram("size", "Size.", buckets=BUCKETS, registry=registry)
    prometheus_client.Counter("never", "Never counted.", ("type",), registry=registry)
    count(values, counter, histogram, alone, size)
    return registry


def without_times(text: bytes) -> str:
    return re.sub(r"(?m)^(\S*_created.*) \S+$", r"\1 TIME", text.decode())


@given(VALUES)
def test_the_text_is_that_of_prometheus_client(values: list[float]) -> None:
    expected, found = original(values), plain(values)
    assert without_times(generate_latest(found)) == without_times(generate_latest(expected))
    found_text, expected_text = map(openmetrics.generate_latest, (found, expected))
    assert without_times(found_text) == without_times(expected_text)


@pytest.mark.parametrize("name", ["events_total", "took_seconds_bucket", "size_sum", "size_count"])
def test_a_scrape_by_name_gives_the_series_of_that_name(name: str) -> None:
    asked = plain([0.5, 3]).restricted_registry([name])
    expected = original([0.5, 3]).restricted_registry([name])
    assert generate_latest(asked) == generate_latest(expected)


def test_a_name_cannot_be_taken_twice() -> None:
    with pytest.raises(ValueError, match="Duplicated"):
        counting.counter("size_sum", "Clashes.", registry=plain([]))


@pytest.fixture
def no_created_series() -> Iterator[None]:
    prometheus_client.disable_created_metrics()
    yield
    prometheus_client.enable_created_metrics()


@pytest.mark.usefixtures("no_created_series")
def test_series_of_the_beginning_can_be_switched_off() -> None:
    assert generate_latest(plain([1])) == generate_latest(original([1]))
