"""Asks the servers when Prometheus asks, and gives their numbers to the Prometheus client."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from nats_exporter.jetstream import View, streams_and_consumers
from nats_exporter.metrics import (
    OF_CONSUMERS,
    OF_SERVERS,
    OF_STREAMS,
    TOTALS_OF_SERVERS,
    Number,
)
from nats_exporter.server import Snapshot, Unreachable, take

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class NatsCollector(Collector):
    """Asks all servers at `urls` anew for each scrape. `timeout` (seconds) bounds each answer."""

    def __init__(self, urls: Sequence[str], *, timeout: float = 5.0) -> None:
        self._urls = urls
        self._timeout = timeout

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering asks no server, so the exporter starts while servers are away."""
        return []

    def collect(self) -> Iterator[Metric]:
        with ThreadPoolExecutor(max_workers=min(8, len(self._urls))) as pool:
            answers = list(pool.map(self._take, self._urls))
        up = GaugeMetricFamily("nats_up", "1 if the server answered, else 0.", labels=["url"])
        for url, answer in zip(self._urls, answers, strict=True):
            up.add_metric([url], float(answer is not None))
        yield up
        snapshots = [answer for answer in answers if answer is not None]
        yield _info(snapshots)
        labelled = [([snapshot.name], snapshot) for snapshot in snapshots]
        yield from _families(CounterMetricFamily, "server", ["server"], TOTALS_OF_SERVERS, labelled)
        yield from _families(GaugeMetricFamily, "server", ["server"], OF_SERVERS, labelled)
        streams, consumers = streams_and_consumers(snapshots)
        yield from _of_views("stream", ["account", "stream"], OF_STREAMS, streams)
        yield from _of_views("consumer", ["account", "stream", "consumer"], OF_CONSUMERS, consumers)

    def _take(self, url: str) -> Snapshot | None:
        try:
            return take(url, self._timeout)
        except Unreachable as error:
            _log.warning("%s", error)
            return None


def _info(snapshots: Sequence[Snapshot]) -> Metric:
    labels = ["server", "version", "cluster"]
    info = GaugeMetricFamily("nats_server_info", "1 for each server.", labels=labels)
    for snapshot in snapshots:
        cluster = snapshot.varz.get("cluster", {}).get("name", "")
        info.add_metric([snapshot.name, snapshot.varz["version"], cluster], 1)
    return info


def _of_views(
    subject: str,
    labels: Sequence[str],
    table: Mapping[str, tuple[str, Callable[[View], Number]]],
    views: Sequence[View],
) -> Iterator[Metric]:
    return _families(
        GaugeMetricFamily, subject, labels, table, [(view.labels, view) for view in views]
    )


def _families(
    kind: type[GaugeMetricFamily] | type[CounterMetricFamily],
    subject: str,
    labels: Sequence[str],
    table: Mapping[str, tuple[str, Callable[[_T], Number]]],
    labelled: Sequence[tuple[Sequence[str], _T]],
) -> Iterator[Metric]:
    """One family a row of `table`, in turn: a thousand consumers are in memory once."""
    for name, (meaning, number_of) in table.items():
        family = kind(f"nats_{subject}_{name}", meaning, labels=labels)
        for values, source in labelled:
            number = number_of(source)
            if number is not None:
                family.add_metric(values, float(number))
        yield family
