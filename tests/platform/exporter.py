"""The NATS exporter as a process, and its metrics as values."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from tests.brokers.process import Server, free_port, listens, start

SOURCE = Path(__file__).parents[2] / "platform/nats-exporter/src"

Series = tuple[str, frozenset[tuple[str, str]]]


@dataclass(frozen=True, slots=True)
class Exporter:
    server: Server
    port: int

    def scrape(self) -> Mapping[Series, float]:
        with urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


def series(name: str, **labels: str) -> Series:
    return name, frozenset(labels.items())


@contextmanager
def exporter(folder: Path, urls: Sequence[str], *options: str) -> Iterator[Exporter]:
    port = free_port()
    command = [sys.executable, "-m", "nats_exporter", "--host", "127.0.0.1", "--port", str(port)]
    command += [part for url in urls for part in ("--url", url)] + list(options)
    with start(
        command,
        ready=lambda: listens(port),
        log=folder / "exporter.log",
        env={"PYTHONPATH": str(SOURCE)},
    ) as server:
        yield Exporter(server, port)
