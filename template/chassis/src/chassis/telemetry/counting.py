"""Counters and histograms as plain numbers, which Prometheus reads when it scrapes.

The metrics of prometheus_client take a lock for each number, and their histograms search the
buckets one by one. Here only the event loop's thread counts and scrapes. Names, labels, help and
the order of samples are those of prometheus_client.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from math import inf
from time import time
from typing import Generic, Literal, TypeVar

import prometheus_client
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class Counter:
    """A number that only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def inc(self, amount: float = 1) -> None:
        self.value += amount

    def samples(self) -> Iterator[tuple[str, dict[str, str], float]]:
        """The suffix of a name, labels and a value, each."""
        yield "_total", {}, self.value


class Histogram:
    """Values by the first of `bounds` that is not below them; the last bound is infinite."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * len(bounds)
        self._sum: float = 0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def samples(self) -> Iterator[tuple[str, dict[str, str], float]]:
        """As of Counter."""
        for bound, count in zip(self._bounds, accumulate(self._counts), strict=True):
            le = floatToGoString(bound)  # type: ignore[no-untyped-call] # it has no annotations
            yield "_bucket", {"le": le}, count
        yield "_count", {}, sum(self._counts)
        yield "_sum", {}, self._sum


Child = TypeVar("Child", Counter, Histogram)


class Family(Collector, Generic[Child]):
    """One metric: a child for each combination of the labels' values, made when first asked for."""

    def __init__(
        self,
        kind: Literal["counter", "histogram"],
        new: Callable[[], Child],
        name: str,
        documentation: str,
        labels: Sequence[str],
    ) -> None:
        self._kind = kind
        self._new: Callable[[], Child] = new
        self._name = name
        self._documentation = documentation
        self._labels = labels
        self._children: dict[tuple[str, ...], tuple[Child, float]] = {}

    def labels(self, *values: str) -> Child:
        if values not in self._children:
            self._children[values] = self._new(), time()
        return self._children[values][0]

    def describe(self) -> Iterator[Metric]:
        yield Metric(self._name, self._documentation, self._kind)

    def collect(self) -> Iterator[Metric]:
        [metric] = self.describe()
        shows_created = _shows_created()
        for values, (child, created) in self._children.items():
            labels = dict(zip(self._labels, values, strict=True))
            for suffix, further, value in child.samples():
                metric.add_sample(self._name + suffix, labels | further, value)
            if shows_created:
                metric.add_sample(f"{self._name}_created", labels, created)
        yield metric


def counters(
    name: str, documentation: str, labels: Sequence[str] = (), *, registry: CollectorRegistry
) -> Family[Counter]:
    """As prometheus_client's Counter with `labels`."""
    family = Family("counter", Counter, name, documentation, labels)
    registry.register(family)
    return family


def counter(name: str, documentation: str, *, registry: CollectorRegistry) -> Counter:
    """As prometheus_client's Counter."""
    return counters(name, documentation, registry=registry).labels()


def histograms(
    name: str,
    documentation: str,
    labels: Sequence[str] = (),
    *,
    buckets: Sequence[float],
    registry: CollectorRegistry,
) -> Family[Histogram]:
    """As prometheus_client's Histogram with `labels`."""
    bounds = (*buckets, inf)
    family = Family("histogram", lambda: Histogram(bounds), name, documentation, labels)
    registry.register(family)
    return family


def histogram(
    name: str, documentation: str, *, buckets: Sequence[float], registry: CollectorRegistry
) -> Histogram:
    """As prometheus_client's Histogram."""
    return histograms(name, documentation, buckets=buckets, registry=registry).labels()


def _shows_created() -> bool:
    """Whether prometheus_client shows when metrics began: a team can switch that off."""
    [metric] = prometheus_client.Counter("example", "In no registry.", registry=None).collect()
    return len(metric.samples) > 1
