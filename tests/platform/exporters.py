"""The exporters of Debian as processes, each over one server."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.brokers.binaries import find
from tests.brokers.process import free_port, listens, start
from tests.platform.rules import PLATFORM

QUERIES = PLATFORM / "chart/files/postgresql-queries.yaml"


@contextmanager
def redis_exporter(folder: Path, url: str) -> Iterator[int]:
    """Its port."""
    port = free_port()
    command = [find("prometheus-redis-exporter"), f"--redis.addr={url}", "--include-config-metrics"]
    command.append(f"--web.listen-address=127.0.0.1:{port}")
    with start(command, ready=lambda: listens(port), log=folder / f"exporter-{port}.log"):
        yield port


@contextmanager
def postgres_exporter(folder: Path, url: str) -> Iterator[int]:
    """Its port."""
    port = free_port()
    command = [find("prometheus-postgres-exporter"), f"--extend.query-path={QUERIES}"]
    command += ["--auto-discover-databases", f"--web.listen-address=127.0.0.1:{port}"]
    env = {"DATA_SOURCE_NAME": f"{url}?sslmode=disable"}
    with start(command, ready=lambda: listens(port), log=folder / f"exporter-{port}.log", env=env):
        yield port
