"""Metrics of rooms that count by themselves: they exist once in a process, not once in a service.

A room with metrics of its own appends a function to `COLLECTORS` when it is imported. A service
that does not import the room exports none of them. Knows no room.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from prometheus_client import Metric
from prometheus_client.registry import Collector

COLLECTORS: list[Callable[[], Iterable[Metric]]] = []


class Imported(Collector):
    """What the imported rooms count, read when Prometheus asks."""

    def collect(self) -> Iterator[Metric]:
        return chain.from_iterable(collect() for collect in COLLECTORS)

    describe = collect
