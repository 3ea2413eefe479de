"""Metrics of rooms that count by themselves, because they exist once in a process and not once in a service.

Such a room appends a function to `COLLECTORS` when it is imported. A service that does not import the room exports
nothing of it. Knows no room.
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
