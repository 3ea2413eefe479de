"""Events per second of a rendered service with everything on, against yardsticks in the same run.

    python -m benchmarks.throughput [--events N] [--rounds N] [--bus rabbitmq|nats]

The service claims, completes, acknowledges after the work and counts metrics. The yardsticks, a
plain FastStream handler and the bare client library, do nothing of the kind. Each measurement
starts from an empty broker, fills the queue and drains it by one process. The service and
FastStream run once more with a handler that publishes one event, confirmed. Machines differ and are
noisy: the ratios count, not the figures.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import monotonic, sleep

from tests.brokers.nats import nats
from tests.brokers.process import free_port
from tests.brokers.rabbitmq import shared_rabbitmq, stop_shared_rabbitmq
from tests.e2e.publishers import bare_publisher, publish_all, signed_up
from tests.e2e.rendering import render_service
from tests.template import lab

HERE = Path(__file__).parent
PREFETCH = "200"
STEPS = ("receive", "decode", "claim", "complete")
YARDSTICKS = ("faststream", "bare client")
SERVICE = "dockyard"
PUBLISHING = " that publishes"
PUBLISHERS = (SERVICE + PUBLISHING, "faststream" + PUBLISHING)
PATIENCE = 120.0


@dataclass(frozen=True, slots=True)
class Run:
    """One measurement of one contender."""

    per_second: float
    cpu_microseconds: float
    """CPU time of the consuming process for one event."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=20_000, help="events in each measurement")
    parser.add_argument(
        "--rounds", type=int, default=3, help="measurements of each contender; the median counts"
    )
    parser.add_argument(
        "--bus", choices=["rabbitmq", "nats"], action="append", help="only this bus"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dockyard-bench-") as folder:
        _say("rendering a service")
        service = _render(Path(folder))
        try:
            for bus in options.bus or ["rabbitmq", "nats"]:
                runs = _measure(bus, service, Path(folder), options.events, options.rounds)
                _report(bus, runs, options.events)
        finally:
            stop_shared_rabbitmq()


def _render(folder: Path) -> Path:
    """The measured service, of the working tree's template."""
    template = folder / "template"
    lab.lay_down_template(template)
    lab.commit_all(template, "the template of the working tree")
    return render_service(template, folder, (HERE / "contenders/handlers.py").read_text())


def _measure(
    bus: str, service: Path, folder: Path, events: int, rounds: int
) -> dict[str, list[Run]]:
    """All contenders in turn, `rounds` times. The steps run once less: they only explain."""
    runs: dict[str, list[Run]] = {}
    for number in range(1, rounds + 1):
        contenders = (
            SERVICE,
            *YARDSTICKS,
            *PUBLISHERS,
            *(STEPS if number <= max(1, rounds - 1) else ()),
        )
        for contender in contenders:
            run = _one(bus, contender, service, folder, events)
            runs.setdefault(contender, []).append(run)
            figures = f"{run.per_second:,.0f}/s, {run.cpu_microseconds:.0f} µs CPU"
            _say(f"{bus} round {number}: {contender} {figures}")
    return runs


def _one(bus: str, contender: str, service: Path, folder: Path, events: int) -> Run:
    with _fresh(bus, folder) as (bus_url, inbox_url):
        env = {
            **{
                name: value for name, value in os.environ.items() if not name.startswith("CHASSIS_")
            },
            "CHASSIS_BUS_URL": bus_url,
            "CHASSIS_INBOX_URL": inbox_url,
            "CHASSIS_PREFETCH": PREFETCH,
            "CHASSIS_HTTP_HOST": "127.0.0.1",
            "CHASSIS_HTTP_PORT": str(free_port()),
            "CHASSIS_LOG_LEVEL": "warning",
            "PYTHONPATH": os.pathsep.join([str(HERE / "contenders"), str(service / "gen")]),
        }
        if contender in PUBLISHERS:
            env["BENCH_PUBLISHES"] = "1"
            contender = contender.removesuffix(PUBLISHING)
        command = _command(contender, service)
        _make_topology(contender, command, env)
        asyncio.run(_fill(bus_url, events))
        done = subprocess.run(
            command,
            env={**env, "BENCH_EVENTS": str(events)},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
    if done.returncode:
        raise SystemExit(f"{contender} on {bus} ended with {done.returncode}:\n{done.stderr}")
    figures = json.loads(done.stdout.splitlines()[-1])
    return Run(events / figures["seconds"], figures["cpu_seconds"] / events * 1e6)


def _command(contender: str, service: Path) -> list[str]:
    if contender == SERVICE:
        return [str(service / ".venv/bin/billing-svc"), "run"]
    if contender in STEPS:
        return [str(service / ".venv/bin/python"), str(HERE / "contenders/steps.py"), contender]
    script = {"faststream": "faststream_plain.py", "bare client": "bare_client.py"}[contender]
    return [sys.executable, str(HERE / "contenders" / script)]


def _make_topology(contender: str, command: list[str], env: Mapping[str, str]) -> None:
    """Run the contender until its queue or consumer is declared, ready to be filled."""
    env = {**env, "BENCH_EVENTS": "0"}
    if contender != SERVICE:
        subprocess.run(command, env=env, check=True, timeout=PATIENCE, capture_output=True)
        return
    process = subprocess.Popen(command, env=env)
    deadline = monotonic() + PATIENCE
    while not _ready(f"http://127.0.0.1:{env['CHASSIS_HTTP_PORT']}/readyz"):
        if process.poll() is not None or monotonic() > deadline:
            raise SystemExit("the rendered service is not ready in time")
        sleep(0.05)
    process.terminate()
    process.wait(PATIENCE)


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:  # noqa: S310 - our own address
            return bool(answer.status == 200)
    except OSError:
        return False


async def _fill(bus_url: str, events: int) -> None:
    async with bare_publisher(bus_url) as publisher:
        body = signed_up("u" * 100, "e" * 116)  # 220 bytes
        await publish_all(
            publisher, [(f"e-{number}", body) for number in range(events)], in_flight=500
        )


@contextmanager
def _fresh(bus: str, folder: Path) -> Iterator[tuple[str, str]]:
    """URLs of an empty bus and an empty inbox store."""
    with tempfile.TemporaryDirectory(dir=folder) as data, nats(Path(data)) as server:
        if bus == "nats":
            yield server.url, server.url
        else:
            with shared_rabbitmq().vhost("bench") as url:
                yield url, server.url


def _report(bus: str, runs: Mapping[str, list[Run]], events: int) -> None:
    rate = {name: median(run.per_second for run in all_) for name, all_ in runs.items()}
    cpu = {name: median(run.cpu_microseconds for run in all_) for name, all_ in runs.items()}
    rounds = len(runs[SERVICE])
    load = f"{events:,} events of 220 bytes, prefetch {PREFETCH}, medians of {rounds}"
    print(f"\n{bus} + NATS KV, {load}")
    print(f"  {'':24}{'events/s':>10}{'ratio':>8}{'CPU µs an event':>18}")
    for name in (SERVICE, *YARDSTICKS):
        title = f"{name} ({'everything on' if name == SERVICE else 'none of it'})"
        ratio = rate[SERVICE] / rate[name]
        print(f"  {title:24}{rate[name]:>10,.0f}{ratio:>7.2f}x{cpu[name]:>18.1f}")
    for name in PUBLISHERS:
        ratio = rate[PUBLISHERS[0]] / rate[name]
        print(f"  {name:25}{rate[name]:>9,.0f}{ratio:>7.2f}x{cpu[name]:>18.1f}")
    print("  CPU µs an event, by step:")
    before = 0.0
    for step, name in zip(
        (*STEPS, SERVICE),
        ("receive, acknowledge", "decode", "claim", "complete", "pipeline, metrics"),
        strict=True,
    ):
        print(f"    {name:22}{cpu[step] - before:>8.1f}")
        before = cpu[step]
    print(f"    {'sum':22}{cpu[SERVICE]:>8.1f}\n", flush=True)


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
