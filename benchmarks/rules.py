"""What all rules cost Prometheus: of the platform, and of a hundred services with three replicas.

    make bench-rules ARGS="[--services N] [--seconds N] [--rounds N]"

A real Prometheus scrapes as many series as the fleet would show, first without rules, then with all
of them. The figures are a round's: processor time, which is the difference of both runs, and the
duration that Prometheus itself measures. A round should take less than a second on a machine of its
own; what else runs here lengthens the duration.
"""

import argparse
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic
from typing import Any

import yaml
from prometheus_client import generate_latest
from tests.brokers.prometheus import Prometheus, at, scraping
from tests.platform.rules import COMPONENTS, RULES
from tests.template import lab
from tests.waiting import until

from chassis.telemetry.metrics import Metrics
from nats_exporter.metrics import OF_CONSUMERS, OF_SERVERS, OF_STREAMS, TOTALS_OF_SERVERS

REPLICAS = 3
PATIENCE = 600.0


@dataclass(frozen=True, slots=True)
class Cost:
    """Of a second of Prometheus: cores in use, seconds of the last round, and all series."""

    cores: float
    round: float
    series: float


def of_a_service() -> str:
    metrics = Metrics("svc", "1", "1")
    metrics.for_type("acme.A")
    metrics.for_handler("acme.A", "handle")
    metrics.paused.labels("store")
    metrics.published("acme.A", "confirmed")
    return generate_latest(metrics.registry).decode()


def of_nats(services: int) -> str:
    """Three servers, and a stream and a consumer for each service."""
    lines = ['nats_up{url="a"} 1']
    for server in range(3):
        lines += [f'nats_server_{name}{{server="n{server}"}} 1' for name in OF_SERVERS]
        lines += [f'nats_server_{name}_total{{server="n{server}"}} 1' for name in TOTALS_OF_SERVERS]
    for number in range(services):
        stream = f'account="$G", stream="DLQ_{number}"'
        lines += [f"nats_stream_{name}{{{stream}}} 1" for name in OF_STREAMS]
        consumer = f'{stream}, consumer="service-{number}"'
        lines += [f"nats_consumer_{name}{{{consumer}}} 1" for name in OF_CONSUMERS]
    return "\n".join(lines) + "\n"


def of_queues(services: int) -> str:
    """Of each service its queue, its dead letters, and twenty delay queues."""
    lines = []
    for number in range(services):
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


def rules(of_services: str, services: int) -> str:
    groups = [
        group
        for component in COMPONENTS
        for group in yaml.safe_load((RULES / f"{component}.yaml").read_text("utf-8"))["groups"]
    ]
    for number in range(services):
        text = of_services.replace("billing-svc", f"service-{number}")
        groups += yaml.safe_load(text)["groups"]
    return yaml.safe_dump({"groups": groups})


def configs(port: int, services: int) -> list[dict[str, Any]]:
    """What is scraped: NATS, the queues of RabbitMQ, and each service."""
    found: list[dict[str, Any]] = [
        {"job_name": "nats", "metrics_path": "/nats", **at(port)},
        {"job_name": "rabbitmq-detailed", "metrics_path": "/queues", **at(port)},
    ]
    for number in range(services):
        replicas = [
            {"targets": [f"127.0.0.1:{port}"], "labels": {"replica": str(each)}}
            for each in range(REPLICAS)
        ]
        job = {"job_name": f"service-{number}", "metrics_path": "/service"}
        found.append({**job, "static_configs": replicas})
    return found


def measured(
    folder: Path, scraped: Sequence[dict[str, Any]], rules: str, arguments: argparse.Namespace
) -> Cost:
    """Once every replica was scraped, over some more rounds."""
    interval = f"{arguments.seconds}s"
    with scraping(folder, scraped, rules, interval=interval) as watching:
        replicas = arguments.services * REPLICAS
        until(
            lambda: watching.values("count(chassis_ready)") == [replicas],
            "every replica being scraped",
            PATIENCE,
        )
        began, before = monotonic(), watching.cpu_seconds()
        scraped_again(watching, arguments.rounds, arguments.seconds)
        cores = (watching.cpu_seconds() - before) / (monotonic() - began)
        (series,) = watching.values('count({__name__=~".+"})')
        return Cost(cores, watching.round_seconds(), series)


def scraped_again(watching: Prometheus, rounds: int, seconds: int) -> None:
    """Return after so many more scrapes of a service."""
    times = f'count_over_time(up{{job="service-0", replica="0"}}[{seconds * rounds * 4}s])'
    (before,) = watching.values(times)
    until(lambda: watching.values(times) >= [before + rounds], "further scrapes", PATIENCE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=100)
    parser.add_argument("--seconds", type=int, default=15, help="between two rounds")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lab.lay_down_template(folder / "template")
        lab.commit_all(folder / "template", "the template of the working tree")
        lab.copy(folder / "template", folder / "billing-svc", service_name="billing-svc")
        of_services = (folder / "billing-svc/deploy/chart/files/rules.yaml").read_text("utf-8")
        every = rules(of_services, arguments.services)
        pages = {
            "/service": of_a_service(),
            "/nats": of_nats(arguments.services),
            "/queues": of_queues(arguments.services),
        }
        with serving(pages) as port:
            scraped = configs(port, arguments.services)
            without = measured(
                folder / "without", scraped, yaml.safe_dump({"groups": []}), arguments
            )
            with_rules = measured(folder / "with", scraped, every, arguments)
    count = sum(len(group["rules"]) for group in yaml.safe_load(every)["groups"])
    core_seconds = (with_rules.cores - without.cores) * arguments.seconds
    sys.stdout.write(
        f"{count} rules of the platform and of {arguments.services} services, "
        f"{with_rules.series:.0f} series\n"
        f"a round: {core_seconds:.2f} s of a core; all groups one after the other "
        f"{with_rules.round:.2f} s\n"
        f"scrapes beside: {without.cores:.2f} cores\n"
    )


if __name__ == "__main__":
    main()
