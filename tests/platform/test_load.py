"""The rules of the platform and of a hundred services take Prometheus less than a second a round.

That is processor time over the cores of this machine: the clock would measure what else runs here.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest

from chassis.telemetry.metrics import Metrics
from nats_exporter.metrics import OF_CONSUMERS, OF_SERVERS, OF_STREAMS, TOTALS_OF_SERVERS
from tests.brokers.prometheus import Prometheus, at, scraping
from tests.platform.rules import COMPONENTS, RULES
from tests.platform.watch import eventually

pytestmark = pytest.mark.skipif(os.environ.get("ALERTS") != "long", reason="make alerts")

SERVICES = 100
REPLICAS = 3
ROUNDS = 3
INTERVAL = 15
_log = logging.getLogger(__name__)


def of_a_service() -> str:
    metrics = Metrics("svc", "1", "1")
    metrics.for_type("acme.A")
    metrics.for_handler("acme.A", "handle")
    metrics.paused.labels("store")
    metrics.published("acme.A", "confirmed")
    return generate_latest(metrics.registry).decode()


def of_nats() -> str:
    """Three servers, and a stream and a consumer for each service."""
    lines = ['nats_up{url="a"} 1']
    for server in range(3):
        lines += [f'nats_server_{name}{{server="n{server}"}} 1' for name in OF_SERVERS]
        lines += [f'nats_server_{name}_total{{server="n{server}"}} 1' for name in TOTALS_OF_SERVERS]
    for number in range(SERVICES):
        stream = f'account="$G", stream="DLQ_{number}"'
        lines += [f"nats_stream_{name}{{{stream}}} 1" for name in OF_STREAMS]
        consumer = f'{stream}, consumer="service-{number}"'
        lines += [f"nats_consumer_{name}{{{consumer}}} 1" for name in OF_CONSUMERS]
    return "\n".join(lines) + "\n"


def of_queues() -> str:
    """Of each service its queue, its dead letters, and twenty delay queues."""
    lines = []
    for number in range(SERVICES):
        for suffix in ("", ".dead", *(f".later.{100 * 2**rung}ms" for rung in range(20))):
            queue = f'vhost="/", queue="service-{number}{suffix}"'
            lines += [
                f"rabbitmq_detailed_queue_messages{{{queue}}} 1",
                f"rabbitmq_detailed_queue_consumers{{{queue}}} 1",
            ]
    return "\n".join(lines) + "\n"


@contextmanager
def serving(pages: dict[str, str]) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(pages[self.path].encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def rules(of_services: str) -> str:
    groups = [
        group
        for component in COMPONENTS
        for group in yaml.safe_load((RULES / f"{component}.yaml").read_text("utf-8"))["groups"]
    ]
    for number in range(SERVICES):
        text = of_services.replace("billing-svc", f"service-{number}")
        groups += yaml.safe_load(text)["groups"]
    return yaml.safe_dump({"groups": groups})


@pytest.mark.timeout(900)
async def test_all_rules_of_a_hundred_services_take_less_than_a_second(
    tmp_path: Path, rendered: Path
) -> None:
    pages = {"/service": of_a_service(), "/nats": of_nats(), "/queues": of_queues()}
    with serving(pages) as port:
        configs: list[dict[str, Any]] = [
            {"job_name": "nats", "metrics_path": "/nats", **at(port)},
            {"job_name": "rabbitmq-detailed", "metrics_path": "/queues", **at(port)},
        ]
        for number in range(SERVICES):
            replicas = [
                {"targets": [f"127.0.0.1:{port}"], "labels": {"replica": str(each)}}
                for each in range(REPLICAS)
            ]
            configs.append(
                {
                    "job_name": f"service-{number}",
                    "metrics_path": "/service",
                    "static_configs": replicas,
                }
            )
        text = rules((rendered / "deploy/chart/files/rules.yaml").read_text("utf-8"))
        scrapes = await cores(tmp_path / "scrapes", configs, yaml.safe_dump({"groups": []}))
        both = await cores(tmp_path / "both", configs, text)
    a_round = (both - scrapes) * INTERVAL
    _log.info(
        "%.2f s of a core for a round of all rules, beside %.2f cores for scrapes", a_round, scrapes
    )
    assert a_round / (os.cpu_count() or 1) < 1


async def cores(folder: Path, configs: list[dict[str, Any]], rules: str) -> float:
    """Processor time of Prometheus a second, once it has scraped every service."""
    clock = asyncio.get_running_loop().time
    with scraping(folder, configs, rules, interval=f"{INTERVAL}s") as watching:
        await eventually(
            lambda: watching.values("count(chassis_ready)") == [SERVICES * REPLICAS],
            lambda: "not every replica was scraped",
        )
        began, before = clock(), watching.cpu_seconds()
        await scraped_again(watching, ROUNDS)
        return (watching.cpu_seconds() - before) / (clock() - began)


async def scraped_again(watching: Prometheus, rounds: int) -> None:
    """Return after so many more scrapes of a service. Asks rarely, which costs little."""
    times = f'count_over_time(up{{job="service-0", replica="0"}}[{INTERVAL * rounds * 4}s])'
    (before,) = watching.values(times)
    await eventually(lambda: watching.values(times) >= [before + rounds], lambda: "not scraped", 3)
